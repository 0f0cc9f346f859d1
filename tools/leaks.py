"""Look for solutions in what students get: every file of a folder, and what is packed in its zips.

Two nets, each alone enough: runs of seven words that stand in a solution and in nothing public, and whole lines of a
solution's code. Of a search index, which keeps words and no text, the words that only solutions have. Pages, notebooks
with their outputs, scripts and tables are read as text, without the marks in which it is wrapped.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

from myst import Page, children
from render import Renderer
from sphinx.search.en import SearchEnglish

WORD = re.compile(r"\w+")
SHINGLE, LINE = 7, 24
TEXT = {".html", ".htm", ".ipynb", ".md", ".txt", ".csv", ".js", ".json", ".xml", ".py", ".toml", ".yml"}
STEMMER = SearchEnglish({})


def shingles(text: str) -> set[tuple[str, ...]]:
    """Return the runs of words of a text."""
    words = WORD.findall(text.lower())
    return {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def prose(text: str) -> str:
    """Return the words of a source without directives and the marks of roles."""
    return re.sub(r"\{[\w:]+\}`[^`]*`|^:::.*$|^```.*$|^:[\w-]+:.*$", " ∎ ", text, flags=re.M)


def packed(text: str) -> str:
    """Return text with single spaces."""
    return " ".join(text.split())


def solutions(page: Page, taken: Iterable, folder: Path) -> tuple[str, list[str]]:
    """Return all that the blocks taken from a page show, the package's functions too; and the lines of their code."""
    texts, code = [], []
    for block in taken:
        for part in children(block) if block.name in ("solution", "dropdown") else [block]:
            texts.append("\n".join(part.lines))
            if part.name == "literalinclude":
                renderer = Renderer.__new__(Renderer)
                renderer.folder, renderer.page = folder, page.name
                texts.append(Renderer.included(renderer, part))
            if part.name in ("literalinclude", "code-cell", "code-block") or part.kind == "fence":
                code += texts[-1].splitlines()
    return "\n\n".join(texts), code


@dataclass
class Secrets:
    """What must not be seen, and what may; both are added text by text."""

    texts: set[tuple[str, ...]] = field(default_factory=set)
    lines: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)

    def hide(self, text: str, code: Iterable[str] = ()) -> None:
        """Add a secret, and lines of code."""
        self.texts |= shingles(prose(text))
        self.words |= set(WORD.findall(prose(text).lower()))
        self.lines |= {line for line in map(packed, code) if len(line) >= LINE}

    def show(self, text: str) -> None:
        """Say that a text is public; nothing in it is a secret."""
        self.texts -= shingles(prose(text)) | shingles(text)
        self.words -= set(WORD.findall(text.lower()))
        known = packed(text)
        self.lines = {line for line in self.lines if line not in known}

    def found(self, text: str) -> list[str]:
        """Return the secrets in a text."""
        plain = packed(text)
        return [" ".join(run) for run in sorted(self.texts & shingles(text))] + [x for x in self.lines if x in plain]

    def indexed(self, text: str, shown: set[str]) -> list[str]:
        """Return the words of a search index that only secrets have, and none of the pages that it searches."""
        index = re.search(r"Search\.setIndex\((.*)\)", text, re.S)
        terms = set(json.loads(index[1])["terms"]) if index else set()
        words = {word for word in self.words - shown if len(word) > 5 and word.isalpha()}
        known = {STEMMER.stem(word) for word in shown}
        return sorted(word for word in words if (stem := STEMMER.stem(word)) in terms and stem not in known)


def seen(name: str, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the texts of a file by its name: of a zip those inside, of a notebook its cells and what they show."""
    if name.endswith((".zip", ".imscc", ".whl")):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for inside in archive.namelist():
                yield from seen(f"{name}/{inside}", archive.read(inside))
        return
    if Path(name).suffix not in TEXT and "." in Path(name).name:
        return
    text = data.decode("utf-8", errors="replace")
    if name.endswith(".ipynb"):
        yield name, "\n\n".join(strings(json.loads(text)))
    elif name.endswith((".html", ".htm", ".xml")):
        text = re.sub(r"data:[\w/+;-]+,[\w+/=]+", "", text)
        yield name, unescape(unescape(re.sub(r"<[^<>]*>", "", text)))
        yield f"{name} (marks)", unescape(" ".join(re.findall(r"""="([^"<>]{20,})\"""", text)))
    else:
        yield name, text


def strings(value: object) -> Iterator[str]:
    """Yield all texts in what JSON holds; lists of lines are one."""
    if isinstance(value, str):
        yield value if len(value) < 100_000 else ""
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        yield "".join(value)
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def leaks(places: Iterable[Path], secrets: Secrets) -> dict[str, list[str]]:
    """Return the secrets that stand in files, or in the files of folders, by file."""
    found: dict[str, list[str]] = {}
    for place in places:
        indices, shown = {}, set()
        for path in sorted(path for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file()):
            for name, text in seen(str(path.relative_to(place.parent)), path.read_bytes()):
                if name.endswith("searchindex.js"):
                    indices[name] = text
                    continue
                shown |= set(WORD.findall(text.lower()))
                if gone := secrets.found(text):
                    found[name] = gone
        found |= {name: gone for name, text in indices.items() if (gone := secrets.indexed(text, shown))}
    return found
