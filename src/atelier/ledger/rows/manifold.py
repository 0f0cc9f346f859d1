"""Rows on the image manifold: what searches find, beside the data's PCs, and what changes along it."""

from __future__ import annotations

from statistics import fmean

import numpy as np

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import interval
from atelier.statistics import Interval, mean, share


def _contrast(r: Records, kind: str) -> Interval:
    """The share of the first component of an endpoint path inside a span."""
    return interval(r["manifold"]["endpoint"]["inside"][kind][0])


READINGS = {
    "m-aligned": Reading(
        lambda r: share(np.array(r["manifold"]["whole"]["images"])),
        predict=lambda r: 1.0,
        nulls=lambda r: {
            "random directions": float(r["manifold"]["chance"]),
            "at a walk's length": fmean(r["manifold"]["far"]["whole"]),
        },
    ),
    "m-far": Reading(
        lambda r: share(np.array(r["manifold"]["far"]["pcs"])),
        predict=lambda r: 1.0,
        nulls=lambda r: {"random direction": 1 / float(r["manifold"]["dim"])},
    ),
    "m-contrast": Reading(
        lambda r: _contrast(r, "image"),
        nulls=lambda r: {
            "copies of another image": _contrast(r, "other").value,
            "random direction": 1 / float(r["manifold"]["dim"]),
        },
    ),
    "m-knobs-turn": Reading(
        lambda r: share(np.array([fmean(turns) for turns in r["manifold"]["knobs"]["dial"]["right"]])),
        nulls=lambda r: {"a coin": 0.5},
    ),
    "m-alone": Reading(
        lambda r: mean(np.array(r["knobs"]["own"])),
        nulls=lambda r: {
            "the other factors": fmean(r["knobs"]["others"]),
            "random directions": fmean(r["knobs"]["null"]),
        },
    ),
}
