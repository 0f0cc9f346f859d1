"""Early kicks and late kicks: how often they change what a picture shows, and by how much, against the exact theory.

The primary measure is the share of kicks that change the class or at least one categorical factor. Sizes come after:
displacement, and gain along the kick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.evidence.contrast import Contrast, find_contrast
from atelier.evidence.kicks import component, exact_change, kick, off_manifold, random_directions, spread
from atelier.networks.readers import Read
from atelier.statistics import bootstrap, mean, proportion
from atelier.subject import Settings, Subject
from painters.levels import Levels
from painters.sampling import noise, solve
from painters.trajectory import Trajectory

STEPS = 16
"""Steps of every run here, evenly spaced in log-SNR: the gains of the exact Gaussian are then right within 3 %."""
KICKED = (1, 3, 5, 7, 9, 11, 13)
"""The steps before which a kick comes."""
PCS = (1, 2, 10, 50)
SOLVERS = {"ode": "dpmpp2m", "sde": "ancestral"}
Unit = Literal["length", "std"]


@dataclass(frozen=True)
class Series:
    """One kind of kick, given at every level: its direction's name, its ``unit`` and its ``size`` in that unit.

    ``"length"`` is the L2 length in variance-preserving coordinates, ``"std"`` counts standard deviations of the noisy
    state along the direction. Every second seed is kicked the other way.
    """

    kick: str
    unit: Unit = "length"
    size: float = 2.0


def along_contrast(split: Contrast | None) -> list[Series]:
    """Return the series of the primary measure, along the axis of the contrast (along PC 1 if there is none)."""
    name = "PC 1" if split is None else "axis"
    return [Series(name), Series(name, "std")]


def sizes(known: int, *, first: int | None = None) -> dict[str, list[Series]]:
    """Return the series that measure sizes, for each sampler, or the ``first`` few; ``known``: number of PCs."""
    pcs = [Series(f"PC {k}") for k in PCS if k <= known]
    ode = [*pcs, Series("random"), Series("off-manifold")]
    return {"ode": ode[:first], "sde": pcs[::2][:first]}


def grid(subject: Subject, steps: int = STEPS) -> Levels:
    """Return the levels of the runs, even in log-SNR where the schedule allows it."""
    return subject.levels(steps, spacing="even")


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


def lengths(series: Series, subject: Subject, units: Tensor, levels: Levels, i: int) -> Tensor:
    """Return the signed L2 length (B,) of a series' kicks along ``units`` at level i, in the level's coordinates."""
    sign = torch.ones(len(units), dtype=torch.float64)
    sign[1::2] = -1
    if series.unit == "std":
        return series.size * sign * spread(subject.gaussian, units, levels[i])
    return series.size * sign * float(torch.hypot(levels.alpha[i], levels.sigma[i]))


def kicks_at(
    subject: Subject,
    run: Trajectory,
    i: int,
    series: Sequence[Series],
    split: Contrast | None,
    *,
    sampler: str,
    still: Tensor | None = None,
) -> list[dict[str, Tensor]]:
    """Kick every sample of a whole ``run`` at its level i, once for each series, and compare with the exact Gaussian.

    ``sampler``: ``"ode"`` or ``"sde"``. Returns for each series (B,) numbers: ``length``, signed; ``along`` and
    ``pixels``, the part of the change along the kick, and |dx_0|; ``exact_along``, ``exact_pixels``: of the same kicks
    on the Gaussian. With ``still``, the images of the exact Gaussian (B, ...), pictures are read as well: ``flips``,
    whether a categorical factor changed its kind, and for kicks along a contrast ``group``, whether its group did, each
    also as ``exact_...``, and ``law``, the share of group changes that the contrast's two modes predict.
    """
    seeds, level = run.seeds or (), run.levels[i]
    units = [directions(one.kick, subject, seeds, split) for one in series]
    size = [lengths(one, subject, u, run.levels, i) for one, u in zip(series, units)]
    kicks = torch.stack([u * d.reshape(-1, *(1,) * len(subject.shape)) for u, d in zip(units, size)])
    base, finals = kick(subject.denoise, run.x[i], kicks, run.levels, i, solver=SOLVERS[sampler], seeds=seeds)
    shown = None if still is None else (subject.read(base.float()), subject.read(still.float()))
    found = []
    for u, length, push, final in zip(units, size, kicks, finals):
        exact = exact_change(subject.gaussian, push, level, stochastic=sampler == "sde")
        row = {"length": length} | _moved("", final - base, u) | _moved("exact_", exact, u)
        if still is not None and shown is not None:
            kicked = subject.read(final.float()), subject.read((still + exact).float())
            for prefix, before, after in zip(("", "exact_"), shown, kicked):
                row[f"{prefix}flips"] = _flips(subject, before, after)
                if split is not None:
                    row[f"{prefix}group"] = split.flips(before, after)
            if split is not None:
                row["law"] = torch.full_like(length, split.law(float(length.abs().mean()), level))
        found.append(row)
    return found


def whole_run(subject: Subject, seeds: Sequence[int], sampler: str) -> Trajectory:
    """Return a run of all levels of :func:`grid`, every frame kept: what is kicked."""
    levels = grid(subject)
    x = levels.start(noise(seeds, subject.shape))
    return solve(subject.denoise, x, levels, solver=SOLVERS[sampler], seeds=seeds, progress=False)


def measure(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Kick a subject's runs at seven levels and measure how often, and how much, the images change.

    Returns ``steps``, ``kicked`` (steps), ``sigma_over_alpha`` of the kicked levels, ``contrast`` (``factor``,
    ``groups``, ``m``, ``lam``, ``share``, or ``None``), ``accuracy`` (see :func:`accuracy`) and ``series``, a list of
    dicts: ``sampler`` (ode, sde), ``kick``, ``unit``, ``size``, ``often`` (whether it belongs to the primary measure),
    ``n`` seeds, and lists by level: ``gain``, ``pixels`` (intervals: change along the kick, |dx_0|, over the kick's
    length), ``exact_gain``, ``exact_pixels`` (the Gaussian's means). The primary series of a subject with a reader
    also: ``flips`` (Wilson intervals: at least one categorical factor changed), ``exact_flips`` (the same kicks on the
    exact Gaussian), ``early_minus_late`` (interval over seeds: flips in the first third of the levels less those in the
    last), and along a contrast ``group``, ``exact_group`` (Wilson, its group changed), ``law`` (its two-mode law).
    """
    split = find_contrast(subject, settings.pick(ci=200, book=500, full=1000))
    primary, rest = (
        along_contrast(split),
        sizes(len(subject.gaussian.lam), first=settings.pick(ci=1, book=None, full=None)),
    )
    many = settings.seeds[: settings.pick(ci=2, book=32, full=200)]
    few = settings.seeds[: settings.pick(ci=2, book=8, full=50)]
    at = KICKED[:: settings.pick(ci=6, book=1, full=1)]
    jobs = [("ode", primary, many), ("sde", primary, many), ("ode", rest["ode"], few), ("sde", rest["sde"], few)]
    parts = [(job, batch) for job in jobs if job[1] for batch in subject.batches(job[2], settings.batch)]
    found: dict[tuple[str, Series, bool], list[list[dict[str, Tensor]]]] = {}
    for (sampler, series, _), batch in tqdm(parts, desc="perturbation", leave=False, disable=not settings.progress):
        run = whole_run(subject, batch, sampler)
        read = series is primary and subject.reader is not None
        still = subject.gaussian.flow(run.x[0].double(), frm=run.levels[0]) if read else None
        by_level = [kicks_at(subject, run, i, series, split, sampler=sampler, still=still) for i in at]
        for j, one in enumerate(series):
            found.setdefault((sampler, one, series is primary), []).append([level[j] for level in by_level])
    return {
        "steps": STEPS,
        "kicked": list(at),
        "sigma_over_alpha": grid(subject).ratio[list(at)].tolist(),
        "contrast": None if split is None else split.record(),
        "accuracy": accuracy(subject, few[:8], finer=settings.pick(ci=2, book=4, full=4)),
        "series": [
            {"sampler": sampler, "kick": one.kick, "unit": one.unit, "size": one.size, "often": first}
            | _summary([list(level) for level in zip(*batches)])
            for (sampler, one, first), batches in found.items()
        ],
    }


