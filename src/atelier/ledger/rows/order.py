"""Rows of prediction (ii): what varies more in the training data emerges earlier."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import norm

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import exact, interval
from atelier.statistics import Interval, spearman


def _of(name: str) -> Callable[[Records], Interval]:
    return lambda r: interval(r["emergence"][name])


def _with_frequency(r: Records, key: str) -> float:
    bands = r["emergence"]["bands"]
    return spearman(np.array(bands[key], dtype=float), np.array(bands["edges"]).sum(1))


READINGS = {
    "ii-order": Reading(_of("rank_counted"), predict=lambda r: 1.0, nulls=lambda r: {"no order": 0.0}),
    "ii-slope": Reading(_of("slope_counted"), predict=lambda r: 1.0, nulls=lambda r: {"all at once": 0.0}),
    "ii-bound": Reading(
        lambda r: exact(r["emergence"]["bound_counted"]["not_below"], r["emergence"]["bound_counted"]["pairs"]),
        predict=lambda r: float(norm.cdf(2)),
        nulls=lambda r: {"knows only the mean": float(r["emergence"]["bound_counted"]["mean_not_below"])},
    ),
    "ii-bands-by-variance": Reading(
        lambda r: exact(_with_frequency(r, "half"), len(r["emergence"]["bands"]["half"])),
        predict=lambda r: _with_frequency(r, "half_law"),
        nulls=lambda r: {"frequency itself": -1.0},
    ),
    "ii-factors": Reading(
        lambda r: interval(r["commitment"]["rank_sde"], value="rho"), nulls=lambda r: {"no order": 0.0}
    ),
}
