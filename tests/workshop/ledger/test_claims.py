"""The ledger: rules, rows, preconditions, the schema of results files, and the committed results themselves."""

import ast
import copy
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from atelier import trained
from atelier.evidence import shape
from atelier.ledger import claim as rules
from atelier.ledger import measuring
from atelier.ledger import records as results
from atelier.ledger import table as tables
from atelier.ledger.claim import Records, evaluate
from atelier.ledger.column import PRECONDITIONS, beside_shuffled, column, interval, number
from atelier.ledger.measuring import measure_model
from atelier.ledger.records import checked
from atelier.ledger.rows import CLAIMS, READINGS, reading
from atelier.pages.ledgers import counts, ledger, marks
from atelier.statistics import Interval, share
from atelier.subject import Settings, Subject, subject
from painters import Gaussian
from painters.levels import Levels
from painters.schedules import vp_linear

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = sorted(results.RESULTS.glob("*.json"))
MADE = {"seeds": "0-3", "steps": 5, "profile": "ci", "date": "2026-01-31", "seconds": 1.5, "calls": 7}
NETWORK = MADE | {"weights": "0123456789ab", "torch": "2.13.0", "hardware": "CPU"}
NAN = math.nan
BY_ID = {claim.id: claim for claim in CLAIMS}


def content(kind="network", **records):
    """What is in a results file with these records."""
    made = NETWORK if kind == "network" else MADE
    return {"model": "tiny", "kind": kind, "measurements": {k: v | {"provenance": made} for k, v in records.items()}}


def found(kind="network", **records):
    """A results file with these records, read."""
    return results.Results(**content(kind, **records))


# Rules


@pytest.mark.parametrize(
    ("rule", "ends", "predicted", "nulls", "verdict"),
    [
        (rules.near(0.1, 0.3), (1.0, 0.95, 1.05), 1.0, {}, "holds"),
        (rules.near(0.1, 0.3), (1.0, 0.85, 1.05), 1.0, {}, "holds within limits"),
        (rules.near(0.1, 0.3), (1.29, 1.28, 1.5), 1.0, {}, "holds within limits"),
        (rules.near(0.1, 0.3), (1.31, 1.3, 1.32), 1.0, {}, "fails"),
        (rules.near(0.1, 0.3), (-1.0, -1.05, -0.95), -1.0, {}, "holds"),
        (rules.near(0.1, 0.3), (1.0, 1.0, 1.0), None, {}, "not measured"),
        (rules.within(2, 5), (72.0, 71.0, 73.9), 74.0, {}, "holds within limits"),
        (rules.within(2, 5), (68.9, 68.0, 70.0), 74.0, {}, "fails"),
        (rules.within(2, 5), (73.0, 72.1, 75.9), 74.0, {}, "holds"),
        (rules.within(2, 5), (70.0, 69.0, 71.0), 74.0, {}, "holds within limits"),
        (rules.at_most(0.9, 0.95), (0.8, 0.7, 0.9), None, {}, "holds"),
        (rules.at_most(0.9, 0.95), (0.94, 0.9, 0.99), None, {}, "holds within limits"),
        (rules.at_most(0.9, 0.95), (0.96, 0.9, 0.99), None, {}, "fails"),
        (rules.at_least(0.9, 0.5), (0.95, 0.9, 1.0), None, {}, "holds"),
        (rules.at_least(0.9, 0.5), (0.6, 0.4, 1.0), None, {}, "holds within limits"),
        (rules.at_least(0.9, 0.5), (0.49, 0.4, 1.0), None, {}, "fails"),
        (rules.above("null"), (1.2, 1.1, 1.3), None, {"null": 1.0}, "holds"),
        (rules.above("null"), (1.2, 0.9, 1.3), None, {"null": 1.0}, "undecided"),
        (rules.above("null"), (0.9, 0.8, 1.1), None, {"null": 1.0}, "undecided"),
        (rules.above("null", factor=2), (1.2, 1.1, 1.3), None, {"null": 1.0}, "fails"),
        (rules.above("null"), (1.2, 1.1, 1.3), None, {}, "not measured"),
        (rules.below("null", factor=0.5), (0.4, 0.3, 0.49), None, {"null": 1.0}, "holds"),
        (rules.below("null", factor=0.5), (0.4, 0.3, 0.6), None, {"null": 1.0}, "undecided"),
        (rules.positive(), (0.0625, -0.173, 0.289), None, {}, "undecided"),
        (rules.positive(), (0.1, 0.01, 0.2), None, {}, "holds"),
        (rules.positive(), (-0.1, -0.2, -0.01), None, {}, "fails"),
        (rules.positive(), (-0.1, -0.2, 0.01), None, {}, "undecided"),
        (rules.positive(), (0.0, 0.0, 0.0), None, {}, "undecided"),
        (rules.positive(), (0.1, NAN, NAN), None, {}, "undecided"),
        (rules.below("null", factor=0.5), (0.6, 0.51, 0.7), None, {"null": 1.0}, "fails"),
        (rules.near(0.1, 0.3), (1.0, NAN, NAN), 1.0, {}, "holds within limits"),
        (rules.near(0.1, 0.3), (NAN, NAN, NAN), 1.0, {}, "not measured"),
    ],
)
def test_verdicts(rule, ends, predicted, nulls, verdict):
    """The whole interval for "holds", the value for the limits; one sample, with no interval, cannot hold."""
    assert rule.judge(Interval(*ends, 5), predicted, nulls) == verdict


def test_numbers_of_a_rule_stand_in_its_sentence():
    assert "5%" in rules.near(0.05, 0.2).text and "20%" in rules.near(0.05, 0.2).text
    assert "2 degrees" in rules.within(2, 5, "degrees").text and "0.9" in rules.at_most(0.9, 1).text


# Reading


