"""Read the notes for teachers, `book/teaching/NAME.md`, and say what each exercise asks.

A file has in front the points and minutes of each exercise of its page, and the minutes of each prompt for discussion
with its place in `book/guide.md`: a session, and there the minute at which a block begins, or `home`. Then come the
sections `## Misconceptions` and `## Discussion`, and for each exercise one named by its label, which says what goes
wrong in it.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from myst import Block, MystError, Page, read_page
from numbering import Book

SECTIONS = ("Misconceptions", "Discussion")
# Points and minutes of an exercise of which no notes say more.
USUAL = {"code": (3, 10), "think": (2, 10), "explore": (2, 15)}
LONG = (6, 60)


@dataclass(frozen=True)
class Prompt:
    """A question to discuss: its minutes, and the minute of a session at which its block begins, None for home."""

    name: str
    page: str
    text: str
    minutes: int
    session: int
    at: int | None

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return f"session {self.session}, " + ("at home" if self.at is None else f"from minute {self.at}")


@dataclass(frozen=True)
class Notes:
    """Points and minutes by label, sections by title, prompts for discussion, and what goes wrong by label."""

    marks: dict[str, tuple[int, int]]
    sections: dict[str, list[Block]]
    prompts: list[Prompt]
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
    prompts = read_prompts(found["Discussion"], front.get("discussion", []), page.name)
    told = [f"{i}. *({one.minutes} minutes, {one.place})* {one.text}" for i, one in enumerate(prompts, 1)]
    found["Discussion"] = [replace(found["Discussion"][0], lines=tuple(told))]
    return Notes(marks, {name: found[name] for name in SECTIONS}, prompts, {label: found[label] for label in want})


def read_prompts(blocks: list[Block], places: list[dict], page: str) -> list[Prompt]:
    """Join the prompts of a page with their minutes and places.

    Raises:
        MystError: if a prompt has none.
    """
    texts = re.split(r"^\d+\. ", "\n".join(line for block in blocks for line in block.lines), flags=re.M)[1:]
    prompts = []
    for i, text in enumerate(texts, 1):
        facts = places[i - 1] if i <= len(places) else {}
        at, minutes, session = facts.get("at"), facts.get("minutes", 0), facts.get("session")
        if session is None or not (at == "home" or isinstance(at, int)) or minutes < 1:
            form = "{session: 1, at: 10, minutes: 5}, or at: home"
            raise MystError(f"book/teaching/{page}.md: prompt {i} for discussion needs a place and minutes, as {form}.")
        minute = at if isinstance(at, int) else None
        prompts.append(Prompt(f"prompt {i} of {page}", page, text.strip(), minutes, session, minute))
    if len(places) > len(prompts):
        raise MystError(f"book/teaching/{page}.md: {len(places)} places for {len(prompts)} prompts for discussion.")
    return prompts


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
