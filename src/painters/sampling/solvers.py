"""Solvers: coroutines that walk a state down the noise levels.

A solver is ``solver(x, levels, seeds)``. It never calls a network: it yields ``Ask(x, level)`` and is sent the endpoint
estimate x0_hat made there, and it yields ``Step(x0_hat, x)`` for every step, the estimate made at level i and the state
at level i + 1, and is sent the state to go on from: the same, unless somebody kicked it. So one solver runs in
:func:`painters.solve`, which asks a denoiser, and in a pipeline of diffusers, which asks its own network. All are
written in terms of (x0_hat, eps_hat),

    eps_hat = (x - alpha x0_hat) / sigma,

so that pure noise, alpha = 0, is a legal place to start. A solver of your own is made of ``pairs(levels)``, ``move``
and ``residual``; it never changes ``x`` in place, and may have further options, bound with ``functools.partial``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.sampling.noise import STEPS, draw, streams


class Ask(NamedTuple):
    """A question to the network: which x0_hat does it see in ``x`` at ``level``?"""

    x: Tensor
    level: Level


class Step(NamedTuple):
    """A step that is done: ``x0`` estimated where it began, ``x`` the state that it reached."""

    x0: Tensor
    x: Tensor


Steps = Generator[Ask | Step, Tensor, None]
Solver = Callable[[Tensor, Levels, Sequence[int] | None], Steps]

NEAR_PURE_NOISE = 1e-6
"""Below this alpha the slope in sigma / alpha is not formed; the step is a DDIM step."""


def ddim(x: Tensor, levels: Levels, seeds: Sequence[int] | None = None) -> Steps:
    """Yield DDIM steps, the Euler method in sigma/alpha: x' = alpha' x0_hat + sigma' eps_hat. First order, NFE = N.

    Runs in both directions. Source: Song, Meng and Ermon (2021).
    """
    for here, there in pairs(levels):
        x0 = yield Ask(x, here)
        x = yield Step(x0, move(x, x0, here, there))


def heun(x: Tensor, levels: Levels, seeds: Sequence[int] | None = None) -> Steps:
    """Yield Heun steps in sigma/alpha: a DDIM step, then the same step with the mean of both slopes. Second order.

    x'/alpha' = x/alpha + (sigma'/alpha' - sigma/alpha)(eps_hat + eps_hat')/2. A step into sigma = 0, or out of
    alpha < 1e-6, stays a DDIM step; ending clean, NFE = 2N - 1. Source: Karras et al. (2022).
    """
    for here, there in pairs(levels):
        x0 = yield Ask(x, here)
        trial = move(x, x0, here, there)
        if there[1] > 0 and here[1] > 0 and min(here[0], there[0]) > NEAR_PURE_NOISE:
            ahead = yield Ask(trial, there)
            slope = residual(x, x0, here) + residual(trial, ahead, there)
            change = there[1] / there[0] - here[1] / here[0]
            trial = there[0] * (x / here[0] + change / 2 * slope)
        x = yield Step(x0, trial)


def dpmpp2m(x: Tensor, levels: Levels, seeds: Sequence[int] | None = None) -> Steps:
    """Yield DPM-Solver++(2M) steps: exponential integrator in ln(alpha/sigma), x0_hat extrapolated from two calls.

    x' = (sigma'/sigma) x - alpha' (e^{-h} - 1) [x0_hat + (h / 2 h_last)(x0_hat - x0_hat_last)]. Second order, NFE = N;
    the first step and a step into sigma = 0 are first order. Source: Lu et al. (2022).
    """
    last: Tensor | None = None
    h_last = math.inf
    for here, there in pairs(levels):
        x0 = yield Ask(x, here)
        h = _log_ratio(there) - _log_ratio(here)
        best = x0
        if last is not None and math.isfinite(h) and math.isfinite(h_last):
            best = x0 + h / (2 * h_last) * (x0 - last)
        last, h_last = x0, h
        x = yield Step(x0, move(x, best, here, there))


def ancestral(x: Tensor, levels: Levels, seeds: Sequence[int] | None = None, *, eta: float = 1.0) -> Steps:
    """Yield steps of the reverse SDE: as DDIM, with part of eps_hat replaced by fresh noise. NFE = N.

    x' = alpha' x0_hat + (sigma'^2 - s^2)^(1/2) eps_hat + s z, with s = eta sigma' (1 - q^2)^(1/2) and
    q = alpha sigma'/(alpha' sigma). ``eta`` = 1 is DDPM's posterior, 0 is DDIM. Each seed has a CPU generator of its
    own, a different stream from that of its starting noise; without ``seeds`` samples are numbered from 0. Raises
    ``ValueError`` when run from clean to noisy.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta lies between 0 (DDIM) and 1 (DDPM), got {eta}")
    seeds = range(len(x)) if seeds is None else seeds
    generators = streams(seeds, stream=STEPS)
    for here, there in pairs(levels):
        q = here[0] * there[1] / (there[0] * here[1]) if here[1] > 0 and there[0] > 0 else math.inf
        if q > 1:
            raise ValueError("a stochastic solver runs from noisy to clean only: use ddim or heun to invert")
        x0 = yield Ask(x, here)
        fresh = eta * there[1] * math.sqrt(1 - q**2)
        kept = math.sqrt(max(there[1] ** 2 - fresh**2, 0.0))
        x = there[0] * x0 + kept * residual(x, x0, here)
        if fresh > 0:
            x = x + fresh * draw(generators, x.shape[1:], dtype=x.dtype, device=x.device)
        x = yield Step(x0, x)


