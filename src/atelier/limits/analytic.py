"""Analytic denoisers of data, from knowing nothing to knowing every image, and what the spectrum says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from painters.denoiser import Denoiser, Scalar, column
from painters.levels import Level, Levels
from painters.theory.cloud import PointCloud
from painters.theory.gaussian import Gaussian, variance
from painters.theory.mixture import Mixture

CLUSTERS = (2, 10, 50, 200)
RANKS = (8, 32, 128)


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
    gaussian: Gaussian,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    clusters: Sequence[int] = CLUSTERS,
    ranks: Sequence[int] = RANKS,
) -> dict[str, Denoiser]:
    """Return the analytic denoisers of data by name, from knowing nothing to knowing every image.

    ``mean``: the constant mean. ``isotropic``: mean and one variance. ``rank r``: r PCs and one variance beyond.
    ``gaussian``. From training ``images`` (n, ...) and, if there are any, ``labels`` (n,): ``classes``, ``k-means k``
    and ``cloud``. The mixtures are :class:`Inside` the Gaussian's PCs; a component of m images keeps at most m/4 of
    them and spreads the rest of its variance evenly, or it would be flat in the directions its few images miss.
    """
    g = gaussian
    spread = float(g.spectrum.mean())
    found: dict[str, Denoiser] = {
        "mean": Gaussian(g.mu, g.U[:, :0], g.lam[:0], 0.0),
        "isotropic": Gaussian(g.mu, g.U[:, :0], g.lam[:0], spread),
    }
    for r in ranks:
        if r < len(g.lam):
            found[f"rank {r}"] = Gaussian(g.mu, g.U[:, :r], g.lam[:r], float(g.spectrum[r:].mean()))
    found["gaussian"] = g
    if images is None:
        return found
    inside = g.project(images)
    n, d = inside.shape

    def rank(k: int) -> int | None:
        return None if n > 4 * k * d else max(1, n // (4 * k))

    if labels is not None:
        found["classes"] = Inside(g, Mixture.of_classes(inside, labels, rank=rank(len(labels.unique()))))
    for k in clusters:
        if 4 * k <= n:
            found[f"k-means {k}"] = Inside(g, Mixture.kmeans(inside, k, rank=rank(k)))
    found["cloud"] = PointCloud(images.double())
    return found


def flattery(gaussian: Gaussian, level: Level) -> float:
    """Return the score residual of the constant mean where the Gaussian is right, from the spectrum alone.

    [sum_k alpha^4 lam_k^2 / v_k] / [sigma^4 sum_k 1/v_k], with v = alpha^2 lam + sigma^2. It falls as
    (alpha/sigma)^4 at high noise.
    """
    alpha, sigma = level
    lam = gaussian.spectrum
    v = variance(lam, level)
    return float((alpha**4 * lam**2 / v).sum() / (sigma**4 * (1 / v).sum()))


@dataclass(frozen=True, eq=False)
class Early:
    """How well the Gaussian foretells a run from its noise alone, one number per level and sample.

    ``ratio`` (N,): sigma/alpha. ``x`` (N, B): |x_i - x_i'| / |x_i|, where x_i' is the Gaussian's flow from the same
    x_T; ``null`` the same for the flow of a denoiser that knows only the mean. ``x0`` (N, B): |D_i - D_i'| / |x_0 -
    mu|, the error of the foretold endpoint estimate beside the final image's distance from the mean.
    """

    ratio: Tensor
    x: Tensor
    null: Tensor
    x0: Tensor

    def until(self, share: float, *, what: str = "x") -> Tensor:
        """Return the noise level sigma/alpha at which an error first passes ``share``, (B,), interpolated in its log.

        0 for a sample that never passes, and the first level's for one that starts above.
        """
        return torch.stack([crossing(self.ratio, errors, share) for errors in getattr(self, what).T])


def crossing(ratio: Tensor, errors: Tensor, share: float) -> Tensor:
    """Return the noise level at which ``errors`` (N,) at levels ``ratio`` (N,) first pass ``share``, a scalar tensor.

    Interpolated linearly in ln ratio; 0 if they never pass, and the first level if they start above.
    """
    above = (errors > share).nonzero()
    if len(above) == 0:
        return ratio.new_zeros(())
    i = int(above[0])
    if i == 0:
        return ratio[0]
    weight = (share - errors[i - 1]) / (errors[i] - errors[i - 1])
    return torch.exp(ratio[i - 1].log() + weight * (ratio[i].log() - ratio[i - 1].log()))


def early(gaussian: Gaussian, levels: Levels, x: Tensor, x0: Tensor) -> Early:
    """Compare a run's states ``x`` (N + 1, B, ...) and endpoint estimates ``x0`` (N, B, ...) with the Gaussian's flow.

    ``levels`` are those of the frames. Only ``x[0]`` and the moments enter the prediction.
    """
    g, start = gaussian, levels[0]
    nothing = Gaussian(g.mu, g.U[:, :0], g.lam[:0], 0.0)
    scale = (x[-1].flatten(1).to(g.mu) - g.mu).norm(dim=1)
    errors: dict[str, list[Tensor]] = {"x": [], "null": [], "x0": []}
    first = x[0].to(g.mu)
    for state, estimate, level in zip(x[:-1], x0, levels):
        size = state.flatten(1).to(g.mu).norm(dim=1)
        told = g.flow(first, frm=start, to=level)
        errors["x"].append(squared(told, state).sqrt() / size)
        errors["null"].append(squared(nothing.flow(first, frm=start, to=level), state).sqrt() / size)
        errors["x0"].append(squared(g(told, *level), estimate).sqrt() / scale)
    return Early(levels.ratio[:-1], *(torch.stack(v).cpu() for v in errors.values()))


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Return |a - b|^2 of each sample (B, ...), (B,) float64."""
    return (a.double() - b.double()).flatten(1).square().sum(1)
