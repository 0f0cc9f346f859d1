"""The one loop: every sample in this book, of theory and network alike, comes out of :func:`solve`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from painters.denoiser import Denoiser, Scalar
from painters.levels import Levels
from painters.sampling.solvers import SOLVERS, Solver
from painters.trajectory import Frames, Trajectory, numbered

CHECK_EVERY = 16
"""On an accelerator, non-finite values are looked for once in so many steps, to keep its queue full."""


class _Counted:
    """A denoiser that counts its calls."""

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise, self.calls = denoise, 0

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        self.calls += 1
        x0 = self.denoise(x, alpha, sigma)
        if x0.shape != x.shape:
            raise ValueError(
                f"the denoiser turned a state of shape {tuple(x.shape)} into {tuple(x0.shape)}: they must agree"
            )
        return x0


def solve(
    denoise: Denoiser,
    x: Tensor,
    levels: Levels,
    *,
    solver: str | Solver = "heun",
    start: int = 0,
    stop: int | None = None,
    save: Frames = Frames(),  # noqa: B008 (frozen)
    seeds: Iterable[int] | None = None,
    progress: bool = True,
) -> Trajectory:
    """Follow the reverse dynamics of ``denoise`` from ``x`` through ``levels`` and return what happened.

    ``x``: (B, ...), the state at level ``start`` (``levels.start(noise)`` makes it from unit noise); the run ends at
    level ``stop``, by default the last. ``solver``: ``"ddim"``, ``"heun"``, ``"dpmpp2m"``, ``"ancestral"``, or a
    function with their signature. ``save`` says which frames are kept. ``seeds`` are recorded, and drive a stochastic
    solver. Runs where the denoiser lives. NFE counts network calls per sample (two per call under guidance).

    Raises ``ValueError`` for an unknown solver or bad range, and ``FloatingPointError`` naming the step and level at
    which a value stopped being finite.
    """
    run = _solver(solver)
    stop = levels.steps if stop is None else stop
    if not 0 <= start < stop <= levels.steps:
        raise ValueError(f"need 0 <= start < stop <= {levels.steps}, got start = {start} and stop = {stop}")
    names = None if seeds is None else numbered(seeds)
    if names is not None and len(names) != len(x):
        raise ValueError(f"{len(names)} seeds for a batch of {len(x)}")
    part = levels[start : stop + 1]
    kept = save.kept(part.steps)
    counted = _Counted(denoise)
    x = x.to(getattr(denoise, "device", x.device))
    states, estimates = [save.store(x)], []
    finite = [torch.isfinite(x).all()]
    _check(finite, part)
    bar = tqdm(run(counted, x, part, names), total=part.steps, disable=not progress, leave=False, desc="painting")
    for i, (x0, state) in enumerate(bar):
        x = state
        finite.append(torch.isfinite(x).all() & torch.isfinite(x0).all())
        if x.device.type == "cpu" or (i + 1) % CHECK_EVERY == 0 or i + 1 == part.steps:
            _check(finite, part)
        if i in kept:
            estimates.append(save.store(x0))
        if i + 1 in kept:
            states.append(save.store(x))
    visited = Levels(part.alpha[kept], part.sigma[kept], part.origin)
    meta: dict[str, Any] = {"solver": _name(solver), "steps": levels.steps, "start": start, "stop": stop, "kept": kept}
    nfe = counted.calls * getattr(denoise, "calls", 1)
    return Trajectory(visited, torch.stack(states), torch.stack(estimates), nfe=nfe, seeds=names, meta=meta)


def paint_on(
    denoise: Denoiser,
    x: Tensor,
    levels: Levels,
    *,
    start: int = 0,
    solver: str | Solver = "heun",
    seeds: Iterable[int] | None = None,
) -> Tensor:
    """Return the clean end (B, ...) of a run continued from ``x`` (B, ...) at level ``start``; no frame is kept.

    ``seeds`` drive a stochastic solver. Raises as :func:`solve` does.
    """
    return solve(denoise, x, levels, solver=solver, start=start, save=Frames(None), seeds=seeds, progress=False).final


def _solver(solver: str | Solver) -> Solver:
    if callable(solver):
        return solver
    if solver not in SOLVERS:
        raise ValueError(f"there is no solver {solver!r}: choose one of {', '.join(SOLVERS)}, or pass a function")
    return SOLVERS[solver]


def _name(solver: str | Solver) -> str:
    if isinstance(solver, str):
        return solver
    if isinstance(solver, partial):
        options = ", ".join(f"{key}={value}" for key, value in solver.keywords.items())
        return f"{solver.func.__name__}({options})"
    return getattr(solver, "__name__", type(solver).__name__)


def _check(finite: list[Tensor], levels: Levels) -> None:
    """Raise at the first step whose flag is false. Reading the flags waits for the device."""
    flags = torch.stack(finite).tolist()
    if all(flags):
        return
    i = flags.index(False)
    alpha, sigma = levels.alpha[max(i - 1, 0)], levels.sigma[max(i - 1, 0)]
    where = f"in step {i - 1}, from alpha = {alpha:.4g}, sigma = {sigma:.4g}" if i else "in the starting state"
    raise FloatingPointError(f"a value became NaN or infinite {where}; no image was made (half precision? try float32)")
