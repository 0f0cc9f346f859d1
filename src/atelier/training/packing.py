"""From a training run to a model folder: float16 weights, and a card with numbers; all of it or nothing."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from atelier.training.loop import Run
from atelier.training.recipes import Recipe
from painters.files import replacing


@contextlib.contextmanager
def publishing(out: str | Path) -> Iterator[Path]:
    """Yield an empty folder, whose files on success go to ``out``, each whole or not at all.

    The card goes last: a folder without one is no model, so none is taken for one before it is complete.
    """
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary)
        yield draft
        files = sorted(path for path in draft.rglob("*") if path.is_file())
        for file in sorted(files, key=lambda path: path.name == "card.json"):
            with replacing(Path(out) / file.relative_to(draft)) as target:
                shutil.copyfile(file, target)


@contextlib.contextmanager
def in_half(*networks: nn.Module) -> Iterator[None]:
    """Hold networks in float16 to write them; afterwards they are float32 with the rounded numbers.

    So what a card measures next is the model that was written.
    """
    for network in networks:
        network.half()
    yield
    for network in networks:
        network.float()


def pack_network(
    run: Run,
    recipe: Recipe[Any],
    n: int,
    out: str | Path,
    network: nn.Module,
    facts: Callable[[], dict[str, Any]],
    *,
    images: int | None = None,
) -> Path:
    """Write one of the workshop's own networks as :func:`~atelier.networks.load_network` reads it; return the folder.

    It holds the weights in float16 and a card; ``facts()`` of the latter, its ``kind`` among them, is measured on the
    rounded weights. ``n`` and ``images``: see :func:`card`.
    """
    with publishing(out) as draft:
        with in_half(network):
            weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
        found = facts()
        save_file(weights, draft / f"{found['kind']}.safetensors")
        more = {"network": recipe.network, "parameters": count(network)} | found
        write_json(card(run, recipe, n, more, images=images), draft / "card.json")
    return Path(out)


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write JSON for people to read. Raises ``ValueError`` if a number is not finite."""
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path.name} would hold numbers that are not finite, so nothing was written") from error
    path.write_text(text + "\n")


def card(
    run: Run, recipe: Recipe[Any], n: int, more: Mapping[str, Any], *, images: int | None = None
) -> dict[str, Any]:
    """Return the card of a run on ``n`` training images: what it is, how it was trained, and ``more`` about it.

    ``images``: how many the network saw, by default one batch a step.
    """
    hidden = ("name", "title", "classes", "moments")
    facts = {key: value for key, value in recipe.facts().items() if key not in hidden and not isinstance(value, dict)}
    images = run.step * recipe.pace.batch if images is None else images
    own = " --data FOLDER" if recipe.data == "folder" else ""
    if own and recipe.name == "pixels":
        own += f" --size {recipe.network['sample_size']}"
    return {
        "name": recipe.name,
        "title": recipe.title,
        "command": f"painters train {recipe.name}{own} --steps {run.step}",
        "training": facts | effort(run, images, n),
        **more,
        "curve": thinned(run.log),
        "snapshots": run.snapshots,
    }


def effort(run: Run, images: int, n: int) -> dict[str, Any]:
    """Return how long a run on ``n`` images was, that has seen ``images``, and on what machine."""
    return {
        "steps": run.step,
        "images": images,
        "epochs": round(images / n, 2),
        "hours": round(run.seconds / 3600, 2),
        "hardware": run.hardware,
    }


def count(*networks: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(value.numel() for network in networks for value in network.parameters())


def thinned(log: list[dict[str, Any]], points: int = 120) -> list[dict[str, Any]]:
    """Average a long training log over stretches, so that at most ``points`` remain."""
    size = -(-len(log) // points) if log else 1
    return [
        {"step": part[-1]["step"], "loss": round(sum(entry["loss"] for entry in part) / len(part), 5)}
        for part in (log[i : i + size] for i in range(0, len(log), size))
    ]
