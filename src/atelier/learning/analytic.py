"""Analytic denoisers of data, from knowing nothing to knowing every image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from painters.denoiser import Denoiser, Scalar, column
from painters.theory.cloud import PointCloud
from painters.theory.gaussian import Gaussian
from painters.theory.mixture import Mixture

CLUSTERS = (2, 10, 50, 200)
FULL = 4
"""A covariance of d dimensions is fitted to no fewer than so many times d images; its rank is cut where they lack."""


@dataclass(frozen=True, eq=False)
class Inside:
    """A denoiser of the coordinates along the columns of ``gaussian.U``, and the Gaussian everywhere else.

    D(x) = mu + U inner(U^T (x - alpha mu)) + the Gaussian's estimate outside the span. With the Gaussian of the
    coordinates as ``inner`` it is ``gaussian`` itself, so that mixtures of any number of components can be compared
    with one Gaussian at low noise, where a mixture of few images has nothing to say about the smallest variances.
    """

    gaussian: Gaussian
    inner: Denoiser

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return the endpoint estimate, shaped like ``x`` (B, ...)."""
        g = self.gaussian
        y = x.reshape(len(x), g.dim).to(g.mu)
        a, s = (column(v, y).to(y) for v in (alpha, sigma))
        y = y - a * g.mu
        z = y @ g.U
        estimate = g.mu + self.inner(z, alpha, sigma) @ g.U.T
        if len(g.lam) < g.dim and g.rest > 0:
            estimate = estimate + a * g.rest / (a**2 * g.rest + s**2) * (y - z @ g.U.T)
        return estimate.reshape(x.shape).to(x)


def analytic(
    gaussian: Gaussian, images: Tensor | None = None, *, clusters: Sequence[int] = CLUSTERS
) -> dict[str, Denoiser]:
    """Return the analytic denoisers of data by name, from knowing nothing to knowing every image.

    ``mean``: the constant mean. ``gaussian``. From training ``images`` (n, ...): ``k-means k`` and ``cloud``. The
    mixtures are :class:`Inside` the Gaussian's PCs; a component of m images keeps at most m/4 of them and spreads the
    rest of its variance evenly, or it would be flat in the directions its few images miss.
    """
    found: dict[str, Denoiser] = {"mean": Gaussian.of(gaussian.mu, 0.0), "gaussian": gaussian}
    if images is None:
        return found
    inside = gaussian.project(images)
    n, d = inside.shape
    for k in clusters:
        if FULL * k <= n:
            rank = None if n > FULL * k * d else max(1, n // (FULL * k))
            found[f"k-means {k}"] = Inside(gaussian, Mixture.kmeans(inside, k, rank=rank))
    found["cloud"] = PointCloud(images.double())
    return found
