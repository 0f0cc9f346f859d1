"""Exact theory: distributions whose diffusion is known in closed form, and the moments that make them."""

from painters.theory.gaussian import Gaussian, emergence, ode_gain, sde_gain, variance
from painters.theory.moments import Moments

__all__ = ["Gaussian", "Moments", "emergence", "ode_gain", "sde_gain", "variance"]