def test_a_difference_of_shares_is_newcombes():
    """Newcombe (1998), method 10, the example 56/70 - 48/80: 0.2 with interval 0.0524 to 0.3339."""
    parts = []
    for hits, n in ((56, 70), (48, 80)):
        ci = stats.binomtest(hits, n).proportion_ci(method="wilson")
        parts.append(Interval(hits / n, ci.low, ci.high, n))
    got = reading.difference(*parts)
    assert got.value == pytest.approx(0.2) and got.n == 70
    assert (got.low, got.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_intervals_are_read_from_every_form():
    assert reading.interval({"value": 1, "low": None, "high": 2, "n": 3}).high == 2
    assert math.isnan(reading.interval({"value": 1, "low": None, "high": None, "n": 1}).low)
    assert reading.triple([1, 0.5, 2], 4) == Interval(1.0, 0.5, 2.0, 4)
    assert reading.exact(0.3).low == reading.exact(0.3).high == 0.3
    assert reading.interval({"value": 1}).n == reading.triple([1, 0, 2]).n == reading.exact(1).n == 0
    assert reading.normal(1.0, 0.1).n == 0 and reading.interval({"value": 1, "n": None}).n == 0
    assert reading.interval({"rho": 0.5, "value": 1}, value="rho").value == 0.5
    assert reading.normal(1.0, 0.1).low == pytest.approx(1 - 0.196)
    assert reading.nearest([100.0, 9.0, 1.3, 0.0, None], 1.0) == 2


# Rows


def tagged(value):
    return {"value": value, "low": value - 0.001, "high": value + 0.001, "n": 9}


NAMES = ["states_1", "states_2", "estimates_1", "estimates_2", "plane_mean", "rotation_mean", "evolving_mean", "angle"]
GEOMETRY = {
    "seeds": 9,
    "sigma_over_alpha": [50.0, 5.0, 1.1, 0.09, 0.0],
    "columns": {
        name: {key: tagged(i + j / 100) for j, key in enumerate(NAMES)} for i, name in enumerate(shape.COLUMNS)
    },
}


def place(column, key):
    return shape.COLUMNS.index(column) + NAMES.index(key) / 100


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("i-x0hat-two-pcs", "estimates_2"),
        ("i-plane", "plane_mean"),
        ("i-angle", "angle"),
    ],
)
def test_rows_of_the_shape_read_network_beside_gaussian(name, key):
    cell = evaluate(BY_ID[name], Records({"geometry": GEOMETRY}))
    assert cell.measured.value == pytest.approx(place("network", key))
    assert cell.predicted == pytest.approx(place("gaussian", key))


def test_rows_of_the_shape_read_their_nulls_and_levels():
    r = Records({"geometry": GEOMETRY})
    nulls = evaluate(BY_ID["i-x0hat-two-pcs"], r).nulls
    assert nulls == pytest.approx(
        {"random walk": place("walk", "states_2"), "ancestral sampler": place("ancestral", "estimates_2")}
    )
    rest = evaluate(BY_ID["i-knowing-nothing-is-flatter"], r)
    assert rest.measured.value == pytest.approx(1 - place("network", "states_2"))
    assert rest.measured.low < rest.measured.value < rest.measured.high


def kicks(**lists):
    base = {"sampler": "ode", "kick": "PC 1", "unit": "length", "size": 2.0, "often": False}
    return base | lists


PERTURBATION = {
    "series": [
        kicks(kick="axis", often=True, unit="std", flips=[tagged(0.5), tagged(0.4)], exact_flips=[tagged(0.3)] * 2),
        kicks(
            kick="axis", often=True, flips=[tagged(0.9), tagged(0.5), tagged(0.1)],
            exact_flips=[tagged(0.6), tagged(0.5), tagged(0.2)],
        ),
        kicks(
            sampler="sde", kick="axis", often=True, flips=[tagged(0.1), tagged(0.3)],
            exact_flips=[tagged(0.2), tagged(0.1)],
        ),
        kicks(size=4.0, gain=[tagged(99)], exact_gain=[99]),
        kicks(gain=[tagged(5), tagged(1)], exact_gain=[6, 1.5]),
        kicks(sampler="sde", gain=[tagged(0.5), tagged(1)], exact_gain=[0.4, 1]),
        kicks(kick="random", pixels=[tagged(0.3), tagged(0.7)], exact_pixels=[0.2, 0.8]),
        kicks(kick="off-manifold", pixels=[tagged(0.05), tagged(1)], exact_pixels=[0.04, 1]),
    ]
}  # fmt: skip
KICKS = PERTURBATION["series"]


@pytest.mark.parametrize(
    ("name", "measured", "predicted", "null"),
    [
        ("iii-often", 0.8, None, [0.4]),
        ("iii-often-std", 0.1, 0.0, [0.8, 0.0]),
        ("iii-often-sde", -0.2, None, [0.8, 0.1]),
        ("iii-gain-early", 5, 6, [1]),
        ("iii-off-manifold", 0.05, 0.04, [0.3]),
    ],
)
def test_rows_of_the_kicks_read_their_series(name, measured, predicted, null):
    cell = evaluate(BY_ID[name], Records({"perturbation": PERTURBATION}))
    assert cell.measured.value == pytest.approx(measured)
    assert cell.predicted == (None if predicted is None else pytest.approx(predicted))
    assert list(cell.nulls.values()) == pytest.approx(null)


