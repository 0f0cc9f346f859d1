"""``load``: a trained model, ready to be used as a denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from painters.denoiser import PREDICTIONS, Prediction
from painters.levels import Schedule
from painters.models.folders import kind_of, read_part, training_of, unet_folder, wants_half
from painters.models.hub import find
from painters.models.latent import Codec, TextConditioner
from painters.models.model import Model
from painters.models.moments import load_moments
from painters.models.precision import choose_device, choose_dtype, move
from painters.models.registry import instead, read_card


def load(
    name: str | Path | torch.nn.Module,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    prediction: Prediction | None = None,
    schedule: Schedule | None = None,
    shape: Sequence[int] | None = None,
    classes: Sequence[str] = (),
    null_label: int | None = None,
    pickled: bool = False,
) -> Model:
    """Load a model by bundled name, local diffusers folder, or hub id, or take a module that is at hand.

    Folders and ids may hold a ``DDPMPipeline`` or ``DDIMPipeline``, a ``StableDiffusionPipeline`` (1.x or 2.x), or a
    bare UNet. A ``torch.nn.Module`` is called as module(x, t), or module(x, t, labels) with ``classes``, where t (B,)
    counts training indices (1000 sigma for flow matching), and is set to evaluation mode.

    ``device="auto"`` takes CUDA, else MPS, else the CPU. ``dtype="auto"`` is float32, but half precision on a GPU for
    networks above 100 M parameters (bfloat16 from compute capability 8.0, else float16); a VAE stays in float32. A
    module stays where and as it is. ``prediction`` and ``schedule`` are read from the folder's scheduler; a bare UNet
    and a module have none and need both, a module also its ``shape`` (C, H, W). ``classes`` names the classes of a
    class-conditional network and ``null_label`` its label for "no class", where no card says so. ``pickled`` allows
    .bin weights, read by torch's restricted loader. Raises ``FileNotFoundError`` or ``ValueError`` with one sentence
    saying what is wrong and what to do.
    """
    if isinstance(name, torch.nn.Module):
        return _adopt(name, device, dtype, prediction, schedule, shape, classes, null_label)
    where = choose_device(device)
    precision = partial(choose_dtype, dtype, where)
    folder, origin = find(name, precision=precision, pickled=pickled)
    latent = kind_of(folder, name) == "latent"
    known, predicted = training_of(folder, name)
    schedule, prediction = _checked(schedule or known, prediction or predicted, name)
    unet = unet_folder(folder)
    half = wants_half({p.name: p.stat().st_size for p in unet.iterdir() if p.is_file()}, precision, pickled=pickled)
    network = read_part(_unet_class(latent), unet, name, latent=latent, half=half, pickled=pickled)
    kind = precision(sum(p.numel() for p in network.parameters()))
    move(network, where, kind, channels_last=True)
    codec = text = None
    if latent:
        codec, text = _latent_parts(folder, name, where, kind, half=half, pickled=pickled)
        _check_widths(network, text, name)
    card = origin | read_card(folder)
    return Model(
        network,
        schedule,
        prediction,
        _shape(network, shape, name),
        where,
        kind,
        _classes(network, classes or card.get("classes") or (), name),
        card.get("null_label") if null_label is None else null_label,
        load_moments(path)[0] if (path := folder / "moments.safetensors").is_file() else None,
        card,
        codec,
        text,
    )


def _unet_class(latent: bool) -> Any:
    """The UNet's class, imported by itself: a pipeline would import every other model of diffusers."""
    if latent:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        return UNet2DConditionModel
    from diffusers.models.unets.unet_2d import UNet2DModel

    return UNet2DModel


