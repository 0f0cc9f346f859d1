"""Rows of the ledger on the image manifold: each reads the number that it says, and judges it by its rule."""

import pytest

from atelier.ledger.claim import Records, evaluate
from atelier.ledger.rows import CLAIMS

BY_ID = {claim.id: claim for claim in CLAIMS}


def tagged(value, arm=0.01, n=9):
    return {"value": value, "low": value - arm, "high": value + arm, "n": n}


def record(**changes):
    """A record in which no two numbers are the same."""
    purity = {"whole": 0.6, "pcs": 0.55, "random": 0.3}
    return {
        "dim": 50,
        "chance": 0.08,
        "factors": ["a", "b"],
        "whole": {"images": [0.2, 0.3, 0.4], "inputs": [0.9, 0.9, 0.9]},
        "one_step": {"images": [[1.0, 1.0]]},
        "endpoint": {
            "inside": {
                "image": [tagged(0.97), tagged(0.1)],
                "all": [tagged(0.98), tagged(0.7)],
                "other": [tagged(0.25), tagged(0.2)],
            },
        },
        "walks": {kind: {"summary": {"purity": tagged(value)}} for kind, value in purity.items()},
        "knobs": {
            "chance": 0.07,
            "dial": {"hit": [[1, 0, 0, 1], [1, 0, 1, 0.4]], "right": [[1, 1, 1, 0.6], [1, 1, 0.6, 1]]},
            "equal": {"hit": [[1.0]], "right": [[1.0]]},
        },
    } | changes


@pytest.mark.parametrize(
    ("name", "measured", "predicted", "nulls", "verdict"),
    [
        ("m-aligned", 0.3, 1.0, [0.08], "fails"),
        ("m-contrast", 0.97, None, [0.25, 0.02], "holds"),
        ("m-walks-pure", 0.6, None, [0.3, 0.55], "holds"),
        ("m-knobs", 0.55, None, [0.07], "holds within limits"),
        ("m-knobs-turn", 0.9, None, [0.5], "holds"),
    ],
)
def test_each_row_reads_its_own_number(name, measured, predicted, nulls, verdict):
    cell = evaluate(BY_ID[name], Records({"manifold": record()}))
    assert cell.measured is not None and cell.measured.value == pytest.approx(measured)
    assert cell.predicted == predicted and list(cell.nulls.values()) == pytest.approx(nulls)
    assert cell.verdict == verdict


def test_a_mean_over_seeds_has_their_interval():
    cell = evaluate(BY_ID["m-aligned"], Records({"manifold": record()}))
    assert cell.measured is not None and cell.measured.n == 3
    assert 0.19 < cell.measured.low < 0.3 < cell.measured.high < 0.41


def test_purity_of_one_factor_alone_says_nothing():
    cell = evaluate(BY_ID["m-walks-pure"], Records({"manifold": record(factors=["class"])}))
    assert cell.measured is None and cell.verdict == "not measured"


def test_rules_test_their_statements():
    def verdict(name, **changes):
        return evaluate(BY_ID[name], Records({"manifold": record(**changes)})).verdict

    base = record()
    assert verdict("m-aligned", whole=base["whole"] | {"images": [0.99, 1.0]}) == "holds"
    inside = base["endpoint"]["inside"]
    assert verdict("m-contrast", endpoint={"inside": inside | {"image": [tagged(0.3)]}}) == "fails"
    low = {kind: {"summary": {"purity": tagged(0.3, 0.05)}} for kind in ("whole", "pcs", "random")}
    assert verdict("m-walks-pure", walks=low) == "undecided"
    coin = base["knobs"] | {"dial": {"hit": [[0, 0.2], [0, 0.2]], "right": [[1, 0.2], [0, 0.8]]}}
    assert verdict("m-knobs-turn", knobs=coin) == "undecided" and verdict("m-knobs", knobs=coin) == "fails"


def test_without_a_record_nothing_is_measured():
    assert {evaluate(claim, Records({})).verdict for claim in CLAIMS} == {"not measured"}