def test_rows_of_the_landscape():
    j = [[[0.2, 0.1], [0.2, 0.1]], [[1.5, 1], [0.9, 1]], [[1.2, 1], [0.8, 1]], [[0.9, 1], [1.1, 1]]]
    record = {"ratio": [20.0, 2.0, 0.3, 0.1], "j": j, "mixture": {"j": j[:2]}}
    r = Records({"landscape": record})
    assert evaluate(BY_ID["l-between-modes"], r).measured.value == 0.5
    assert evaluate(BY_ID["l-gaussian-modes"], r).measured.value == 0.5
    assert evaluate(BY_ID["l-gaussian-modes"], r).nulls == {"between modes": 0.5, "class mixture": 0.75}
    seeds = [[[v, 0.1] for v in row] for row in ([0.1] * 3, [1.0, 1.2, 0.9], [0.9, 1.1, 0.8], [1.2, 0.9, 0.8])]
    r = Records({"landscape": {"ratio": [20.0, 4.9, 0.6, 0.1], "j": seeds, "mixture": None}})
    between, settled = (evaluate(BY_ID[name], r).measured for name in ("l-between-modes", "l-gaussian-modes"))
    assert between == share(np.array([0.5, 1, 0])) and settled == share(np.array([0.5, 0.5, 1]))


def test_the_training_set_is_held_against_the_best_mixture_at_its_level():
    rows = {"k-means 2": [[0.9], [0.4]], "k-means 10": [[0.1], [0.3]], "k-means 50": [[0.2], [0.5]]}
    rows |= {"gaussian": [[0.0], [0.05]], "cloud": [[0.0], [0.6, 0.55, 0.65]]}
    r = Records({"approximation": {"ratio": [5.0, 1.1], "test_size": rows, "test_n": 4, "test_score": {}}})
    cell = evaluate(BY_ID["g-not-the-training-set"], r)
    assert cell.measured == Interval(0.6, 0.55, 0.65, 4) and cell.nulls == {"best mixture": 0.3}


def test_rows_of_the_order():
    bands = {"edges": [[0, 0.1], [0.1, 0.2], [0.2, 0.3]], "half": [3.0, 2.0, 1.0], "half_law": [1.0, 2.0, 3.0]}
    record = {"rank_counted": tagged(0.9), "slope_counted": tagged(0.8), "rank": tagged(0.1), "bands": bands}
    record |= {"bound_counted": {"not_below": 0.99, "pairs": 7, "mean_not_below": 0.01}}
    factors = {"rank": {"rho": 0.1, "low": 0.0, "high": 0.2, "n": 5}}  # along the ODE it is read no more
    factors |= {"rank_sde": {"rho": 0.6, "low": 0.4, "high": 0.7, "n": 5}}
    r = Records({"emergence": record, "commitment": factors})
    got = {name: evaluate(BY_ID[name], r) for name in BY_ID if name.startswith("ii-")}
    values = {name: cell.measured.value for name, cell in got.items()}
    wanted = {"ii-order": 0.9, "ii-slope": 0.8, "ii-bound": 0.99, "ii-bands-by-variance": -1.0, "ii-factors": 0.6}
    assert values == pytest.approx(wanted)
    assert got["ii-bands-by-variance"].predicted == pytest.approx(1.0) and got["ii-slope"].predicted == 1.0
    assert got["ii-bound"].predicted == pytest.approx(0.97725, abs=1e-5)
    assert got["ii-bound"].nulls == {"knows only the mean": 0.01} and got["ii-bound"].note == ""
    few = bands | {"half": [3.0, None, 1.0]}
    assert evaluate(BY_ID["ii-bands-by-variance"], Records({"emergence": {"bands": few}})).verdict == "not measured"


@pytest.mark.parametrize(
    ("name", "null"),
    [
        ("t-loss", {"one Gaussian": 1}), ("t-levels", {"knows only the mean": 0}),
        ("g-score", {"knows only the mean": 1}),
        ("i-angle", {"unrelated vectors": 90}), ("ii-order", {"no order": 0}), ("ii-slope", {"all at once": 0}),
        ("ii-bands-by-variance", {"frequency itself": -1}), ("ii-factors", {"no order": 0}),
        ("iii-gain-early", {"no stretch": 1}), ("m-knobs-turn", {"a coin": 0.5}),
        ("l-between-modes", {"one Gaussian": 0}),
    ],
)  # fmt: skip
def test_nulls_that_nobody_measures_are_what_ignorance_gives(name, null):
    assert BY_ID[name].reading.nulls(Records({})) == null


@pytest.mark.parametrize(
    ("name", "value"),
    [("r-no-copies", 0.5), ("iii-often-std", 0), ("ii-order", 1), ("ii-slope", 1), ("m-aligned", 1), ("m-far", 1),
     ("k-homogeneous", 1), ("s-guidance", 1)],
)  # fmt: skip
def test_predictions_that_need_no_model(name, value):
    assert BY_ID[name].reading.predict(Records({})) == value


def test_rows_of_the_kinship_name_every_generator():
    def one(axes, log):
        return {"pixels": {"participation": tagged(axes), "log": tagged(log)}}

    names = ("trained", "untrained", "shuffled", "linear")
    record = one(5.0, 0.9) | {"map": one(5.0, 0.9), "theory_participation": 6.0}
    record |= {"generators": {name: one(i, i / 10) for i, name in enumerate(names)}}
    record["overlap"] = {
        "map map": tagged(0.25),
        "map trained": {"value": 0.18, "low": 0.17, "high": 0.19, "n": 8},
        "trained trained": {"value": 0.16, "low": 0.14, "high": 0.18, "n": 8},
        "map pictures": tagged(0.3),
        "pictures pictures": tagged(0.64),
        "map untrained": tagged(0.2),
        "untrained untrained": tagged(0.36),
        "random": 0.1,
    }
    r = Records({"kinship": record})
    wide, same, shared = (evaluate(BY_ID[f"k-{name}"], r) for name in ("anisotropic", "homogeneous", "shared"))
    assert (wide.measured.value, wide.predicted, same.measured.value, shared.measured.value) == (
        5.0,
        6.0,
        0.9,
        pytest.approx(0.9),
    )
    said = ("trained GAN", "untrained GAN", "shuffled GAN", "linear generator")
    assert wide.nulls == dict(zip(said, (0, 1, 2, 3))) and same.nulls == dict(zip(said, (0, 0.1, 0.2, 0.3)))
    assert shared.nulls == pytest.approx({"differences of pictures": 0.75, "untrained GAN": 2 / 3})
    arms = math.hypot(0.01 / 0.18, 0.02 / 0.16 / 2, 0.001 / 0.25 / 2)  # a square root halves relative errors
    assert shared.measured.high == pytest.approx(0.9 * (1 + arms))


