"""How far analytic denoisers carry: one Gaussian, coarse mixtures and the exact training set beside a network.

Two residuals are reported side by side. With D the network's endpoint estimate at x and D' an analytic one,

    score residual     E|s - s'|^2 / E|s|^2  =  alpha^2 E|D - D'|^2 / E|x - alpha D|^2,
    denoiser residual  E|D - D'|^2 / E|D|^2,  or with |D - mu|^2 below, which no mean can flatter.

The first is small at high noise whatever D' is, because there |x| is all noise: even D' = mu, which knows nothing, has
the small score residual that
:func:`~atelier.limits.analytic.flattery` computes without any network. Source of the comparison: Wang and Vastola
(arXiv 2412.09726); the second norm and the prediction are the book's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.data import images as image_data
from atelier.evidence.order import crossing
from atelier.limits.analytic import CLUSTERS, analytic, flattery
from atelier.statistics import Interval, bootstrap, mean
from atelier.subject import Settings, Subject, levels_at
from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.sampling import noise, paint_on
from painters.theory.gaussian import Gaussian

RATIOS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Noise levels sigma/alpha at which denoisers are compared, those inside the subject's range."""

DRAWS = 500
PASSES = (0.05, 0.1)
"""Relative errors at which the early phase is said to end."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A denoiser beside others at one level, one number per state (B,) each, summed over dimensions, float64.

    ``apart``: |D - D'|^2 by name. ``size``: |D|^2. ``moved``: |D - mu|^2. ``noise``: |x - alpha D|^2 / alpha^2, the
    score's size in the same units. ``loss``: |D' - x_0|^2 by name, with ``network`` for D, empty if x_0 is not known.
    """

    apart: dict[str, Tensor]
    size: Tensor
    moved: Tensor
    noise: Tensor
    loss: dict[str, Tensor]

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

    def losses(self) -> dict[str, Interval]:
        """Return the mean squared error of every denoiser, with bootstrap intervals over states."""
        return dict(zip(self.loss, bootstrap(torch.stack([*self.loss.values()], 1), draws=DRAWS))) if self.loss else {}


def compare(
    denoise: Denoiser,
    others: Mapping[str, Denoiser],
    x: Tensor,
    level: Level,
    *,
    mean: Tensor,
    x0: Tensor | None = None,
    batch: int = 64,
) -> Comparison:
    """Return how far ``others`` are from ``denoise`` at states ``x`` (B, ...) of one level with alpha, sigma > 0.

    ``mean`` (D,) is that of the data; with clean states ``x0`` (B, ...) the denoisers' own errors are there too.
    """
    alpha, sigma = level
    if not (alpha > 0 and sigma > 0):
        raise ValueError(f"denoisers are compared where alpha and sigma are positive, got {level}")
    sizes: dict[str, list[Tensor]] = {"size": [], "moved": [], "noise": []}
    apart: dict[str, list[Tensor]] = {name: [] for name in others}
    loss: dict[str, list[Tensor]] = {} if x0 is None else {name: [] for name in (*others, "network")}
    for i, state in enumerate(x.split(batch)):
        estimate = denoise(state, alpha, sigma)
        guesses = {name: other(state, alpha, sigma) for name, other in others.items()}
        sizes["size"].append(squared(estimate, torch.zeros_like(estimate)))
        sizes["moved"].append(squared(estimate, mean.reshape(estimate.shape[1:]).to(estimate.device)))
        sizes["noise"].append(squared(state.double() / alpha, estimate))
        for name, guess in guesses.items():
            apart[name].append(squared(estimate, guess))
        if x0 is not None:
            clean = x0[i * batch : (i + 1) * batch]
            for name, guess in (guesses | {"network": estimate}).items():
                loss[name].append(squared(guess, clean))
    whole = [{name: torch.cat(parts) for name, parts in table.items()} for table in (apart, sizes, loss)]
    return Comparison(whole[0], **whole[1], loss=whole[2])


@dataclass(frozen=True, eq=False)
class Early:
    """How well the Gaussian foretells a run from its noise alone, one number per level and sample.

    ``ratio`` (N,): sigma/alpha. ``errors`` by name, (N, B): ``x``, |x_i - x_i'| / |x_i|, where x_i' is the Gaussian's
    flow from the same x_T; ``null`` the same for the flow of a denoiser that knows only the mean; ``x0``, |D_i - D_i'|
    / |x_0 - mu|, the error of the foretold endpoint estimate beside the final image's distance from the mean.
    """

    ratio: Tensor
    errors: dict[str, Tensor]

    def until(self, share: float, *, what: str = "x") -> Tensor:
        """Return the noise level sigma/alpha at which an error first passes ``share``, (B,): see :func:`passing`."""
        return passing(self.ratio, self.errors[what], share)


