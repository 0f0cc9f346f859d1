"""How far analytic denoisers carry: one Gaussian, coarse mixtures and the exact training set beside a network.

Two residuals are reported side by side. With D the network's endpoint estimate at x and D' an analytic one,

    score residual     E|s - s'|^2 / E|s|^2  =  alpha^2 E|D - D'|^2 / E|x - alpha D|^2,
    denoiser residual  E|D - D'|^2 / E|D|^2,  or with |D - mu|^2 below, which no mean can flatter.

The first is small at high noise whatever D' is, because there |x| is all noise: even D' = mu, which knows nothing, has
a small one. In the last the constant mean has 1 at every level. Source of the comparison: Wang and Vastola (arXiv
2412.09726); the last norm is the book's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.evidence.order import crossing
from atelier.learning.analytic import CLUSTERS, analytic
from atelier.statistics import Interval, bootstrap, mean
from atelier.subject import Settings, Subject, levels_at
from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.sampling import noise
from painters.theory.gaussian import Gaussian

RATIOS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Noise levels sigma/alpha at which denoisers are compared, those inside the subject's range."""

DRAWS = 500
PASS = 0.05
"""Relative error of the state at which the early phase is said to end."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A denoiser beside others at one level, one number per state (B,) each, summed over dimensions, float64.

    ``apart``: |D - D'|^2 by name. ``size``: |D|^2. ``moved``: |D - mu|^2. ``noise``: |x - alpha D|^2 / alpha^2, the
    score's size in the same units.
    """

    apart: dict[str, Tensor]
    size: Tensor
    moved: Tensor
    noise: Tensor

    def residuals(self, norm: str) -> dict[str, Interval]:
        """Return E|D - D'|^2 / E[norm] of each D', with bootstrap intervals over states.

        ``norm``: ``"noise"`` for the score residual, ``"size"`` or ``"moved"`` for the denoiser's.
        """

        def share(rows: np.ndarray) -> np.ndarray:
            mean = rows.mean(0)
            return mean[:-1] / mean[-1]

        below = {"noise": self.noise, "size": self.size, "moved": self.moved}[norm]
        rows = torch.stack([*self.apart.values(), below], 1)
        return dict(zip(self.apart, bootstrap(rows, share, draws=DRAWS)))


def compare(
    denoise: Denoiser, others: Mapping[str, Denoiser], x: Tensor, level: Level, *, mean: Tensor, batch: int = 64
) -> Comparison:
    """Return how far ``others`` are from ``denoise`` at states ``x`` (B, ...) of one level with alpha, sigma > 0.

    ``mean`` (D,) is that of the data.
    """
    alpha, sigma = level
    if not (alpha > 0 and sigma > 0):
        raise ValueError(f"denoisers are compared where alpha and sigma are positive, got {level}")
    sizes: dict[str, list[Tensor]] = {"size": [], "moved": [], "noise": []}
    apart: dict[str, list[Tensor]] = {name: [] for name in others}
    for state in x.split(batch):
        estimate = denoise(state, alpha, sigma)
        sizes["size"].append(squared(estimate, torch.zeros_like(estimate)))
        sizes["moved"].append(squared(estimate, mean.reshape(estimate.shape[1:]).to(estimate.device)))
        sizes["noise"].append(squared(state.double() / alpha, estimate))
        for name, other in others.items():
            apart[name].append(squared(estimate, other(state, alpha, sigma)))
    whole, below = ({name: torch.cat(parts) for name, parts in table.items()} for table in (apart, sizes))
    return Comparison(whole, **below)


def early(gaussian: Gaussian, levels: Levels, x: Tensor) -> dict[str, Tensor]:
    """Return how well the Gaussian foretells a run's states ``x`` (N + 1, B, ...) at ``levels`` from its noise alone.

    Errors by name, (N, B): ``x``, |x_i - x_i'| / |x_i|, where x_i' is the Gaussian's flow from the same x_T; ``null``
    the same for the flow of a denoiser that knows only the mean. Only ``x[0]`` and the moments enter the prediction.
    """
    first, start = x[0].to(gaussian.mu), levels[0]
    tellers = {"x": gaussian, "null": Gaussian.of(gaussian.mu, 0.0)}
    errors: dict[str, list[Tensor]] = {name: [] for name in tellers}
    for state, level in zip(x[:-1], levels):
        size = state.flatten(1).to(gaussian.mu).norm(dim=1)
        for name, teller in tellers.items():
            errors[name].append(squared(teller.flow(first, frm=start, to=level), state).sqrt() / size)
    return {name: torch.stack(parts).cpu() for name, parts in errors.items()}


