"""Kicks: push a state a little at one noise level, resume with the same later noise, and see what changed.

On one Gaussian everything is known. A kick e at a level (alpha, sigma) moves the image by U diag(gain) U^T e with the
gains sqrt(lam / v) of the PF-ODE and alpha lam / v of the reverse SDE with its later noise held fixed, v = alpha^2 lam
+ sigma^2. Source: Wang and Vastola (arXiv 2303.02490) for the experiment and the first gain; the second in the book.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from atelier.linalg import gram_pca
from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.sampling import noise, paint_on
from painters.sampling.noise import OFF, RANDOM
from painters.sampling.solvers import Solver
from painters.theory.gaussian import Gaussian


def kick(
    denoise: Denoiser,
    x: Tensor,
    kicks: Tensor,
    levels: Levels,
    start: int,
    *,
    solver: str | Solver,
    seeds: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Return the images (B, ...) that follow from ``x`` at level ``start``, and those (m, B, ...) from ``x + kicks``.

    ``x`` (B, ...), ``kicks`` (m, B, ...). The unkicked run resumes from the same state, with the same solver, later
    noise and batch, so that no kick changes nothing, to the last bit.
    """

    def follow(state: Tensor) -> Tensor:
        return paint_on(denoise, state, levels, start=start, solver=solver, seeds=seeds)

    return follow(x), torch.stack([follow(x + push) for push in kicks.to(x)])


def exact_change(gaussian: Gaussian, kicks: Tensor, level: Level, *, stochastic: bool = False) -> Tensor:
    """Return how a kick at ``level`` moves the image in the exact Gaussian world, shaped like ``kicks`` (B, ...).

    U diag(gain) U^T e, with the gain sqrt(lam / v) of the PF-ODE, or alpha lam / v of the reverse SDE under the same
    later noise, which is the denoiser's own response. float64.
    """
    kicks = kicks.double().cpu()
    mu = gaussian.mu.double().cpu().reshape(kicks.shape[1:])
    x = kicks + level[0] * mu
    return (gaussian(x, *level) if stochastic else gaussian.flow(x, frm=level)) - mu


def spread(gaussian: Gaussian, directions: Tensor, level: Level) -> Tensor:
    """Return the standard deviation of the noisy state along unit ``directions`` (B, ...) at ``level``, (B,), float64.

    sqrt(alpha^2 u . Sigma u + sigma^2): sqrt(v_k) along PC k.
    """
    data = gaussian.along(directions.flatten(1).double()).cpu()
    return (level[0] ** 2 * data + level[1] ** 2).sqrt()


def unit(directions: Tensor) -> Tensor:
    """Return each of ``directions`` (B, ...) scaled to length 1."""
    return normalize(directions.flatten(1), dim=1).reshape(directions.shape)


def component(gaussian: Gaussian, k: int, shape: Sequence[int]) -> Tensor:
    """Return the k-th principal direction of the data, counted from 1, shaped (1, *shape), float64."""
    return gaussian.U[:, k - 1].double().cpu().reshape(1, *shape)


def random_directions(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return one unit direction per seed, uniform on the sphere, (B, *shape), float64."""
    return unit(noise(seeds, shape, stream=RANDOM, dtype=torch.float64))


def off_manifold(gaussian: Gaussian, seeds: Sequence[int], shape: Sequence[int], *, share: float = 0.99) -> Tensor:
    """Return one unit direction per seed without the PCs that hold ``share`` of the data's variance, (B, *shape).

    Where the known PCs hold less than that, all of them are removed. float64.
    """
    lam = gaussian.lam.double().cpu()
    kept = int((lam.cumsum(0) < share * float(gaussian.spectrum.sum())).sum()) + 1
    top = gaussian.U[:, :kept].double().cpu()
    free = noise(seeds, shape, stream=OFF, dtype=torch.float64).flatten(1)
    return unit((free - (free @ top) @ top.T).reshape(len(seeds), *shape))


def curve_component(frames: Tensor, k: int = 1) -> Tensor:
    """Return the k-th principal direction of each sample's curve, ``frames`` (n, B, ...), (B, ...), float64."""
    scores = gram_pca(frames)[1][:, :, k - 1]
    centred = (frames - frames.mean(0)).double().cpu()
    return unit(torch.einsum("bn,nb...->b...", scores, centred))
