"""What a page shows beside text and figures: HTML that carries its styles and scripts in itself."""

from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True, repr=False)
class Shown:
    """The same as text, for a terminal, and as HTML, for notebooks and the site."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def embedded(name: str) -> str:
    """Return ``NAME.css`` or ``NAME.js`` of the assets as an element; a page may load nothing from elsewhere."""
    element = {"css": "style", "js": "script"}[name.rpartition(".")[2]]
    return f"<{element}>{(ASSETS / name).read_text(encoding='utf-8')}</{element}>"
