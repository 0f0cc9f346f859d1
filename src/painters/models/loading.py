"""``load``: a trained model, ready to be used as a denoiser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from painters.denoiser import Prediction
from painters.models import folders, galaxies
from painters.models.fitting import classes_of, fitted, settled, shape_of
from painters.models.hub import find
from painters.models.latent import Codec, TextConditioner
from painters.models.model import Model
from painters.models.moments import load_moments
from painters.models.precision import Precision, choose_device, choose_dtype, move
from painters.models.registry import bundled, instead, published, read_card
from painters.schedules import Schedule
from painters.theory.gaussian import Gaussian

Parts = dict[str, Any]
"""The parts of a pipeline by their names in diffusers: ``unet``, and ``vae`` and others if there are; its training."""


def load(
    source: Any,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    prediction: Prediction | None = None,
    schedule: Schedule | None = None,
    shape: Sequence[int] | None = None,
    classes: Sequence[str] = (),
    null_label: int | None = None,
    moments: Gaussian | None = None,
    network: torch.nn.Module | Callable[[], torch.nn.Module] | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    pickled: bool = False,
) -> Model:
    """Load a model by name, folder, hub id or file of weights, or take a pipeline, module or function at hand.

    ``source`` is one of

    - a bundled name, a local diffusers folder, or a hub id "owner/name" (``revision``, ``token``), which hold a
      ``DDPMPipeline`` or ``DDIMPipeline``, a ``StableDiffusionPipeline`` (1.x or 2.x), or a bare UNet;
    - a published name, whose weights another package holds, see :mod:`painters.models.galaxies`;
    - such a pipeline as an object of diffusers, whose parts are taken and not copied, compiled ones too. These change:
      UNet, VAE and text encoder are set to evaluation mode and moved to one device, UNet and text encoder are cast to
      one dtype, those of the UNet unless told, and the VAE's weights no longer ask for gradients;
    - a module or function, called as network(x, t), or network(x, t, labels) with ``classes``: x in the coordinates of
      ``schedule``, t (B,) the time it gives (training indices, sigma, a process's own t). A module is set to evaluation
      mode, moved and cast in place if told; both are called once or twice on zeros, so that what does not fit is said
      now;
    - a single .safetensors file, with the ``network`` its weights belong to: a module, which is filled, or a function
      (a class) that makes one.

    ``device="auto"`` takes CUDA, else MPS, else the CPU. ``dtype="auto"`` is float32, but half precision on a GPU for
    networks above 100 M parameters (bfloat16 from compute capability 8.0, else float16); a VAE stays in float32. A
    network at hand stays where and as it is. ``prediction`` and ``schedule`` are read from a scheduler; without one
    both are needed, and for a module also its ``shape`` (C, H, W). ``classes`` names the classes of a class-conditional
    network and ``null_label`` its label for "no class", where no card says so. ``moments``: the Gaussian of its data's
    states, where none comes with it. ``pickled`` allows .bin weights, read by torch's restricted loader. Raises
    ``FileNotFoundError`` or ``ValueError`` with one sentence saying what is wrong and what to do; warns where a
    scheduler clips, which a run here does not.
    """
    file = isinstance(source, (str, Path)) and Path(source).is_file()
    stored = isinstance(source, (str, Path)) and not file
    here = not isinstance(source, str) or source in (*bundled(), *published()) or Path(source).exists()
    if (network is not None and not file) or (here and (revision, token) != (None, None)):
        raise ValueError("network= is for a file of weights, revision= and token= are for an id of the hub")
    if stored:
        name, where = str(source), choose_device(device)
        precision = partial(choose_dtype, dtype, where)
        parts, card = _stored(source, precision, pickled, {"revision": revision, "token": token})
        kind = precision(sum(p.numel() for p in parts["unet"].parameters()))
    else:
        parts, name = _at_hand(source, network)
        numbers = list(getattr(parts["unet"], "parameters", list)())
        first = next((p for p in numbers if p.is_floating_point()), torch.empty(0))
        where = first.device if device == "auto" else choose_device(device)
        kind = first.dtype if dtype == "auto" else choose_dtype(dtype, where, 0)
        card = {"name": name, "parameters": sum(p.numel() for p in numbers)}
    schedule, prediction, unfollowed = settled(parts["training"], prediction, schedule, name)
    null_label = card.get("null_label") if null_label is None else null_label
    vae: Any = parts.get("vae")
    kinds = {"unet": kind, "text_encoder": kind, "vae": torch.float32 if stored or vae is None else vae.dtype}
    for part, own in kinds.items():
        if isinstance(parts.get(part), torch.nn.Module):
            move(parts[part].eval(), where, own, channels_last=stored and part == "unet")
    if vae is not None:
        vae.requires_grad_(False)  # else every decoded picture would carry a graph
    model = Model(
        parts["unet"],
        schedule,
        prediction,
        shape_of(parts["unet"], shape or card.get("shape"), name),
        where,
        kind,
        classes_of(parts["unet"], tuple(classes or card.get("classes") or ()), null_label, name),
        null_label,
        moments or parts.get("moments"),
        card,
        None if vae is None else Codec(vae, where),
        None if vae is None else TextConditioner(parts["tokenizer"], parts["text_encoder"], where),
        channels_last=stored,
        limits=tuple(card.get("limits", (-1.0, 1.0))),
        spacing=card.get("spacing"),
    )
    return fitted(model, unfollowed, name)


def _stored(
    source: str | Path, precision: Precision, pickled: bool, access: dict[str, Any]
) -> tuple[Parts, dict[str, Any]]:
    """The parts of a model that a name, folder or id stands for, on the CPU, and its card with the facts on moments."""
    name = str(source)
    folder, origin = find(source, precision, pickled, access)
    card = origin | read_card(folder)
    parts = galaxies.parts(name, card) if name in published() else _read(folder, name, precision, pickled)
    if (moments := folder / "moments.safetensors").is_file():
        parts["moments"], card["moments"] = load_moments(moments)
    return parts, card


def _read(folder: Path, name: str, precision: Precision, pickled: bool) -> Parts:
    """Read the parts of a diffusers folder to the CPU.

    Each class is imported by itself: a pipeline would import every other model of diffusers.
    """
    latent = folders.kind_of_folder(folder, name) == "latent"
    read = partial(folders.read_part, name=name, latent=latent, pickled=pickled)
    unet = folders.unet_folder(folder)
    sizes = {path.name: path.stat().st_size for path in unet.iterdir() if path.is_file()}
    half = folders.wants_half(sizes, precision, pickled=pickled)
    parts: Parts = {"training": folders.training_of(folders.scheduler_of(folder, name))}
    if latent:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel as UNet
        from transformers import CLIPTextModel, CLIPTokenizer

        parts["vae"] = read(AutoencoderKL, folder / "vae")
        parts["text_encoder"] = read(CLIPTextModel, folder / "text_encoder", half=half)
        try:
            parts["tokenizer"] = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
        except Exception as error:
            raise ValueError(
                f"the tokenizer of {name} cannot be read ({type(error).__name__}): fetch it again, or "
                f"{instead(latent=True)}"
            ) from error
    else:
        from diffusers.models.unets.unet_2d import UNet2DModel as UNet
    parts["unet"] = read(UNet, unet, half=half)
    return parts


def _at_hand(source: Any, network: torch.nn.Module | Callable[[], torch.nn.Module] | None) -> tuple[Parts, str]:
    """The parts of a file of weights, pipeline, module or function, and its name. Raises one sentence for others."""
    if isinstance(source, (str, Path)):
        source = _filled(Path(source), network)
    name = getattr(source, "__name__", type(_uncompiled(source)).__name__)
    pipelines = sys.modules.get("diffusers.pipelines.pipeline_utils")  # what was not imported cannot be at hand
    if pipelines is not None and isinstance(source, pipelines.DiffusionPipeline):
        parts = {part: value for part, value in source.components.items() if value is not None}
        configs: dict[str, dict[str, Any]] = {"tokenizer": {}} if "tokenizer" in parts else {}
        for part in {"unet", "text_encoder", "vae"} & parts.keys():
            config = parts[part].config  # a dict in diffusers, an object in transformers
            config = config.to_dict() if hasattr(config, "to_dict") else config
            configs[part] = {**config, "_class_name": type(_uncompiled(parts[part])).__name__}
        folders.kind_of(f"the {name}", name, set(parts), configs)
        return parts | {"training": folders.training_of(parts.get("scheduler"))}, name
    if name == "UNet2DConditionModel":
        raise ValueError(f"a {name} needs its text encoder and VAE: load the folder of the whole pipeline, or pass it")
    if isinstance(source, type) or not callable(source):
        raise ValueError(
            "load takes a bundled name, a folder, a hub id, a .safetensors file, a pipeline of diffusers, a module or "
            f"a function, got {f'the class {name}: call it first' if isinstance(source, type) else f'a {name}'}"
        )
    return {"unet": source, "training": folders.Training()}, name


def _filled(path: Path, network: torch.nn.Module | Callable[[], torch.nn.Module] | None) -> torch.nn.Module:
    """The module that a file of weights belongs to, with these weights. Raises one sentence if they do not fit."""
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path} is a file and no model: give the diffusers folder it belongs to, or a .safetensors file with "
            "network= (of a pickled checkpoint, read the weights yourself with torch.load(..., weights_only=True))"
        )
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}): fetch it again") from error
    if network is None:
        raise ValueError(
            f"{path} holds weights alone, {len(weights)} tensors such as {min(weights, default='none')!r}: pass "
            "network= (the module, or the class, that they belong to), or give the whole diffusers folder instead"
        )
    module = network if isinstance(network, torch.nn.Module) else network()
    plain, weights = _uncompiled(module), {k.removeprefix("_orig_mod."): v for k, v in weights.items()}
    own = plain.state_dict()
    wrong = own.keys() ^ weights.keys() | {k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape}
    if wrong:
        raise ValueError(
            f"the weights in {path} do not fit a {type(plain).__name__}: {len(wrong)} are missing, left over or of "
            f"another shape, such as {min(wrong)!r}"
        )
    plain.load_state_dict(weights)
    return module


def _uncompiled(part: Any) -> Any:
    """What torch.compile wrapped, or the part itself: a wrapper has another class, and other names of its weights."""
    return getattr(part, "_orig_mod", part)
