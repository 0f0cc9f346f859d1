"""Make the slides of the four sessions and of the single lecture, from the pages that they teach.

    python tools/slides.py      _build/course/slides/: session-1.html ... session-4.html, lecture.html

`tools/editions/slides.md` says in which order, and nothing twice: figures, sequences, statements, exercises and
predictions are the pages' own. What a teacher does with them, the speaker's notes, stands in `book/guide.md`, by the
minute, and in `book/teaching/NAME.md`: misconceptions that name what is shown, and what goes wrong in an exercise.
Slides and plan must agree: the same minutes, and everything that the plan names is on a slide of its minute.
The pages' cells are executed as for the figure pack, and share its cache. Slides are reveal.js, as the pinned package
`sphinx-revealjs` carries it, with the book's KaTeX; they load nothing from elsewhere.
"""

import argparse
import base64
import io
import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from export import ROOT, repository_address
from figures import FRAME, code_of, decoded, outputs
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from minutes import COURSE
from myst import Block, MystError, Page, children, parse, read_page
from numbering import Book, read_book, walk
from PIL import Image
from plan import Plan, read_plans
from pybtex.database import BibliographyData, parse_file
from render import Renderer
from teaching import Notes, Prompt, read_notes

EDITIONS = Path(__file__).parent / "editions"
NAMED = re.compile(r"\{(?:numref|ref|prf:ref)\}`(?:[^`<]*<)?((?:fig|ex|thm|prop|cor|def)-[\w-]+)>?`")
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="reveal/reset.css">
<link rel="stylesheet" href="reveal/reveal.css">
<link rel="stylesheet" href="slides.css">
<link rel="stylesheet" href="katex/katex.min.css">
<script defer src="katex/katex.min.js"></script>
<script defer src="katex/auto-render.min.js"></script>
<script defer src="katex/draw.js"></script>
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
<script src="reveal/reveal.js"></script>
<script src="reveal/notes.js"></script>
<script>
document.addEventListener("DOMContentLoaded", () => Reveal.initialize({{
  width: 1280, height: 720, margin: 0.02, display: "flex", center: false, hash: true, slideNumber: "c/t",
  transition: "none", pdfSeparateFragments: false, pdfMaxPagesPerSlide: 1, plugins: [RevealNotes]
}}).then(() => document.documentElement.classList.add("ready")));
document.addEventListener("change", (event) => event.target.blur());  // arrows turn slides again
</script>
</body>
</html>
"""


def fail(line: int, what: str) -> MystError:
    """Make the error for a line of the deck."""
    return MystError(f"tools/editions/slides.md:{line}: {what}.")


class Words(Renderer):
    """Renders for a screen that is read from afar: what is referred to is named, and nothing is a link."""

    def role(self, role: str, body: str, line: int) -> str:
        """Render a role."""
        return re.sub(r"^\[(.*)\]\([^()]*\)$", r"*\1*", super().role(role, body, line))

    def reference(self, label: str, text: str, line: int) -> str:
        """Name a reference; of a figure only what it is, since the number says nothing to a class."""
        return re.sub(r"^\[(.*)\]\([^()]*\)$", r"\1", super().reference(label, text, line))


def html(text: str, *, formulas: bool = True) -> str:
    """Turn Markdown into HTML, formulas into what KaTeX reads, or leave them as they are written."""

    def formula(content: str, options: dict) -> str:
        left, right = ("\\[", "\\]") if options["display_mode"] else ("\\(", "\\)")
        mark = "$$" if options["display_mode"] else "$"
        return escape(f"{left}{content}{right}" if formulas else f"{mark}{content}{mark}", quote=False)

    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    return str(parser.use(dollarmath_plugin, renderer=formula, double_inline=True).render(text))


@dataclass
class Slide:
    """A title, what is shown, what the teacher is told, and which labels it shows."""

    title: str
    minute: int | None
    body: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@dataclass
class Deck:
    """One session: its name, its plan, and its slides."""

    name: str
    plan: Plan
    slides: list[Slide] = field(default_factory=list)


@dataclass
class Shelf:
    """Everything that a slide may show."""

    root: Path
    book: Book
    bibliography: BibliographyData
    shown: dict[str, list]
    folder: Path
    notes: dict[str, Notes]

    def page(self, name: str, line: int) -> Page:
        """Return a page of the book."""
        page = next((page for page in self.book.pages if page.name == name), None)
        if page is None or name not in self.shown:
            raise fail(line, f"there is no page {name} of the course")
        return page

    def words(self, page: str) -> Words:
        """Return what renders a page."""
        return Words(self.book, page, repository_address(self.root), self.bibliography, self.root / "book")

    def datas(self, page: str) -> list[tuple[Block, dict]]:
        """Return what the cells of a page show, each with its cell."""
        cells = zip(code_of(self.page(page, 0)), self.shown[page])
        return [(cell, out["data"]) for cell, outs in cells for out in outs if "data" in out]

    @cached_property
    def blocks(self) -> dict[str, tuple[str, Block]]:
        """Return each labelled block of the book with its page."""
        found: dict[str, tuple[str, Block]] = {}
        for page in self.book.pages:
            for block in walk(page.blocks):
                figure = block.options.get("mystnb", {}).get("figure", {}) if block.name == "code-cell" else {}
                formula = block.argument if block.kind == "math" else ""
                label = figure.get("name") or block.options.get("label") or block.options.get("name") or formula
                if label and not block.name.startswith("solution"):
                    found[label] = page.name, block
        return found

    def picture(self, label: str, slide: Slide, parts: str) -> None:
        """Show a figure, or some of its parts, `1 4 of 4`; its caption is the teacher's."""
        page, block = self.blocks[label]
        if block.name == "figure":
            file, alt = Path(block.argument).name, block.options["alt"]
            shutil.copy(self.root / "book" / block.argument, self.folder / file)
            caption = " ".join(self.words(page).blocks(children(block)).split())
        else:
            pngs = [data["image/png"] for cell, data in self.datas(page) if cell == block and "image/png" in data]
            if not pngs:
                raise fail(0, f"the cell of {label} draws nothing")
            file, alt = f"{label}.png", " ".join(block.options["mystnb"].get("image", {}).get("alt", "").split())
            png = decoded(pngs[0])
            if parts:
                some, count = parts.split(" of ")
                file = f"{label}-{some.replace(' ', '-')}.png"
                png = part(png, [int(i) - 1 for i in some.split()], int(count), label)
            (self.folder / file).write_bytes(png)
            caption = self.words(page).inline(
                " ".join(block.options["mystnb"]["figure"]["caption"].split()), block.line
            )
        number = self.book.targets[label].text
        image = f'<img src="figures/{file}" alt="{escape(alt)}">'
        slide.body.append(f'<figure class="one">{image}<figcaption>{number}</figcaption></figure>')
        slide.notes.append(f"**{number}.** {caption}")

    def sequence(self, page: str, number: int, slide: Slide, line: int) -> None:
        """Show a sequence, with its frames as files."""
        self.page(page, line)
        htmls = ["".join(data.get("text/html", "")) for _, data in self.datas(page)]
        found = [text for text in htmls if 'class="frame-sequence"' in text]
        if number >= len(found):
            raise fail(line, f"{page} has {len(found)} sequences")
        text, names = found[number], []
        for i, (picture, _) in enumerate(FRAME.findall(text)):
            names.append(f"sequence-{page}-{number}-{i:02}.png")
            (self.folder / names[-1]).write_bytes(base64.b64decode(picture))
        files = iter(names)
        text = re.sub(r'src="data:image/png;base64,[^"]+"', lambda _: f'src="figures/{next(files)}"', text)
        slide.body.append(text)
        slide.notes += re.findall(r'<p class="caption">(.*?)</p>', text, re.S)

    def statement(self, label: str, slide: Slide, line: int) -> None:
        """Show a statement, an exercise or a formula."""
        page, block = self.blocks[label]
        words, target = self.words(page), self.book.targets[label]
        if block.kind == "math":
            slide.body.append(html(words.math(block.lines, "")))
            return
        if block.name != "exercise" and not block.name.startswith("prf:"):
            raise fail(line, f"a slide cannot show {label}")
        inner = children(block)
        text = "\n\n".join(words.math(b.lines, "") if b.kind == "math" else words.block(b) for b in inner)
        for name in dict.fromkeys(re.findall(r"\{eq\}`([\w-]+)`", "\n".join(block.lines))):
            text += "\n\n" + words.math(self.blocks[name][1].lines, name)
        title = f"{target.text}. {words.inline(block.argument, block.line)}"
        kinds = ["box", *(["ask"] if block.name == "exercise" else []), *(["dense"] if len(text) > 420 else [])]
        slide.body.append(f'<div class="{" ".join(kinds)}"><h3>{inline(title)}</h3>{html(text)}</div>')
        notes = self.notes.get(page)
        if notes and label in notes.wrong:
            points, minutes = notes.marks[label]
            wrong = words.blocks(notes.wrong[label])
            slide.notes.append(f"**What goes wrong** ({points} points, {minutes} minutes). {wrong}")

    def answer(self, page: str, line: int) -> str:
        """Return the sentences under a page's first figure, with their numbers."""
        self.page(page, line)
        said = ("".join(data.get("text/markdown", "")) for _, data in self.datas(page))
        if (text := next((text for text in said if text.startswith("**")), None)) is None:
            raise fail(line, f"{page} says no answer")
        return self.words(page).inline(text.split("\n\n")[0], line)

    def show(self, what: str, slide: Slide, line: int, parts: str = "") -> None:
        """Put one thing on a slide."""
        kind, _, rest = what.partition(" ")
        if kind in ("sequence", "predict"):
            name, number = rest.split()
            if kind == "sequence":
                self.sequence(name, int(number), slide, line)
                return
            page = self.page(name, line)
            asks = [b for b in walk(page.blocks) if b.name == "admonition" and b.argument == "Predict first"]
            if int(number) >= len(asks):
                raise fail(line, f"{name} has {len(asks)} predictions")
            text = self.words(name).blocks(children(asks[int(number)]))
            slide.body.append(f'<div class="box ask"><h3>Predict first, in writing</h3>{html(text)}</div>')
        elif kind == "answer":
            slide.body.append(f'<div class="answer">{html(self.answer(rest, line))}</div>')
        elif kind not in self.blocks:
            raise fail(line, f"there is no {kind}")
        else:
            slide.labels.append(kind)
            if kind.startswith("fig-"):
                self.picture(kind, slide, parts)
            else:
                self.statement(kind, slide, line)

    def homework(self, labels: Iterable[str], line: int) -> str:
        """List exercises."""
        items = []
        for label in labels:
            if label not in self.blocks:
                raise fail(line, f"there is no {label}")
            page, block = self.blocks[label]
            points, minutes = self.notes[page].marks[label]
            title = self.words(page).inline(block.argument, block.line)
            items.append(f"- {self.book.targets[label].text}. {title} ({points} points, {minutes} minutes)")
        text = "\n".join(["**Homework:** choose one on paper and one at the keyboard.", "", *items])
        return f'<div class="homework">{html(text)}</div>'

    def discussion(self, prompt: Prompt, head: str) -> str:
        """Return a prompt for discussion with its minutes."""
        return f"**{head}, {prompt.minutes} minutes.** {self.words(prompt.page).inline(prompt.text, 0)}"

    def misconceptions(self, labels: Iterable[str]) -> list[str]:
        """Return the misconceptions that something shown cures."""
        found = []
        for page, notes in self.notes.items():
            text = "\n".join(line for block in notes.sections["Misconceptions"] for line in block.lines)
            for point in re.split(r"^- ", text, flags=re.M)[1:]:
                if any(re.search(rf"{label}(?![\w-])", point) for label in labels):
                    found.append("**Expect:** " + self.words(page).inline(" ".join(point.split()), 0))
        return found


