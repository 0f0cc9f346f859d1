"""How each bundled model is made: data, network, and every number that training needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from atelier.data.controls import Variant
from atelier.data.images import FASHION_CLASSES
from painters.denoiser import Prediction

SMALL_UNET: dict[str, Any] = {
    "sample_size": 28,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 16,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
}

TINY_UNET = SMALL_UNET | {"block_out_channels": (16, 32, 32)}


def _rate(k: int, peak: float, warmup: int, decay_after: int) -> float:
    """Rise to ``peak`` over ``warmup`` steps, and fall as one over the root of the step from ``decay_after``."""
    return peak * min(1.0, (k + 1) / warmup) / max(1.0, k / decay_after) ** 0.5


_SAID = ("name", "title", "steps", "autoencoder_steps", "licence", "data_licence", "moments")


def fingerprint(recipe: Any, data: str, **more: Any) -> dict[str, Any]:
    """Return what the weights of a recipe are made of: every field that shapes them, and the digest of the data.

    Not the number of steps, since a run can go on, and not what is only said on the card. ``more``: what else went in,
    such as the digest of an autoencoder.
    """
    fields = {key: value for key, value in asdict(recipe).items() if key not in _SAID}
    return fields | {"data": data} | more


@dataclass(frozen=True)
class Recipe:
    """One training run: ``painters train NAME`` reads it, and the card repeats it.

    ``classes`` (with ``label_dropout``, the share of training images whose label is hidden) makes the network
    class-conditional; its last embedding means "no label". ``steps`` is where training stops by default; the learning
    rate is ``learning_rate / sqrt(max(step / decay_after, 1))`` and the weight average is scale-free, so that a run
    can be continued or stopped anywhere. ``ema_gamma``: the average weighs step i by i^gamma. ``moments``: how
    many PCs of the training data are shipped with the model, ``None`` for no moments. ``variant``: what was changed in
    the data for a control, see :mod:`atelier.data.controls`.
    """

    name: str
    title: str
    data: Literal["fashion", "scenes"]
    network: dict[str, Any] = field(repr=False)
    prediction: Prediction = "v_prediction"
    classes: tuple[str, ...] = ()
    label_dropout: float = 0.15
    steps: int = 8192
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200
    decay_after: int = 1500
    ema_gamma: float = 6.94
    seed: int = 0
    moments: int | None = 512
    variant: Variant | None = None
    licence: str = "MIT"
    data_licence: str = ""

    @property
    def null_label(self) -> int | None:
        """The label that means "no class", one past the last; ``None`` without classes."""
        return len(self.classes) if self.classes else None

    def rate(self, k: int) -> float:
        """The learning rate of step k."""
        return _rate(k, self.learning_rate, self.warmup, self.decay_after)


_FASHION = Recipe(
    name="fashion-ddpm",
    title="Fashion-MNIST, 28 x 28 grey, class-conditional, v-prediction",
    data="fashion",
    network=SMALL_UNET,
    classes=FASHION_CLASSES,
    steps=9376,
    data_licence="Fashion-MNIST, MIT, (c) 2017 Zalando SE",
)

_TWIN = replace(
    _FASHION,
    name="fashion-twin-v",
    title="Fashion-MNIST, short run of a tiny network, v-prediction (one of two twins)",
    network=TINY_UNET,
    classes=(),
    steps=1024,
    moments=None,
)

_SCENES = Recipe(
    name="scenes-ddpm",
    title="Painted scenes, 32 x 32 RGB, unconditional, v-prediction",
    data="scenes",
    network=SMALL_UNET | {"sample_size": 32, "in_channels": 3, "out_channels": 3},
    moments=384,
    steps=16_384,
    data_licence="scenes, drawn by atelier.data.scenes, MIT",
)

SMALL_AUTOENCODER: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 8,
    "block_out_channels": (16, 32, 64, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


SMALL_CONDITIONAL_UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (64, 96),
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "attention_head_dim": 4,
    "cross_attention_dim": 96,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
}

SMALL_TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 384,
    "projection_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 56,
}


@dataclass(frozen=True)
class LatentRecipe:
    """One training run of a small Stable Diffusion; what it shares with :class:`Recipe` means the same.

    ``kl_weight``, ``square_weight``, ``worst_weight`` and ``worst_share`` make the autoencoder's loss, see
    :func:`atelier.training.latents.train_autoencoder`. Each training image is described in ``caption_versions``
    wordings; ``caption_dropout`` is the share of captions replaced by the empty one, which
    classifier-free guidance needs.
    """

    name: str
    title: str
    data: Literal["scenes"]
    autoencoder: dict[str, Any] = field(repr=False)
    network: dict[str, Any] = field(repr=False)
    text_encoder: dict[str, Any] = field(repr=False)
    prediction: Prediction = "v_prediction"
    caption_dropout: float = 0.12
    caption_versions: int = 4
    autoencoder_steps: int = 8000
    autoencoder_batch: int = 16
    kl_weight: float = 1e-4
    square_weight: float = 4.0
    worst_weight: float = 0.25
    worst_share: float = 0.05
    steps: int = 16_384
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200
    decay_after: int = 1500
    ema_gamma: float = 6.94
    seed: int = 0
    licence: str = "MIT"
    data_licence: str = ""

    def rate(self, k: int) -> float:
        """The learning rate of step k."""
        return _rate(k, self.learning_rate, self.warmup, self.decay_after)


SCENES_SD = LatentRecipe(
    name="scenes-sd",
    title="Painted scenes, 64 x 64 RGB, a small Stable Diffusion, v-prediction",
    data="scenes",
    autoencoder=SMALL_AUTOENCODER,
    network=SMALL_CONDITIONAL_UNET,
    text_encoder=SMALL_TEXT_ENCODER,
    data_licence="scenes, drawn by atelier.data.scenes, MIT",
)

CONTROLS: tuple[Recipe, ...] = (
    replace(
        _FASHION,
        name="fashion-checkerboard",
        title="Fashion-MNIST times a checkerboard of signs: low and high frequencies exchanged",
        variant="checkerboard",
    ),
)
"""Models trained to test one prediction each."""

LATENT_RECIPES: dict[str, LatentRecipe] = {SCENES_SD.name: SCENES_SD}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _FASHION,
        _SCENES,
        _TWIN,
        replace(
            _TWIN,
            name="fashion-twin-eps",
            title="Fashion-MNIST, short run of a tiny network, noise prediction (one of two twins)",
            prediction="epsilon",
        ),
        *CONTROLS,
    )
}


@dataclass(frozen=True)
class ReaderRecipe:
    """One training run of a factor reader; what it shares with :class:`Recipe` means the same.

    ``states`` says what it reads: ``"pixels"``, or ``"latents"`` of the pictures under ``autoencoder``, a bundled model
    or a folder. ``size`` is that of the pictures. ``network`` holds the options of
    :class:`atelier.networks.readers.ReaderNetwork`; ``clean_share`` is the share of training states without noise.
    """

    name: str
    title: str
    data: Literal["fashion", "scenes"]
    size: int
    network: dict[str, Any] = field(repr=False)
    states: Literal["pixels", "latents"] = "pixels"
    autoencoder: str | None = None
    clean_share: float = 0.25
    steps: int = 4096
    batch: int = 64
    learning_rate: float = 2e-3
    warmup: int = 200
    decay_after: int = 2000
    ema_gamma: float = 6.94
    seed: int = 0
    licence: str = "MIT"
    data_licence: str = ""

    def rate(self, k: int) -> float:
        """The learning rate of step k."""
        return _rate(k, self.learning_rate, self.warmup, self.decay_after)


_SCENES_READER = ReaderRecipe(
    name="scenes-reader",
    title="Factor reader of painted scenes, 32 x 32 RGB, at any noise level",
    data="scenes",
    size=32,
    network={"patch": 2, "channels": (32, 64, 64)},
    data_licence=_SCENES.data_licence,
)

READERS: dict[str, ReaderRecipe] = {
    recipe.name: recipe
    for recipe in (
        _SCENES_READER,
        replace(
            _SCENES_READER,
            name="scenes-latent-reader",
            title="Factor reader of painted scenes, latents of scenes-sd, at any noise level",
            size=64,
            network={"patch": 1, "channels": (64, 64)},
            states="latents",
            autoencoder="scenes-sd",
        ),
        replace(
            _SCENES_READER,
            name="fashion-reader",
            title="Class reader of Fashion-MNIST, 28 x 28 grey, at any noise level",
            data="fashion",
            size=28,
            data_licence=_FASHION.data_licence,
        ),
    )
}


@dataclass(frozen=True)
class GanRecipe:
    """One training run of a GAN; what it shares with :class:`Recipe` means the same.

    ``network`` holds the options of :class:`~atelier.networks.generator.GeneratorNetwork`, ``penalty`` is the weight of
    the critic's squared gradient on real pictures. ``steps`` counts the critic's and the generator's, taken in turn.
    """

    name: str
    title: str
    data: Literal["fashion", "scenes"]
    size: int
    network: dict[str, Any] = field(repr=False)
    penalty: float = 0.1
    steps: int = 6144
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 100
    decay_after: int = 3000
    ema_gamma: float = 6.94
    seed: int = 0
    licence: str = "MIT"
    data_licence: str = ""

    def rate(self, k: int) -> float:
        """The learning rate of step k."""
        return _rate(k, self.learning_rate, self.warmup, self.decay_after)


FASHION_GAN = GanRecipe(
    name="fashion-gan",
    title="Fashion-MNIST, 28 x 28 grey, a small GAN with one style a block",
    data="fashion",
    size=28,
    network={"latent": 64, "channels": (96, 64, 32), "colours": 1, "side": 7},
    steps=32_768,
    data_licence=_FASHION.data_licence,
)

GANS: dict[str, GanRecipe] = {FASHION_GAN.name: FASHION_GAN}
