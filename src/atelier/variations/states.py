"""Changing a state on purpose and painting on: one direction of it, everything a little, or all but what should stay.

What is changed differs: one direction (:func:`grid`), everything at the strength of one level (:func:`renoise`,
:func:`mix`), or the principal components (PCs) that the theory says decide the outline, or the details
(:func:`repaint`). On the data's own Gaussian what stays in the state stays in the picture, and the changed state has
the law of an unchanged one. A picture from elsewhere gets its states by :func:`invert`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from atelier.evidence.kicks import kick
from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.sampling import paint_on, solve
from painters.sampling.solvers import Solver
from painters.theory.gaussian import Gaussian, emergence
from painters.trajectory import Frames, Trajectory

Keep = Literal["outline", "details"]


def grid(
    denoise: Denoiser,
    trajectory: Trajectory,
    direction: Tensor,
    *,
    steps: Sequence[int],
    sizes: Sequence[float],
    levels: Levels,
    solver: str | Solver = "dpmpp2m",
) -> Tensor:
    """Return the images that kicks of the first sample of a run lead to, (len(steps), len(sizes), ...).

    At each of ``steps``, ``size * direction`` is added to the state, and the run resumes; ``direction`` (...) is a unit
    vector in the coordinates of the levels, ``trajectory`` one that kept every frame of a run through ``levels``. On a
    Gaussian a kick along PC k at a level moves the image by size sqrt(lam_k / v_k). Source: Wang and Vastola
    (arXiv 2303.02490).
    """
    if len(trajectory.x) != levels.steps + 1:
        raise ValueError(f"the grid needs every frame of the run, {levels.steps + 1}, got {len(trajectory.x)}")
    kicks = torch.as_tensor(sizes, dtype=torch.float64).reshape(-1, 1, *(1,) * direction.ndim) * direction.double()
    seeds = trajectory.seeds[:1] if trajectory.seeds else (0,)
    rows = [kick(denoise, trajectory.x[i, :1], kicks, levels, i, solver=solver, seeds=seeds)[1][:, 0] for i in steps]
    return torch.stack(rows)


def mix(x: Tensor, fresh: Tensor, angle: float) -> Tensor:
    """Return cos(angle) x + sin(angle) fresh, (B, ...): noise moved on the sphere towards other noise."""
    return math.cos(angle) * x + math.sin(angle) * fresh


def renoise(image: Tensor, fresh: Tensor, level: Level) -> Tensor:
    """Return alpha image + sigma fresh, (B, ...): the image as it would have been seen at ``level``."""
    return level[0] * image + level[1] * fresh


def standing(gaussian: Gaussian, level: Level) -> int:
    """Return how many PCs stand at a level: those of which the endpoint estimate holds half of the variance or more.

    sigmoid(log-SNR + ln lam_k) >= 1/2, which is lam_k >= sigma^2/alpha^2. It is the theory's answer to how many
    components make up the outline at that level. 0 to the number of known PCs.
    """
    return int((emergence(gaussian.lam, level) >= 0.5).sum())


def repaint(gaussian: Gaussian, x: Tensor, fresh: Tensor, level: Level, *, keep: Keep, pcs: int) -> Tensor:
    """Return states at ``level`` that share some coordinates with ``x`` (B, ...) and take the others from ``fresh``.

    With ``keep="outline"`` the coordinates along the first ``pcs`` PCs stay and all others are drawn anew, from the
    Gaussian's law at that level; with ``"details"`` the reverse. ``fresh`` (B, ...) is unit noise. At a level of pure
    noise this is a change of the noise alone. If x has the law of the data's Gaussian at that level, so has the result.
    """
    if keep not in get_args(Keep):
        raise ValueError(f"keep is 'outline' or 'details', got {keep!r}")
    if not 0 <= pcs <= len(gaussian.lam):
        raise ValueError(f"this theory knows {len(gaussian.lam)} components, asked for {pcs}")
    new = gaussian.sample(fresh, level=level).reshape(x.shape)
    basis = gaussian.U[:, :pcs].to(x)
    apart = (x - new).flatten(1)
    along = ((apart @ basis) @ basis.T).reshape(x.shape)
    return new + along if keep == "outline" else x - along


def invert(denoise: Denoiser, image: Tensor, levels: Levels, *, solver: str | Solver = "heun") -> Trajectory:
    """Follow the PF-ODE from images (B, ...) back up to noise; the run's ``final`` is the state at ``levels[0]``.

    A network was never trained at sigma = 0, so the image is read as the state alpha image at the last noisy level of
    ``levels``. Painting the result again gives the image up to the errors of that reading and of the solver: measure
    it with :func:`round_trip`.
    """
    back = levels[:-1][::-1]
    return solve(denoise, float(back.alpha[0]) * image, back, solver=solver, save=Frames(None), progress=False)


def round_trip(
    denoise: Denoiser, image: Tensor, levels: Levels, *, centre: Tensor, solver: str | Solver = "heun"
) -> tuple[Tensor, Tensor]:
    """Return the state at ``levels[0]`` that images (B, ...) are inverted to, and the error of painting it again, (B,).

    The error is |again - image| / |image - centre|.
    """
    noisy = invert(denoise, image, levels, solver=solver).final
    again = paint_on(denoise, noisy, levels, solver=solver)
    apart = (again - image).flatten(1).norm(dim=1)
    return noisy, apart / (image - centre.to(image).reshape(image.shape[1:])).flatten(1).norm(dim=1)
