"""Rows of prediction (i): trajectories are low-dimensional, and they turn from the noise to the image."""

from __future__ import annotations

from collections.abc import Callable

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import interval
from atelier.statistics import Interval


def _of(column: str, name: str) -> Callable[[Records], Interval]:
    return lambda r: interval(r["geometry"]["columns"][column][name])


def _value(column: str, name: str) -> Callable[[Records], float]:
    return lambda r: float(r["geometry"]["columns"][column][name]["value"])


def _nulls(**named: tuple[str, str]) -> Callable[[Records], dict[str, float]]:
    """Nulls by name: (column, statistic); underscores read as spaces."""
    return lambda r: {
        name.replace("_", " "): float(r["geometry"]["columns"][column][key]["value"])
        for name, (column, key) in named.items()
        if key in r["geometry"]["columns"][column]
    }


def _outside(r: Records) -> Interval:
    """The share of the state's variance outside two PCs."""
    inside = _of("network", "states_2")(r)
    return Interval(1 - inside.value, 1 - inside.high, 1 - inside.low, inside.n)


READINGS = {
    "i-x0hat-two-pcs": Reading(
        _of("network", "estimates_2"),
        predict=_value("gaussian", "estimates_2"),
        nulls=_nulls(random_walk=("walk", "states_2"), ancestral_sampler=("ancestral", "estimates_2")),
    ),
    "i-knowing-nothing-is-flatter": Reading(
        _outside,
        predict=lambda r: 1 - _value("gaussian", "states_2")(r),
        nulls=lambda r: {"knows only the mean": 1 - _value("mean", "states_2")(r)},
    ),
    "i-ode-not-sde": Reading(
        _of("ancestral", "states_2"),
        nulls=lambda r: {
            "same network, ODE": _value("network", "states_2")(r),
            "random walk": _value("walk", "states_2")(r),
        },
    ),
    "i-plane": Reading(
        _of("network", "plane_mean"),
        predict=_value("gaussian", "plane_mean"),
        nulls=_nulls(knows_only_the_mean=("mean", "plane_mean"), ancestral_sampler=("ancestral", "plane_mean")),
    ),
    "i-angle": Reading(
        _of("network", "angle"), predict=_value("gaussian", "angle"), nulls=lambda r: {"unrelated vectors": 90.0}
    ),
}
