"""How each bundled model is made: data, network, and every number that training needs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from atelier.data.controls import Variant
from atelier.data.images import FASHION_CLASSES
from painters.denoiser import Prediction

Kind = TypeVar("Kind", "Pixels", "TextToImage", "Reading", "Gan")


@dataclass(frozen=True)
class Pace:
    """How long and how fast a network is trained.

    ``steps`` is where training stops by default; it may stop or go on anywhere, since neither the learning rate nor the
    average knows of an end. ``ema_gamma``: the average weighs step i by i^gamma, which leaves the last eighth or so of
    a run whatever its length: 6.94 has a relative width of 10 %. Source: Karras et al. (2024).
    """

    steps: int = 8192
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200
    decay_after: int = 1500
    ema_gamma: float = 6.94
    seed: int = 0

    def rate(self, k: int) -> float:
        """Return the learning rate of step k: it rises over ``warmup`` steps, and falls as k^(-1/2) in the end."""
        return self.learning_rate * min(1.0, (k + 1) / self.warmup) / max(1.0, k / self.decay_after) ** 0.5


@dataclass(frozen=True)
class Pixels:
    """A denoiser of pictures; its network is a diffusers ``UNet2DModel``.

    ``classes`` (with ``label_dropout``, the share of training images whose label is hidden) makes it class-conditional;
    its last embedding means "no label". ``moments``: how many PCs of the training data are shipped with it, ``None``
    for no moments. ``variant``: what was changed in the data for a control, see :mod:`atelier.data.controls`.
    """

    prediction: Prediction = "v_prediction"
    classes: tuple[str, ...] = ()
    label_dropout: float = 0.15
    moments: int | None = 512
    variant: Variant | None = None

    @property
    def null_label(self) -> int | None:
        """The label that means "no class", one past the last; ``None`` without classes."""
        return len(self.classes) if self.classes else None


@dataclass(frozen=True)
class TextToImage:
    """A small Stable Diffusion; its network is a diffusers ``UNet2DConditionModel`` on an ``AutoencoderKL``'s latents.

    ``kl_weight``, ``square_weight``, ``worst_weight`` and ``worst_share`` make the autoencoder's loss, see
    :func:`atelier.training.latents.train_autoencoder`. Each training image is described in ``caption_versions``
    wordings; ``caption_dropout`` is the share of captions replaced by the empty one, which classifier-free guidance
    needs.
    """

    autoencoder: dict[str, Any] = field(repr=False)
    text_encoder: dict[str, Any] = field(repr=False)
    prediction: Prediction = "v_prediction"
    caption_dropout: float = 0.12
    caption_versions: int = 4
    autoencoder_steps: int = 8000
    autoencoder_batch: int = 16
    # enough that no latent channel dies, little enough that the picture decides what a latent says
    kl_weight: float = 1e-4
    square_weight: float = 4.0
    worst_weight: float = 0.25
    worst_share: float = 0.05


@dataclass(frozen=True)
class Reading:
    """A factor reader of pictures of ``size`` pixels, an :class:`~atelier.networks.readers.ReaderNetwork`.

    ``states`` says what it reads: ``"pixels"``, or ``"latents"`` of the pictures under ``autoencoder``, a bundled model
    or a folder. ``clean_share`` is the share of training states without noise.
    """

    size: int
    states: Literal["pixels", "latents"] = "pixels"
    autoencoder: str | None = None
    clean_share: float = 0.25


@dataclass(frozen=True)
class Gan:
    """A GAN of pictures of ``size`` pixels; what paints is a :class:`~atelier.networks.generator.GeneratorNetwork`.

    ``penalty`` is the weight of the critic's squared gradient on real pictures. Steps are the critic's and the
    generator's in turn.
    """

    size: int
    penalty: float = 0.1


@dataclass(frozen=True)
class Recipe(Generic[Kind]):
    """One training run: ``painters train NAME`` reads it, and the card repeats it.

    ``data`` names its data set, ``"folder"`` a reader's own pictures. ``network`` holds the options of the network,
    ``kind`` what only this kind of network needs.
    """

    name: str
    title: str
    data: Literal["fashion", "scenes", "folder"]
    network: dict[str, Any] = field(repr=False)
    kind: Kind
    pace: Pace = Pace()
    licence: str = "MIT"
    data_licence: str = ""

    def facts(self) -> dict[str, Any]:
        """Return all fields side by side, those of ``kind`` and ``pace`` included."""
        fields = asdict(self)
        kind, pace = fields.pop("kind"), fields.pop("pace")
        return fields | kind | pace

    def fingerprint(self, **made_of: str) -> dict[str, Any]:
        """Return what the weights are made of: every field that shapes them, and the digests ``made_of``.

        Not the number of steps, since a run can go on, and not what is only said on the card. ``data=``: the digest of
        the data; others for what else went in, such as an autoencoder. States in use hold these very keys and values.
        """
        said = ("name", "title", "data", "steps", "autoencoder_steps", "licence", "data_licence", "moments")
        return {key: value for key, value in self.facts().items() if key not in said} | made_of


_NETWORKS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("networks.json").read_text())
"""Options of the networks that diffusers and transformers build."""

_FASHION = Recipe(
    name="fashion-ddpm",
    title="Fashion-MNIST, 28 x 28 grey, class-conditional, v-prediction",
    data="fashion",
    network=_NETWORKS["unet-28"],
    kind=Pixels(classes=FASHION_CLASSES),
    pace=Pace(steps=9376),
    data_licence="Fashion-MNIST, MIT, (c) 2017 Zalando SE",
)

_TWIN = replace(
    _FASHION,
    name="fashion-twin-v",
    title="Fashion-MNIST, short run of a tiny network, v-prediction (one of two twins)",
    network=_NETWORKS["unet-28"] | {"block_out_channels": (16, 32, 32)},
    kind=Pixels(moments=None),
    pace=Pace(steps=1024),
)

_SCENES_SD = Recipe(
    name="scenes-sd",
    title="Painted scenes, 64 x 64 RGB, a small Stable Diffusion, v-prediction",
    data="scenes",
    network=_NETWORKS["unet-latents"],
    kind=TextToImage(autoencoder=_NETWORKS["autoencoder"], text_encoder=_NETWORKS["text-encoder"]),
    pace=Pace(steps=16_384),
    data_licence="scenes, drawn by atelier.data.scenes, MIT",
)

_SCENES_READER = Recipe(
    name="scenes-reader",
    title="Factor reader of painted scenes, 32 x 32 RGB, at any noise level",
    data="scenes",
    network={"patch": 2, "channels": (32, 64, 64)},
    kind=Reading(size=32),
    pace=Pace(steps=4096, learning_rate=2e-3, decay_after=2000),
    data_licence=_SCENES_SD.data_licence,
)

RECIPES: dict[str, Recipe[Any]] = {
    recipe.name: recipe
    for recipe in (
        _FASHION,
        replace(
            _FASHION,
            name="fashion-checkerboard",
            title="Fashion-MNIST times a checkerboard of signs: low and high frequencies exchanged",
            kind=replace(_FASHION.kind, variant="checkerboard"),
        ),
        _TWIN,
        replace(
            _TWIN,
            name="fashion-twin-eps",
            title="Fashion-MNIST, short run of a tiny network, noise prediction (one of two twins)",
            kind=replace(_TWIN.kind, prediction="epsilon"),
        ),
        Recipe(
            name="pixels",
            title="a reader's own pictures, unconditional, v-prediction",
            data="folder",
            network=_NETWORKS["unet-28"],
            kind=Pixels(),
            data_licence="the reader's own",
        ),
        _SCENES_SD,
        Recipe(
            name="fashion-gan",
            title="Fashion-MNIST, 28 x 28 grey, a small GAN with one style a block",
            data="fashion",
            network={"latent": 64, "channels": (96, 64, 32), "colours": 1, "side": 7},
            kind=Gan(size=28),
            pace=Pace(steps=32_768, batch=32, warmup=100, decay_after=3000),
            data_licence=_FASHION.data_licence,
        ),
        replace(
            _SCENES_READER,
            name="fashion-reader",
            title="Class reader of Fashion-MNIST, 28 x 28 grey, at any noise level",
            data="fashion",
            kind=Reading(size=28),
            data_licence=_FASHION.data_licence,
        ),
        _SCENES_READER,
        replace(
            _SCENES_READER,
            name="scenes-latent-reader",
            title="Factor reader of painted scenes, latents of scenes-sd, at any noise level",
            network={"patch": 1, "channels": (64, 64)},
            kind=Reading(size=64, states="latents", autoencoder="scenes-sd"),
        ),
    )
}
