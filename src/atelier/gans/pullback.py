"""A generator as a manifold: the metric it pulls back from images, and how alike it is everywhere.

A map G from latents to images measures latents by what they do to the image: |dG|^2 = dz^T H dz with the metric
H = J^T J. For Gaussian data the PF-ODE's map from noise to image is linear, H = Sigma: anisotropic, and the same
everywhere. Source: Wang and Ponce (2021) for the metric of generators and the consistency measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy import stats
from torch import Tensor

from atelier.statistics import ENDS, Interval

Generate = Callable[[Tensor], Tensor]
"""Latents (B, d) -> images (B, ...), differentiable."""


def metric(generate: Generate, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return H = J^T J (n, d, d) and the Jacobians J (n, m, d) of a generator at latents ``z`` (n, d), float64."""

    def one(point: Tensor) -> Tensor:
        return generate(point[None]).flatten()

    J = torch.stack([torch.func.jacfwd(one)(point) for point in z]).double()  # type: ignore[arg-type]
    return J.mT @ J, J


def spectra(H: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (n, d), largest first, and eigenvectors (n, d, d), in columns, of metrics (n, d, d)."""
    values, vectors = torch.linalg.eigh(H)
    return values.flip(-1).clamp(min=0), vectors.flip(-1)


def participation(values: Tensor) -> Tensor:
    """Return (sum lam)^2 / sum lam^2 for spectra (..., d): how many directions share the metric, 1 to d."""
    return values.sum(-1).square() / values.square().sum(-1)


def homogeneity(H: Tensor, *, floor: float = 1e-8) -> Tensor:
    """Return how well the axes at one point explain the metric at another, on a log scale, (n, n).

    Entry ij is the correlation of ln diag(V_i^T H_j V_i) with that of the eigenvalues of H_j, V_i being the
    eigenvectors at point i; 1 if the metric is the same everywhere, and on the diagonal. Values below ``floor`` times
    the largest of their spectrum, which are rounding, are raised to it before the logarithm.
    """
    values, vectors = spectra(H)
    seen = torch.einsum("iak,jab,ibk->ijk", vectors, H, vectors)
    own = values[None].expand_as(seen)
    low = floor * values[:, :1][None]
    return _correlation(seen.clamp(min=low).log(), own.clamp(min=low).log())


def between(table: Tensor) -> Interval:
    """Return the mean of the entries i != j of a table (n, n) of pairs of points, with Student's 95 % interval.

    Pairs share points and are not independent: the error is that of the jackknife that leaves out one point with all of
    its pairs. NaN for two points or fewer, whose mean is all there is.
    """
    values = table.double().cpu()
    n, whole = len(values), float((values.sum() - values.trace()) / max(len(values) * (len(values) - 1), 1))
    if n < 3:
        return Interval(whole if n == 2 else math.nan, math.nan, math.nan, n)
    lost = values.sum(0) + values.sum(1) - 2 * values.diagonal()
    without = (whole * n * (n - 1) - lost) / ((n - 1) * (n - 2))
    return _student(whole, (n - 1) / n**0.5 * float(without.std()), n)


def across(table: Tensor) -> Interval:
    """Return the mean of a table (n, m) of pairs of points of two models, with Student's 95 % interval.

    The points of both are independent: the variances of the means over rows and over columns add.
    """
    values = table.double().cpu()
    n, m = values.shape
    error = math.sqrt(float(values.mean(1).var()) / n + float(values.mean(0).var()) / m)
    return _student(float(values.mean()), error, min(n, m))


def _student(value: float, error: float, n: int) -> Interval:
    reach = float(stats.t.ppf(ENDS[1], n - 1)) * error
    return Interval(value, value - reach, value + reach, n)


def image_axes(J: Tensor, k: int) -> Tensor:
    """Return the first ``k`` directions in which images move, left singular vectors of J (n, m, d), (n, k, m)."""
    values, vectors = spectra(J.mT @ J)
    # QR mends what rounding does to the directions of small values; in place of zero any small length will do for it.
    return torch.linalg.qr(J @ vectors[..., :k] / values[:, None, :k].clamp(min=1e-300).sqrt()).Q.mT


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared cosine of the principal angles of spans ``a`` (n, k, m) and ``b`` (p, k, m), (n, p).

    Rows are orthonormal. 1 for the same span, k/m on average for random ones.
    """
    return torch.einsum("nim,pjm->npij", a, b).square().sum((-1, -2)) / a.shape[1]


def linear_generator(U: Tensor, lam: Tensor, mu: Tensor, shape: Sequence[int]) -> Generate:
    """Return z -> mu + U diag(sqrt(lam)) z, the PF-ODE's map for Gaussian data in the coordinates of its PCs: a null.

    Its metric is diag(lam) at every point.
    """
    weights = (U * lam.sqrt()).T
    return lambda z: (mu.to(z) + z @ weights.to(z)).reshape(len(z), *shape)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = (part - part.mean(-1, keepdim=True) for part in (a, b))
    size = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return (a * b).sum(-1) / size
