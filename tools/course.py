"""Make what a course needs from the pages of the book, in `_build/course`.

    python tools/course.py               editions, cartridge, figures and slides, and a zip of each
    python tools/course.py --no-figures  editions and cartridge only, in seconds: nothing is executed
    python tools/course.py --site        also a site without solutions, site/: every page is executed

student/ holds no solution: solutions, and the answers to predictions, are taken out of the pages before anything is
made from them. instructor/ shows them, with the notes of `book/teaching/NAME.md`, and has `hidden.key`, from which
`painters grade` draws the inputs on which hand-ins are judged. course.imscc is the student edition for a
learning-management system (`tools/cartridge.py`), slides/ are the teacher's (`tools/slides.py`). Whatever is for
students is searched for solutions when it is made (`tools/leaks.py`), and a find is an error.
Every cell of an exercise carries its label, kind, points and role (statement, given, answer, check, and for
teachers solution and note) in its metadata, under `painters`; `exercises.csv` lists them all.
"""

import argparse
import ast
import csv
import io
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import build
import yaml
from archives import pack
from cartridge import write_cartridge
from export import ROOT, cells_of, finished, new_cell, repository_address
from figures import draw_all
from leaks import Secrets, leaks, solutions
from minutes import of_blocks, reading
from myst import Block, MystError, Page, children, read_page
from numbering import Book, read_book, walk
from plan import with_prompts
from pybtex.database import BibliographyData, parse_file
from render import Renderer, quote
from slides import write_slides
from teaching import Notes, Work, read_notes, work_of

ANSWER = "Answer to the prediction"
CHECK = re.compile(r"\bexercise\(\s*\"(ex-[\w-]+)\"")
WRITE = "**Your {what}** (double-click to write it here)"
CODE = "# Your code for {number}"
BUTTONS = ("use_repository_button", "use_issues_button", "use_edit_page_button")


# What a student does not get


def is_answer(block: Block) -> bool:
    """Whether a block tells the answer to a prediction."""
    if block.name == "code-cell":
        return f"**{ANSWER}" in "\n".join(block.lines)
    return block.name == "dropdown" and block.argument == ANSWER


def split(blocks: Iterable[Block]) -> tuple[list[Block], list[Block]]:
    """Part the blocks of a page into what students get and what they do not."""
    kept, taken, solution = [], [], False
    for block in blocks:
        gate = block.name in ("solution-start", "solution-end")
        if gate:
            solution = block.name == "solution-start"
        (taken if gate or solution or block.name == "solution" or is_answer(block) else kept).append(block)
    return kept, taken


def names(blocks: Iterable[Block]) -> tuple[dict[str, int], set[str]]:
    """Return the names that code cells read, each with a line, and those that they set."""
    read: dict[str, int] = {}
    told: set[str] = set()
    for block in blocks:
        if block.name != "code-cell":
            continue
        lines = ("" if line.lstrip().startswith(("%", "!")) else line for line in block.lines)
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                read.setdefault(node.id, block.start + node.lineno - 1)
            elif isinstance(node, ast.Name):
                told.add(node.id)
            elif isinstance(node, ast.arg):
                told.add(node.arg)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                told.add(node.name)
            elif isinstance(node, ast.alias):
                told.add((node.asname or node.name).split(".")[0])
    return read, told


def labels(blocks: Iterable[Block]) -> set[str]:
    """Return the labels that blocks define; an exercise's solution names it and does not define it."""
    found = set()
    for block in walk(list(blocks)):
        if block.kind in ("target", "math") and block.argument:
            found.add(block.argument)
        elif block.kind == "directive" and not block.name.startswith("solution"):
            figure = block.options.get("mystnb", {}).get("figure", {}) if block.name == "code-cell" else {}
            found |= {block.options.get("label"), block.options.get("name"), figure.get("name")} - {None}
    return found


def without_solutions(page: Page) -> Page:
    """Return a page as students get it.

    Raises:
        MystError: if what is left needs something that is gone, or a solution stands inside another block.
    """
    kept, taken = split(page.blocks)
    for block in walk(kept):
        if block.name.startswith("solution") or is_answer(block):
            raise MystError(f"book/{page.name}.md:{block.line}: a solution inside another block cannot be taken out.")
    (read, told), (_, gone) = names(kept), names(taken)
    for name in sorted((gone - told) & read.keys()):
        raise MystError(f"book/{page.name}.md:{read[name]}: {name} is only defined in a solution.")
    lost = labels(taken) - labels(kept)
    for block in kept:
        for label in lost:
            if re.search(rf"{re.escape(label)}(?![\w-])", "\n".join((block.argument, *block.lines))):
                raise MystError(f"book/{page.name}.md:{block.line}: {label} stands in a solution.")
    return replace(page, blocks=tuple(kept))


