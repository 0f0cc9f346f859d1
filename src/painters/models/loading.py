"""``load``: a trained model, ready to be used as a denoiser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from painters.denoiser import PREDICTIONS, Prediction
from painters.levels import Levels, Schedule, Spacing, discrete, flow
from painters.models.adapters import NetworkDenoiser, call_unet
from painters.models.registry import find, read_card
from painters.theory.gaussian import Gaussian

LARGE = 100_000_000
"""Parameters from which ``dtype="auto"`` uses half precision on a GPU."""

Prompt = int | str | Sequence[int | str]


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model: its denoiser, its levels, its data's moments, and its card.

    ``shape`` is that of one state, (C, H, W). ``moments`` is the Gaussian with the training data's mean and covariance,
    where known. ``classes`` names the classes of a conditional model; ``null_label`` is the one that means "no class",
    if it was trained with one. ``card`` says what the model is, how it was trained, and how well it denoises.
    """

    network: torch.nn.Module = field(repr=False)
    schedule: Schedule
    prediction: Prediction
    shape: tuple[int, ...]
    device: torch.device
    dtype: torch.dtype
    classes: tuple[str, ...] = ()
    null_label: int | None = None
    moments: Gaussian | None = field(default=None, repr=False)
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    def denoiser(self, prompt: Prompt | None = None, *, guidance: float = 1.0, grad: bool = False) -> NetworkDenoiser:
        """Return D(x, alpha, sigma), unconditional or for a class.

        ``prompt``: a class index or name, or one per image. ``guidance`` w gives out_u + w (out_c - out_u); at 1 the
        unconditional half is not computed. ``grad=True`` keeps the graph, for Jacobians. Raises ``ValueError`` for an
        unknown class, or a prompt or guidance that this model cannot take.
        """
        condition = unconditional = None
        if prompt is not None and not self.classes:
            raise ValueError("this model is unconditional: it takes no prompt")
        if guidance != 1.0 and prompt is None:
            raise ValueError("guidance other than 1 needs a prompt")
        if self.classes:
            if self.null_label is not None:
                unconditional = torch.tensor([self.null_label])
            elif prompt is None or guidance != 1.0:
                raise ValueError("this model was trained without a 'no class' label: give a prompt, and guidance 1")
            condition = unconditional if prompt is None else self._labels(prompt)
        return NetworkDenoiser(
            call_unet(self.network),
            self.schedule,
            self.prediction,
            self.device,
            dtype=self.dtype,
            condition=condition,
            unconditional=unconditional,
            guidance=guidance,
            channels_last=True,
            grad=grad,
        )

    def levels(self, n: int, *, spacing: Spacing | None = None) -> Levels:
        """Return the levels of an ``n``-step run of this model, see :meth:`painters.Levels.of`."""
        return Levels.of(self.schedule, n, spacing=spacing)

    def decode(self, x: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] for clean states (B, C, H, W) in [-1, 1], clamped."""
        return (x / 2 + 0.5).clamp(0, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Return clean states in [-1, 1] for images (B, C, H, W) in [0, 1]. Raises ``ValueError`` for another shape."""
        if images.shape[1:] != self.shape:
            raise ValueError(f"this model paints images of shape {self.shape}, got {tuple(images.shape[1:])}")
        return images * 2 - 1

    def _labels(self, prompt: Prompt) -> Tensor:
        several = isinstance(prompt, Sequence) and not isinstance(prompt, str)
        return torch.tensor([self._label(p) for p in (prompt if several else [prompt])])  # type: ignore[union-attr]

    def _label(self, prompt: int | str) -> int:
        names = [name.lower() for name in self.classes]
        if isinstance(prompt, str) and prompt.lower() in names:
            return names.index(prompt.lower())
        if isinstance(prompt, int) and 0 <= prompt < len(names):
            return prompt
        raise ValueError(
            f"there is no class {prompt!r}: give 0 to {len(names) - 1}, or one of {', '.join(self.classes)}"
        )


