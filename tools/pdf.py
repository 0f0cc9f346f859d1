"""Write the whole book as one PDF, `_build/painters.pdf`, from the built site, and say what a reader of it would miss.

    python tools/pdf.py                    every page, in the order of _toc.yml
    python tools/pdf.py gaussian guidance  these pages, into _build/pages.pdf

All articles are set one after the other in one document, which Chromium prints: links between pages, the outline and
the numbers of pages are its own work, and `book/_static/print.css` is the style, as for a reader who prints a page.
The status is 1 if a page is missing, text is cut or hidden, a formula is raw, a picture or a
frame of a sequence is blank, or the PDF lacks a word that the site has.
"""

import argparse
import base64
import logging
import mimetypes
import re
import sys
import time
import tomllib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag
from chromium import chromium
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

logging.getLogger("pypdf").setLevel(logging.ERROR)  # Chromium's files count fewer objects than they have
ROOT = Path(__file__).resolve().parent.parent
SITE = "http://book.invalid/"
ASSETS = Path(__file__).parent / "print"
WIDTH = 673
"""Pixels between the margins of A4, as `print.css` sets them: the width at which text is looked at before printing."""
MISSED = 0.002
"""The share of pieces of text that may not be found in the PDF: those that a page's end cuts in two."""

NUMBER = "n => document.querySelectorAll('[data-starts]').forEach(s => { s.textContent = n[s.dataset.starts] ?? ''; })"
HEADINGS = (
    "() => [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => h.innerText.replace(/\\s+/g, ' ').trim())"
)


@dataclass(frozen=True)
class Entry:
    """A page of the book: its file, its part, and how deep it stands below the part."""

    file: str
    part: str
    depth: int = 1

    @property
    def key(self) -> str:
        """What its ids begin with."""
        return self.file.replace("/", "-")


def contents(root: Path) -> list[Entry]:
    """Return every page of `_toc.yml` in order, those below another one included."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))

    def below(chapters: Iterable[dict], part: str, depth: int) -> Iterable[Entry]:
        for chapter in chapters:
            yield Entry(chapter["file"], part, depth)
            yield from below(chapter.get("sections", ()), part, depth + 1)

    found = [Entry(toc["root"], "")]
    for part in toc.get("parts", ()):
        found += below(part["chapters"], part.get("caption", ""), 1)
    return found


# One document


def article(html: Path, entry: Entry, inside: dict[str, str]) -> Tag:
    """Return a page's article: ids are unique in the book, and links to its pages lead there.

    Args:
        html: the built site.
        entry: the page.
        inside: the key of each page of the book, by its path on the site.
    """
    path = f"{entry.file}.html"
    found = BeautifulSoup((html / path).read_text(encoding="utf-8"), "html.parser").find("article")
    assert isinstance(found, Tag), f"{path} has no article"
    # Without its script a sequence shows all frames, and a table all rows.
    for node in found.select("script, .headerlink, link"):
        node.decompose()
    for node in found.find_all(True):
        for name in ("id", "for", "aria-labelledby", "aria-describedby"):
            if node.get(name):
                node[name] = f"{entry.key}--{node[name]}"
        if node.get("src"):
            node["src"] = urljoin(SITE + path, str(node["src"]))
            node["loading"] = "eager"
    for link in found.find_all("a", href=True):
        target = urlsplit(urljoin(SITE + path, str(link["href"])))
        if f"{target.scheme}://{target.netloc}/" != SITE:
            continue
        key = inside.get(unquote(target.path).removeprefix("/"))
        if key is None:
            del link["href"]  # a file beside the pages
        else:
            link["href"] = f"#{key}--{unquote(target.fragment)}" if target.fragment else f"#{key}"
    for level in range(6, 0, -1):  # a chapter stands below its part in the outline, and looks as it did
        for heading in found.find_all(f"h{level}"):
            add_class(heading, f"h{level}")
            heading.name = f"h{min(6, level + entry.depth)}"
    found["id"] = entry.key
    add_class(found, "chapter")
    return found


def add_class(node: Tag, name: str) -> None:
    """Add a class to those of an element."""
    node["class"] = " ".join(filter(None, [*node.get_attribute_list("class"), name]))


def title_of(found: Tag) -> str:
    """Return the title of an article, with its number."""
    heading = found.select_one(".h1")
    return " ".join(heading.get_text().split()) if heading else ""


def front(root: Path, entries: Sequence[Entry], titles: dict[str, str]) -> str:
    """Return the title page and the table of contents."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    lines, part = [], None
    for entry in entries:
        if entry.part != part:
            part = entry.part
            lines.append(f'<p class="part">{part}</p>')
        lines.append(
            f'<p class="depth-{entry.depth}"><a href="#{entry.key}">{titles[entry.key]}</a>'
            f'<span class="number" data-starts="{entry.key}"></span></p>'
        )
    text = (ASSETS / "front.html").read_text(encoding="utf-8")
    picture = base64.b64encode((root / "book" / "images" / "painting.png").read_bytes()).decode()
    values = {"title": config["title"], "author": config["author"], "version": version, "picture": picture}
    values["contents"] = "\n".join(lines)
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], text)


