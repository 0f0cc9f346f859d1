"""The plan of the sessions adds up, and every prompt for discussion has its minutes and its place in it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from minutes import COURSE
from myst import MystError, Page, parse, read_page
from numbering import read_book
from plan import LENGTH, read_plans, with_prompts
from teaching import Prompt, read_notes

ROOT = Path(__file__).resolve().parents[2]
GUIDE = read_page(ROOT / "book" / "guide.md")
NOTES = {p.name: read_notes(ROOT / f"book/teaching/{p.name}.md", p) for p in read_book(ROOT).pages if p.name in COURSE}
PROMPTS = [prompt for notes in NOTES.values() for prompt in notes.prompts]


def test_every_session_is_90_minutes_with_its_discussions():
    plans = read_plans(GUIDE, PROMPTS)
    assert list(plans) == [*(f"Session {i}" for i in range(1, 5)), "One lecture"]
    assert all(sum(len(span) for span in plan.rows) == LENGTH for plan in plans.values())
    placed = [one for plan in plans.values() for here in [*plan.prompts.values(), plan.home] for one in here]
    assert sorted(one.name for one in placed) == sorted(one.name for one in PROMPTS)
    assert all(plans[f"Session {i}"].prompts for i in range(1, 5))


def test_every_chapter_has_prompts_and_loses_none():
    for name, notes in NOTES.items():
        text = (ROOT / f"book/teaching/{name}.md").read_text(encoding="utf-8")
        text = text.partition("## Discussion")[2].partition("\n## ")[0]
        assert len(notes.prompts) == len(re.findall(r"^\d+\. ", text, re.M)) >= 2
        assert " ".join(one.text for one in notes.prompts).split() == re.sub(r"^\d+\. ", "", text, flags=re.M).split()


def test_exercises_in_pairs_leave_time_for_what_is_discussed():
    marks = {label: mark for notes in NOTES.values() for label, mark in notes.marks.items()}
    rows = [
        (sum(marks[label][1] for label in re.findall(r"ex-[\w-]+", row)), plan.prompts.get(span, []), span)
        for plan in read_plans(GUIDE, PROMPTS).values()
        for span, row in plan.rows.items()
        if "in pairs" in row
    ]
    assert len(rows) >= 5
    assert all(work and work + sum(one.minutes for one in here) <= len(span) for work, here, span in rows)


def test_the_instructors_plan_has_each_prompt_in_its_block():
    text = "\n".join("\n".join((block.argument, *block.lines)) for block in with_prompts(GUIDE, PROMPTS))
    for one in PROMPTS:
        session = text.partition(f"Session {one.session}:")[2].partition("\nSession ")[0].partition("One lecture")[0]
        (line,) = [line for line in session.splitlines() if one.text in line]
        row, item = rf"\| {one.at}–\d+ \|.*\*\*Discuss, {one.minutes} ", rf"\* \({one.minutes} minutes\) "
        assert re.match(item if one.at is None else row, line) and text.count(one.text) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| 12–32 |", "| 12–30 |"),
        ("| 12–32 |", "| 13–32 |"),
        ("| 82–90 |", "| 82–88 |"),
        ("| 82–90 |", "| 82–95 |"),
        ("| 0–12 |", "| 2–12 |"),
        ("| 12–32 |", "| 12 |"),
    ],
)
def test_a_session_that_does_not_add_up_is_refused(old, new):
    before, head, text = (ROOT / "book" / "guide.md").read_text(encoding="utf-8").partition("### Session 2")
    assert old in text
    blocks = tuple(parse((before + head + text.replace(old, new, 1)).splitlines(), 1))
    with pytest.raises(MystError, match="Session 2: one Gaussian: blocks must follow each other from 0 to 90"):
        read_plans(Page("guide", blocks))


ONE = Prompt("prompt 1 of intro", "intro", "Why?", minutes=5, session=1, at=0)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (replace(ONE, session=5), "no plan of Session 5, in which prompt 1 of intro"),
        (replace(ONE, at=5), "Session 1 has no block at minute 5"),
        (replace(ONE, minutes=10), "prompt 1 of intro leaves nothing of the minutes 0 to 10"),
    ],
)
def test_a_prompt_without_a_place_in_the_plan_is_refused(prompt, says):
    with pytest.raises(MystError, match=says):
        read_plans(GUIDE, [prompt])


def test_two_prompts_may_not_fill_a_block():
    assert read_plans(GUIDE, [ONE, replace(ONE, minutes=4)])
    with pytest.raises(MystError, match="leaves nothing"):
        read_plans(GUIDE, [ONE, ONE])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (r"discussion:\n.*\n.*\n", "", "prompt 1 for discussion needs a place and minutes"),
        (r", minutes: 5\}\n---", "}\n---", "prompt 2 for discussion needs a place and minutes"),
        (r"at: 0, ", "", "prompt 1 for discussion needs a place and minutes"),
        (r"session: 1, at: 0", "at: 0", "prompt 1 for discussion needs a place and minutes"),
        (r"\n2\. A sceptic", "\nA sceptic", "2 places for 1 prompts"),
        (r"\n2\. A sceptic", "\n2. One more?\n3. A sceptic", "prompt 3 for discussion needs a place and minutes"),
    ],
)
def test_notes_whose_prompts_have_no_minutes_are_refused(tmp_path, old, new, says):
    text = (ROOT / "book" / "teaching" / "intro.md").read_text(encoding="utf-8")
    (tmp_path / "intro.md").write_text(re.sub(old, new, text, count=1), encoding="utf-8")
    with pytest.raises(MystError, match=f"book/teaching/intro.md: {says}"):
        read_notes(tmp_path / "intro.md", read_page(ROOT / "book" / "intro.md"))
