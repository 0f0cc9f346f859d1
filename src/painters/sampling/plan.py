"""Plans: a few-step sampler chosen from trajectories of one model, and said to be.

What theory gives is one thing: an integrator and a Gaussian. What is chosen by looking at runs of the model is another,
and stands here: the levels at which the network is asked, and a few numbers that correct each step. Both come from
finely resolved runs of a few dozen seeds, which must not be among those that the sampler is judged by.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from painters.denoiser import Denoiser
from painters.files import replacing
from painters.levels import Levels
from painters.sampling.expint import DEPTH, Place, beside, expint, kept, weights
from painters.sampling.solve import solve
from painters.sampling.solvers import Solver, Steps
from painters.sampling.teleport import teleport
from painters.theory.gaussian import Gaussian, variance
from painters.trajectory import Frames, Trajectory

BANDS = 4
"""Bands of PCs with coefficients of their own, at equal ratios of their number; one is worse, twelve overfit."""
RIDGE = 1e-3
"""The penalty on a coefficient, as a share of its feature's mean square."""
CARELESS = 0.1
"""The share of a predictor's error that counts beside the corrected one's: the network is asked where it stands."""
NODES = 60
"""Levels among which those of a plan are chosen; the cost of all pairs of them is known without a network call."""


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """The calibrated exponential integrator of one model: at which levels to ask, and what to add to each step.

    ``levels``: the noisiest, then those of the N calls, then the clean end; if ``first`` is 1 the run is teleported
    from the noisiest to the first call. ``coefficients`` (N, bands, 5): a step adds sum_f c_f F_f in each band of PCs,
    F being the state, the last three g and the corrector's change, each carried on to the step's end as the Gaussian
    carries it. ``edges``: where bands end. ``floor``: as in :func:`expint`, the cleanest level of the fitted run.
    ``about``: what it was fitted to, JSON-serialisable.
    """

    levels: Levels
    first: int
    floor: float
    edges: tuple[int, ...]
    coefficients: Tensor
    about: dict[str, Any]

    def run(self, denoise: Denoiser, x: Tensor, surrogate: Gaussian, **options: Any) -> Trajectory:
        """Return the run from ``x`` (B, ...) at the noisiest level; ``options`` are those of :func:`painters.solve`.

        The trajectory begins at the first call. Raises ``ValueError`` for another number of dimensions.
        """
        x = x.to(getattr(denoise, "device", x.device))
        state = teleport(beside(surrogate, x), x, self.levels, self.first)
        return solve(denoise, state, self.levels, solver=self.solver(surrogate), start=self.first, **options)

    def solver(self, surrogate: Gaussian) -> Solver:
        """Return the plan's solver, made for its levels from ``first`` on."""

        def planned(x: Tensor, levels: Levels, seeds: Sequence[int] | None = None) -> Steps:
            g = beside(surrogate, x)
            rest = iter(self.coefficients.to(g.mu))

            def add(place: Place, moved: Tensor) -> Tensor:
                return _back(g, _sum(next(rest), self.edges, _features(g, place)), moved)

            return expint(x, levels, seeds, surrogate=g, floor=self.floor, fitted=add)

        return planned

    def save(self, path: str | Path) -> Path:
        """Write a JSON file, whole or not at all, and return its path."""
        said = {
            "alpha": self.levels.alpha.tolist(),
            "sigma": self.levels.sigma.tolist(),
            "first": self.first,
            "floor": self.floor,
        }
        said |= {"edges": self.edges, "coefficients": self.coefficients.tolist(), "about": self.about}
        with replacing(path) as file:
            file.write_text(json.dumps(said))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a file written by :meth:`save`. Raises ``ValueError`` for anything else."""
        try:
            said = json.loads(Path(path).read_text())
            kept = {key: torch.tensor(said[key], dtype=torch.float64) for key in ("alpha", "sigma", "coefficients")}
            levels = Levels(kept["alpha"], kept["sigma"], "a plan")
            return cls(levels, said["first"], said["floor"], tuple(said["edges"]), kept["coefficients"], said["about"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged or is no plan ({error}): calibrate again") from error

    def __repr__(self) -> str:
        ratio = ", ".join(f"{s:.3g}" for s in self.levels.ratio[self.first : -1].tolist())
        return f"Plan({len(self.coefficients)} calls at sigma/alpha {ratio})"


def calibrate(
    denoise: Denoiser,
    x: Tensor,
    levels: Levels,
    *,
    surrogate: Gaussian,
    nfe: int | Sequence[int],
    about: dict[str, Any] | None = None,
    progress: bool = True,
) -> list[Plan]:
    """Return a plan for each number of network calls, fitted to the run of ``denoise`` from ``x`` through ``levels``.

    ``x`` (B, ...): some 32 states at level 0, of seeds that judge nothing. ``levels``: a fine run, such as
    ``model.levels(240, spacing="even")``, from which the levels of the plans are taken. Its cost is that of this run,
    and of ``nfe`` calls for each plan; under guidance ``nfe`` counts calls of the denoiser. The levels minimise the sum
    of the local errors of the corrected step, each weighted by what the Gaussian makes of it in the image (dynamic
    programming); the coefficients are ridge regressions towards the run's own states, step after step along the
    sampler's own. Raises ``ValueError`` for fewer levels than calls.
    """
    wanted = [nfe] if isinstance(nfe, int) else list(nfe)
    every = max(1, levels.steps // NODES)
    finely = partial(expint, surrogate=surrogate, floor=float(levels.ratio[-2]))
    run = solve(denoise, x, levels, solver=finely, save=Frames(every=every), progress=progress)
    path = _Path(run.levels, run.x.double(), run.x0.double(), beside(surrogate, run.x), float(levels.ratio[-2]))
    if not all(1 <= n <= len(path.usable) for n in wanted):
        raise ValueError(f"{len(path.usable)} noisy levels allow 1 to as many calls, got {nfe}: give more levels")
    costs, begin = path.costs()
    return [_fit(denoise, x, path, _best(costs, begin, n), about or {}) for n in wanted]


class _Path:
    """A finely resolved run, in coordinates along the Gaussian's PCs."""

    def __init__(self, levels: Levels, x: Tensor, x0: Tensor, gaussian: Gaussian, floor: float) -> None:
        self.levels, self.x, self.gaussian, self.floor = levels, x, gaussian, floor
        ratio = levels.ratio[:-1]
        self.usable = [i for i, s in enumerate(ratio.tolist()) if 0 < s < 1e6]
        lam, self.s = _spectrum(gaussian), ratio[self.usable].tolist()
        level = [levels[i] for i in self.usable]
        mean = gaussian.mu.reshape(1, *x.shape[2:])
        self.z = [_along(gaussian, x[i] / a - mean) for i, (a, _) in zip(self.usable, level, strict=True)]
        beyond = [x0[i] - gaussian(x[i], *levels[i]) for i in self.usable]
        self.g = [_along(gaussian, r) * (1 + lam / s**2) for r, s in zip(beyond, self.s, strict=True)]
        self.end = _along(gaussian, x[-1] / levels.alpha[-1] - mean)

    def costs(self) -> tuple[np.ndarray, np.ndarray]:
        """The error in the image of a step from each level to each later one or to the end, and of a start there."""
        lam, n = _spectrum(self.gaussian), len(self.s)
        costs, total = np.full((n, n + 1), np.inf), float(self.end.square().sum(1).mean())

        def size(error: Tensor, s: float) -> float:
            kept = torch.where(lam > 0, lam / (lam + s**2), 0.0) if s > 0 else torch.ones_like(lam)
            return float((error.square() * kept).sum(1).mean()) / total

        for i, j in itertools.combinations(range(n + 1), 2):
            s0, s1 = self.s[i], self.s[j] if j < n else 0.0
            if j == n:
                share = kept(lam, self.floor, s0)
                costs[i, j] = size(share * self.z[i] + (1 - share) * self.g[i] - self.end, 0.0)
                continue
            moved = self.z[i] * ((lam + s1**2) / (lam + s0**2)).sqrt() - self.z[j]
            plain, (one, two) = weights(lam, s0, s1, [s0])[0], weights(lam, s0, s1, [s0, s1])
            costs[i, j] = size(moved + one * self.g[i] + two * self.g[j], s1)
            costs[i, j] += CARELESS * size(moved + plain * self.g[i], s1)
        g, level = self.gaussian, list(self.levels)
        apart = [(g.flow(self.x[0], frm=level[0], to=level[i]) - self.x[i]) / level[i][0] for i in self.usable]
        return costs, np.array([size(_along(g, e), s) for e, s in zip(apart, self.s, strict=True)])


