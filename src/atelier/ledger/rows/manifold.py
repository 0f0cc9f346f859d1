"""Rows on the image manifold: what three searches find, beside the data's PCs, and what changes along it."""

from __future__ import annotations

from statistics import fmean

import numpy as np

from atelier.ledger.claim import Claim, Records, above, at_least, near
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


MANIFOLD = (
    Claim(
        id="m-aligned",
        part="manifold",
        origin="v1",
        statement="The singular directions of the map from noise to image are the data's PCs, as in the Gaussian.",
        metric="overlap (mean squared cosine of principal angles) of the leading image directions of the whole map "
        "with as many PCs; mean over seeds",
        unit="%",
        rule=near(0.1, 0.5),
        measure=lambda r: mean(np.array(r["manifold"]["whole"]["images"])),
        predict=lambda r: 1.0,
        nulls=lambda r: {"random directions": float(r["manifold"]["chance"])},
        where=f"{PAGE}-alignment",
        test=f"{TESTS}/test_search.py::test_on_a_gaussian_the_whole_map_has_the_pcs_and_their_gains",
        agreement=True,
    ),
    Claim(
        id="m-contrast",
        part="manifold",
        origin="ours",
        statement="The first component of an endpoint trajectory is mostly the image itself: contrast, not a "
        "discovery.",
        metric="share of the component's squared length along x_0 - mu; mean over seeds",
        unit="%",
        rule=at_least(0.8, 0.5),
        measure=lambda r: _contrast(r, "image"),
        nulls=lambda r: {
            "copies of another image": _contrast(r, "other").value,
            "random direction": 1 / float(r["manifold"]["dim"]),
        },
        where=f"{PAGE}-endpoint",
        test=f"{TESTS}/test_manifold.py::test_the_record_of_endpoint_paths_against_a_plain_svd",
    ),
    Claim(
        id="m-walks-pure",
        part="manifold",
        origin="v1",
        statement="A walk along a found direction changes fewer things at once than a walk along a random one.",
        metric="purity, the share of all change that falls on the factor that changes most, ends of walks at equal "
        "pixel change; whole map, mean over seeds and directions",
        unit="%",
        rule=above("random directions"),
        measure=lambda r: _purity(r, "whole"),
        nulls=lambda r: {"random directions": _purity(r, "random").value, "data's PCs": _purity(r, "pcs").value},
        where=f"{PAGE}-walks",
        test=f"{TESTS}/test_manifold.py::test_on_the_exact_gaussian_found_directions_walk_like_the_pcs_and_every_walk_goes_equally_far",
    ),
    Claim(
        id="m-knobs",
        part="manifold",
        origin="ours",
        statement="A knob made from the statistics of a named factor changes that factor more than any other.",
        metric="share of turns, over seeds and factors, each knob set from -2 to +2 standard deviations of the noise, "
        "after which the named factor (of one factor alone: the named kind) changed most; mean over seeds",
        unit="%",
        rule=at_least(0.8, 0.5),
        measure=lambda r: _turns(r, "hit"),
        nulls=lambda r: {"random directions": float(r["manifold"]["knobs"]["chance"])},
        where=f"{PAGE}-knobs",
        test=f"{TESTS}/test_manifold.py::test_the_record_of_knobs_counts_what_happened",
    ),
    Claim(
        id="m-knobs-turn",
        part="manifold",
        origin="ours",
        statement="Turning a named knob moves the named factor the way the theory says.",
        metric="share of turns, over seeds and factors, each knob set from -2 to +2 standard deviations of the noise, "
        "after which the named factor (of one factor alone: the named kind) had moved in the predicted direction; "
        "mean over seeds",
        unit="%",
        rule=above("a coin"),
        measure=lambda r: _turns(r, "right"),
        nulls=lambda r: {"a coin": 0.5},
        where=f"{PAGE}-knobs",
        test=f"{TESTS}/test_manifold.py::test_the_record_of_knobs_counts_what_happened",
    ),
)