def passing(ratio: Tensor, errors: Tensor, share: float) -> Tensor:
    """Return the noise level (B,) at which ``errors`` (N, B) at levels ``ratio`` (N,), noisy first, reach ``share``.

    Interpolated linearly in ln ratio; 0 if they never do, and the first level if they start there.
    """
    found = torch.exp(-crossing(-2 * ratio.log(), errors, share) / 2)
    return torch.where(errors[0] >= share, ratio[0], found.nan_to_num())


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Return |a - b|^2 of each sample (B, ...), (B,) float64."""
    return (a.double() - b.double()).flatten(1).square().sum(1)


def grid(subject: Subject) -> Levels:
    """Return the levels of :data:`RATIOS` inside the subject's range, noisy to clean, with alpha^2 + sigma^2 = 1."""
    highest = float(subject.levels(10).ratio[0])
    ratio = torch.tensor([r for r in sorted(RATIOS, reverse=True) if r <= highest], dtype=torch.float64)
    alpha = 1 / torch.sqrt(1 + ratio**2)
    return Levels(alpha, ratio * alpha, "compared")


def measure(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Measure every analytic denoiser against the subject's, on its own data or else along its own runs.

    Keys. ``ratio`` [L]: the levels sigma/alpha, noisy first. ``training``: how many training images the mixtures and
    the cloud were made of, 0 for none. For states S = ``test`` (noised test images), or ``path`` (states of the
    subject's runs, where no data are at hand): ``S_n``, and tables {denoiser: [L x triple]} ``S_score``, ``S_size``,
    ``S_moved`` (score residual, and denoiser residual over E|D|^2 and over E|D - mu|^2). A triple is [value, low,
    high]. ``early_ratio`` [M], ``early_x``, ``early_null`` [M x triple], see :func:`early`; ``until`` {"x 0.05",
    "null 0.05": triple}: sigma/alpha where that error passes.
    """
    known = None
    if subject.kind in ("network", "shuffled"):  # a theory is itself one of those it would be compared with
        known = subject.data(settings.pick(ci=400, book=affordable(subject), full=60_000), test=False)
    clusters = settings.pick(ci=(2,), book=CLUSTERS, full=CLUSTERS)
    others = analytic(subject.gaussian, known, clusters=clusters)
    levels = grid(subject)
    found, on_path, states = _early(subject, settings, levels)
    name = "path" if known is None else "test"
    if known is None:
        levels = on_path
    else:
        clean = subject.data(settings.pick(ci=16, book=96, full=1000))
        assert clean is not None
        noises = noise(range(len(clean)), subject.shape)
        states = [a * clean + s * noises for a, s in levels]
    found |= {"ratio": levels.ratio.tolist(), "training": 0 if known is None else len(known)}
    tables: dict[str, Any] = {key: {other: [] for other in others} for key in ("score", "size", "moved")}
    bar = tqdm(list(zip(levels, states)), desc="approximation", leave=False, disable=not settings.progress)
    for level, x in bar:
        one = compare(subject.denoise, others, x, level, mean=subject.gaussian.mu)
        for table, norm in zip(tables.values(), ("noise", "size", "moved")):
            for other, interval in one.residuals(norm).items():
                table[other].append(_triple(interval))
    return found | {f"{name}_{key}": table for key, table in tables.items()} | {f"{name}_n": len(states[0])}


def affordable(subject: Subject) -> int:
    """Return how many training images a book-sized run takes: all of Fashion, or 3,000 latents, which are dear."""
    return 60_000 if subject.model is None or subject.model.codec is None else 3000


def _triple(interval: Interval) -> list[float]:
    return [interval.value, interval.low, interval.high]


def _early(subject: Subject, settings: Settings, levels: Levels) -> tuple[dict[str, Any], Levels, list[Tensor]]:
    """The early phase over the seeds; those of a run's levels nearest to ``levels``, and the states there."""
    seeds = settings.seeds[: settings.pick(ci=2, book=40, full=len(settings.seeds))]
    runs = [subject.run(batch, steps=settings.steps, solver="dpmpp2m") for batch in subject.batches(seeds)]
    told, ladder = [early(subject.gaussian, run.levels, run.x) for run in runs], runs[0].levels
    kept = levels_at(ladder, levels.ratio.tolist())
    states = [runs[0].x[i] for i in kept]  # those of the first batch are enough to compare denoisers on
    record: dict[str, Any] = {"early_ratio": ladder.ratio[:-1].tolist(), "until": {}}
    for key in told[0]:
        errors = torch.cat([part[key] for part in told], 1)
        record[f"early_{key}"] = [_triple(interval) for interval in bootstrap(errors.T, draws=DRAWS)]
        record["until"][f"{key} {PASS:g}"] = _triple(mean(passing(ladder.ratio[:-1], errors, PASS)))
    return record, Levels(ladder.alpha[kept], ladder.sigma[kept], ladder.origin), states
