"""Sphinx extension of the book: plain docstrings, a list of versions, and formulas on every page."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from docutils import nodes
from minutes import reading
from myst import read_page
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

LITERAL = re.compile(r"(``.*?``)", re.S)
PACKAGES = ("painters", "torch", "diffusers", "numpy", "matplotlib", "jupyter-book")


def escape(text: str) -> str:
    """Escape bars and stars outside literals, so that |x| and *shape are not markup."""
    parts = LITERAL.split(text)
    return "".join(part if part.startswith("``") else re.sub(r"([|*])", r"\\\1", part) for part in parts)


def process(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Rewrite one docstring in place, before Napoleon reads its sections."""
    lines[:] = escape("\n".join(lines)).split("\n")


class Versions(SphinxDirective):
    """Lists the profile, the machine and the versions that this build of the site used."""

    def run(self) -> list[nodes.Node]:
        """Make the list."""
        facts = [
            f"profile: {os.environ.get('PAINTERS_PROFILE', 'book')}",
            f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            *(f"{package} {version(package)}" for package in PACKAGES),
        ]
        return [nodes.bullet_list("", *(nodes.list_item("", nodes.paragraph("", fact)) for fact in facts))]


class Minutes(SphinxRole):
    """How long a page takes to read, as `tools/minutes.py` computes it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the text."""
        page = Path(__file__).parent.parent / "book" / f"{self.text}.md"
        if not page.exists():
            return [], [self.inliner.reporter.error(f"there is no page {self.text}", line=self.lineno)]
        return [nodes.inline("", f"{reading(read_page(page)).minutes} minutes", classes=["minutes"])], []


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", process, priority=100)
    app.add_directive("versions", Versions)
    app.add_role("minutes", Minutes())
    # A formula in a title shows in the navigation of pages that have none, so every page gets MathJax.
    app.set_html_assets_policy("always")
    return {"parallel_read_safe": True}
