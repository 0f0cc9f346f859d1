"""How rows read numbers out of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, nan, sqrt
from typing import Any

import numpy as np

from atelier.statistics import Interval

NORMAL = 1.96


def interval(record: Mapping[str, Any], *, value: str = "value") -> Interval:
    """Return an interval from a record {value, low, high, n}; ends that are null become NaN."""
    low, high = (nan if record.get(end) is None else float(record[end]) for end in ("low", "high"))
    return Interval(float(record[value]), low, high, int(record.get("n") or 0))


def triple(values: Sequence[Any], n: int = 0) -> Interval:
    """Return an interval from [value, low, high]."""
    return interval(dict(zip(("value", "low", "high"), values), n=n))


def exact(value: float, n: int = 0) -> Interval:
    """Return a number that has no sampling error of its own: one read from a card, or a count."""
    return Interval(float(value), float(value), float(value), n)


def normal(value: float, error: float, n: int = 0) -> Interval:
    """Return a mean with its standard error as a 95 % interval."""
    return Interval(float(value), value - NORMAL * error, value + NORMAL * error, n)


def nearest(grid: Sequence[float | None], wanted: float) -> int:
    """Return the index of the level nearest to ``wanted`` in ln(sigma/alpha); levels 0 and null are left out."""
    distance = [inf if not level else abs(np.log(level / wanted)) for level in grid]
    return int(np.argmin(distance))


def first_counted(trained: Mapping[str, Any], ratios: Sequence[float]) -> int:
    """Return which of these levels sigma/alpha is the first to count, by the nearest level of the test loss."""
    return next(i for i, ratio in enumerate(ratios) if trained["counted"][nearest(trained["sigma"], ratio)])


def difference(first: Interval, last: Interval) -> Interval:
    """Return first - last of two independent shares or means: their intervals' arms added in squares (Newcombe)."""
    gap = first.value - last.value
    low = gap - sqrt((first.value - first.low) ** 2 + (last.high - last.value) ** 2)
    high = gap + sqrt((first.high - first.value) ** 2 + (last.value - last.low) ** 2)
    return Interval(gap, low, high, min(first.n, last.n))
