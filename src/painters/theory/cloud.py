"""The cloud of the training images: the exact denoiser of the empirical distribution, which can only retrieve.

If the data are n points y_i of equal weight, Bayes' rule gives the endpoint estimate and the score

    D(x) = sum_i w_i y_i,   s(x) = (alpha D(x) - x)/sigma^2,   w = softmax_i [-|x - alpha y_i|^2 / (2 sigma^2)].

D is a convex combination of the points at every level, and its PF-ODE (which has no closed form: use
:func:`~painters.sampling.solve.solve`) ends on one of them. Source: Wang and Vastola (arXiv 2303.02490, 2412.09726).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from painters.denoiser import Scalar, column, floating

NEGLIGIBLE = 1e-25
"""A part whose weight is below this changes no sum of fewer than 10^8 parts in double precision."""

TOLERANCE = 1e-6
"""Largest rounding error of a log-weight for which squared distances are taken by the expanded product."""


@dataclass(frozen=True, eq=False)
class Weights:
    """What the softmax weights of a point cloud look like at B states.

    ``largest`` (B,): the largest weight. ``nearest`` (B,): whose it is, the index of the point nearest to x/alpha.
    ``entropy`` (B,): -sum_i w_i ln w_i, in nats. ``labels`` (B, C): total weight of each label, if there are any.
    """

    largest: Tensor
    nearest: Tensor
    entropy: Tensor
    labels: Tensor | None = None

    @property
    def effective(self) -> Tensor:
        """The effective number of points, exp(entropy), between 1 and n: (B,)."""
        return self.entropy.exp()


@dataclass(frozen=True, eq=False, repr=False)
class PointCloud:
    """The empirical distribution of n images, and its exact denoiser: a softmax-weighted mean of the images.

    ``points`` (n, ...), floating point; ``labels`` (n,), integers >= 0, optional. Runs on the device of ``x``, in
    float64 whatever the dtype of the points, and needs sigma > 0. Points and states are taken in parts such that no
    intermediate tensor holds more than ``chunk`` numbers (32 MiB by default). The sums run along, as in a streaming
    log-sum-exp. Squared distances come from |x|^2 - 2 alpha x.y + alpha^2 |y|^2; where its rounding could move a
    weight, which is at small sigma, the points that matter are measured again by their differences.
    """

    points: Tensor
    labels: Tensor | None = None
    chunk: int = 2**22

    def __post_init__(self) -> None:
        as_rows(self.points)
        if self.chunk < 1:
            raise ValueError(f"chunk is the most numbers held at once, at least 1, got {self.chunk}")
        if self.labels is not None and (
            self.labels.shape != (len(self.points),) or self.labels.is_floating_point() or bool((self.labels < 0).any())
        ):
            raise ValueError(
                f"labels must be one integer >= 0 per point ({len(self.points)}), "
                f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )

    @property
    def dim(self) -> int:
        """D, the number of dimensions of the data."""
        return self.points.shape[1:].numel()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> PointCloud:
        """Return the same cloud with its points on another device or in another dtype: float64 saves conversions."""
        return replace(self, points=self.points.to(device=device, dtype=dtype))

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return E[x_0 | x], a convex combination of the points (their mean at alpha = 0), shaped like ``x``."""
        return self._mean(x, alpha, sigma).reshape(x.shape).to(x)

    def score(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return grad ln p(x) = (alpha D(x) - x) / sigma^2, shaped like ``x`` (B, ...)."""
        mean = self._mean(x, alpha, sigma)
        a, s = (column(v, mean).to(mean) for v in (alpha, sigma))
        return ((a * mean - x.reshape(mean.shape).to(mean)) / s**2).reshape(x.shape).to(x)

    def log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return ln p(x) = ln (1/n) sum_i N(x; alpha y_i, sigma^2 I), in nats, (B,) float64."""
        parts = []
        for state in self._blocks(x, alpha, sigma):
            sums = _Softmax(state[0])
            for logits, _, _ in self._logits(*state):
                sums.take(logits)
            norm = math.log(len(self.points)) + self.dim * (math.sqrt(2 * math.pi) * state[2]).log()
            parts.append((sums.top + sums.total.log() - norm)[:, 0])
        return torch.cat(parts)

    def weights(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Weights:
        """Return what the weights at ``x`` (B, ...) look like: largest, nearest, entropy, labels, in one pass."""
        parts = [self._weigh(*state) for state in self._blocks(x, alpha, sigma)]
        largest, nearest, entropy, labels = (torch.cat(column) for column in zip(*parts))
        return Weights(largest, nearest, entropy, None if self.labels is None else labels)

    def __repr__(self) -> str:
        labels = "" if self.labels is None else f", {len(self.labels.unique())} labels"
        return f"PointCloud({len(self.points)} points, D = {self.dim}{labels})"

    def _mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return D(x) in float64, (B, D)."""
        parts = []
        for state in self._blocks(x, alpha, sigma):
            sums, mean = _Softmax(state[0]), torch.zeros_like(state[0])
            for logits, points, _ in self._logits(*state):
                shrink, terms = sums.take(logits)
                alive = (terms > NEGLIGIBLE).any(0)
                mean = shrink * mean + terms[:, alive] @ points[alive]
            parts.append(mean / sums.total)
        return torch.cat(parts)

    def _weigh(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the fields of :class:`Weights` for one block of states."""
        sums, energy = _Softmax(x), x.new_zeros(len(x), 1)
        nearest = torch.zeros(len(x), dtype=torch.long, device=x.device)
        classes = 0 if self.labels is None else int(self.labels.max()) + 1
        labels = x.new_zeros(len(x), classes)
        for logits, points, start in self._logits(x, a, s):
            best, index = logits.max(1)
            nearest = torch.where(best > sums.top[:, 0], index + start, nearest)
            shrink, terms = sums.take(logits)
            energy = shrink * energy + (terms * logits).sum(1, keepdim=True)
            if self.labels is not None:
                names = self.labels[start : start + len(points)].to(x.device).long()
                labels = (shrink * labels).index_add(1, names, terms)
        entropy = sums.top + sums.total.log() - energy / sums.total
        return 1 / sums.total[:, 0], nearest, entropy[:, 0].clamp(min=0), labels / sums.total

    def _blocks(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield x (b, D), alpha (b, 1) and sigma (b, 1) in float64, a bounded number of samples at a time."""
        if floating(x, "a state").shape[1:].numel() != self.dim:
            raise ValueError(f"these points live in {self.dim} dimensions, got x of shape {tuple(x.shape)}")
        flat = x.reshape(len(x), self.dim).double()
        a, s = (column(v, flat).to(flat).expand(len(x), 1) for v in (alpha, sigma))
        if bool((s**2 <= 0).any()):
            raise ValueError("a cloud of points has no density at sigma = 0: use sigma > 0")
        size = max(1, self.chunk // self.dim)
        yield from zip(flat.split(size), a.split(size), s.split(size))

    def _logits(self, x: Tensor, a: Tensor, s: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield -|x - alpha y|^2/(2 sigma^2) (b, m), the m points y (m, D) and the number of the first of them."""
        size = max(1, self.chunk // max(self.dim, len(x)))
        for start in range(0, len(self.points), size):
            y = self.points[start : start + size].to(x.device, torch.float64).flatten(1)
            yield -_squared_distances(x, a, s, y) / (2 * s**2), y, start


def _squared_distances(x: Tensor, a: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """Return |x_b - a_b y_j|^2, (b, m), exact enough that exp(-d/(2 s^2)) is right in relation to the largest.

    The expanded product errs by less than D eps (|x| + a |y|)^2. Where that is not small beside s^2, every point that
    may lie within 100 s^2 of the nearest one is measured again; the others have no weight.
    """
    x_norm, y_norm = x.square().sum(1, keepdim=True), y.square().sum(1)
    d = x_norm - 2 * a * (x @ y.T) + a**2 * y_norm
    error = x.shape[1] * torch.finfo(x.dtype).eps * (x_norm.sqrt() + a * y_norm.max().sqrt()) ** 2
    coarse = error > TOLERANCE * s**2
    if bool(coarse.any()):
        near = coarse & (d <= d.amin(1, keepdim=True) + 2 * error + 100 * s**2)
        rows = []
        for b in range(len(x)):
            j = near[b].nonzero()[:, 0]
            rows.append(d[b].index_copy(0, j, (x[b] - a[b] * y[j]).square().sum(1)))
        d = torch.stack(rows)
    return d


class _Softmax:
    """Running sums of exp(logits) over parts: ``total`` = sum exp(logits - ``top``), both (B, 1)."""

    def __init__(self, x: Tensor) -> None:
        self.top, self.total = x.new_full((len(x), 1), -math.inf), x.new_zeros(len(x), 1)

    def take(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Add a part (B, m); return the factor that earlier sums shrink by, and the new terms exp(logits - top)."""
        top = torch.maximum(self.top, logits.detach().amax(1, keepdim=True))
        shrink, terms = (self.top - top).exp(), (logits - top).exp()
        self.top, self.total = top, shrink * self.total + terms.sum(1, keepdim=True)
        return shrink, terms


def as_rows(images: Tensor) -> Tensor:
    """Return floating-point images (n, ...) as (n, D), after checking them."""
    if floating(images, "images (n, ...)").ndim < 2 or images.numel() == 0:
        raise ValueError(f"need images (n, ...), n >= 1, got shape {tuple(images.shape)}")
    if not bool(torch.isfinite(images).all()):
        raise ValueError("the images hold NaN or infinite values")
    return images.flatten(1)