def student_source(path: Path) -> str:
    """Return the text of a page's file as students get it."""
    lines, blocks = path.read_text(encoding="utf-8").splitlines(), read_page(path).blocks
    taken = {id(block) for block in split(blocks)[1]}
    ends = [block.line for block in blocks[1:]] + [len(lines) + 1]
    for block, end in reversed(list(zip(blocks, ends))):
        if id(block) in taken:
            del lines[block.line - 1 : end - 1]
    return "\n".join(lines) + "\n"


# Notebooks


@dataclass
class Edition(Renderer):
    """Renders a page of an edition: pictures are files beside it, and solutions and answers, if any, are open."""

    def image(self, block: Block) -> str:
        """Return a picture's place in the edition."""
        return block.argument

    def directive(self, block: Block) -> str:
        """Render a directive."""
        if block.name == "solution" or is_answer(block):
            title = "Solution" if block.name == "solution" else ANSWER
            return f"**{title}.**\n\n{self.blocks(children(block))}"
        return super().directive(block)


def parts(blocks: Iterable[Block]) -> Iterator[tuple[Block | None, list[Block]]]:
    """Part blocks at the exercises: each comes with what follows it, up to the next one or to a heading."""
    head: Block | None = None
    body: list[Block] = []
    for block in blocks:
        if block.name == "exercise" or (head and block.kind == "heading"):
            yield head, body
            head, body = (block if block.name == "exercise" else None), []
        if block is not head:
            body.append(block)
    yield head, body


