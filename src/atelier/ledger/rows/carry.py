"""Rows on how far one Gaussian carries, and on copies of the training set."""

from __future__ import annotations

from collections.abc import Callable

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import interval, nearest, triple
from atelier.statistics import Interval


def _residual(kind: str, name: str, sigma: float) -> Callable[[Records], Interval]:
    def read(r: Records) -> Interval:
        found = r["approximation"]
        # Noised test images where the data are at hand, else states of the model's own runs.
        states, i = "test" if "test_score" in found else "path", nearest(found["ratio"], sigma)
        return triple(found[f"{states}_{kind}"][name][i], found[f"{states}_n"])

    return read


def _best_mixture(r: Records, sigma: float) -> float:
    """The smallest residual of a k-means mixture at a level."""
    found = r["approximation"]
    i = nearest(found["ratio"], sigma)
    return float(min(rows[i][0] for name, rows in found["test_size"].items() if name.startswith("k-means")))


def _until(name: str) -> Callable[[Records], Interval]:
    return lambda r: triple(r["approximation"]["until"][name])


READINGS = {
    "g-score": Reading(_residual("moved", "gaussian", 5.0), nulls=lambda r: {"knows only the mean": 1.0}),
    "g-early": Reading(
        _until("x 0.05"), nulls=lambda r: {"constant mean in the place of the Gaussian": _until("null 0.05")(r).value}
    ),
    "g-not-the-training-set": Reading(
        _residual("size", "cloud", 1.0), nulls=lambda r: {"best mixture": _best_mixture(r, 1.0)}
    ),
    "r-no-copies": Reading(
        lambda r: interval(r["retrieval"]["paintings"]["share"]),
        predict=lambda r: 0.5,
        nulls=lambda r: {
            "paintings of the training set's cloud": float(r["retrieval"]["control"]["share"]["value"]),
            "exact Gaussian": float(r["retrieval"]["gaussian"]["share"]["value"]),
        },
    ),
}
