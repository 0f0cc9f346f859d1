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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier import statistics as intervals
from atelier.data import images as image_data
from atelier.limits.analytic import CLUSTERS, Early, analytic, early, flattery, squared
from atelier.subject import Settings, Subject
from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

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

    def residuals(self, norm: str) -> dict[str, intervals.Interval]:
        """Return E|D - D'|^2 / E[norm] of each D', with bootstrap intervals over states.

        ``norm``: ``"noise"`` for the score residual, ``"size"`` or ``"moved"`` for the denoiser's.
        """
        rows = torch.stack([*self.apart.values(), getattr(self, norm)], 1)
        found = intervals.bootstrap(rows, _share, draws=DRAWS)
        return dict(zip(self.apart, found))

    def losses(self) -> dict[str, intervals.Interval]:
        """Return the mean squared error of every denoiser, with bootstrap intervals over states."""
        if not self.loss:
            return {}
        found = intervals.bootstrap(torch.stack([*self.loss.values()], 1), draws=DRAWS)
        return dict(zip(self.loss, found))

    def pythagoras(self, name: str = "gaussian") -> intervals.Interval:
        """Return (E|x_0 - D'|^2 - E|x_0 - D|^2 - E|D - D'|^2) / E|x_0 - D'|^2, which is 0 if D = E[x_0 | x].

        The two errors are then orthogonal. Raises ``KeyError`` if x_0 is not known.
        """
        rows = torch.stack([self.loss[name], self.loss["network"], self.apart[name]], 1)

        def gap(part: np.ndarray) -> float:
            mean = part.mean(0)
            return float((mean[0] - mean[1] - mean[2]) / mean[0])

        return intervals.bootstrap(rows, gap, draws=DRAWS)[0]


def _share(rows: np.ndarray) -> np.ndarray:
    mean = rows.mean(0)
    return mean[:-1] / mean[-1]


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
    parts: list[dict[str, Tensor]] = []
    for i, state in enumerate(x.split(batch)):
        clean = None if x0 is None else x0[i * batch : (i + 1) * batch]
        estimate = denoise(state, alpha, sigma)
        flat = estimate.flatten(1).double()
        part = {
            "size": flat.square().sum(1),
            "moved": (flat - mean.to(flat)).square().sum(1),
            "noise": (state.flatten(1).double() / alpha - flat).square().sum(1),
        }
        for name, other in others.items():
            guess = other(state, alpha, sigma)
            part[f"apart {name}"] = squared(estimate, guess)
            if clean is not None:
                part[f"loss {name}"] = squared(guess, clean)
        if clean is not None:
            part["loss network"] = squared(estimate, clean)
        parts.append(part)
    whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    tables = {kind: {k[len(kind) + 1 :]: v for k, v in whole.items() if k.startswith(f"{kind} ")} for kind in _KINDS}
    return Comparison(tables["apart"], whole["size"], whole["moved"], whole["noise"], tables["loss"])


