"""The shape of a trajectory: how many dimensions it takes, how flat it is, and how well a rotation describes it.

All measures follow Wang and Vastola (arXiv 2303.02490) on a :class:`~painters.trajectory.Trajectory`, with its fence
posts: state ``x[i]`` and endpoint estimate ``x0[i]`` belong to level i. x_T is the start ``x[0]``, x_0 the image
``x[-1]``. A low dimension is no evidence by itself: put :func:`random_walk`, and the denoiser that only knows the mean
(a :class:`~painters.theory.gaussian.Gaussian` of rank 0), beside every number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from painters.linalg import gram_pca, outside
from painters.sampling.noise import draw, streams
from painters.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Dimension:
    """How many dimensions curves take: ``variances`` (B, n) of their principal components, largest first.

    A curve that does not move has variances 0, shares NaN and dimension 0.
    """

    variances: Tensor

    @property
    def cumulative(self) -> Tensor:
        """Share of the variance in the first k components, (B, n), for k = 1 ... n."""
        return self.variances.cumsum(1) / self.variances.sum(1, keepdim=True)

    def components(self, share: float = 0.999) -> Tensor:
        """Return the number of components that hold at least ``share`` of the variance, (B,), 0 for a still curve."""
        if not 0 < share < 1:
            raise ValueError(f"share lies between 0 and 1, got {share}")
        moves = self.variances.sum(1) > 0
        return torch.where(moves, (self.cumulative < share).sum(1) + 1, 0)


def dimension(frames: Tensor) -> Dimension:
    """Return the principal component analysis of each sample's curve, ``frames`` (n, B, ...), its mean removed.

    Pass ``trajectory.x``, ``trajectory.x0``, ``trajectory.eps`` or differences, ``trajectory.x.diff(dim=0)``.
    """
    return Dimension(gram_pca(frames)[0])


def plane_residual(trajectory: Trajectory) -> Tensor:
    """Return the share of |x_i|^2 outside span{x_T, x_0}, (N + 1, B); no mean is removed; 0 at both ends."""
    return outside(trajectory.x, trajectory.x[[0, -1]])


def rotation(trajectory: Trajectory, *, evolving: bool = False) -> Tensor:
    """Return the states that the rotation formula predicts, shaped like ``trajectory.x``.

    x_i ~ alpha_i x_0 + sigma_i x_T / (alpha_T^2 + sigma_T^2)^(1/2): the noise, read in unit variance, turns into the
    image. With ``evolving=True`` the image is replaced by the endpoint estimate x0_hat_i of the same level (by x_0
    at the last). alpha is the square root of diffusers' ``alphas_cumprod``.
    """
    alpha, sigma = (trajectory.per_frame(v) for v in (trajectory.levels.alpha, trajectory.levels.sigma))
    noise = trajectory.x[0] / torch.hypot(alpha[0], sigma[0])
    image = trajectory.final
    if evolving:
        image = torch.cat([trajectory.x0, image[None]])
    return alpha * image + sigma * noise


def rotation_error(trajectory: Trajectory, *, evolving: bool = False) -> Tensor:
    """Return |x_i - rotation_i|^2 / |x_i|^2 for every state, (N + 1, B), float64. See :func:`rotation`.

    Small is not good in itself: a wrong alpha can make it smaller. Compare with the exact Gaussian's.
    """
    miss = (trajectory.x - rotation(trajectory, evolving=evolving)).flatten(2).double()
    return miss.square().sum(2) / trajectory.x.flatten(2).double().square().sum(2)


def angle(trajectory: Trajectory) -> Tensor:
    """Return the angle between the noise x_T and the image x_0, in degrees, (B,)."""
    noise, image = trajectory.x[0].flatten(1).double(), trajectory.final.flatten(1).double()
    cosine = (noise * image).sum(1) / (noise.norm(dim=1) * image.norm(dim=1))
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def plane_path(trajectory: Trajectory) -> Tensor:
    """Return the path in the plane of noise and image, (N + 1, B, 2), float64.

    First coordinate along x_0, second along the part of x_T orthogonal to it, both in units of the data.
    """
    points = trajectory.x.flatten(2).double()
    first = torch.nn.functional.normalize(points[-1], dim=1)
    second = torch.nn.functional.normalize(points[0] - (points[0] * first).sum(1, keepdim=True) * first, dim=1)
    return torch.stack([(points * first).sum(2), (points * second).sum(2)], dim=2)


def unforeseen(trajectory: Trajectory) -> Tensor:
    """Return the share of |x_0|^2 outside span{x_T, x_i}, (N + 1, B): what a straight look ahead cannot know yet.

    At i = 0 the span is x_T alone; at the last level the share is 0.
    """
    x = trajectory.x
    spans = (torch.stack([x[0], state]) if i else x[:1] for i, state in enumerate(x))
    return torch.cat([outside(x[-1:], span) for span in spans])


def random_walk(seeds: Iterable[int], shape: Sequence[int], *, steps: int) -> Tensor:
    """Return frames (steps + 1, B, *shape) of a Gaussian random walk from the origin, one per seed: a null.

    In many dimensions its first component alone holds 6/pi^2 = 0.61 of the variance, as many steps as it may have.
    """
    generators = streams(seeds)
    walk = torch.stack([draw(generators, shape) for _ in range(steps)]).cumsum(0)
    return torch.cat([torch.zeros_like(walk[:1]), walk])
