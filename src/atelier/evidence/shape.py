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


def unforeseen_by_all(trajectory: Trajectory, *, tolerance: float = 1e-5) -> Tensor:
    """Return the share of |x_0|^2 outside the span of x_T, x_1, ..., x_i, (N + 1, B), float64; 0 at the last level.

    States are scaled to length 1 first. Directions of the span with a singular value below ``tolerance`` of the largest
    do not count: they are less than the rounding of single precision. The states of a smooth curve are so nearly
    dependent that without this the number would measure the arithmetic.
    """
    points = torch.nn.functional.normalize(trajectory.x.flatten(2).transpose(0, 1).double(), dim=2)
    gram = (points @ points.transpose(1, 2)).cpu()
    found = []
    for n in range(1, gram.shape[1]):
        values, vectors = torch.linalg.eigh(gram[:, :n, :n])
        along = (vectors.transpose(1, 2) @ gram[:, :n, -1:])[:, :, 0].square()
        counts = values > tolerance**2 * values[:, -1:]
        found.append(1 - torch.where(counts, along / values.clamp(min=1e-300), 0.0).sum(1))
    return torch.stack([*found, torch.zeros_like(found[0])]).clamp(min=0)


def cosines(trajectory: Trajectory) -> tuple[Tensor, Tensor]:
    """Return the cosines of each difference x_{i+1} - x_i with the noise x_T and with the image x_0, each (N, B)."""
    x = trajectory.x.flatten(2).double()
    steps = x.diff(dim=0)
    noise_like, image_like = (torch.cosine_similarity(steps, x[[end]], dim=2).cpu() for end in (0, -1))
    return noise_like, image_like


def present(trajectory: Trajectory, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Return |x0_hat - mu|^2 (N, B) and |x_0 - mu|^2 (B,): how much of the image the endpoint estimate holds.

    The share of the image present at a level is the ratio of their sums over seeds. ``mu`` (D,): mean of the data.
    """
    mu = mu.double().cpu()
    estimates, image = trajectory.x0.flatten(2).double().cpu(), trajectory.final.flatten(1).double().cpu()
    return (estimates - mu).square().sum(2), (image - mu).square().sum(1)


def random_walk(seeds: Iterable[int], shape: Sequence[int], *, steps: int) -> Tensor:
    """Return frames (steps + 1, B, *shape) of a Gaussian random walk from the origin, one per seed: a null.

    In many dimensions its first component alone holds 6/pi^2 = 0.61 of the variance, as many steps as it may have.
    """
    generators = streams(seeds)
    walk = torch.stack([draw(generators, shape) for _ in range(steps)]).cumsum(0)
    return torch.cat([torch.zeros_like(walk[:1]), walk])


def scalars(trajectory: Trajectory) -> dict[str, Tensor]:
    """Return every statistic of a trajectory that is one number a sample, (B,): see :func:`measure` for the names."""
    means = {
        "plane_mean": plane_residual(trajectory),
        "rotation_mean": rotation_error(trajectory),
        "evolving_mean": rotation_error(trajectory, evolving=True),
    }
    found = _shares("states", trajectory.x) | _shares("estimates", trajectory.x0)
    found |= {name: values.mean(0).cpu() for name, values in means.items()}
    return found | {"angle": angle(trajectory).cpu()}


def curves(trajectory: Trajectory) -> dict[str, Tensor]:
    """Return every statistic of a trajectory that is one number a level and sample, (N + 1 or N, B)."""
    noise_like, image_like = cosines(trajectory)
    return {
        "unforeseen": unforeseen(trajectory),
        "unforeseen_by_all": unforeseen_by_all(trajectory),
        "along_noise": noise_like,
        "along_image": image_like,
    }


def measure(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Measure the shape of a subject's trajectories beside the nulls, on up to 4, 64 or 200 seeds.

    Returns ``seeds`` (how many), ``steps``, ``dim``, ``sigma_over_alpha`` (N + 1 levels); ``columns``: for each of
    :data:`COLUMNS` a dict of intervals over seeds: ``states_1``, ``states_2``, ``estimates_1``, ``estimates_2`` (share
    of the variance in so many PCs), means over levels ``plane_mean`` (share of |x_i|^2 outside span{x_T, x_0}),
    ``rotation_mean`` and ``evolving_mean`` (final and evolving target), and ``angle`` (degrees). ``walk`` and ``mean``,
    which stands still, have no estimates. ``curves``: for each column but ``walk``, means over seeds by level of the
    names in :func:`curves`, and ``present`` (share of the image's variance in x0_hat). ``bands``: 5 and 95 % over the
    network's seeds of the same curves, without ``present``.
    """
    seeds = settings.seeds[: settings.pick(ci=4, book=64, full=200)]
    tables: dict[str, list[dict[str, Tensor]]] = {name: [] for name in COLUMNS}
    lines: dict[str, list[dict[str, Tensor]]] = {name: [] for name in COLUMNS if name != "walk"}
    held: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in lines}
    batches = list(subject.batches(seeds, settings.batch))
    for batch in tqdm(batches, desc="geometry", leave=False, disable=not settings.progress):
        tables["walk"].append(_shares("states", random_walk(batch, subject.shape, steps=settings.steps)))
        for name, run in _runs(subject, batch, settings.steps).items():
            tables[name].append(scalars(run))
            lines[name].append(curves(run))
            held[name].append(present(run, subject.gaussian.mu))
    whole = {name: _join(parts) for name, parts in lines.items()}
    ends = torch.tensor([0.05, 0.95], dtype=torch.float64)
    means = {name: {key: value.mean(1).tolist() for key, value in found.items()} for name, found in whole.items()}
    for name, parts in held.items():
        estimates, images = zip(*parts)
        means[name]["present"] = (torch.cat(estimates, 1).sum(1) / torch.cat(images).sum()).tolist()
    return {
        "seeds": len(seeds),
        "steps": settings.steps,
        "dim": subject.dim,
        "sigma_over_alpha": subject.levels(settings.steps).ratio.tolist(),
        "columns": {name: _intervals(parts) for name, parts in tables.items()},
        "curves": means,
        "bands": {key: value.double().quantile(ends, dim=1).tolist() for key, value in whole["network"].items()},
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
