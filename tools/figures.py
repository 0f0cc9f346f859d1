"""Draw the figure pack: every captioned figure and sequence of the pages, for slides and handouts.

Pages are executed with figures of a higher resolution than the site's; what they show is kept in `.cache/figures` and
drawn again when the page, or what it imports, changes. A figure without pictures in it is written as SVG too.
"""

import base64
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from html import unescape
from pathlib import Path

import build
import nbformat
from export import repository_address
from myst import Block, Page, children
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from numbering import Book, read_book, walk
from pybtex.database import parse_file
from render import Renderer

PRELUDE = """\
from matplotlib_inline.backend_inline import set_matplotlib_formats

from atelier.pages import figures, sequences

figures.in_notebook = lambda shell: set_matplotlib_formats("retina", "svg")
figures.STYLE["savefig.dpi"] = 288
sequences.MAX_BYTES = 20_000_000"""
MAX_SVG = 400_000
FRAME = re.compile(r'<img[^>]* src="data:image/png;base64,([^"]+)"\s+alt="([^"]*)"')
CAPTION = re.compile(r'<p class="caption">(.*?)</p>', re.S)
LICENCE = """\
# Figures of *Outline First, Details Later*

Text and figures: [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/). You may use and change them anywhere, also
commercially, if you say where they come from, for example "The painters contributors, *Outline First, Details Later*,
CC BY 4.0". PNG files have 288 dots per inch. Each figure comes with its caption and with the
text that says what is seen to somebody who does not see it.
"""


@dataclass(frozen=True)
class Drawn:
    """One figure, or one sequence of frames: its files in the pack, its number, caption, and a text for each file.

    `solution` says that it stands in the solution of an exercise.
    """

    page: str
    name: str
    number: str
    caption: str
    files: tuple[str, ...]
    alts: tuple[str, ...]
    solution: bool = False