def test_classes_part_where_half_are_kept():
    kept = [[0, 0, 0, 1], [1, 1, 1, 0]]
    record = {"classes": {"ratio": [8.0, 2.0], "kept": kept, "mixture": {"kept": [[0, 0], [1, 1]], "speciation": 9}}}
    cell = evaluate(BY_ID["l-classes-part"], Records({"landscape": record}))
    assert cell.measured.value == pytest.approx(4.0) and cell.predicted == pytest.approx(4.0)
    assert cell.nulls == {"two groups": 9.0}


def test_the_slope_of_guidance_is_that_of_logarithms_over_all_prompts():
    law, measured = np.array([2.0, 4.0]), np.array([2.0**0.5, 2.0])
    runs = [
        {"prompt": p, "guidance": w, "law": (law if w == 3 else law / law).tolist(), "affine": [1.0, 1.0],
         "measured": (measured if w == 3 else measured / measured).tolist()}
        for p in "pq" for w in (1.0, 3.0)
    ]  # fmt: skip
    cell = evaluate(BY_ID["s-guidance"], Records({"guidance": {"runs": runs}}))
    assert cell.measured.value == pytest.approx(0.5) and cell.measured.n == 4
    assert cell.nulls == {"no effect": 0.0, "the prompts' two Gaussians": 0.0}


def test_a_missing_record_is_not_measured_and_nothing_raises():
    for records in ({}, {"geometry": {}}, {"perturbation": {"series": []}}, {"guidance": {"runs": []}}):
        assert {evaluate(claim, Records(records)).verdict for claim in CLAIMS} == {"not measured"}


def test_every_claim_is_whole():
    labels = {
        f"{page.stem}#{label}"
        for page in (ROOT / "book").glob("*.md")
        for label in re.findall(r"^\(([\w-]+)\)=", page.read_text(encoding="utf-8"), re.M)
    }
    assert len(BY_ID) == len(CLAIMS) <= 40 and sum(claim.first for claim in CLAIMS) == 12
    assert [c.part for c in CLAIMS] == sorted((c.part for c in CLAIMS), key=list(rules.PARTS).index)
    for claim in CLAIMS:
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", claim.id) and claim.statement.endswith(".")
        assert claim.metric and claim.rule.text and claim.where in labels, claim.id
        # what it is held against: a number of knowing nothing or of another explanation; a training has none
        assert claim.rivals or claim.rule.limits is None or claim.id == "t-rest", claim.id
        path, _, name = claim.test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in tests, f"{claim.id}: {path} has no {name}"


# Preconditions


def test_preconditions_are_rows():
    assert set(PRECONDITIONS) <= set(BY_ID)


APART = {100: [2.0, 2.0], 200: [1.6, 2.0], 400: [1.2, 2.8], 1: [50.0, 50.0]}
CARD = {
    "loss": {
        "alpha": [0.1, 1.0], "sigma": [1.0, 0.5], "n": 100, "loss": [10.3, 4.0], "loss_se": [0.1, 0.2],
        "gaussian_loss": [10.2, 8.0], "mean_loss": [10.5, 40.0],
    },
    "snapshots": [{"step": step, "gaussian_apart": apart} for step, apart in APART.items()],
}  # fmt: skip


def one_pixel(card=None, kind="network"):
    gaussian = Gaussian(torch.zeros(4).double(), torch.eye(4).double(), torch.tensor([4.0, 1.0, 0.5, 0.1]).double())
    model = None if card is None else SimpleNamespace(card=card)
    return Subject(
        "tiny", gaussian, gaussian, (1, 2, 2), lambda n, **_: Levels.of(vp_linear(), n), lambda x: x, kind=kind,
        model=model,  # type: ignore[arg-type]
    )  # fmt: skip


def test_preconditions_read_the_card():
    record = trained.measure(one_pixel(CARD), Settings())
    assert record["sigma"] == [10.0, 0.5] and record["ratio"] == pytest.approx([10.3 / 10.2, 0.5])
    assert record["share"] == pytest.approx([2 / 3, 36 / 32]) and record["counted"] == [0, 1] and not record["own"]
    # straight lines through the last quadrupling: falls by .4 and rises by .4 a doubling
    assert record["moved"] == pytest.approx((0.4 + 0.4) / 4) and record["moved_over"] == [100, 400]
    r = Records({"trained": record})
    loss = evaluate(BY_ID["t-loss"], r)
    assert loss.measured.value == 0.5 and loss.measured.high == pytest.approx(0.5 + 1.96 * 0.2 / 8)
    assert evaluate(BY_ID["t-rest"], r).verdict == "holds within limits"
    assert evaluate(BY_ID["t-levels"], r).measured.value == 0.5
    assert trained.measure(one_pixel(CARD, "gaussian"), Settings()) is None
    assert trained.measure(one_pixel(), Settings()) is None
    assert "moved" not in trained.measure(one_pixel(CARD | {"snapshots": CARD["snapshots"][:2]}), Settings())


def test_the_constant_mean_counts_nowhere_and_the_gaussian_everywhere():
    """At sigma/alpha above 68 the first rule, a ratio of losses, let the mean pass."""
    loss = {"gaussian_loss": [99.0, 50.0, 1.0], "mean_loss": [100.0] * 3}
    share, ratio, enough = trained.counts(loss | {"loss": loss["mean_loss"]})
    assert ratio[0] < trained.RATIO and not enough.any() and not share.any()
    share, ratio, enough = trained.counts(loss | {"loss": loss["gaussian_loss"]})
    assert enough.all() and (share == 1).all()
    # at low noise the share says little, and the ratio decides
    assert trained.counts(loss | {"loss": [99.0, 50.0, 2.0]})[2].tolist() == [True, True, False]