def pairs(levels: Levels) -> Iterator[tuple[Level, Level]]:
    """Yield each step as (level it leaves, level it reaches)."""
    every = list(levels)
    return itertools.pairwise(every)


def residual(x: Tensor, x0: Tensor, level: Level) -> Tensor:
    """Return eps_hat = (x - alpha x0_hat) / sigma, the noise an endpoint estimate leaves over; zero at sigma = 0."""
    alpha, sigma = level
    return (x - alpha * x0) / sigma if sigma > 0 else torch.zeros_like(x)


def move(x: Tensor, x0: Tensor, here: Level, there: Level) -> Tensor:
    """Return alpha' x0_hat + sigma' eps_hat, written so that nothing is divided by alpha."""
    return there[0] * x0 + there[1] * residual(x, x0, here)


def _log_ratio(level: Level) -> float:
    alpha, sigma = level
    if sigma == 0:
        return math.inf
    return math.log(alpha / sigma) if alpha > NEAR_PURE_NOISE else -math.inf


def drive(solver: Solver, denoise: Denoiser, x: Tensor, levels: Levels, seeds: Sequence[int] | None) -> Iterator[Step]:
    """Yield each step of a solver, answering its questions without a graph; one sentence where it does otherwise."""
    steps, done = solver(x, levels, seeds), 0
    answer: Any = None
    says = f"a solver yields Ask(x, level) and {levels.steps} times Step(x0_hat, x), and {name_of(solver)}"
    while isinstance(steps, Generator):
        with torch.no_grad():  # never across a yield: whoever goes on from there has a mode of their own
            try:
                said = steps.send(answer)
            except StopIteration:
                break
            if isinstance(said, Ask):
                answer = denoise(said.x, *said.level)
                continue
        if isinstance(said, Step) and done < levels.steps and said.x.shape == said.x0.shape == x.shape:
            done, answer = done + 1, said.x
            yield said
        else:
            raise ValueError(f"{says} yielded something else")
    if done < levels.steps:
        raise ValueError(f"{says} ended after {done}")


def name_of(solver: Solver) -> str:
    """Return how a run says which solver made it, with the options bound to it."""
    if isinstance(solver, partial):
        options = ", ".join(f"{key}={value}" for key, value in solver.keywords.items())
        return f"{solver.func.__name__}({options})"
    return getattr(solver, "__name__", type(solver).__name__)
