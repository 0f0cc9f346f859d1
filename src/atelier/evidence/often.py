"""Early kicks and late kicks: how often they change what a picture shows, and by how much, against the exact theory.

The primary measure is the share of kicks that change the class or at least one categorical factor. Sizes come after:
displacement, and gain along the kick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.evidence.kicks import Contrast, component, exact_change, find_contrast, off_manifold, random_directions
from atelier.networks.readers import Read
from atelier.statistics import bootstrap, proportion
from atelier.subject import Settings, Subject
from painters.levels import Levels
from painters.sampling import noise, paint_on, solve
from painters.trajectory import Trajectory

STEPS = 16
"""Steps of every run here, evenly spaced in log-SNR: the gains of the exact Gaussian are then right within 3 %."""
KICKED = (1, 5, 9, 13)
"""The steps before which a kick comes."""
SOLVERS = {"ode": "dpmpp2m", "sde": "ancestral"}
UNITS = ("length", "edm", "std")


@dataclass(frozen=True)
class Series:
    """One kind of kick, given at every level: sampler, name of its direction, and its ``size`` in a ``unit``.

    ``"length"`` is the L2 length in variance-preserving coordinates, ``"edm"`` that of x/alpha, and ``"std"`` counts
    standard deviations of the noisy state along the direction. Every second seed is kicked the other way. ``often``:
    the primary measure, read in pictures.
    """

    sampler: str
    kick: str
    unit: str = "length"
    often: bool = False
    size: float = 2.0


def series(subject: Subject, split: Contrast | None) -> list[Series]:
    """Return what is measured: flips along the contrast (PC 1 if there is none) with a reader, and sizes."""
    axis, last = "PC 1" if split is None else "axis", f"PC {min(10, len(subject.gaussian.lam))}"
    primary = [(sampler, unit) for sampler in SOLVERS for unit in UNITS if subject.reader is not None]
    sizes = [*(("ode", name) for name in dict.fromkeys(("PC 1", last, "random", "off-manifold"))), ("sde", "PC 1")]
    return [Series(one, axis, unit, True) for one, unit in primary] + [Series(*one) for one in sizes]


def grid(subject: Subject) -> Levels:
    """Return the levels of the runs, even in log-SNR where the schedule allows it."""
    return subject.levels(STEPS, spacing="even")


def directions(name: str, subject: Subject, seeds: Sequence[int], split: Contrast | None) -> Tensor:
    """Return the unit directions (B, ...) of a kick called ``name`` for the images of ``seeds``, float64."""
    shape = subject.shape
    if name == "axis" and split is not None:
        return split.axis.expand(len(seeds), *shape)
    if name == "random":
        return random_directions(seeds, shape)
    if name == "off-manifold":
        return off_manifold(subject.gaussian, seeds, shape)
    if name.startswith("PC "):
        return component(subject.gaussian, int(name[3:]), shape).expand(len(seeds), *shape)
    raise ValueError(f"there is no kick {name!r}")


def kicks_of(one: Series, subject: Subject, units: Tensor, levels: Levels, i: int) -> Tensor:
    """Return the kicks of a series along ``units`` (B, ...) at level i, in the level's coordinates, float64."""
    alpha, sigma = levels[i]
    size = torch.full((len(units),), (alpha**2 + sigma**2) ** 0.5, dtype=torch.float64)
    if one.unit == "edm":
        size = torch.full_like(size, alpha)
    elif one.unit == "std":  # sqrt(alpha^2 u . Sigma u + sigma^2)
        size = (alpha**2 * subject.gaussian.along(units.flatten(1)).cpu() + sigma**2).sqrt()
    size[1::2] *= -1
    return units * one.size * size.reshape(-1, *(1,) * len(subject.shape))


def whole_run(subject: Subject, seeds: Sequence[int], sampler: str) -> Trajectory:
    """Return a run of all levels of :func:`grid`, every frame kept: what is kicked."""
    x = grid(subject).start(noise(seeds, subject.shape))
    return solve(subject.denoise, x, grid(subject), solver=SOLVERS[sampler], seeds=seeds, progress=False)


