"""The samplers of this book, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from torch import Tensor

from atelier.faster.targets import SPACINGS, Target
from painters.levels import Levels, Spacing
from painters.sampling import SOLVERS, Plan, calibrate, choose_level, expint, teleport
from painters.sampling.solvers import NEAR_PURE_NOISE, Solver
from painters.theory import Gaussian

CALIBRATION = range(10_000, 10_032)
"""The seeds to whose trajectories plans are fitted; none of them judges a sampler."""
FINE = 240
"""The steps of the runs that plans are fitted to."""
CALLS = (3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 30)
"""The numbers of calls for which there are plans, all from one fine run."""


@dataclass(frozen=True)
class Run:
    """One way to paint: ``solver`` through ``levels`` from ``start(unit noise)``, by default ``levels.start``.

    ``calibrated``: whether anything of it was chosen by looking at trajectories.
    """

    levels: Levels
    solver: Solver
    start: Callable[[Tensor], Tensor] | None = None
    calibrated: bool = False


Ours = Callable[[Target, int], Run | None]
"""(target, calls) -> a run that asks the denoiser so many times, ``None`` if there is none."""


def _plain(target: Target, calls: int, *, solver: str, spacing: Spacing) -> Run | None:
    steps, odd = calls, 0
    if solver == "heun":  # its last step takes one call, and so does the first from pure noise
        steps, odd = divmod(calls + 1 + (target.schedule.ends[0] > 1 / NEAR_PURE_NOISE), 2)
    if odd or not target.allows(spacing):
        return None
    return Run(Levels.of(target.schedule, steps, spacing=spacing), SOLVERS[solver])


def _expint(
    target: Target, calls: int, *, spacing: Spacing, guided: bool = True, teleported: bool = False
) -> Run | None:
    """The exponential integrator around the data's Gaussian, or around none; ``teleported`` past the first levels."""
    g = target.gaussian
    if (guided and g is None) or not target.allows(spacing):
        return None
    solver = partial(expint, surrogate=g if guided else None, floor=target.range[1])
    levels = Levels.of(target.schedule, calls, spacing=spacing)
    if not teleported or g is None:
        return Run(levels, solver)
    for steps in range(calls, 4 * calls):  # as many levels as leave so many calls behind the one that is chosen
        levels = Levels.of(target.schedule, steps, spacing=spacing)
        first = choose_level(g, levels)
        if steps - first == calls:
            return Run(levels[first:], solver, partial(_teleported, g, levels, first))
    return None


def _teleported(gaussian: Gaussian, levels: Levels, first: int, noise: Tensor) -> Tensor:
    return teleport(gaussian, levels.start(noise), levels, first)


@cache
def _plans(target: Target, gaussian: Gaussian) -> dict[int, Plan]:
    levels = Levels.of(target.schedule, FINE, spacing="even")
    x = levels.start(target.noise(CALIBRATION))
    found = calibrate(target.denoiser(CALIBRATION), x, levels, surrogate=gaussian, nfe=CALLS, progress=False)
    return dict(zip(CALLS, found, strict=True))


def _planned(target: Target, calls: int, *, solver: str = "plan") -> Run | None:
    """The levels of a plan, with its coefficients or under a solver that knows none."""
    g = target.gaussian
    if g is None or calls not in CALLS:
        return None
    plan = _plans(target, g)[calls]
    solvers: dict[str, Solver] = {
        "plan": plan.solver(g),
        "expint": partial(expint, surrogate=g, floor=plan.floor),
        "none": expint,
    }
    start = partial(_teleported, g, plan.levels, plan.first)
    return Run(plan.levels[plan.first :], solvers.get(solver) or SOLVERS[solver], start, calibrated=True)


OURS: dict[str, Ours] = {
    f"{solver}, {spacing}": partial(_plain, solver=solver, spacing=spacing)
    for solver in ("ddim", "heun", "dpmpp2m")
    for spacing in SPACINGS
}
OURS |= {f"expint, {spacing}": partial(_expint, spacing=spacing) for spacing in SPACINGS}
OURS |= {
    f"expint without a Gaussian, {spacing}": partial(_expint, spacing=spacing, guided=False) for spacing in SPACINGS
}
OURS |= {
    f"expint, teleported, {spacing}": partial(_expint, spacing=spacing, teleported=True) for spacing in SPACINGS[1:]
}
OURS |= {
    "calibrated plan": _planned,
    "expint, calibrated levels": partial(_planned, solver="expint"),
    "expint without a Gaussian, calibrated levels": partial(_planned, solver="none"),
    "dpmpp2m, calibrated levels": partial(_planned, solver="dpmpp2m"),
}
"""All of them; whoever adds one that is calibrated says so in its :class:`Run`."""
