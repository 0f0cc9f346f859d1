"""Rows on how far one Gaussian carries, and on retrieval by the training set."""

from __future__ import annotations

from collections.abc import Callable

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import exact, interval, nearest, triple
from atelier.statistics import Interval, mean

CLOUD = "landscape#sec-landscape-cloud"
COPIES = "tests/workshop/landscape/test_retrieval.py"


def _residual(kind: str, name: str, sigma: float) -> Callable[[Records], Interval]:
    def read(r: Records) -> Interval:
        found = r["approximation"]
        # Noised test images where the data are at hand, else states of the model's own runs.
        states, i = "test" if "test_score" in found else "path", nearest(found["ratio"], sigma)
        return triple(found[f"{states}_{kind}"][name][i], found[f"{states}_n"])

    return read


def _value(kind: str, name: str, sigma: float) -> Callable[[Records], float]:
    return lambda r: _residual(kind, name, sigma)(r).value


def _best_mixture(r: Records, sigma: float) -> float:
    """The smallest residual of a k-means mixture at a level."""
    found = r["approximation"]
    i = nearest(found["ratio"], sigma)
    return float(min(rows[i][0] for name, rows in found["test_size"].items() if name.startswith("k-means")))


def _until(name: str) -> Callable[[Records], Interval]:
    return lambda r: triple(r["approximation"]["until"][name])


def _painted(name: str) -> Callable[[Records], Interval]:
    return lambda r: mean(r["approximation"]["painted"][name]["pixels"])


READINGS = {
    "g-score": Reading(
        _residual("score", "gaussian", 5.0), nulls=lambda r: {"knows only the mean": _value("score", "mean", 5.0)(r)}
    ),
    "g-denoiser": Reading(
        _residual("size", "gaussian", 5.0), nulls=lambda r: {"knows only the mean": _value("size", "mean", 5.0)(r)}
    ),
    "g-flattery": Reading(
        _residual("score", "mean", 5.0),
        predict=lambda r: float(r["approximation"]["flattery"][nearest(r["approximation"]["ratio"], 5.0)]),
    ),
    "g-early": Reading(
        _until("x 0.05"), nulls=lambda r: {"constant mean in the place of the Gaussian": _until("null 0.05")(r).value}
    ),
    "g-not-the-training-set": Reading(
        _residual("size", "cloud", 1.0), nulls=lambda r: {"best mixture": _best_mixture(r, 1.0)}
    ),
    "g-samples": Reading(
        _painted("gaussian"),
        nulls=lambda r: (
            {
                name: _painted(key)(r).value
                for name, key in (("training set", "cloud"), ("the mean", "mean"))
                if key in r["approximation"]["painted"]
            }
            | {"another image": float(r["approximation"]["unrelated"]["pixels"])}
        ),
    ),
    "r-no-copies": Reading(
        lambda r: interval(r["retrieval"]["paintings"]["share"]),
        predict=lambda r: 0.5,
        nulls=lambda r: {
            "paintings of the training set's cloud": float(r["retrieval"]["control"]["share"]["value"]),
            "exact Gaussian": float(r["retrieval"]["gaussian"]["share"]["value"]),
        },
    ),
    "r-collapse": Reading(lambda r: exact(r["retrieval"]["test_collapse"])),
}
