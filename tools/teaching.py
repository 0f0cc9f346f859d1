"""Read the notes for teachers, `book/teaching/NAME.md`, and say what each exercise asks.

A file has in front the points and minutes of each exercise of its page, then the sections `## Misconceptions` and
`## Discussion`, and then, for each exercise, a section named by its label, which says what goes wrong in it.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml
from myst import Block, MystError, Page, read_page
from numbering import Book

SECTIONS = ("Misconceptions", "Discussion")
# Points and minutes of an exercise of which no notes say more.
USUAL = {"code": (3, 10), "think": (2, 10), "explore": (2, 15)}
LONG = (6, 60)


@dataclass(frozen=True)
class Notes:
    """Points and minutes by label, sections by title, and what goes wrong by label."""

    marks: dict[str, tuple[int, int]]
    sections: dict[str, list[Block]]
    wrong: dict[str, list[Block]]


@dataclass(frozen=True)
class Work:
    """One exercise: where it is, what it asks, and how its points are given."""

    page: str
    label: str
    number: str
    title: str
    kind: str
    points: int
    minutes: int
    graded: str

    @property
    def metadata(self) -> dict[str, object]:
        """What the cells of a notebook say of the exercise."""
        return {"exercise": self.label, "kind": self.kind, "points": self.points, "graded": self.graded}


def read_notes(path: Path, page: Page) -> Notes | None:
    """Read the notes of a page, None if there are none.

    Raises:
        MystError: if a section is missing or unknown, or the exercises are not those of the page.
    """
    if not path.exists():
        return None
    place = f"book/teaching/{path.name}"
    front = yaml.safe_load(path.read_text(encoding="utf-8").split("---")[1])
    found: dict[str, list[Block]] = {}
    body: list[Block] = []
    for block in read_page(path).blocks:
        if block.kind == "heading":
            body = found.setdefault(block.argument, [])
        else:
            body.append(block)
    marks = {label: (mark["points"], mark["minutes"]) for label, mark in front["exercises"].items()}
    want = [block.options["label"] for block in page.blocks if block.name == "exercise"]
    if list(marks) != want or list(found) != [*SECTIONS, *want]:
        raise MystError(f"{place}: it must have, in this order, {', '.join((*SECTIONS, *want))}.")
    return Notes(marks, {name: found[name] for name in SECTIONS}, {label: found[label] for label in want})


def kind_of(title: str) -> str:
    """Return code, think or explore from an exercise's title, `Code: one step by hand`."""
    head = title.partition(":")[0].lower()
    return next((kind for kind in USUAL if kind in head), "explore")


def work_of(block: Block, book: Book, page: str, notes: Notes | None, checked: set[str]) -> Work:
    """Describe one exercise of a page; `checked` are the labels that a cell checks."""
    label, kind = block.options["label"], kind_of(block.argument)
    usual = LONG if "long" in block.argument.partition(":")[0].lower() else USUAL[kind]
    points, minutes = notes.marks[label] if notes else usual
    graded = "by itself" if label in checked else "by hand"
    return Work(page, label, book.targets[label].text, block.argument, kind, points, minutes, graded)
