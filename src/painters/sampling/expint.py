"""The theory-guided exponential integrator: exact flow of a surrogate, corrected by what the network says beyond it.

In units of s = sigma/alpha and along the eigenvector of variance lam of a Gaussian, with z the deviation from its mean
and w = lam/(lam + s^2), a network's endpoint estimate is d = w z + (1 - w) g. The first term is the Gaussian's own. The
second defines g, what the network says beyond it, which changes slowly; and the PF-ODE becomes

    dy/dlog s = -s^2 (lam + s^2)^(-3/2) g,        y = z / (lam + s^2)^(1/2),

a slow g against a weight that is known. With lam = 0 it is DDIM's equation, dx/dlog s = x - x0_hat. The name says
exponential integrator, since "guided" already means classifier-free guidance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from painters.denoiser import Denoiser, Scalar
from painters.levels import Level, Levels
from painters.sampling.solvers import NEAR_PURE_NOISE, Ask, Step, Steps, drive, heun, pairs
from painters.theory.gaussian import Gaussian, variance

POINTS, WEIGHTS = np.polynomial.legendre.leggauss(48)
FINE = 0.05
"""The longest Heun step, in ln s, in which a surrogate without a closed flow is followed: a run errs by some 1e-4."""
NEARLY_CLEAN = 1e-3
"""Such a surrogate is followed down to this share of the last s before one step goes into s = 0."""

Seen = tuple[float, Tensor]
"""Where the network was asked, as s = sigma/alpha, and x0_hat minus the surrogate's, (B, ...)."""

DEPTH = 3
"""How many of the last values are kept for what a plan adds."""


class Place(NamedTuple):
    """Where a step is made: the state that was asked about, its correction, and what was seen up to here."""

    x: Tensor
    change: Tensor
    seen: Sequence[Seen]
    here: Level
    there: Level


Fitted = Callable[[Place, Tensor], Tensor]
"""``fitted(place, moved)``: what is added to the state that a step reached."""


def expint(
    x: Tensor,
    levels: Levels,
    seeds: Sequence[int] | None = None,
    *,
    surrogate: Gaussian | Denoiser | None = None,
    order: int = 2,
    corrector: int = 2,
    floor: float = 0.0,
    fitted: Fitted | None = None,
) -> Steps:
    """Yield steps of the exponential integrator around an analytic denoiser. Order ``order``, NFE = N.

    Between two levels g is the polynomial in ln s through its last ``order`` values. When the next value is known the
    step is done once more with it, through ``corrector`` values, at no further call (0: never). The first step and a
    step into sigma = 0 are first order. ``surrogate``: the Gaussian of the data, for which every step is in closed form
    at two thin products; or any analytic denoiser, whose own flow is followed in small steps that ask no network, with
    x0_hat minus the surrogate in the place of g. Without one it is the network's own multistep method, whose first
    order is DDIM; an isotropic Gaussian makes EDM's preconditioning of it. ``floor``: the s at which the image is read,
    as the x0_hat foretold there; with that of the cleanest training level, ``schedule.ends[1]``, runs end where those
    of other solvers do, who ask there and take the answer. With 0 the surrogate's flow goes on to s = 0. ``fitted``:
    what a calibrated :class:`~painters.sampling.plan.Plan` adds to each step. Raises ``ValueError`` when run from clean
    to noisy. Source: the exponential integrators of DPM-Solver++, UniPC and DEIS with lam = 0; the rest is derived
    here.
    """
    if order < 1 or corrector < 0:
        raise ValueError(f"expint has order 1 or more and corrector 0 or more, got {order} and {corrector}")
    if surrogate is None:
        surrogate = Gaussian.of(torch.zeros(x[0].numel()), 0.0)
    if isinstance(surrogate, Gaussian):
        surrogate = beside(surrogate, x)
        follow: Callable[..., Tensor] = partial(_around_gaussian, surrogate, floor)
    else:
        follow = partial(_around, surrogate, floor)
    seen: list[Seen] = []
    before: tuple[Tensor, Level, Tensor] | None = None
    for here, there in pairs(levels):
        if here[1] * there[0] <= there[1] * here[0]:
            raise ValueError("expint runs from noisy to clean only: use ddim or heun to invert")
        x0 = yield Ask(x, here)
        seen = [*seen, (_ratio(here), x0 - surrogate(x, *here))][-max(order, corrector, DEPTH) :]
        change = torch.zeros_like(x)
        if before is not None and corrector:
            start, level, end = before
            change = follow(start, level, here, seen[-corrector:]) - end
        # what is added is the change of the step, so that a kick given at its end stays
        moved = follow(x + change, here, there, seen[-order:])
        if fitted is not None:
            moved = moved + fitted(Place(x, change, seen, here, there), moved)
        before = (x + change, here, moved)
        x = yield Step(x0, moved)


def beside(gaussian: Gaussian, x: Tensor) -> Gaussian:
    """Return a Gaussian where ``x`` is, in float64, which costs nothing beside a network, where the device has it."""
    return gaussian.to(x.device, torch.float32 if x.device.type == "mps" else torch.float64)


