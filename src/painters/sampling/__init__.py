"""Sampling: seeded noise, solvers, and the one loop that runs them."""

from painters.sampling.noise import batches, noise, renoise
from painters.sampling.solve import paint_on, solve
from painters.sampling.solvers import SOLVERS, Ask, Step, ancestral, ddim, dpmpp2m, heun, move, pairs, residual

__all__ = [
    "SOLVERS", "Ask", "Step", "ancestral", "batches", "ddim", "dpmpp2m", "heun", "move", "noise", "paint_on", "pairs",
    "renoise", "residual", "solve",
]  # fmt: skip
