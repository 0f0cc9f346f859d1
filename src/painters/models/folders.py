"""Diffusers folders and pipelines: what kind of model one is, how it was trained, and how its parts are read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from painters.models.precision import Precision
from painters.models.registry import Kind, instead, read_json
from painters.schedules import Schedule, discrete, flow

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

_FOREIGN = {"transformer", "text_encoder_2", "prior", "vqvae", "movq", "controlnet", "low_res_scheduler"}
"""Parts of pipelines that are not served."""

_UNFOLLOWED = ("clip_sample", "thresholding", "use_dynamic_shifting", "use_karras_sigmas", "use_exponential_sigmas")
"""Scheduler settings that a run of ours does not follow where they are on."""


def unet_folder(folder: Path) -> Path:
    """Return where a pipeline keeps its UNet: ``unet/``, or the folder itself in old pipelines and bare UNets."""
    return folder / "unet" if (folder / "unet").is_dir() else folder


def kind_of_folder(folder: Path, name: object) -> Kind:
    """Return what a folder holds, judged by its configuration files alone, see :func:`kind_of`.

    Raises ``FileNotFoundError`` for a folder of another layout, and what :func:`kind_of` raises.
    """
    index = read_json(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    named = {part for part, origin in index.items() if isinstance(origin, list) and any(origin)}
    parts = {path.name for path in folder.iterdir() if path.is_dir()}
    unet = unet_folder(folder) / "config.json"
    if not unet.is_file() and not (parts | named) & _FOREIGN:
        raise FileNotFoundError(
            f"{name} is not a diffusers folder: there is no config.json in {unet.parent.name}/; "
            f"{instead(latent='vae' in parts)}"
        )
    paths = {"unet": unet} | {part: folder / part / "config.json" for part in ("text_encoder", "vae")}
    configs = {part: read_json(path) for part, path in paths.items() if path.is_file()}
    configs |= {"tokenizer": {}} if "tokenizer" in parts else {}
    return kind_of(name, str(index.get("_class_name", "pipeline")), parts | named, configs)


def kind_of(name: object, pipeline: str, parts: set[str], configs: Mapping[str, Mapping[str, Any]]) -> Kind:
    """Return what a pipeline of these ``parts`` is: a pixel model, or a text-to-image latent model.

    ``configs`` are those of UNet, text encoder and VAE, with their ``_class_name``, and one for a tokenizer. Raises
    ``FileNotFoundError`` where a part is missing, and ``ValueError`` for a pipeline that is not served.
    """
    config, other = configs.get("unet", {}), instead(latent=True)
    network = config.get("_class_name")
    foreign = parts & _FOREIGN or network is None
    if network == "UNet2DModel" and "vae" not in parts and not foreign:
        return "pixel"
    if foreign or network != "UNet2DConditionModel":
        what = f"is a {pipeline}" if foreign else f"holds a {network}"
        raise ValueError(f"{name} {what}: {NOT_YET}; {other}")
    if missing := [part for part in ("text_encoder", "tokenizer", "vae") if part not in configs]:
        raise FileNotFoundError(
            f"{name} has a text-to-image network but no {missing[0].replace('_', ' ')} ({missing[0]}/): give the whole "
            f"pipeline, or {other}"
        )
    more = next((key for key in _MORE_THAN_TEXT if config.get(key) is not None), None)
    text, vae = configs["text_encoder"].get("model_type"), configs["vae"].get("_class_name")
    reads, makes = config.get("in_channels", 4), configs["vae"].get("latent_channels", 4)
    wrong = {
        f"has a network that takes more than a text ({more})": more is not None,
        f"has a text encoder that is a {text}, not CLIP": text != "clip_text_model",
        f"decodes with a {vae}, not an AutoencoderKL": vae != "AutoencoderKL",
        f"reads {reads} channels where its VAE makes {makes} (inpainting and editing see two images)": reads != makes,
    }
    if any(wrong.values()):
        raise ValueError(f"{name} {next(what for what in wrong if wrong[what])}: {NOT_YET}; {other}")
    return "latent"


@dataclass(frozen=True)
class Training:
    """What a scheduler says of a network's training, and which of its settings a run of ours does not follow."""

    schedule: Schedule | None = None
    prediction: str | None = None
    unfollowed: dict[str, Any] = field(default_factory=dict)
    problem: str = "has no scheduler"


def scheduler_of(folder: Path, name: object) -> Any:
    """Return a folder's scheduler, ``None`` if it has none. ``ValueError`` for one that diffusers does not know."""
    path = next((p for p in (folder / "scheduler", folder) if (p / "scheduler_config.json").is_file()), None)
    return None if path is None else scheduler_from(read_json(path / "scheduler_config.json"), name)


def scheduler_from(config: Mapping[str, Any], name: object) -> Any:
    """Return the scheduler of a configuration. ``ValueError`` for one that diffusers does not know."""
    import diffusers

    cls = getattr(diffusers, str(config.get("_class_name")), None)
    if cls is None:
        raise ValueError(f"{name} names the scheduler {config.get('_class_name')!r}, which diffusers does not know")
    with quiet():
        return cls.from_config(config)


def training_of(scheduler: Any) -> Training:
    """Return what a scheduler of diffusers says of the training, nothing for ``None``; nothing is guessed.

    Any scheduler with ``alphas_cumprod`` will do, or a flow-matching one; it is only read. With
    ``rescale_betas_zero_snr`` the last level is pure noise, alpha = 0, also for schedulers that keep a little signal
    there to avoid dividing by it.
    """
    if scheduler is None:
        return Training()
    kind, config = type(scheduler).__name__, scheduler.config
    unfollowed = {key: config[key] for key in _UNFOLLOWED if config.get(key)}
    if config.get("timestep_spacing", "trailing") != "trailing":
        unfollowed["timestep_spacing"] = config["timestep_spacing"]
    shift = config.get("shift" if "FlowMatch" in kind else "flow_shift")
    if ("FlowMatch" in kind or config.get("use_flow_sigmas")) and shift is not None:
        schedule = flow(shift=float(shift), time_scale=float(config["num_train_timesteps"]))
        return Training(schedule, "flow_prediction", unfollowed)
    if not hasattr(scheduler, "alphas_cumprod"):
        return Training(problem=f"has a {kind}, whose levels are not read here,")
    squares = scheduler.alphas_cumprod.double().clone()
    if config.get("rescale_betas_zero_snr"):
        squares[-1] = 0.0
    prediction = config.get("prediction_type")
    if config.get("predict_epsilon") is not None:  # how it was said before diffusers 0.10, and it took precedence
        prediction = "epsilon" if config["predict_epsilon"] else "sample"
    schedule = discrete(squares, name=str(config.get("beta_schedule")))
    if config.get("timestep_type") == "continuous" and prediction == "v_prediction":  # as EDM, of Euler's alone
        schedule = replace(schedule, clock=lambda alpha, sigma: torch.log(sigma / alpha) / 4)
    return Training(schedule, prediction, unfollowed)


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
