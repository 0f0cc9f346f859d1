"""Read the plan of the sessions, `book/guide.md`, and put into it the prompts for discussion, `book/teaching/NAME.md`.

A session is a table of blocks, `| 10–28 | what is done |`, which follow each other from its first minute to its last. A
prompt takes its minutes of a block, and leaves some to what the block is for; or it is for home, after a session.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from myst import Block, MystError, Page
from teaching import Prompt

LENGTH = 90
SECTION = re.compile(r"(Session \d|One lecture)")
ROW = re.compile(r"^\| (\d+)–(\d+) \| (.+) \|$", re.M)


@dataclass
class Plan:
    """A session or the lecture: its title; what is done, by minutes; and what is discussed, in these or at home."""

    title: str
    rows: dict[range, str] = field(default_factory=dict)
    prompts: dict[range, list[Prompt]] = field(default_factory=dict)
    home: list[Prompt] = field(default_factory=list)


def fail(what: str) -> MystError:
    """Make the error for a plan."""
    return MystError(f"book/guide.md: {what}.")


def head_of(block: Block) -> str:
    """Return of which session a heading begins the plan, `Session 1`."""
    match = SECTION.match(block.argument)
    return match[1] if match else ""


def read_plans(guide: Page, prompts: Iterable[Prompt] = ()) -> dict[str, Plan]:
    """Return the plan of each session and of the lecture, by the name that its title begins with.

    Raises:
        MystError: if the blocks of a session are not 90 minutes, or a prompt has no place in it.
    """
    found: dict[str, Plan] = {}
    head = ""
    for block in guide.blocks:
        if block.kind == "heading":
            head = head_of(block)
            if head:
                found[head] = Plan(block.argument)
        elif head:
            for start, end, row in ROW.findall("\n".join(block.lines)):
                found[head].rows[range(int(start), int(end))] = row
    for plan in found.values():
        ends = [0, *(span.stop for span in plan.rows)]
        if [*(span.start for span in plan.rows), LENGTH] != ends or not all(plan.rows):
            told = ", ".join(f"{span.start}–{span.stop}" for span in plan.rows)
            raise fail(f"{plan.title}: blocks must follow each other from 0 to {LENGTH}, and are {told}")
    for prompt in prompts:
        place(prompt, found)
    return found


def place(prompt: Prompt, plans: dict[str, Plan]) -> None:
    """Put a prompt where it stands.

    Raises:
        MystError: if there is no such place, or no time for it.
    """
    name = f"Session {prompt.session}"
    if name not in plans:
        raise fail(f"no plan of {name}, in which {prompt.name} shall stand")
    plan = plans[name]
    if prompt.at is None:
        plan.home.append(prompt)
        return
    span = next((span for span in plan.rows if span.start == prompt.at), None)
    if span is None:
        raise fail(f"{name} has no block at minute {prompt.at}, in which {prompt.name} shall stand")
    here = plan.prompts.setdefault(span, [])
    here.append(prompt)
    if sum(one.minutes for one in here) >= len(span):
        raise fail(f"{name}: {prompt.name} leaves nothing of the minutes {span.start} to {span.stop} for the block")


def with_prompts(guide: Page, prompts: Iterable[Prompt]) -> list[Block]:
    """Return the page with the prompts in their blocks, and those for home below the table of their session."""
    plans, blocks, head = read_plans(guide, prompts), [], ""

    def full(row: re.Match) -> str:
        here = plans[head].prompts.get(range(int(row[1]), int(row[2])), [])
        told = "".join(f" **Discuss, {one.minutes} of these minutes:** {one.text}" for one in here)
        return f"| {row[1]}–{row[2]} | {row[3]}{told} |"

    for block in guide.blocks:
        if block.kind == "heading":
            head = head_of(block)
        elif head and ROW.search("\n".join(block.lines)):
            lines = tuple(ROW.sub(full, line) for line in block.lines)
            if plans[head].home:
                lines += ("", "To discuss at home, in writing or in a forum:", "")
                lines += tuple(f"* ({one.minutes} minutes) {one.text}" for one in plans[head].home)
            block = replace(block, lines=lines)
        blocks.append(block)
    return blocks
