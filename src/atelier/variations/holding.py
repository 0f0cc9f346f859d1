"""What a way of varying a picture keeps in the exact Gaussian world, and so of each named factor.

There the PF-ODE turns a state into a picture coordinate by coordinate, so that the coordinate along PC k of the new
picture has a correlation rho_k with that of the old one. It decides everything else: the mean squared change along the
PC is 1 - rho_k of that between two unrelated pictures, and a factor f whose affine estimate is w_f . z in whitened
coordinates z keeps the share

    sum_k rho_k w_fk^2 / sum_k w_fk^2,      w_f = Lambda^(-1/2) U^T Cov(x_0, f),

of what can be read of it so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.evidence.factors import READABLE, per_factor
from painters.levels import Level
from painters.theory.factors import FactorLaw
from painters.theory.gaussian import variance


def held(lam: Tensor, method: str, *, level: Level = (0.0, 1.0), pcs: int = 0, angle: float = 0.0) -> Tensor:
    """Return rho (r,), the correlation of each PC of the new picture with the old one in the exact Gaussian world.

    For ``"noise"`` and ``"state"`` it is 1 along the first ``pcs`` PCs and 0 elsewhere, for ``"details"`` the reverse;
    for ``"renoise"`` and ``"ancestral"`` alpha (lam / v)^(1/2) at ``level``, v = alpha^2 lam + sigma^2, the same for
    both because the path of an exact model may be walked either way; for ``"mix"`` the cosine of ``angle``. ``lam``
    (r,) are variances, largest first. Raises ``ValueError`` for another method.
    """
    first = (torch.arange(len(lam)) < pcs).to(lam)
    if method in ("noise", "state"):
        return first
    if method == "details":
        return 1 - first
    if method in ("renoise", "ancestral"):
        return level[0] * (lam / variance(lam, level).clamp(min=1e-300)).sqrt()
    if method == "mix":
        return torch.full_like(lam, math.cos(angle))
    raise ValueError(f"there is no law for {method!r}")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the factor law says a variation keeps of each factor, in its affine part.

    ``weights`` (r, m) and ``other`` (r, m): w = Lambda^(-1/2) U^T Cov(x_0, f) from two halves of the data, the reading
    of each fact in whitened coordinates; ``sizes``: columns of each factor; ``spread`` (m,): Var f.
    """

    weights: Tensor
    other: Tensor
    sizes: Sequence[int]
    spread: Tensor

    @classmethod
    def of(cls, law: FactorLaw, other: Tensor, sizes: Sequence[int]) -> Prediction:
        """Make it from a law and a second covariance, see :func:`atelier.evidence.factors.law`."""
        g = law.gaussian
        scale = torch.where(g.lam > 1e-9 * g.lam.max(), g.lam, torch.inf).rsqrt()[:, None]
        return cls(scale * (g.U.T @ law.covariance), scale * (g.U.T @ other), sizes, law.variance)

    @property
    def r2(self) -> Tensor:
        """R_f^2 of clean states (F,): the share of each factor that an affine reading of the PCs knows."""
        explained = per_factor((self.other * self.weights).sum(0), self.sizes)
        return explained / per_factor(self.spread, self.sizes)

    def keeps(self, response: Tensor) -> Tensor:
        """Return the share of each factor's affine part that stays, (F,); NaN for a factor with R_f^2 below 0.05.

        ``response``: the correlations rho (r,) of the PCs, or the matrix (r, r) of E z' z^T in whitened coordinates.
        """
        left = response[:, None] * self.weights if response.ndim == 1 else response @ self.weights
        whole = per_factor((self.other * self.weights).sum(0), self.sizes)
        share = per_factor((self.other * left).sum(0), self.sizes) / whole
        return torch.where(self.r2 >= READABLE, share, torch.nan)