def effect(
    subject: Subject, run: Trajectory, i: int, one: Series, units: Tensor, still: dict[str, tuple[Tensor, Read]]
) -> dict[str, Tensor]:
    """Kick the first n samples of a whole ``run`` at its level i, along ``units`` (n, ...).

    ``still``: images without the kick and what a reader sees in them; under ``""`` those that follow from the same
    states with the same solver and later noise, under ``"exact_"`` those of the exact Gaussian. Returns (n,) numbers,
    each also as ``exact_...`` for the same kicks on the Gaussian: ``gain`` and ``pixels``, the change along the kick
    and |dx_0| over the kick's length, and if pictures are read ``flips``: a categorical factor changed its kind.
    """
    n, level, row = len(units), run.levels[i], {}
    push = kicks_of(one, subject, units, run.levels, i)
    x, seeds = run.x[i][:n] + push.to(run.x), (run.seeds or ())[:n]
    final = paint_on(subject.denoise, x, run.levels, start=i, solver=SOLVERS[one.sampler], seeds=seeds)
    exact = exact_change(subject.gaussian, push, level, stochastic=one.sampler == "sde")
    length = push.flatten(1).norm(dim=1)
    for prefix, change in (("", final - still[""][0][:n]), ("exact_", exact)):
        moved, (before, shown) = change.flatten(1).double().cpu(), still[prefix]
        row[f"{prefix}gain"] = (moved * push.flatten(1)).sum(1) / length.square()
        row[f"{prefix}pixels"] = moved.norm(dim=1) / length
        if one.often and subject.reader is not None:
            after = subject.read((before[:n] + change).float())
            changed = [shown[f.name][:n] != after[f.name] for f in subject.reader.factors if f.kinds]
            row[f"{prefix}flips"] = torch.stack(changed).any(0)
    return row


def measure(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Kick a subject's runs at four levels and measure how often, and how much, the images change.

    Returns ``sigma_over_alpha`` of the kicked levels, ``contrast`` (``factor``, ``groups``, ``m``, ``lam``, or
    ``None``) and ``series``, a list of dicts: the fields of a :class:`Series`, ``n`` seeds, and lists by level:
    ``gain``, ``pixels`` (intervals: change along the kick, |dx_0|, over the kick's length), ``exact_gain``,
    ``exact_pixels`` (the Gaussian's means), and for the primary measure ``flips``, ``exact_flips`` (Wilson intervals:
    at least one categorical factor changed; of the same kicks on the exact Gaussian's own pictures).
    """
    split = find_contrast(subject, settings.pick(ci=200, book=500, full=1000))
    few = settings.seeds[: settings.pick(ci=2, book=32, full=50)]
    many = settings.seeds[: settings.pick(ci=2, book=128, full=200)] if subject.reader is not None else few
    at = KICKED[:: settings.pick(ci=3, book=1, full=1)]
    found: dict[Series, list[list[dict[str, Tensor]]]] = {one: [[] for _ in at] for one in series(subject, split)}

    def seen(x: Tensor) -> Read:
        return {} if subject.reader is None else subject.read(x.float())

    parts = [(sampler, batch) for sampler in SOLVERS for batch in subject.batches(many, settings.batch)]
    for sampler, batch in tqdm(parts, desc="perturbation", leave=False, disable=not settings.progress):
        run = whole_run(subject, batch, sampler)
        exact = subject.gaussian.flow(run.x[0].double(), frm=run.levels[0])
        still = {"exact_": (exact, seen(exact))}
        for j, i in enumerate(at):
            # One unkicked run for all kicks of this level, by the solver that they take: see `kick`.
            base = paint_on(subject.denoise, run.x[i], run.levels, start=i, solver=SOLVERS[sampler], seeds=batch)
            still[""] = (base, seen(base))
            for one, levels in found.items():
                chosen = [seed for seed in batch if one.often or seed in few]  # the first ones of the batch
                if one.sampler == sampler and chosen:
                    units = directions(one.kick, subject, chosen, split)
                    levels[j].append(effect(subject, run, i, one, units, still))
    return {
        "sigma_over_alpha": grid(subject).ratio[list(at)].tolist(),
        "contrast": split and {key: getattr(split, key) for key in ("factor", "groups", "m", "lam")},
        "series": [asdict(one) | _summary(levels) for one, levels in found.items()],
    }


def _summary(levels: list[list[dict[str, Tensor]]]) -> dict[str, Any]:
    """What the batches of each level say together."""
    rows = {key: [torch.cat([part[key] for part in parts]) for parts in levels] for key in levels[0][0]}
    record: dict[str, Any] = {"n": len(rows["gain"][0])}
    for key, values in rows.items():
        if key.endswith("flips"):
            record[key] = [proportion(int(hits.sum()), len(hits)).record() for hits in values]
        elif key.startswith("exact_"):
            record[key] = [float(v.mean()) for v in values]
        else:
            record[key] = [one.record() for one in bootstrap(torch.stack(values, dim=1), draws=1000)]
    return record
