"""Compute how long each page takes to read, from the page itself, and hold it to its budget.

    python tools/minutes.py            a table: page, words, minutes, budget
    python tools/minutes.py --check    the same; fail if a page or the book is over its budget

A minute for 180 words of prose, text in folds included; 1.5 for each displayed formula of a proof, and for each figure
or table; 1 for each visible code cell. Exercises and their solutions are apart: they are work, not reading. Words count
prose and exercises, not solutions.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from myst import Block, Page, children
from numbering import read_book

ROOT = Path(__file__).resolve().parent.parent
WORDS_A_MINUTE = 180
COURSE = {
    "intro": 20,
    "derivation": 45,
    "gaussian": 45,
    "landscape": 45,
    "evidence": 50,
    "manifold": 40,
    "variations": 40,
    "gans": 30,
}
DEEPER = ("reverse", "steps", "modes", "factors", "learning", "models", "guidance", "faster", "pretrained", "claims")
DEEPER += ("live",)
DEEPER_MINUTES = 30
COURSE_MINUTES, COURSE_WORDS, BOOK_WORDS = 315, 20_000, 50_000
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
DRAWS = {"sequence", "table", "ledger", "live"}
"""Calls that show a figure or a table without a figure's options."""
ROLE = re.compile(r"\{[a-zA-Z][\w:.-]*\}`(?:([^`<]+?)\s*<[^`>]+>|([^`]+))`")
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$]+\$", re.S)
ROW = re.compile(r"^\s*\|?[\s:|-]*-{3}[\s:|-]*$")


@dataclass(frozen=True)
class Reading:
    """What one page asks of a reader."""

    words: int = 0
    exercise_words: int = 0
    proof_formulas: int = 0
    figures: int = 0
    cells: int = 0

    def __add__(self, other: "Reading") -> "Reading":
        return Reading(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def minutes(self) -> int:
        """Minutes to read it, rounded to the nearest one."""
        return round(self.words / WORDS_A_MINUTE + 1.5 * (self.proof_formulas + self.figures) + self.cells)


def count(text: str) -> int:
    """Count the words of some Markdown; an inline formula is one word."""
    text = FORMULA.sub(" formula ", text)
    text = ROLE.sub(lambda m: m[1] or m[2], text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return sum(any(c.isalnum() for c in word) for word in text.split())


def said(code: str) -> tuple[int, int]:
    """Return the words that a cell's ``say`` and captions set as text, and the figures that its calls show."""
    code = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
    words = figures = 0
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        figures += name in DRAWS
        texts = node.args if name == "say" else [k.value for k in node.keywords if k.arg == "caption"]
        if name == "say" or name in DRAWS:
            strings = (n for text in texts for n in ast.walk(text) if isinstance(n, ast.Constant))
            words += sum(count(n.value) for n in strings if isinstance(n.value, str))
    return words, figures


def of_cell(block: Block) -> Reading:
    """What a code cell asks: its code if it is shown, its figure with the caption, its computed sentences."""
    tags = set(block.options.get("tags", []))
    if "remove-cell" in tags:
        return Reading()
    figure = block.options.get("mystnb", {}).get("figure")
    words, figures = said("\n".join(block.lines))
    if figure:
        words, figures = words + count(figure.get("caption", "")), max(figures, 1)
    return Reading(words, figures=figures, cells=not tags & HIDDEN)


def of_blocks(blocks: Iterable[Block], *, proof: bool = False) -> Reading:
    """Sum over blocks; exercises count their words only, solutions nothing."""
    total, apart = Reading(), False
    for block in blocks:
        if block.kind == "heading" and len(block.name) <= 2:
            apart = block.argument == "Exercises"
        if block.name == "exercise":
            inner = of_blocks(children(block))
            total += Reading(exercise_words=inner.words + count(block.argument))
        elif block.name == "solution":
            continue
        elif apart:
            if block.kind == "text":
                total += Reading(exercise_words=count("\n".join(block.lines)))
        else:
            total += of_block(block, proof)
    return total


def of_block(block: Block, proof: bool) -> Reading:
    """What one block outside exercises asks."""
    text = "\n".join(block.lines)
    if block.name == "code-cell":
        return of_cell(block)
    if block.name == "raw":  # an instrument of HTML
        return Reading(figures=1)
    if block.kind == "text":
        tables = sum(bool(ROW.match(line)) and "|" in line for line in block.lines)
        return Reading(count(text), figures=tables)
    if block.kind == "heading":
        return Reading(count(block.argument))
    if block.kind == "math" or block.name == "math":
        return Reading(proof_formulas=int(proof))
    if block.kind == "fence" or block.name == "code-block":
        return Reading(cells=1)
    if block.kind != "directive":
        return Reading()
    inner = of_blocks(children(block), proof=proof or block.name == "prf:proof")
    figure = block.name in ("figure", "image")
    return inner + Reading(0 if figure else count(block.argument), figures=int(figure))


def reading(page: Page) -> Reading:
    """Return what a page asks of its reader."""
    blocks, kept, solution = page.blocks, [], False
    for block in blocks:
        if block.name in ("solution-start", "solution-end"):
            solution = block.name == "solution-start"
        elif not solution:
            kept.append(block)
    return of_blocks(kept)


def over(readings: dict[str, Reading]) -> list[str]:
    """Return a sentence for each budget that is passed."""
    words = {name: r.words + r.exercise_words for name, r in readings.items()}
    budgets = {**COURSE, **dict.fromkeys(DEEPER, DEEPER_MINUTES)}
    course = [name for name in COURSE if name in readings]
    problems = [
        f"{name}: {readings[name].minutes} minutes, {budget} at most"
        for name, budget in budgets.items()
        if name in readings and readings[name].minutes > budget
    ]
    for what, value, limit in (
        ("the course", sum(readings[name].minutes for name in course), COURSE_MINUTES),
        ("words of the course", sum(words[name] for name in course), COURSE_WORDS),
        ("words of the book", sum(words.values()), BOOK_WORDS),
    ):
        if value > limit:
            problems.append(f"{what}: {value:,}, {limit:,} at most")
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Compute the minutes that each page takes to read.")
    parser.add_argument("--check", action="store_true", help="fail if a budget is passed")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    options = parser.parse_args(arguments)
    readings = {page.name: reading(page) for page in read_book(options.root).pages}
    budgets = {**COURSE, **dict.fromkeys(DEEPER, DEEPER_MINUTES)}
    widths = {"words": 7, "exercises": 11, "formulas": 10, "figures": 9, "cells": 7, "minutes": 9, "at most": 9}
    print(f"{'page':<14}" + "".join(f"{name:>{width}}" for name, width in widths.items()))
    for name, r in readings.items():
        row = (r.words, r.exercise_words, r.proof_formulas, r.figures, r.cells, r.minutes, budgets.get(name, ""))
        print(f"{name:<14}" + "".join(f"{v:>{w}}" for v, w in zip(row, widths.values())))
    course = [readings[name] for name in COURSE if name in readings]
    words, minutes = sum(r.words + r.exercise_words for r in course), sum(r.minutes for r in course)
    whole = sum(r.words + r.exercise_words for r in readings.values())
    print(f"the course: {words:,} words, {minutes} minutes; the book: {whole:,} words")
    problems = over(readings)
    for problem in problems:
        print(f"over its budget: {problem}", file=sys.stderr)
    return 1 if options.check and problems else 0


if __name__ == "__main__":
    sys.exit(main())
