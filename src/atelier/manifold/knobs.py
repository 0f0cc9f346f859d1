"""Knobs: directions of the noise that move a named factor of the image, computed from the data and not searched.

On one Gaussian the PF-ODE carries whitened coordinates z = (alpha^2 Sigma + sigma^2 I)^{-1/2} (x - alpha mu) unchanged
from any level to the image, and the best affine estimate of a factor f is E f + w_f . z with the weights
w_f = Sigma^{-1/2} Cov(x_0, f); a factor of several kinds has a column for each. Two knobs of a factor follow:

* its **strongest** direction w_f / |w_f|: no unit step of the noise moves the estimate more, and it moves the image
  along Cov(x_0, f). It takes along whatever is tied to f.
* what tells f **alone**, the part of w_f orthogonal to the weights of all other factors: turning z there changes what
  can be read of f, and nothing that can be read of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from atelier.data.law import FactorLaw
from atelier.data.scenes.factors import Factor
from atelier.evidence.factors import law
from atelier.manifold.walks import dial, painted
from atelier.networks.readers import columns
from atelier.scoring import Known, Ruler, known, per_factor
from atelier.statistics import short
from atelier.subject import Settings, Subject, levels_at
from painters.levels import NOISE, Level, Levels
from painters.sampling import noise, paint_on, solve
from painters.sampling.noise import FRESH
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

PCS = 64
"""The strongest directions are made of so many PCs: along the others a covariance is an estimate's error, which
Sigma^{-1/2} would magnify."""
BLUR = 0.1
"""What tells a factor alone is made of all PCs, read through noise of this size, which does for them what PCS does."""
LEVEL = 0.75
"""Noise level sigma/alpha near which knobs are turned: late enough to know the outline, early enough to repaint."""
RANGE = 2.0
"""A coordinate is set from so many standard deviations of the noise below its mean to as many above."""
RANDOM = 4
"""So many random sets of directions are turned for comparison, each among as many first PCs as MANY."""
MANY = 40


@dataclass(frozen=True, eq=False)
class Facts:
    """What the data say of some factors: ``one`` and ``other`` (r, m), U^T Cov(x_0, f) from two halves of the data.

    The halves' errors are independent, so that a product of both is unbiased. ``spread`` (m,): Var f. float64.
    """

    gaussian: Gaussian = field(repr=False)
    factors: tuple[Factor, ...]
    one: Tensor = field(repr=False)
    other: Tensor = field(repr=False)
    spread: Tensor = field(repr=False)

    @classmethod
    def of(cls, subject: Subject, factors: Sequence[Factor], n: int) -> Facts | None:
        """Return what the subject's first ``n`` training states say of ``factors``; ``None`` if they are not there."""
        data = known(subject, n, test=False)
        if data is None:
            return None
        facts = data.facts[:, _mask(data.factors, [f.name for f in factors])]
        return cls.made(*law(subject.gaussian, Known(data.states, facts, tuple(factors))), factors)

    @classmethod
    def made(cls, law: FactorLaw, other: Tensor, factors: Sequence[Factor]) -> Facts:
        """Make it from a law and a second covariance (D, m), see :func:`atelier.evidence.factors.law`."""
        g = law.gaussian
        return cls(g, tuple(factors), g.U.T @ law.covariance, g.U.T @ other, law.variance)

    @property
    def covariance(self) -> Tensor:
        """U^T Cov(x_0, f) from all data, (r, m)."""
        return (self.one + self.other) / 2

    def r2(self, pcs: int | None = None) -> Tensor:
        """Return the share of each factor's variance that the first ``pcs`` PCs know, (F,); it may come out below 0."""
        lam = self.gaussian.lam
        safe = torch.where(lam > 1e-9 * lam.max(), lam, torch.inf)[:pcs, None]
        explained = (self.one[:pcs] * self.other[:pcs] / safe).sum(0)
        return per_factor(explained, columns(self.factors)) / per_factor(self.spread, columns(self.factors))

    def alone(self, *factors: str, blur: float = BLUR) -> Tensor:
        """Return orthonormal whitened directions (D, b) that tell some factors, and none of the others.

        The weights are those of the picture seen through noise of size ``blur``, lam^{1/2} / (lam + blur^2) U^T Cov.
        """
        lam = self.gaussian.lam
        w = (lam.sqrt() / (lam + blur**2))[:, None] * self.covariance
        w = w / w.norm(dim=0).clamp(min=1e-12)
        mine = _mask(self.factors, factors)
        others = _span(w[:, ~mine])
        return self.gaussian.U @ _span(w[:, mine] - others @ (others.T @ w[:, mine]))


