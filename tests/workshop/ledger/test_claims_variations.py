"""Rows on variations: they read the right numbers of a record."""

import pytest
from partners import judge

from atelier.ledger.claim import NULL_PASSES, Records, evaluate
from atelier.ledger.rows import CLAIMS

ROWS = {claim.id: claim for claim in CLAIMS}


def tagged(value, spread=0.01):
    return {"value": value, "low": value - spread, "high": value + spread, "n": 40}


def record():
    values = {"state": 0.4, "renoise": 0.3, "ancestral": 0.36, "mix": 0.1, "named": 0.6}
    return {
        "methods": {name: {"most_detail_corrected": tagged(value)} for name, value in values.items()},
        "gain_corrected": {"state": tagged(-0.1), "named": tagged(0.3)},
        "inversion": {
            "steps": [10, 20],
            "data": {"heun": [tagged(v) for v in (0.3, 0.03)], "ddim": [tagged(v) for v in (0.9, 0.8)]},
        },
    }


OTHERS = {"noise and back (img2img)": 0.3, "ancestral": 0.36, "mixed noises": 0.1}


@pytest.mark.parametrize(
    ("row", "measured", "verdict", "nulls", "note"),
    [
        ("v-promise", 0.4, "holds within limits", OTHERS, NULL_PASSES),
        ("v-named", 0.3, "holds", {}, ""),
        ("v-inversion", 0.03, "holds", {"DDIM": 0.8}, ""),
    ],
)
def test_rows_read_their_numbers(row, measured, verdict, nulls, note):
    cell = evaluate(ROWS[row], Records({"variations": record()}))
    assert cell.measured.value == pytest.approx(measured) and cell.verdict == verdict
    assert cell.nulls == pytest.approx(nulls) and cell.note == note


def test_a_model_without_named_factors_reads_not_measured():
    found = {"methods": {"state": {"level": [1.0]}}}
    for row in ("v-promise", "v-named"):
        assert evaluate(ROWS[row], Records({"variations": found})).verdict == "not measured"


@pytest.mark.claim("v-promise", "v-named", "v-inversion")
def test_rules_test_their_statements():
    good, poor = record(), record()
    poor["methods"]["state"]["most_detail_corrected"] = tagged(0.2)
    poor["gain_corrected"]["named"] = tagged(-0.1)
    poor["inversion"]["data"]["heun"] = poor["inversion"]["data"]["ddim"]
    for row in ("v-promise", "v-named", "v-inversion"):
        assert judge(row, variations=good).startswith("holds") and judge(row, variations=poor) == "fails"
