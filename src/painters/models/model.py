"""``Model``: a trained model, loaded, whatever its kind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from painters.denoiser import Prediction, floating
from painters.levels import Levels, Spacing
from painters.models.adapters import NetworkDenoiser, call_unet
from painters.models.latent import Codec, TextConditioner
from painters.schedules import Schedule
from painters.theory.gaussian import Gaussian

Prompt = int | str | Sequence[int | str]


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Return twelve hexadecimal digits by which these tensors are known."""
    digest = hashlib.sha256()
    for value in tensors:
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained model: its denoiser, its levels, its data's moments, and its card.

    ``shape`` is that of one state, (C, H, W): an image of a pixel model, a latent of a latent one, which has a
    ``codec`` between the two and a ``text`` encoder for its prompts. ``moments`` is the Gaussian with the mean and
    covariance of the training data's states, where known. ``classes`` names the classes of a class-conditional model;
    ``null_label`` is the one that means "no class", if it was trained with one. ``card`` says what the model is, where
    it came from, how it was trained, how well it denoises, and under ``"unfollowed"`` what of its scheduler a run does
    not follow. ``times``: the dtypes of time that the network takes. ``limits``: the values of a pixel model's states
    that are black and white. ``spacing``: that of its levels where none is asked for.
    """

    network: Callable[..., Any]
    schedule: Schedule
    prediction: Prediction
    shape: tuple[int, ...]
    device: torch.device
    dtype: torch.dtype
    classes: tuple[str, ...] = ()
    null_label: int | None = None
    moments: Gaussian | None = None
    card: dict[str, Any] = field(default_factory=dict)
    codec: Codec | None = None
    text: TextConditioner | None = None
    channels_last: bool = True
    times: tuple[torch.dtype, ...] = (torch.int64, torch.float32)
    limits: tuple[float, float] = (-1.0, 1.0)
    spacing: Spacing | None = None

    def __repr__(self) -> str:
        takes = "a text" if self.text is not None else f"one of {len(self.classes)} classes" if self.classes else ""
        return (
            f"Model({self.card.get('name', type(self.network).__name__)}: states {self.shape}, {self.prediction} on "
            f"{self.schedule.name}{f', takes {takes}' if takes else ''}; {self.device}, {self.dtype})"
        )

    @property
    def weights(self) -> str:
        """Twelve hexadecimal digits of all weights, the autoencoder's and text encoder's included.

        Raises ``ValueError`` for a plain function, which has none to tell it from another.
        """
        parts = [self.network, *([self.codec.vae] if self.codec else []), *([self.text.encoder] if self.text else [])]
        if not all(isinstance(part, torch.nn.Module) for part in parts):
            raise ValueError("a model made of a plain function has no weights to know it by: give a module")
        return fingerprint(value for part in parts for value in part.state_dict().values())

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of one image; ``shape`` itself for a pixel model."""
        return self.shape if self.codec is None else self.codec.image_shape(self.shape)

    def denoiser(
        self,
        prompt: Prompt | None = None,
        *,
        guidance: float = 1.0,
        negative: str | Sequence[str] | None = None,
        grad: bool = False,
    ) -> NetworkDenoiser:
        """Return D(x, alpha, sigma), unconditional, for a class, or for a text.

        ``prompt``: a class index (NumPy's or torch's too) or name, or a text; one, or one per image. ``None`` is the
        unconditional denoiser: no class, or the empty text. ``guidance`` w gives out_u + w (out_c - out_u), both halves
        in one batch; at 1 the unconditional half is not computed. ``negative``: a text to guide away from, in the place
        of the empty one. ``grad=True`` keeps the graph, for Jacobians. Raises ``ValueError`` for an unknown class, a
        text that is too long, or a prompt or guidance that this model cannot take.
        """
        guided = guidance != 1.0
        if negative is not None and self.text is None:
            raise ValueError("only a text-to-image model takes a negative prompt")
        if negative is not None and not guided:
            raise ValueError("a negative prompt works through guidance: give a guidance other than 1")
        if prompt is not None and not self.classes and self.text is None:
            raise ValueError("this model is unconditional: it takes no prompt")
        if guided and prompt is None and negative is None:
            raise ValueError("guidance other than 1 needs a prompt")
        condition, unconditional = self._conditions(prompt, negative, guided)
        return NetworkDenoiser(
            call_unet(self.network),
            self.schedule,
            self.prediction,
            self.device,
            dtype=self.dtype,
            condition=condition,
            unconditional=unconditional,
            guidance=guidance,
            shape=self.shape,
            channels_last=self.channels_last,
            grad=grad,
            times=self.times,
        )

    def levels(self, n: int, *, spacing: Spacing | None = None) -> Levels:
        """Return the levels of an ``n``-step run of this model, see :meth:`painters.Levels.of`."""
        return Levels.of(self.schedule, n, spacing=spacing or self.spacing)

    def decode(self, x: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1], clamped, for clean states (B, *shape).

        Pixel models map their ``limits``, mostly -1 and 1, to 0 and 1; latent models go through their VAE, in float32.
        Raises ``ValueError`` for states of another shape.
        """
        if tuple(floating(x, "a state").shape[1:]) != self.shape:
            raise ValueError(f"the states of this model have shape {self.shape}, got {tuple(x.shape[1:])}")
        low, high = self.limits
        return ((x - low) / (high - low)).clamp(0, 1) if self.codec is None else self.codec.decode(x)

    def encode(self, images: Tensor) -> Tensor:
        """Return clean states (B, *shape) for images (B, *image_shape) in [0, 1].

        Raises ``ValueError`` for another shape, and for bytes or pictures in other units.
        """
        if not isinstance(images, Tensor) or not len(images):
            raise ValueError(f"images to encode are a tensor (B, C, H, W) in [0, 1], got {images!r:.40}")
        low, high = (float(v) for v in torch.aminmax(images.detach()))
        # a tenth beyond, for what interpolation or an edit overshoots; never as far as -1 or 255
        if not images.is_floating_point() or not (low >= -0.1 and high <= 1.1):
            raise ValueError(f"images to encode lie in [0, 1], got {images.dtype} {low:.4g} to {high:.4g}: scale them")
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(f"this model paints images of shape {self.image_shape}, got {tuple(images.shape[1:])}")
        black, white = self.limits
        return images * (white - black) + black if self.codec is None else self.codec.encode(images)

    def _conditions(
        self, prompt: Prompt | None, negative: str | Sequence[str] | None, guided: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """What the network is given, and what it is guided away from."""
        if self.text is not None:
            condition = self.text("" if prompt is None else prompt)  # type: ignore[arg-type]
            return condition, self.text(negative or "") if guided else None
        if not self.classes:
            return None, None
        if self.null_label is None:
            if prompt is None or guided:
                raise ValueError("this model was trained without a 'no class' label: give a prompt, and guidance 1")
            return self._labels(prompt), None
        nothing = torch.tensor([self.null_label])
        return nothing if prompt is None else self._labels(prompt), nothing

    def _labels(self, prompt: Prompt) -> Tensor:
        several = getattr(prompt, "ndim", 0) or (isinstance(prompt, Sequence) and not isinstance(prompt, str))
        return torch.tensor([self._label(p) for p in (prompt if several else [prompt])])  # type: ignore[union-attr]

    def _label(self, prompt: Any) -> int:
        names = [name.lower() for name in self.classes]
        prompt = prompt.tolist() if hasattr(prompt, "tolist") else prompt  # a number of Python's for one of NumPy's
        if isinstance(prompt, str) and prompt.lower() in names:
            return names.index(prompt.lower())
        index = int(prompt) if isinstance(prompt, str) and prompt.isdecimal() else prompt
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(names):
            return index
        raise ValueError(
            f"there is no class {prompt!r}: give 0 to {len(names) - 1}, or one of {', '.join(self.classes)}"
        )
