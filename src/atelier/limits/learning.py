"""How the agreement with the theory changes while a network learns.

A network passes through the Gaussian on its way: stopped there, it would agree with every prediction of this theory.
So an agreement counts only once it has stopped changing.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.evidence import geometry
from atelier.evidence.emergence import Emergence
from atelier.statistics import Interval, bootstrap, mean
from atelier.subject import Settings, Subject
from painters.levels import Levels
from painters.models import Model
from painters.theory.gaussian import emergence
from painters.trajectory import Trajectory

PCS = 64
"""How many leading PCs the slope is measured on."""


def snapshots(model: Model, run: Path) -> Iterator[tuple[int, Model]]:
    """Yield (step, model) for the averaged weights that training kept in ``run``, in the order of their steps.

    Raises ``FileNotFoundError`` if there are none, and ``ValueError`` if they belong to another network.
    """
    files = {int(found[1]): p for p in run.glob("average-*.pt") if (found := re.fullmatch(r"average-(\d+)", p.stem))}
    if not files:
        raise FileNotFoundError(f"{run} holds no snapshots (average-STEP.pt): give the folder of the training run")
    for step, path in sorted(files.items()):
        state = torch.load(path, map_location=model.device, weights_only=True)
        try:
            yield step, _with_weights(model, state)
        except RuntimeError as error:
            raise ValueError(f"{path} belongs to another network than this model's") from error


def _with_weights(model: Model, state: dict[str, Tensor]) -> Model:
    """The model with other weights: those of its network, or of network and text encoder."""
    if model.text is None:
        network = copy.deepcopy(model.network)
        network.load_state_dict(state)
        return replace(model, network=network)

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}

    network, encoder = copy.deepcopy(model.network), copy.deepcopy(model.text.encoder)
    network.load_state_dict(part("unet"))
    encoder.load_state_dict(part("text_encoder"))
    return replace(model, network=network, text=replace(model.text, encoder=encoder))


def half_time_slope(energy: Tensor, final: Tensor, lam: Tensor, levels: Levels) -> Interval:
    """Return the slope of ln sigma* against ln sqrt(lam), with its interval over seeds; 1 in theory.

    ``energy`` (N, B, K): squared coordinates of the endpoint estimates at the first N of ``levels``, ``final`` (B, K):
    those of the images. sigma* is where half of a component's energy stands, see :class:`Emergence`.
    """
    states = list(levels)[: len(energy)]
    theory = torch.stack([emergence(lam, level) for level in states])
    logsnr = levels.logsnr[: len(energy)]

    def fit(rows: Any) -> float:
        pick = torch.as_tensor(rows).long().flatten()
        half = Emergence(lam, logsnr, energy[:, pick].mean(1) / final[pick].mean(0), theory).half_sigma()
        seen = half.isfinite()
        if int(seen.sum()) < 3:
            return float("nan")
        x, y = lam[seen].log() / 2, half[seen].log()
        return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())

    return bootstrap(torch.arange(len(final)), fit, draws=200)[0]


def agreement(trajectory: Trajectory, exact: Trajectory, subject: Subject) -> dict[str, Interval]:
    """Return the numbers by which a run agrees with the theory of its data, with intervals over seeds.

    ``exact`` is the Gaussian's own run from the same noise. ``slope``: see :func:`half_time_slope`. ``endpoint pcs``:
    variance of the endpoint estimate's curve in its first two components. ``plane``: share of the state outside the
    plane of noise and image, mean over levels. ``early``: squared distance of the endpoint estimate from the exact
    one, over that of the exact one from the mean, at the noise level sqrt(lam_1) at which half of PC 1 stands.
    """
    g = subject.gaussian
    k = min(PCS, len(g.lam))
    energy = torch.stack([g.project(x0)[:, :k].square() for x0 in trajectory.x0]).double()
    final = g.project(trajectory.final)[:, :k].square().double()
    i = int((trajectory.levels.logsnr[:-1] + g.lam[0].double().log().cpu()).abs().argmin())
    there, here = exact.x0[i].flatten(1).double(), trajectory.x0[i].flatten(1).double()
    apart = (here - there).square().sum(1) / (there - g.mu.to(there)).square().sum(1)
    return {
        "slope": half_time_slope(energy, final, g.lam[:k].double(), trajectory.levels),
        "endpoint pcs": mean(geometry.dimension(trajectory.x0).cumulative[:, 1]),
        "plane": mean(geometry.plane_residual(trajectory).mean(0)),
        "early": mean(apart),
    }


def plateaued(values: list[Interval]) -> bool:
    """Return whether the intervals of the last two snapshots overlap; ``False`` for fewer than five snapshots."""
    if len(values) < 5:
        return False
    last, before = values[-1], values[-2]
    return last.low <= before.high and before.low <= last.high


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Measure the agreement at every snapshot of ``settings.run``, and of the weights as they are, beside the theory's.

    Keys: ``steps`` (training steps, the last is the model itself), ``numbers`` (name -> one interval for each step),
    ``theory`` (name -> interval of the exact Gaussian's sampler), ``plateaued`` (name -> bool), ``levels``. ``None``
    without a run folder.
    """
    if settings.run is None or subject.model is None:
        return None
    seeds = settings.seeds[: settings.pick(ci=4, book=64, full=200)]

    def run(who: Subject) -> Trajectory:
        return who.run(seeds, steps=25, solver="dpmpp2m")

    exact = run(subject.theory())
    final = int(subject.model.card["training"]["steps"])
    models = [pair for pair in snapshots(subject.model, settings.run) if 64 <= pair[0] < final]
    found: dict[int, dict[str, Interval]] = {}
    for step, model in [*models, (final, subject.model)]:
        found[step] = agreement(run(replace(subject, model=model, denoise=model.denoiser())), exact, subject)
    names = list(found[final])
    return {
        "steps": list(found),
        "numbers": {name: [found[step][name].record() for step in found] for name in names},
        "theory": {name: value.record() for name, value in agreement(exact, exact, subject).items()},
        "plateaued": {name: plateaued([found[step][name] for step in found]) for name in names},
        "early level": float(subject.gaussian.lam[0].sqrt()),
        "solver": "dpmpp2m, 25 steps",
    }
