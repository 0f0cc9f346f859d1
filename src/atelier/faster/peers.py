"""The samplers of diffusers, and of azula where it is installed: the one place where others' solvers are stepped.

A scheduler of diffusers is made for the target's own levels (``trained_betas``; a continuous schedule is discretised to
1000 times), set to as many steps as take exactly the asked number of calls, and stepped by its own code around our
denoiser. All is as shipped but for two things, both in the scheduler's favour: the denoiser is asked at the very level
where the scheduler believes to be, not at the nearest training time, and the run starts from the very state that unit
noise stands for at its first level. Azula's samplers walk through our own levels, and a last call makes the image, as
the reference ends too.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
import math
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

from atelier.faster.targets import FAR, SPACINGS, Target
from painters.denoiser import Denoiser
from painters.levels import Level, Levels, Spacing
from painters.schedules import Coordinates

Paint = Callable[[Denoiser, Tensor], Tensor]
"""(denoiser, unit noise) -> images."""
Peer = Callable[[Target, int], Paint | None]
"""(target, calls) -> how it paints with them, ``None`` if it cannot take exactly so many."""

FAMILIES = tomllib.loads((Path(__file__).parent / "peers.toml").read_text())


def peers(*, flows: bool = False) -> dict[str, Peer]:
    """Return every peer by its name and, after a comma, its grid; ``flows``: those of models of flow matching."""
    found: dict[str, Peer] = {}
    for state in ("flow", "multistep") if flows else ("vp", "ve", "multistep"):
        for name, made in FAMILIES[state].items():
            takes = inspect.signature(getattr(diffusers, f"{made['class']}Scheduler").__init__).parameters
            grids = {grid: extra for grid, extra in FAMILIES["grids"].items() if extra.keys() <= takes.keys()}
            if flows and state == "multistep":
                grids = {"flow": {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}}
            elif "timestep_spacing" not in takes:
                grids = {"its own": {}, **grids}
            units = "flow" if flows else "ve" if state == "ve" else "vp"
            for grid, extra in grids.items():
                found[f"{name}, {grid}"] = partial(_of_diffusers, units=units, made=made | extra)
    if importlib.util.find_spec("azula") is not None:
        for name, made in FAMILIES["azula"].items():
            found |= {f"{name}, {spacing}": partial(_of_azula, spacing=spacing, **made) for spacing in SPACINGS}
    return found


def _of_diffusers(target: Target, calls: int, *, units: Coordinates, made: dict[str, Any]) -> Paint | None:
    cls = getattr(diffusers, f"{made['class']}Scheduler")
    options = {key: value for key, value in made.items() if key != "class"}
    if made["class"] == "SASolver":
        options["tau_func"] = lambda t: 0  # no fresh noise: the ODE
    if units != "flow":
        squares = (1 / (1 + target.table.square())).numpy()
        betas = 1 - squares / np.concatenate([[1.0], squares[:-1]])
        options |= {"trained_betas": betas, "num_train_timesteps": len(betas), "prediction_type": "v_prediction"}
    for steps in range(calls, 0, -1):  # a step takes one call or more
        scheduler = cls(**options)
        try:
            scheduler.set_timesteps(steps)
        except ValueError:  # too few: the Runge-Kutta start of PNDM takes four steps
            return None
        if len(scheduler.timesteps) == calls:
            return partial(_stepped, target, units, scheduler)
    return None


def _stepped(target: Target, units: Coordinates, scheduler: Any, denoise: Denoiser, noise: Tensor) -> Tensor:
    """Paint with a scheduler as it was set; it is left as it is."""
    scheduler, x = copy.deepcopy(scheduler), noise
    if hasattr(scheduler, "set_begin_index"):  # without, a first time that comes twice is taken for the second
        scheduler.set_begin_index(0)
    for i, t in enumerate(scheduler.timesteps):
        alpha, sigma = _level(target, units, scheduler, i, int(t))
        size = math.hypot(alpha, sigma)
        x = x if i else x * size
        x0 = denoise(x, alpha, sigma)
        eps = (x - alpha * x0) / sigma
        if units == "ve":
            scheduler.scale_model_input(x, t)  # Euler insists
        output = eps - x0 if units == "flow" else (alpha * eps - sigma * x0) / size
        x = scheduler.step(output, t, x).prev_sample
    return x


def _level(target: Target, units: Coordinates, scheduler: Any, i: int, t: int) -> Level:
    """The level of call i: that of its own sigma, or where a scheduler has none that of the training time t."""
    sigmas = getattr(scheduler, "sigmas", None)
    ratio = float(target.table[t] if sigmas is None else sigmas[i])
    if units == "flow":
        return 1 - ratio, ratio
    high, low = target.range
    ratio = min(max(ratio, low), high)  # single precision leaves the range
    return (1.0, ratio) if units == "ve" else (1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio))


class _Asked:
    """A denoiser as azula's samplers ask it: at a time that falls from 1 to 0 in equal steps, one to a level."""

    def __init__(self, denoise: Denoiser, levels: Levels) -> None:
        self.denoise, self.levels = denoise, levels

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
        i = ((1 - t) * (self.levels.steps - 1)).round().long()
        return self.levels.alpha[i].clamp(min=1 / FAR), self.levels.sigma[i]  # azula divides by alpha

    def __call__(self, x: Tensor, t: Tensor) -> SimpleNamespace:
        return SimpleNamespace(mean=self.denoise(x, *map(float, self.schedule(t))))


def _of_azula(target: Target, calls: int, *, spacing: Spacing, **made: Any) -> Paint | None:
    from azula import sample  # pyright: ignore[reportMissingImports]

    cls = getattr(sample, f"{made.pop('class')}Sampler")
    steps, rest = divmod(calls - 1, 2 if cls is sample.HeunSampler else 1)
    if steps == 0 or rest or not target.allows(spacing):
        return None
    levels = Levels.of(target.schedule, steps + 1, spacing=spacing)

    def paint(denoise: Denoiser, noise: Tensor) -> Tensor:
        ask = _Asked(denoise, levels)
        x = cls(ask, steps=steps, silent=True, dtype=torch.float64, **made)(levels.start(noise))
        return ask(x, torch.zeros(())).mean

    return paint
