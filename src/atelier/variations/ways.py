"""The ways of varying a picture that are compared, each at several strengths, and their laws in a Gaussian world.

There the PF-ODE turns a state into a picture coordinate by coordinate, so that the coordinate along PC k of the new
picture has a correlation rho_k with that of the old one. It decides everything else: the mean squared change along the
PC is 1 - rho_k of that between two unrelated pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atelier.subject import Subject
from atelier.variations.states import mix, renoise, repaint, standing
from painters.levels import Level, Levels
from painters.sampling import noise, paint_on
from painters.sampling.noise import FRESH
from painters.theory.gaussian import variance
from painters.trajectory import Trajectory

ANGLES = tuple(math.pi / 2 * share for share in (0.1, 0.25, 0.5, 0.75))
"""How far the noise is turned towards other noise; at a right angle it is the other."""


@dataclass(frozen=True, eq=False)
class Way:
    """One way of varying at m strengths, in the order of growing change.

    ``pictures(j)`` returns those (n, ...) of the current batch at strength j. ``knob``: what ``strength`` (m,) is, a
    noise level sigma/alpha or an angle. ``rho`` (m, r + 1): the law, with the remainder outside the PCs last. ``pcs``
    (m,): how many are kept.
    """

    knob: str
    strength: Sequence[float]
    pictures: Callable[[int], Tensor] = field(repr=False)
    rho: Tensor = field(repr=False)
    pcs: Sequence[int] | None = None


def ways(subject: Subject, run: Trajectory, at: Sequence[int], *, most: int = len(ANGLES)) -> dict[str, Way]:
    """Return the ways of varying the pictures of one ``run`` that kept all its frames.

    ``state``: new noise for the PCs that do not stand yet. ``renoise``: the finished picture noised to each level, and
    painted again. ``ancestral``: the seed's own state at each level, painted on with fresh noise at every step.
    ``mix``: starting noise turned towards other noise, by the ``most`` largest angles. ``at``: indices of the levels at
    which states are changed, clean first. Fresh noise belongs to the seeds of the run.
    """
    g, levels = subject.gaussian, run.levels
    lam = torch.cat([g.lam, g.lam.new_tensor([g.rest])]).double().cpu()
    seeds = run.seeds or tuple(range(run.x.shape[1]))
    fresh, again = noise(seeds, subject.shape, stream=FRESH), [seed + FRESH for seed in seeds]
    pcs, angles = [standing(g, levels[i]) for i in at], ANGLES[-most:]
    ratio = [float(levels.ratio[i]) for i in at]

    def on(x: Tensor, start: int, solver: str = "dpmpp2m") -> Tensor:
        return paint_on(subject.denoise, x, levels, start=start, solver=solver, seeds=again)

    def state(j: int) -> Tensor:
        i = at[j]
        return on(repaint(g, run.x[i], fresh, levels[i], keep="outline", pcs=pcs[j]), i)

    def mixed(j: int) -> Tensor:
        return on(mix(run.x[0], levels.start(fresh), angles[j]), 0)

    # the path of an exact model may be walked either way: ancestral sampling keeps what noise and back does
    noised = torch.stack([noised_back(lam, levels[i]) for i in at])
    kept = torch.stack([(torch.arange(len(lam)) < k).to(lam) for k in pcs])
    return {
        "state": Way("level", ratio, state, kept, pcs),
        "renoise": Way("level", ratio, lambda j: on(renoise(run.final, fresh, levels[at[j]]), at[j]), noised),
        "ancestral": Way("level", ratio, lambda j: on(run.x[at[j]], at[j], "ancestral"), noised),
        "mix": Way("angle", angles, mixed, torch.stack([torch.full_like(lam, math.cos(a)) for a in angles])),
    }


def noised_back(lam: Tensor, level: Level) -> Tensor:
    """Return rho = alpha (lam / v)^(1/2), v = alpha^2 lam + sigma^2, of noise and back along PCs of ``lam`` (r,)."""
    return level[0] * (lam / variance(lam, level).clamp(min=1e-300)).sqrt()


def changed_at(levels: Levels, *, low: float = 0.2, high: float = 8.0, most: int = 7) -> list[int]:
    """Return at which of ``levels`` states are changed: ``most`` of those from ``low`` to ``high``, clean first.

    At less noise nothing that a reader names changes, at more nothing stays.
    """
    ratio = levels.ratio.tolist()
    inside = [i for i in range(levels.steps - 1, 0, -1) if low <= ratio[i] <= high]
    picks = torch.linspace(0, len(inside) - 1, min(most, len(inside))).round().int().tolist()
    return [inside[j] for j in picks]
