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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from atelier.data.law import FactorLaw
from atelier.data.scenes.factors import Factor
from atelier.evidence.factors import READABLE, law
from atelier.networks.readers import columns
from atelier.scoring import Known, Ruler, known, per_factor
from atelier.statistics import mean, short
from atelier.subject import Settings, Subject, levels_at
from painters.levels import NOISE, Level
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
        used = torch.tensor([f in factors for f in data.factors]).repeat_interleave(torch.tensor(columns(data.factors)))
        return cls.made(*law(subject.gaussian, Known(data.states, data.facts[:, used], tuple(factors))), factors)

    @classmethod
    def made(cls, law: FactorLaw, other: Tensor, factors: Sequence[Factor]) -> Facts:
        """Make it from a law and a second covariance (D, m), see :func:`atelier.evidence.factors.law`."""
        g = law.gaussian
        return cls(g, tuple(factors), g.U.T @ law.covariance, g.U.T @ other, law.variance)

    @property
    def covariance(self) -> Tensor:
        """U^T Cov(x_0, f) from all data, (r, m)."""
        return (self.one + self.other) / 2

    def columns(self, factor: str) -> slice:
        """Return which columns belong to a factor."""
        sizes = columns(self.factors)
        i = [f.name for f in self.factors].index(factor)
        return slice(sum(sizes[:i]), sum(sizes[: i + 1]))

    def r2(self, pcs: int | None = None) -> Tensor:
        """Return the share of each factor's variance that the first ``pcs`` PCs know, (F,); it may come out below 0."""
        explained = self._explained(torch.ones_like(self.gaussian.lam[:pcs]))
        return explained / per_factor(self.spread, columns(self.factors))

    def keeps(self, rho: Tensor) -> Tensor:
        """Return the share of each factor's affine estimate that stays, (F,), if PC k keeps the correlation rho_k (r,).

        NaN for a factor with R_f^2 below .05.
        """
        whole = self._explained(torch.ones_like(rho))
        return torch.where(self.r2() >= READABLE, self._explained(rho) / whole, torch.nan)

    def _explained(self, weights: Tensor) -> Tensor:
        lam = self.gaussian.lam
        safe = torch.where(lam > 1e-9 * lam.max(), lam, torch.inf)[: len(weights), None]
        first = slice(len(weights))
        parts = weights[:, None] * self.one[first] * self.other[first] / safe
        return per_factor(parts.sum(0), columns(self.factors))

    def alone(self, factor: str, *, blur: float = BLUR) -> Tensor:
        """Return orthonormal whitened directions (D, b) that tell a factor, and none of the others.

        The weights are those of the picture seen through noise of size ``blur``, lam^{1/2} / (lam + blur^2) U^T Cov.
        """
        lam = self.gaussian.lam
        w = (lam.sqrt() / (lam + blur**2))[:, None] * self.covariance
        w = w / w.norm(dim=0).clamp(min=1e-12)
        mine = torch.zeros(w.shape[1], dtype=torch.bool)
        mine[self.columns(factor)] = True
        others = _span(w[:, ~mine])
        return self.gaussian.U @ _span(w[:, mine] - others @ (others.T @ w[:, mine]))


def _span(columns: Tensor, tolerance: float = 1e-6) -> Tensor:
    """An orthonormal basis of the span of columns of length up to 1: the kinds of a factor sum to 1, so one is idle."""
    left, size, _ = torch.linalg.svd(columns, full_matrices=False)
    return left[:, size > tolerance]


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