def _mask(factors: Sequence[Factor], names: Sequence[str]) -> Tensor:
    """Which columns belong to factors of some names, (m,) bool."""
    return torch.tensor([f.name in names for f in factors]).repeat_interleave(torch.tensor(columns(factors)))


def _span(columns: Tensor, tolerance: float = 1e-6) -> Tensor:
    """An orthonormal basis of the span of columns of length up to 1: the kinds of a factor sum to 1, so one is idle."""
    left, size, _ = torch.linalg.svd(columns, full_matrices=False)
    return left[:, size > tolerance]


def instruments(subject: Subject, settings: Settings) -> tuple[Ruler, Facts] | None:
    """Return the ruler of a subject, and what its data say of the ruler's factors; ``None`` without reader or data."""
    ruler = Ruler.of(subject, settings.pick(ci=60, book=400, full=1000))
    half = 1 if subject.image_size == subject.shape[-1] else 2  # encoding latents is dear
    facts = ruler and Facts.of(subject, ruler.factors, settings.pick(ci=400, book=6000, full=20_000) // half)
    return None if ruler is None or facts is None else (ruler, facts)


# The strongest directions


@dataclass(frozen=True, eq=False)
class Knob:
    """The strongest direction of a factor, a ``direction`` (...) of the noise of unit length.

    ``columns``: which answers of the ruler it is about, and ``pattern`` (kinds,): how far each moves per unit of noise,
    for Gaussian data. ``factor``: the index of the factor.
    """

    name: str
    factor: int
    columns: slice
    direction: Tensor
    pattern: Tensor

    def right(self, before: Tensor, after: Tensor) -> Tensor:
        """Return whether answers (n, m) moved the way the knob says, (n,) bool."""
        return (after - before)[:, self.columns] @ self.pattern > 0


def strongest(gaussian: Gaussian, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unit direction of the noise that moves a factor most, in PCs (pcs,), and the pattern (kinds,).

    ``covariance`` (pcs, kinds): of the leading PCs with each of its columns. The direction moves the estimates of all
    kinds most, the sum of squares counted: the first left singular vector of Sigma^{-1/2} U^T Cov. The last kind, or
    the value, grows along it.
    """
    weights = covariance.T.double() / gaussian.lam[: len(covariance)].double().cpu().sqrt()
    direction = torch.linalg.svd(weights, full_matrices=False)[2][0]
    pattern = weights @ direction
    sign = -1.0 if float(pattern[-1]) < 0 else 1.0
    return sign * direction, sign * pattern


def in_noise(gaussian: Gaussian, coordinates: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the directions (n, *shape) that have ``coordinates`` (n, pcs) along the first PCs, float64."""
    return (coordinates.double() @ gaussian.U[:, : coordinates.shape[1]].double().cpu().T).reshape(-1, *shape)


def knob_of_each(facts: Facts, shape: Sequence[int], *, pcs: int = PCS) -> list[Knob]:
    """Return the knob of each factor; of one factor alone, the knob of each of its kinds."""
    alone = len(facts.factors) == 1 and bool(facts.factors[0].kinds)
    names = list(facts.factors[0].kinds) if alone else [f.name for f in facts.factors]
    sizes = [1] * len(names) if alone else columns(facts.factors)
    found, first = [], 0
    for i, (name, size) in enumerate(zip(names, sizes)):
        part = slice(first, first + size)
        coordinates, pattern = strongest(facts.gaussian, facts.covariance[:pcs, part])
        direction = in_noise(facts.gaussian, coordinates[None], shape)[0]
        found.append(Knob(name, 0 if alone else i, part, direction, pattern))
        first += size
    return found


def dialled(ruler: Ruler, facts: Facts, made: Sequence[Knob], free: Tensor, levels: Levels) -> dict[str, Any]:
    """Set every knob from -RANGE to RANGE in unit noises ``free`` (S, ...), and return what that does.

    ``names``; ``known``, R^2 of each, and ``explained``, of the PCs that make the knobs; ``coordinates`` [n][PCs].
    ``dial``: ``right`` [S][n], 1 where the named factor, or kind, moved the way the theory says; ``own`` [n], the score
    of the named factor, and ``others`` [n], the mean of all others', null if there are none.
    """
    rows, values = torch.stack([knob.direction for knob in made]), torch.tensor([-RANGE, RANGE])
    right, change = [], []
    for eps in free:
        ends = painted(ruler.subject.denoise, levels.start(dial(eps, rows, values)), levels)
        before, after = (ruler.answers(part) for part in ends.unbind(1))
        right.append([int(k.right(a[None], b[None])) for k, a, b in zip(made, before, after)])
        change.append(ruler.change(before, after))
    scores = torch.stack([ruler.score(part) for part in torch.stack(change, 1)])  # (n, F)
    at = torch.tensor([knob.factor for knob in made])
    own = scores.gather(1, at[:, None])[:, 0]
    return {
        "names": [knob.name for knob in made],
        "known": short(facts.r2()[at]),
        "explained": short(facts.r2(PCS)[at]),
        "coordinates": short(rows.flatten(1) @ facts.gaussian.U[:, :PCS]),
        "dial": {"right": right, "own": short(own), "others": short((scores.sum(1) - own) / (scores.shape[1] - 1))},
    }


# What tells a factor alone


def turn(gaussian: Gaussian, x: Tensor, fresh: Tensor, level: Level, basis: Tensor, angle: float) -> Tensor:
    """Return states (B, ...) whose whitened coordinates along ``basis`` (D, b) are turned, all others kept.

    z' = z + Q Q^T ((cos(angle) - 1) z + sin(angle) fresh), Q = ``basis``: nothing happens at 0, the coordinates are
    drawn anew at pi/2 and mirrored at pi. ``fresh`` (B, ...) is unit noise. The law of the level is kept.
    """
    states, Q = x.to(gaussian.mu), basis.to(gaussian.mu)
    z = gaussian.flow(states, frm=level, to=NOISE).flatten(1)
    moved = (((math.cos(angle) - 1) * z + math.sin(angle) * fresh.flatten(1).to(z)) @ Q) @ Q.T
    return gaussian.sample(z + moved, level=level).reshape(x.shape).to(x)


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Turn by pi what tells each factor alone, at one noise level, and measure what becomes of every factor.

    Keys. ``seeds``, ``level`` (sigma/alpha), ``factors`` (F,); ``change`` (F, F): row = knob, column = factor, scores
    over seeds, 1 as for unrelated pictures. For each seed ``own``: the change of the knob's own factor, mean over
    knobs; ``others``: of all others; ``null``: of every factor when random directions of the first PCs are turned
    instead, as many as a knob has. ``None`` without a reader, data, or with a single factor.
    """
    found = None if subject.kind == "mean" else instruments(subject, settings)
    if found is None or len(found[0].factors) < 2:
        return None
    ruler, facts = found
    seeds = settings.seeds[: settings.pick(ci=2, book=24, full=len(settings.seeds))]
    levels, g = subject.levels(settings.pick(ci=5, book=20, full=20), spacing="even"), subject.gaussian
    (start,) = levels_at(levels, [LEVEL])
    begin = levels.start(noise(seeds, subject.shape))
    x = solve(subject.denoise, begin, levels, stop=start, save=Frames(None), solver="dpmpp2m", progress=False).final
    fresh = noise(seeds, subject.shape, stream=FRESH)

    def said(state: Tensor) -> Tensor:
        return ruler.answers(paint_on(subject.denoise, state, levels, start=start, solver="dpmpp2m"))

    def changed(basis: Tensor) -> Tensor:
        return ruler.change(before, said(turn(g, x, fresh, levels[start], basis, math.pi)))

    before, bases = said(x), [facts.alone(name) for name in ruler.names]
    change = torch.stack([changed(basis) for basis in bases])  # (knob, n, factor)
    width = round(sum(basis.shape[1] for basis in bases) / len(bases))
    random = torch.stack([changed(_random(facts.gaussian, width, seed)) for seed in range(RANDOM)])
    own = (change / ruler.unrelated).diagonal(dim1=0, dim2=2)  # (n, F)
    others = (change / ruler.unrelated).sum((0, 2)) - own.sum(1)
    return {
        "seeds": len(seeds),
        "level": float(levels.ratio[start]),
        "factors": ruler.names,
        "change": short(torch.stack([ruler.score(part) for part in change])),
        "own": short(own.mean(1)),
        "others": short(others / (len(bases) * (len(bases) - 1))),
        "null": short((random / ruler.unrelated).mean((0, 2))),
    }


def _random(gaussian: Gaussian, b: int, seed: int) -> Tensor:
    """Random orthonormal directions (D, b) among the first PCs."""
    k = min(MANY, len(gaussian.lam))
    mixed = torch.randn(k, min(b, k), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(gaussian.U[:, :k] @ mixed.to(gaussian.U)).Q
