"""Tables from data: they say "not measured" where there is no number, and stand row under row on a phone."""

from collections.abc import Sequence
from html import escape

from .shown import Shown, embedded

MISSING = "not measured"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str) -> Shown:
    """Make a table that reads on a phone, in a notebook and aloud.

    Args:
        columns: their headings; the first column names the rows.
        rows: a cell for each column, shown as its text, or as its HTML if it is Shown; None reads "not measured".
        caption: plain text above the table.

    Raises:
        ValueError: if there is no row, no caption, or a row has another number of cells.
    """
    if not rows or not caption.strip():
        raise ValueError("a table needs at least one row, and a caption.")
    if lengths := {len(row) for row in rows} - {len(columns)}:
        raise ValueError(f"a table of {len(columns)} columns got a row of {max(lengths)} cells.")
    cells = [[MISSING if cell is None else cell for cell in row] for row in rows]
    texts = [[str(cell) for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(columns, *texts)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in (columns, *texts)]
    head = "".join(f'<th scope="col" role="columnheader">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr role="row"><th scope="row" role="rowheader">{_html(row[0])}</th>{_cells(columns[1:], row[1:])}</tr>'
        for row in cells
    )
    html = (
        f'{embedded("table.css")}<table class="book-table" role="table"><caption>{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
    )
    return Shown("\n".join([caption, *lines]), html)


def _cells(columns: Sequence[str], cells: Sequence[object]) -> str:
    """The cells of a row after its name; where nothing was measured, one cell says so."""
    if len(cells) > 1 and all(cell == MISSING for cell in cells):
        return f'<td role="cell" class="missing" colspan="{len(cells)}">{MISSING}</td>'
    return "".join(
        f'<td role="cell" data-column="{escape(column)}"><span>{_html(cell)}</span></td>'
        for column, cell in zip(columns, cells)
    )


def _html(cell: object) -> str:
    return cell.html if isinstance(cell, Shown) else escape(str(cell))
