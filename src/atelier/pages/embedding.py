"""Styles and scripts that a page carries in itself, since it may load nothing from elsewhere."""

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


def embedded(name: str) -> str:
    """Return ``NAME.css`` or ``NAME.js`` of the assets as an element of a page."""
    element = {"css": "style", "js": "script"}[name.rpartition(".")[2]]
    return f"<{element}>{(ASSETS / name).read_text(encoding='utf-8')}</{element}>"
