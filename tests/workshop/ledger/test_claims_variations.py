"""Rows on variations: they read the right numbers of a record."""

import pytest

from atelier.ledger.claim import Records, evaluate
from atelier.ledger.rows import CLAIMS

ROWS = {claim.id: claim for claim in CLAIMS}


def tagged(value, spread=0.01):
    return {"value": value, "low": value - spread, "high": value + spread, "n": 40}


def record():
    methods = {
        name: {"most_detail": tagged(value), "level": [0.2, 0.9, 4.0]}
        for name, value in (("state", 0.2), ("renoise", 0.3), ("mix", 0.1))
    }
    methods["renoise"] |= {"low": [tagged(v) for v in (0.01, 0.04, 0.3)], "low_law": [0.02, 0.06, 0.5]}
    return {
        "methods": methods,
        "gain": {"state": tagged(-0.1), "mix": tagged(0.2)},
        "inversion": {
            "steps": [10, 20, 40],
            "own": {"heun": [tagged(0.5)] * 3, "ddim": [tagged(0.9)] * 3},
            "data": {"heun": [tagged(v) for v in (0.3, 0.03, 0.02)], "ddim": [tagged(0.8)] * 3},
        },
    }


@pytest.mark.parametrize(
    ("row", "measured", "predicted", "verdict", "nulls"),
    [
        ("v-promise", 0.2, None, "fails", {"noise and back (img2img)": 0.3, "mixed noises": 0.1}),
        ("v-beats", -0.1, None, "fails", {}),
        ("v-law", 0.04, 0.06, "fails", {"unrelated pictures": 1.0}),
        ("v-inversion", 0.03, None, "holds", {}),
    ],
)
def test_rows_read_their_numbers(row, measured, predicted, verdict, nulls):
    cell = evaluate(ROWS[row], Records({"variations": record()}))
    assert cell.measured.value == pytest.approx(measured) and cell.verdict == verdict
    assert cell.predicted == (None if predicted is None else pytest.approx(predicted))
    assert cell.nulls == pytest.approx(nulls)


def test_a_model_without_named_factors_reads_not_measured():
    found = {"methods": {"state": {"level": [1.0]}}}
    for row in ("v-promise", "v-beats"):
        assert evaluate(ROWS[row], Records({"variations": found})).verdict == "not measured"
