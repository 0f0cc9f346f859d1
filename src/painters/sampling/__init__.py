"""Sampling: seeded noise, solvers, and the one loop that runs them."""

from painters.sampling.noise import batches, noise, renoise
from painters.sampling.solve import paint_on, solve
from painters.sampling.solvers import SOLVERS, ancestral, ddim, dpmpp2m, heun

__all__ = ["SOLVERS", "ancestral", "batches", "ddim", "dpmpp2m", "heun", "noise", "paint_on", "renoise", "solve"]
