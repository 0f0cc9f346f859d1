"""Read the part of MyST Markdown that the book uses, into blocks with line numbers.

The grammar is small on purpose: what is not understood is an error that names the file and line,
so that no raw MyST reaches a notebook.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

FENCE = re.compile(r"^(?P<indent> *)(?P<mark>`{3,}|~{3,}|:{3,})\s*(?:\{(?P<name>[^}]+)\})?\s*(?P<argument>.*)$")
HEADING = re.compile(r"^(#{1,6}) +(.+?)\s*$")
TARGET = re.compile(r"^\(([^()\s]+)\)=\s*$")
OPTION = re.compile(r"^:([\w-]+):\s*(.*)$")
SEQUENCE = re.compile(r"^sequence\(", re.M)
MATH_END = re.compile(r"^(?P<body>.*?)\$\$\s*(?:\((?P<label>[^()\s]+)\))?\s*$")


class MystError(ValueError):
    """Something in a page that the exporter does not understand."""


@dataclass(frozen=True)
class Block:
    """One piece of a page.

    `kind` is text, heading, target, math, fence (a plain code block) or directive; `name` a directive's
    name or a fence's opening line; `argument` a title, label or heading text; `lines` the content, which
    begins in line `start` of the file.
    """

    kind: str
    line: int
    name: str = ""
    argument: str = ""
    options: dict = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    start: int = 0


@dataclass(frozen=True)
class Page:
    """One source file: its name in the book (`gaussian`) and its blocks."""

    name: str
    blocks: tuple[Block, ...]

    @property
    def has_notebook(self) -> bool:
        """Whether the page becomes a notebook: it has code cells."""
        return any(block.name == "code-cell" for block in self.blocks)

    @property
    def opening(self) -> Block | None:
        """The cell of the page's first figure."""
        cells = (block for block in self.blocks if block.name == "code-cell")
        return next(
            (c for c in cells if "figure" in c.options.get("mystnb", {}) or SEQUENCE.search("\n".join(c.lines))), None
        )


def read_page(path: Path) -> Page:
    """Parse one page.

    Raises:
        MystError: with file and line, if the page has something the parser does not know.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    start = lines.index("---", 1) + 1 if lines and lines[0] == "---" else 0
    try:
        page = Page(path.stem, tuple(parse(lines[start:], start + 1)))
    except MystError as problem:
        raise MystError(f"book/{path.name}:{problem}") from None
    front = yaml.safe_load("\n".join(lines[1 : start - 1])) if start else {}
    if page.has_notebook and not {"jupytext", "kernelspec"} <= set(front):
        raise MystError(f"book/{path.name}:1: a page with code cells needs jupytext and kernelspec in front.")
    return page


def parse(lines: list[str] | tuple[str, ...], first: int) -> Iterator[Block]:
    """Yield the blocks of some lines; `first` is the number of the first line in its file."""
    text: list[str] = []
    at = 0

    def flush() -> Iterator[Block]:
        blank = next((i for i, line in enumerate(text) if line.strip()), len(text))
        if blank < len(text):
            yield Block("text", first + at - len(text) + blank, lines=tuple(text[blank:]))
        text.clear()

    while at < len(lines):
        line, number = lines[at], first + at
        fence = FENCE.match(line)
        if fence and (fence["name"] or fence["mark"][0] != ":"):
            end = _closing(lines, at, fence, number)
            if fence["indent"] and not fence["name"]:
                text.extend(lines[at : end + 1])
                at = end + 1
                continue
            yield from flush()
            yield _fenced(fence, lines[at + 1 : end], number)
            at = end + 1
        elif fence:
            raise MystError(f"{number}: a fence {fence['mark']} without a directive.")
        elif line.startswith("$$"):
            yield from flush()
            block, at = _math(lines, at, number)
            yield block
        elif match := TARGET.match(line):
            yield from flush()
            yield Block("target", number, argument=match[1])
            at += 1
        elif match := HEADING.match(line):
            yield from flush()
            yield Block("heading", number, name=match[1], argument=match[2])
            at += 1
        elif line.startswith("%") or line.strip() == "+++":
            yield from flush()
            at += 1
        else:
            text.append(line)
            at += 1
    yield from flush()


def _closing(lines: list[str] | tuple[str, ...], at: int, fence: re.Match, number: int) -> int:
    mark = fence["mark"]
    for end in range(at + 1, len(lines)):
        stripped = lines[end].strip()
        if len(stripped) >= len(mark) and set(stripped) == {mark[0]}:
            return end
    raise MystError(f"{number}: the fence {mark} is never closed.")


def _fenced(fence: re.Match, body: list[str] | tuple[str, ...], number: int) -> Block:
    if not fence["name"]:
        return Block("fence", number, name=fence[0], lines=tuple(body))
    if fence["indent"]:
        raise MystError(f"{number}: the directive {fence['name']} is indented; start it at the margin.")
    options, skip = {}, 0
    if body and body[0].strip() == "---":
        skip = list(body).index("---", 1) + 1
        options = yaml.safe_load("\n".join(body[1 : skip - 1])) or {}
    else:
        while skip < len(body) and (match := OPTION.match(body[skip])):
            # A code cell's options are YAML in either form; another directive's are text.
            options[match[1]] = yaml.safe_load(match[2]) if fence["name"] == "code-cell" else match[2]
            skip += 1
    argument = fence["argument"].strip()
    return Block("directive", number, fence["name"], argument, options, tuple(body[skip:]), number + 1 + skip)


def _math(lines: list[str] | tuple[str, ...], at: int, number: int) -> tuple[Block, int]:
    body, start = [], at
    while at < len(lines):
        line = lines[at][2:] if at == start else lines[at]
        if match := MATH_END.match(line):
            body.append(match["body"])
            return Block("math", number, argument=match["label"] or "", lines=tuple(body)), at + 1
        body.append(line)
        at += 1
    raise MystError(f"{number}: the formula opened with $$ is never closed.")


def children(block: Block) -> list[Block]:
    """Parse a directive's content."""
    return list(parse(block.lines, block.start))
