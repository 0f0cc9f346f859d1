"""The axis along which data part into two groups, as two modes, and how often a kick along it changes the group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from scipy.optimize import brentq
from scipy.special import ndtr
from torch import Tensor

from atelier.linalg import gram_pca
from atelier.networks.readers import Read
from atelier.subject import Subject
from painters.levels import Level

SMALLEST = 0.05
"""The smallest share of the data that counts as a group: the axis to a handful of odd pictures is no contrast."""


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
        :func:`~atelier.landscape.modes.flip_probability`.
        """
        centre, width = level[0] * self.m, sqrt(level[0] ** 2 * self.lam + level[1] ** 2)

        def below(z: float) -> float:
            low, high = (float(ndtr((z + shift) / width)) for shift in (centre, -centre))
            return (1 - self.share) * low + self.share * high

        reach = centre + 40 * width  # F is 0 and 1 to the last bit there, so the border lies between
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
