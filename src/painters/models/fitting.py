"""Whether a network, its schedule and its other parts fit each other: said at loading, not found out later."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from painters.denoiser import PREDICTIONS, Prediction
from painters.models.adapters import call_unet, doubled
from painters.models.folders import Training
from painters.models.model import Model
from painters.models.registry import instead
from painters.schedules import Schedule


def settled(
    known: Training, prediction: str | None, schedule: Schedule | None, name: object
) -> tuple[Schedule, Prediction, dict[str, Any]]:
    """Return schedule, prediction and what is not followed, the caller's word before the scheduler's.

    Raises ``ValueError`` with one sentence if something is unknown or does not fit; warns where a scheduler clips.
    """
    schedule, prediction = schedule or known.schedule, prediction or known.prediction
    if schedule is None or prediction is None:
        raise ValueError(
            f"{name} {known.problem} to say what its network predicts: pass prediction= (one of "
            f"{', '.join(PREDICTIONS)}) and schedule= (e.g. painters.schedules.vp_linear())"
        )
    if not isinstance(schedule, Schedule):
        raise ValueError(f"schedule= is a schedule such as painters.schedules.edm(), got {schedule!r}")
    if prediction not in PREDICTIONS:
        raise ValueError(f"{name} predicts {prediction!r}, which is not one of {', '.join(PREDICTIONS)}")
    needed = {"v_prediction": "vp", "flow_prediction": "flow"}.get(prediction, schedule.coordinates)
    if schedule.coordinates != needed:
        raise ValueError(f"{prediction} is defined on a {needed!r} schedule and {schedule.name!r} is not one")
    schedule.time(*schedule.at(torch.ones(1, dtype=torch.float64)))  # raises if it has no clock
    if prediction in ("epsilon", "score") and schedule.ends[0] == torch.inf:
        raise ValueError(
            f"{name} predicts {prediction} on a schedule that ends in pure noise, where that says nothing about the "
            "image: there a model has to predict v or the sample"
        )
    if clips := [key for key in ("clip_sample", "thresholding") if key in known.unfollowed]:
        warnings.warn(f"{name} asks for {' and '.join(clips)}, which leaves the PF-ODE: it is not done", stacklevel=3)
    return schedule, cast(Prediction, prediction), known.unfollowed


def shape_of(network: Any, shape: Sequence[int] | None, name: object) -> tuple[int, ...]:
    """Return the shape of a state: the one given, or the one in the network's configuration."""
    config = _config(network)
    size: Any = getattr(config, "sample_size", None)
    channels: Any = getattr(config, "in_channels", None)
    if shape is None and (size is None or channels is None):
        raise ValueError(f"{name} does not say what it paints: pass shape=(channels, height, width) of one state")
    shape = (shape,) if isinstance(shape, int) else shape
    found = tuple(shape or (channels, *((size, size) if isinstance(size, int) else size)))
    if not all(isinstance(n, int) and n > 0 for n in found) or channels not in (None, found[0]):
        reads = "" if channels is None else f", of {channels} channels here"
        raise ValueError(
            f"shape= is that of one state of {name}, whole numbers such as (3, 32, 32){reads}, got {shape}"
        )
    return found


def classes_of(network: Any, classes: tuple[str, ...], null_label: int | None, name: object) -> tuple[str, ...]:
    """Return the names of the classes: those given, or numbers for the labels of a diffusers network."""
    config = _config(network)
    kind, labels = getattr(config, "class_embed_type", None), getattr(config, "num_class_embeds", None)
    if kind not in (None, "timestep"):
        raise ValueError(
            f"the network of {name} takes vectors and no labels for classes ({kind}): wrap it in a function "
            "network(x, t, labels) that makes them, and pass classes="
        )
    if kind is None and classes and config is not None and not labels:
        raise ValueError(f"{name} is not class-conditional: it takes no classes")
    if kind == "timestep" and not classes:
        raise ValueError(f"the network of {name} takes class numbers and does not say how many: pass classes=")
    if kind is None and labels and max(len(classes) - 1, null_label or 0) >= labels:
        raise ValueError(f"{name} has {labels} labels, too few for {len(classes)} classes and null_label {null_label}")
    return classes or tuple(str(i) for i in range(labels or 0))


def fitted(model: Model, unfollowed: dict[str, Any], name: object) -> Model:
    """Return the model with its ``times`` and its card complete, after checking what its network returns.

    A diffusers network says so itself; any other is called. Raises ``ValueError`` with one sentence.
    """
    config = _config(model.network)
    if model.moments is not None and model.moments.dim != math.prod(model.shape):
        raise ValueError(f"the moments have {model.moments.dim} dimensions, and a state of {name} is {model.shape}")
    if model.text is not None and config.cross_attention_dim != model.text.encoder.config.hidden_size:
        raise ValueError(
            f"the network of {name} attends to text of width {config.cross_attention_dim} and its text encoder makes "
            f"{model.text.encoder.config.hidden_size}: they are parts of different models; {instead(latent=True)}"
        )
    if config is None:
        made, times = _tried(model, name)
        model = replace(model, times=times)
    else:
        made = (config.out_channels, *model.shape[1:])
    notes = dict(unfollowed)
    if doubled(made, model.shape):
        notes["learned_variance"] = "the first half of the output is used"
    if model.codec is not None and model.codec.vae.dtype != torch.float32:
        notes["vae"] = f"runs in {model.codec.vae.dtype}, as it was given: half precision overflows in some"
    return replace(model, card=model.card | {"unfollowed": notes}) if notes else model


def _tried(model: Model, name: object) -> tuple[tuple[int, ...], tuple[torch.dtype, ...]]:
    """Return the shape that a network makes of one state, and the dtypes of time that it takes.

    It is called on two zeros, with a time and a label for each, and leaves the random streams and its buffers as they
    were. A table of times takes integers only, a linear layer numbers of its own dtype only: each is tried in turn.
    """
    x = torch.zeros(2, *model.shape, device=model.device, dtype=model.dtype)
    t = model.schedule.time(*model.schedule.at(torch.ones(2, dtype=torch.float64)))
    labels = [len(model.classes) - 1, model.null_label or 0]
    condition = torch.tensor(labels, device=model.device) if model.classes else None
    buffers: Any = getattr(model.network, "buffers", tuple)
    before = [(buffer, buffer.clone()) for buffer in buffers()]
    kinds = [torch.int64] if model.schedule.steps is not None else []
    kinds += [torch.promote_types(model.dtype, torch.float32), model.dtype]
    times: list[torch.dtype] = []
    output, problem = x, ""
    with torch.no_grad(), torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        for kind in dict.fromkeys(kinds):
            try:
                output = call_unet(model.network)(x, t.to(kind).to(model.device), condition)
            except Exception as error:
                problem = problem or f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
                continue
            times.append(kind)
            if kind.is_floating_point:
                break
        for buffer, value in before:
            buffer.copy_(value)
    if not times:
        labelled = f", labels) with labels {labels}" if model.classes else ")"
        raise ValueError(f"{name} cannot be called as network(x, t{labelled} on states {model.shape} ({problem})")
    return tuple(output.shape[1:]), tuple(times)


def _config(network: Any) -> Any:
    """The configuration of a diffusers network, ``None`` for other modules."""
    return getattr(network, "config", None) if hasattr(network, "register_to_config") else None
