"""Teleportation: the first part of a run by the exact flow of a Gaussian, which costs no network call.

While the noise is larger than the data a network says little that the Gaussian of its data does not. Source: Wang and
Vastola (arXiv 2303.02490), who start a solver from the Gaussian's state in the middle of the schedule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from painters.levels import Level, Levels
from painters.theory.gaussian import Gaussian, emergence


def teleport(gaussian: Gaussian, x: Tensor, levels: Levels, k: int) -> Tensor:
    """Return the state at level ``k`` that the exact PF-ODE of ``gaussian`` makes of ``x`` (B, ...) at level 0.

    Go on with ``solve(denoise, state, levels, start=k)``. The same with less knowledge are
    ``Gaussian.of(mean, 0.0)``, the mean alone, and ``Gaussian.of(mean, variance)``, an isotropic one.
    """
    return gaussian.flow(x, frm=levels[0], to=levels[k])


def choose_level(gaussian: Gaussian, levels: Levels, tolerance: float = 0.02) -> int:
    """Return the last level at which at most ``tolerance`` of the data's variance stands in the endpoint estimate.

    The share is sum_k lam_k w_k / sum_k lam_k, w_k = alpha^2 lam_k/(alpha^2 lam_k + sigma^2), of all directions: from
    the spectrum alone. By Pythagoras it bounds what a network can know beyond the mean where the data are Gaussian, and
    is the scale of it elsewhere. Raises ``ValueError`` for a tolerance outside [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"the tolerance is a share of the variance, from 0 to below 1, got {tolerance}")
    early = [k for k, level in enumerate(levels) if emerged(gaussian, level) <= tolerance]
    return max([k for k in early if k < levels.steps], default=0)


def emerged(gaussian: Gaussian, level: Level) -> float:
    """Return sum_k lam_k w_k / sum_k lam_k: how much of the variance stands in the Gaussian's endpoint estimate."""
    lam = gaussian.spectrum
    return float((lam * emergence(lam, level)).sum() / lam.sum().clamp(min=torch.finfo(lam.dtype).tiny))
