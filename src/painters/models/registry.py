"""What models there are: those bundled with the package, and cards of those known on the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

BUNDLED = Path(__file__).parent / "bundled"

Kind = Literal["pixel", "latent", "transformer"]


@dataclass(frozen=True)
class Card:
    """A model on the hub: what it is and how large.

    ``kind``: ``"pixel"`` (states are images), ``"latent"`` (text to image, states are latents of a VAE) or
    ``"transformer"``. ``side``: pixels a side of its pictures, in colour. ``parameters`` counts each part. ``mirrors``
    hold the same weights and are tried in order where ``id`` is missing; ``former`` are ids under which it is no longer
    found. ``None`` means not known. ``served``: whether :func:`painters.load` takes it.
    """

    id: str
    kind: Kind
    licence: str | None
    note: str
    side: int | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    mirrors: Sequence[str] = ()
    former: Sequence[str] = ()
    served: bool = True


@cache
def cards() -> tuple[Card, ...]:
    """Return the cards of the known hub models; any other id of a served layout can be loaded as well."""
    return tuple(Card(**card) for card in json.loads((BUNDLED.parent / "cards.json").read_text(encoding="utf-8")))


def card_of(name: str) -> Card | None:
    """Return the card of a hub id, of one of its mirrors or of one of its former ids; ``None`` if there is none."""
    return next((card for card in cards() if name in (card.id, *card.mirrors, *card.former)), None)


def bundled() -> tuple[str, ...]:
    """Return the names of the models that come with the package."""
    return tuple(name for name in _shipped() if (BUNDLED / name / "model_index.json").is_file())


def published() -> tuple[str, ...]:
    """Return the names of the models of which card and moments come with the package, and weights with another one."""
    return tuple(name for name in _shipped() if name not in bundled())


def _shipped() -> list[str]:
    return sorted(path.parent.name for path in BUNDLED.glob("*/card.json"))


def instead(*, latent: bool = False) -> str:
    """Return the end of an error's sentence: which bundled model to use, if possible one of the same kind."""
    controls = (name for name in bundled() if "variant" in read_card(BUNDLED / name).get("training", {}))
    models = sorted({*bundled()} - {*controls})
    names = [name for name in models if (BUNDLED / name / "vae").is_dir() == latent] or models
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