def accuracy(subject: Subject, seeds: Sequence[int], *, finer: int = 4) -> dict[str, float | None]:
    """Return how far the short runs of this module may be trusted.

    ``gaussian_gain``: largest relative error of the ODE's gains on the exact Gaussian, over the kicked PCs and levels.
    ``network_change``: |d - d'|/|d'| for kicks of length 2 along PC 1 at the third kicked level, d with this module's
    steps and d' with ``finer`` times as many; both grids share that level and the state.
    """
    levels, worst = grid(subject), 0.0
    pcs = [k for k in PCS if k <= len(subject.gaussian.lam)]
    units = torch.cat([component(subject.gaussian, k, subject.shape) for k in pcs])
    zero = torch.zeros(1, *subject.shape, dtype=torch.float64)
    for i in KICKED:
        _, ends = kick(subject.gaussian, zero, units[:, None], levels, i, solver=SOLVERS["ode"], seeds=[0])
        base, _ = kick(subject.gaussian, zero, zero[None], levels, i, solver=SOLVERS["ode"], seeds=[0])
        exact = exact_change(subject.gaussian, units, levels[i])
        got, want = ((v.flatten(1) * units.flatten(1)).sum(1) for v in (ends[:, 0] - base, exact))
        worst = max(worst, float((got / want - 1).abs().max()))
    fine, i = grid(subject, finer * (STEPS - 1) + 1), KICKED[2]
    if not torch.isclose(fine.ratio[finer * i], levels.ratio[i], rtol=1e-6):
        return {"gaussian_gain": worst, "network_change": None}
    run = whole_run(subject, seeds, "ode")
    push = 2 * units[:1].expand(len(seeds), *subject.shape)[None]
    short, long = (
        kick(subject.denoise, run.x[i], push, on, start, solver=SOLVERS["ode"], seeds=seeds)
        for on, start in ((levels, i), (fine, finer * i))
    )
    d, d_fine = (kicked[0] - base for base, kicked in (short, long))
    return {"gaussian_gain": worst, "network_change": float((d - d_fine).norm() / d_fine.norm())}


