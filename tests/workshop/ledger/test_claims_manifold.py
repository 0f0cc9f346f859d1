"""Rows of the ledger on the image manifold: each reads the number that it says, and judges it by its rule."""

import pytest
from partners import judge

from atelier.ledger.claim import Records, evaluate
from atelier.ledger.rows import CLAIMS

BY_ID = {claim.id: claim for claim in CLAIMS}


def tagged(value, arm=0.01, n=9):
    return {"value": value, "low": value - arm, "high": value + arm, "n": n}


def record(**changes):
    """A record in which no two numbers are the same."""
    return {
        "dim": 50,
        "chance": 0.08,
        "whole": {"images": [0.2, 0.3, 0.4], "inputs": [0.9, 0.9, 0.9]},
        "far": {"whole": [0.3, 0.5, 0.7], "pcs": [0.92, 0.95, 0.98]},
        "endpoint": {
            "inside": {
                "image": [tagged(0.97), tagged(0.1)],
                "all": [tagged(0.98), tagged(0.7)],
                "other": [tagged(0.25), tagged(0.2)],
            },
        },
        "knobs": {"dial": {"right": [[1, 1, 1, 0.6], [1, 1, 0.6, 1], [1, 0.6, 1, 1]]}},
    } | changes


KNOBS = {"own": [0.4, 0.5, 0.6], "others": [0.1, 0.12, 0.14], "null": [0.2, 0.22, 0.24]}


@pytest.mark.parametrize(
    ("name", "measured", "predicted", "nulls", "verdict"),
    [
        ("m-aligned", 0.3, 1.0, [0.08, 0.5], "fails"),
        ("m-far", 0.95, 1.0, [0.02], "holds within limits"),
        ("m-contrast", 0.97, None, [0.25, 0.02], "holds"),
        ("m-knobs-turn", 0.9, None, [0.5], "holds"),
        ("m-alone", 0.5, None, [0.12, 0.22], "undecided"),
    ],
)
def test_each_row_reads_its_own_number(name, measured, predicted, nulls, verdict):
    cell = evaluate(BY_ID[name], Records({"manifold": record(), "knobs": KNOBS}))
    assert cell.measured is not None and cell.measured.value == pytest.approx(measured)
    assert cell.predicted == predicted and list(cell.nulls.values()) == pytest.approx(nulls)
    assert cell.verdict == verdict


def test_a_mean_over_few_seeds_has_their_t_interval():
    cell = evaluate(BY_ID["m-aligned"], Records({"manifold": record()}))
    assert cell.measured is not None and cell.measured.n == 3
    assert cell.measured.high - 0.3 == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)


@pytest.mark.claim("m-aligned", "m-far", "m-contrast", "m-knobs-turn", "m-alone")
def test_rules_test_their_statements():
    def verdict(name, knobs=KNOBS, **changes):
        return judge(name, manifold=record(**changes), knobs=knobs)

    base = record()
    assert verdict("m-aligned") == "fails" and verdict("m-contrast") == verdict("m-knobs-turn") == "holds"
    assert verdict("m-far") == "holds within limits"
    assert verdict("m-far", far=base["far"] | {"pcs": [0.1, 0.2, 0.3]}) == "fails"
    assert verdict("m-aligned", whole=base["whole"] | {"images": [0.99, 1.0, 0.98]}) == "holds"
    inside = base["endpoint"]["inside"]
    assert verdict("m-contrast", endpoint={"inside": inside | {"image": [tagged(0.3)]}}) == "fails"
    coin = {"dial": {"right": [[1, 0.2], [0, 0.8]]}}
    assert judge("m-knobs-turn", manifold=record(knobs=coin)) == "undecided"
    many = {"own": [0.5] * 23 + [0.52], "others": [0.1] * 24, "null": [0.2] * 24}
    assert verdict("m-alone", knobs=many) == "holds"
    assert verdict("m-alone", knobs=many | {"others": [0.2] * 24}) == "fails"


def test_without_a_record_nothing_is_measured():
    assert {evaluate(claim, Records({})).verdict for claim in CLAIMS} == {"not measured"}