def test_levels_count_by_the_nearest_of_the_card_and_a_theory_everywhere():
    levels = Levels(torch.tensor([0.1, 0.2, 1.0]).double(), torch.tensor([1.0, 1.0, 0.2]).double())
    assert trained.counted(one_pixel(CARD), levels).tolist() == [False, False, True]
    for who in (one_pixel(CARD, "gaussian"), one_pixel({}), one_pixel()):
        assert trained.counted(who, levels).all()


@pytest.mark.parametrize("shuffled", [False, True])
def test_without_a_card_the_loss_is_measured_on_pictures(shuffled):
    flat = Gaussian.of(torch.zeros(784).double(), 0.1)
    who = replace(subject("fashion-twin-v", device="cpu", gaussian=flat), reader=None)
    who = who.shuffled() if shuffled else replace(who, model=replace(who.model, card={}))
    record = trained.measure(who, Settings((0,), 4, "ci", batch=5, progress=False))
    assert record["images"] == 8 and len(record["share"]) == len(record["ratio"]) == 4 and "moved" not in record
    trained_weights = subject("fashion-twin-v", device="cpu", gaussian=flat).model.weights
    assert (who.model.weights == trained_weights) is not shuffled


def test_agreement_without_the_preconditions_is_noted():
    good = {"ratio": [0.5], "ratio_se": [0.01], "counted": [1], "images": 9, "moved": 0.05}
    poor = good | {"ratio": [0.99]}
    for record, note in (
        (good, ""),
        (poor, "does not count: t-loss fails"),
        ({key: good[key] for key in good if key != "moved"}, ""),
        (None, "counts only if t-loss holds; it is not measured here"),
    ):
        cells = column(found(geometry=GEOMETRY, **({"trained": record} if record else {}))).cells
        noted = {cell.note for cell in cells if cell.claim.agreement and cell.measured is not None}
        noted -= {rules.NULL_PASSES, ""} if note == "" else set()
        assert all(said.startswith(note) for said in noted) and bool(noted) == bool(note)
        assert not any("count" in cell.note for cell in cells if not cell.claim.agreement)
    assert {cell.note for cell in column(found("gaussian", geometry=GEOMETRY)).cells} == {""}
    own = column(replace(found(geometry=GEOMETRY, trained=good), moments={"source": "x", "circular": True}))
    assert own.circular and own.title == "tiny (theory of its own samples)"


def test_rows_say_if_their_twin_passes_and_if_the_first_kicked_level_does_not_count():
    one = column(found(geometry=GEOMETRY, perturbation=PERTURBATION))
    twin = column(found("shuffled", geometry=GEOMETRY))
    noted = beside_shuffled([one, twin])[0].cells
    said = {cell.claim.id for cell in noted if "shuffled" in cell.note}
    assert said == {cell.claim.id for cell in twin.cells if cell.verdict.startswith("holds")} and said
    assert beside_shuffled([one, twin])[1] == twin and beside_shuffled([one]) == [one]
    kicked = PERTURBATION | {"sigma_over_alpha": [80.0, 0.5]}
    for counted in (1, 0):
        trained = {"sigma": [90.0, 1.0], "counted": [counted, 1]}
        cells = column(found(trained=trained, perturbation=kicked)).cells
        notes = {cell.claim.id: cell.note for cell in cells if cell.measured is not None}
        assert ("first kicked level" in notes["iii-often"]) is not bool(counted)


def test_a_null_that_passes_as_well_is_noted_beside_the_verdict():
    cells = {cell.claim.id: cell for cell in column(found(perturbation=PERTURBATION)).cells}
    often, std = cells["iii-often"], cells["iii-often-std"]
    assert often.verdict == "holds" and often.note == rules.NULL_PASSES
    assert std.verdict == "holds within limits" and std.nulls["equal lengths"] == pytest.approx(0.8) and std.note == ""
    own = {cell.claim.id: cell for cell in column(found("gaussian", perturbation=PERTURBATION)).cells}
    assert own["iii-often"].note == ""

    def plane(mean):
        columns = GEOMETRY["columns"] | {"mean": GEOMETRY["columns"]["mean"] | {"plane_mean": tagged(mean)}}
        columns |= {"network": GEOMETRY["columns"]["network"] | {"plane_mean": tagged(2.2)}}
        return evaluate(BY_ID["i-plane"], Records({"geometry": GEOMETRY | {"columns": columns}}))

    assert (plane(2.3).verdict, plane(2.3).note) == ("holds", rules.NULL_PASSES)
    assert plane(0).note == "" and plane(1.2).note == ""  # within limits is less than the network does
    assert rules.NULL_PASSES in tables.markdown([column(found(perturbation=PERTURBATION))])


def test_rivals_are_among_the_nulls_that_results_give():
    given = {}
    for path in COMMITTED:
        for cell in column(results.read(path)).cells:
            given.setdefault(cell.claim.id, set()).update(cell.nulls)
    given = {name: nulls for name, nulls in given.items() if nulls}  # a row on GANs has them where a GAN is bundled
    lost = {(c.id, name) for c in CLAIMS for name in c.rivals if name not in given.get(c.id, c.rivals)}
    assert not lost


def test_rules_test_their_statements():
    def judge(name, *ends, predicted=None):
        return BY_ID[name].rule.judge(Interval(*ends, 9), predicted)

    assert judge("t-levels", 0.54, 0.54, 0.54) == judge("t-levels", 0.89, 0.89, 0.89) == "fails"
    assert judge("r-no-copies", 0.2, 0.1, 0.3, predicted=0.5) == "holds"
    assert judge("r-no-copies", 0.8, 0.7, 0.9, predicted=0.5) == "fails"


# Measuring