def compose(root: Path, html: Path, entries: Sequence[Entry]) -> str:
    """Return the book as one document."""
    inside = {f"{entry.file}.html": entry.key for entry in entries}
    articles = {entry.key: article(html, entry, inside) for entry in entries}
    titles = {key: title_of(found) for key, found in articles.items()}
    page = BeautifulSoup((html / f"{entries[0].file}.html").read_text(encoding="utf-8"), "html.parser")
    assert page.head and page.body and page.html and page.title
    for script in page.head.find_all("script"):
        if "katex" not in str(script.get("src", "")):
            script.decompose()
    page.html["data-theme"] = page.html["data-mode"] = "light"
    page.title.string = "Outline First, Details Later"
    style = (ASSETS / "book.css").read_text(encoding="utf-8")
    for key, title in titles.items():
        text = title.replace("\\", "\\\\").replace('"', '\\"')
        style += f'@page {key} {{ @top-left {{ content: "{text}"; }} }}\n#{key} {{ page: {key}; }}\n'
    body, part = [front(root, entries, titles)], ""
    for entry in entries:
        if entry.part != part:
            part = entry.part
            body.append(f'<section class="part" id="part-{len(body)}"><h1>{part}</h1></section>')
        body.append(str(articles[entry.key]))
    page.body.replace_with(BeautifulSoup(f"<body>{''.join(body)}</body>", "html.parser"))
    page.head.append(BeautifulSoup(f"<style>{style}</style>", "html.parser"))
    return str(page)


# What Chromium makes of it


def serve(view: Any, html: Path, document: str) -> None:
    """Let a browser's page read the site's files and the document, and nothing else."""

    def answer(route: Any) -> None:
        path = unquote(urlsplit(route.request.url).path).lstrip("/")
        file = html / path
        if not route.request.url.startswith(SITE):
            route.abort()
        elif path == "book/print.html":
            route.fulfill(body=document, content_type="text/html; charset=utf-8")
        elif file.is_file():
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            route.fulfill(body=file.read_bytes(), content_type=kind)
        else:
            route.fulfill(status=404, body="")

    view.route(re.compile("^(?!data:|blob:)"), answer)


