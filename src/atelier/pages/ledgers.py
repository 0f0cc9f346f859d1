"""The claims ledger as a table that sorts and filters without a kernel, and turns into cards on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from atelier.ledger.claim import NULL_PASSES, PARTS, VERDICTS, Cell, Claim
from atelier.ledger.column import LEGEND, MISSING, Column, beside_shuffled, interval, number, reported, sign
from atelier.ledger.table import markdown
from atelier.pages.shown import Shown, embedded
from atelier.pages.tables import table

GROUPS = {
    "model": "our models",
    "control": "controls",
    "gaussian": "exact Gaussians",
    "shuffled": "weights shuffled",
    "hub": "models on the hub",
    "null": "ranges of nulls",
    "reported": "reported",
}
"""Groups of columns that can be shown or hidden; those of our models are shown at first."""
ORIGINS = {
    "ours": "this project",
    "v1": "arXiv 2303.02490, first version",
    "v2": "arXiv 2303.02490, second version",
    "2412.09726": "arXiv 2412.09726",
}


def ledger(columns: Sequence[Column], *, hub: Sequence[str] = (), controls: Sequence[str] = ()) -> Shown:
    """Return the ledger of some columns.

    ``hub`` names models whose cells read "not yet measured" if they have no column; ``controls`` those columns that are
    controls. Raises ``ValueError`` without a column.
    """
    if not columns:
        raise ValueError("a ledger needs at least one column: measure a model with painters claims --model NAME")
    columns = beside_shuffled(columns)
    groups = [_group(column, controls) for column in columns]
    left = [name for name in hub if name not in {column.model for column in columns}]
    headings = [("claim", ""), ("exact theory", ""), ("range of nulls", "null")]
    headings += [*zip((column.title for column in columns), groups), *((name, "hub") for name in left)]
    headings.append(("reported", "reported"))
    head = "".join(
        f'<th scope="col" role="columnheader"{_data(group)}><button type="button">{escape(text)}</button></th>'
        for text, group in headings
    )
    body = "".join(
        _row(i, cells, columns, groups, left) for i, cells in enumerate(zip(*(column.cells for column in columns)))
    )
    html = (
        f'<div class="ledger">{embedded("ledger.css")}{_controls({group for _, group in headings})}'
        '<div class="frame" tabindex="0" role="region" aria-label="The ledger; it scrolls sideways">'
        f'<table role="table"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>{embedded("ledger.js")}</div>'
    )
    return Shown(markdown(columns), html)


BRACKETS = (
    "in brackets: a level of it does not count, or a null passes too (weights were shuffled only of the clothes and "
    "the landscapes, so elsewhere a mark without brackets says less)"
)
"""What :func:`mark` shows."""


def marks(columns: Sequence[Column]) -> Shown:
    """Return the rows of the first screen as marks, networks across; a verdict with a note stands in brackets."""
    networks = [column for column in beside_shuffled(columns) if column.kind == "network"]
    rows = [
        (_link(cells[0].claim), *map(mark, cells))
        for cells in zip(*(column.cells for column in networks))
        if cells[0].claim.first
    ]
    caption = f"{LEGEND}; {BRACKETS}."
    return table(["claim", *(column.title for column in networks)], rows, caption=caption)


def counts(columns: Sequence[Column]) -> Shown:
    """Return how many rows are judged on each network, and how many of them would hold for one that knows nothing.

    That is counted, not assumed: by the named nulls of the rows, and where the network with shuffled weights was put
    through the same measurements, by its column. A rule that compares with one number passes one time in forty by
    chance alone.
    """
    nothing = {column.model: column for column in columns if column.kind == "shuffled"}
    rows = []
    for column in (column for column in columns if column.kind == "network"):
        judged = [cell for cell in column.cells if cell.verdict != MISSING]
        verdicts = (sum(cell.verdict == verdict for cell in judged) for verdict in VERDICTS if verdict != MISSING)
        passed = sum(NULL_PASSES in cell.note for cell in judged)
        idle = nothing.get(column.model)
        held = None if idle is None else sum(cell.verdict.startswith("holds") for cell in idle.cells)
        by_one = sum(cell.claim.rule.limits is None for cell in judged)
        rows.append((column.title, len(judged), *verdicts, passed, held, f"{by_one / 40:.2g} of {by_one}"))
    head = ["model", "judged", *(verdict for verdict in VERDICTS if verdict != MISSING)]
    head += ["a null passes too", "hold with weights shuffled", "by chance, against one number"]
    return table(head, rows, caption="Rows that are judged, and rows that knowing nothing would pass.")


def _link(claim: Claim) -> Shown:
    return Shown(claim.statement, f'<a href="#{claim.id}">{escape(claim.statement)}</a>')


def mark(cell: Cell, number: str = "") -> Shown:
    """Return the mark of a verdict behind a number, in brackets if there is a note."""
    said = "; ".join(filter(None, (cell.verdict, cell.note)))
    shown = f'{escape(number)} <span role="img" aria-label="{escape(said)}" title="{escape(said)}">{sign(cell)}</span>'
    return Shown(f"{number} {sign(cell)}".strip(), f'<span style="white-space:nowrap">{shown.strip()}</span>')


def _group(column: Column, controls: Sequence[str]) -> str:
    if column.kind != "network":
        return column.kind
    return "control" if column.model in controls else "hub" if "/" in column.model else "model"


def _controls(there: set[str]) -> str:
    """The fields above the table, with a box for each group of columns that is there."""
    parts = "".join(f'<option value="{key}">{escape(text)}</option>' for key, text in PARTS.items())
    verdicts = "".join(f'<option value="{text}">{text}</option>' for text in VERDICTS)
    boxes = "".join(
        f'<label><input type="checkbox" value="{key}"{" checked" if key == "model" else ""}> {text}</label>'
        for key, text in GROUPS.items()
        if key in there
    )
    return (
        '<div class="controls" role="search"><label>Find <input type="search"></label>'
        f'<label>Part <select name="part"><option value="">all parts</option>{parts}</select></label>'
        f'<label>Verdict <select name="verdict"><option value="">any verdict</option>{verdicts}</select></label>'
        f'<button type="button" name="all">Show all</button><output aria-live="polite"></output>'
        f"<fieldset><legend>Columns</legend>{boxes}</fieldset></div>"
    )


def _row(i: int, cells: Sequence[Cell], columns: Sequence[Column], groups: Sequence[str], left: Sequence[str]) -> str:
    claim = cells[0].claim
    own = [cell for column, cell in zip(columns, cells) if column.kind == "network"] or cells
    told = [cell.predicted for cell in own if cell.predicted is not None]
    nulls = "".join(
        _aside(f"{name}: {_span([cell.nulls[name] for cell in own if name in cell.nulls], claim.unit)}")
        for name in dict.fromkeys(name for cell in own for name in cell.nulls)
    )
    said = "".join(_aside(f"{item.text}. Source: {item.source}") for item in claim.reported)
    tds = [
        _td("exact theory", escape(_span(told, claim.unit)) or "none", sort=repr(min(told)) if told else ""),
        _td("range of nulls", nulls or "none", "null", sort="0" if nulls else "1"),
        *(_measured(column.title, group, cell) for column, group, cell in zip(columns, groups, cells)),
        *(_td(name, "not yet measured", "hub", verdict=MISSING) for name in left),
        _td("reported", said or "none found", "reported", sort="0" if said else "1"),
    ]
    row = f'<tr role="row" id="{claim.id}" data-part="{claim.part}" data-order="{i}">'
    return f"{row}{_claim(claim)}{''.join(tds)}</tr>"


def _claim(claim: Claim) -> str:
    """The first cell of a row: the statement, and folded below it how it is measured, judged and tested."""
    page, label = claim.where.split("#")
    facts = {
        "Measured:": escape(claim.metric),
        "Holds if": f"{escape(claim.rule.text)}.",
        "New in this ledger:": escape(claim.changed),
        "Origin:": escape(ORIGINS[claim.origin]),
        "Reported:": escape(reported(claim)),
        "Tested by": f"<code>{escape(claim.test)}</code>",
    }
    folded = "".join(f"<p><strong>{name}</strong> {text}</p>" for name, text in facts.items() if text)
    return (
        f'<th scope="row" role="rowheader" data-sort="{claim.id}"><code class="id">{claim.id}</code>'
        f'{escape(claim.statement)} <a data-page href="{page}.html#{label}">shown here</a>'
        f"<details><summary>How</summary>{folded}</details></th>"
    )


def _measured(title: str, group: str, cell: Cell) -> str:
    """What was measured on one model, and the verdict in words."""
    if cell.measured is None:
        return _td(title, MISSING, group, verdict=cell.verdict)
    unit, kind = cell.claim.unit, "within" if cell.verdict.endswith("limits") else cell.verdict
    told = [] if cell.predicted is None else [f"theory {number(cell.predicted, unit)}"]
    told += [f"{name}: {number(value, unit)}" for name, value in cell.nulls.items()]
    text = f'<span class="value">{escape(interval(cell.measured, unit))}</span>{"".join(map(_aside, told))}'
    text += f'<span class="verdict {kind}">{cell.verdict}</span>'
    text += f'<span class="doubt">{escape(cell.note)}</span>' if cell.note else ""
    return _td(title, text, group, verdict=cell.verdict)


def _span(values: Sequence[float], unit: str) -> str:
    """A number, or the range of several that read differently."""
    if not values:
        return ""
    low, high = (number(value, unit) for value in (min(values), max(values)))
    return low if low == high else f"{low.removesuffix(unit).strip()} to {high}"


def _td(name: str, inner: str, group: str = "", *, sort: str = "", verdict: str = "") -> str:
    """A cell; one with a verdict sorts by it."""
    more, sort = (f' data-verdict="{verdict}"', str([*VERDICTS].index(verdict))) if verdict else ("", sort)
    return (
        f'<td role="cell" data-column="{escape(name)}" data-sort="{escape(sort)}"{_data(group)}{more}>'
        f"<div>{inner}</div></td>"
    )


def _aside(text: str) -> str:
    return f'<span class="aside">{escape(text)}</span>'


def _data(group: str) -> str:
    return f' data-group="{group}"' if group else ""