def _best(costs: np.ndarray, begin: np.ndarray, n: int) -> list[int]:
    """The ``n`` levels with the least sum of costs, by dynamic programming."""
    value, came = begin, []
    for _ in range(n - 1):
        every = value[:, None] + costs[:, :-1]
        came.append(every.argmin(0))
        value = every.min(0)
    chosen = [int((value + costs[:, -1]).argmin())]
    for back in reversed(came):
        chosen.append(int(back[chosen[-1]]))
    return chosen[::-1]


def _fit(denoise: Denoiser, x: Tensor, path: _Path, chosen: list[int], about: dict[str, Any]) -> Plan:
    """The plan that asks at these of a path's usable levels."""
    g, at = path.gaussian, [path.usable[i] for i in chosen]
    first, lam = int(at[0] > 0), _spectrum(path.gaussian)
    visited = [*([0] if first else []), *at, path.levels.steps]
    levels = Levels(path.levels.alpha[visited], path.levels.sigma[visited], "a plan")
    edges = sorted({min(round(len(g.lam) ** (b / (BANDS - 1))), len(g.lam)) for b in range(BANDS)} - {0} | {len(lam)})
    targets, found = iter(visited[first + 1 :]), []

    def learn(place: Place, moved: Tensor) -> Tensor:
        features, missed = _features(g, place), _along(g, path.x[next(targets)] - moved)
        bands = zip([0, *edges], edges, strict=False)
        found.append(torch.stack([_ridge(features[..., i:j].flatten(1), missed[..., i:j].flatten()) for i, j in bands]))
        return _back(g, _sum(found[-1], edges, features), moved)

    solver = partial(expint, surrogate=g, floor=path.floor, fitted=learn)
    state = teleport(g, x.double(), levels, first)
    solve(denoise, state, levels, solver=solver, start=first, save=Frames(None), progress=False)
    return Plan(levels, first, path.floor, tuple(edges), torch.stack(found).cpu(), about | {"states": len(x)})


