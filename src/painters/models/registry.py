"""Where models come from: bundled with the package, a local folder, or the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BUNDLED = Path(__file__).parent / "bundled"


def bundled() -> tuple[str, ...]:
    """Return the names of the models that come with the package."""
    return tuple(sorted(path.parent.name for path in BUNDLED.glob("*/card.json")))


def find(name: str | Path) -> Path:
    """Return the folder of a model: a bundled name, an existing folder, or a hub id "owner/name" (downloaded once).

    Raises ``FileNotFoundError`` with one sentence, naming a bundled model to use instead, if there is none.
    """
    if str(name) in bundled():
        return BUNDLED / str(name)
    if Path(name).is_dir():
        return Path(name)
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise FileNotFoundError(
            f"there is no model {str(name)!r}: give a bundled name ({', '.join(bundled())}), a folder, "
            "or a hub id 'owner/name'"
        )
    return _download(str(name))


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of a model folder, empty if it has none. Raises ``ValueError`` if it cannot be read."""
    path = folder / "card.json"
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error})") from error


def _download(repository: str) -> Path:
    """Fetch configuration and safetensors weights of a hub repository; every failure is one sentence."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    instead = f"use a bundled model instead, e.g. {bundled()[0]!r}" if bundled() else "give a local folder instead"
    try:
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    except GatedRepoError as error:
        raise FileNotFoundError(
            f"{repository!r} is gated: accept its licence on the hub and run 'hf auth login', or {instead}"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(f"the hub has no model {repository!r}: check the spelling, or {instead}") from error
    except Exception as error:
        raise FileNotFoundError(
            f"{repository!r} could not be fetched from the hub ({type(error).__name__}): check the network, "
            f"or {instead}"
        ) from error
