"""Rows on the image manifold: what three searches find, beside the data's PCs, and what changes along it."""

from __future__ import annotations

from statistics import fmean

import numpy as np

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import interval
from atelier.statistics import Interval, mean

PAGE = "manifold#sec-manifold"
TESTS = "tests/workshop/manifold"


def _contrast(r: Records, kind: str) -> Interval:
    """The share of the first component of an endpoint path inside a span."""
    return interval(r["manifold"]["endpoint"]["inside"][kind][0])


def _turns(r: Records, kind: str) -> Interval:
    """The share of turns of the knobs that went so, with its interval over seeds."""
    return mean(np.array([fmean(turns) for turns in r["manifold"]["knobs"]["dial"][kind]]))


def _purity(r: Records, kind: str) -> Interval:
    """The mean purity of the walks of a kind; a reader of one factor alone can say nothing of purity."""
    if len(r["manifold"]["factors"]) < 2:
        raise LookupError("there is one factor only")
    return interval(r["manifold"]["walks"][kind]["summary"]["purity"])


READINGS = {
    "m-aligned": Reading(
        lambda r: mean(np.array(r["manifold"]["whole"]["images"])),
        predict=lambda r: 1.0,
        nulls=lambda r: {"random directions": float(r["manifold"]["chance"])},
    ),
    "m-contrast": Reading(
        lambda r: _contrast(r, "image"),
        nulls=lambda r: {
            "copies of another image": _contrast(r, "other").value,
            "random direction": 1 / float(r["manifold"]["dim"]),
        },
    ),
    "m-walks-pure": Reading(
        lambda r: _purity(r, "whole"),
        nulls=lambda r: {"random directions": _purity(r, "random").value, "data's PCs": _purity(r, "pcs").value},
    ),
    "m-knobs": Reading(
        lambda r: _turns(r, "hit"), nulls=lambda r: {"random directions": float(r["manifold"]["knobs"]["chance"])}
    ),
    "m-knobs-turn": Reading(lambda r: _turns(r, "right"), nulls=lambda r: {"a coin": 0.5}),
}