def _latent_parts(
    folder: Path, name: object, device: torch.device, dtype: torch.dtype, *, half: bool, pickled: bool
) -> tuple[Codec, TextConditioner]:
    """Read the VAE, in float32, and the text encoder, in the network's dtype."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

    vae = read_part(AutoencoderKL, folder / "vae", name, latent=True, pickled=pickled)
    encoder = read_part(CLIPTextModel, folder / "text_encoder", name, latent=True, half=half, pickled=pickled)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
    except Exception as error:
        raise ValueError(
            f"the tokenizer of {name} cannot be read ({type(error).__name__}): fetch it again, or "
            f"{instead(latent=True)}"
        ) from error
    move(vae, device, torch.float32)
    move(encoder, device, dtype)
    return Codec(vae, device), TextConditioner(tokenizer, encoder, device)


def _check_widths(network: torch.nn.Module, text: TextConditioner, name: object) -> None:
    """Raise one sentence if the network cannot attend to what the text encoder makes."""
    wanted, given = _config(network).cross_attention_dim, text.encoder.config.hidden_size
    if wanted != given:
        raise ValueError(
            f"the network of {name} attends to text of width {wanted} and its text encoder makes {given}: they are "
            f"parts of different models; {instead(latent=True)}"
        )


def _adopt(
    module: torch.nn.Module,
    device: str | torch.device,
    dtype: str | torch.dtype,
    prediction: Prediction | None,
    schedule: Schedule | None,
    shape: Sequence[int] | None,
    classes: Sequence[str],
    null_label: int | None,
) -> Model:
    """Wrap a module that is at hand."""
    kind = type(module).__name__
    if kind == "UNet2DConditionModel":
        raise ValueError(f"a {kind} needs its text encoder and VAE: load the folder of the whole pipeline")
    schedule, prediction = _checked(schedule, prediction, kind)
    state, names = _shape(module, shape, kind), _classes(module, classes, kind)
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    where = first.device if device == "auto" else choose_device(device)
    numbers = first.dtype if dtype == "auto" else choose_dtype(dtype, where, 0)
    move(module.eval(), where, numbers)
    card = {"name": kind, "parameters": sum(p.numel() for p in module.parameters())}
    return Model(module, schedule, prediction, state, where, numbers, names, null_label, card=card, channels_last=False)


def _checked(schedule: Schedule | None, prediction: str | None, name: object) -> tuple[Schedule, Prediction]:
    """Return schedule and prediction type if both are known and fit each other; raise one sentence otherwise."""
    if schedule is None or prediction is None:
        raise ValueError(
            f"{name} has no scheduler to say what its network predicts: pass prediction= (one of "
            f"{', '.join(PREDICTIONS)}) and schedule= (e.g. painters.levels.vp_linear())"
        )
    if prediction not in PREDICTIONS:
        raise ValueError(f"{name} predicts {prediction!r}, which is not one of {', '.join(PREDICTIONS)}")
    needed = {"v_prediction": "vp", "flow_prediction": "flow"}.get(prediction, schedule.coordinates)
    if schedule.coordinates != needed:
        raise ValueError(f"{prediction} is defined on a {needed!r} schedule and {schedule.name!r} is not one")
    if schedule.steps is None and schedule.coordinates != "flow":
        raise ValueError(f"no network time is known for the continuous schedule {schedule.name!r}: give a discrete one")
    if prediction == "epsilon" and float(schedule.at(torch.ones((), dtype=torch.float64))[0]) == 0:
        raise ValueError(
            f"{name} predicts the noise on a schedule that ends in pure noise, where that says nothing about the "
            "image: there a model has to predict v or the sample"
        )
    return schedule, cast(Prediction, prediction)


def _shape(network: torch.nn.Module, shape: Sequence[int] | None, name: object) -> tuple[int, ...]:
    """Return the shape of a state: the one given, or the one in the network's configuration."""
    if shape is not None:
        return tuple(shape)
    config = _config(network)
    size, channels = getattr(config, "sample_size", None), getattr(config, "in_channels", None)
    if size is None or channels is None:
        raise ValueError(f"{name} does not say what it paints: pass shape=(channels, height, width) of one state")
    return (channels, size, size) if isinstance(size, int) else (channels, *size)


def _classes(network: torch.nn.Module, classes: Sequence[str], name: object) -> tuple[str, ...]:
    """Return the names of the classes: those given, or numbers for the labels of a diffusers network."""
    config = _config(network)
    labels = getattr(config, "num_class_embeds", None)
    if classes and config is not None and not labels:
        raise ValueError(f"{name} is not class-conditional: it takes no classes")
    return tuple(classes) or tuple(str(i) for i in range(labels or 0))


def _config(network: torch.nn.Module) -> Any:
    """The configuration of a diffusers network, ``None`` for other modules."""
    return getattr(network, "config", None) if hasattr(network, "register_to_config") else None