def opened(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield blocks with open solutions in place of gated ones; blocks without solutions are as they were."""
    for block in blocks:
        if block.name == "solution-start":
            yield Block("text", block.line, lines=("**Solution.**",))
        elif block.name != "solution-end":
            yield block


def tell(cells: list[dict], work: Work, role: str) -> list[dict]:
    """Write into the metadata of cells to which exercise they belong, and their role in it."""
    for cell in cells:
        source = "".join(cell["source"])
        own = role
        if cell["cell_type"] == "code" and role == "given":
            own = "check" if CHECK.search(source) else "answer" if re.search(r"^def my_", source, re.M) else role
        cell["metadata"]["painters"] = work.metadata | {"role": own}
    return cells


def exercise_cells(block: Block, body: list[Block], work: Work, renderer: Renderer, *, student: bool) -> list[dict]:
    """Return the cells of one exercise; students get a place to answer where the page has none."""
    cells = tell(cells_of([block], renderer), work, "statement")
    secret = {id(b) for b in split(body)[1]}
    for solution, group in groupby(body, key=lambda b: id(b) in secret):
        cells += tell(cells_of(opened(group), renderer), work, "solution" if solution else "given")
    if student:
        written = any(cell["metadata"]["painters"]["role"] == "answer" for cell in cells)
        place = []
        if not written and work.kind != "think":
            place.append(new_cell("code", CODE.format(number=work.number)))
        if not written or "?" in "".join(block.lines):
            place.append(new_cell("markdown", WRITE.format(what="answer")))
        cells += tell(place, work, "answer")
    return cells


def student_cells(page: Page, works: dict[str, Work], renderer: Renderer) -> list[dict]:
    """Return the cells of a page for students, from a page without solutions."""
    cells = []
    for block, body in parts(page.blocks):
        if block:
            cells += exercise_cells(block, body, works[block.options["label"]], renderer, student=True)
            continue
        while body:
            ask = next((i for i, b in enumerate(body) if b.argument == "Predict first"), None)
            here, body = body[: ask + 1 if ask is not None else None], body[ask + 1 :] if ask is not None else []
            cells += cells_of(here, renderer)
            if ask is not None:
                cells.append(new_cell("markdown", WRITE.format(what="prediction"), painters={"role": "prediction"}))
    return cells


def teacher_cells(page: Page, works: dict[str, Work], notes: Notes | None, renderer: Renderer) -> list[dict]:
    """Return the cells of a page for teachers."""
    cells = []
    for block, body in parts(page.blocks):
        if not block:
            cells += cells_of(body, renderer)
            continue
        work = works[block.options["label"]]
        cells += exercise_cells(block, body, work, renderer, student=False)
        if notes:
            head = f"**For the teacher: {work.points} points ({work.graded}), {work.minutes} minutes.**"
            text = quote(head, renderer.blocks(notes.wrong[work.label]))
            cells.append(new_cell("markdown", text, painters=work.metadata | {"role": "note"}))
    top = [timing(page, works, notes)]
    if notes:
        top += [f"## For the teacher: {title}\n\n{renderer.blocks(text)}" for title, text in notes.sections.items()]
    return [cells[0], *(new_cell("markdown", text, painters={"role": "note"}) for text in top), *cells[1:]]


def timing(page: Page, works: dict[str, Work], notes: Notes | None) -> str:
    """Return a table of the minutes of a page's sections, as `tools/minutes.py` counts them, and of what is done."""
    rows, title, body = [], "Opening", []
    for block in (*split(page.blocks)[0], Block("heading", 0, "##")):
        if block.kind == "heading" and block.name == "##":
            if title != "Exercises":
                rows.append((title, f"{of_blocks(body).minutes}", ""))
            title, body = block.argument, []
        else:
            body.append(block)
    rows.append(("**Reading**", f"**{reading(page).minutes}**", ""))
    rows += [(f"{w.number}. {w.title}", f"{w.minutes}", f"{w.points}, {w.graded}") for w in works.values()]
    minutes, points = (sum(getattr(work, name) for work in works.values()) for name in ("minutes", "points"))
    rows.append(("**Exercises**", f"**{minutes}**", f"**{points}**"))
    for i, prompt in enumerate(notes.prompts if notes else [], 1):
        rows.append((f"Discussion {i}, {prompt.place}", f"{prompt.minutes}", ""))
    lines = [f"| {' | '.join(row)} |" for row in (("part", "minutes", "points"), ("---", "--:", "---"), *rows)]
    return "## For the teacher: minutes and points\n\n" + "\n".join(lines)


# Editions


def works_of(page: Page, book: Book, notes: Notes | None) -> dict[str, Work]:
    """Return the exercises of a page by their labels."""
    checked = set(CHECK.findall("\n".join("\n".join(b.lines) for b in page.blocks if b.name == "code-cell")))
    found = [work_of(block, book, page.name, notes, checked) for block in page.blocks if block.name == "exercise"]
    return {work.label: work for work in found}


def write_editions(root: Path, output: Path, only: Iterable[str] = ()) -> list[Work]:
    """Write both editions, of all pages with a notebook or only of some; return their exercises."""
    book, repository = read_book(root), repository_address(root)
    bibliography = parse_file(str(root / "book" / "references.bib"))
    pages = [page for page in book.pages if page.has_notebook and (not only or page.name in only)]
    for edition in ("student", "instructor"):
        shutil.rmtree(output / edition, ignore_errors=True)
        (output / edition).mkdir(parents=True)
    every, prompts = [], []
    for page in pages:
        notes = read_notes(root / "book" / "teaching" / f"{page.name}.md", page)
        works = works_of(page, book, notes)
        every += works.values()
        prompts += notes.prompts if notes else []
        for edition in ("student", "instructor"):
            renderer = renderer_of(book, page, repository, bibliography, root)
            if edition == "student":
                cells = student_cells(without_solutions(page), works, renderer)
            else:
                cells = teacher_cells(page, works, notes, renderer)
            text = finished(cells, renderer)
            (output / edition / f"{page.name}.ipynb").write_text(text, encoding="utf-8")
            for picture in re.findall(r"!\[[^\]]*\]\((images/[^)]+)\)", text):
                (output / edition / "images").mkdir(exist_ok=True)
                shutil.copy(root / "book" / picture, output / edition / picture)
    for source, name in (("teaching/exam", "exam"), ("teaching/exam", "exam-blank"), ("guide", "plan")):
        if (path := root / "book" / f"{source}.md").exists():
            page = read_page(path)
            blocks = [block for block in page.blocks if name != "exam-blank" or block.argument != "Answer"]
            blocks = with_prompts(page, prompts) if name == "plan" else blocks
            text = renderer_of(book, page, repository, bibliography, root).blocks(blocks)
            (output / "instructor" / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    for edition in ("student", "instructor"):
        (output / edition / "exercises.csv").write_text(listed(every), encoding="utf-8")
        readme = (Path(__file__).parent / "editions" / f"{edition}.md").read_text(encoding="utf-8")
        (output / edition / "README.md").write_text(readme.format(repository=repository), encoding="utf-8")
        for licence in ("LICENSE", "LICENSE-CC-BY-4.0"):
            if (root / licence).exists():
                shutil.copy(root / licence, output / edition)
    key = output / "hidden.key"  # stays when the editions are made again, so that marks do too
    if not key.exists():
        key.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
    shutil.copy(key, output / "instructor")
    return every


def renderer_of(book: Book, page: Page, repository: str, bibliography: BibliographyData, root: Path) -> Edition:
    """Make the renderer of one page."""
    return Edition(book, page.name, repository, bibliography, root / "book")


def listed(works: Iterable[Work]) -> str:
    """Return the table of exercises as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("page", "label", "number", "title", "kind", "points", "minutes", "graded"))
    for work in works:
        number = work.number.removeprefix("Exercise ")
        table.writerow((work.page, work.label, number, work.title, work.kind, work.points, work.minutes, work.graded))
    return text.getvalue()


def secrets_of(root: Path) -> Secrets:
    """Return what no student may find: solutions, answers to predictions, notes for teachers and the exam.

    What the pages say without them, and the package of itself, is no secret, in whatever solution it stands again.
    """
    secrets = Secrets()
    pages = sorted((root / "book").glob("*.md"))
    for path in pages:
        page = read_page(path)
        secrets.hide(*solutions(page, split(page.blocks)[1], root / "book"))
    for path in sorted((root / "book" / "teaching").glob("*.md")):
        secrets.hide(path.read_text(encoding="utf-8"))
    for path in pages:
        secrets.show(student_source(path))
    for path in sorted((root / "src" / "painters").rglob("*.py")):  # the pages of the API show what it says of itself
        secrets.show(path.read_text(encoding="utf-8"))
    return secrets


def student_tree(root: Path, tree: Path) -> Path:
    """Write the project as students get it, for `tools/build.py`; outputs cached there stay.

    No button leads to the repository, whose pages and notebooks hold the solutions.
    """
    shutil.rmtree(tree / "book", ignore_errors=True)
    ignored = shutil.ignore_patterns("*.ipynb", "teaching")
    shutil.copytree(root / "book", tree / "book", ignore=ignored)
    for path in sorted((tree / "book").glob("*.md")):
        path.write_text(student_source(path), encoding="utf-8")
    for name in ("_toc.yml", "pyproject.toml", "requirements.txt"):
        shutil.copy(root / name, tree)
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    config |= {"launch_buttons": {}, "html": config["html"] | dict.fromkeys(BUTTONS, False)}
    (tree / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    for name in ("src", "tools"):
        link = tree / name
        if not link.is_symlink():
            link.symlink_to(root / name, target_is_directory=True)
    return tree


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        description="Make the editions, cartridge, figures, slides and zips of the course."
    )
    parser.add_argument("--no-figures", action="store_true", help="only editions and cartridge; nothing is executed")
    parser.add_argument("--site", action="store_true", help="also a site without solutions; every page is executed")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    output, profile = root / "_build" / "course", os.environ.get("PAINTERS_PROFILE") or "book"
    made, public = ["student", "instructor"], ["student"]
    try:
        works = write_editions(root, output)
        print(f"{len(works)} exercises, {sum(work.points for work in works)} points.")
        write_cartridge(root, read_book(root), works, output / "student", output / "course.imscc")
        status = 0
        if not options.no_figures:
            status |= draw_all(root, output / "figures", profile)
            status |= write_slides(root, output / "slides", profile)
            made += ["figures", "slides"]
    except (MystError, FileNotFoundError) as problem:
        print(problem, file=sys.stderr)
        return 1
    if options.site:
        tree = student_tree(root, output / "site-source")
        status |= build.main(["--root", str(tree)])
        shutil.rmtree(output / "site", ignore_errors=True)
        shutil.copytree(tree / "_build" / "html", output / "site")
        made.append("site")
        public.append("site")
    for path in (output / "course.imscc", *(pack(output / name) for name in made)):
        print(f"wrote {path.relative_to(root)}, {path.stat().st_size / 1e6:.1f} MB")
    found = leaks([output / "course.imscc", *(output / f"{name}.zip" for name in public)], secrets_of(root))
    for name, texts in found.items():
        print(f"{name} gives away: {texts[0]} (and {len(texts) - 1} more)", file=sys.stderr)
    return 1 if status or found else 0


if __name__ == "__main__":
    sys.exit(main())