@pytest.fixture
def measures(monkeypatch):
    """Two experiments that count how often they run; the second can be made to stop."""
    calls = []

    def one(who, settings):
        calls.append("one")
        who.denoise(torch.zeros(3, *who.shape), 0.5, 0.5)
        return {"x": 1 / 3, "y": math.nan}

    def two(who, settings):
        calls.append("two")
        if calls.count("two") == 1:
            raise KeyboardInterrupt
        return {"z": [1]}

    monkeypatch.setattr(measuring, "MEASURES", {"one": one, "two": two, "none": lambda *_: None})
    return calls


def test_a_measurement_continues_where_it_was_interrupted(measures, tmp_path):
    who, settings, out = one_pixel(kind="gaussian"), Settings((0, 1, 2, 7), 5, "ci"), tmp_path / "tiny.json"
    with pytest.raises(KeyboardInterrupt):
        measure_model(who, settings, out, progress=False)
    got = measure_model(who, settings, out, progress=False)
    assert measures == ["one", "two", "two"] and set(got.measurements) == {"one", "two"}
    assert got.measurements["one"]["x"] == 0.333333 and got.measurements["one"]["y"] is None
    assert got.made("one").seeds == "0-2,7" and results.read(out) == got
    with pytest.raises(ValueError, match="no experiment three"):
        measure_model(who, settings, out, only=["three"], progress=False)
    other = Subject("other", who.denoise, who.gaussian, who.shape, who.levels, who.decode)
    with pytest.raises(ValueError, match="holds results of tiny"):
        measure_model(other, settings, out, progress=False)


@pytest.mark.parametrize(
    "change", [{"seeds": (0, 1, 2)}, {"steps": 6}, {"profile": "full"}], ids=lambda change: next(iter(change))
)
def test_a_record_of_other_settings_is_measured_anew(measures, change, tmp_path):
    who, settings, out = one_pixel(kind="gaussian"), Settings((0, 1), 5, "ci"), tmp_path / "tiny.json"
    measure_model(who, settings, out, only=["one"], progress=False)
    measure_model(who, replace(settings, batch=7), out, only=["one"], progress=False)
    assert measures == ["one"]
    measure_model(who, replace(settings, **change), out, only=["one"], progress=False)
    assert measures == ["one", "one"]


def test_a_file_of_other_moments_reader_or_prompt_is_refused(measures, tmp_path):
    """The numbers of a Gaussian count, not the name of the file they came from."""
    who, settings, out = one_pixel(kind="gaussian"), Settings((0,), 5, "ci"), tmp_path / "tiny.json"
    got = measure_model(replace(who, moments={"source": "a"}), settings, out, only=["one"], progress=False)
    reader = SimpleNamespace(network=torch.nn.Linear(1, 1))
    g, prompted = who.gaussian, {"source": "a", "prompt": "a house"}
    for other in (
        replace(who, gaussian=replace(g, lam=g.lam * 1.001), moments={"source": "a"}),
        replace(who, gaussian=replace(g, mu=g.mu + 0.001), moments={"source": "a"}),
        replace(who, gaussian=replace(g, U=g.U.flip(1)), moments={"source": "a"}),
        replace(who, moments=prompted),
        replace(who, reader=reader),
    ):
        with pytest.raises(ValueError, match="with other weights, moments, reader or prompt: choose another file"):
            measure_model(other, settings, out, progress=False)
    same = replace(who, gaussian=replace(g, U=g.U * (1 + 1e-15)), moments={"source": "b"})
    measure_model(same, settings, out, only=["one"], progress=False)
    assert measures == ["one"] and results.read(out) == got


def test_a_file_of_other_weights_is_refused(measures, tmp_path):
    flat = Gaussian(torch.zeros(784).double(), torch.zeros(784, 0).double(), torch.zeros(0).double(), 1.0)
    who, out = subject("fashion-twin-v", device="cpu", gaussian=flat), tmp_path / "twin.json"
    measure_model(who, Settings((0,), 5, "ci"), out, only=["one"], progress=False)
    with torch.no_grad():
        next(who.model.network.parameters()).mul_(1.01)
    with pytest.raises(ValueError, match="with other weights"):
        measure_model(who, Settings((0,), 5, "ci"), out, only=["one"], progress=False)


def test_two_measurements_of_one_file_lose_nothing(monkeypatch, tmp_path):
    """The second wants to write between the first one's reading and writing, where its record would be lost."""
    who, settings, out = one_pixel(kind="gaussian"), Settings((0,), 5, "ci"), tmp_path / "tiny.json"
    monkeypatch.setattr(measuring, "MEASURES", {"one": lambda *_: {"x": 1}, "two": lambda *_: {"x": 2}})
    second = Thread(target=measure_model, args=(who, settings, out), kwargs={"only": ["two"], "progress": False})
    write = measuring.write

    def slow(found, path):
        if not second.ident:
            second.start()
            second.join(0.5)  # without a lock it would be done by now
        write(found, path)

    monkeypatch.setattr(measuring, "write", slow)
    measure_model(who, settings, out, only=["one"], progress=False)
    second.join()
    assert set(results.read(out).measurements) == {"one", "two"}


def test_calls_of_the_network_are_counted_by_image(measures, tmp_path):
    flat = Gaussian(torch.zeros(784).double(), torch.zeros(784, 0).double(), torch.zeros(0).double(), 1.0)
    who = subject("fashion-twin-v", device="cpu", gaussian=flat)
    got = measure_model(who, Settings((0,), 5, "ci"), tmp_path / "twin.json", only=["one"], progress=False)
    assert got.made("one").calls == 3 and len(got.made("one").weights) == 12
    assert not who.model.network._forward_pre_hooks


def test_seeds_are_written_as_they_are_typed():
    assert measuring.seed_ranges((0, 1, 2, 5, 7, 8)) == "0-2,5,7-8"
    assert (
        results.results_file("google/ddpm-cifar10-32", kind="gaussian").name == "google--ddpm-cifar10-32-gaussian.json"
    )


