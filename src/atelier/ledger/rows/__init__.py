"""The claims: each row of ``claims.toml`` with the functions that read its numbers out of a model's records."""

import tomllib
from pathlib import Path

from atelier.ledger.claim import RULES, Claim, Reported
from atelier.ledger.rows import carry, gans, kicks, manifold, modes, order, shape, trained, variations

READINGS = {
    id: reading
    for room in (trained, shape, order, kicks, carry, modes, manifold, variations, gans)
    for id, reading in room.READINGS.items()
}


def _claims() -> tuple[Claim, ...]:
    rows = tomllib.loads((Path(__file__).parents[1] / "claims.toml").read_text(encoding="utf-8"))["claim"]
    for row in rows:
        rule, *numbers = row["rule"]
        row["rule"] = RULES[rule](*numbers)
        row["reported"] = tuple(Reported(**said) for said in row.get("reported", ()))
        row["rivals"] = tuple(row.get("rivals", ()))
    return tuple(Claim(**row, reading=READINGS[row["id"]]) for row in rows)


CLAIMS = _claims()
"""Every row of the ledger, in the order of the page."""
