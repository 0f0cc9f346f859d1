"""The ways of varying a picture that are compared, each with its knob, and with its law in the exact Gaussian world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atelier.subject import Subject
from atelier.variations.holding import held
from atelier.variations.pareto import Method
from atelier.variations.resampling import (
    Keep,
    informative,
    mix,
    renoise,
    repaint,
    resample,
    standing,
    without,
)
from painters.levels import Levels
from painters.sampling import noise, solve
from painters.trajectory import Frames, Trajectory

FRESH = 2**28
"""Added to a seed for its fresh noise: another stream than the image's own."""
SHARES = {"state": 0.5, "state_more": 0.1, "state_less": 0.9}
"""A PC is kept if the endpoint estimate holds this share of its variance: the theory's half, more PCs, fewer PCs."""
TURNED_AT = {"turned": 0.75, "turned_late": 0.25}
"""Noise level sigma/alpha near which the details are turned by a growing angle."""
BLUR = 0.1
"""The noise through which a finished picture is seen where it is edited without a network."""


def changed_at(levels: Levels, *, low: float = 0.2, high: float = 8.0, most: int = 7) -> list[int]:
    """Return at which of ``levels`` states are changed: ``most`` of those from ``low`` to ``high``, clean first."""
    ratio = levels.ratio.tolist()
    inside = [i for i in range(levels.steps - 1, 0, -1) if low <= ratio[i] <= high]
    picks = torch.linspace(0, len(inside) - 1, min(most, len(inside))).round().int().tolist()
    return [inside[j] for j in picks]