def execute(source: str, folder: str, place: str) -> str:
    """Run a page's code and return its cells with outputs; `place` is where the answer is kept."""
    notebook = nbformat.reads(source, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    text = nbformat.writes(notebook)
    Path(place).write_text(text, encoding="utf-8")
    return text


def code_of(page: Page) -> list[Block]:
    """Return the blocks of a page's code cells."""
    return [block for block in page.blocks if block.name == "code-cell"]


def source_of(page: Page) -> str:
    """Return the notebook that draws a page's figures: the prelude, and the page's code."""
    cells = [PRELUDE, *("\n".join(block.lines) for block in code_of(page))]
    made = [nbformat.v4.new_code_cell(text, id=f"cell-{i}") for i, text in enumerate(cells)]
    return nbformat.writes(nbformat.v4.new_notebook(cells=made))


def outputs(root: Path, pages: Iterable[Page], profile: str) -> tuple[dict[str, list], list[str]]:
    """Return for each page the outputs of its code cells, from the cache or a new run; and the pages that failed."""
    cache = root / ".cache" / "figures"
    cache.mkdir(parents=True, exist_ok=True)
    keys, texts, running, failed = build.page_keys(root, profile), {}, {}, []
    with ProcessPoolExecutor(2) as pool:
        for page in pages:
            source = source_of(page)
            key = hashlib.sha256(f"{keys[page.name]}{source}".encode()).hexdigest()[:16]
            place = cache / f"{page.name}-{key}.ipynb"
            if place.exists():
                texts[page.name] = place.read_text(encoding="utf-8")
                continue
            for stale in cache.glob(f"{page.name}-*.ipynb"):
                stale.unlink()
            print(f"drawing the figures of {page.name}", flush=True)
            running[page.name] = pool.submit(execute, source, str(root / "book"), str(place))
        for name, run in running.items():
            try:
                texts[name] = run.result()
            except CellExecutionError as problem:
                print(f"A cell of {name} failed: {problem}", file=sys.stderr)
                failed.append(name)
    cells = {name: json.loads(text)["cells"][1:] for name, text in texts.items()}
    return {name: [cell.get("outputs", []) for cell in found] for name, found in cells.items()}, failed


def decoded(data: str | list[str]) -> bytes:
    """Return the bytes of a picture in a notebook."""
    return base64.b64decode("".join(data))


def drawn(page: Page, shown: list, renderer: Renderer, output: Path) -> Iterator[Drawn]:
    """Write the figures of one page and describe them."""
    gates = [block.line for block in page.blocks if block.name in ("solution-start", "solution-end")]
    for position, (block, outs) in enumerate(zip(code_of(page), shown)):
        solution = sum(line < block.line for line in gates) % 2 == 1
        figure = block.options.get("mystnb", {}).get("figure")
        datas = [out["data"] for out in outs if "data" in out]
        pictures = [data for data in datas if "image/png" in data]
        if figure and pictures:
            label = figure["name"]
            (output / f"{label}.png").write_bytes(decoded(pictures[0]["image/png"]))
            files = [f"{label}.png"]
            svg = "".join(pictures[0].get("image/svg+xml", ""))
            if svg and "<image" not in svg and len(svg) < MAX_SVG:
                (output / f"{label}.svg").write_text(svg, encoding="utf-8")
                files.append(f"{label}.svg")
            caption = renderer.inline(" ".join(figure["caption"].split()), block.line)
            alt = " ".join(block.options["mystnb"].get("image", {}).get("alt", "").split())
            yield Drawn(
                page.name,
                label,
                renderer.book.targets[label].text,
                caption,
                tuple(files),
                (alt,) * len(files),
                solution,
            )
        for data in datas:
            html = "".join(data.get("text/html", ""))
            if 'class="frame-sequence"' not in html:
                continue
            name = f"seq-{page.name}-{position:02d}"
            frames = FRAME.findall(html)
            files = [f"{name}-{i:02d}.png" for i in range(len(frames))]
            for file, (picture, _) in zip(files, frames):
                (output / file).write_bytes(decoded(picture))
            caption = unescape(next(iter(CAPTION.findall(html)), ""))
            yield Drawn(page.name, name, "", caption, tuple(files), tuple(unescape(alt) for _, alt in frames), solution)


def kept(page: Page, renderer: Renderer, output: Path) -> Iterator[Drawn]:
    """Copy the pictures that a page shows from files and describe them."""
    for block in walk(page.blocks):
        if block.name == "figure":
            shutil.copy(renderer.folder / block.argument, output)
            file = Path(block.argument).name
            label = block.options["name"]
            text = " ".join(renderer.blocks(children(block)).split())
            yield Drawn(page.name, label, renderer.book.targets[label].text, text, (file,), (block.options["alt"],))


def index(every: Iterable[Drawn], book: Book) -> str:
    """Return the list of figures as Markdown."""
    text, page = [LICENCE], ""
    for one in every:
        if one.page != page:
            page = one.page
            text.append(f"## {book.titles[page]}\n")
        head = one.number or f"A sequence of {len(one.files)} frames"
        text.append(f"**{head}.** {one.caption}{' *From a solution: not for students.*' if one.solution else ''}\n")
        if one.number:
            text.append(f"- {', '.join(f'`{file}`' for file in one.files)}: {one.alts[0]}\n")
        else:
            text.append("\n".join(f"- `{file}`: {alt}" for file, alt in zip(one.files, one.alts)) + "\n")
    return "\n".join(text)


def draw_all(root: Path, output: Path, profile: str) -> int:
    """Write the figure pack; return 1 if a page failed, whose figures are then missing."""
    book = read_book(root)
    pages = [page for page in book.pages if code_of(page)]
    shown, failed = outputs(root, pages, profile)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    bibliography, every = parse_file(str(root / "book" / "references.bib")), []
    for page in pages:
        renderer = Renderer(book, page.name, repository_address(root), bibliography, root / "book")
        every += drawn(page, shown.get(page.name, []), renderer, output)
        every += kept(page, renderer, output)
    (output / "INDEX.md").write_text(index(every, book), encoding="utf-8")
    rows = json.dumps([asdict(one) for one in every], indent=1, ensure_ascii=False)
    (output / "index.json").write_text(rows + "\n", encoding="utf-8")
    shutil.copy(root / "LICENSE-CC-BY-4.0", output)
    print(f"{len(every)} figures and sequences, {sum(len(one.files) for one in every)} files.")
    return 1 if failed else 0
