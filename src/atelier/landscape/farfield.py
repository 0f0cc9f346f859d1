"""What the Gaussian misses first at high noise: the third cumulant of the data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from painters.denoiser import Scalar, column
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments


@dataclass(frozen=True, eq=False)
class FarField:
    """The Gaussian denoiser of a point cloud with its first correction for skewness, for large sigma/alpha.

    With V = alpha^2 Sigma + sigma^2 I, h = V^{-1}(x - alpha mu) and K_ijk = mean_n y_i y_j y_k of the centred data y,

        D(x) = D_gauss(x) + (alpha^2 sigma^2 / 2) V^{-1} [K : (h h^T - V^{-1})] + higher orders.

    On typical x the error of D_gauss falls as (alpha/sigma)^2, that of this as (alpha/sigma)^3 or faster; at low noise
    the correction means nothing. K : A = mean_n y (y^T A y), so the D^3 tensor is never formed. ``gaussian``: that of
    the data, ``coordinates`` (n, r): the centred data along its eigenvectors. Built by :meth:`of`; a
    :class:`~painters.denoiser.Denoiser`. Source: the Edgeworth expansion, derived in the book.
    """

    gaussian: Gaussian
    coordinates: Tensor

    @classmethod
    def of(cls, images: Tensor) -> FarField:
        """Return the far field of the empirical distribution of ``images`` (n, ...)."""
        gaussian = Gaussian.from_moments(Moments.of(images))
        return cls(gaussian, gaussian.project(images.double()))

    def correction(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return the second term of the sum, shaped like ``x`` (B, ...)."""
        g, p = self.gaussian, self.coordinates
        a, s = (column(value, x.flatten(1)).to(g.mu) for value in (alpha, sigma))
        v = a**2 * g.lam + s**2
        h = (x.reshape(len(x), g.dim).to(g.mu) - a * g.mu) @ g.U / v
        contracted = ((h @ p.T) ** 2 - (1 / v) @ p.square().T) @ p / len(p)
        return (a**2 * s**2 / 2 * contracted / v @ g.U.T).reshape(x.shape).to(x)

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return the corrected estimate of E[x_0 | x], shaped like ``x``."""
        return self.gaussian(x, alpha, sigma) + self.correction(x, alpha, sigma)
