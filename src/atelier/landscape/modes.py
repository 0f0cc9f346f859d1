"""Modes of the blurred density: mean shift, the tree in which modes merge, and kicks from one into another.

In EDM coordinates, x = x_0 + sigma eps, Tweedie's formula D(x) = x + sigma^2 grad ln p_sigma(x) makes the critical
points of p_sigma the fixed points of the denoiser, and x <- D(x) a step uphill. That holds for exact denoisers only: a
network was trained on noisy states, and the modes of p_sigma are not among them. Source of the iteration: Fukunaga and
Hostetler (1975), mean shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from painters.denoiser import Denoiser, Scalar
from painters.levels import Level
from painters.theory.gaussian import variance

SAME = 0.1
"""Two points nearer than this many sigma are one mode."""

STILL = 1e-4
"""A point whose step is shorter than this many sigma has arrived."""


def flip_probability(m: Scalar, lam: Scalar, delta: Scalar, level: Level) -> Tensor:
    """Return how often a kick at ``level`` changes the mode in which the PF-ODE ends.

    P = P(-|delta| < z < 0), z half and half N(+-alpha m, v), v = alpha^2 lam + sigma^2: two equal modes at +-m with
    variance ``lam`` within, along whose axis the state is moved by ``delta``, in the coordinates of the level. The
    PF-ODE keeps the sign of z, so a kick flips the states that it carries over 0. Arguments broadcast; float64. For a
    kick of phi standard deviations of the mode at the level pass ``delta`` = phi v^(1/2).
    """
    m, lam, delta = (torch.as_tensor(value, dtype=torch.float64) for value in (m, lam, delta))
    centre, spread = level[0] * m, variance(lam, level).sqrt()
    phi = torch.special.ndtr
    return sum((phi(-c / spread) - phi((-delta.abs() - c) / spread) for c in (centre, -centre)), start=0 * spread) / 2


def mean_shift(denoise: Denoiser, x: Tensor, sigma: float, *, iterations: int = 1000) -> Tensor:
    """Return where x <- D(x, 1, sigma) leads from each ``x`` (B, ...): a mode of p_sigma, for an exact denoiser.

    A point stops when a step is shorter than 1e-4 sigma. Near a mode steps shrink by the factor j, the largest
    eigenvalue of dD/dx, which is close to 1 where modes merge and where sigma is small beside the modes' own width.
    """
    x = x.clone()
    moving = torch.arange(len(x))
    for _ in range(iterations):
        step = denoise(x[moving], 1.0, sigma) - x[moving]
        x[moving] += step
        moving = moving[step.flatten(1).norm(dim=1).cpu() > STILL * sigma]
        if len(moving) == 0:
            break
    return x


@dataclass(frozen=True, eq=False)
class ModeTree:
    """The modes of p_sigma at growing blur, and which of them become one.

    ``sigma`` (S,) increasing; ``modes``: S tensors (K_s, ...); ``parent``: S - 1 tensors (K_s,), the index at the next
    level of the mode that each leads to; ``leaf`` (S, K): the mode that each of the K starting points has come to.
    """

    sigma: Tensor
    modes: tuple[Tensor, ...]
    parent: tuple[Tensor, ...]
    leaf: Tensor

    @property
    def count(self) -> list[int]:
        """The number of modes at each level."""
        return [len(points) for points in self.modes]

    def merging(self, i: int, j: int) -> float:
        """Return the least sigma at which starts i and j share a mode; infinity if they never do."""
        together = (self.leaf[:, i] == self.leaf[:, j]).nonzero()
        return float(self.sigma[together[0, 0]]) if len(together) else float("inf")


def mode_tree(denoise: Denoiser, starts: Tensor, sigmas: Sequence[float] | Tensor) -> ModeTree:
    """Follow the modes of p_sigma from little blur to much, by mean shift from those of the level before.

    ``starts`` (K, ...): points from which the modes at the least of ``sigmas`` are found, the components' means for
    instance. Modes that no start leads to are not in the tree. Needs an exact denoiser.
    """
    levels = torch.as_tensor(sigmas, dtype=torch.float64).sort().values
    points, leaf = starts, torch.arange(len(starts))
    modes, parents, leaves = [], [], []
    for sigma in levels.tolist():
        points = mean_shift(denoise, points, sigma)
        near = torch.cdist(points.flatten(1).double(), points.flatten(1).double()) < SAME * sigma
        n, parent = connected_components(near.cpu().numpy(), directed=False)
        parent = torch.from_numpy(parent).long()
        first = torch.stack([(parent == k).nonzero()[0, 0] for k in range(n)])
        points, leaf = points[first], parent[leaf]
        modes.append(points)
        parents.append(parent)
        leaves.append(leaf)
    return ModeTree(levels, tuple(modes), tuple(parents[1:]), torch.stack(leaves))
