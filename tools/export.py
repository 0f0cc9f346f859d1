"""Write `book/NAME.ipynb` from `book/NAME.md`.

    python tools/export.py           write every notebook anew
    python tools/export.py --check   write nothing; fail if a notebook differs from its source
    python tools/export.py NAME      write only the notebook of book/NAME.md, whatever state other pages are in

Notebooks have no outputs but the first figure, from `book/images/openings` (`tools/openings.py`), so that a reader
sees it before anything is run. A cell's id is a hash of its position and source, so two exports agree.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Collection, Iterable
from html import escape
from pathlib import Path

from myst import SEQUENCE, Block, MystError, Page
from numbering import BOXES, Book, read_book
from PIL import Image
from pybtex.database import parse_file
from render import LINTS, Renderer, details, site_address

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 150_000
MAX_PICTURES = 60_000
APART = {"dropdown", "solution", "admonition", "card", "margin", *BOXES}
"""What gets a cell of its own, since text is set close under a fold or a frame."""
SHOWS = re.compile(r"^\s*(check\.\w+|say)\(", re.M)
"""What shows something beside the figure of its cell; Sphinx would give both the figure's name."""
TITLES = {
    "A figure to move through": SEQUENCE,
    "Numbers of the text": re.compile(r"^\s*say\(", re.M),
    "A check": re.compile(r"^\s*check\.", re.M),
    "Imports": re.compile(r"^(import|from) ", re.M),
}
"""What a folded cell is for, by what it calls."""
INSTALL = """\
import importlib.util
import sys

needs = ("painters", "matplotlib", "scipy", "sklearn")
if not all(map(importlib.util.find_spec, needs)):
    if "google.colab" in sys.modules:
        %pip install -q "painters[book] @ git+{repository}"{more}
    else:

        class Missing(ImportError):
            def _render_traceback_(self):  # one sentence, and the run stops here
                return [str(self)]

        raise Missing(
            "This notebook needs the package painters; install it where this kernel runs"
            " and restart the kernel: pip install 'painters[book] @ git+{repository}'"
        )"""
GALAXIES = "\n        %pip install -q --no-deps galaxygrad==0.2.0"
"""The networks of galaxies come with their own package, which `make` installs too."""
NOTE = (
    "<small>A page of [{title}]({site}). Numbers and figures appear as the cells run; links to other chapters lead"
    " to the notebooks beside this one.</small>"
)


def repository_address(root: Path) -> str:
    """Return the project's address, written once in `pyproject.toml`."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["REPOSITORY"].rstrip("/")


def new_cell(kind: str, source: str, **metadata: object) -> dict:
    """Make a cell."""
    cell: dict = {"cell_type": kind, "metadata": metadata, "source": source.splitlines(keepends=True)}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell


def folded(title: str, source: str, tags: list[str]) -> dict:
    """Make a code cell that is folded in Jupyter and Colab."""
    return new_cell("code", f"# @title {title}\n{source}", tags=tags, cellView="form", jupyter={"source_hidden": True})


def title_of(block: Block, renderer: Renderer) -> str:
    """Return what a folded cell is for, in a few words."""
    figure = block.options.get("mystnb", {}).get("figure", {})
    if target := renderer.book.targets.get(figure.get("name", "")):
        return target.text
    code = "\n".join(block.lines)
    return next((title for title, pattern in TITLES.items() if pattern.search(code)), "Code")


def opening(block: Block, renderer: Renderer) -> list[dict]:
    """Return the output that a cell begins with: its picture, if it draws the page's first figure."""
    page = next((page for page in renderer.book.pages if page.name == renderer.page), None)
    path = renderer.folder / "images" / "openings" / f"{renderer.page}.png"
    if page is None or page.opening is None or page.opening.line != block.line or not path.is_file():
        return []
    with Image.open(path) as picture:
        told = picture.info
    alt, caption = told["Description"], told.get("Caption", "")
    below = (
        f"<figcaption>{escape(caption)} Run the notebook to move through the frames.</figcaption>" if caption else ""
    )
    data = base64.b64encode(path.read_bytes()).decode()
    html = f'<img width="600" alt="{escape(alt)}" src="data:image/png;base64,{data}">{below}'
    if len(html) > MAX_PICTURES:
        raise renderer.fail(block.line, f"its picture takes {len(html)} bytes; the limit is {MAX_PICTURES}")
    return [{"data": {"text/html": [html], "text/plain": [alt]}, "metadata": {}, "output_type": "display_data"}]


def _code_cell(block: Block, renderer: Renderer, *, solution: bool) -> dict:
    """Make a code cell; a solution's code and cells tagged hide-input are folded."""
    tags = list(block.options.get("tags", []))
    source = LINTS.sub("", "\n".join(block.lines).strip("\n"))
    if solution or {"hide-input", "remove-input"} & set(tags):
        cell = folded("Solution" if solution else title_of(block, renderer), source, tags)
    else:
        cell = new_cell("code", source, **({"tags": tags} if tags else {}))
    shown = opening(block, renderer)
    # nbval refuses what a cell shows that was never run.
    return cell | {"outputs": shown, "execution_count": 0 if shown else None}


