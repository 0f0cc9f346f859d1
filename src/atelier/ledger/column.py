"""One model's column of the ledger: every claim judged, agreements only where the preconditions hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from atelier.ledger.claim import Cell, Claim, Records, evaluate
from atelier.ledger.rows import CLAIMS

PRECONDITIONS = ("t-loss", "t-rest")
"""A network that fails one of these may agree with the theory on its way through the Gaussian: that is no evidence.

The other rows on training are reported and veto nothing.
"""


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
        """The name of the model, or of the exact Gaussian of its data."""
        return f"exact Gaussian of {self.model}" if self.kind == "gaussian" else self.model


def column(found: dict[str, Any], claims: Iterable[Claim] = CLAIMS) -> Column:
    """Judge every claim on a results file."""
    measured = found["measurements"]
    records = Records(measured, found["kind"])
    cells = [evaluate(claim, records) for claim in claims]
    circular = bool(found.get("moments", {}).get("circular"))
    note = _doubt({cell.claim.id: cell for cell in cells}, circular) if found["kind"] == "network" else ""
    noted = (
        replace(c, note="; ".join(filter(None, (note, c.note)))) if c.claim.agreement and c.measured is not None else c
        for c in cells
    )
    return Column(found["model"], found["kind"], tuple(noted), circular, _made(measured))


def _doubt(cells: dict[str, Cell], circular: bool) -> str:
    """Why a network's agreement with the theory does not count, empty if it does."""
    if circular:
        return "circular: the theory was made of the model's own samples"
    verdicts = {name: cells[name].verdict for name in PRECONDITIONS if name in cells}
    if failed := [name for name, verdict in verdicts.items() if verdict == "fails"]:
        return f"does not count: {' and '.join(failed)} {'fails' if len(failed) == 1 else 'fail'}"
    if unknown := [name for name, verdict in verdicts.items() if verdict == "not measured"]:
        hold, are = ("holds", "it is") if len(unknown) == 1 else ("hold", "they are")
        return f"counts only if {' and '.join(unknown)} {hold}; {are} not measured here"
    return ""


def _made(measured: dict[str, Any]) -> str:
    """Seeds, steps, profile, weights, code and hardware, once if all experiments agree."""
    made = [record["provenance"] for record in measured.values()]
    parts = []
    for key, said in (
        ("seeds", "seeds {}"),
        ("steps", "{} steps"),
        ("profile", "profile {}"),
        ("weights", "weights {}"),
        ("commit", "commit {}"),
        ("hardware", "{}"),
        ("date", "{}"),
    ):
        values = sorted({str(record[key]) for record in made if record.get(key) is not None})
        if values:
            parts.append(said.format(" and ".join(values)))
    return ", ".join(parts)
