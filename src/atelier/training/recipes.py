"""How each bundled model is made: data, network, and every number that training needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from atelier.data.controls import Variant
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
    classes: Sequence[str] = ()
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


FILE: dict[str, Any] = json.loads(Path(__file__).with_name("networks.json").read_text())
"""The recipes, each with what it says differently from the one it is ``like``; a latent model's scheduler and index."""
KINDS = {"pixels": Pixels, "text-to-image": TextToImage, "reader": Reading, "gan": Gan}


def _recipes(rows: dict[str, dict[str, Any]]) -> Iterator[Recipe[Any]]:
    for name, row in rows.items():
        base = rows.get(row.pop("like", ""), {})
        for key, value in row.items():
            row[key] = base.get(key, {}) | value if isinstance(value, dict) else value
        rows[name] = row = base | row
        parts = {"kind": KINDS[row["of"]](**row["kind"]), "pace": Pace(**row["pace"])}
        yield Recipe(name=name, **{key: value for key, value in row.items() if key != "of"} | parts)


RECIPES: dict[str, Recipe[Any]] = {recipe.name: recipe for recipe in _recipes(FILE["recipes"])}
