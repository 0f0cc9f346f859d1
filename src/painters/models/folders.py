"""Diffusers folders: what kind of model one holds, how it was trained, and how its parts are read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from painters.levels import Schedule, discrete, flow
from painters.models.precision import Precision
from painters.models.registry import instead, read_json

NOT_YET = (
    "served are UNet2DModel pipelines (DDPM, DDIM) and Stable Diffusion 1.x and 2.x; Stable Diffusion XL, transformer "
    "(DiT) and flow pipelines are not served yet"
)

_NAME = r"(?:diffusion_pytorch_model|pytorch_model|model)"
_SHARD = r"(?:-\d+-of-\d+)?"

_MORE_THAN_TEXT = (
    "addition_embed_type",
    "class_embed_type",
    "num_class_embeds",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
)
"""UNet settings of other pipelines: XL, unCLIP, upscalers, image prompts, distilled guidance."""


def unet_folder(folder: Path) -> Path:
    """Return where a pipeline keeps its UNet: ``unet/``, or the folder itself in old pipelines and bare UNets."""
    return folder / "unet" if (folder / "unet").is_dir() else folder


def kind_of(folder: Path, name: object) -> Literal["pixel", "latent"]:
    """Return what a folder holds, judged by its parts: a pixel model, or a text-to-image latent model.

    Only configuration files are read. Raises ``FileNotFoundError`` for a folder of another layout or with a part
    missing, and ``ValueError`` for a pipeline that is not served; one sentence each.
    """
    index = read_json(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    named = {part for part, origin in index.items() if isinstance(origin, list) and any(origin)}
    parts = named | {path.name for path in folder.iterdir() if path.is_dir()}
    pipeline = index.get("_class_name", "pipeline")
    if parts & {"transformer", "text_encoder_2", "prior", "vqvae", "movq"}:
        raise ValueError(f"{name} is a {pipeline}: {NOT_YET}; {instead(latent=True)}")
    config_path = unet_folder(folder) / "config.json"
    if not config_path.is_file():
        raise FileNotFoundError(
            f"{name} is not a diffusers folder: there is no config.json in {config_path.parent.name}/; "
            f"{instead(latent='vae' in parts)}"
        )
    config = read_json(config_path)
    network = config.get("_class_name")
    if network == "UNet2DModel" and "vae" not in parts:
        return "pixel"
    if network != "UNet2DConditionModel":
        raise ValueError(f"{name} holds a {network}: {NOT_YET}; {instead(latent='vae' in parts)}")
    _check_latent(folder, config, name)
    return "latent"


def _check_latent(folder: Path, config: dict[str, Any], name: object) -> None:
    """Raise one sentence unless a text-to-image folder has the parts of Stable Diffusion 1.x and 2.x and no others."""
    other = instead(latent=True)
    if missing := [part for part in ("text_encoder", "tokenizer", "vae") if not (folder / part).is_dir()]:
        raise FileNotFoundError(
            f"{name} has a text-to-image network but no {missing[0].replace('_', ' ')} ({missing[0]}/): give the whole "
            f"pipeline, or {other}"
        )
    if found := [key for key in _MORE_THAN_TEXT if config.get(key) is not None]:
        raise ValueError(f"the network of {name} takes more than a text ({found[0]}): {NOT_YET}; {other}")
    encoder = read_json(folder / "text_encoder" / "config.json").get("model_type")
    if encoder != "clip_text_model":
        raise ValueError(f"the text encoder of {name} is a {encoder}, not CLIP: {NOT_YET}; {other}")
    vae = read_json(folder / "vae" / "config.json")
    if vae.get("_class_name") != "AutoencoderKL":
        raise ValueError(f"{name} decodes with a {vae.get('_class_name')}, not an AutoencoderKL: {NOT_YET}; {other}")
    if config.get("in_channels", 4) != vae.get("latent_channels", 4):
        raise ValueError(
            f"the network of {name} reads {config.get('in_channels')} channels and its VAE makes "
            f"{vae.get('latent_channels')} (inpainting and editing models see a second image): {NOT_YET}; {other}"
        )


def training_of(folder: Path, name: object) -> tuple[Schedule | None, str | None]:
    """Return the schedule and the prediction type that a folder's scheduler states; nothing is guessed.

    The scheduler may be any of diffusers' with ``alphas_cumprod``, or a flow-matching one; it is only read. With
    ``rescale_betas_zero_snr`` the last level is pure noise, alpha = 0, also for schedulers that keep a little signal
    there to avoid dividing by it.
    """
    path = next((p for p in (folder / "scheduler", folder) if (p / "scheduler_config.json").is_file()), None)
    if path is None:
        return None, None
    import diffusers

    config = read_json(path / "scheduler_config.json")
    cls = getattr(diffusers, str(config.get("_class_name")), None)
    if cls is None:
        raise ValueError(f"{name} names the scheduler {config.get('_class_name')!r}, which diffusers does not know")
    if "FlowMatch" in cls.__name__:
        return flow(shift=float(config.get("shift", 1.0))), "flow_prediction"
    scheduler = cls.from_config(config)
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(f"{name} was trained with {cls.__name__}, whose schedule this package cannot read yet")
    squares = scheduler.alphas_cumprod.double().clone()
    if scheduler.config.get("rescale_betas_zero_snr"):
        squares[-1] = 0.0
    return discrete(squares, name=str(scheduler.config.beta_schedule)), scheduler.config.prediction_type


def weight_files(names: Iterable[str], *, half: bool = False, pickled: bool = False) -> tuple[list[str], str | None]:
    """Return which of one part's files hold the weights to read, and their variant (``"fp16"`` or ``None``).

    Safetensors come first; ``pickled`` allows .bin files where there are none. The fp16 variant is taken if ``half``
    asks for it or if it is the only one. Empty if there is nothing to read.
    """
    names = sorted(names)
    for ending in ("safetensors", "bin") if pickled else ("safetensors",):
        full = [n for n in names if re.fullmatch(rf"{_NAME}{_SHARD}\.{ending}(\.index\.json)?", n)]
        small = [n for n in names if re.fullmatch(rf"{_NAME}(\.fp16{_SHARD}|{_SHARD}\.fp16)\.{ending}", n)]
        small += [n for n in names if re.fullmatch(rf"{_NAME}\.{ending}\.index\.fp16\.json", n)]
        if small and (half or not full):
            return small, "fp16"
        if full:
            return full, None
    return [], None


def wants_half(files: Mapping[str, int], precision: Precision, *, pickled: bool = False) -> bool:
    """Return whether a network will run in half precision, judged by the sizes in bytes of its files."""
    names, variant = weight_files(files, pickled=pickled)
    return precision(sum(files[name] for name in names) // (2 if variant else 4)) != torch.float32


def no_weights(name: object, *, latent: bool) -> FileNotFoundError:
    """Return the error for a model without safetensors weights."""
    return FileNotFoundError(
        f"{name} has no safetensors weights, and pickled ones can run code: pass pickled=True to read them with "
        f"torch's restricted loader, or {instead(latent=latent)}"
    )


def read_part(
    cls: Any, folder: Path, name: object, *, latent: bool, half: bool = False, pickled: bool = False
) -> torch.nn.Module:
    """Return one part of a pipeline, a class of diffusers or transformers with its weights, frozen, on the CPU.

    Raises ``FileNotFoundError`` where there are no weights that may be read, and ``ValueError`` where they are damaged
    or do not fit the configuration.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{name} has no config.json in {folder.name}/; {instead(latent=latent)}")
    files, variant = weight_files((p.name for p in folder.iterdir()), half=half, pickled=pickled)
    if not files:
        raise no_weights(name, latent=latent)
    safe = ".safetensors" in files[0]
    try:
        with quiet():
            network, report = cls.from_pretrained(
                str(folder), use_safetensors=safe, variant=variant, output_loading_info=True
            )
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"the weights of {name} cannot be read ({first}): fetch them again, or {instead(latent=latent)}"
        ) from error
    if wrong := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ValueError(
            f"the weights of {name} do not fit the config.json in {folder.name}/ ({len(wrong)} are missing or of "
            f"another shape): fetch them again, or {instead(latent=latent)}"
        )
    return network.eval().requires_grad_(False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers and diffusers from reporting progress; what is wrong with the weights is raised instead."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, (verbosity, bar) in zip(libraries, before):
            library.set_verbosity(verbosity)
            if bar:
                library.enable_progress_bar()
