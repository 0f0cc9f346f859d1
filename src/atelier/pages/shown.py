"""What a page shows beside text and figures: HTML that carries its styles and scripts in itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def notebook() -> Any | None:
    """Return the IPython shell this code runs in, or None outside a notebook."""
    try:
        from IPython import get_ipython
    except ImportError:  # the package without its extra `book`
        return None
    return get_ipython()


def displayed(thing: object) -> None:
    """Show something among the outputs of the running cell; in a terminal, print it."""
    if notebook() is None:
        print(thing)
        return
    from IPython.display import display

    display(thing)


def say(*sentences: str) -> None:
    """Set sentences whose numbers are computed, as text of the page: Markdown with ``$`` formulas.

    Each argument is a paragraph. In a terminal they are printed.
    """
    text = "\n\n".join(sentences)
    if notebook() is None:
        print(text)
        return
    from IPython.display import Markdown, display

    display(Markdown(text))
