"""Rows on variations on purpose: what a way of varying a picture keeps and what it changes."""

from __future__ import annotations

from typing import Any

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import interval

STEPS = 20
"""Steps each way of an inversion."""
OTHERS = {"noise and back (img2img)": "renoise", "ancestral": "ancestral", "mixed noises": "mix"}
"""The ways that ask for no theory."""


def _most(r: Records, way: str) -> Any:
    return r["variations"]["methods"][way]["most_detail_corrected"]


def _inverted(r: Records, solver: str) -> Any:
    found = r["variations"]["inversion"]
    return found["data"][solver][found["steps"].index(STEPS)]


READINGS = {
    "v-promise": Reading(
        lambda r: interval(_most(r, "state")),
        nulls=lambda r: {said: float(_most(r, way)["value"]) for said, way in OTHERS.items()},
    ),
    "v-named": Reading(lambda r: interval(r["variations"]["gain_corrected"]["named"])),
    "v-inversion": Reading(
        lambda r: interval(_inverted(r, "heun")), nulls=lambda r: {"DDIM": float(_inverted(r, "ddim")["value"])}
    ),
}
