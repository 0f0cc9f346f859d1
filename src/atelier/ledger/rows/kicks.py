"""Rows of prediction (iii): early perturbations change content more often than late ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import difference, interval
from atelier.statistics import Interval


def _series(r: Records, sampler: str, kick: str | None, *, unit: str = "length", often: bool = False) -> Any:
    """The series of a kick of the standard size; ``kick`` None is the one along the axis of the primary measure."""
    for one in r["perturbation"]["series"]:
        fits = one["sampler"] == sampler and one["unit"] == unit and one["size"] == 2 and one["often"] == often
        if fits and kick in (None, one["kick"]):
            return one
    raise KeyError(f"no kicks along {kick} under {sampler}")


def _row(key: str, level: int, sampler: str, kick: str) -> Callable[[Records], Interval]:
    return lambda r: interval(_series(r, sampler, kick)[key][level])


def _number(key: str, level: int, sampler: str, kick: str) -> Callable[[Records], float]:
    return lambda r: float(_series(r, sampler, kick)[key][level])


def fall(r: Records, key: str, sampler: str = "ode", unit: str = "length", *, first: int = 0) -> Interval:
    """Return what kicked level ``first`` has more than the last, along the axis of the primary measure."""
    found = _series(r, sampler, None, unit=unit, often=True)[key]
    return difference(interval(found[first]), interval(found[-1]))


READINGS = {
    "iii-often": Reading(lambda r: fall(r, "flips"), nulls=lambda r: {"exact Gaussian": fall(r, "exact_flips").value}),
    "iii-often-std": Reading(
        lambda r: fall(r, "flips", unit="std"),
        predict=lambda r: 0.0,
        nulls=lambda r: {
            "equal lengths": fall(r, "flips").value,
            "exact Gaussian": fall(r, "exact_flips", unit="std").value,
        },
    ),
    "iii-often-sde": Reading(
        lambda r: fall(r, "flips", "sde"),
        nulls=lambda r: {
            "same kicks, ODE": fall(r, "flips").value,
            "exact Gaussian": fall(r, "exact_flips", "sde").value,
        },
    ),
    "iii-gain-early": Reading(
        _row("gain", 0, "ode", "PC 1"),
        predict=_number("exact_gain", 0, "ode", "PC 1"),
        nulls=lambda r: {"no stretch": 1.0},
    ),
    "iii-off-manifold": Reading(
        _row("pixels", 0, "ode", "off-manifold"),
        predict=_number("exact_pixels", 0, "ode", "off-manifold"),
        nulls=lambda r: {"random direction": _row("pixels", 0, "ode", "random")(r).value},
    ),
}