_KINDS = ("apart", "loss")


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
    the cloud were made of, 0 for none. ``flattery`` [L]. For states S = ``test`` (noised test images) and ``train``,
    or ``path`` (states of the subject's runs, where no data are at hand): ``S_n``, and tables {denoiser: [L x triple]}
    ``S_score``, ``S_size``, ``S_moved`` (score residual, and denoiser residual over E|D|^2 and over E|D - mu|^2),
    ``S_loss`` (E|D' - x_0|^2, ``network`` among them), and ``S_pythagoras`` [L x triple]. A triple is [value, low,
    high]. ``early_ratio`` [M], ``early_x``, ``early_null``, ``early_x0`` [M x triple]; ``until`` {"x 0.05": triple}:
    sigma/alpha where that error passes. ``painted`` {denoiser: {"pixels": [n], "features": [n]}}: squared distance of
    the analytic image from the subject's, same noise; ``unrelated`` {"pixels", "features"}: the mean between its
    images of different noises; ``painted_seeds``: how many.
    """
    network = subject.kind == "network"
    count = settings.pick(ci=400, book=affordable(subject), full=60_000)
    images, labels = training(subject, count) if network else (None, None)
    clusters = settings.pick(ci=(2,), book=CLUSTERS, full=CLUSTERS)
    others = analytic(subject.gaussian, images, labels, clusters=clusters)
    levels = grid(subject)
    found, on_path, states, finals = _early(subject, settings, levels)
    levels = on_path if images is None else levels
    found |= {
        "ratio": levels.ratio.tolist(),
        "training": 0 if images is None else len(images),
        "flattery": [flattery(subject.gaussian, level) for level in levels],
    }
    bar = tqdm(
        total=len(levels) * (1 if images is None else 2),
        desc="approximation",
        leave=False,
        disable=not settings.progress,
    )
    if images is None:
        found |= _compared("path", subject, others, levels, states, None, bar)
    else:
        n = settings.pick(ci=16, book=96, full=1000)
        held = subject.data(n, test=True)
        assert held is not None
        for name, clean in {"test": held, "train": images[: n // 2]}.items():
            noises = noise(range(len(clean)), subject.shape)
            noised = [a * clean + s * noises for a, s in levels]
            found |= _compared(name, subject, others, levels, noised, clean, bar)
    bar.close()
    return found | _painted(subject, settings, others, finals)


def affordable(subject: Subject) -> int:
    """Return how many training images a book-sized run takes: all of Fashion, 10,000 scenes, or 3,000 latents."""
    if subject.model is not None and subject.model.codec is not None:
        return 3_000
    return 60_000 if subject.dim < 1000 else 10_000


def _compared(
    name: str,
    subject: Subject,
    others: Mapping[str, Denoiser],
    levels: Levels,
    states: Sequence[Tensor],
    x0: Tensor | None,
    bar: Any,
) -> dict[str, Any]:
    tables: dict[str, Any] = {key: {} for key in ("score", "size", "moved", "loss")}
    gaps: list[list[float]] = []
    for level, x in zip(levels, states):
        one = compare(subject.denoise, others, x, level, mean=subject.gaussian.mu, x0=x0)
        rows = {"score": one.residuals("noise"), "size": one.residuals("size"), "moved": one.residuals("moved")}
        for key, row in (rows | {"loss": one.losses()}).items():
            for other, interval in row.items():
                tables[key].setdefault(other, []).append(_triple(interval))
        if x0 is not None:
            gaps.append(_triple(one.pythagoras()))
        bar.update()
    record = {f"{name}_{key}": table for key, table in tables.items() if table}
    return record | {f"{name}_n": len(states[0])} | ({f"{name}_pythagoras": gaps} if gaps else {})


def _triple(interval: intervals.Interval) -> list[float]:
    return [interval.value, interval.low, interval.high]


def _early(subject: Subject, settings: Settings, levels: Levels) -> tuple[dict[str, Any], Levels, list[Tensor], Tensor]:
    """The early phase over the seeds; those of a run's levels nearest to ``levels``, the states there, the images."""
    seeds = settings.seeds[: settings.pick(ci=2, book=40, full=len(settings.seeds))]
    nearest, states = levels, []
    parts, finals = [], []
    for batch in subject.batches(seeds, settings.batch):
        run = subject.run(batch, steps=settings.steps, solver="dpmpp2m")
        parts.append(early(subject.gaussian, run.levels, run.x, run.x0))
        finals.append(run.final)
        if not states:
            gaps = (run.levels.ratio[:-1].log()[:, None] - levels.ratio.log()).abs()
            kept = sorted(set(gaps.argmin(0).tolist()))
            nearest = Levels(run.levels.alpha[kept], run.levels.sigma[kept], run.levels.origin)
            states = [run.x[i] for i in kept]
    ratio = parts[0].ratio
    whole = Early(ratio, *(torch.cat([getattr(p, key) for p in parts], 1) for key in ("x", "null", "x0")))
    record: dict[str, Any] = {"early_ratio": ratio.tolist(), "until": {}}
    for key in ("x", "null", "x0"):
        rows = intervals.bootstrap(getattr(whole, key).T, draws=DRAWS)
        record[f"early_{key}"] = [_triple(interval) for interval in rows]
    for share in PASSES:
        for key in ("x", "null", "x0"):
            record["until"][f"{key} {share:g}"] = _triple(intervals.mean(whole.until(share, what=key)))
    return record, nearest, states, torch.cat(finals)


def _painted(subject: Subject, settings: Settings, others: Mapping[str, Denoiser], finals: Tensor) -> dict[str, Any]:
    """What analytic denoisers paint from the subject's own noise, beside what it paints."""
    n = settings.pick(ci=2, book=32, full=200)
    finals = finals[:n]
    seeds = settings.seeds[: len(finals)]
    levels = subject.levels(settings.pick(ci=6, book=20, full=50))
    x = levels.start(noise(seeds, subject.shape))
    record: dict[str, Any] = {"painted": {}, "painted_seeds": len(finals)}
    seen = _look(subject, finals)
    for name in ("mean", "gaussian", "classes", "k-means 10", "cloud"):
        if name not in others:
            continue
        other = others[name]
        if isinstance(other, Gaussian):
            image = other.flow(x, frm=levels[0])
        else:
            image = solve(other, x, levels, solver="dpmpp2m", save=Frames(every=None), progress=False).final
        got = _look(subject, image)
        record["painted"][name] = {key: _mean_squared(got[key], seen[key]).tolist() for key in seen}
    record["unrelated"] = {
        key: float(_mean_squared(v, v.roll(1, 0)).mean()) if len(v) > 1 else math.nan for key, v in seen.items()
    }
    return record


def _look(subject: Subject, x: Tensor) -> dict[str, Tensor]:
    seen = {"pixels": subject.decode(x)}
    if subject.reader is not None:
        seen["features"] = subject.reader.features(subject.look(x))
    return seen


def _mean_squared(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() - b.double()).flatten(1).square().mean(1)
