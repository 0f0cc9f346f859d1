"""Rows on variations on purpose: what a way of varying a picture keeps and what it changes."""

from __future__ import annotations

from typing import Any

from atelier.ledger.claim import Claim, Records, at_least, at_most, near, positive
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


VARIATIONS = (
    Claim(
        id="v-promise",
        part="variations",
        origin="ours",
        statement="Keeping the components that stand at a level keeps the outline and repaints the details.",
        metric="largest share of the factors of objects and details that change, over levels, while at least 90 % of "
        "the factors of areas and masses are kept, as a reader sees both; the state's PCs with lambda >= "
        "(sigma/alpha)^2 stay and all others are drawn anew; interval over seeds",
        unit="%",
        rule=at_least(0.5, 0.35),
        measure=lambda r: interval(_ways(r)["state"]["most_detail"]),
        nulls=lambda r: {said: float(_ways(r)[way]["most_detail"]["value"]) for said, way in OTHERS.items()},
        rivals=tuple(OTHERS),
        where=f"{PAGE}-outline",
        test=f"{RECORD}::test_the_most_change_is_read_where_the_curve_crosses",
    ),
    Claim(
        id="v-beats",
        part="variations",
        origin="ours",
        statement="Keeping the components that stand repaints more details than plain noise does, at the same outline.",
        metric="that share less the same of noise and back (img2img, SDEdit); paired over seeds",
        unit="%",
        rule=positive(),
        measure=lambda r: interval(r["variations"]["gain"]["state"]),
        where=f"{PAGE}-who",
        test=f"{RECORD}::test_gains_are_paired_over_seeds",
    ),
    Claim(
        id="v-law",
        part="variations",
        origin="ours",
        statement="Noise and back moves the outline's components as far as the Gaussian says.",
        metric="mean squared change along the leading PCs that stand at sigma/alpha = 1, over that of unrelated "
        "pictures, after noise of that level; prediction: variance-weighted mean of 1 - alpha (lambda/v)^(1/2)",
        unit="",
        rule=near(0.1, 0.3),
        measure=lambda r: interval(_back(r, "low")),
        predict=lambda r: float(_back(r, "low_law")),
        nulls=lambda r: {"unrelated pictures": 1.0},
        where=f"{PAGE}-back",
        test=f"{RECORD}::test_each_way_follows_its_law",
        agreement=True,
    ),
    Claim(
        id="v-inversion",
        part="variations",
        origin="ours",
        statement="A picture that the model has never seen survives the way up to noise and back.",
        metric=f"|repainted - picture| / |picture - mean picture| after {STEPS} steps of Heun's method each way, test "
        "pictures of its data; mean over pictures",
        unit="%",
        rule=at_most(0.05, 0.15),
        measure=lambda r: interval(_inverted(r)),
        where=f"{PAGE}-given",
        test=f"{TESTS}/test_states.py::test_inversion_comes_back_in_the_exact_world",
    ),
)
