"""Rows of prediction (ii): what varies more in the training data emerges earlier."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.stats import norm

from atelier.ledger.claim import Claim, Records, at_least, within
from atelier.ledger.rows.reading import exact, interval
from atelier.statistics import Interval, proportion, spearman

WHERE = "evidence#sec-evidence-emergence"
TEST = "tests/workshop/evidence/test_order.py"
FACTORS = "tests/workshop/evidence/test_factors.py"
COUNTED = "at levels where the network's test loss is at most 1.02 times the Gaussian's"
row = partial(Claim, part="ii", where=WHERE, unit="")


def _of(name: str) -> Callable[[Records], Interval]:
    return lambda r: interval(r["emergence"][name])


def _with_frequency(r: Records, key: str) -> float:
    bands = r["emergence"]["bands"]
    return spearman(np.array(bands[key], dtype=float), np.array(bands["edges"]).sum(1))


def _order_of_factors(r: Records) -> Interval:
    """Along the PF-ODE where the states are read, else along the SDE."""
    found = r["commitment"]
    return interval(found["rank_sde" if found["read"] == "endpoints" else "rank"], value="rho")


def _on_time(r: Records) -> Interval:
    found = r["commitment"]
    if found["read"] == "endpoints":  # of a blurred estimate the reader is sure too soon
        raise LookupError("spreads of endpoint estimates do not count")
    pairs = [(one["high"], bound) for one, bound in zip(found["half"], found["half_bound"]) if one["high"] and bound]
    return proportion(sum(high >= bound for high, bound in pairs), len(pairs))


CLAIMS = (
    row(
        id="ii-order",
        origin="v1",
        statement="PCs of larger variance emerge earlier.",
        metric="Spearman correlation of the noise level sigma* at which half of a PC stands in x0_hat with its "
        f"variance, over all PCs that cross one half {COUNTED}; interval by bootstrap over seeds",
        rule=at_least(0.95, 0.8),
        measure=_of("rank_counted"),
        predict=lambda r: 1.0,
        nulls=lambda r: {"no order": 0.0},
        rivals=("no order",),
        test=f"{TEST}::test_slope_and_rank_of_half_times",
        agreement=True,
    ),
    row(
        id="ii-slope",
        origin="v2",
        statement="The level is the one of the Gaussian: sigma* = sqrt(lambda).",
        metric=f"slope of ln sigma* against ln sqrt(lambda) over the same PCs {COUNTED}; interval by bootstrap over "
        "seeds",
        rule=within(0.05, 0.15),
        measure=_of("slope_counted"),
        predict=lambda r: 1.0,
        nulls=lambda r: {"all at once": 0.0},
        rivals=("all at once",),
        test=f"{TEST}::test_slope_and_rank_of_half_times",
        agreement=True,
    ),
    row(
        id="ii-bound",
        origin="ours",
        statement="No PC emerges later than in the Gaussian: the sigmoid is a bound for any data and any good network.",
        metric="share of pairs of PC and level at which the emerged share is at most two standard errors below the "
        f"sigmoid, {COUNTED}; pairs are not independent, so no interval; the exact Gaussian lies on the bound",
        unit="%",
        rule=at_least(0.95, 0.8),
        measure=lambda r: exact(r["emergence"]["bound_counted"]["not_below"], r["emergence"]["bound_counted"]["pairs"]),
        predict=lambda r: float(norm.cdf(2)),
        nulls=lambda r: {"exact Gaussian": 1.0},
        rivals=("exact Gaussian",),
        test=f"{TEST}::test_the_bound_counts_pairs_beyond_the_errors_where_there_is_something_to_see",
    ),
    row(
        id="ii-bands-by-variance",
        origin="ours",
        statement="Low frequencies come first because they vary more: the order follows the variance, and turns "
        "round in the control whose frequencies are exchanged.",
        metric="Spearman correlation over bands of the level at which half of a band stands with its frequency; "
        "prediction: the same of the Gaussian flow; a few bands, so no interval",
        rule=within(0.2, 0.5),
        measure=lambda r: exact(_with_frequency(r, "half"), len(r["emergence"]["bands"]["half"])),
        predict=lambda r: _with_frequency(r, "half_law"),
        nulls=lambda r: {"frequency itself": -1.0},
        rivals=("frequency itself",),
        test=f"{TEST}::test_bands_part_the_spectrum_and_a_checkerboard_turns_them_round",
        agreement=True,
    ),
    row(
        id="ii-factors",
        origin="v1",
        statement="Named elements of a scene emerge in the order of what the best linear reading knows of them.",
        metric="Spearman correlation over factors of the level at which half of the final answer is decided (spread "
        "across seeds, PF-ODE; for a latent model R^2, ancestral sampler) with the level at which R_f^2 reaches half "
        "of its clean value; interval by bootstrap over factors",
        rule=at_least(0.3, 0.3),
        measure=_order_of_factors,
        nulls=lambda r: {"no order": 0.0},
        rivals=("no order",),
        test=f"{FACTORS}::test_half_levels_are_found_and_keep_the_predicted_order",
    ),
    row(
        id="ii-factor-bound",
        origin="ours",
        statement="No factor is decided later than the affine reading allows.",
        metric="share of the factors that cross one half whose level, upper end of its interval, is not below the "
        "level at which R_f^2 reaches half of the reader's ceiling",
        unit="%",
        rule=at_least(0.9, 0.75),
        measure=_on_time,
        predict=lambda r: 1.0,
        test=f"{FACTORS}::test_half_levels_are_found_and_keep_the_predicted_order",
    ),
)