def ready(view: Any) -> None:
    """Wait until fonts and pictures are there; formulas are set before the page is shown."""
    view.evaluate("() => document.fonts.ready.then(() => true)")
    view.evaluate("() => document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
    view.evaluate("() => Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => true)")


def look(view: Any) -> list[str]:
    """Return what would be wrong on paper with the open page, a sentence each."""
    return view.evaluate((ASSETS / "look.js").read_text(encoding="utf-8"))


def text_of(view: Any) -> dict[str, list[str]]:
    """Return the pieces of text of each article that a reader of it on paper must find, formulas left out."""
    return view.evaluate((ASSETS / "text.js").read_text(encoding="utf-8"))


def squeezed(text: str) -> str:
    """Return the letters and digits of a text, ligatures resolved: what is left of it whatever the line breaks."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", text).lower())


def below(mark: DictionaryObject) -> Iterable[DictionaryObject]:
    """Yield the entries of an outline below one of them, in order."""
    child = mark.get("/First")
    while child is not None:
        entry = cast(DictionaryObject, child.get_object())
        yield entry
        yield from below(entry)
        child = entry.get("/Next")


def mend(file: Path, headings: Sequence[str]) -> list[str]:
    """Write the headings into the outline: Chromium joins their lines, and repeats what it moved to the next page."""
    book = PdfWriter(clone_from=file)
    marks = list(below(cast(DictionaryObject, book.root_object["/Outlines"].get_object())))
    for mark, heading in zip(marks, headings):
        mark[NameObject("/Title")] = TextStringObject(" ".join(heading.split()))
    book.write(file)
    return [] if len(marks) == len(headings) else [f"the outline has {len(marks)} of {len(headings)} headings"]


def outline(book: PdfReader) -> list[tuple[int, str, int]]:
    """Return the level of each entry of the outline, its title and its page, both from 0."""

    def flat(entries: list, level: int) -> Iterable[tuple[int, str, int]]:
        for entry in entries:
            if isinstance(entry, list):
                yield from flat(entry, level + 1)
            else:
                yield level, str(entry.title), book.get_destination_page_number(entry) or 0

    return list(flat(book.outline, 0))


def first_pages(book: PdfReader, titles: dict[str, str]) -> dict[str, int]:
    """Return the page, from 0, on which each page of the book begins, by the PDF's outline, if it is there."""
    marks = [(squeezed(title), page) for _, title, page in outline(book)]
    found, at = {}, 0
    for key, title in titles.items():
        index = next((i for i, (text, _) in enumerate(marks[at:], at) if text == squeezed(title)), None)
        if index is not None:
            found[key], at = marks[index][1], index + 1
    return found


def missing(book: PdfReader, titles: dict[str, str], pieces: dict[str, list[str]]) -> list[str]:
    """Return a sentence for each page of the book that the PDF lacks, or of which it lacks text."""
    first = first_pages(book, titles)
    found = [f"{key}: the outline lacks its page" for key in titles if key not in first]
    ends = [*sorted(first.values())[1:], len(book.pages)]
    for (key, start), end in zip(sorted(first.items(), key=lambda item: item[1]), ends):
        text = ""
        for number in range(start, end):
            page = squeezed(book.pages[number].extract_text())
            text += page.removeprefix(squeezed(titles[key])).removeprefix(str(number + 1))
        lost = [piece for piece in pieces[key] if squeezed(piece) not in text]
        if len(lost) > max(1, MISSED * len(pieces[key])):
            found.append(f"{key}: {len(lost)} of {len(pieces[key])} pieces of text are not in the PDF: {lost[:3]}")
    return found


def links(book: PdfReader) -> tuple[int, list[str]]:
    """Return how many links lead to a place in the PDF, and the addresses of the others."""
    inside, addresses = 0, []
    for page in book.pages:
        for reference in page.get("/Annots") or ():
            note = reference.get_object()
            address = note.get("/A", {}).get("/URI")
            inside += "/Dest" in note or note.get("/A", {}).get("/S") == "/GoTo"
            addresses += [str(address)] if address else []
    return inside, addresses


def write(browser: Any, html: Path, document: str, output: Path) -> list[str]:
    """Print the document; return what is wrong with it. The numbers in its contents take a second printing."""
    view = browser.new_page(viewport={"width": WIDTH, "height": 900})
    view.set_default_timeout(600_000)  # a whole book on a busy machine
    view.emulate_media(media="print")
    serve(view, html, document)
    view.goto(f"{SITE}book/print.html", wait_until="load")
    ready(view)
    problems, pieces = look(view), text_of(view)
    soup = BeautifulSoup(document, "html.parser")
    titles = {str(found["id"]): title_of(found) for found in soup.find_all("article")}
    output.parent.mkdir(exist_ok=True)
    headings = view.evaluate(HEADINGS)
    unlisted = []
    for _ in range(2):
        view.pdf(path=str(output), prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        unlisted = mend(output, headings)
        numbers = {key: page + 1 for key, page in first_pages(PdfReader(output), titles).items()}
        view.evaluate(NUMBER, numbers)
    view.close()
    book = PdfReader(output)
    astray = [f"a link leads out of the PDF: {address}" for address in links(book)[1] if address.startswith(SITE)]
    return problems + unlisted + astray + missing(book, titles, pieces)


def main(arguments: list[str] | None = None) -> int:
    """Write the PDF; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the book as one PDF from the built site.")
    parser.add_argument("pages", nargs="*", help="only these pages, into _build/pages.pdf")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    options = parser.parse_args(arguments)
    root, start = options.root.resolve(), time.monotonic()
    html = root / "_build" / "html"
    if not (html / "index.html").exists():
        print("There is no site in _build/html; run make book.", file=sys.stderr)
        return 1
    entries = contents(root)
    if unknown := set(options.pages) - {entry.file.rpartition("/")[2] for entry in entries}:
        print(f"_toc.yml has no page {', '.join(sorted(unknown))}.", file=sys.stderr)
        return 1
    if options.pages:
        entries = [entry for entry in entries if entry.file.rpartition("/")[2] in options.pages]
    output = root / "_build" / ("pages.pdf" if options.pages else "painters.pdf")
    try:
        with chromium() as browser:
            problems = write(browser, html, compose(root, html, entries), output)
    except FileNotFoundError as missing_file:
        print(missing_file, file=sys.stderr)
        return 1
    for problem in problems:
        print(problem, file=sys.stderr)
    sheets, size, spent = len(PdfReader(output).pages), output.stat().st_size / 1e6, time.monotonic() - start
    print(f"{output.relative_to(root)}: {len(entries)} pages, {sheets} on paper, {size:.1f} MB, in {spent:.0f} s.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
