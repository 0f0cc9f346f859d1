"""Asking for something by name: the smallest change of a state after which an affine reading says what was asked.

A picture of the Gaussian with whitened coordinates z is read as f = E f + W^T z, a column of W for each kind or value
(see :mod:`atelier.manifold.knobs`). Of all changes of z with W^T delta = asked - read the smallest is
W (W^T W)^+ (asked - read). Nothing is asked of the other factors, so that their readings stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.data.scenes.factors import Factor
from atelier.manifold.knobs import BLUR, LEVEL, Facts
from atelier.networks.readers import columns
from atelier.subject import Subject, levels_at
from painters.levels import NOISE, Level, Levels
from painters.sampling import noise, paint_on, solve
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

LEAST = 0.2
"""A factor of whose variance an affine reading of pictures explains less than this is left alone."""
LOUD = 1.5
"""A network gives less than the Gaussian does, so it is asked for so many times the difference."""


@dataclass(frozen=True, eq=False)
class Affine:
    """Affine readings of ``factors``, through a blur that keeps the errors of small PCs out.

    ``weights`` (D, m): W, in whitened coordinates; ``mean`` (m,): E f. float64.
    """

    gaussian: Gaussian = field(repr=False)
    factors: tuple[Factor, ...]
    weights: Tensor = field(repr=False)
    mean: Tensor = field(repr=False)

    @classmethod
    def learned(cls, subject: Subject, n: int = 1200) -> Affine:
        """Make them from the first ``n`` training scenes of a subject, for what its reader names and they can tell."""
        assert subject.reader is not None
        facts = Facts.of(subject, subject.reader.factors, n)
        assert facts is not None
        return cls.of(facts)

    @classmethod
    def of(cls, facts: Facts, *, blur: float = BLUR) -> Affine:
        """Make them from what the data say: kinds are equally likely, and values uniform in [0, 1]."""
        g, sizes = facts.gaussian, columns(facts.factors)
        weights = g.U @ ((g.lam.sqrt() / (g.lam + blur**2))[:, None] * facts.covariance)
        known = [i for i, share in enumerate(facts.r2().tolist()) if share >= LEAST]
        factors = tuple(facts.factors[i] for i in known)
        mean = [1 / len(f.kinds) if f.kinds else 0.5 for f in factors for _ in f.kinds or (f,)]
        parts = weights.split(sizes, 1)
        return cls(g, factors, torch.cat([parts[i] for i in known], 1), torch.tensor(mean).to(weights))

    def read(self, z: Tensor) -> Tensor:
        """Return what the pictures of a Gaussian with whitened coordinates ``z`` (B, D) show, (B, m)."""
        return self.mean + z @ self.weights

    def wanted(self, z: Tensor, orders: Mapping[str, str | float]) -> Tensor:
        """Return what they shall show, (B, m): ``orders`` name a kind or a value in [0, 1], all else stays as it is."""
        parts = zip(self.factors, self.read(z).split(columns(self.factors), 1))
        return torch.cat([_wanted(factor, part, orders.get(factor.name)) for factor, part in parts], 1)

    def step(self, z: Tensor, orders: Mapping[str, str | float]) -> Tensor:
        """Return the smallest change of ``z`` (B, D) after which the readings are :meth:`wanted`."""
        gram = torch.linalg.pinv(self.weights.T @ self.weights, rtol=1e-6, hermitian=True)
        return (self.wanted(z, orders) - self.read(z)) @ gram @ self.weights.T

    def ask(self, x: Tensor, level: Level, orders: Mapping[str, str | float], *, loud: float = LOUD) -> Tensor:
        """Return states (B, ...) at ``level`` moved by ``loud`` times :meth:`step`."""
        z = white(self.gaussian, x, level)
        return coloured(self.gaussian, z + loud * self.step(z, orders), level, x)


def _wanted(factor: Factor, read: Tensor, order: str | float | None) -> Tensor:
    """What the reading (B, kinds) of one factor should be."""
    if order is None:
        return read
    if not factor.kinds:
        return torch.full_like(read, float(order))
    if order not in factor.kinds:
        raise ValueError(f"{factor.name} has no kind {order!r}: {', '.join(factor.kinds)}")
    return torch.eye(len(factor.kinds)).to(read)[factor.kinds.index(str(order))].expand_as(read)


def white(gaussian: Gaussian, x: Tensor, level: Level) -> Tensor:
    """Return the whitened coordinates (B, D) of states (B, ...) at ``level``, float64."""
    return gaussian.flow(x.to(gaussian.mu), frm=level, to=NOISE).flatten(1)


def coloured(gaussian: Gaussian, z: Tensor, level: Level, like: Tensor) -> Tensor:
    """Return the states at ``level`` that have whitened coordinates ``z`` (B, D), of the form of ``like`` (B, ...)."""
    return gaussian.sample(z, level=level).reshape(like.shape).to(like)


def scenes(
    subject: Subject, affine: Affine, seed: int, orders: Sequence[Mapping[str, str | float]], *, steps: int = 20
) -> Tensor:
    """Return pictures (1 + len(orders), 3, H, W): the scene of a seed, and the same after each of the ``orders``."""
    levels, start, x = states_at(subject, [seed], LEVEL, steps)
    states = torch.cat([x, *(affine.ask(x, levels[start], order) for order in orders)])
    return subject.decode(paint_on(subject.denoise, states, levels, start=start, solver="dpmpp2m"))


def states_at(subject: Subject, seeds: Sequence[int], ratio: float, steps: int) -> tuple[Levels, int, Tensor]:
    """Return the levels of a run, which of them is next to a noise level sigma/alpha, and the seeds' states there."""
    levels = subject.levels(steps, spacing="even")
    (start,) = levels_at(levels, [ratio])
    begin = levels.start(noise(seeds, subject.shape))
    run = solve(subject.denoise, begin, levels, stop=start, save=Frames(None), solver="dpmpp2m", progress=False)
    return levels, start, run.final


def asked() -> dict[str, Any]:
    """Return the committed measurement of ``scenes-sd``: ``at`` each of some levels what ``tools/asked.py`` found."""
    return json.loads((Path(__file__).parent / "asked.json").read_text(encoding="utf-8"))