def passing(ratio: Tensor, errors: Tensor, share: float) -> Tensor:
    """Return the noise level (B,) at which ``errors`` (N, B) at levels ``ratio`` (N,), noisy first, reach ``share``.

    Interpolated linearly in ln ratio; 0 if they never do, and the first level if they start there.
    """
    found = torch.exp(-crossing(-2 * ratio.log(), errors, share) / 2)
    return torch.where(errors[0] >= share, ratio[0], found.nan_to_num())


def early(gaussian: Gaussian, levels: Levels, x: Tensor, x0: Tensor) -> Early:
    """Compare a run's states ``x`` (N + 1, B, ...) and endpoint estimates ``x0`` (N, B, ...) with the Gaussian's flow.

    ``levels`` are those of the frames. Only ``x[0]`` and the moments enter the prediction.
    """
    g, start = gaussian, levels[0]
    nothing = Gaussian.of(g.mu, 0.0)
    scale = (x[-1].flatten(1).to(g.mu) - g.mu).norm(dim=1)
    errors: dict[str, list[Tensor]] = {"x": [], "null": [], "x0": []}
    first = x[0].to(g.mu)
    for state, estimate, level in zip(x[:-1], x0, levels):
        size = state.flatten(1).to(g.mu).norm(dim=1)
        told = g.flow(first, frm=start, to=level)
        errors["x"].append(squared(told, state).sqrt() / size)
        errors["null"].append(squared(nothing.flow(first, frm=start, to=level), state).sqrt() / size)
        errors["x0"].append(squared(g(told, *level), estimate).sqrt() / scale)
    return Early(levels.ratio[:-1], {name: torch.stack(parts).cpu() for name, parts in errors.items()})


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Return |a - b|^2 of each sample (B, ...), (B,) float64."""
    return (a.double() - b.double()).flatten(1).square().sum(1)


def grid(subject: Subject) -> Levels:
    """Return the levels of :data:`RATIOS` inside the subject's range, noisy to clean, with alpha^2 + sigma^2 = 1."""
    highest = float(subject.levels(10).ratio[0])
    ratio = torch.tensor([r for r in sorted(RATIOS, reverse=True) if r <= highest], dtype=torch.float64)
    alpha = 1 / torch.sqrt(1 + ratio**2)
    return Levels(alpha, ratio * alpha, "compared")