def part(png: bytes, some: list[int], count: int, label: str) -> bytes:
    """Return some parts of a picture, one below the other: it is cut at its widest bands without ink.

    Raises:
        MystError: if it has no such parts.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    ink = (np.asarray(picture).min(2) < 250).any(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], ink, [0]])))
    inked = edges.reshape(-1, 2)  # first row, and the one after the last
    gaps = np.sort(np.argsort(inked[1:, 0] - inked[:-1, 1])[::-1][: count - 1])
    if len(gaps) < count - 1:
        raise fail(0, f"{label} has no {count} parts")
    starts, ends = inked[np.r_[0, gaps + 1], 0], inked[np.r_[gaps, -1], 1]
    pieces = [picture.crop((0, max(0, int(starts[i]) - 12), picture.width, int(ends[i]) + 12)) for i in some]
    whole = Image.new("RGB", (picture.width, sum(piece.height for piece in pieces)), "white")
    for piece, top in zip(pieces, np.cumsum([0, *(piece.height for piece in pieces)])):
        whole.paste(piece, (0, int(top)))
    file = io.BytesIO()
    whole.save(file, "png", optimize=True)
    return file.getvalue()


def inline(text: str) -> str:
    """Turn one line of Markdown into HTML without a paragraph."""
    return re.sub(r"^<p>(.*)</p>\s*$", r"\1", html(text), flags=re.S)


# The decks


def decks(shelf: Shelf, source: Path) -> list[Deck]:
    """Read the decks.

    Raises:
        MystError: if they name what there is not, or do not follow the plan.
    """
    prompts = [prompt for notes in shelf.notes.values() for prompt in notes.prompts]
    plans = read_plans(read_page(shelf.root / "book" / "guide.md"), prompts)
    projects = project_titles(shelf)
    found: list[Deck] = []
    for block in parse(source.read_text(encoding="utf-8").splitlines(), 1):
        if block.kind == "heading" and block.name == "#":
            if block.argument not in plans:
                raise fail(block.line, f"book/guide.md has no plan of {block.argument}")
            name = "lecture" if "lecture" in block.argument else block.argument.lower().replace(" ", "-")
            found.append(Deck(name, plans[block.argument]))
        elif block.kind == "heading":
            minute, title = re.match(r"(?:(\d+) )?(.*)", block.argument).groups()  # type: ignore[union-attr]
            found[-1].slides.append(Slide(title, int(minute) if minute else None))
        else:
            slide = found[-1].slides[-1]
            if block.name == "show":
                shelf.show(block.argument, slide, block.line, block.options.get("parts", ""))
            elif block.name == "homework":
                slide.body.append(shelf.homework(block.argument.split(), block.line))
            elif block.name == "projects":
                slide.body.append(html("\n".join(f"{i}. {title}" for i, title in enumerate(projects, 1))))
            elif block.name == "notes":
                slide.notes.insert(0, shelf.words("guide").blocks(children(block)))
            elif block.kind == "text":
                slide.body.append(html(shelf.words("guide").block(block)))
            else:
                raise fail(block.line, f"a slide has no {block.name or block.kind}")
    if [deck.plan for deck in found] != list(plans.values()):
        raise fail(1, "there must be a deck for each session of book/guide.md, and for the lecture")
    for deck in found:
        follow(deck, shelf)
    return found


def follow(deck: Deck, shelf: Shelf) -> None:
    """Add to a deck's notes what the plan and the notes of the pages say, and see that it follows the plan."""
    plan, spans = deck.plan, list(deck.plan.rows)
    minutes, starts = [slide.minute for slide in deck.slides if slide.minute is not None], [s.start for s in spans]
    if minutes != starts or deck.slides[0].minute is None:
        raise fail(1, f"{plan.title}: slides begin at {minutes}, the plan at {starts}")
    shown: dict[range, set[str]] = {span: set() for span in spans}
    now, told = spans[0], set()
    for slide, after in zip(deck.slides, [*deck.slides[1:], None]):
        if slide.minute is not None:
            now = next(span for span in spans if span.start == slide.minute)
            row = shelf.words("guide").inline(plan.rows[now], 0)
            talk = sum(prompt.minutes for prompt in plan.prompts.get(now, []))
            of_them = f", {talk} of them to discuss" if talk else ""
            slide.notes.insert(0, f"**Minutes {now.start} to {now.stop}{of_them}.** {row}")
        shown[now] |= set(slide.labels)
        expected = [text for text in shelf.misconceptions(slide.labels) if text not in told]
        slide.notes += expected
        told |= set(expected)
        if after is None or after.minute is not None:
            slide.notes += [shelf.discussion(prompt, "To discuss") for prompt in plan.prompts.get(now, [])]
    deck.slides[-1].notes += [shelf.discussion(prompt, "To discuss at home") for prompt in plan.home]
    for span, row in plan.rows.items():
        if missing := set(NAMED.findall(row)) - shown[span]:
            names = ", ".join(sorted(missing))
            raise fail(1, f"{plan.title}, minute {span.start}: the plan names {names}, no slide does")


