"""Kicks: push a state a little at one noise level, resume with the same later noise, and see what changed.

On one Gaussian everything is known. A kick e at a level (alpha, sigma) moves the image by U diag(gain) U^T e with the
gains sqrt(lam / v) of the PF-ODE and alpha lam / v of the reverse SDE with its later noise held fixed, v = alpha^2 lam
+ sigma^2. Source: Wang and Vastola (arXiv 2303.02490) for the experiment and the first gain; the second in the book.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import torch
from scipy.optimize import brentq
from scipy.special import ndtr
from torch import Tensor
from torch.nn.functional import normalize

from atelier.networks.readers import Read
from atelier.subject import Subject
from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.linalg import gram_pca
from painters.sampling import noise, solve
from painters.sampling.solvers import Solver
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

RANDOM, OFF = 2**29, 2**30
"""Added to a seed for the noise of its random and its off-manifold direction: other streams than the image's own."""
SMALLEST = 0.05
"""The smallest share of the data that counts as a group of a contrast."""


def kick(
    denoise: Denoiser,
    x: Tensor,
    kicks: Tensor,
    levels: Levels,
    start: int,
    *,
    solver: str | Solver,
    seeds: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Return the images (B, ...) that follow from ``x`` at level ``start``, and those (m, B, ...) from ``x + kicks``.

    ``x`` (B, ...), ``kicks`` (m, B, ...). The unkicked run resumes from the same state, with the same solver, later
    noise and batch, so that no kick changes nothing, to the last bit.
    """

    def follow(state: Tensor) -> Tensor:
        return solve(
            denoise, state, levels, solver=solver, start=start, save=Frames(None), seeds=seeds, progress=False
        ).final

    return follow(x), torch.stack([follow(x + push) for push in kicks.to(x)])


def exact_change(gaussian: Gaussian, kicks: Tensor, level: Level, *, stochastic: bool = False) -> Tensor:
    """Return how a kick at ``level`` moves the image in the exact Gaussian world, shaped like ``kicks`` (B, ...).

    U diag(gain) U^T e, with the gain sqrt(lam / v) of the PF-ODE, or alpha lam / v of the reverse SDE under the same
    later noise, which is the denoiser's own response. float64.
    """
    kicks = kicks.double().cpu()
    mu = gaussian.mu.double().cpu().reshape(kicks.shape[1:])
    x = kicks + level[0] * mu
    return (gaussian(x, *level) if stochastic else gaussian.flow(x, frm=level)) - mu


def spread(gaussian: Gaussian, directions: Tensor, level: Level) -> Tensor:
    """Return the standard deviation of the noisy state along unit ``directions`` (B, ...) at ``level``, (B,), float64.

    sqrt(alpha^2 u . Sigma u + sigma^2): sqrt(v_k) along PC k.
    """
    flat = directions.flatten(1).double().cpu()
    inside = (flat @ gaussian.U.double().cpu()).square()
    data = inside @ gaussian.lam.double().cpu() + gaussian.rest * (1 - inside.sum(1)).clamp(min=0)
    return (level[0] ** 2 * data + level[1] ** 2).sqrt()


def unit(directions: Tensor) -> Tensor:
    """Return each of ``directions`` (B, ...) scaled to length 1."""
    return normalize(directions.flatten(1), dim=1).reshape(directions.shape)


def component(gaussian: Gaussian, k: int, shape: Sequence[int]) -> Tensor:
    """Return the k-th principal direction of the data, counted from 1, shaped (1, *shape), float64."""
    return gaussian.U[:, k - 1].double().cpu().reshape(1, *shape)


def random_directions(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return one unit direction per seed, uniform on the sphere, (B, *shape), float64."""
    return unit(noise([seed + RANDOM for seed in seeds], shape, dtype=torch.float64))


def off_manifold(gaussian: Gaussian, seeds: Sequence[int], shape: Sequence[int], *, share: float = 0.99) -> Tensor:
    """Return one unit direction per seed without the PCs that hold ``share`` of the data's variance, (B, *shape).

    Where the known PCs hold less than that, all of them are removed. float64.
    """
    lam = gaussian.lam.double().cpu()
    kept = int((lam.cumsum(0) < share * float(gaussian.spectrum.sum())).sum()) + 1
    top = gaussian.U[:, :kept].double().cpu()
    free = noise([seed + OFF for seed in seeds], shape, dtype=torch.float64).flatten(1)
    return unit((free - (free @ top) @ top.T).reshape(len(seeds), *shape))


def curve_component(frames: Tensor, k: int = 1) -> Tensor:
    """Return the k-th principal direction of each sample's curve, ``frames`` (n, B, ...), (B, ...), float64."""
    scores = gram_pca(frames)[1][:, :, k - 1]
    centred = (frames - frames.mean(0)).double().cpu()
    return unit(torch.einsum("bn,nb...->b...", scores, centred))


@dataclass(frozen=True, eq=False)
class Change:
    """What a kick changed, in B images.

    ``pixels`` (B,): |dx_0|. ``along`` (B,): the part of dx_0 along the kick's own direction, signed. ``features`` (B,):
    distance in the reader's features over that of two unrelated images. ``flips``: for each categorical factor, whether
    its kind changed, (B,). ``values`` (B,): mean absolute change of the continuous factors. Without a reader the last
    three are ``None`` and empty.
    """

    pixels: Tensor
    along: Tensor
    features: Tensor | None = None
    flips: Mapping[str, Tensor] = field(default_factory=dict)
    values: Tensor | None = None

    @property
    def any_flip(self) -> Tensor:
        """Whether at least one categorical factor changed its kind, (B,)."""
        return torch.stack(list(self.flips.values())).any(0)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a reader sees in B images: ``features`` (B, d) and ``values``, kinds and values of the factors."""

    features: Tensor
    values: Read

    def rows(self, at: slice) -> Seen:
        """Return some of the images."""
        return Seen(self.features[at], {name: value[at] for name, value in self.values.items()})


def see(subject: Subject, x: Tensor) -> Seen | None:
    """Return what the subject's reader sees in clean states ``x`` (B, ...), ``None`` without a reader."""
    if subject.reader is None:
        return None
    pictures = subject.look(x.float())
    return Seen(subject.reader.features(pictures).double(), subject.reader.values(pictures))


def changed(
    subject: Subject, base: Tensor, kicked: Tensor, directions: Tensor, seen: tuple[Seen, Seen] | None
) -> Change:
    """Compare images (B, ...) with and without a kick along unit ``directions`` (B, ...).

    ``seen``: what the reader sees in each. Raises ``ValueError`` for fewer than two images with a reader.
    """
    moved = (kicked - base).flatten(1).double().cpu()
    along = (moved * directions.flatten(1).to(moved)).sum(1)
    if seen is None or subject.reader is None:
        return Change(moved.norm(dim=1), along)
    if len(base) < 2:
        raise ValueError("the distance of unrelated images needs at least two of them")
    before, after = seen
    distance = (after.features - before.features).norm(dim=1) / torch.pdist(before.features).mean()
    flips = {f.name: before.values[f.name] != after.values[f.name] for f in subject.reader.factors if f.kinds}
    plain = [(after.values[f.name] - before.values[f.name]).abs() for f in subject.reader.factors if not f.kinds]
    values = torch.stack(plain).double().mean(0) if plain else None
    return Change(moved.norm(dim=1), along, distance, flips, values)


@dataclass(frozen=True, eq=False)
class Contrast:
    """The axis along which data part into two groups of kinds of one factor, as two modes at +-m.

    ``groups``: the kinds of each. ``axis``: the unit direction from the first group's mean to the second's. ``m``: half
    the distance of the means, ``lam``: the variance within groups along the axis. ``share``: of the second group.
    """

    factor: str
    groups: tuple[tuple[int, ...], tuple[int, ...]]
    axis: Tensor
    m: float
    lam: float
    share: float

    def flips(self, before: Read, after: Read) -> Tensor:
        """Return whether the group changed, (B,)."""
        second = torch.tensor(self.groups[1])
        return torch.isin(before[self.factor], second) != torch.isin(after[self.factor], second)

    def record(self) -> dict[str, Any]:
        """Return the contrast without its axis, as JSON stores it."""
        groups = [list(group) for group in self.groups]
        return {"factor": self.factor, "groups": groups, "m": self.m, "lam": self.lam, "share": self.share}

    def law(self, size: float, level: Level) -> float:
        """Return how often a kick by ``size`` along the axis, half of them each way, changes the group at ``level``.

        z ~ (1 - share) N(-alpha m, v) + share N(alpha m, v), v = alpha^2 lam + sigma^2, has the distribution function
        F. A flow on a line keeps the order, so the border b between the groups lies where F(b) = 1 - share, and a kick
        flips what it carries over b: P = (F(b + size) - F(b - size)) / 2. For equal groups b = 0, and P is
        :func:`~atelier.landscape.jacobian.flip_probability`.
        """
        centre, width = level[0] * self.m, sqrt(level[0] ** 2 * self.lam + level[1] ** 2)

        def below(z: float) -> float:
            low, high = (float(ndtr((z + shift) / width)) for shift in (centre, -centre))
            return (1 - self.share) * low + self.share * high

        reach = centre + 40 * width
        border = float(brentq(lambda z: below(z) - (1 - self.share), -reach, reach))  # type: ignore[arg-type]
        return (below(border + size) - below(border - size)) / 2


def contrast(states: Tensor, values: Read, kinds: Mapping[str, int]) -> Contrast:
    """Find the factor whose kinds part best into two groups, m^2/lam being largest, and return its axis.

    ``states`` (n, ...) clean, ``values`` what they show, ``kinds``: number of kinds of each categorical factor. The
    kinds of a factor are split where their means leave the widest gap along the first PC of those means; groups of less
    than one state in twenty do not count. Raises ``ValueError`` if no factor parts the states.
    """
    flat = states.flatten(1).double().cpu()
    found = []
    for factor, count in kinds.items():
        kind = values[factor]
        there = [k for k in range(count) if int((kind == k).sum()) > 1]
        if len(there) < 2:
            continue
        means = torch.stack([flat[kind == k].mean(0) for k in there])
        place = gram_pca(means[:, None])[1][0, :, 0]
        order = place.argsort()
        cut = int(place[order].diff().argmax()) + 1
        groups = tuple(tuple(sorted(there[i] for i in half.tolist())) for half in (order[:cut], order[cut:]))
        low, high = (flat[torch.isin(kind, torch.tensor(group))] for group in groups)
        axis = high.mean(0) - low.mean(0)
        m, axis = float(axis.norm()) / 2, axis / axis.norm()
        within = torch.cat([(part - part.mean(0)) @ axis for part in (low, high)])
        share = len(high) / (len(low) + len(high))
        if SMALLEST <= share <= 1 - SMALLEST:
            pair = (groups[0], groups[1])
            found.append(Contrast(factor, pair, axis.reshape(states.shape[1:]), m, float(within.var()), share))
    if not found:
        raise ValueError("no factor shows two kinds often enough: there is no axis between them")
    return max(found, key=lambda c: c.m**2 / c.lam)


def find_contrast(subject: Subject, n: int) -> Contrast | None:
    """Return the contrast of ``n`` of the subject's data as its reader sees them, or ``None`` if there is none."""
    states = None if subject.reader is None else subject.data(n)
    if states is None or subject.reader is None:
        return None
    kinds = {f.name: len(f.kinds) for f in subject.reader.factors if f.kinds}
    seen = subject.read(states)
    try:
        return contrast(states, seen, kinds)
    except ValueError:
        return None
