"""Walks: turn a state along directions without leaving the shell of noise, paint, and see what the steps change.

Noise of D dimensions lies close to the sphere of radius sqrt(D), so a straight step leaves what a sampler has ever
seen; a walk follows great circles instead. At a later level the states lie close to an ellipsoid, on which
V^{-1/2} (x - alpha mu) has the length sqrt(D), with V = alpha^2 Sigma + sigma^2 I the covariance of the noisy data. Its
image under x -> V^{-1/2} (x - alpha mu) is the sphere again, and that map is the exact flow of the Gaussian back to
noise. So one construction serves every level, and on a Gaussian a walk paints the same images at each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atelier.scoring import Ruler, distance, linearity, purity
from atelier.statistics import short
from atelier.subject import Settings
from painters.denoiser import Denoiser
from painters.levels import NOISE, Level, Levels
from painters.sampling import paint_on
from painters.theory.gaussian import Gaussian

Walk = Callable[[Tensor], Tensor]
"""Angles (k, n) in radians -> images (k, n, ...) of k walks of n steps."""
TARGET = 0.5
"""The ends of every walk are so far apart, 1 for two unrelated images."""
RANGE = 2.0
"""A coordinate is set from so many standard deviations of the noise below its mean to as many above."""


def shell(x: Tensor, tangents: Tensor) -> Tensor:
    """Return the points (n, ...) of the sphere |x| = const that ``tangents`` (n, ...) lead to from ``x`` (...).

    x cos a + |x| sin a t/a with the angle a = |t| in radians, after each t was made orthogonal to x: the exponential
    map of the sphere, a great circle for parallel tangents. float64.
    """
    point, flat = x.double().flatten(), tangents.double().flatten(1)
    radius = point.norm()
    flat = flat - (flat @ point)[:, None] * point / radius**2
    angle = flat.norm(dim=1, keepdim=True)
    return (point * angle.cos() + radius * flat * torch.sinc(angle / math.pi)).reshape(tangents.shape)


def tangent(x: Tensor, directions: Tensor) -> Tensor:
    """Return ``directions`` (k, ...) without their part along ``x`` (...), of unit length, float64."""
    point, flat = x.double().flatten(), directions.double().flatten(1)
    flat = flat - (flat @ point)[:, None] * point / point.square().sum()
    return torch.nn.functional.normalize(flat, dim=1).reshape(directions.shape)


def line(x: Tensor, directions: Tensor, angles: Tensor) -> Tensor:
    """Return k great circles through ``x`` (...) along ``directions`` (k, ...), at ``angles`` (n,) or (k, n).

    (k, n, ...), float64. Each direction is made orthogonal to x and of unit length, so that angles are radians.
    """
    units = tangent(x, directions)
    steps = angles.double().expand(len(units), -1)
    return torch.stack([shell(x, a.reshape(-1, *(1,) * x.ndim) * u) for a, u in zip(steps, units)])


def dial(x: Tensor, directions: Tensor, values: Tensor) -> Tensor:
    """Return the points (k, n, ...) of the sphere through ``x`` (...) whose coordinates along ``directions`` are set.

    r w + c u with c one of ``values`` (n,), u a unit direction (k, ...), w the unit direction of what x has besides u,
    and r^2 + c^2 = |x|^2. In noise a coordinate has the standard deviation 1. Raises ``ValueError`` for a value beyond
    |x|. float64.
    """
    point, settings = x.double().flatten(), values.double()[:, None]
    radius = point.norm()
    if float(settings.abs().max()) > float(radius):
        raise ValueError(f"no coordinate of a state of length {float(radius):.3g} can be {float(settings.abs().max())}")
    rows = []
    for u in directions.double().flatten(1):
        besides = point - (point @ u) * u
        rows.append((radius**2 - settings**2).sqrt() * besides / besides.norm() + settings * u)
    return torch.stack(rows).reshape(len(directions), len(values), *x.shape)


def at_level(gaussian: Gaussian, x: Tensor, level: Level, directions: Tensor, angles: Tensor) -> Tensor:
    """Return walks (k, n, ...) from the state ``x`` (...) at ``level`` along ``directions`` (k, ...) of that space.

    The Gaussian's flow takes state and directions to noise, z = V^{-1/2} (x - alpha mu), where the walk is that of
    :func:`line`, and takes its points back: |z| is kept. At (0, 1) it is that of :func:`line`. float64.
    """
    if level[1] == 0:
        raise ValueError("a clean image has no shell of noise: take a noisy level, or a straight step")
    back = gaussian.to("cpu", torch.float64)
    noisy = back.flow(torch.cat([x[None], x + directions]).double().cpu(), frm=level, to=NOISE)
    points = line(noisy[0], noisy[1:] - noisy[0], angles)
    return back.flow(points.flatten(0, 1), frm=NOISE, to=level).reshape(points.shape)


def painted(denoise: Denoiser, states: Tensor, levels: Levels, *, start: int = 0, batch: int = 50) -> Tensor:
    """Return the images (k, n, ...) that ``states`` (k, n, ...) at level ``start`` lead to, float32."""
    parts = states.flatten(0, 1).float().split(batch)
    return torch.cat([paint_on(denoise, x, levels, start=start, solver="dpmpp2m") for x in parts]).reshape(states.shape)


def matched(
    walk: Walk,
    gaussian: Gaussian,
    k: int,
    *,
    target: float = TARGET,
    most: float = 1.4,
    rounds: int = 3,
    begin: Tensor | None = None,
) -> Tensor:
    """Return the angles (k,) at which both ends of each of k walks are ``target`` apart, 1 as for unrelated images.

    So that directions are compared at an equal change of the image. For a linear map the distance of the ends grows as
    the sine of the angle, so the sine is scaled by target/distance ``rounds`` times, from ``begin`` (k,), and the best
    angles that were tried come back. An angle is at most ``most``, also where that is too short: short of a right
    angle, where the ends are opposite and the sine grows no more.
    """
    angles = torch.full((k,), most / 4, dtype=torch.float64) if begin is None else begin.double()
    best, closest = angles, torch.full((k,), math.inf, dtype=torch.float64)
    for _ in range(rounds + 1):
        ends = walk(torch.stack([-angles, angles], 1))
        apart = distance(gaussian, ends[:, 0], ends[:, 1]).clamp(min=1e-12)
        miss = (apart / target).log().abs()
        # a network's map is not linear: a step may overshoot, so the last angles need not be the best
        best, closest = torch.where(miss < closest, angles, best), torch.minimum(miss, closest)
        angles = (angles.sin() * target / apart).clamp(max=math.sin(most)).asin()
    return best


@dataclass(frozen=True, eq=False)
class Score:
    """What k walks change from their first image to their last.

    ``answers`` (k, n, m): those of the ruler to all images. ``distance`` (k,): 1 as for unrelated images. ``change``
    (k, F): of each factor, 1 likewise. ``factor`` (k,): the index of the factor that changes most, ``purity`` (k,) its
    share of all change, and ``linearity`` (k,) how evenly it does so along the walk.
    """

    answers: Tensor
    distance: Tensor
    change: Tensor
    factor: Tensor
    purity: Tensor
    linearity: Tensor

    def part(self, at: slice) -> Score:
        """Return the score of some of the walks."""
        return Score(**{key: value[at] for key, value in vars(self).items()})

    def record(self) -> dict[str, Any]:
        """Return the score as lists, without the answers."""
        found = {key: short(getattr(self, key)) for key in ("distance", "change", "purity", "linearity")}
        return found | {"factor": self.factor.tolist()}


def score(ruler: Ruler, images: Tensor, positions: Tensor) -> Score:
    """Score walks of ``images`` (k, n, ...) at ``positions`` (n,) with a ruler."""
    said = ruler.answers(images.flatten(0, 1)).reshape(*images.shape[:2], -1)
    change = ruler.change(said[:, 0], said[:, -1])
    top = change.argmax(1)
    even = [linearity(ruler.path(a, ruler.names[i]), positions) for a, i in zip(said, top.tolist())]
    apart = distance(ruler.subject.gaussian, images[:, 0], images[:, -1])
    return Score(said, apart, change, top, purity(change), torch.tensor(even, dtype=torch.float64))


def turned(
    ruler: Ruler, x: Tensor, rows: Tensor, levels: Levels, *, level: int | None = None, settings: Settings
) -> Score:
    """Walk from the state ``x`` (...) along ``rows`` (n, ...), in noise or at a level, until ends are TARGET apart."""
    subject, start = ruler.subject, level or 0
    g = subject.gaussian

    def states(angles: Tensor) -> Tensor:
        return line(x, rows, angles) if level is None else at_level(g, x, levels[start], rows, angles)

    def images(angles: Tensor) -> Tensor:
        return painted(subject.denoise, states(angles), levels, start=start)

    def exact(angles: Tensor) -> Tensor:
        points = states(angles)
        return g.flow(points.flatten(0, 1), frm=levels[start]).reshape(points.shape)

    # what the exact Gaussian needs costs no network call, and a network is rarely far from it
    guess = matched(exact, g, len(rows), rounds=8)
    angles = matched(images, g, len(rows), rounds=settings.pick(ci=1, book=2, full=3), begin=guess)
    at = _positions(settings)
    return score(ruler, images(angles[:, None] * at), at)


def dialled(ruler: Ruler, noises: Tensor, rows: Tensor, levels: Levels, *, settings: Settings) -> Score:
    """Set coordinates of the unit noise ``noises`` (...), those along ``rows`` (n, ...), from -RANGE to RANGE."""
    values = RANGE * _positions(settings)
    return score(ruler, painted(ruler.subject.denoise, levels.start(dial(noises, rows, values)), levels), values)


def stepped(ruler: Ruler, image: Tensor, rows: Tensor, *, settings: Settings) -> Score:
    """Step from an ``image`` (...) along unit ``rows`` (n, ...), with no diffusion, until the ends are TARGET apart."""
    size = TARGET * math.sqrt(2 * float(ruler.subject.gaussian.spectrum.sum())) / 2
    at = _positions(settings)
    images = image.double() + torch.einsum("n,k...->kn...", size * at, rows.double())
    return score(ruler, images.float(), at)


def _positions(settings: Settings) -> Tensor:
    return torch.linspace(-1, 1, settings.pick(ci=3, book=5, full=9), dtype=torch.float64)
