"""Sampling: seeded noise, solvers, and the one loop that runs them."""

from painters.sampling.expint import expint
from painters.sampling.noise import batches, noise, renoise
from painters.sampling.plan import Plan, calibrate
from painters.sampling.solve import SOLVERS, paint_on, solve
from painters.sampling.solvers import Ask, Step, ancestral, ddim, dpmpp2m, heun, move, pairs, residual
from painters.sampling.teleport import choose_level, teleport

__all__ = [
    "SOLVERS", "Ask", "Plan", "Step", "ancestral", "batches", "calibrate", "choose_level", "ddim", "dpmpp2m", "expint",
    "heun", "move", "noise", "paint_on", "pairs", "renoise", "residual", "solve", "teleport",
]  # fmt: skip