def strongest(gaussian: Gaussian, covariance: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the unit direction (*shape) of the noise that moves a factor most, and the pattern (kinds,) it moves by.

    ``covariance`` (pcs, kinds): of the leading PCs with each of its columns. The direction moves the estimates of all
    kinds most, the sum of squares counted: the first left singular vector of Sigma^{-1/2} U^T Cov. The last kind, or
    the value, grows along it.
    """
    pcs = len(covariance)
    weights = covariance.T.double() / gaussian.lam[:pcs].double().cpu().sqrt()
    direction = torch.linalg.svd(weights, full_matrices=False)[2][0]
    pattern = weights @ direction
    sign = -1.0 if float(pattern[-1]) < 0 else 1.0
    return sign * (gaussian.U[:, :pcs].double().cpu() @ direction).reshape(*shape), sign * pattern


def knob_of_each(facts: Facts, shape: Sequence[int], *, pcs: int = PCS) -> list[Knob]:
    """Return the knob of each factor; of one factor alone, the knob of each of its kinds."""
    alone = len(facts.factors) == 1 and bool(facts.factors[0].kinds)
    names = list(facts.factors[0].kinds) if alone else [f.name for f in facts.factors]
    sizes = [1] * len(names) if alone else columns(facts.factors)
    found, first = [], 0
    for i, (name, size) in enumerate(zip(names, sizes)):
        part = slice(first, first + size)
        direction, pattern = strongest(facts.gaussian, facts.covariance[:pcs, part], shape)
        found.append(Knob(name, 0 if alone else i, part, direction, pattern))
        first += size
    return found


def stored(record: Mapping[str, Any], gaussian: Gaussian, shape: Sequence[int]) -> dict[str, Tensor]:
    """Return name -> direction (*shape) of the knobs of a results file, without the data they were made of.

    ``record``: its ``knobs``, see :func:`atelier.manifold.record.measure`.
    """
    rows, sizes = torch.tensor(record["coordinates"], dtype=torch.float64), record["sizes"]
    return {name: strongest(gaussian, part.T, shape)[0] for name, part in zip(record["names"], rows.split(sizes))}


def judged(ruler: Ruler, made: Sequence[Knob], answers: Tensor) -> dict[str, Tensor]:
    """Return what n knobs did to what they name, from the ruler's ``answers`` (n, steps, m) along their walks.

    ``named`` (n,): change of the named factor, or kind; ``hit`` (n,): whether nothing else changed as much; ``right``
    (n,): whether it moved the way the theory says. A kind is compared with the other kinds of its factor.
    """
    before, after = answers[:, 0], answers[:, -1]
    if len(ruler.factors) == 1 and len(made) > 1:
        change, at = after - before, torch.tensor([k.columns.start for k in made])
    else:
        change, at = ruler.change(before, after), torch.tensor([k.factor for k in made])
    right = torch.cat([k.right(a[None], b[None]) for k, a, b in zip(made, before, after)])
    return {"named": change.gather(1, at[:, None])[:, 0], "hit": change.argmax(1) == at, "right": right}


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

    Keys. ``seeds``, ``level`` (sigma/alpha), ``factors`` (F,); ``change`` (F, F): row = knob, column = factor, means
    over seeds in units of unrelated pictures; ``own``, ``others`` (F intervals): change of the knob's own factor, and
    the mean of all others'; ``right`` (F,): 1 where the knob's own factor changed most; ``null`` (F,): change of each
    factor when two random directions of the first PCs are turned instead. ``None`` without a reader, data, or with a
    single factor.
    """
    ruler = Ruler.of(subject, settings.pick(ci=60, book=400, full=400))
    if ruler is None or len(ruler.factors) < 2 or subject.kind == "mean":
        return None
    latent = 1 if subject.image_size == subject.shape[-1] else 2  # encoding is dear
    facts = Facts.of(subject, ruler.factors, settings.pick(ci=400, book=6000, full=20_000) // latent)
    if facts is None:
        return None
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

    before = said(x)
    change = torch.stack([changed(facts.alone(name)) for name in ruler.names])  # (knob, n, factor)
    F = len(change)
    own = change.diagonal(dim1=0, dim2=2).T
    others = torch.where(torch.eye(F, dtype=torch.bool)[:, None], 0.0, change).sum(-1) / (F - 1)
    return {
        "seeds": len(seeds),
        "level": float(levels.ratio[start]),
        "factors": ruler.names,
        "change": short(change.mean(1)),
        "null": short(changed(_random(g)).mean(0)),
        "right": (change.mean(1).argmax(1) == torch.arange(F)).int().tolist(),
        "own": [mean(row).record() for row in own],
        "others": [mean(row).record() for row in others],
    }


def _random(gaussian: Gaussian, b: int = 2, first: int = 40) -> Tensor:
    """Random orthonormal directions (D, b) among the first PCs."""
    k = min(first, len(gaussian.lam))
    mixed = torch.randn(k, b, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(gaussian.U[:, :k] @ mixed.to(gaussian.U)).Q
