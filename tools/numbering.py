"""Number figures, tables, equations, statements and exercises as the site does.

Sphinx counts each kind through the pages in the order of the table of contents; numbered chapters start
anew as "1.1", and pages without a number share one count. `tests/site` compares the two.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from myst import Block, MystError, Page, children, read_page

STATEMENTS = {
    name: name.capitalize()
    for name in ("theorem", "proposition", "lemma", "corollary", "definition", "remark", "example", "algorithm")
}
BOXES = {"note", "tip", "hint", "warning", "important", "caution", "attention", "danger", "seealso"}
CONTAINERS = BOXES | {"admonition", "dropdown", "margin", "card", "tab-set", "tab-item", "solution", "exercise"}
CONTAINERS |= {"grid", "grid-item", "grid-item-card"}


@dataclass(frozen=True)
class Target:
    """What a label points at: its page, kind (`Fig.`, `Proposition`, ...), number and title."""

    page: str
    kind: str
    number: str = ""
    title: str = ""

    @property
    def text(self) -> str:
        """The words a bare reference shows."""
        if self.kind == "Equation":
            return f"({self.number})"
        return f"{self.kind} {self.number}" if self.number else self.title


@dataclass(frozen=True)
class Book:
    """All pages in order, the titles of pages, the targets of labels, and the numbers of headings by page and line."""

    pages: tuple[Page, ...]
    titles: dict[str, str]
    targets: dict[str, Target]
    headings: dict[tuple[str, int], str] = field(default_factory=dict)


def toc_pages(toc: dict) -> Iterator[tuple[str, bool]]:
    """Yield each page of `_toc.yml` in order, and whether its chapter is numbered.

    Pages below another one, those of the API's modules, hold nothing but docstrings and are left out.
    """
    yield toc["root"], False
    for part in toc.get("parts", [{"chapters": toc.get("chapters", [])}]):
        for entry in part["chapters"]:
            yield entry["file"], bool(part.get("numbered"))


def walk(blocks: Iterator[Block] | tuple[Block, ...] | list[Block]) -> Iterator[Block]:
    """Yield blocks in document order, entering boxes and statements."""
    for block in blocks:
        yield block
        if block.kind == "directive" and (block.name in CONTAINERS or block.name.startswith("prf:")):
            yield from walk(children(block))


def key_of(page: str, block: Block) -> str:
    """Return the label of a statement or exercise; one without a label goes by its place."""
    return block.options.get("label") or f"{page}.md:{block.line}"


def _numbered(page: str, block: Block) -> tuple[str, str] | None:
    """Return the kind and key of a block that takes a number, else None."""
    options, name = block.options, block.name
    if block.kind == "math" and block.argument:
        return "Equation", block.argument
    if block.kind != "directive" or "nonumber" in options:
        return None
    if name == "math" and "label" in options:
        return "Equation", options["label"]
    if name == "code-cell":
        label = options.get("mystnb", {}).get("figure", {}).get("name")
        return ("Fig.", label) if label else None
    if name == "figure" and "name" in options:
        return "Fig.", options["name"]
    if name == "table" and "name" in options:
        return "Table", options["name"]
    if name == "exercise":
        return "Exercise", key_of(page, block)
    if name.removeprefix("prf:") in STATEMENTS and name.startswith("prf:"):
        return STATEMENTS[name[4:]], key_of(page, block)
    return None


def read_book(root: Path) -> Book:
    """Read every page of the table of contents and number what is numbered.

    Raises:
        MystError: if two things share a label.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    pages, titles, targets, headings = [], {}, {}, {}
    counts: Counter = Counter()
    chapter = 0
    for file, numbered in toc_pages(toc):
        page = read_page(root / f"{file}.md")
        chapter += numbered
        prefix = f"{chapter}." if numbered else ""
        pages.append(page)
        titles[page.name] = next((b.argument for b in page.blocks if b.kind == "heading"), page.name)
        pending: list[str] = []
        for block in walk(page.blocks):
            if block.kind == "target":
                pending.append(block.argument)
                continue
            if block.kind == "heading":
                found = [(label, Target(page.name, "Section", "", block.argument)) for label in pending]
                if numbered and block.name in ("#", "##"):
                    counts["section", prefix] += block.name == "##"
                    section = counts["section", prefix] if block.name == "##" else ""
                    headings[page.name, block.line] = f"{prefix}{section}".rstrip(".")
            elif kind_label := _numbered(page.name, block):
                kind, label = kind_label
                counts[kind, prefix] += 1
                found = [(label, Target(page.name, kind, f"{prefix}{counts[kind, prefix]}", block.argument))]
            else:
                found = []
            pending = []
            for label, target in found:
                if label in targets:
                    raise MystError(f"{page.name}.md:{block.line}: the label {label} is used twice.")
                targets[label] = target
    return Book(tuple(pages), titles, targets, headings)
