"""Rows on what diffusion models share with a GAN; its numbers and those of its nulls stand beside the model's."""

from __future__ import annotations

from collections.abc import Mapping
from math import hypot, sqrt
from typing import Any

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import interval
from atelier.statistics import Interval


def _map(r: Records, key: str) -> Interval:
    return interval(r["kinship"]["map"]["pixels"][key])


def _generators(r: Records, key: str) -> dict[str, float]:
    """The same number of the GAN and of its nulls, where one paints the model's data."""
    found = r["kinship"].get("generators", {})
    return {
        f"{name} {'GAN' if name != 'linear' else 'generator'}": float(one["pixels"][key]["value"])
        for name, one in found.items()
    }


def kin(overlap: Mapping[str, Any], other: str) -> Interval:
    """Return the overlap of the map with another over the most that their own allow; relative errors add in squares."""
    both, *own = (interval(overlap[pair]) for pair in (f"map {other}", "map map", f"{other} {other}"))
    share = both.value / sqrt(own[0].value * own[1].value)
    error = hypot(both.high / both.value - 1, *(0.5 * (one.high / one.value - 1) for one in own))
    return Interval(share, share * (1 - error), share * (1 + error), both.n)


READINGS = {
    "k-anisotropic": Reading(
        lambda r: _map(r, "participation"),
        predict=lambda r: float(r["kinship"]["theory_participation"]),
        nulls=lambda r: _generators(r, "participation"),
    ),
    "k-homogeneous": Reading(lambda r: _map(r, "log"), predict=lambda r: 1.0, nulls=lambda r: _generators(r, "log")),
    "k-shared": Reading(
        lambda r: kin(r["kinship"]["overlap"], "trained"),
        nulls=lambda r: {
            "differences of pictures": kin(r["kinship"]["overlap"], "pictures").value,
            "untrained GAN": kin(r["kinship"]["overlap"], "untrained").value,
        },
    ),
}