def cells_of(blocks: Iterable[Block], renderer: Renderer) -> list[dict]:
    """Turn blocks into cells: text up to the next heading or code, code, captions under their figures."""
    cells: list[dict] = []
    pending: list[Block] = []
    solution = apart = False

    def flush() -> None:
        text = renderer.blocks(pending)
        pending.clear()
        if text:
            cells.append(new_cell("markdown", details("Solution", text) if solution else text))

    for block in blocks:
        if block.kind == "heading" or block.name in APART or apart:
            flush()
        apart = block.name in APART
        if block.name == "code-cell":
            flush()
            cells.append(_code_cell(block, renderer, solution=solution))
            figure = block.options.get("mystnb", {}).get("figure")
            if figure:
                if SHOWS.search("\n".join(block.lines)):
                    raise renderer.fail(block.line, "a figure's cell shows the figure alone; check and say in another")
                caption = renderer.inline(" ".join(figure["caption"].split()), block.line)
                text = renderer.caption(figure.get("name", ""), caption, block.line)
                cells.append(new_cell("markdown", text))
        elif block.name in ("solution-start", "solution-end"):
            flush()
            solution = block.name == "solution-start"
        else:
            pending.append(block)
    flush()
    return cells


def finished(cells: list[dict], renderer: Renderer) -> str:
    """Return the text of a notebook: cells, before their first code the installation, at the end the works cited."""
    first = next((i for i, cell in enumerate(cells) if cell["cell_type"] == "code"), len(cells))
    tags = ["remove-cell", "skip-execution", "nbval-skip"]
    galaxies = any("galaxies" in "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    source = INSTALL.format(repository=renderer.repository, more=GALAXIES if galaxies else "")
    install = folded("What the chapter needs: Colab installs it here", source, tags)
    cells = [*cells[:first], install, *cells[first:]]
    if references := renderer.references():
        cells.append(new_cell("markdown", references))
    for position, cell in enumerate(cells):
        digest = hashlib.sha256(f"{position}\n{''.join(cell['source'])}".encode())
        cell["id"] = digest.hexdigest()[:12]
    notebook = {
        "cells": cells,
        "metadata": {
            "colab": {"provenance": [], "toc_visible": True},
            "generated_from": f"book/{renderer.page}.md",
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def to_notebook(page: Page, book: Book, repository: str, bibliography: Path) -> str:
    """Return one page as the text of a notebook.

    Raises:
        MystError: if the page has something the exporter does not know, or the notebook passes 150 kB.
    """
    renderer = Renderer(book, page.name, repository, parse_file(str(bibliography)), bibliography.parent)
    cells, site = cells_of(page.blocks, renderer), site_address(repository)
    cells[0]["source"] += [
        "\n\n",
        NOTE.format(title=book.titles[book.pages[0].name], site=f"{site}/book/{page.name}.html"),
    ]
    text = finished(cells, renderer)
    if len(text.encode()) > MAX_BYTES:
        raise MystError(f"book/{page.name}.ipynb would take {len(text.encode())} bytes; the limit is {MAX_BYTES}.")
    return text


def export_all(root: Path, only: Collection[str] = ()) -> dict[Path, str]:
    """Return the path and text of every notebook of the book, or only of some pages."""
    book, repository = read_book(root), repository_address(root)
    bibliography = root / "book" / "references.bib"
    return {
        root / "book" / f"{page.name}.ipynb": to_notebook(page, book, repository, bibliography)
        for page in book.pages
        if page.has_notebook and (not only or page.name in only)
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Write book/NAME.ipynb from book/NAME.md.")
    parser.add_argument("only", nargs="*", metavar="NAME", help="only these pages")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a notebook is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    options = parser.parse_args(arguments)
    try:
        notebooks = export_all(options.root, options.only)
    except (MystError, FileNotFoundError) as problem:
        print(problem, file=sys.stderr)
        return 1
    stale = [path for path, text in notebooks.items() if not path.exists() or path.read_text("utf-8") != text]
    orphans = sorted(set((options.root / "book").glob("*.ipynb")) - set(notebooks)) if not options.only else []
    if options.check:
        for path in stale:
            print(f"book/{path.name} differs from its source; run: python tools/export.py", file=sys.stderr)
        for path in orphans:
            print(f"book/{path.name} has no page in _toc.yml; remove it.", file=sys.stderr)
        if not stale and not orphans:
            print(f"{len(notebooks)} notebooks agree with their sources.")
        return 1 if stale or orphans else 0
    for path in stale:
        path.write_text(notebooks[path], encoding="utf-8")
        print(f"wrote book/{path.name}")
    print(f"{len(notebooks)} notebooks, {len(stale)} written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
