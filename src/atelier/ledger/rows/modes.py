"""Rows on the landscape of modes, and on other samplers and guidance."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from atelier.ledger.claim import Claim, Records, at_least, at_most, near, within
from atelier.ledger.rows.reading import exact
from atelier.statistics import Interval, bootstrap, mean

WHERE = "landscape#sec-landscape-jacobian"
TEST = "tests/workshop/landscape/test_jacobian.py"
RUNS = "limits#sec-limits-samplers"
RUNS_TEST = "tests/workshop/limits/test_samplers.py"
row = partial(Claim, part="landscape", where=WHERE, unit="")
sampled = partial(Claim, part="samplers", where=RUNS, unit="")


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


LANDSCAPE = (
    row(
        id="l-symmetric",
        origin="ours",
        statement="The network's denoiser is the gradient of something: its Jacobian is symmetric where it acts.",
        metric="asymmetry |J - J^T| over |J| on the leading eigenvectors, on the model's own states, mean over "
        "levels; interval over seeds",
        rule=at_most(0.1, 0.3),
        measure=_asymmetry,
        predict=lambda r: 0.0,
        test=f"{TEST}::test_asymmetry_is_that_of_the_matrix",
    ),
    row(
        id="l-between-modes",
        origin="v1",
        statement="At intermediate noise the landscape curves upward at many states, which one Gaussian does not know.",
        metric="share of states on the model's own trajectories, sigma/alpha between 0.5 and 5, at which j is at "
        "least 1; interval over seeds",
        unit="%",
        rule=at_least(0.1, 0.02),
        measure=_undecided,
        nulls=lambda r: {"one Gaussian": 0.0},
        rivals=("one Gaussian",),
        test=f"{TEST}::test_local_variance_is_flat_inside_a_mode_and_rises_where_modes_merge",
    ),
    row(
        id="l-gaussian-modes",
        origin="v1",
        statement="In the end the state lies in a Gaussian-like mode, which has a variance.",
        metric="share of states at the two cleanest levels at which j is below 1, so that sigma^2 j/(1 - j) is one; "
        "interval over seeds; null: the exact mixture of ten classes, for Fashion",
        unit="%",
        rule=at_least(0.9, 0.5),
        measure=_settled,
        nulls=lambda r: {} if not r["landscape"].get("mixture") else {"class mixture": _settled(r, "mixture").value},
        test=f"{TEST}::test_local_variance_at_one_is_infinite",
    ),
    row(
        id="l-classes-part",
        origin="v1",
        statement="The classes of Fashion part at the level at which one Gaussian per class parts them.",
        metric="noise level sigma/alpha to which an image can be noised again so that half of the repainted ones "
        "keep their class; interval over images; prediction: the same for the exact mixture of the ten classes",
        rule=near(0.2, 0.5),
        measure=_parting,
        predict=lambda r: _half(r["landscape"]["classes"]["ratio"], r["landscape"]["classes"]["mixture"]["kept"]),
        where="landscape#sec-landscape-classes",
        test=f"{TEST}::test_two_far_classes_part_where_the_law_says",
    ),
)


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


SAMPLERS = (
    sampled(
        id="s-order",
        origin="ours",
        statement="The order of emergence belongs to the model: it is the same under every ODE solver and step count.",
        metric="Spearman correlation of sigma* with the variance, the least over DDIM, DPM-Solver++(2M) and Heun at "
        "50 and 20 steps; a minimum over settings, so no interval",
        rule=at_least(0.95, 0.8),
        measure=_least_rank,
        predict=lambda r: min(float(run["theory"]["rank"]) for run in _runs(r, *ODE)),
        test=f"{RUNS_TEST}::test_the_exact_flow_has_slope_and_rank_one",
        agreement=True,
    ),
    sampled(
        id="s-ddim-loses",
        origin="ours",
        statement="DDIM loses variance at few steps, as much as on a Gaussian.",
        metric="E|x_0 - mu|^2 under DDIM over that under Heun, 20 steps, same noise; one number over all seeds",
        rule=within(0.02, 0.05),
        measure=lambda r: exact(_lost(_runs(r, "ddim", "heun")), _runs(r, "ddim")[0]["seeds"]),
        predict=lambda r: _lost(_runs(r, "ddim", "heun"), "theory"),
        nulls=lambda r: {"nothing lost": 1.0},
        rivals=("nothing lost",),
        test=f"{RUNS_TEST}::test_a_model_that_is_the_theory_measures_as_the_theory",
        agreement=True,
    ),
    sampled(
        id="s-guidance",
        origin="ours",
        statement="Guidance 3 narrows the spread along PCs as the law of two Gaussians says.",
        metric="slope through 0 of ln(spread at guidance 3 / at 1) against the law's, over the first PCs and two "
        "prompts; interval by bootstrap over PCs; 1 is the law, and a slope near 0 means that guidance has no "
        "visible effect on the spread",
        rule=within(0.2, 0.5),
        measure=lambda r: _guided(r, 3.0),
        predict=lambda r: 1.0,
        nulls=lambda r: {"no effect": 0.0},
        rivals=("no effect",),
        test=f"{RUNS_TEST}::test_guidance_narrows_by_the_law",
    ),
)