def _ridge(features: Tensor, missed: Tensor) -> Tensor:
    """The coefficients (F,) of features (F, n) that make up best for what was missed (n,), penalised by their sizes."""
    size = features.square().mean(1).sqrt().clamp(min=torch.finfo(features.dtype).tiny)
    unit = features / size[:, None]
    gram = unit @ unit.T + RIDGE * unit.shape[1] * torch.eye(len(unit)).to(unit)
    return torch.linalg.solve(gram, unit @ missed) / size


def _features(g: Gaussian, place: Place) -> Tensor:
    """What a step may add, (5, B, K): state, last three g and correction, as the Gaussian carries them to its end."""
    lam, (a, _) = _spectrum(g), place.there
    carried = (variance(lam, place.there) / variance(lam, place.here)).sqrt()
    s0, s1 = (level[1] / level[0] if level[0] > 0 else math.inf for level in (place.here, place.there))
    once = a * weights(lam, s0, s1, [s0])[0].to(lam)
    values = [once * (1 + lam / s**2) * _along(g, beyond) for s, beyond in reversed(place.seen)]
    values += [torch.zeros_like(values[0])] * (DEPTH - len(values))
    mean = place.here[0] * g.mu.reshape(1, *place.x.shape[1:])
    return torch.stack([carried * _along(g, place.x - mean), *values[:DEPTH], carried * _along(g, place.change)])


def _sum(coefficients: Tensor, edges: Sequence[int], features: Tensor) -> Tensor:
    """sum_f c_f F_f with the coefficients (bands, F) of each band: (B, K)."""
    widths = torch.tensor(edges).diff(prepend=torch.tensor([0])).to(coefficients.device)
    return torch.einsum("kf,fbk->bk", coefficients.repeat_interleave(widths, 0), features)


def _spectrum(g: Gaussian) -> Tensor:
    """The variances of :func:`_along`'s coordinates: of the PCs, and D times that of the rest where there is one."""
    return torch.cat([g.lam, g.lam.new_full((g.dim if len(g.lam) < g.dim else 0,), g.rest)])


def _along(g: Gaussian, x: Tensor) -> Tensor:
    """Coordinates of deviations (B, ...) along the PCs, and what lies outside them as it is: (B, K)."""
    flat = x.reshape(len(x), -1).to(g.mu)
    inside = flat @ g.U
    return inside if len(g.lam) == g.dim else torch.cat([inside, flat - inside @ g.U.T], 1)


def _back(g: Gaussian, coordinates: Tensor, like: Tensor) -> Tensor:
    """The deviations of these coordinates, shaped like ``like``."""
    r = len(g.lam)
    flat = coordinates[:, :r] @ g.U.T + (coordinates[:, r:] if r < g.dim else 0)
    return flat.reshape(like.shape).to(like)