def _summary(levels: list[list[dict[str, Tensor]]]) -> dict[str, Any]:
    """What the batches of each level say together."""
    rows = {key: [torch.cat([part[key] for part in parts]) for parts in levels] for key in levels[0][0]}
    length = rows["length"]
    record: dict[str, Any] = {"n": len(length[0])}
    for prefix, middle in (("", _means), ("exact_", lambda values: [float(v.mean()) for v in values])):
        record[f"{prefix}gain"] = middle([v / d for v, d in zip(rows[f"{prefix}along"], length)])
        record[f"{prefix}pixels"] = middle([v / d.abs() for v, d in zip(rows[f"{prefix}pixels"], length)])
    for key in ("flips", "exact_flips", "group", "exact_group"):
        if key in rows:
            record[key] = [proportion(int(hits.sum()), len(hits)).record() for hits in rows[key]]
    if "law" in rows:
        record["law"] = [float(v.mean()) for v in rows["law"]]
    if "flips" in rows:
        by_seed, third = torch.stack(rows["flips"]).double(), -(-len(levels) // 3)
        record["early_minus_late"] = mean(by_seed[:third].mean(0) - by_seed[-third:].mean(0)).record()
    return record


def _moved(prefix: str, change: Tensor, units: Tensor) -> dict[str, Tensor]:
    """The length of a change (B, ...) of images, and its part along unit directions, signed."""
    moved = change.flatten(1).double().cpu()
    return {f"{prefix}along": (moved * units.flatten(1).to(moved)).sum(1), f"{prefix}pixels": moved.norm(dim=1)}


def _flips(subject: Subject, before: Read, after: Read) -> Tensor:
    """Whether at least one categorical factor changed its kind, (B,)."""
    assert subject.reader is not None
    return torch.stack([before[f.name] != after[f.name] for f in subject.reader.factors if f.kinds]).any(0)


def _means(values: list[Tensor]) -> list[dict[str, float | int]]:
    return [one.record() for one in bootstrap(torch.stack(values, dim=1), draws=1000)]
