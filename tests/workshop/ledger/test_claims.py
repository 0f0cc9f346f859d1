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

from atelier.evidence import shape
from atelier.ledger import claim as rules
from atelier.ledger import measuring, trained
from atelier.ledger import records as results
from atelier.ledger.claim import Records, evaluate
from atelier.ledger.column import PRECONDITIONS, column, interval, markdown, number, summary
from atelier.ledger.measuring import measure_model
from atelier.ledger.records import checked
from atelier.ledger.rows import CLAIMS, READINGS, reading
from atelier.pages.ledgers import ledger
from atelier.statistics import Interval
from atelier.subject import Settings, Subject, subject
from painters import Gaussian
from painters.levels import Levels, vp_linear

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
        (rules.negative(), (-0.1, -0.2, -0.01), None, {}, "holds"),
        (rules.negative(), (0.1, 0.01, 0.2), None, {}, "fails"),
        (rules.negative(), (0.1, -0.01, 0.2), None, {}, "undecided"),
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
    assert reading.normal(1.0, 0.1).low == pytest.approx(1 - 0.196)
    values = np.random.default_rng(0).normal(3, 2, 100_000)
    band = reading.from_band(3.0, *np.quantile(values, [0.05, 0.95]), n=100)
    assert band.high - 3.0 == pytest.approx(1.96 * 2 / 10, rel=0.02)
    assert reading.nearest([100.0, 9.0, 1.3, 0.0, None], 1.0) == 2
    mean = reading.average([Interval(1, 0, 3, 5), Interval(3, 2, 4, 9)])
    assert (mean.value, mean.n) == (2, 5)
    assert (mean.low, mean.high) == pytest.approx((2 - math.sqrt(2) / 2, 2 + math.sqrt(5) / 2))


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
    "curves": {
        name: {"unforeseen": [i, 1 + i, 2 + i, 3 + i, 4 + i], "along_noise": [10 + i, 11 + i, 12 + i, 13 + i]}
        for i, name in enumerate(("gaussian", "network"))
    },
    "bands": {"unforeseen": [[0, 0, 2, 0, 0], [9, 9, 4, 9, 9]], "along_noise": [[0, 0, 0, 13], [0, 0, 0, 15]]},
}


def place(column, key):
    return shape.COLUMNS.index(column) + NAMES.index(key) / 100


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("i-x0hat-two-pcs", "estimates_2"),
        ("i-x0hat-as-theory", "estimates_1"),
        ("i-plane", "plane_mean"),
        ("i-rotation-evolving", "evolving_mean"),
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
    curve = evaluate(BY_ID["i-unforeseen"], r)
    assert (curve.measured.value, curve.predicted) == (3, 2)
    assert curve.measured.high == pytest.approx(3 + 1.96 * 2 / 3.29 / 3)
    late = evaluate(BY_ID["i-first-add-then-clean"], r)
    assert (late.measured.value, late.predicted) == (14, 13)


def kicks(**lists):
    base = {"sampler": "ode", "kick": "PC 1", "unit": "length", "size": 2.0, "often": False}
    return base | lists


PERTURBATION = {
    "series": [
        kicks(kick="axis", often=True, unit="std", flips=[tagged(0.5), tagged(0.4)], exact_flips=[tagged(0.3)] * 2),
        kicks(
            kick="axis", often=True, flips=[tagged(0.9), tagged(0.5), tagged(0.1)],
            exact_flips=[tagged(0.6), tagged(0.5), tagged(0.2)], group=[tagged(0.4), tagged(0.2)],
            exact_group=[tagged(0.1)] * 2, law=[0.5, 0.1],
        ),
        kicks(sampler="sde", kick="axis", often=True, flips=[tagged(0.1), tagged(0.3)]),
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
        ("iii-often", 0.8, None, 0.4),
        ("iii-often-std", 0.1, None, 0.0),
        ("iii-often-sde", -0.2, None, 0.8),
        ("iii-two-modes", 0.3, 0.3, 0.1),
        ("iii-gain-early", 5, 6, 1),
        ("iii-gain-sde", 0.5, 0.4, 5),
        ("iii-random-late", 0.7, 0.8, 0.3),
        ("iii-off-manifold", 0.05, 0.04, 0.3),
    ],
)
def test_rows_of_the_kicks_read_their_series(name, measured, predicted, null):
    cell = evaluate(BY_ID[name], Records({"perturbation": PERTURBATION}))
    assert cell.measured.value == pytest.approx(measured)
    assert cell.predicted == (None if predicted is None else pytest.approx(predicted))
    assert list(cell.nulls.values()) == ([] if null is None else pytest.approx([null]))


