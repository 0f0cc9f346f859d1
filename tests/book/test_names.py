"""Names that answers to an exercise may set: no cell that comes later may take them for its own."""

import builtins
import dis
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

import pytest
from course import parts
from myst import Block, Page, parse
from numbering import read_book

ROOT = Path(__file__).resolve().parents[2]
PAGES = [p for p in read_book(ROOT).pages if p.has_notebook and any(b.name == "exercise" for b in p.blocks)]
GIVEN = re.compile(r"^(\w+) = exercise\(", re.M)
"""The function that an exercise hands on, right whatever the reader wrote."""


@dataclass
class Cell:
    """The names that a cell reads before it sets them, those that it sets, and what its functions read when called."""

    reads: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)
    calls: dict[str, set[str]] = field(default_factory=dict)


def inside(code: CodeType) -> set[str]:
    """The names of the page that functions and generators in some code read when they run."""
    found: set[str] = set()
    for part in (const for const in code.co_consts if isinstance(const, CodeType)):
        found |= {i.argval for i in dis.get_instructions(part) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        found |= inside(part)
    return found


def cell_of(block: Block) -> Cell:
    """Read the names of one cell from its bytecode."""
    lines = ("" if line.lstrip().startswith(("%", "!")) else line for line in block.lines)
    code, cell = compile("\n".join(lines), "cell", "exec"), Cell()
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_NAME" and step.argval not in cell.sets:
            cell.reads.add(step.argval)
        elif step.opname in ("STORE_NAME", "STORE_GLOBAL"):
            cell.sets.add(step.argval)
    cell.reads |= inside(code) - cell.sets
    cell.reads -= set(dir(builtins))
    for part in (const for const in code.co_consts if isinstance(const, CodeType)):
        if part.co_name in cell.sets:
            own = {i.argval for i in dis.get_instructions(part) if i.opname == "LOAD_GLOBAL"}
            cell.calls[part.co_name] = own | inside(part)
    return cell


def reach(names: Iterable[str], calls: dict[str, set[str]]) -> set[str]:
    """All names that are read when some names are used and functions of the page among them are called."""
    found, more = set(), set(names)
    while more:
        found |= more
        more = set().union(*(calls.get(name, set()) for name in more)) - found
    return found


def trouble(page: Page) -> Iterator[str]:
    """Say which cells after an exercise are at the mercy of the names that answers to it set.

    A reader may choose any name. So after the first exercise there are only cells of exercises; and of these none reads
    what another sets, except the function that `exercise` hands on, nor a name `my_...` but its own function's.
    """
    calls: dict[str, set[str]] = {}
    told: dict[str, str] = {}
    asked = False
    for head, body in parts(page.blocks):
        label, here = head.options["label"] if head else "", {}
        asked |= head is not None
        for block in (block for block in body if block.name == "code-cell"):
            cell = cell_of(block)
            calls |= cell.calls
            read = reach(cell.reads, calls)
            if asked and not head:
                yield f"book/{page.name}.md:{block.line}: this cell comes after exercises and reads {sorted(read)}"
            for name in sorted(read & told.keys() - here.keys()):
                yield f"book/{page.name}.md:{block.line}: this cell reads {name}, which {told[name]} sets"
            for name in sorted(name for name in read - here.keys() if head and name.startswith("my_")):
                yield f"book/{page.name}.md:{block.line}: {name} is a name for readers"
            if head:
                here |= dict.fromkeys(cell.sets - set(GIVEN.findall("\n".join(block.lines))), label)
        told |= here


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_answer_to_an_exercise_can_break_a_later_cell(page):
    assert list(trouble(page)) == []


def test_every_page_with_exercises_is_looked_at():
    assert {"intro", "variations", "gans"} < {page.name for page in PAGES}


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["gains = 1", "ex-a", "## Summary", "print(gains)"], "this cell comes after exercises"),
        (["ex-a", "gains = 2", "ex-b", "y = 2 * gains"], "reads gains, which ex-a sets"),
        (["ex-a", "gains = 2", "ex-b", "[gains for i in [0]]"], "reads gains, which ex-a sets"),
        (["def f(): return one", "ex-a", "for one in [2]: pass", "ex-b", "f()"], "reads one, which ex-a sets"),
        (["my_levels = 1", "ex-a", "print(my_levels)"], "my_levels is a name for readers"),
        (["ex-a", "def my_f(): ...", "f = exercise('ex-a', my_f)", "ex-b", "f()"], ""),
        (["a = 1", "ex-a", "b = a", "print(b)", "ex-b", "b = 2\nprint(b, [b for b in []])"], ""),
    ],
)
def test_names_that_could_be_taken_are_found(cells, says):
    marks = {"ex-": ":::{exercise} Think: it\n:label: %s\n:::\n\n", "## ": "%s\n\n"}
    code = "```{code-cell} ipython3\n%s\n```\n\n"
    text = "".join(marks.get(cell[:3], code) % cell for cell in cells)
    found = list(trouble(Page("page", tuple(parse(text.splitlines(), 1)))))
    assert len(found) == bool(says) and all(says in one for one in found)