def training(subject: Subject, n: int) -> tuple[Tensor | None, Tensor | None]:
    """Return at most ``n`` training states and their labels, each ``None`` if there are none at hand."""
    images = subject.data(n, test=False)
    if images is None or subject.model is None or subject.model.card["training"]["data"] != "fashion":
        return images, None
    labels = image_data.fashion().train_labels
    return images, None if labels is None else labels[: len(images)]


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Measure every analytic denoiser against the subject's, on its own data or else along its own runs.

    Keys. ``ratio`` [L]: the levels sigma/alpha, noisy first. ``training``: how many training images the mixtures and
    the cloud were made of, 0 for none. ``flattery`` [L]. For states S = ``test`` (noised test images), or ``path``
    (states of the subject's runs, where no data are at hand): ``S_n``, and tables {denoiser: [L x triple]} ``S_score``,
    ``S_size``, ``S_moved`` (score residual, and denoiser residual over E|D|^2 and over E|D - mu|^2) and ``S_loss``
    (E|D' - x_0|^2, ``network`` among them). A triple is [value, low, high]. ``early_ratio`` [M], ``early_x``,
    ``early_null``, ``early_x0`` [M x triple]; ``until`` {"x 0.05": triple}: sigma/alpha where that error passes.
    ``painted`` {denoiser: {"pixels": [n], "features": [n]}}: squared distance of the analytic image from the subject's,
    same noise; ``unrelated`` {"pixels", "features"}: the mean between its images of different noises.
    """
    count = settings.pick(ci=400, book=affordable(subject), full=60_000)
    images, labels = training(subject, count) if subject.kind == "network" else (None, None)
    clusters = settings.pick(ci=(2,), book=CLUSTERS, full=CLUSTERS)
    others = analytic(subject.gaussian, images, labels, clusters=clusters)
    levels = grid(subject)
    found, on_path, states, finals = _early(subject, settings, levels)
    name, clean = "path", None
    if images is None:
        levels = on_path
    else:
        name, clean = "test", subject.data(settings.pick(ci=16, book=96, full=1000))
        assert clean is not None
        noises = noise(range(len(clean)), subject.shape)
        states = [a * clean + s * noises for a, s in levels]
    found |= {"ratio": levels.ratio.tolist(), "training": 0 if images is None else len(images)}
    found["flattery"] = [flattery(subject.gaussian, level) for level in levels]
    tables: dict[str, Any] = {key: {} for key in ("score", "size", "moved", "loss")}
    bar = tqdm(list(zip(levels, states)), desc="approximation", leave=False, disable=not settings.progress)
    for level, x in bar:
        one = compare(subject.denoise, others, x, level, mean=subject.gaussian.mu, x0=clean)
        rows = (one.residuals("noise"), one.residuals("size"), one.residuals("moved"), one.losses())
        for table, row in zip(tables.values(), rows):
            for other, interval in row.items():
                table.setdefault(other, []).append(_triple(interval))
    found |= {f"{name}_{key}": table for key, table in tables.items() if table} | {f"{name}_n": len(states[0])}
    return found | _painted(subject, settings, others, finals)


def affordable(subject: Subject) -> int:
    """Return how many training images a book-sized run takes: all of Fashion, or 3,000 latents, which are dear."""
    return 60_000 if subject.model is None or subject.model.codec is None else 3_000


def _triple(interval: Interval) -> list[float]:
    return [interval.value, interval.low, interval.high]


def _early(subject: Subject, settings: Settings, levels: Levels) -> tuple[dict[str, Any], Levels, list[Tensor], Tensor]:
    """The early phase over the seeds; those of a run's levels nearest to ``levels``, the states there, the images."""
    seeds = settings.seeds[: settings.pick(ci=2, book=40, full=len(settings.seeds))]
    nearest, states, parts, finals = levels, [], [], []
    for batch in subject.batches(seeds, settings.batch):
        run = subject.run(batch, steps=settings.steps, solver="dpmpp2m")
        parts.append(early(subject.gaussian, run.levels, run.x, run.x0))
        finals.append(run.final)
        if not states:  # those of the first batch are enough to compare denoisers on
            kept = levels_at(run.levels, levels.ratio.tolist())
            nearest = Levels(run.levels.alpha[kept], run.levels.sigma[kept], run.levels.origin)
            states = [run.x[i] for i in kept]
    whole = Early(parts[0].ratio, {key: torch.cat([p.errors[key] for p in parts], 1) for key in parts[0].errors})
    record: dict[str, Any] = {"early_ratio": whole.ratio.tolist(), "until": {}}
    for key, errors in whole.errors.items():
        record[f"early_{key}"] = [_triple(interval) for interval in bootstrap(errors.T, draws=DRAWS)]
        for share in PASSES:
            record["until"][f"{key} {share:g}"] = _triple(mean(whole.until(share, what=key)))
    return record, nearest, states, torch.cat(finals)


def _painted(subject: Subject, settings: Settings, others: Mapping[str, Denoiser], finals: Tensor) -> dict[str, Any]:
    """What analytic denoisers paint from the subject's own noise, beside what it paints."""
    finals = finals[: settings.pick(ci=2, book=32, full=200)]
    levels = subject.levels(settings.pick(ci=6, book=20, full=50))
    x = levels.start(noise(settings.seeds[: len(finals)], subject.shape))
    seen, painted = _look(subject, finals), {}
    for name in ("mean", "gaussian", "classes", "k-means 10", "cloud"):
        if (other := others.get(name)) is None:
            continue
        exact = isinstance(other, Gaussian)  # only one Gaussian has a flow in closed form
        image = other.flow(x, frm=levels[0]) if exact else paint_on(other, x, levels, solver="dpmpp2m")
        got = _look(subject, image)
        painted[name] = {key: _mean_squared(got[key], seen[key]).tolist() for key in seen}
    unrelated = {
        key: float(_mean_squared(v, v.roll(1, 0)).mean()) if len(v) > 1 else math.nan for key, v in seen.items()
    }
    return {"painted": painted, "unrelated": unrelated}


def _look(subject: Subject, x: Tensor) -> dict[str, Tensor]:
    seen = {"pixels": subject.decode(x)}
    if subject.reader is not None:
        seen["features"] = subject.reader.features(subject.look(x))
    return seen


def _mean_squared(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() - b.double()).flatten(1).square().mean(1)