def test_rows_of_the_landscape():
    j = [[[0.2, 0.1], [0.2, 0.1]], [[1.5, 1], [0.9, 1]], [[1.2, 1], [0.8, 1]], [[0.9, 1], [1.1, 1]]]
    record = {"ratio": [20.0, 2.0, 0.3, 0.1], "j": j, "asymmetry_leading": [[0.1, 0.3]] * 4, "mixture": {"j": j[:2]}}
    r = Records({"landscape": record})
    assert evaluate(BY_ID["l-between-modes"], r).measured.value == 0.5
    assert evaluate(BY_ID["l-gaussian-modes"], r).measured.value == 0.5
    assert evaluate(BY_ID["l-gaussian-modes"], r).nulls == {"class mixture": 0.75}
    assert evaluate(BY_ID["l-symmetric"], r).measured.value == pytest.approx(0.2)


def test_rows_of_the_order():
    bands = {"edges": [[0, 0.1], [0.1, 0.2], [0.2, 0.3]], "half": [3.0, 2.0, 1.0], "half_law": [1.0, 2.0, 3.0]}
    record = {"rank_counted": tagged(0.9), "slope_counted": tagged(0.8), "rank": tagged(0.1), "bands": bands}
    record |= {"bound_counted": {"not_below": 0.99, "pairs": 7}}
    factors = {"rank": {"rho": 0.6, "low": 0.4, "high": 0.7, "n": 5}, "half_bound": [1.0, 2.0, None]}
    factors |= {"read": "states", "rank_sde": {"rho": 0.1, "low": 0.0, "high": 0.2, "n": 5}}
    factors |= {"half": [{"high": 1.5}, {"high": 1.5}, {"high": 3}]}
    r = Records({"emergence": record, "commitment": factors})
    got = {name: evaluate(BY_ID[name], r) for name in BY_ID if name.startswith("ii-")}
    values = {name: cell.measured.value for name, cell in got.items()}
    wanted = {"ii-order": 0.9, "ii-slope": 0.8, "ii-bound": 0.99, "ii-bands-by-variance": -1.0, "ii-factors": 0.6}
    assert values == pytest.approx(wanted | {"ii-factor-bound": 0.5})
    assert got["ii-bands-by-variance"].predicted == pytest.approx(1.0) and got["ii-slope"].predicted == 1.0
    assert got["ii-bound"].predicted == pytest.approx(0.97725, abs=1e-5)
    assert got["ii-bound"].nulls == {"exact Gaussian": 1.0} and got["ii-bound"].note == rules.NULL_PASSES
    few = bands | {"half": [3.0, None, 1.0]}
    assert evaluate(BY_ID["ii-bands-by-variance"], Records({"emergence": {"bands": few}})).verdict == "not measured"


def test_factors_read_from_endpoint_estimates_count_along_the_sde_only():
    sure = {"rho": 0.9, "low": 0.8, "high": 1.0, "n": 5}
    record = {"read": "endpoints", "rank": sure, "rank_sde": sure | {"rho": 0.4}}
    record |= {"half": [{"high": 1.5}], "half_bound": [1.0]}
    r = Records({"commitment": record})
    assert evaluate(BY_ID["ii-factors"], r).measured.value == 0.4
    assert evaluate(BY_ID["ii-factor-bound"], r).verdict == "not measured"


def test_classes_part_where_half_are_kept():
    kept = [[0, 0, 0, 1], [1, 1, 1, 0]]
    record = {"classes": {"ratio": [8.0, 2.0], "kept": kept, "mixture": {"kept": [[0, 0], [1, 1]]}}}
    cell = evaluate(BY_ID["l-classes-part"], Records({"landscape": record}))
    assert cell.measured.value == pytest.approx(4.0) and cell.predicted == pytest.approx(4.0)


