"""Kicks: push a state a little at one noise level, resume with the same later noise, and see what changed.

On one Gaussian everything is known. A kick e at a level (alpha, sigma) moves the image by U diag(gain) U^T e with the
gains sqrt(lam / v) of the PF-ODE and alpha lam / v of the reverse SDE with its later noise held fixed, v = alpha^2 lam
+ sigma^2. Source: Wang and Vastola (arXiv 2303.02490) for the experiment and the first gain; the second in the book.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from atelier.linalg import gram_pca
from atelier.networks.readers import Read
from atelier.subject import Subject
from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.sampling import noise, paint_on
from painters.sampling.noise import OFF, RANDOM
from painters.sampling.solvers import Solver
from painters.theory.gaussian import Gaussian

SMALLEST = 0.05
"""The smallest share of the data that counts as a group: the axis to a handful of odd pictures is no contrast."""


def kick(
    denoise: Denoiser, x: Tensor, kicks: Tensor, levels: Levels, i: int, *, solver: str | Solver, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the images (B, ...) that follow from ``x`` at level ``i``, and those (m, B, ...) from ``x + kicks``.

    ``x`` (B, ...), ``kicks`` (m, B, ...). The unkicked run resumes from the same state, with the same solver, later
    noise and batch, so that no kick changes nothing, to the last bit: a multistep solver that starts anew takes another
    first step than the run that came so far.
    """

    def follow(state: Tensor) -> Tensor:
        return paint_on(denoise, state, levels, start=i, solver=solver, seeds=seeds)

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


def unit(directions: Tensor) -> Tensor:
    """Return each of ``directions`` (B, ...) scaled to length 1."""
    return normalize(directions.flatten(1), dim=1).reshape(directions.shape)


def component(gaussian: Gaussian, k: int, shape: Sequence[int]) -> Tensor:
    """Return the k-th principal direction of the data, counted from 1, shaped (1, *shape), float64."""
    return gaussian.U[:, k - 1].double().cpu().reshape(1, *shape)


def random_directions(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return one unit direction per seed, uniform on the sphere, (B, *shape), float64."""
    return unit(noise(seeds, shape, stream=RANDOM, dtype=torch.float64))


def off_manifold(gaussian: Gaussian, seeds: Sequence[int], shape: Sequence[int], *, share: float = 0.99) -> Tensor:
    """Return one unit direction per seed without the PCs that hold ``share`` of the data's variance, (B, *shape).

    Where the known PCs hold less than that, all of them are removed. float64.
    """
    lam = gaussian.lam.double().cpu()
    kept = int((lam.cumsum(0) < share * float(gaussian.spectrum.sum())).sum()) + 1
    top = gaussian.U[:, :kept].double().cpu()
    free = noise(seeds, shape, stream=OFF, dtype=torch.float64).flatten(1)
    return unit((free - (free @ top) @ top.T).reshape(len(seeds), *shape))


@dataclass(frozen=True, eq=False)
class Contrast:
    """The axis along which data part into two groups of kinds of one factor, as two modes at +-m.

    ``groups``: the kinds of each. ``axis``: the unit direction from the first group's mean to the second's. ``m``: half
    the distance of the means, ``lam``: the variance within groups along the axis.
    """

    factor: str
    groups: tuple[tuple[int, ...], ...]
    axis: Tensor
    m: float
    lam: float


def contrast(states: Tensor, values: Read, kinds: Mapping[str, int]) -> Contrast | None:
    """Return the axis of the factor whose kinds part best into two groups, m^2/lam being largest.

    ``states`` (n, ...) clean, ``values`` what they show, ``kinds``: number of kinds of each categorical factor. The
    kinds of a factor are split where their means leave the widest gap along the first PC of those means; groups of less
    than one state in twenty do not count. ``None`` if no factor parts the states.
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
        gap = high.mean(0) - low.mean(0)
        axis = gap / gap.norm()
        within = torch.cat([(part - part.mean(0)) @ axis for part in (low, high)])
        if min(len(low), len(high)) >= SMALLEST * len(within):
            axis = axis.reshape(states.shape[1:])
            found.append(Contrast(factor, groups, axis, float(gap.norm()) / 2, float(within.var())))
    return max(found, key=lambda c: c.m**2 / c.lam, default=None)


def find_contrast(subject: Subject, n: int) -> Contrast | None:
    """Return the contrast of ``n`` of the subject's data as its reader sees them, or ``None`` if there is none."""
    if subject.reader is None or (states := subject.data(n)) is None:
        return None
    return contrast(states, subject.read(states), {f.name: len(f.kinds) for f in subject.reader.factors if f.kinds})
