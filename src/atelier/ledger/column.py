"""One model's column of the ledger: every claim judged, agreements where the preconditions hold; numbers as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from atelier.ledger.claim import VERDICTS, Cell, Claim, Records, evaluate
from atelier.ledger.records import KINDS, Results
from atelier.ledger.rows import CLAIMS
from atelier.ledger.rows.reading import first_counted
from atelier.statistics import Interval

PRECONDITIONS = ("t-loss", "t-rest")
"""A network that fails one of these may agree with the theory on its way through the Gaussian: that is no evidence.

The other rows on training are reported and veto nothing.
"""

SHUFFLED_PASSES = "it passes with weights shuffled too"


@dataclass(frozen=True)
class Column:
    """A results file, judged: ``cells`` in the order of the claims, and what made them."""

    model: str
    kind: str
    cells: tuple[Cell, ...]
    circular: bool = False
    made: str = ""

    @property
    def title(self) -> str:
        """The name of the model, or of what stands in its place; it says if the theory is of the model's own samples.

        Such a theory shows how a model paints what it paints, and nothing of how well it learned its data.
        """
        return KINDS[self.kind].format(self.model) + (" (theory of its own samples)" if self.circular else "")


def column(found: Results, claims: Iterable[Claim] = CLAIMS) -> Column:
    """Judge every claim on a results file."""
    records = Records(found.measurements, found.kind)
    cells = [evaluate(claim, records) for claim in claims]
    circular = bool(found.moments.get("circular"))
    if found.kind == "network":
        doubt, early = _doubt({cell.claim.id: cell for cell in cells}), _early(found)
        cells = [
            _noted(cell, doubt if cell.claim.agreement else "", early if cell.claim.part == "iii" else "")
            for cell in cells
        ]
    return Column(found.model, found.kind, tuple(cells), circular, _made(found))


def beside_shuffled(columns: Sequence[Column]) -> list[Column]:
    """Note on the rows of a network that its twin with shuffled weights passes too, where the columns have one."""
    twins = {one.model: one for one in columns if one.kind == "shuffled"}

    def noted(one: Column) -> Column:
        if one.kind != "network" or one.model not in twins:
            return one
        pairs = zip(one.cells, twins[one.model].cells)
        cells = (_noted(cell, SHUFFLED_PASSES if _as_good(twin, cell) else "") for cell, twin in pairs)
        return replace(one, cells=tuple(cells))

    return [noted(one) for one in columns]


def _as_good(twin: Cell, cell: Cell) -> bool:
    return cell.verdict.startswith("holds") and VERDICTS.index(twin.verdict) <= VERDICTS.index(cell.verdict)


def _noted(cell: Cell, *notes: str) -> Cell:
    return cell if cell.measured is None else replace(cell, note="; ".join(filter(None, (*notes, cell.note))))


def _early(found: Results) -> str:
    """What to note on kicks whose first level does not count: they stay in the row, and in its number."""
    trained, kicked = (found.measurements.get(name) for name in ("trained", "perturbation"))
    if not (trained and kicked and "counted" in trained):
        return ""
    levels = kicked["sigma_over_alpha"]
    return "the first kicked level does not count" if first_counted(trained, levels) else ""


def _doubt(cells: dict[str, Cell]) -> str:
    """Why a network's agreement with the theory does not count, empty if it does.

    Of a model of other people nobody may know how it came to rest; that it knows more than a Gaussian can be measured.
    """
    verdicts = {name: cells[name].verdict for name in PRECONDITIONS if name in cells}
    if failed := [name for name, verdict in verdicts.items() if verdict == "fails"]:
        return f"does not count: {' and '.join(failed)} {'fails' if len(failed) == 1 else 'fail'}"
    known = verdicts.get("t-loss", "not measured") != "not measured"
    return "" if known else "counts only if t-loss holds; it is not measured here"


def _made(found: Results) -> str:
    """Seeds, steps, profile, weights, code and hardware, once if all experiments agree."""
    made = [found.made(name) for name in found.measurements]
    told = (
        ("seeds {}", {one.seeds for one in made}),
        ("{} steps", {one.steps for one in made}),
        ("profile {}", {one.profile for one in made}),
        ("weights {}", {one.weights for one in made} - {None}),
        ("commit {}", {one.commit for one in made} - {None}),
        ("{}", {one.hardware for one in made} - {None}),
        ("{}", {one.date for one in made}),
    )
    return ", ".join(words.format(" and ".join(sorted(map(str, values)))) for words, values in told if values)


MISSING = "not measured"
MARKS = {"holds": "●", "holds within limits": "◐", "undecided": "?", "fails": "○", MISSING: "–"}
"""Verdicts at a glance."""
LEGEND = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
FEW = 10
"""A share of fewer cases is shown with their number."""
ROUNDING = 1e-9
"""Smaller numbers are what is left of a zero by rounding, and are shown as one."""


def number(value: float | None, unit: str = "") -> str:
    """Return a number in its unit with three digits; the unit "%" multiplies a share by 100."""
    if value is None or not math.isfinite(value):
        return "-"
    value = value * 100 if unit == "%" else value
    value = 0.0 if abs(value) < ROUNDING else value
    small = 0 < abs(value) < 1e-3
    text = f"{value:.1e}" if small or abs(value) >= 1e5 else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{text} {unit}".strip()


def interval(found: Interval | None, unit: str = "") -> str:
    """Return a value with its interval, "0.93 [0.91, 0.95]"; the value alone where it has none, or one of no width.

    A share of few cases is followed by their number.
    """
    if found is None:
        return MISSING
    cases = f", n = {found.n}" if unit == "%" and 0 < found.n < FEW else ""
    if not (math.isfinite(found.low) and math.isfinite(found.high)) or found.low == found.high:
        return number(found.value, unit) + cases
    bare = "%" if unit == "%" else ""
    low, value, high = (number(v, bare).removesuffix(" %") for v in (found.low, found.value, found.high))
    return f"{value} [{low}, {high}] {unit}".strip() + cases


def sign(cell: Cell) -> str:
    """Return the mark of a verdict, in brackets if there is a note."""
    return f"({MARKS[cell.verdict]})" if cell.note else MARKS[cell.verdict]


def nulls(cell: Cell) -> str:
    """Return the nulls of a cell with their names."""
    return "; ".join(f"{name} {number(value, cell.claim.unit)}" for name, value in cell.nulls.items())


def reported(claim: Claim) -> str:
    """Return what was published, with its source."""
    return "; ".join(f"{item.text} ({item.source})" for item in claim.reported)
