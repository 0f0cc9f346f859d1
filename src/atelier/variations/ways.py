"""The ways of varying a picture that are compared, each at several strengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atelier.manifold.knobs import turn
from atelier.subject import Subject
from atelier.variations.states import mix, renoise, repaint, standing
from painters.levels import Levels
from painters.sampling import noise, paint_on
from painters.sampling.noise import FRESH
from painters.trajectory import Trajectory

ANGLES = tuple(math.pi / 2 * share for share in (0.1, 0.25, 0.5, 0.75))
"""How far the noise is turned towards other noise; at a right angle it is the other."""


@dataclass(frozen=True, eq=False)
class Way:
    """One way of varying at m strengths, in the order of growing change.

    ``pictures(j)`` returns those (n, ...) of the current batch at strength j. ``knob``: what ``strength`` (m,) is, a
    noise level sigma/alpha or an angle.
    """

    knob: str
    strength: Sequence[float]
    pictures: Callable[[int], Tensor] = field(repr=False)


def ways(
    subject: Subject, run: Trajectory, at: Sequence[int], details: Tensor, *, most: int = len(ANGLES)
) -> dict[str, Way]:
    """Return the ways of varying the pictures of one ``run`` that kept all its frames.

    ``state``: new noise for the PCs that do not stand yet. ``named``: new noise for the coordinates that tell the
    details and nothing else, whitened directions ``details`` (D, b). ``renoise``: the finished picture noised to each
    level, and painted again. ``ancestral``: the seed's own state at each level, painted on with fresh noise at every
    step. ``mix``: starting noise turned towards other noise, by the ``most`` largest angles. ``at``: indices of the
    levels at which states are changed, clean first. Fresh noise belongs to the seeds of the run.
    """
    g, levels = subject.gaussian, run.levels
    seeds = run.seeds or tuple(range(run.x.shape[1]))
    fresh, again = noise(seeds, subject.shape, stream=FRESH), [seed + FRESH for seed in seeds]
    angles, ratio = ANGLES[-most:], [float(levels.ratio[i]) for i in at]

    def on(x: Tensor, start: int, solver: str = "dpmpp2m") -> Tensor:
        return paint_on(subject.denoise, x, levels, start=start, solver=solver, seeds=again)

    def at_level(change: Callable[[int], Tensor], solver: str = "dpmpp2m") -> Way:
        return Way("level", ratio, lambda j: on(change(at[j]), at[j], solver))

    def state(i: int) -> Tensor:
        return repaint(g, run.x[i], fresh, levels[i], keep="outline", pcs=standing(g, levels[i]))

    return {
        "state": at_level(state),
        "named": at_level(lambda i: turn(g, run.x[i], fresh, levels[i], details, math.pi / 2)),
        "renoise": at_level(lambda i: renoise(run.final, fresh, levels[i])),
        "ancestral": at_level(lambda i: run.x[i], "ancestral"),
        "mix": Way("angle", angles, lambda j: on(mix(run.x[0], levels.start(fresh), angles[j]), 0)),
    }


def changed_at(levels: Levels, *, low: float = 0.2, high: float = 8.0, most: int = 7) -> list[int]:
    """Return at which of ``levels`` states are changed: ``most`` of those from ``low`` to ``high``, clean first.

    At less noise nothing that a reader names changes, at more nothing stays.
    """
    ratio = levels.ratio.tolist()
    inside = [i for i in range(levels.steps - 1, 0, -1) if low <= ratio[i] <= high]
    picks = torch.linspace(0, len(inside) - 1, min(most, len(inside))).round().int().tolist()
    return [inside[j] for j in picks]