def load(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    prediction: Prediction | None = None,
    schedule: Schedule | None = None,
) -> Model:
    """Load a model by bundled name, local diffusers folder, or hub id.

    ``device="auto"`` takes CUDA, else MPS, else the CPU. ``dtype="auto"`` is float32, but half precision on a GPU for
    networks above 100 M parameters (bfloat16 from compute capability 8.0, else float16). Prediction type and
    schedule are read from the folder's scheduler; a bare UNet folder has none, so it needs both ``prediction`` and
    ``schedule``. Raises ``FileNotFoundError`` or ``ValueError`` with one sentence saying what is wrong and what to do.
    """
    folder = find(name)
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    if (folder / "vae").is_dir() or (folder / "transformer").is_dir():
        raise ValueError(f"{name}: only pixel-space UNet2DModel pipelines (DDPM, DDIM) are served so far")
    known, predicted = _training(folder, name)
    schedule, prediction = schedule or known, prediction or predicted
    if schedule is None or prediction is None:
        raise ValueError(
            f"{name} has no scheduler to say what its network predicts: pass prediction= (one of "
            f"{', '.join(PREDICTIONS)}) and schedule= (e.g. painters.levels.vp_linear())"
        )
    if prediction not in PREDICTIONS:
        raise ValueError(f"{name} predicts {prediction!r}, which is not one of {', '.join(PREDICTIONS)}")
    network = _network(unet_folder, name)
    where = choose_device(device)
    kind = _dtype(dtype, where, sum(p.numel() for p in network.parameters()))
    network.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if kind != torch.float32:
        network.to(kind)
    card = read_card(folder)
    config: Any = network.config
    size = (config.sample_size, config.sample_size) if isinstance(config.sample_size, int) else config.sample_size
    classes: tuple[str, ...] = ()
    if config.num_class_embeds:
        classes = tuple(card.get("classes") or (str(i) for i in range(config.num_class_embeds)))
    return Model(
        network.eval().requires_grad_(False),
        schedule,
        prediction,
        (config.in_channels, *size),
        where,
        kind,
        classes,
        card.get("null_label"),
        load_moments(folder / "moments.safetensors"),
        card,
    )


def load_moments(path: Path) -> Gaussian | None:
    """Return the Gaussian saved in ``path``, its eigenvectors made orthonormal to float64, or ``None``."""
    if not path.is_file():
        return None
    try:
        t = {key: value.double() for key, value in load_file(path).items()}
        U, R = torch.linalg.qr(t["U"])
        return Gaussian(t["mu"], U * R.diagonal().sign(), t["lam"], float(t["rest"]))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}): install the package again") from error


def _training(folder: Path, name: str | Path) -> tuple[Schedule | None, Prediction | None]:
    """Read schedule and prediction type from a folder's scheduler; nothing is guessed."""
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return None, None
    import diffusers

    config = json.loads(path.read_text())
    cls = getattr(diffusers, str(config.get("_class_name")), None)
    if cls is None:
        raise ValueError(f"{name} names the scheduler {config.get('_class_name')!r}, which diffusers does not know")
    scheduler = cls.from_config(config)
    if "FlowMatch" in cls.__name__:
        return flow(shift=float(config.get("shift", 1.0))), "flow_prediction"
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(f"{name} was trained with {cls.__name__}, whose schedule this package cannot read yet")
    schedule = discrete(scheduler.alphas_cumprod.double(), name=str(scheduler.config.beta_schedule))
    return schedule, scheduler.config.prediction_type


def _network(folder: Path, name: str | Path) -> torch.nn.Module:
    from diffusers.models.unets.unet_2d import UNet2DModel

    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{name} is not a diffusers folder: there is no config.json in {folder.name}/")
    kind = json.loads((folder / "config.json").read_text()).get("_class_name")
    if kind != "UNet2DModel":
        raise ValueError(f"{name} holds a {kind}; only UNet2DModel is served so far")
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{name} has no safetensors weights; pickled weights can run code and are not loaded")
    try:
        loaded: Any = UNet2DModel.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
        network, report = loaded
    except Exception as error:
        raise ValueError(f"the weights of {name} cannot be read ({_first_line(error)}): fetch them again") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        raise ValueError(f"the weights of {name} do not fit its config.json: {len(report['missing_keys'])} are missing")
    return network


def choose_device(device: str) -> torch.device:
    """Return the device of this name; ``"auto"`` takes CUDA, else MPS, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(dtype: str | torch.dtype, device: torch.device, parameters: int) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    names = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise ValueError(f"dtype is auto, {', '.join(names)} or a torch.dtype, got {dtype!r}")
    if device.type != "cuda" or parameters < LARGE:
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
