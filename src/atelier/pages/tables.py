"""Tables from data: they say "not measured" where there is no number, and stand row under row on a phone."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from .embedding import embedded

MISSING = "not measured"


@dataclass(frozen=True)
class Table:
    """A table as texts; the first column names the rows. Notebooks and the site show it as HTML."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in (self.columns, *self.rows)
        ]
        return "\n".join([self.caption, *lines])

    def _repr_html_(self) -> str:
        esc = html.escape
        head = "".join(f'<th scope="col" role="columnheader">{esc(column)}</th>' for column in self.columns)
        body = "".join(
            f'<tr role="row"><th scope="row" role="rowheader">{esc(row[0])}</th>{self._cells(row[1:])}</tr>'
            for row in self.rows
        )
        return (
            f'{embedded("table.css")}<table class="book-table" role="table"><caption>{esc(self.caption)}</caption>'
            f'<thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
        )

    def _cells(self, cells: tuple[str, ...]) -> str:
        """The cells of a row after its name; where nothing was measured, one cell says so."""
        if len(cells) > 1 and set(cells) == {MISSING}:
            return f'<td role="cell" class="missing" colspan="{len(cells)}">{MISSING}</td>'
        return "".join(
            f'<td role="cell" data-column="{html.escape(column)}"><span>{html.escape(cell)}</span></td>'
            for column, cell in zip(self.columns[1:], cells)
        )


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str) -> Table:
    """Make a table that reads on a phone, in a notebook and aloud.

    Args:
        columns: their headings; the first column names the rows.
        rows: a cell for each column, shown as its text; None reads "not measured".
        caption: plain text above the table.

    Raises:
        ValueError: if there is no row, no caption, or a row has another number of cells.
    """
    if not rows or not caption.strip():
        raise ValueError("a table needs at least one row, and a caption.")
    if lengths := {len(row) for row in rows} - {len(columns)}:
        raise ValueError(f"a table of {len(columns)} columns got a row of {max(lengths)} cells.")
    texts = tuple(tuple(MISSING if cell is None else str(cell) for cell in row) for row in rows)
    return Table(tuple(columns), texts, caption)
