"""Early kicks and late kicks: how often they change what a picture shows, and by how much, against the exact theory.

The primary measure is the share of kicks that change the class or at least one categorical factor. Sizes come after:
displacement, gain along the kick, distance in features, change of the continuous factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.evidence.kicks import (
    Change,
    Contrast,
    Seen,
    changed,
    component,
    curve_component,
    exact_change,
    find_contrast,
    kick,
    off_manifold,
    random_directions,
    see,
    spread,
)
from atelier.statistics import bootstrap, mean, proportion, rank_correlation
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


def often(split: Contrast | None) -> list[Series]:
    """Return the series of the primary measure, along the axis of the contrast (along PC 1 if there is none)."""
    name = "PC 1" if split is None else "axis"
    return [Series(name), Series(name, "std")]


def sizes(known: int, *, first: int | None = None) -> dict[str, list[Series]]:
    """Return the series that measure sizes, for each sampler, or the ``first`` few; ``known``: number of PCs."""
    pcs = [f"PC {k}" for k in PCS if k <= known]
    other = ["noise PC 1", "estimate PC 1", "random", "off-manifold"]
    ode = [Series(name) for name in [*pcs, *other]]
    ode += [Series("PC 1", "length", 0.5), Series("PC 1", "std", 1.0)]
    return {"ode": ode[:first], "sde": [Series(name) for name in [*pcs[::2], "random"]][:first]}


def grid(subject: Subject, steps: int = STEPS) -> Levels:
    """Return the levels of the runs, even in log-SNR; as the model spaces them if its schedule has no such ends."""
    try:
        return subject.levels(steps, spacing="logsnr")
    except ValueError:
        return subject.levels(steps)


def directions(name: str, subject: Subject, run: Trajectory, split: Contrast | None) -> Tensor:
    """Return the unit directions (B, ...) of a kick called ``name`` for the samples of ``run``, float64."""
    seeds = run.seeds or ()
    if name.startswith("PC "):
        return component(subject.gaussian, int(name[3:]), subject.shape).expand(len(seeds), *subject.shape)
    if name == "axis" and split is not None:
        return split.axis.expand(len(seeds), *subject.shape)
    if name == "noise PC 1":
        return curve_component(run.eps)
    if name == "estimate PC 1":
        return curve_component(run.x0)
    if name == "random":
        return random_directions(seeds, subject.shape)
    if name == "off-manifold":
        return off_manifold(subject.gaussian, seeds, subject.shape)
    raise ValueError(f"there is no kick {name!r}")


def lengths(series: Series, subject: Subject, units: Tensor, levels: Levels, i: int) -> Tensor:
    """Return the signed L2 length (B,) of a series' kicks along ``units`` at level i, in the level's coordinates."""
    level = levels[i]
    sign = torch.ones(len(units), dtype=torch.float64)
    sign[1::2] = -1
    if series.unit == "std":
        return series.size * sign * spread(subject.gaussian, units, level)
    return series.size * sign * float(torch.hypot(levels.alpha[i], levels.sigma[i]))


@dataclass(frozen=True, eq=False)
class Kicked:
    """The effect of one series at one level: ``change`` as measured, ``exact`` on the Gaussian for the same kicks.

    ``length`` (B,) signed. Along a contrast's axis: ``group``, ``exact_group`` (B,), whether its group changed, and the
    share that its ``law`` predicts.
    """

    change: Change
    length: Tensor
    exact: Change
    group: Tensor | None = None
    exact_group: Tensor | None = None
    law: float | None = None


def kicks_at(
    subject: Subject,
    run: Trajectory,
    i: int,
    series: Sequence[Series],
    split: Contrast | None,
    *,
    sampler: str,
    ideal: tuple[Tensor, Seen | None] | None = None,
) -> list[Kicked]:
    """Kick every sample of a whole ``run`` at its level i, once for each series, and compare with the exact Gaussian.

    ``sampler``: ``"ode"`` or ``"sde"``. ``ideal``: images of the exact Gaussian (B, ...) and what the reader sees in
    them; with it the Gaussian's kicked images are read too.
    """
    units = [directions(one.kick, subject, run, split) for one in series]
    size = [lengths(one, subject, u, run.levels, i) for one, u in zip(series, units)]
    kicks = torch.stack([u * d.reshape(-1, *(1,) * len(subject.shape)) for u, d in zip(units, size)])
    base, finals = kick(subject.denoise, run.x[i], kicks, run.levels, i, solver=SOLVERS[sampler], seeds=run.seeds or ())
    seen, B = see(subject, torch.cat([base, *finals])), len(base)
    found = []
    for j, one in enumerate(series):
        pair = None if seen is None else (seen.rows(slice(B)), seen.rows(slice((j + 1) * B, (j + 2) * B)))
        change = changed(subject, base, finals[j], units[j], pair)
        moved = exact_change(subject.gaussian, kicks[j], run.levels[i], stochastic=sampler == "sde")
        still, view = (torch.zeros_like(moved), None) if ideal is None else ideal
        after = None if view is None else see(subject, still + moved)
        both = None if view is None or after is None else (view, after)
        exact = changed(subject, still, still + moved, units[j], both)
        group = exact_group = law = None
        if split is not None and one.kick == "axis" and pair is not None:
            group = split.flips(pair[0].values, pair[1].values)
            exact_group = None if both is None else split.flips(both[0].values, both[1].values)
            law = split.law(float(size[j].abs().mean()), run.levels[i])
        found.append(Kicked(change, size[j], exact, group, exact_group, law))
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
    length), ``exact_gain``, ``exact_pixels`` (the Gaussian's means). With a reader also ``flips`` (Wilson intervals: at
    least one categorical factor changed), ``early_minus_late`` (interval over seeds: flips in the first third of the
    levels less those in the last), ``features``, ``values`` (intervals; ``None`` without continuous factors),
    ``by_factor`` (share of flips of each). The primary series also: ``exact_flips`` (the same kicks on the exact
    Gaussian), ``group``, ``exact_group`` (Wilson, the contrast's group changed), ``law`` (its two-mode law), ``trend``
    (rank correlation of sigma/alpha and the share of flips, exact p; ``None`` for a share that does not vary).
    """
    split = find_contrast(subject, settings.pick(ci=200, book=500, full=1000))
    primary, rest = often(split), sizes(len(subject.gaussian.lam), first=settings.pick(ci=1, book=None, full=None))
    many = settings.seeds[: settings.pick(ci=2, book=32, full=200)]
    few = settings.seeds[: settings.pick(ci=2, book=8, full=50)]
    at = KICKED[:: settings.pick(ci=6, book=1, full=1)]
    jobs = [("ode", primary, many), ("sde", primary, many), ("ode", rest["ode"], few), ("sde", rest["sde"], few)]
    size = {len(job[2]): settings.batch + (len(job[2]) % settings.batch == 1) for job in jobs}  # no batch of one
    parts = [(job, batch) for job in jobs if job[1] for batch in subject.batches(job[2], size[len(job[2])])]
    found: dict[tuple[str, Series, bool], list[list[Kicked]]] = {}
    for (sampler, series, _), batch in tqdm(parts, desc="perturbation", leave=False, disable=not settings.progress):
        run = whole_run(subject, batch, sampler)
        ideal = None
        if series is primary:
            still = subject.gaussian.flow(run.x[0].double(), frm=run.levels[0])
            ideal = still, see(subject, still)
        by_level = [kicks_at(subject, run, i, series, split, sampler=sampler, ideal=ideal) for i in at]
        for j, one in enumerate(series):
            found.setdefault((sampler, one, series is primary), []).append([level[j] for level in by_level])
    ratio = grid(subject).ratio[list(at)]
    return {
        "steps": STEPS,
        "kicked": list(at),
        "sigma_over_alpha": ratio.tolist(),
        "contrast": None if split is None else split.record(),
        "accuracy": accuracy(subject, few[:8], finer=settings.pick(ci=2, book=4, full=4)),
        "series": [
            {"sampler": sampler, "kick": one.kick, "unit": one.unit, "size": one.size, "often": first}
            | _summary([list(level) for level in zip(*batches)], ratio, first)
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


def _summary(levels: list[list[Kicked]], ratio: Tensor, first: bool) -> dict[str, Any]:
    """What the batches of each level say together."""
    length = [torch.cat([part.length for part in parts]) for parts in levels]
    record: dict[str, Any] = {"n": len(length[0])}

    def rows(pick: str, of: str = "change") -> list[Tensor]:
        return [torch.cat([getattr(getattr(part, of), pick) for part in parts]) for parts in levels]

    record["gain"] = _means([v / d for v, d in zip(rows("along"), length)])
    record["pixels"] = _means([v / d.abs() for v, d in zip(rows("pixels"), length)])
    record["exact_gain"] = [float((v / d).mean()) for v, d in zip(rows("along", "exact"), length)]
    record["exact_pixels"] = [float((v / d.abs()).mean()) for v, d in zip(rows("pixels", "exact"), length)]
    if levels[0][0].change.features is None:
        return record
    flips = rows("any_flip")
    by_seed, third = torch.stack(flips).double(), -(-len(flips) // 3)
    record["flips"] = [_share(v) for v in flips]
    record["early_minus_late"] = mean(by_seed[:third].mean(0) - by_seed[-third:].mean(0)).record()
    record["features"] = _means(rows("features"))
    record["values"] = None if levels[0][0].change.values is None else _means(rows("values"))
    names = levels[0][0].change.flips
    record["by_factor"] = {
        name: [float(torch.cat([p.change.flips[name] for p in parts]).double().mean()) for parts in levels]
        for name in names
    }
    if first:
        record["exact_flips"] = [_share(v) for v in rows("any_flip", "exact")]
        shares = [one["value"] for one in record["flips"]]
        varies = len(shares) > 2 and max(shares) > min(shares)
        record["trend"] = rank_correlation(ratio, torch.tensor(shares)).record() if varies else None
    if levels[0][0].group is not None:
        for key in ("group", "exact_group"):
            record[key] = [_share(torch.cat([getattr(part, key) for part in parts])) for parts in levels]
        record["law"] = [sum((p.law or 0) * len(p.length) for p in parts) / record["n"] for parts in levels]
    return record


def _share(hits: Tensor) -> dict[str, float | int]:
    return proportion(int(hits.sum()), len(hits)).record()


def _means(values: list[Tensor]) -> list[dict[str, float | int]]:
    return [one.record() for one in bootstrap(torch.stack(values, dim=1), draws=1000)]
