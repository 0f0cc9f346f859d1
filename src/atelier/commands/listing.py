"""``painters list``: the models there are, bundled, by others, and known on the hub."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from atelier import networks
from atelier.commands.options import Commands
from painters.models.folders import unet_folder
from painters.models.galaxies import INSTALL, installed
from painters.models.registry import BUNDLED, bundled, cards, published, read_card, read_json

ORIGINS = {
    "bundled": "Bundled with painters",
    "no diffusion": "Bundled, but no diffusion models: a GAN, and readers that say what pictures show",
    "by others": "By others, their weights in another package",
    "hub": "Known on the Hugging Face hub, fetched when they are loaded; any other of these layouts is loaded as well",
}


def rows() -> list[dict[str, Any]]:
    """Return all models, JSON-serialisable.

    ``shape`` (C, H, W) is that of pictures, or of what a reader reads; ``here`` whether the weights are here and can be
    opened. ``None`` where that is not known.
    """
    found = [_ours(BUNDLED / name, "bundled") for name in bundled()]
    for kind in ("generator", "reader"):
        found += [_ours(networks.BUNDLED / name, "no diffusion", kind) for name in networks.bundled(kind)]
    found += [_ours(BUNDLED / name, "by others", here=installed()) for name in published()]
    for card in cards():
        facts = {"name": card.id, "origin": "hub", "kind": card.kind, "shape": card.side and [3, card.side, card.side]}
        facts |= {"parameters": sum(card.parameters.values()) or None, "here": None}
        found.append(facts | {"note": ("" if card.served else "only by painters.record: ") + card.note})
    return found


def _ours(folder: Path, origin: str, kind: str = "pixel", *, here: bool | None = None) -> dict[str, Any]:
    card, latent = read_card(folder), (folder / "vae").is_dir()
    path = (folder / "vae" if latent else unet_folder(folder)) / "config.json"
    config = read_json(path) if path.is_file() else {}
    shape = [config["out_channels"], *[config["sample_size"]] * 2] if config else card["shape"]
    here = all(map(_opens, folder.rglob("*.safetensors"))) if here is None else here
    facts = {"name": folder.name, "origin": origin, "kind": "latent" if latent else kind, "shape": shape}
    return facts | {"parameters": card["parameters"], "here": here, "note": card["title"]}


def _opens(path: Path) -> bool:
    """Whether a file of weights can be opened, which holds its head against its length."""
    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


def command(options: argparse.Namespace) -> int:
    """Do what ``painters list`` says."""
    found, wide = rows(), shutil.get_terminal_size((120, 24)).columns
    if options.format == "json":
        print(json.dumps(found, indent=1))
        return 0
    for origin, title in ORIGINS.items():
        mine = [row for row in found if row["origin"] == origin]
        width = max(len(row["name"]) for row in mine)
        print(f"{title}:")
        for row in mine:
            millions = (row["parameters"] or 0) / 1e6
            size = f"{millions:.{millions < 10:d}f} M" if millions else "?"
            note = row["note"] if row["here"] is not False else f"NOT HERE: {INSTALL}"
            line = f"  {row['name']:{width}}  {'x'.join(map(str, row['shape'] or '?')):11}  {size:>6}  "
            print(textwrap.fill(line + note, wide, subsequent_indent=" " * (len(line) if len(line) < wide - 30 else 6)))
    return 0


def add(commands: Commands) -> None:
    """Add ``list`` to a command line."""
    models = commands.add_parser("list", help="the models there are", description="List the models there are.")
    models.add_argument("--format", choices=["text", "json"], default="text", help="default: %(default)s")
    models.set_defaults(command=command)