# Results files


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.pop("model"), "needs 'model'"),
        (lambda f: f.update(kind="magic"), "kind is network, gaussian, shuffled"),
        (lambda f: f.update(model="/somewhere/model"), "a folder's name"),
        (lambda f: f.update(measurements={}), "no measurement"),
        (lambda f: f["measurements"]["geometry"].pop("provenance"), "the provenance of geometry must be"),
        (lambda f: f["measurements"]["geometry"].update(x=math.inf), "not JSON compliant"),
        (lambda f: f["measurements"]["geometry"].update(x=[[1.0, {"y": NAN}]]), "not JSON compliant"),
        (lambda f: f["measurements"].update(geometry={"provenance": NETWORK}), "record of geometry is empty"),
        (lambda f: f["measurements"]["geometry"]["provenance"].update(seeds=[0, 3]), "'seeds' of type list"),
        (lambda f: f["measurements"]["geometry"]["provenance"].pop("weights"), "of geometry needs weights"),
        (lambda f: f["measurements"]["geometry"]["provenance"].pop("seeds"), "needs 'seeds'"),
        (lambda f: f["measurements"]["geometry"]["provenance"].update(date="yesterday"), "2026-01-31"),
        (lambda f: f["measurements"]["geometry"]["provenance"].update(steps=0), "must not be negative"),
        (lambda f: f.update(moments={"n": 3}), "name their source"),
    ],
)
def test_a_damaged_results_file_is_refused_in_one_sentence(change, says):
    broken = content(geometry=GEOMETRY)
    assert checked(broken).made("geometry").seeds == "0-3"
    broken = copy.deepcopy(broken)
    change(broken)
    with pytest.raises(ValueError, match=re.escape(says)):
        checked(broken)


def test_a_file_that_is_no_results_file_is_named(tmp_path):
    for text in ("{", "[]", "{}"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match=r"x\.json is no results file"):
            results.read(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError, match="was not measured"):
        results.results("no-such-model")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_results_are_whole_and_every_row_reads_them(path):
    file = results.read(path)
    assert set(file.measurements) <= set(measuring.MEASURES)
    assert path == results.results_file(file.model, kind=file.kind)
    assert path.stat().st_size < 2_000_000
    cells = column(file).cells
    for cell in cells:
        if cell.measured is not None:
            assert not cell.measured.low > cell.measured.high, cell.claim.id
    assert any(cell.verdict != "not measured" for cell in cells)


@pytest.mark.parametrize("name", ["fashion-ddpm", "scenes-sd"])
def test_committed_results_are_of_the_bundled_weights_moments_and_readers(name):
    """So that ``painters claims`` keeps them."""
    made = measuring.made_of(subject(name, device="cpu"), Settings())
    for kind in ("network", "gaussian"):
        file = results.read(results.results_file(name, kind=kind))
        assert {file.made(record).subject for record in file.measurements} == {made.subject}
        assert {file.made(record).settings for record in file.measurements} == {made.settings}


def test_the_longer_run_is_measured_as_the_bundled_one_was():
    """With other weights, on the same moments and by the same reader, with the same seeds and steps."""
    longer = results.read(results.RESULTS.parent / "longer" / "fashion-ddpm.json")
    short = results.read(results.results_file("fashion-ddpm"))
    assert longer.measurements.keys() == short.measurements.keys()
    for name in short.measurements:
        a, b = short.made(name), longer.made(name)
        assert a.settings == b.settings and a.subject[1:] == b.subject[1:] and a.weights != b.weights, name


@pytest.mark.skipif(not COMMITTED, reason="nothing was measured yet")
def test_a_sample_of_rows_recomputed_in_small_agrees_with_the_committed():
    """Geometry of the exact Gaussian of Fashion on four other seeds: within four standard errors of a mean of four.

    The spread over seeds follows from the committed interval.
    """
    path = results.results_file("fashion-ddpm", kind="gaussian")
    committed = Records(results.read(path).measurements, "gaussian")
    who = subject("fashion-ddpm", device="cpu").theory()
    again = Records({"geometry": shape.measure(who, Settings((500, 501, 502, 503), 50, "ci"))}, "gaussian")
    compared = 0
    for claim in CLAIMS:
        old, new = evaluate(claim, committed).measured, evaluate(claim, again).measured
        if claim.part == "i" and old is not None:
            spread = (old.high - old.low) / 2 / 1.96 * old.n**0.5
            assert abs(old.value - new.value) <= 4 * spread / 2, claim.id
            compared += 1
    assert compared == sum(claim.part == "i" for claim in CLAIMS)


# Rendering


def test_numbers_have_three_digits_and_their_unit():
    assert number(0.98765, "%") == "98.8 %" and number(74.06, "degrees") == "74.1 degrees"
    assert (
        number(3.4e-6) == "3.4e-06"
        and number(-2e-16, "%") == "0 %"
        and number(12345.6) == "12346"
        and number(None) == number(NAN) == "-"
    )
    assert interval(Interval(0.5, 0.4, 0.6, 10), "%") == "50 [40, 60] %" and interval(None) == "not measured"
    assert interval(Interval(1, 0.207, 1, 1), "%") == "100 [20.7, 100] %, n = 1"
    assert interval(Interval(1, 1, 1, 4), "%") == "100 %, n = 4" and interval(Interval(1, 1, 1, 0), "%") == "100 %"
    assert interval(Interval(0.5, NAN, NAN, 1)) == interval(Interval(0.5, 0.5, 0.5, 0)) == "0.5"


