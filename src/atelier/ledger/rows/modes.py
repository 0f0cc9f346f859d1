"""Rows on the landscape of modes, and on other samplers and guidance."""

from __future__ import annotations

from typing import Any

import numpy as np

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import exact
from atelier.statistics import Interval, bootstrap, mean

RUNS = "limits#sec-limits-samplers"
RUNS_TEST = "tests/workshop/limits/test_samplers.py"


def _asymmetry(r: Records) -> Interval:
    """Mean over levels of each seed's defect, then over seeds."""
    return mean(np.array(r["landscape"]["asymmetry_leading"], dtype=float).mean(0))


def _leading(r: Records, part: str | None = None) -> np.ndarray:
    """The largest eigenvalue of the Jacobian, (levels, seeds), noisy first."""
    found = r["landscape"] if part is None else r["landscape"][part]
    return np.array(found["j"], dtype=float)[:, :, 0]


def _undecided(r: Records) -> Interval:
    """Share of states at sigma/alpha between 0.5 and 5 at which the largest eigenvalue is at least 1, over seeds."""
    sigma = np.array(r["landscape"]["ratio"])
    return mean((_leading(r)[(sigma > 0.5) & (sigma < 5)] >= 1).mean(0))


def _settled(r: Records, part: str | None = None) -> Interval:
    """Share of seeds whose largest eigenvalue is below 1, over the two cleanest levels."""
    return mean((_leading(r, part)[-2:] < 1).mean(0))


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


def _runs(r: Records, *solvers: str, prompt: bool = False, guidance: float | None = None) -> list[Any]:
    found = [
        run
        for run in r["samplers"]["runs"]
        if run["solver"] in solvers and (run["prompt"] is not None) == prompt and guidance in (None, run["guidance"])
    ]
    if not found:
        raise KeyError("no such runs")
    return found


ODE = ("ddim", "dpmpp2m", "heun")


def _least_rank(r: Records) -> Interval:
    return exact(min(run["rank"] for run in _runs(r, *ODE)), len(_runs(r, *ODE)))


def _lost(runs: list[Any], of: str | None = None) -> float:
    """Energy under DDIM over that under Heun, at the fewest steps at which both ran."""
    steps = min(run["steps"] for run in runs)
    energy = {run["solver"]: (run if of is None else run[of])["energy"] for run in runs if run["steps"] == steps}
    return energy["ddim"] / energy["heun"]


def _guided(r: Records, weight: float) -> Interval:
    """Slope through 0 of ln(spread at w / spread at 1) on the law's, over PCs of all prompts; bootstrap over PCs."""
    strong = _runs(r, "dpmpp2m", prompt=True, guidance=weight)
    pairs = []
    for run in strong:
        base = next(
            b
            for b in _runs(r, "dpmpp2m", prompt=True, guidance=1.0)
            if (b["prompt"], b["steps"]) == (run["prompt"], run["steps"])
        )
        logs = [np.log(run["spread"][key]) - np.log(base["spread"][key]) for key in ("law", "measured")]
        pairs.append(np.stack(logs, 1))
    table = np.concatenate(pairs)
    return bootstrap(table, lambda rows: float(rows[:, 0] @ rows[:, 1] / (rows[:, 0] @ rows[:, 0])))[0]


READINGS = {
    "l-symmetric": Reading(_asymmetry, predict=lambda r: 0.0),
    "l-between-modes": Reading(_undecided, nulls=lambda r: {"one Gaussian": 0.0}),
    "l-gaussian-modes": Reading(
        _settled,
        nulls=lambda r: {} if not r["landscape"].get("mixture") else {"class mixture": _settled(r, "mixture").value},
    ),
    "l-classes-part": Reading(
        _parting,
        predict=lambda r: _half(r["landscape"]["classes"]["ratio"], r["landscape"]["classes"]["mixture"]["kept"]),
    ),
    "s-order": Reading(_least_rank, predict=lambda r: min(float(run["theory"]["rank"]) for run in _runs(r, *ODE))),
    "s-ddim-loses": Reading(
        lambda r: exact(_lost(_runs(r, "ddim", "heun")), _runs(r, "ddim")[0]["seeds"]),
        predict=lambda r: _lost(_runs(r, "ddim", "heun"), "theory"),
        nulls=lambda r: {"nothing lost": 1.0},
    ),
    "s-guidance": Reading(lambda r: _guided(r, 3.0), predict=lambda r: 1.0, nulls=lambda r: {"no effect": 0.0}),
}