def weights(lam: Tensor, s0: float, s1: float, nodes: Sequence[float]) -> Tensor:
    """Return what each value g(s_j) adds to z in a step from ``s0`` down to ``s1``: (len(nodes), *lam.shape), float64.

    (lam + s1^2)^(1/2) int_{ln s1}^{ln s0} s^2 (lam + s^2)^(-3/2) L_j(ln s) dln s, with L_j the Lagrange polynomials of
    ``nodes``. One node has a closed form, 1 - ((lam + s1^2)/(lam + s0^2))^(1/2), also for s0 infinite and s1 = 0;
    several are integrated by 48-point Gauss-Legendre quadrature and need finite, positive ends.
    """
    lam = lam.double().cpu()
    if len(nodes) == 1:
        end, start = lam + s1**2, lam + s0**2
        return 1 - torch.where(end > 0, (end / start).sqrt(), 0.0)[None]
    half = math.log(s0 / s1) / 2
    log_s = torch.from_numpy(math.log(s1) + half * (1 + POINTS))
    v = lam[..., None] + torch.exp(2 * log_s)
    weight = half * torch.from_numpy(WEIGHTS) * torch.exp(2 * log_s) * (lam[..., None] + s1**2).sqrt() / v**1.5
    return torch.stack([(weight * part).sum(-1) for part in lagrange(log_s, [math.log(s) for s in nodes])])


def lagrange(t: Tensor, nodes: Sequence[float]) -> list[Tensor]:
    """Return the Lagrange polynomials of ``nodes`` at ``t``, each of the shape of ``t``."""
    return [torch.stack([torch.ones_like(t), *((t - b) / (a - b) for b in nodes if b != a)]).prod(0) for a in nodes]


def _ratio(level: Level) -> float:
    return level[1] / level[0] if level[0] > NEAR_PURE_NOISE else math.inf


def _usable(seen: Sequence[Seen], there: Level) -> Sequence[Seen]:
    """The values that a polynomial in ln s goes through: one into s = 0, and none at pure noise beside others."""
    return seen[-1:] if there[1] == 0 else [one for one in seen if math.isfinite(one[0])] or seen[-1:]


def _around_gaussian(g: Gaussian, floor: float, x: Tensor, here: Level, there: Level, seen: Sequence[Seen]) -> Tensor:
    """The state at ``there``: the exact flow, and the integral of what the network says beyond the Gaussian."""
    seen = _usable(seen, there)
    nodes, s0 = [s for s, _ in seen], _ratio(here)
    if there[1] == 0:
        centred = x - here[0] * g.mu.to(x).reshape(x.shape[1:])
        (s, beyond) = seen[0]
        moved = g.apply(centred, lambda lam: kept(lam, floor) * ((lam + floor**2) / variance(lam, here)).sqrt())
        moved = moved + g.apply(beyond, lambda lam: (1 - kept(lam, floor, s0)) * (1 + lam / s**2))
        return there[0] * (g.mu.to(x).reshape(x.shape[1:]) + moved)
    moved = g.flow(x, frm=here, to=there)
    for j, (s, beyond) in enumerate(seen):

        def gain(lam: Tensor, j: int = j, s: float = s) -> Tensor:
            return weights(lam, s0, _ratio(there), nodes)[j].to(lam) * (1 + lam / s**2)  # g of the difference

        moved = moved + there[0] * g.apply(beyond, gain)
    return moved


def kept(lam: Tensor, floor: float, s: float | None = None) -> Tensor:
    """Return what an image keeps of z: w at ``floor``, times what the flow from ``s`` down to it keeps."""
    end = lam + floor**2
    w = torch.where(end > 0, lam / end.clamp(min=torch.finfo(lam.dtype).tiny), 0.0)
    return w if s is None else w * (end / (lam + s**2)).sqrt()


def _around(surrogate: Denoiser, floor: float, x: Tensor, here: Level, there: Level, seen: Sequence[Seen]) -> Tensor:
    """The state at ``there``, the flow of surrogate plus polynomial followed in steps that cost no network call."""
    seen = _usable(seen, there)
    nodes = [math.log(s) for s, _ in seen]

    def denoise(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        at = lagrange(torch.as_tensor(math.log(sigma / alpha) if len(seen) > 1 else 0.0), nodes)
        return surrogate(x, alpha, sigma) + sum(
            float(share) * beyond for share, (_, beyond) in zip(at, seen, strict=True)
        )

    high, low = _ratio(here), _ratio(there)
    top, bottom = min(high, max(low, 1.0) / NEARLY_CLEAN), max(low, floor, min(high, 1.0) * NEARLY_CLEAN)
    points = max(2, math.ceil(math.log(top / bottom) / FINE) + 1)
    inner = torch.logspace(math.log10(top), math.log10(bottom), points, dtype=torch.float64).tolist()
    ratio = [s for s in inner if low * (1 + 1e-9) < s < high * (1 - 1e-9)]  # the ends come exact
    path = [here, *((1 / math.hypot(1, s), s / math.hypot(1, s)) for s in ratio), there]
    a, b = (torch.tensor([level[i] for level in path], dtype=torch.float64) for i in (0, 1))
    *_, last = drive(heun, denoise, x, Levels(a, b), None)
    return last.x
