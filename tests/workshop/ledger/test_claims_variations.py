"""Rows on variations: they read the right numbers of a record."""

import pytest

from atelier.ledger.claim import Records, evaluate
from atelier.ledger.rows.variations import VARIATIONS

ROWS = {claim.id: claim for claim in VARIATIONS}


def tagged(value, spread=0.01):
    return {"value": value, "low": value - spread, "high": value + spread, "n": 40}


def record():
    methods = {
        name: {"most_detail": tagged(value), "level": [0.2, 0.9, 4.0]}
        for name, value in (("state", 0.2), ("renoise", 0.3), ("mix", 0.1), ("turned", 0.52), ("edited", 0.4))
    }
    methods["renoise"] |= {"low": [tagged(v) for v in (0.01, 0.04, 0.3)], "low_law": [0.02, 0.06, 0.5]}
    return {
        "methods": methods,
        "gain": {"state": tagged(-0.1), "turned": tagged(0.2)},
        "law": {"state": {"rank": {"rho": 0.7, "low": 0.62, "high": 0.8, "p": 0.001, "n": 99, "given": 0}}},
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
        ("v-factors", 0.7, None, "holds", {"no relation": 0.0}),
        ("v-inversion", 0.03, None, "holds", {}),
    ],
)
def test_rows_read_their_numbers(row, measured, predicted, verdict, nulls):
    cell = evaluate(ROWS[row], Records({"variations": record()}))
    assert cell.measured.value == pytest.approx(measured) and cell.verdict == verdict
    assert cell.predicted == (None if predicted is None else pytest.approx(predicted))
    assert cell.nulls == pytest.approx(nulls)


def test_the_aim_names_what_others_reach():
    found = record()
    cell = evaluate(ROWS["v-aim"], Records({"variations": found}))
    assert (cell.measured.value, cell.verdict, cell.note) == (0.52, "holds", "")
    assert sorted(cell.nulls.values()) == [0.1, 0.3, 0.4]
    found["methods"]["edited"]["most_detail"] = tagged(0.6)
    assert evaluate(ROWS["v-aim"], Records({"variations": found})).note == "the null passes too"


def test_a_model_without_named_factors_reads_not_measured():
    found = {"methods": {"state": {"level": [1.0]}}, "gain_rest": {}}
    for row in ("v-promise", "v-beats", "v-aim", "v-factors"):
        assert evaluate(ROWS[row], Records({"variations": found})).verdict == "not measured"
