"""The factor law: what the best affine estimate knows of a cause of the data, at every noise level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from painters.denoiser import Scalar, column
from painters.levels import Level
from painters.theory.gaussian import Gaussian, variance
from painters.theory.moments import Moments

NULL = 1e-12
"""Directions whose noisy variance is below this share of the largest say nothing: their noise is rounding."""


@dataclass(frozen=True, eq=False)
class FactorLaw:
    """The best affine estimate of m factors f of the data from a noisy state, and how much of them it explains.

    With x = alpha x_0 + sigma eps, c = Cov(x_0, f) and V = alpha^2 Sigma + sigma^2 I,

        f_hat = E f + alpha c^T V^{-1} (x - alpha mu),        R_f^2 = alpha^2 c^T V^{-1} c / Var f.

    ``gaussian`` holds mu and Sigma of the states, ``covariance`` is c (D, m), ``mean`` and ``variance`` (m,) are those
    of the factors, all float64. No estimate explains less than R_f^2 if it is the best one, E[f | x], so R_f^2 is a
    lower bound of what can be known. A categorical factor enters as the indicators of its kinds, one column each.
    """

    gaussian: Gaussian
    covariance: Tensor
    mean: Tensor
    variance: Tensor

    @classmethod
    def from_moments(cls, joint: Moments, m: int) -> FactorLaw:
        """Return the law from the moments of states and factors together, (D + m) numbers with the factors last."""
        d = len(joint.mean) - m
        if not 0 < m < len(joint.mean):
            raise ValueError(f"{m} factors cannot be the last of {len(joint.mean)} numbers")
        states = Moments(joint.n, joint.mean[:d], joint.scatter[:d, :d])
        spread = joint.scatter.diagonal()[d:] / joint.n
        return cls(Gaussian.from_moments(states), joint.scatter[:d, d:] / joint.n, joint.mean[d:], spread)

    def weights(self, level: Level) -> Tensor:
        """Return alpha V^{-1} c (D, m), by which a centred state is read. Directions without variance get none."""
        g = self.gaussian
        v = variance(torch.cat([g.lam, g.lam.new_full((1,), g.rest)]), level)
        inverse = torch.where(v > NULL * v.max(), 1 / v.clamp(min=torch.finfo(v.dtype).tiny), torch.zeros_like(v))
        inside = g.U.T @ self.covariance
        outside = self.covariance - g.U @ inside
        return level[0] * (g.U @ (inside * inverse[:-1, None]) + outside * inverse[-1])

    def estimate(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return f_hat (B, m) for states ``x`` (B, ...) at one level, float64. ``ValueError`` for several levels."""
        a, s = column(alpha, x), column(sigma, x)
        if a.numel() != 1 or s.numel() != 1:
            raise ValueError("the affine estimate reads one level at a time")
        level = float(a), float(s)
        centred = x.reshape(len(x), -1).to(self.gaussian.mu) - level[0] * self.gaussian.mu
        return self.mean + centred @ self.weights(level)
