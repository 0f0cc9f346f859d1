"""The one loop: every sample in this book, of theory and network alike, comes out of :func:`solve`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from painters.denoiser import Denoiser, Scalar, floating
from painters.levels import Level, Levels, refuse_unit_noise
from painters.sampling.expint import expint
from painters.sampling.solvers import Solver, ancestral, ddim, dpmpp2m, drive, heun, name_of
from painters.theory.gaussian import Gaussian
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


SOLVERS: dict[str, Solver] = {s.__name__: s for s in (ddim, heun, dpmpp2m, ancestral, expint)}
OPTIONS: dict[str, Solver] = {"eta": ancestral, "surrogate": expint}
"""The options that ``solve`` passes on, and the solver that has each."""

OnStep = Callable[[int, Level, Tensor, Tensor], object]
"""``on_step(i, level, x, x0)``: the state at level i of the levels given to ``solve``, and the estimate made there."""


def solve(
    denoise: Denoiser,
    x: Tensor,
    levels: Levels,
    *,
    solver: str | Solver = "heun",
    eta: float | None = None,
    surrogate: Gaussian | Denoiser | None = None,
    start: int = 0,
    stop: int | None = None,
    save: Frames = Frames(),  # noqa: B008 (frozen)
    seeds: Iterable[int] | None = None,
    on_step: OnStep | None = None,
    progress: bool = True,
) -> Trajectory:
    """Follow the reverse dynamics of ``denoise`` from ``x`` through ``levels`` and return what happened.

    ``x``: (B, ...), the state at level ``start`` (``levels.start(noise)`` makes it from unit noise); the run ends at
    level ``stop``, by default the last. ``solver``: ``"ddim"``, ``"heun"``, ``"dpmpp2m"``, ``"ancestral"`` with its
    ``eta``, ``"expint"`` with its ``surrogate``, or a function with their signature. ``save`` says which frames are
    kept. ``seeds`` are recorded, and drive a stochastic solver. ``on_step(i, level, x, x0)`` is called after each step;
    if it returns something true the run stops there, and the trajectory ends at the level that was reached. Runs where
    the denoiser lives, under ``torch.no_grad``: no gradient passes through a run, and a denoiser that takes one inside
    itself does so under ``torch.enable_grad``. NFE counts network calls per sample (two per call under guidance).

    Raises ``ValueError`` for what is none of these, or unit noise at a level of other size, and ``FloatingPointError``
    naming the step and level at which a value stopped being finite.
    """
    _check_arguments(denoise, x, levels, save)
    trained = getattr(denoise, "schedule", None)
    run = chosen(solver, floor=0.0 if trained is None else trained.ends[1], eta=eta, surrogate=surrogate)
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
    _check_finite(finite, part)
    refuse_unit_noise(x, part[0])
    steps = drive(run, counted, x, part, names)
    reached, stopped = 0, False
    for i, (x0, state) in enumerate(tqdm(steps, total=part.steps, disable=not progress, leave=False, desc="painting")):
        before, x, reached = x, state, i + 1
        finite.append(torch.isfinite(x).all() & torch.isfinite(x0).all())
        if x.device.type == "cpu" or reached % CHECK_EVERY == 0:
            _check_finite(finite, part)
        stopped = on_step is not None and bool(on_step(start + i, part[i], before, x0))
        if i in kept:
            estimates.append(save.store(x0))
        if stopped or reached in kept:
            states.append(save.store(x))
        if stopped:
            break
    _check_finite(finite, part)
    kept = [*(k for k in kept if k < reached), reached]
    visited = Levels(part.alpha[kept], part.sigma[kept], part.origin)
    meta = {"solver": name_of(run), "steps": levels.steps, "start": start, "stop": start + reached, "kept": kept}
    meta |= {"stopped": True} if stopped else {}
    meta |= {"projected": True} if save.fn is not None else {}
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


def _check_arguments(denoise: object, x: object, levels: object, save: object) -> None:
    """Raise one sentence for what is easily passed in the place of each argument."""
    if not callable(denoise):
        what = "pass model.denoiser()" if hasattr(denoise, "denoiser") else "pass a function"
        raise ValueError(f"solve follows a denoiser D(x, alpha, sigma), and a {type(denoise).__name__} is none: {what}")
    floating(x, "x, a batch of states (B, ...),")
    if not isinstance(levels, Levels):
        raise ValueError(f"levels are noise levels, got {levels!r}: pass model.levels(n) or Levels.of(schedule, n)")
    if not isinstance(save, Frames):
        raise ValueError(f"save says which frames are kept, got {save!r}: pass Frames(every=n), or Frames(None)")


def chosen(solver: str | Solver, *, floor: float = 0.0, **options: Any) -> Solver:
    """Return the solver of a name, with the options that are not ``None`` bound. ``ValueError`` for others."""
    if not callable(solver):
        if solver not in SOLVERS:
            raise ValueError(f"there is no solver {solver!r}: choose one of {', '.join(SOLVERS)}, or pass a function")
        solver = SOLVERS[solver]
    given = {option: value for option, value in options.items() if value is not None}
    if wrong := [option for option in given if solver is not OPTIONS[option]]:
        owner = name_of(OPTIONS[wrong[0]])
        raise ValueError(
            f"{wrong[0]} = {given[wrong[0]]} is an option of the {owner} solver, and {name_of(solver)} has none"
        )
    if solver is expint and floor > 0:  # the network knows where its training ended, which nobody should have to say
        given["floor"] = floor
    return partial(solver, **given) if given else solver


def _check_finite(finite: list[Tensor], levels: Levels) -> None:
    """Raise at the first step whose flag is false. Reading the flags waits for the device."""
    flags = torch.stack(finite).tolist()
    if all(flags):
        return
    i = flags.index(False)
    alpha, sigma = levels.alpha[max(i - 1, 0)], levels.sigma[max(i - 1, 0)]
    where = f"in step {i - 1}, from alpha = {alpha:.4g}, sigma = {sigma:.4g}" if i else "in the starting state"
    raise FloatingPointError(f"a value became NaN or infinite {where}; no image was made (half precision? try float32)")
