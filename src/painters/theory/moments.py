"""Mean and covariance of data too large to hold, merged exactly over any partition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_DIMENSION = 12_288
"""The largest D whose D x D covariance is formed: 64 x 64 RGB, 1.2 GB in float64."""


@dataclass(frozen=True, eq=False, repr=False)
class Moments:
    """Count, mean and scatter of samples: ``n``, ``mean`` (D,), ``scatter`` (D, D) = sum (x - mean)(x - mean)^T.

    All float64 on the CPU. ``a + b`` merges two parts exactly,

        mean = (n_a mean_a + n_b mean_b)/n,   d = mean_b - mean_a,
        scatter = scatter_a + scatter_b + (n_a n_b / n) d d^T,

    so the data can be read in any partition and order. Never sum uncentred squares instead: with an offset they
    cancel catastrophically. Source: Chan, Golub and LeVeque (1979).
    """

    n: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, samples: Tensor) -> Moments:
        """Return the moments of one batch, ``samples`` (n, ...) flattened to (n, D)."""
        if samples.numel() == 0:
            raise ValueError("moments need at least one sample, got none")
        x = samples.detach().reshape(len(samples), -1).to("cpu", torch.float64)
        if x.shape[1] > MAX_DIMENSION:
            raise ValueError(
                f"D = {x.shape[1]} is above {MAX_DIMENSION}: the covariance alone would take "
                f"{x.shape[1] ** 2 * 8 / 1e9:.1f} GB; reduce the image size, or project the data first"
            )
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the samples hold NaN or infinite values")
        mean = x.mean(0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred)

    @classmethod
    def stream(cls, batches: Iterable[Tensor]) -> Moments:
        """Return the moments of all ``batches`` together, holding one at a time."""
        total = None
        for batch in batches:
            total = cls.of(batch) if total is None else total + cls.of(batch)
        if total is None:
            raise ValueError("moments need at least one batch, got none")
        return total

    def __add__(self, other: Moments) -> Moments:
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"cannot merge moments of D = {len(self.mean)} and D = {len(other.mean)}")
        n = self.n + other.n
        d = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter.addr_(d, d, alpha=self.n * other.n / n)
        return Moments(n, self.mean + d * (other.n / n), scatter)

    def __repr__(self) -> str:
        return f"Moments(n = {self.n}, D = {len(self.mean)}, variance {float(self.scatter.trace()) / self.n:.4g})"

    @property
    def covariance(self) -> Tensor:
        """The covariance (D, D) of the empirical distribution, scatter / n."""
        return self.scatter / self.n

    def eigh(self) -> tuple[Tensor, Tensor]:
        """Return eigenvectors (D, D), in columns, and eigenvalues (D,) of the covariance, largest first.

        Where there is no variance they are rounding of either sign.
        """
        lam, U = torch.linalg.eigh(self.covariance)
        return U.flip(1), lam.flip(0)
