"""Rows on variations on purpose: what a way of varying a picture keeps and what it changes."""

from __future__ import annotations

from typing import Any

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import interval, nearest

PAGE = "variations#sec-variations"
TESTS = "tests/workshop/variations"
RECORD = f"{TESTS}/test_variations.py"
LEVEL = 1.0
"""Noise level sigma/alpha at which noise and back is held against its law."""
STEPS = 20
"""Steps each way of an inversion."""
OTHERS = {"noise and back (img2img)": "renoise", "mixed noises": "mix"}
"""The ways that ask for no theory."""


def _ways(r: Records) -> Any:
    return r["variations"]["methods"]


def _back(r: Records, key: str) -> Any:
    found = _ways(r)["renoise"]
    return found[key][nearest(found["level"], LEVEL)]


def _inverted(r: Records) -> Any:
    found = r["variations"]["inversion"]
    return found["data"]["heun"][found["steps"].index(STEPS)]


READINGS = {
    "v-promise": Reading(
        lambda r: interval(_ways(r)["state"]["most_detail"]),
        nulls=lambda r: {said: float(_ways(r)[way]["most_detail"]["value"]) for said, way in OTHERS.items()},
    ),
    "v-beats": Reading(lambda r: interval(r["variations"]["gain"]["state"])),
    "v-law": Reading(
        lambda r: interval(_back(r, "low")),
        predict=lambda r: float(_back(r, "low_law")),
        nulls=lambda r: {"unrelated pictures": 1.0},
    ),
    "v-inversion": Reading(lambda r: interval(_inverted(r))),
}
