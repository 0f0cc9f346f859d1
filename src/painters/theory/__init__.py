"""Exact theory: distributions whose diffusion is known in closed form, and the moments that make them."""

from painters.theory.cloud import PointCloud, Weights
from painters.theory.gaussian import Gaussian, emergence, ode_gain, sde_gain, variance
from painters.theory.mixture import Mixture
from painters.theory.moments import Moments

__all__ = [
    "Gaussian", "Mixture", "Moments", "PointCloud", "Weights", "emergence", "ode_gain", "sde_gain", "variance",
]  # fmt: skip
