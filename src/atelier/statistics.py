"""Numbers with their uncertainty: bootstrap over seeds, shares, and rank correlations with exact p-values."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import permutations
from math import factorial, nan

import numpy as np
import torch
from scipy import stats
from torch import Tensor

EXACT = 8
"""Up to so many values a permutation test visits every order."""


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
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    normal: bool = False,
) -> list[Interval]:
    """Return percentile bootstrap intervals of ``statistic`` over the first axis of ``samples`` (n, ...).

    ``normal``: the value plus and minus as many standard deviations of the draws as a normal law asks for. That is for
    rank correlations and the like, which resampling itself pushes down, so that percentiles may miss the value.

    ``statistic`` maps resampled rows (n, ...) to one number or to m numbers; there is one interval for each. With one
    sample the ends are NaN. Raises ``ValueError`` for no samples. Source: Efron (1979).
    """
    rows = np.asarray(samples.detach().cpu().double() if isinstance(samples, Tensor) else samples, dtype=float)
    if len(rows) == 0:
        raise ValueError("an interval needs at least one sample")
    value = np.atleast_1d(np.asarray(statistic(rows), dtype=float))
    if len(rows) == 1:
        return [Interval(float(v), nan, nan, 1) for v in value.ravel()]
    generator = np.random.default_rng(seed)
    drawn = np.stack(
        [
            np.atleast_1d(np.asarray(statistic(rows[generator.integers(len(rows), size=len(rows))]), dtype=float))
            for _ in range(draws)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a number that never exists has an interval of NaN
        low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        if normal:
            reach = stats.norm.ppf((1 + level) / 2) * np.nanstd(drawn, axis=0, ddof=1)
            low, high = value - reach, value + reach
    return [
        Interval(float(v), float(a), float(b), len(rows)) for v, a, b in zip(value.ravel(), low.ravel(), high.ravel())
    ]


def mean(samples: Tensor | np.ndarray, *, seed: int = 0) -> Interval:
    """Return the mean of numbers (n,) with its bootstrap interval."""
    return bootstrap(np.asarray(samples, dtype=float).reshape(-1), seed=seed)[0]


def proportion(hits: int, n: int, *, level: float = 0.95) -> Interval:
    """Return the share hits/n with Wilson's interval. Raises ``ValueError`` unless 0 <= hits <= n and n > 0."""
    if not (0 <= hits <= n and n > 0):
        raise ValueError(f"a share needs 0 <= hits <= n and n > 0, got {hits} of {n}")
    found = stats.binomtest(int(hits), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return Interval(hits / n, float(found.low), float(found.high), int(n))


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ``rho`` of ``n`` pairs, its bootstrap interval over pairs, and the one-sided permutation ``p``.

    ``p`` is the share of orders of one variable whose rho is at least as large: exact up to 8 pairs, else from 20,000
    random orders. ``given`` says which variables were partialled out.
    """

    rho: float
    low: float
    high: float
    p: float
    n: int
    given: int = 0

    def record(self) -> dict[str, float | int]:
        """Return the correlation as JSON stores it."""
        return asdict(self)


def rank_correlation(
    x: Tensor | np.ndarray, y: Tensor | np.ndarray, *, given: np.ndarray | None = None, draws: int = 2000, seed: int = 0
) -> RankCorrelation:
    """Return Spearman's correlation of ``x`` (n,) and ``y`` (n,), partial if ``given`` (n, m) is there.

    The partial correlation is that of the residuals of the ranks of x and y after linear regression on the ranks of
    ``given``. NaN pairs are dropped. Raises ``ValueError`` for fewer than m + 3 pairs.
    """
    columns = [np.asarray(v, dtype=float).reshape(-1) for v in (x, y)]
    other = (
        np.empty((len(columns[0]), 0)) if given is None else np.asarray(given, dtype=float).reshape(len(columns[0]), -1)
    )
    whole = np.isfinite(columns[0]) & np.isfinite(columns[1]) & np.isfinite(other).all(1)
    a, b, z = columns[0][whole], columns[1][whole], other[whole]
    n, m = len(a), z.shape[1]
    if n < m + 3:
        raise ValueError(f"a rank correlation given {m} variables needs at least {m + 3} pairs, got {n}")
    rho = _partial(a, b, z)
    generator = np.random.default_rng(seed)
    picks = (generator.integers(n, size=n) for _ in range(draws))
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = [_partial(a[i], b[i], z[i]) for i in picks]
        left, right = _residual(a, z), _residual(b, z)
        orders = list(permutations(left)) if n <= EXACT else generator.permuted(np.tile(left, (20_000, 1)), axis=1)
        as_large = int((np.asarray(orders) @ right >= left @ right - 1e-12 * n**3).sum())
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    p = as_large / factorial(n) if n <= EXACT else (as_large + 1) / 20_001
    return RankCorrelation(rho, float(low), float(high), float(p), n, m)


def _partial(a: np.ndarray, b: np.ndarray, z: np.ndarray) -> float:
    return _cosine(_residual(a, z), _residual(b, z))


def _residual(values: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Ranks of ``values``, less what an affine function of the ranks of ``z`` says of them."""
    ranks = stats.rankdata(values)
    if z.shape[1] == 0:
        return ranks - ranks.mean()
    design = np.column_stack([np.ones(len(values)), *(stats.rankdata(column) for column in z.T)])
    return ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else nan


def slope(x: Tensor | np.ndarray, y: Tensor | np.ndarray, *, seed: int = 0) -> Interval:
    """Return the least-squares slope of ``y`` (n,) on ``x`` (n,) with its bootstrap interval over pairs."""
    pairs = np.column_stack([np.asarray(torch.as_tensor(v).double()).reshape(-1) for v in (x, y)])
    pairs = pairs[np.isfinite(pairs).all(1)]

    def fit(part: np.ndarray) -> float:
        centred = part - part.mean(0)
        spread = float(centred[:, 0] @ centred[:, 0])
        return float(centred[:, 0] @ centred[:, 1]) / spread if spread > 0 else nan

    return bootstrap(pairs, fit, seed=seed)[0]
