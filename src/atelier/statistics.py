"""Numbers with their uncertainty: bootstrap over seeds, shares, and rank correlations with exact p-values."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import permutations
from math import factorial, nan
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor

EXACT = 8
"""Up to so many values a permutation test visits every order: 40,320 of them; one more would be 362,880."""
ORDERS = 20_000
"""So many random orders else: a p of 0.001 is then known within a quarter."""
ENDS = (0.025, 0.975)
"""Quantiles between which an interval lies: it holds 95 %."""
MANY = 24
"""From so many samples on an interval is a bootstrap's: with fewer its percentiles cover 73 to 88 %."""


@dataclass(frozen=True)
class Interval:
    """An estimate ``value`` from ``n`` samples, and the confidence interval from ``low`` to ``high``."""

    value: float
    low: float
    high: float
    n: int

    def record(self) -> dict[str, float | int]:
        """Return the interval as JSON stores it."""
        return asdict(self)


def bootstrap(
    samples: Tensor | np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray | float] = lambda part: part.mean(0),
    *,
    draws: int = 2000,
    normal: bool = False,
) -> list[Interval]:
    """Return intervals of ``statistic`` over the first axis of ``samples`` (n, ...): percentiles of a bootstrap.

    ``normal``: the value plus and minus as many standard deviations of the draws as a normal law asks for. That is for
    rank correlations and the like, which resampling itself pushes down, so that percentiles may miss the value. With
    fewer than :data:`MANY` samples the interval is Student's, of the jackknife's pseudo-values: for a mean the t
    interval itself.

    ``statistic`` maps rows (n, ...) to one number or to m numbers; there is one interval for each. With one sample the
    ends are NaN. Raises ``ValueError`` for no samples. Sources: Efron (1979); Tukey (1958) for the jackknife.
    """
    rows = np.asarray(samples.detach().cpu().double() if isinstance(samples, Tensor) else samples, dtype=float)
    if len(rows) == 0:
        raise ValueError("an interval needs at least one sample")

    def of(part: np.ndarray) -> np.ndarray:
        return np.atleast_1d(np.asarray(statistic(part), dtype=float))

    n, value = len(rows), of(rows)
    if n == 1:
        return [Interval(float(v), nan, nan, 1) for v in value.ravel()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a number that never exists has an interval of NaN
        if n < MANY:
            without = np.stack([of(np.delete(rows, i, 0)) for i in range(n)])
            # the pseudo-values n value - (n - 1) without_i have this spread
            reach = stats.t.ppf(ENDS[1], n - 1) * (n - 1) * without.std(0, ddof=1) / n**0.5
            low, high = value - reach, value + reach
        else:
            generator = np.random.default_rng(0)
            drawn = np.stack([of(rows[generator.integers(n, size=n)]) for _ in range(draws)])
            low, high = np.nanquantile(drawn, ENDS, axis=0)
            if normal:
                reach = stats.norm.ppf(ENDS[1]) * np.nanstd(drawn, axis=0, ddof=1)
                low, high = value - reach, value + reach
    return [Interval(float(v), float(a), float(b), n) for v, a, b in zip(value.ravel(), low.ravel(), high.ravel())]


def mean(samples: Tensor | np.ndarray) -> Interval:
    """Return the mean of numbers (n,) with the interval of :func:`bootstrap`."""
    return bootstrap(np.asarray(samples, dtype=float).reshape(-1))[0]


def share(samples: Tensor | np.ndarray) -> Interval:
    """Return the mean of shares (n,) in [0, 1], with an interval that stays there."""
    found = mean(samples)
    return Interval(found.value, max(found.low, 0.0), min(found.high, 1.0), found.n)


def proportion(hits: int, n: int) -> Interval:
    """Return the share hits/n with Wilson's interval, below :data:`MANY` cases with the exact one.

    Raises ``ValueError`` unless 0 <= hits <= n and n > 0. Sources: Wilson (1927), Clopper and Pearson (1934).
    """
    if not (0 <= hits <= n and n > 0):
        raise ValueError(f"a share needs 0 <= hits <= n and n > 0, got {hits} of {n}")
    found = stats.binomtest(int(hits), int(n)).proportion_ci(method="wilson" if n >= MANY else "exact")
    return Interval(hits / n, float(found.low), float(found.high), int(n))


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ``rho`` of ``n`` pairs, its interval, and the one-sided permutation ``p``.

    ``p`` is the share of orders of one variable whose rho is at least as large: exact up to 8 pairs, else from 20,000
    random orders.
    """

    rho: float
    low: float
    high: float
    p: float
    n: int

    def record(self) -> dict[str, float | int]:
        """Return the correlation as JSON stores it."""
        return asdict(self)


def rank_correlation(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> RankCorrelation:
    """Return Spearman's correlation of ``x`` (n,) and ``y`` (n,); pairs with a NaN are dropped.

    The interval is tanh(artanh rho +- z (1 + rho^2/2)^(1/2) / (n - 3)^(1/2)), which few pairs do not fool as they do a
    bootstrap; NaN for three pairs. Raises ``ValueError`` for fewer than 3 pairs. Source: Bonett and Wright (2000).
    """
    a, b = _pairs(x, y)
    n = len(a)
    if n < 3:
        raise ValueError(f"a rank correlation needs at least 3 pairs, got {n}")
    left, right, rho = _ranks(a), _ranks(b), _rho(a, b)
    generator = np.random.default_rng(0)
    orders = list(permutations(left)) if n <= EXACT else generator.permuted(np.tile(left, (ORDERS, 1)), axis=1)
    # Orders that tie with the one seen count as as large, whatever rounding says: sums of n products of ranks.
    as_large = int((np.asarray(orders) @ right >= left @ right - 1e-12 * n**3).sum())
    # Among random orders the one seen counts as well, so that p is never 0.
    p = as_large / factorial(n) if n <= EXACT else (as_large + 1) / (ORDERS + 1)
    reach = stats.norm.ppf(ENDS[1]) * ((1 + rho**2 / 2) / (n - 3)) ** 0.5 if n > 3 else nan
    with np.errstate(divide="ignore"):  # all in order: artanh is infinite, and both ends are the value
        centre = np.arctanh(np.clip(rho, -1, 1))
    return RankCorrelation(rho, float(np.tanh(centre - reach)), float(np.tanh(centre + reach)), float(p), n)


def spearman(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> float:
    """Return Spearman's correlation of the pairs without NaN; NaN for fewer than three: two are always in order."""
    a, b = _pairs(x, y)
    return _rho(a, b) if len(a) > 2 else nan


def _pairs(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.asarray(v, dtype=float).reshape(-1) for v in (x, y))
    whole = np.isfinite(a) & np.isfinite(b)
    return a[whole], b[whole]


def _ranks(values: np.ndarray) -> np.ndarray:
    ranks = stats.rankdata(values)
    return ranks - ranks.mean()


def _rho(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of centred ranks; NaN where all values are alike, as they may be in a resampled set."""
    left, right = _ranks(a), _ranks(b)
    size = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / size if size > 0 else nan


def short(values: Tensor, digits: int = 4) -> list[Any]:
    """Return numbers as nested lists for a results file, with a few digits, which is more than their errors."""
    if values.ndim > 1:
        return [short(row, digits) for row in values]
    return [float(f"{v:.{digits}g}") for v in values.tolist()]
