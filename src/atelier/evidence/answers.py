"""What a reader said along runs, and in which order the factors of a picture could be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from atelier.evidence.order import crossing, short
from atelier.statistics import bootstrap, rank_correlation

READABLE = 0.05
"""A factor of which the affine estimate knows less than this share in clean states has no linear prediction."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What an instrument said of n seeds: ``given`` (n, N, m) at N levels, ``final`` (n, m) of the picture.

    ``sizes`` are the numbers of columns of each factor, F of them, with sum m.
    """

    given: Tensor
    final: Tensor
    sizes: Sequence[int]

    def scores(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return r2 and spread, (N, F) each, every seed ``weights`` (n,) times. NaN where no picture differs."""
        w = torch.ones(len(self.final)) if weights is None else weights
        w = w.to(self.final) / float(w.sum())
        n, N, m = self.given.shape
        missed = (w @ (self.given - self.final[:, None]).square().reshape(n, N * m)).reshape(N, m)
        whole = per_factor(w @ self.final.square() - (w @ self.final).square(), self.sizes)
        flat = self.given.reshape(n, N * m)
        spread = (w @ flat.square() - (w @ flat).square()).reshape(N, m)
        whole = torch.where(whole > 1e-12, whole, torch.nan)
        return 1 - per_factor(missed, self.sizes) / whole, per_factor(spread, self.sizes) / whole


def per_factor(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Sum numbers (..., m) over the columns of each factor: (..., F)."""
    return torch.stack([part.sum(-1) for part in values.split(list(sizes), -1)], -1)


def orders(
    said: dict[str, Answers],
    logsnr: Tensor,
    linear: Tensor,
    top: Tensor,
    *,
    use: Tensor | None = None,
    table: Tensor | None = None,
    draws: int = 1000,
) -> dict[str, Any]:
    """Return the half-levels and their rank correlations, as :func:`atelier.evidence.factors.measure` says.

    ``said``: answers under ``"ode"`` and ``"sde"``. ``linear`` and ``top`` (N + 1, F): law and ceiling at the N levels
    of ``logsnr`` and in clean states. Only factors in ``use`` (F,) are measured. ``table`` (F, 4): variance, area,
    frequency and layer of each factor.
    """
    clean = torch.where(linear[-1] > READABLE, linear[-1], torch.nan)
    theory = {
        "half_law": crossing(logsnr, linear[:-1] / clean),
        "half_bound": crossing(logsnr, linear[:-1] / top[-1]),
        "half_ceiling": crossing(logsnr, top[:-1] / top[-1]),
    }
    predicted = {key: torch.exp(-value / 2) for key, value in theory.items()}
    by_rank = predicted["half_law"].numpy()

    def halves(answers: Answers, which: int, rows: np.ndarray) -> np.ndarray:
        weights = torch.from_numpy(np.bincount(rows.astype(int), minlength=len(rows)))
        found = torch.exp(-crossing(logsnr, answers.scores(weights)[which]) / 2)
        return (found if use is None else torch.where(use, found, torch.nan)).numpy()

    def rank(rows: np.ndarray) -> float:
        return _spearman(halves(said["ode"], 1, rows), by_rank)

    spread, decided = (
        bootstrap(np.arange(len(said[key].final)), partial(halves, said[key], which), draws=draws)
        for key, which in (("ode", 1), ("sde", 0))
    )
    record: dict[str, Any] = {key: short(value) for key, value in predicted.items()}
    record |= {"half": [v.record() for v in spread], "half_sde": [v.record() for v in decided]}
    readable = theory["half_ceiling"]
    at = (logsnr[:, None] - readable.nan_to_num()).abs().argmin(0, keepdim=True)
    kept = (said["sde"].scores()[0].gather(0, at) * top[-1] / top.gather(0, at))[0]
    record["fidelity"] = short(torch.where(readable.isfinite(), kept, torch.nan))
    if len(clean) < 3:
        return record
    measured, sde = (np.array([v.value for v in row]) for row in (spread, decided))
    record |= correlations(measured, sde, predicted, table, draws=draws)
    seeds = np.arange(len(said["ode"].final))
    return record | {"rank_seeds": bootstrap(seeds, rank, draws=draws, normal=True)[0].record()}


def correlations(
    measured: np.ndarray, sde: np.ndarray, predicted: dict[str, Tensor], table: Tensor | None, *, draws: int
) -> dict[str, Any]:
    """Return the rank correlations over factors of half-levels (F,) with what may predict them; see :func:`orders`."""
    by_law = predicted["half_law"].numpy()
    pairs: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]] = {
        "rank": (measured, by_law, None),
        "rank_sde": (sde, by_law, None),
        "rank_ceiling": (measured, predicted["half_ceiling"].numpy(), None),
        "rank_solvers": (measured, sde, None),
    }
    found: dict[str, Any] = {}
    if table is not None:
        variance, area, frequency, layer = table.numpy().T
        given = np.stack([area, frequency], 1)
        found["traits"] = short(table)
        pairs |= {
            "rank_variance": (measured, variance, None),
            "rank_area": (measured, area, None),
            "rank_frequency": (measured, -frequency, None),
            "rank_layer": (measured, -layer, None),
            "partial_variance": (measured, variance, given),
            "partial_law": (measured, by_law, given),
        }
    for key, (x, y, z) in pairs.items():
        if np.isfinite(x * y).sum() >= 3 + (0 if z is None else z.shape[1]):
            found[key] = rank_correlation(x, y, given=z, draws=draws).record()
    return found


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation of the pairs that are finite; NaN for fewer than three."""
    whole = np.isfinite(x) & np.isfinite(y)
    return float(stats.spearmanr(x[whole], y[whole])[0])  # pyright: ignore[reportArgumentType] if whole.sum() > 2 else np.nan
