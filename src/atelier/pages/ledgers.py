"""The claims ledger as a table that sorts and filters without a kernel, and turns into cards on a phone."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atelier.ledger.claim import PARTS, VERDICTS, Cell, Claim
from atelier.ledger.column import Column
from atelier.ledger.rows import CLAIMS
from atelier.ledger.text import interval, markdown_of, number, reported

ASSETS = Path(__file__).parent / "assets"
GROUPS = {
    "model": "our models",
    "control": "controls",
    "gaussian": "exact Gaussians",
    "hub": "models on the hub",
    "null": "ranges of nulls",
    "reported": "reported",
}
"""Groups of columns that can be shown or hidden."""
AT_FIRST = ("model",)
NOT_YET = "not yet measured"


@dataclass(frozen=True)
class Ledger:
    """Columns of results beside claims; notebooks and the site show it as HTML.

    ``hub`` names models whose cells read "not yet measured"; ``controls`` those columns that are controls.
    """

    columns: tuple[Column, ...]
    hub: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = CLAIMS

    def __repr__(self) -> str:
        return markdown_of(self.columns)

    def _repr_html_(self) -> str:
        style, script = ((ASSETS / f"ledger.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
        body = "".join(self._row(i, claim) for i, claim in enumerate(self.claims))
        return (
            f'<div class="ledger"><style>{style}</style>{self._controls()}'
            '<div class="frame" tabindex="0" role="region" aria-label="The ledger; it scrolls sideways">'
            f'<table role="table"><thead role="rowgroup"><tr role="row">{self._head()}</tr></thead>'
            f'<tbody role="rowgroup">{body}</tbody></table></div><script>{script}</script></div>'
        )

    def _group(self, column: Column) -> str:
        if column.kind == "gaussian":
            return "gaussian"
        return "control" if column.model in self.controls else "hub" if "/" in column.model else "model"

    def _headings(self) -> list[tuple[str, str | None]]:
        """Every heading with its group; the first two are always there."""
        measured = [(column.title, self._group(column)) for column in self.columns]
        left = [(name, "hub") for name in self.hub if name not in {c.model for c in self.columns}]
        return [
            ("claim", None),
            ("exact theory", None),
            ("range of nulls", "null"),
            *measured,
            *left,
            ("reported", "reported"),
        ]

    def _head(self) -> str:
        return "".join(
            f'<th scope="col" role="columnheader"{_data(group)}><button type="button">{html.escape(text)}</button></th>'
            for text, group in self._headings()
        )

    def _controls(self) -> str:
        parts = "".join(f'<option value="{key}">{html.escape(text)}</option>' for key, text in PARTS.items())
        verdicts = "".join(f'<option value="{text}">{text}</option>' for text in VERDICTS)
        there = {group for _, group in self._headings()}
        boxes = "".join(
            f'<label><input type="checkbox" value="{key}"{" checked" if key in AT_FIRST else ""}> {text}</label>'
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

    def _row(self, i: int, claim: Claim) -> str:
        cells = [next(c for c in column.cells if c.claim.id == claim.id) for column in self.columns]
        own = [cell for column, cell in zip(self.columns, cells) if column.kind == "network"] or cells
        told = [cell.predicted for cell in own if cell.predicted is not None]
        nulls = _nulls(own)
        tds = [_td("exact theory", _span(told, claim.unit) or "none", None, repr(min(told)) if told else "")]
        tds.append(_td("range of nulls", nulls or "none", "null", "0" if nulls else "1"))
        tds += [self._measured(column, cell) for column, cell in zip(self.columns, cells)]
        left = [name for name in self.hub if name not in {c.model for c in self.columns}]
        tds += [_td(name, NOT_YET, "hub", str(len(VERDICTS)), ' data-verdict="not measured"') for name in left]
        said = "".join(
            f'<span class="aside">{html.escape(item.text)}. Source: {html.escape(item.source)}</span>'
            for item in claim.reported
        )
        tds.append(_td("reported", said or "none found", "reported", "0" if said else "1"))
        row = f'<tr role="row" id="{claim.id}" data-part="{claim.part}" data-order="{i}">'
        return f"{row}{_claim(claim)}{''.join(tds)}</tr>"

    def _measured(self, column: Column, cell: Cell) -> str:
        """What was measured on one model, and the verdict in words."""
        rank = str(VERDICTS.index(cell.verdict))
        more = f' data-verdict="{cell.verdict}"'
        if cell.measured is None:
            return _td(column.title, "not measured", self._group(column), rank, more)
        kind = "within" if cell.verdict.endswith("limits") else cell.verdict
        told = [] if cell.predicted is None else [f"theory {number(cell.predicted, cell.claim.unit)}"]
        told += [f"{name}: {number(value, cell.claim.unit)}" for name, value in cell.nulls.items()]
        asides = "".join(f'<span class="aside">{html.escape(line)}</span>' for line in told)
        doubt = f'<span class="doubt">{html.escape(cell.note)}</span>' if cell.note else ""
        text = f'<span class="value">{html.escape(interval(cell.measured, cell.claim.unit))}</span>'
        verdict = f'<span class="verdict {kind}">{cell.verdict}</span>'
        return _td(column.title, text + asides + verdict + doubt, self._group(column), rank, more)


def ledger(
    columns: Sequence[Column],
    *,
    hub: Sequence[str] = (),
    controls: Sequence[str] = (),
    claims: Sequence[Claim] = CLAIMS,
) -> Ledger:
    """Return the ledger of some columns. Raises ``ValueError`` without a column, or if one lacks a claim."""
    if not columns:
        raise ValueError("a ledger needs at least one column: measure a model with painters claims --model NAME")
    for found in columns:
        if lacking := {claim.id for claim in claims} - {cell.claim.id for cell in found.cells}:
            raise ValueError(f"the column of {found.title} lacks {', '.join(sorted(lacking))}")
    return Ledger(tuple(columns), tuple(hub), tuple(controls), tuple(claims))


def _claim(claim: Claim) -> str:
    """The first cell of a row: the statement, and folded below it how it is measured, judged and tested."""
    esc = html.escape
    page, label = claim.where.split("#")
    facts = "".join(
        f"<p><strong>{name}</strong> {text}</p>"
        for name, text in (
            ("Measured:", esc(claim.metric)),
            ("Holds if", f"{esc(claim.rule.text)}."),
            ("Origin:", "this project" if claim.origin == "ours" else esc(_ORIGIN[claim.origin])),
            ("Reported:", esc(reported(claim))),
            ("Tested by", f"<code>{esc(claim.test)}</code>"),
        )
        if text
    )
    return (
        f'<th scope="row" role="rowheader" data-sort="{claim.id}"><code class="id">{claim.id}</code>'
        f'{esc(claim.statement)} <a data-page href="{page}.html#{label}">shown here</a>'
        f"<details><summary>How</summary>{facts}</details></th>"
    )


_ORIGIN = {
    "v1": "arXiv 2303.02490, first version",
    "v2": "arXiv 2303.02490, second version",
    "2412.09726": "arXiv 2412.09726",
}


def _span(values: Sequence[float], unit: str) -> str:
    """A number, or the range of several that read differently."""
    if not values:
        return ""
    ends = [number(value, unit) for value in (min(values), max(values))]
    if ends[0] == ends[1]:
        return html.escape(ends[0])
    mark = "%" if unit == "%" else unit
    return html.escape(f"{ends[0].removesuffix(mark).strip()} to {ends[1]}")


def _nulls(cells: Sequence[Cell]) -> str:
    """The nulls of some cells of one claim, each with its range over the models."""
    names = dict.fromkeys(name for cell in cells for name in cell.nulls)
    return "".join(
        f'<span class="aside">{html.escape(name)}: '
        f"{_span([cell.nulls[name] for cell in cells if name in cell.nulls], cells[0].claim.unit)}</span>"
        for name in names
    )


def _td(name: str, inner: str, group: str | None, sort: str, more: str = "") -> str:
    return (
        f'<td role="cell" data-column="{html.escape(name)}" data-sort="{html.escape(sort)}"{_data(group)}{more}>'
        f"<div>{inner}</div></td>"
    )


def _data(group: str | None) -> str:
    return "" if group is None else f' data-group="{group}"'