def test_tables_name_every_claim_and_both_kinds():
    columns = [column(found(geometry=GEOMETRY)), column(found("gaussian", geometry=GEOMETRY))]
    table = tables.markdown(columns)
    assert all(f"`{claim.id}`" in table for claim in CLAIMS) and "exact Gaussian of tiny" in table
    assert len({line.count(" | ") for line in table.splitlines() if line.startswith("|")}) == 1
    lines = tables.text(columns[:1]).splitlines()
    assert len(lines) >= len(CLAIMS) + 3 and "not measured" in lines[2]
    with pytest.raises(ValueError, match="no results"):
        tables.markdown([])


COLUMNS = [column(results.read(path)) for path in COMMITTED]


@pytest.mark.parametrize("width", [80, 100])
def test_a_table_fits_the_terminal_and_has_the_marks_of_the_page(width):
    networks = [one for one in beside_shuffled(COLUMNS) if one.kind == "network"]
    table = tables.text(networks, width)
    assert max(map(len, table.splitlines())) <= width and table.count("t-loss") == (2 if width == 80 else 1)
    for one in networks:
        alone = tables.text([one], width).splitlines()
        assert max(map(len, alone)) <= width
        rows = dict((line.split()[0], line.split()[-1]) for line in alone[2 : 2 + len(CLAIMS)])
        noted = {cell.claim.id for cell in one.cells if cell.note}
        assert {name for name, mark in rows.items() if mark.startswith("(")} == noted
        told = " ".join(" ".join(alone[2 + len(CLAIMS) :]).split())
        assert all(f"({cell.note})" in told and cell.claim.id in told for cell in one.cells if cell.note)


def test_a_network_whose_theory_is_of_its_own_samples_says_so():
    (galaxies,) = tables.chosen(COLUMNS, "galaxies-hsc64")
    assert galaxies.circular and tables.text([galaxies]).startswith("galaxies-hsc64 (theory of its own samples)")


def test_models_and_claims_are_chosen_by_name():
    one, other = tables.chosen(COLUMNS, "scenes-sd, fashion-ddpm-gaussian", "iii,t-rest")
    assert (one.model, other.kind) == ("scenes-sd", "gaussian")
    assert {cell.claim.part for cell in one.cells} == {"iii", "trained"} and one.cells[0].claim.id == "t-rest"
    noted = next(c for c in tables.chosen(COLUMNS, "scenes-sd", "iii-often")[0].cells)
    assert "weights shuffled too" in noted.note, "the twin is looked at though it was not asked for"
    with pytest.raises(ValueError, match=r"no measured model nobody: choose from .*scenes-sd-shuffled"):
        tables.chosen(COLUMNS, "nobody")
    with pytest.raises(ValueError, match="no claim or part iv: choose from trained"):
        tables.chosen(COLUMNS, None, "iv")


def test_records_hold_what_the_cells_hold_and_are_json():
    one = tables.chosen(COLUMNS, "fashion-ddpm", "ii-slope,ii-factors")
    slope, factors = json.loads(json.dumps(tables.records(one), allow_nan=False))
    measured = one[0].cells[0].measured
    assert measured is not None and slope["value"] == pytest.approx(measured.value, rel=1e-5)
    assert (slope["theory"], slope["verdict"], slope["model"]) == (1, "fails", "fashion-ddpm")
    assert factors["value"] is None and factors["verdict"] == "not measured"


def test_the_page_has_a_row_for_each_claim_and_says_what_was_not_measured():
    columns = [column(found(geometry=GEOMETRY)), column(found("gaussian", geometry=GEOMETRY))]
    page = ledger(columns, hub=["google/ddpm-cifar10-32"])._repr_html_()
    assert re.findall(r'<tr role="row" id="([^"]+)"', page) == [claim.id for claim in CLAIMS]
    assert page.count("not yet measured") == len(CLAIMS) and "http" not in page
    assert page.count('data-column="tiny"') == page.count('data-column="exact Gaussian of tiny"') == len(CLAIMS)
    assert '<option value="undecided">' in page and "ancestral sampler: " in page
    assert 'value="model" checked' in page and page.count(" checked") == 1
    row = page[page.index('id="g-score"') : page.index('id="g-early"')]
    assert row.index("New in this ledger:</strong> metric") < row.index("</details>")
    assert row.index("Reported:</strong> EDM on CIFAR-10") < row.index("</details>")
    with pytest.raises(ValueError, match="at least one column"):
        ledger([])


def test_the_first_screen_has_a_mark_for_each_network_and_says_what_it_means():
    poor = {"ratio": [0.99], "ratio_se": [0.01], "counted": [1], "images": 9, "moved": 0.05}
    columns = [
        column(found(geometry=GEOMETRY, trained=poor)),
        column(found("gaussian", geometry=GEOMETRY)),
        column(found("shuffled", geometry=GEOMETRY)),
    ]
    page = marks(columns)
    assert page.html.count('role="img"') == 12 and page.html.count('<th scope="col"') == 2
    assert 'href="#i-x0hat-two-pcs"' in page.html and "does not count: t-loss fails" in page.html
    assert "◐ holds within limits" in page.text and "(" in page.text.splitlines()[2]
    told = counts(columns)
    assert len(told.text.splitlines()) == 3 and "hold with weights shuffled" in told.text
    judged = sum(cell.verdict != "not measured" for cell in columns[0].cells)
    passed = sum(rules.NULL_PASSES in cell.note for cell in columns[0].cells)
    held = sum(cell.verdict.startswith("holds") for cell in columns[2].cells)
    row = told.text.splitlines()[-1].split()
    assert row[:2] == ["tiny", str(judged)] and row[6:8] == [str(passed), str(held)]


def test_records_survive_json():
    file = content(geometry=GEOMETRY, perturbation=PERTURBATION)
    read = checked(json.loads(json.dumps(file)))
    assert column(read).cells[6].measured == column(results.Results(**file)).cells[6].measured


def test_every_row_of_the_file_has_its_functions_and_none_is_left_over():
    assert {claim.id for claim in CLAIMS} == set(READINGS) and len(CLAIMS) == len(READINGS)