@dataclass(frozen=True, eq=False)
class Ways:
    """The ways of varying the pictures of one ``run`` that kept all its frames.

    ``at``: indices of the levels at which states are changed, clean first. ``outline`` and ``detail`` (D, m):
    covariance of the states with the factors of each band, for the ways that keep or change these. Fresh noise belongs
    to the seeds of the run.
    """

    subject: Subject
    run: Trajectory
    at: Sequence[int]
    outline: Tensor | None = None
    detail: Tensor | None = None
    solver: str = "dpmpp2m"
    strengths: int = 6
    again: tuple[int, ...] = field(init=False)
    fresh: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        seeds = self.run.seeds or tuple(range(self.run.x.shape[1]))
        object.__setattr__(self, "again", tuple(seed + FRESH for seed in seeds))
        object.__setattr__(self, "fresh", noise(self.again, self.subject.shape))

    def every(self) -> list[Method]:
        """Return all ways, those that keep named factors only if there are any."""
        found = [self.noise(), *(self.state(name, share) for name, share in SHARES.items()), self.details()]
        found += [self.renoise(), self.ancestral(), self.mix()]
        if self.outline is None or self.detail is None:
            return found
        return [
            *found,
            self.factors(),
            self.factors_state(),
            self.targeted(),
            *map(self.turned, TURNED_AT),
            self.edited(),
        ]

    def noise(self) -> Method:
        """New starting noise outside the first k PCs."""
        top = math.log10(len(self._lam) / 1.5)
        pcs = sorted({round(k) for k in torch.logspace(0, top, self.strengths).tolist()}, reverse=True)
        return self._selective("noise", "noise", [0] * len(pcs), pcs, knob="pcs")

    def state(self, name: str = "state", share: float = 0.5) -> Method:
        """New noise for the PCs that do not stand yet, at each level."""
        return self._selective(name, "state", self.at, self._standing(self.at, share))

    def details(self) -> Method:
        """New noise for the PCs that stand, at each level: the reverse."""
        places = self.at[::-1]
        return self._selective("details", "details", places, self._standing(places))

    def renoise(self) -> Method:
        """The finished picture noised to each level, and painted again."""

        def paint(j: int) -> Tensor:
            return self._on(renoise(self.run.final, self.fresh, self.run.levels[self.at[j]]), self.at[j])

        rho = torch.stack([held(self._lam, "renoise", level=self.run.levels[i]) for i in self.at])
        return Method("renoise", "level", self._sizes(self.at), self._sizes(self.at), paint, rho)

    def ancestral(self) -> Method:
        """The seed's own state at each level, painted on with fresh noise at every step."""

        def paint(j: int) -> Tensor:
            return self._on(self.run.x[self.at[j]], self.at[j], "ancestral")

        rho = torch.stack([held(self._lam, "ancestral", level=self.run.levels[i]) for i in self.at])
        return Method("ancestral", "level", self._sizes(self.at), self._sizes(self.at), paint, rho)

    def mix(self) -> Method:
        """Starting noise turned by an angle towards other noise."""
        angles = [math.pi / 2 * t for t in (0.1, 0.25, 0.5, 0.75)][-self.strengths :]

        def paint(j: int) -> Tensor:
            return self._on(mix(self.run.x[0], self.run.levels.start(self.fresh), angles[j]), 0)

        rho = torch.stack([held(self._lam, "mix", angle=a) for a in angles])
        return Method("mix", "angle", angles, self._sizes([0] * len(angles)), paint, rho)

    def factors(self) -> Method:
        """New starting noise but for what tells the outline's factors, and for some PCs."""
        half = len(self._lam) // 2
        pcs = sorted({min(k, half) for k in (64, 16, 0)[-self.strengths :]}, reverse=True)
        return self._informed("factors", [0] * len(pcs), pcs, knob="pcs")

    def factors_state(self) -> Method:
        """The same at each level, with the PCs that stand."""
        return self._informed("factors_state", self.at, self._standing(self.at))

    def targeted(self) -> Method:
        """New noise at each level for the PCs that do not stand, and for what tells details and not the outline."""
        return self._turning("targeted", self.at, [math.pi / 2] * len(self.at), "level")

    def turned(self, name: str = "turned") -> Method:
        """The same at one level, what tells the details being turned: kept at 0, drawn anew at pi/2, mirrored at pi."""
        ratio = self.run.levels.ratio
        place = min(range(1, self.run.levels.steps), key=lambda i: abs(float(ratio[i]) - TURNED_AT[name]))
        return self._turning(name, [place] * len(self._angles), self._angles, "angle")

    def edited(self) -> Method:
        """What tells the details turned in the finished picture, by no network: what painting on has to beat."""
        g = self.subject.gaussian
        B = self._telling()
        rest, along = without(g.U, B), g.U.T @ B
        level, angles = (1.0, BLUR), self._angles[1:]

        def paint(j: int) -> Tensor:
            new = resample(g, self.run.final, self.fresh, level, rest, turned=B, angle=angles[j])
            return self.run.final + self._inside(new) - self._inside(self.run.final)

        responses = [torch.eye(len(g.lam)).to(along) + (math.cos(a) - 1) * along @ along.T for a in angles]
        rho = torch.stack([torch.cat([r.diagonal(), r.new_ones(1)]) for r in responses]).double().cpu()
        cpu = [response.double().cpu() for response in responses]
        return Method("edited", "angle", angles, [BLUR] * len(angles), paint, rho, None, cpu)

    @property
    def _lam(self) -> Tensor:
        """The variances, that of the remainder last."""
        g = self.subject.gaussian
        return torch.cat([g.lam, g.lam.new_tensor([g.rest])]).double().cpu()

    @property
    def _angles(self) -> list[float]:
        return [math.pi * t for t in (0, 0.25, 0.5, 0.75, 1)][-self.strengths :]

    def _telling(self) -> Tensor:
        """What tells the details and not the outline."""
        assert self.outline is not None and self.detail is not None
        g = self.subject.gaussian
        return informative(g, self.detail, besides=informative(g, self.outline))

    def _inside(self, x: Tensor) -> Tensor:
        """The part of states within the PCs."""
        U = self.subject.gaussian.U.to(x)
        return ((x.flatten(1) @ U) @ U.T).reshape(x.shape)

    def _standing(self, places: Sequence[int], share: float = 0.5) -> list[int]:
        return [standing(self.subject.gaussian, self.run.levels[i], share=share) for i in places]

    def _sizes(self, places: Sequence[int]) -> list[float]:
        return [float(self.run.levels.ratio[i]) for i in places]

    def _on(self, x: Tensor, start: int, solver: str | None = None) -> Tensor:
        return solve(
            self.subject.denoise,
            x,
            self.run.levels,
            solver=solver or self.solver,
            start=start,
            save=Frames(None),
            seeds=self.again,
            progress=False,
        ).final

    def _selective(
        self, name: str, law: str, places: Sequence[int], pcs: Sequence[int], *, knob: str = "level"
    ) -> Method:
        g, levels = self.subject.gaussian, self.run.levels
        keep: Keep = "details" if law == "details" else "outline"

        def paint(j: int) -> Tensor:
            i = places[j]
            return self._on(repaint(g, self.run.x[i], self.fresh, levels[i], keep=keep, pcs=pcs[j]), i)

        sizes = self._sizes(places)
        rho = torch.stack([held(self._lam, law, pcs=k) for k in pcs])
        return Method(name, knob, pcs if knob == "pcs" else sizes, sizes, paint, rho, pcs)

    def _informed(self, name: str, places: Sequence[int], pcs: Sequence[int], *, knob: str = "level") -> Method:
        g = self.subject.gaussian
        assert self.outline is not None
        bases = [informative(g, self.outline, pcs=k) for k in pcs]
        inside = [g.U.T @ basis for basis in bases]
        shape = pcs if knob == "pcs" else self._sizes(places)
        return self._resampled(name, knob, shape, places, pcs, bases, [b @ b.T for b in inside])

    def _turning(self, name: str, places: Sequence[int], angles: Sequence[float], knob: str) -> Method:
        g = self.subject.gaussian
        B = self._telling()
        pcs = self._standing(places)
        bases = [without(g.U[:, :k], B) for k in pcs]
        inside, along = [g.U.T @ basis for basis in bases], g.U.T @ B
        responses = [b @ b.T + math.cos(a) * along @ along.T for b, a in zip(inside, angles)]
        shape = angles if knob == "angle" else self._sizes(places)
        return self._resampled(name, knob, shape, places, pcs, bases, responses, B, angles)

    def _resampled(
        self,
        name: str,
        knob: str,
        strength: Sequence[float],
        places: Sequence[int],
        pcs: Sequence[int],
        bases: Sequence[Tensor],
        responses: Sequence[Tensor],
        turned: Tensor | None = None,
        angles: Sequence[float] = (),
    ) -> Method:
        g, levels = self.subject.gaussian, self.run.levels

        def paint(j: int) -> Tensor:
            i, angle = places[j], angles[j] if angles else math.pi / 2
            state = resample(g, self.run.x[i], self.fresh, levels[i], bases[j], turned=turned, angle=angle)
            return self._on(state, i)

        diagonal = torch.stack([response.diagonal() for response in responses]).double().cpu()
        rho = torch.cat([diagonal, diagonal.new_zeros(len(responses), 1)], 1)
        cpu = [response.double().cpu() for response in responses]
        return Method(name, knob, strength, self._sizes(places), paint, rho, pcs, cpu)
