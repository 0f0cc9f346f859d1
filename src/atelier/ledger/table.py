"""Columns of the ledger as a table: text that fits a terminal, Markdown, and records for other programs."""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import textwrap
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from atelier.ledger.claim import PARTS, VERDICTS, Cell
from atelier.ledger.column import (
    LEGEND,
    MISSING,
    Column,
    beside_shuffled,
    column,
    interval,
    nulls,
    number,
    reported,
    sign,
)
from atelier.ledger.records import RESULTS, read, rounded

CELL = 13
"""Characters of a model's cell in a table of several; its name is broken to fit."""


def command(options: argparse.Namespace) -> int:
    """Print what ``painters claims --table`` asks for."""
    files = [Path(name) for name in options.table or ()] or sorted(RESULTS.glob("*.json"))
    columns = chosen([column(read(path)) for path in files], options.model, options.claim)
    if options.format == "text" and not (options.model or options.table):
        columns = [one for one in columns if one.kind == "network"]
    forms = {"text": text, "md": markdown, "csv": as_csv, "json": lambda found: json.dumps(records(found), indent=1)}
    print(forms[options.format](columns))
    return 0


def chosen(columns: Sequence[Column], models: str | None = None, claims: str | None = None) -> list[Column]:
    """Return the columns of some models with some claims, names between commas; ``None`` for all.

    A model's name is that of its results file, a claim's its id or its part. Notes are made before, so that a model
    is read beside its twin with shuffled weights. Raises ``ValueError`` for a name that there is not.
    """
    names = {one.model + ("" if one.kind == "network" else f"-{one.kind}"): one for one in beside_shuffled(columns)}
    ids = [*PARTS, *(cell.claim.id for cell in columns[0].cells)]
    asked = _known(claims, ids, "claim or part")
    kept = [names[name] for name in _known(models, names, "measured model")]
    return [replace(one, cells=tuple(c for c in one.cells if {c.claim.id, c.claim.part} & {*asked})) for one in kept]


def _known(asked: str | None, names: Collection[str], what: str) -> list[str]:
    found = [*names] if asked is None else [name.strip() for name in asked.split(",")]
    if strange := [name for name in found if name not in names]:
        raise ValueError(f"there is no {what} {', '.join(strange)}: choose from {', '.join(names)}")
    return found


def text(columns: Sequence[Column], width: int | None = None) -> str:
    """Return columns as text of at most ``width`` characters, by default the terminal's, from 78 on.

    One column is told in full, with its intervals and notes; of several each cell has a number and a mark, as many
    beside each other as fit.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    if len(columns) == 1:
        return _full(columns[0], width)
    ids, blocks = [cell.claim.id for cell in columns[0].cells], []
    most = max(1, (width - max(map(len, ids))) // (CELL + 2))
    for some in (columns[i : i + most] for i in range(0, len(columns), most)):
        heads = [["", *part] for part in zip_longest(*(textwrap.wrap(one.title, CELL) for one in some), fillvalue="")]
        rows = [[row[0].claim.id, *map(_short, row)] for row in zip(*(one.cells for one in some))]
        blocks.append(_aligned([*heads, *rows]))
    more = f"{LEGEND}; in brackets: there is a note. --model NAME tells notes and intervals of one column"
    return "\n\n".join(["\n".join(block) for block in blocks] + [textwrap.fill(more, width)])


def _short(cell: Cell) -> str:
    return f"{'' if cell.measured is None else number(cell.measured.value, cell.claim.unit)} {sign(cell)}".rjust(CELL)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, texts)) for texts in zip(*rows)]
    return ["  ".join(part.ljust(wide) for part, wide in zip(row, widths)).rstrip() for row in rows]


def _full(found: Column, width: int) -> str:
    """One column: claim, measured, theory, mark; then how many of each verdict, and the notes."""
    rows, notes = [("claim", "measured", "theory", "verdict")], defaultdict(list)
    for cell in found.cells:
        told, theory = interval(cell.measured, cell.claim.unit), number(cell.predicted, cell.claim.unit)
        rows.append((cell.claim.id, told, theory, sign(cell)))
        notes[cell.note].append(cell.claim.id)
    counts = (f"{sum(c.verdict == v for c in found.cells)} {v}" for v in VERDICTS)
    told = [LEGEND, ", ".join(counts), *(f"({note}): {', '.join(ids)}" for note, ids in notes.items() if note)]
    filled = (textwrap.fill(part, width, subsequent_indent="  ", break_on_hyphens=False) for part in told)
    return "\n".join([found.title, *_aligned(rows), *filled])


def records(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return one flat record for each claim and column, fit for JSON; what the other forms show in % is a share."""
    return rounded([
        {"model": one.model, "kind": one.kind, "circular": one.circular, "part": cell.claim.part}
        | {"claim": cell.claim.id, "statement": cell.claim.statement, "unit": cell.claim.unit.replace("%", "share")}
        | (asdict(cell.measured) if cell.measured else dict.fromkeys(("value", "low", "high", "n")))
        | {"theory": cell.predicted, "nulls": nulls(cell), "verdict": cell.verdict, "note": cell.note}
        for one in columns
        for cell in one.cells
    ])  # fmt: skip


def as_csv(columns: Sequence[Column]) -> str:
    """Return :func:`records` as CSV."""
    writer = csv.DictWriter(out := io.StringIO(), list((rows := records(columns))[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip()


def markdown(columns: Sequence[Column]) -> str:
    """Return columns as one Markdown table: claims down, models and reported values across.

    Theory and nulls differ from model to model; each model's cell names its own. Raises ``ValueError`` if there are
    no columns.
    """
    if not columns:
        raise ValueError("there are no results: measure a model with painters claims --model NAME")
    lines = [_row(["claim", *(c.title for c in columns), "reported"]), _row(["---"] * (len(columns) + 2))]
    part = None
    for cells in zip(*(c.cells for c in columns)):
        claim = cells[0].claim
        if claim.part != part:
            part = claim.part
            lines.append(_row([f"**{PARTS[part]}**", *[""] * (len(columns) + 1)]))
        lines.append(_row([f"`{claim.id}` {claim.statement}", *map(_cell, cells), reported(claim) or "-"]))
    return "\n".join([*lines, "", *(f"{c.title}: {c.made}" for c in columns)])


def _cell(cell: Cell) -> str:
    """A cell of the Markdown table."""
    if cell.measured is None:
        return MISSING
    parts = [f"{interval(cell.measured, cell.claim.unit)}, {cell.verdict}"]
    if cell.predicted is not None:
        parts.append(f"theory {number(cell.predicted, cell.claim.unit)}")
    return "; ".join(part for part in (*parts, nulls(cell), cell.note) if part)


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
