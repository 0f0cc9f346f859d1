"""The exact theory of data with many modes: a mixture of Gaussians.

If the data are sum_i pi_i p_i(x_0), the noisy state x = alpha x_0 + sigma eps came from part i with probability w_i(x),
and the endpoint estimate and the score are the averages of the parts' own:

    D(x) = sum_i w_i(x) D_i(x),     w = softmax_i [ln pi_i + ln p_i(x)].

Where one weight is almost 1 the landscape is that part's Gaussian. Between the parts it is not, and the flow has no
closed form: follow the PF-ODE with :func:`~painters.sampling.solve.solve`. Source: Wang and Vastola (arXiv 2303.02490,
2412.09726).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from painters.denoiser import Scalar, column
from painters.levels import CLEAN, Level
from painters.theory.cloud import NEGLIGIBLE, as_rows
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments

SEEDING = 50
"""k-means++ looks for its k starting centres among 50 k images: choosing them costs more than the iterations."""


@dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    """A mixture of Gaussians, sum_i pi_i N(mu_i, Sigma_i), and its exact denoiser, score and likelihood.

    ``weights`` (K,) > 0 with sum 1, ``components``: K Gaussians of one dimension D, dtype and device. Shapes and dtypes
    are as for :class:`~painters.theory.gaussian.Gaussian`, and no D x D matrix is formed. At sigma = 0 a component
    without variance in some direction has no density, and then every method but :meth:`sample` raises ``ValueError``.
    """

    weights: Tensor
    components: tuple[Gaussian, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", tuple(self.components))
        if self.weights.ndim != 1 or len(self.weights) != len(self.components) or not self.components:
            raise ValueError(
                f"need one weight per component, and at least one; got weights of shape {tuple(self.weights.shape)} "
                f"and {len(self.components)} components"
            )
        total = float(self.weights.sum())
        if not (bool((self.weights > 0).all()) and abs(total - 1) < 1e-5):
            raise ValueError(f"the weights must be positive and sum to 1 (they sum to {total:.6g}): divide by the sum")
        if len(kinds := {(g.dim, g.mu.dtype, g.device) for g in self.components}) > 1:
            raise ValueError(f"the components must share dimension, dtype and device, got {sorted(map(str, kinds))}")
        object.__setattr__(self, "weights", self.weights.to(self.components[0].mu))

    @classmethod
    def of_classes(cls, images: Tensor, labels: Tensor, *, rank: int | None = None) -> Mixture:
        """Return one Gaussian per label, in the order of the labels, each with its images' moments and share.

        ``images`` (n, ...) in the units of the data, ``labels`` (n,) integers. Beyond ``rank`` PCs the variance of a
        component is spread evenly over the rest; without it, components of fewer images than D are degenerate.
        """
        flat = as_rows(images)
        if labels.shape != (len(flat),) or labels.is_floating_point():
            raise ValueError(f"need one integer label per image ({len(flat)}), got {labels.dtype} {labels.shape}")
        names, counts = labels.cpu().unique(return_counts=True)
        parts = tuple(_fit(flat[(labels == name).to(flat.device)], rank) for name in names.to(labels.device))
        return cls(counts.double() / len(flat), parts)

    @classmethod
    def kmeans(cls, images: Tensor, k: int, *, rank: int | None = None, seed: int = 0, iterations: int = 30) -> Mixture:
        """Return one Gaussian per cluster of k-means: k-means++ on a random subset, then Lloyd's algorithm on all.

        ``images`` (n, ...), 1 <= k <= n; ``rank`` as in :meth:`of_classes`. k-means is scikit-learn's, in float32 on
        the CPU. Images that repeat may leave fewer than k clusters. Source: Arthur and Vassilvitskii (2007).
        """
        from sklearn.cluster import KMeans, kmeans_plusplus

        flat = as_rows(images)
        if not 1 <= k <= len(flat):
            raise ValueError(f"k-means of {len(flat)} images allows 1 to {len(flat)} clusters, got {k}")
        points = flat.detach().cpu().float().numpy()
        subset = torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))[: SEEDING * k].numpy()
        centres, _ = kmeans_plusplus(points[subset], k, random_state=seed)
        lloyd = KMeans(k, init=centres, n_init=1, max_iter=iterations)  # pyright: ignore[reportArgumentType]
        return cls.of_classes(images, torch.from_numpy(lloyd.fit(points).labels_), rank=rank)

    @property
    def dim(self) -> int:
        """D, the number of dimensions of the data."""
        return self.components[0].dim

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.weights.device

    @property
    def mean(self) -> Tensor:
        """The mean of the data, sum_i pi_i mu_i: (D,)."""
        return self.weights @ torch.stack([g.mu for g in self.components])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Mixture:
        """Return the same mixture on another device or in another dtype."""
        return Mixture(self.weights, tuple(g.to(device, dtype) for g in self.components))

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return E[x_0 | x] = sum_i w_i(x) D_i(x), shaped like ``x`` (B, ...); sum_i pi_i mu_i at alpha = 0."""
        return self._average(x, alpha, sigma, lambda g, *state: g(*state))

    def score(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return grad ln p(x) = sum_i w_i(x) s_i(x), shaped like ``x`` (B, ...)."""
        return self._average(x, alpha, sigma, lambda g, *state: g.score(*state))

    def responsibilities(self, x: Tensor, alpha: Scalar = 1.0, sigma: Scalar = 0.0) -> Tensor:
        """Return w_i(x), the probability that ``x`` (B, ...) came from each component: (B, K), rows with sum 1."""
        return self._joint(x, alpha, sigma).softmax(1)

    def log_prob(self, x: Tensor, alpha: Scalar = 1.0, sigma: Scalar = 0.0) -> Tensor:
        """Return ln p(x) = ln sum_i pi_i N(x; alpha mu_i, alpha^2 Sigma_i + sigma^2 I), in nats, (B,)."""
        return self._joint(x, alpha, sigma).logsumexp(1)

    def sample(self, n: int, *, seed: int = 0, level: Level = CLEAN) -> Tensor:
        """Return ``n`` samples at ``level``, (n, D): a component by its weight, then a draw of that Gaussian."""
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(self.weights.double().cpu(), n, replacement=True, generator=generator)
        noise = torch.randn(n, self.dim, generator=generator, dtype=torch.float64).to(self.weights)
        samples = torch.empty_like(noise)
        for i in which.unique().tolist():
            rows = (which == i).nonzero()[:, 0].to(self.device)
            samples[rows] = self.components[i].sample(noise[rows], level=level)
        return samples

    def __repr__(self) -> str:
        low, high = float(self.weights.min()), float(self.weights.max())
        return f"Mixture({len(self.components)} Gaussians, D = {self.dim}, weights {low:.3g} to {high:.3g})"

    def _joint(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return ln pi_i + ln p_i(x), (B, K)."""
        parts = [g.log_prob(x, alpha, sigma) for g in self.components]
        return self.weights.log() + torch.stack(parts, 1)

    def _average(self, x: Tensor, alpha: Scalar, sigma: Scalar, part: Callable[..., Tensor]) -> Tensor:
        """Return sum_i w_i part_i(x), leaving out the parts of a sample whose weight is negligible."""
        w = self.responsibilities(x, alpha, sigma)
        flat = x.reshape(len(x), self.dim).to(w)
        a, s = (column(v, flat).to(w).expand(len(x), 1) for v in (alpha, sigma))
        total = torch.zeros_like(flat)
        for i, g in enumerate(self.components):
            rows = (w[:, i] > NEGLIGIBLE).nonzero()[:, 0]
            if len(rows):
                total = total.index_add(0, rows, w[rows, i : i + 1] * part(g, flat[rows], a[rows], s[rows]))
        return total.reshape(x.shape).to(x)


def _fit(flat: Tensor, rank: int | None) -> Gaussian:
    """Return the Gaussian with the moments of (n, D) samples; by an SVD where they are too few to fill a covariance."""
    n, D = flat.shape
    if n > D:
        return Gaussian.from_moments(Moments.of(flat), rank=rank)
    x = flat.detach().to("cpu", torch.float64)
    mean = x.mean(0)
    _, spread, axes = torch.linalg.svd(x - mean, full_matrices=False)
    lam = spread.square() / n
    r = n - 1 if rank is None else min(rank, n - 1)
    return Gaussian(mean, axes[:r].T.contiguous(), lam[:r], float(lam[r:].sum()) / (D - r))
