"""Varying an image on purpose: kicks on a grid, noise and back, and new noise for chosen principal components only.

All of them change a state and let the model paint on. They differ in what they change: one direction, everything at the
strength of one level, or the components (PCs) that the theory says decide the outline, or the details.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atelier.evidence.kicks import kick
from painters.denoiser import Denoiser
from painters.levels import Levels
from painters.sampling import solve
from painters.sampling.solvers import Solver
from painters.trajectory import Frames, Trajectory


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


def paint_on(
    denoise: Denoiser,
    x: Tensor,
    levels: Levels,
    *,
    start: int,
    solver: str | Solver = "dpmpp2m",
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """Return the images that states ``x`` (B, ...) at level ``start`` lead to; ``seeds`` drive a stochastic solver."""
    return solve(denoise, x, levels, solver=solver, start=start, save=Frames(None), seeds=seeds, progress=False).final


def invert(denoise: Denoiser, image: Tensor, levels: Levels, *, solver: str | Solver = "heun") -> Trajectory:
    """Follow the PF-ODE from images (B, ...) back up to noise; the run's ``final`` is the state at ``levels[0]``.

    A network was never trained at sigma = 0, so the image is read as the state alpha image at the last noisy level of
    ``levels``. Painting the result again gives the image up to the errors of that reading and of the solver: measure
    it with :func:`round_trip`.
    """
    back = levels[:-1][::-1]
    x = float(back.alpha[0]) * image
    return solve(denoise, x, back, solver=solver, save=Frames(None), progress=False)


def round_trip(
    denoise: Denoiser, image: Tensor, levels: Levels, *, centre: Tensor, solver: str | Solver = "heun"
) -> tuple[Tensor, Tensor]:
    """Return the repainted images (B, ...) and |repainted - image| / |image - centre|, (B,), after inversion."""
    noisy = invert(denoise, image, levels, solver=solver).final
    again = paint_on(denoise, noisy, levels, start=0, solver=solver)
    apart = (again - image).flatten(1).norm(dim=1)
    return again, apart / (image - centre.to(image).reshape(image.shape[1:])).flatten(1).norm(dim=1)
