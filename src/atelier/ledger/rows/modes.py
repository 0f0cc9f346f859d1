"""Rows on the landscape of modes, and on guidance."""

from __future__ import annotations

from typing import Any

import numpy as np

from atelier.ledger.claim import Reading, Records
from atelier.statistics import Interval, bootstrap, share


def _leading(r: Records, part: str | None = None) -> np.ndarray:
    """The largest eigenvalue of the Jacobian, (levels, seeds), noisy first."""
    found = r["landscape"] if part is None else r["landscape"][part]
    return np.array(found["j"], dtype=float)[:, :, 0]


def _undecided(r: Records) -> Interval:
    """Share of states at sigma/alpha between 0.5 and 5 at which the largest eigenvalue is at least 1, over seeds."""
    sigma = np.array(r["landscape"]["ratio"])
    return share((_leading(r)[(sigma > 0.5) & (sigma < 5)] >= 1).mean(0))


def _settled(r: Records, part: str | None = None) -> Interval:
    """Share of seeds whose largest eigenvalue is below 1, over the two cleanest levels."""
    return share((_leading(r, part)[-2:] < 1).mean(0))


def _half(ratio: list[float], kept: Any) -> float:
    """The noise level at which half of the images keep their class, interpolated in its log; levels noisy first."""
    share = np.asarray(kept, dtype=float).mean(1)
    above = np.flatnonzero(share >= 0.5)
    if len(above) == 0:
        raise KeyError("no level keeps the class")
    if (i := int(above[0])) == 0:
        return float(ratio[0])
    weight = (0.5 - share[i - 1]) / (share[i] - share[i - 1])
    logs = np.log(ratio)
    return float(np.exp(logs[i - 1] + weight * (logs[i] - logs[i - 1])))


def _parting(r: Records) -> Interval:
    found = r["landscape"]["classes"]
    kept = np.array(found["kept"], dtype=float)
    return bootstrap(kept.T, lambda rows: _half(found["ratio"], rows.T), draws=500)[0]


def _runs(r: Records, guidance: float) -> list[Any]:
    return [run for run in r["guidance"]["runs"] if run["guidance"] == guidance]


def _guided(r: Records, weight: float, key: str = "measured") -> Interval:
    """Slope through 0 of ln(spread at w / spread at 1) on the law's, over PCs of all prompts; bootstrap over PCs."""
    pairs = []
    for run in _runs(r, weight):
        base = next(b for b in _runs(r, 1.0) if b["prompt"] == run["prompt"])
        pairs.append(np.stack([np.log(run[name]) - np.log(base[name]) for name in ("law", key)], 1))
    table = np.concatenate(pairs)
    return bootstrap(table, lambda rows: float(rows[:, 0] @ rows[:, 1] / (rows[:, 0] @ rows[:, 0])))[0]


READINGS = {
    "l-between-modes": Reading(_undecided, nulls=lambda r: {"one Gaussian": 0.0}),
    "l-gaussian-modes": Reading(
        _settled,
        nulls=lambda r: (
            {"between modes": 1 - _undecided(r).value}
            | ({"class mixture": _settled(r, "mixture").value} if r["landscape"].get("mixture") else {})
        ),
    ),
    "l-classes-part": Reading(
        _parting,
        predict=lambda r: _half(r["landscape"]["classes"]["ratio"], r["landscape"]["classes"]["mixture"]["kept"]),
        nulls=lambda r: {"two groups": float(r["landscape"]["classes"]["mixture"]["speciation"])},
    ),
    "s-guidance": Reading(
        lambda r: _guided(r, 3.0),
        predict=lambda r: 1.0,
        nulls=lambda r: {"no effect": 0.0, "the prompts' two Gaussians": _guided(r, 3.0, "affine").value},
    ),
}