def test_guidance_slope_and_what_ddim_loses():
    def run(solver, steps, energy, theory, **more):
        base = {"solver": solver, "steps": steps, "guidance": 1.0, "prompt": None, "energy": energy, "seeds": 3}
        return base | {"theory": {"energy": theory}} | more

    law, measured = [2.0, 4.0], [2.0**0.5, 2.0]
    prompted = {"prompt": "p"}
    runs = [
        run("ddim", 50, 9, 9), run("heun", 50, 10, 10), run("ddim", 20, 8, 9), run("heun", 20, 10, 10),
        run("dpmpp2m", 20, 1, 1, **prompted, spread={"law": [1, 1], "measured": [1, 1]}),
        run("dpmpp2m", 20, 1, 1, **prompted | {"guidance": 3.0}, spread={"law": law, "measured": measured}),
    ]  # fmt: skip
    r = Records({"samplers": {"runs": runs}})
    lost = evaluate(BY_ID["s-ddim-loses"], r)
    assert (lost.measured.value, lost.predicted) == pytest.approx((0.8, 0.9))
    assert evaluate(BY_ID["s-guidance"], r).measured.value == pytest.approx(0.5)


def test_a_missing_record_is_not_measured_and_nothing_raises():
    for records in ({}, {"geometry": {}}, {"perturbation": {"series": []}}, {"samplers": {"runs": []}}):
        assert {evaluate(claim, Records(records)).verdict for claim in CLAIMS} == {"not measured"}


def test_every_claim_is_whole():
    labels = {
        f"{page.stem}#{label}"
        for page in (ROOT / "book").glob("*.md")
        for label in re.findall(r"^\(([\w-]+)\)=", page.read_text(encoding="utf-8"), re.M)
    }
    assert len(BY_ID) == len(CLAIMS) >= 40
    assert [c.part for c in CLAIMS] == sorted((c.part for c in CLAIMS), key=list(rules.PARTS).index)
    for claim in CLAIMS:
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", claim.id) and claim.statement.endswith(".")
        assert claim.metric and claim.rule.text and claim.where in labels, claim.id
        path, _, name = claim.test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in tests, f"{claim.id}: {path} has no {name}"


# Preconditions


def test_preconditions_are_rows():
    assert set(PRECONDITIONS) <= set(BY_ID)


CARD = {
    "loss": {
        "alpha": [0.1, 1.0], "sigma": [1.0, 0.5], "n": 100, "loss": [10.3, 4.0], "loss_se": [0.1, 0.2],
        "gaussian_loss": [10.0, 8.0],
    },
    "snapshots": [
        {"step": 400, "gaussian_apart": [1.0, 3.0], "alpha": [0.1, 1.0], "sigma": [1.0, 0.5]},
        {"step": 100, "gaussian_apart": [2.0, 2.0]},
        {"step": 1, "gaussian_apart": [50.0, 50.0]},
    ],
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
    assert record["sigma"] == [10.0, 0.5] and record["ratio"] == pytest.approx([1.03, 0.5])
    assert record["moved"] == pytest.approx((1 + 1) / 4 / 2) and record["moved_at"] == [100, 400]
    assert record["nearest"] == 100 and record["left"] == 1.5
    r = Records({"trained": record})
    loss = evaluate(BY_ID["t-loss"], r)
    assert loss.measured.value == 0.5 and loss.measured.high == pytest.approx(0.5 + 1.96 * 0.2 / 8)
    assert evaluate(BY_ID["t-rest"], r).verdict == "holds within limits"
    assert evaluate(BY_ID["t-levels"], r).measured.value == 0.5
    assert evaluate(BY_ID["t-passes-through"], r).measured.value == 1.5
    assert trained.measure(one_pixel(CARD, "gaussian"), Settings()) is None
    assert trained.measure(one_pixel({}), Settings()) is None and trained.measure(one_pixel(), Settings()) is None
    assert "moved" not in trained.measure(one_pixel(CARD | {"snapshots": []}), Settings())


def test_agreement_without_the_preconditions_is_noted():
    good = {"ratio": [0.5], "ratio_se": [0.01], "images": 9, "moved": 0.05}
    poor = good | {"ratio": [0.99]}
    for record, note in (
        (good, ""),
        (poor, "does not count: t-loss fails"),
        (None, "counts only if t-loss and t-rest hold; they are not measured here"),
    ):
        cells = column(found(geometry=GEOMETRY, **({"trained": record} if record else {}))).cells
        noted = {cell.note for cell in cells if cell.claim.agreement and cell.measured is not None}
        noted -= {rules.NULL_PASSES, ""} if note == "" else set()
        assert all(said.startswith(note) for said in noted) and bool(noted) == bool(note)
        assert not any("count" in cell.note for cell in cells if not cell.claim.agreement)
    assert {cell.note for cell in column(found("gaussian", geometry=GEOMETRY)).cells} == {""}
    own = column(replace(found(geometry=GEOMETRY, trained=good), moments={"source": "x", "circular": True}))
    assert own.circular and any(cell.note.startswith("circular") for cell in own.cells)


def test_a_null_that_passes_as_well_is_noted_beside_the_verdict():
    cells = {cell.claim.id: cell for cell in column(found(perturbation=PERTURBATION)).cells}
    often, std = cells["iii-often"], cells["iii-often-std"]
    assert often.verdict == "holds" and often.note == rules.NULL_PASSES
    assert std.verdict == "holds" and std.nulls == {"exact Gaussian": 0.0} and std.note == ""
    own = {cell.claim.id: cell for cell in column(found("gaussian", perturbation=PERTURBATION)).cells}
    assert own["iii-often"].note == ""

    def two_modes(exact):
        series = [one | ({"exact_group": [tagged(exact)] * 2} if "group" in one else {}) for one in KICKS]
        return evaluate(BY_ID["iii-two-modes"], Records({"perturbation": {"series": series}}))

    assert (two_modes(0.31).verdict, two_modes(0.31).note) == ("holds", rules.NULL_PASSES)
    assert two_modes(0.4).note == "" and two_modes(0.1).note == ""  # within limits is less than the network does
    assert rules.NULL_PASSES in markdown([column(found(perturbation=PERTURBATION))])


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

    assert judge("t-levels", 0.54, 0.54, 0.54) == judge("t-levels", 0.94, 0.94, 0.94) == "fails"
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
    assert results.results_file("google/ddpm-cifar10-32", gaussian=True).name == "google--ddpm-cifar10-32-gaussian.json"


# Results files


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.pop("model"), "needs 'model'"),
        (lambda f: f.update(kind="magic"), "kind is network or gaussian"),
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
    assert path == results.results_file(file.model, gaussian=file.kind == "gaussian")
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
    for gaussian in (False, True):
        file = results.read(results.results_file(name, gaussian=gaussian))
        assert {file.made(record).subject for record in file.measurements} == {made.subject}
        assert {file.made(record).settings for record in file.measurements} == {made.settings}


