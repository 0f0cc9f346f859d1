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

from atelier.evidence.order import short
from atelier.scoring import Ruler, distance, linearity, purity
from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.sampling import solve
from painters.sampling.solvers import Solver
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

NOISE: Level = (0.0, 1.0)
Walk = Callable[[Tensor], Tensor]
"""Angles (k, n) in radians -> images (k, n, ...) of k walks of n steps."""


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


def plane(x: Tensor, a: Tensor, b: Tensor, angles: Tensor) -> Tensor:
    """Return a grid of the sphere around ``x`` (...), (n, n, ...): rows turn along ``a`` (...), columns along ``b``.

    ``b`` is made orthogonal to a. Both angles, in radians, are coordinates of the exponential map. float64.
    """
    first = tangent(x, a[None])[0]
    second = tangent(x, b[None])
    second = tangent(first, second)[0]
    grid = [[s * first + t * second for t in angles.tolist()] for s in angles.tolist()]
    return torch.stack([shell(x, torch.stack(row)) for row in grid])


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


def straight(image: Tensor, directions: Tensor, sizes: Tensor) -> Tensor:
    """Return image + size * direction, (k, n, ...), for unit ``directions`` (k, ...) and ``sizes`` (n,) or (k, n).

    The walk of an image itself, with no diffusion after it. float64.
    """
    steps = sizes.double().expand(len(directions), -1)
    return image.double() + torch.einsum("kn,k...->kn...", steps, directions.double())


def paint(
    denoise: Denoiser,
    states: Tensor,
    levels: Levels,
    *,
    start: int = 0,
    solver: str | Solver = "dpmpp2m",
    batch: int = 50,
) -> Tensor:
    """Return the images (k, n, ...) that ``states`` (k, n, ...) at level ``start`` lead to, float32."""
    parts = states.flatten(0, 1).float().split(batch)
    runs = [solve(denoise, x, levels, solver=solver, start=start, save=Frames(None), progress=False) for x in parts]
    return torch.cat([run.final for run in runs]).reshape(states.shape)


def matched(
    walk: Walk,
    gaussian: Gaussian,
    k: int,
    *,
    target: float = 0.5,
    most: float = 1.4,
    rounds: int = 3,
    begin: Tensor | None = None,
) -> Tensor:
    """Return the angles (k,) at which both ends of each of k walks are ``target`` apart, 1 as for unrelated images.

    So that directions are compared at an equal change of the image. For a linear map the distance of the ends grows as
    the sine of the angle, so the sine is scaled by target/distance ``rounds`` times, from ``begin`` (k,), and the best
    angles that were tried come back. An angle is at most ``most``, also where that is too short.
    """
    angles = torch.full((k,), most / 4, dtype=torch.float64) if begin is None else begin.double()
    best, closest = angles, torch.full((k,), math.inf, dtype=torch.float64)
    for _ in range(rounds + 1):
        ends = walk(torch.stack([-angles, angles], 1))
        apart = distance(gaussian, ends[:, 0], ends[:, 1]).clamp(min=1e-12)
        miss = (apart / target).log().abs()
        best, closest = torch.where(miss < closest, angles, best), torch.minimum(miss, closest)
        angles = (angles.sin() * target / apart).clamp(max=math.sin(most)).asin()
    return best


@dataclass(frozen=True, eq=False)
class Score:
    """What k walks change from their first image to their last.

    ``distance`` (k,): 1 as for unrelated images. ``change`` (k, F): of each factor, 1 likewise. ``factor`` (k,): the
    index of the factor that changes most, ``purity`` (k,) its share of all change, and ``linearity`` (k,) how evenly
    it does so along the walk.
    """

    distance: Tensor
    change: Tensor
    factor: Tensor
    purity: Tensor
    linearity: Tensor

    def record(self) -> dict[str, Any]:
        """Return the score as lists."""
        return {key: short(value) for key, value in vars(self).items() if key != "factor"} | {
            "factor": self.factor.tolist()
        }


def score(ruler: Ruler, images: Tensor, positions: Tensor, *, answers: Tensor | None = None) -> Score:
    """Score walks of ``images`` (k, n, ...) at ``positions`` (n,), or (k, n), with a ruler.

    ``answers`` (k, n, m): those of the ruler to the images, if they are at hand.
    """
    said = ruler.answers(images.flatten(0, 1)).reshape(*images.shape[:2], -1) if answers is None else answers
    change = ruler.change(said[:, 0], said[:, -1])
    top = change.argmax(1)
    steps = positions.expand(len(images), -1)
    even = [linearity(ruler.path(a, ruler.names[i]), t) for a, i, t in zip(said, top.tolist(), steps)]
    apart = distance(ruler.subject.gaussian, images[:, 0], images[:, -1])
    return Score(apart, change, top, purity(change), torch.tensor(even, dtype=torch.float64))
