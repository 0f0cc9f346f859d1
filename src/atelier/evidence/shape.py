"""The shape of a trajectory: how many dimensions it takes, how flat it is, and how well a rotation describes it.

All measures follow Wang and Vastola (arXiv 2303.02490) on a :class:`~painters.trajectory.Trajectory`, with its fence
posts: state ``x[i]`` and endpoint estimate ``x0[i]`` belong to level i. x_T is the start ``x[0]``, x_0 the image
``x[-1]``. A low dimension is no evidence by itself: :func:`measure` puts the nulls beside every number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.linalg import gram_pca, outside
from atelier.statistics import bootstrap
from atelier.subject import Settings, Subject
from painters.sampling.noise import draw, noise, streams
from painters.trajectory import Trajectory

COLUMNS = ("mean", "walk", "gaussian", "sampler", "network", "ancestral")
"""A denoiser that knows the mean; a random walk; the exact Gaussian flow; N steps on it; the network; its SDE."""


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


def rotation_error(trajectory: Trajectory, *, evolving: bool = False) -> Tensor:
    """Return |x_i - r_i|^2 / |x_i|^2 for every state, (N + 1, B), float64, r_i that of the rotation formula.

    r_i = alpha_i x_0 + sigma_i x_T / (alpha_T^2 + sigma_T^2)^(1/2): the noise, read in unit variance, turns into the
    image. With ``evolving=True`` the image is replaced by the endpoint estimate x0_hat_i of the same level (by x_0 at
    the last). alpha is the square root of diffusers' ``alphas_cumprod``. Small is not good in itself: a wrong alpha can
    make it smaller, and so can a network. Compare with the exact Gaussian's.
    """
    alpha, sigma = (trajectory.per_frame(v) for v in (trajectory.levels.alpha, trajectory.levels.sigma))
    noise = trajectory.x[0] / torch.hypot(alpha[0], sigma[0])
    image = torch.cat([trajectory.x0, trajectory.final[None]]) if evolving else trajectory.final
    miss = (trajectory.x - alpha * image - sigma * noise).flatten(2).double()
    return miss.square().sum(2) / trajectory.x.flatten(2).double().square().sum(2)


def angle(trajectory: Trajectory) -> Tensor:
    """Return the angle between the noise x_T and the image x_0, in degrees, (B,)."""
    noise, image = trajectory.x[0].flatten(1).double(), trajectory.final.flatten(1).double()
    cosine = (noise * image).sum(1) / (noise.norm(dim=1) * image.norm(dim=1))
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def random_walk(seeds: Iterable[int], shape: Sequence[int], *, steps: int) -> Tensor:
    """Return frames (steps + 1, B, *shape) of a Gaussian random walk from the origin, one per seed: a null.

    In many dimensions its first component alone holds 6/pi^2 = 0.61 of the variance, as many steps as it may have.
    """
    generators = streams(seeds)
    walk = torch.stack([draw(generators, shape) for _ in range(steps)]).cumsum(0)
    return torch.cat([torch.zeros_like(walk[:1]), walk])


def scalars(trajectory: Trajectory) -> dict[str, Tensor]:
    """Return every statistic of a trajectory that is one number a sample, (B,): see :func:`measure` for the names."""
    shares = _shares("states", trajectory.x) | _shares("estimates", trajectory.x0)
    return shares | {"plane_mean": plane_residual(trajectory).mean(0).cpu(), "angle": angle(trajectory).cpu()}


def measure(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Measure the shape of a subject's trajectories beside the nulls, on up to 4, 64 or 200 seeds.

    Returns ``seeds`` (how many), ``sigma_over_alpha`` (N + 1 levels); ``columns``: for each of
    :data:`COLUMNS` a dict of intervals over seeds: ``states_1``, ``states_2``, ``estimates_1``, ``estimates_2`` (share
    of the variance in so many PCs), ``plane_mean`` (share of |x_i|^2 outside span{x_T, x_0}, mean over levels), and
    ``angle`` (degrees). ``walk`` has shares of its states only, and ``mean``, whose estimate stands still, none of its
    estimates.
    """
    seeds = settings.seeds[: settings.pick(ci=4, book=64, full=200)]
    tables: dict[str, list[dict[str, Tensor]]] = {name: [] for name in COLUMNS}
    batches = list(subject.batches(seeds, settings.batch))
    for batch in tqdm(batches, desc="geometry", leave=False, disable=not settings.progress):
        tables["walk"].append(_shares("states", random_walk(batch, subject.shape, steps=settings.steps)))
        for name, run in _runs(subject, batch, settings.steps).items():
            tables[name].append(scalars(run))
    return {
        "seeds": len(seeds),
        "sigma_over_alpha": subject.levels(settings.steps).ratio.tolist(),
        "columns": {name: _intervals(parts) for name, parts in tables.items()},
    }


def _runs(subject: Subject, seeds: Sequence[int], steps: int) -> dict[str, Trajectory]:
    """One trajectory of each column that has a denoiser, all from the same noise."""
    levels = subject.levels(steps)
    start = levels.start(noise(seeds, subject.shape, dtype=torch.float64))
    return {
        "mean": subject.mean_only().run(seeds, steps=steps),
        "gaussian": subject.gaussian.trajectory(start, levels),
        "sampler": subject.theory().run(seeds, steps=steps),
        "network": subject.run(seeds, steps=steps),
        "ancestral": subject.run(seeds, steps=steps, solver="ancestral"),
    }


def _shares(name: str, frames: Tensor) -> dict[str, Tensor]:
    """Shares of the variance in 1 and 2 PCs; nothing for curves that stand still."""
    found = dimension(frames)
    if not bool((found.variances.sum(1) > 0).all()):
        return {}
    # A run of one step has fewer PCs than two: they hold everything.
    return {f"{name}_{k}": found.cumulative[:, min(k, found.variances.shape[1]) - 1] for k in (1, 2)}


def _join(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([part[key] for part in parts], dim=-1) for key in parts[0]}


def _intervals(parts: list[dict[str, Tensor]]) -> dict[str, dict[str, float | int]]:
    found = _join(parts)
    return {key: one.record() for key, one in zip(found, bootstrap(torch.stack(list(found.values()), dim=1)))}
