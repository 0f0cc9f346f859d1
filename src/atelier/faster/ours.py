"""The samplers of this book, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from atelier.faster.targets import SPACINGS, Target
from painters.levels import Levels, Spacing
from painters.sampling import SOLVERS
from painters.sampling.solvers import Solver


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
    steps = (calls + 1) // 2 if solver == "heun" else calls  # the last of Heun's steps takes one call
    if (solver == "heun" and calls % 2 == 0) or not target.allows(spacing):
        return None
    return Run(Levels.of(target.schedule, steps, spacing=spacing), SOLVERS[solver])


OURS: dict[str, Ours] = {
    f"{solver}, {spacing}": partial(_plain, solver=solver, spacing=spacing)
    for solver in ("ddim", "heun", "dpmpp2m")
    for spacing in SPACINGS
}
"""All of them; whoever adds one that is calibrated says so in its :class:`Run`."""
