"""Walks: turn the noise along directions without leaving its shell, paint, and see how far the image moved.

Noise of D dimensions lies close to the sphere of radius sqrt(D), so a straight step leaves what a sampler has ever
seen; a walk follows great circles instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from atelier.scoring import distance
from atelier.subject import Subject
from painters.denoiser import Denoiser
from painters.levels import Levels
from painters.sampling import paint_on
from painters.theory.gaussian import Gaussian

Walk = Callable[[Tensor], Tensor]
"""Angles (k, n) in radians -> images (k, n, ...) of k walks of n steps."""
TARGET = 0.5
"""The ends of every walk are so far apart, 1 for two unrelated images."""


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


def painted(denoise: Denoiser, states: Tensor, levels: Levels, *, batch: int = 50) -> Tensor:
    """Return the images (k, n, ...) that ``states`` (k, n, ...) at the first of ``levels`` lead to, float32."""
    parts = states.flatten(0, 1).float().split(batch)
    return torch.cat([paint_on(denoise, x, levels, start=0, solver="dpmpp2m") for x in parts]).reshape(states.shape)


def matched(
    walk: Walk,
    gaussian: Gaussian,
    k: int,
    *,
    target: float = TARGET,
    most: float = 1.4,
    rounds: int = 3,
    begin: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the angles (k,) at which both ends of each of k walks are ``target`` apart, and these ends (k, 2, ...).

    So that directions are compared at an equal change of the image, 1 as for unrelated ones. For a linear map the
    distance of the ends grows as the sine of the angle, so the sine is scaled by target/distance ``rounds`` times, from
    ``begin`` (k,), and the best angles that were tried come back. An angle is at most ``most``, also where that is too
    short: short of a right angle, where the ends are opposite and the sine grows no more.
    """
    angles, tried = torch.full((k,), most / 4, dtype=torch.float64) if begin is None else begin.double(), []
    for _ in range(rounds + 1):
        ends = walk(torch.stack([-angles, angles], 1))
        apart = distance(gaussian, ends[:, 0], ends[:, 1]).clamp(min=1e-12)
        tried.append(((apart / target).log().abs(), angles, ends))
        angles = (angles.sin() * target / apart).clamp(max=math.sin(most)).asin()
    # a network's map is not linear: a step may overshoot, so the last angles need not be the best
    miss, angles, ends = (torch.stack(part) for part in zip(*tried))
    best = miss.argmin(0), torch.arange(k)
    return angles[best], ends[best]


def walked(subject: Subject, x: Tensor, rows: Tensor, levels: Levels, *, rounds: int = 2) -> tuple[Tensor, Tensor]:
    """Return angles (n,) and ends (n, 2, ...) of walks in noise from ``x`` (...) along ``rows`` (n, ...), TARGET apart.

    The search for the angles begins at those of the exact Gaussian, which cost no call of the network.
    """
    g = subject.gaussian

    def exact(angles: Tensor) -> Tensor:
        points = line(x, rows, angles)
        return g.flow(points.flatten(0, 1), frm=levels[0]).reshape(points.shape)

    def images(angles: Tensor) -> Tensor:
        return painted(subject.denoise, line(x, rows, angles), levels)

    guess = matched(exact, g, len(rows), rounds=8)[0]
    return matched(images, g, len(rows), rounds=rounds, begin=guess)