def project_titles(shelf: Shelf) -> list[str]:
    """Return the titles of the open projects, with their difficulty."""
    text = (shelf.root / "book" / "guide.md").read_text(encoding="utf-8").partition("## Eight open projects")[2]
    found = re.findall(r"^\d+\. \*\*(.+?)\*\* \((?:.*; )?([^;)]*)\)\.", text, re.M)
    return [f"**{title}** ({words})" for title, words in found]


def section(slide: Slide, now: str) -> str:
    """Return one slide."""
    notes = html("\n\n".join(slide.notes), formulas=False)
    body = "\n".join(slide.body)
    at = f'<div class="at">{now}</div>' if now else ""
    return (
        f'<section>{at}<h2>{inline(slide.title)}</h2>\n<div class="body">{body}</div>\n'
        f'<aside class="notes">{notes}</aside></section>'
    )


def write_slides(root: Path, output: Path, profile: str) -> int:
    """Write the slides; return 1 if a page failed."""
    book = read_book(root)
    shown, failed = outputs(root, [page for page in book.pages if page.name in COURSE], profile)
    if failed:
        return 1
    shutil.rmtree(output, ignore_errors=True)
    (output / "figures").mkdir(parents=True)
    notes = {p.name: read_notes(root / "book" / "teaching" / f"{p.name}.md", p) for p in book.pages if p.name in COURSE}
    kept = {name: found for name, found in notes.items() if found}
    bibliography = parse_file(str(root / "book" / "references.bib"))
    made = decks(Shelf(root, book, bibliography, shown, output / "figures", kept), EDITIONS / "slides.md")
    shutil.copytree(root / "book" / "_static" / "katex", output / "katex")
    reveal = Path(str(files("sphinx_revealjs"))) / "_static" / "revealjs"
    (output / "reveal").mkdir()
    for name in ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js", "LICENSE"):
        shutil.copy(reveal / name, output / "reveal")
    shutil.copy(EDITIONS / "slides.css", output)
    shutil.copy(root / "LICENSE-CC-BY-4.0", output)
    for deck in made:
        title = re.sub(r"^(Session \d): (.)", lambda m: f"{m[1]}. {m[2].upper()}", deck.plan.title)
        head = (
            f"<section><h1>{inline(title)}</h1>\n<p class='by'>Outline First, Details Later: how diffusion models "
            "paint, and why. The painters contributors, CC BY 4.0.</p></section>"
        )
        slides = [head, *(section(s, f"minute {s.minute}" if s.minute is not None else "") for s in deck.slides)]
        text = PAGE.format(title=escape(title), slides="\n".join(slides))
        (output / f"{deck.name}.html").write_text(text, encoding="utf-8")
    print(f"{sum(len(deck.slides) + 1 for deck in made)} slides in {len(made)} decks.")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Make the slides of the course.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    root = parser.parse_args(arguments).root.resolve()
    try:
        return write_slides(root, root / "_build" / "course" / "slides", os.environ.get("PAINTERS_PROFILE") or "book")
    except MystError as problem:
        print(problem, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