@pytest.mark.skipif(not COMMITTED, reason="nothing was measured yet")
def test_a_sample_of_rows_recomputed_in_small_agrees_with_the_committed():
    """Geometry of the exact Gaussian of Fashion on four other seeds: within four standard errors of a mean of four.

    The spread over seeds follows from the committed interval.
    """
    path = results.results_file("fashion-ddpm", gaussian=True)
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
    text = markdown(columns)
    assert all(f"`{claim.id}`" in text for claim in CLAIMS) and "exact Gaussian of tiny" in text
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("|")}) == 1
    lines = summary(columns[0]).splitlines()
    assert len(lines) >= len(CLAIMS) + 3 and "not measured" in lines[2]
    with pytest.raises(ValueError, match="no results"):
        markdown([])


def test_the_page_has_a_row_for_each_claim_and_says_what_was_not_measured():
    columns = [column(found(geometry=GEOMETRY)), column(found("gaussian", geometry=GEOMETRY))]
    page = ledger(columns, hub=["google/ddpm-cifar10-32"])._repr_html_()
    assert re.findall(r'<tr role="row" id="([^"]+)"', page) == [claim.id for claim in CLAIMS]
    assert page.count("not yet measured") == len(CLAIMS) and "http" not in page
    assert page.count('data-column="tiny"') == page.count('data-column="exact Gaussian of tiny"') == len(CLAIMS)
    assert '<option value="undecided">' in page and "ancestral sampler: " in page
    assert 'value="model" checked' in page and page.count(" checked") == 1
    row = page[page.index('id="g-score"') : page.index('id="g-denoiser"')]
    assert row.index("Reported:</strong> EDM on CIFAR-10") < row.index("</details>")
    with pytest.raises(ValueError, match="at least one column"):
        ledger([])


def test_records_survive_json():
    file = content(geometry=GEOMETRY, perturbation=PERTURBATION)
    read = checked(json.loads(json.dumps(file)))
    assert column(read).cells[6].measured == column(results.Results(**file)).cells[6].measured


def test_every_row_of_the_file_has_its_functions_and_none_is_left_over():
    assert {claim.id for claim in CLAIMS} == set(READINGS) and len(CLAIMS) == len(READINGS)
