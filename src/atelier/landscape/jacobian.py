"""The landscape of many modes: how often a kick changes the mode, and what a network's Jacobian says of a mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from atelier.landscape import classes
from atelier.subject import Settings, Subject
from painters.denoiser import Denoiser, Scalar
from painters.levels import Level
from painters.linalg import products, ritz
from painters.models.adapters import NetworkDenoiser
from painters.sampling import noise
from painters.theory.gaussian import variance

RATIOS = (20.0, 10.0, 5.0, 2.5, 1.2, 0.6, 0.3, 0.15)
"""Noise levels sigma/alpha at which the landscape is read."""

FRESH = 2**21
"""First seed of the noise on data, apart from the seeds of images."""


def flip_probability(m: Scalar, lam: Scalar, delta: Scalar, level: Level) -> Tensor:
    """Return how often a kick at ``level`` changes the mode in which the PF-ODE ends.

    P = P(-|delta| < z < 0), z half and half N(+-alpha m, v), v = alpha^2 lam + sigma^2: two equal modes at +-m with
    variance ``lam`` within, along whose axis the state is moved by ``delta``, in the coordinates of the level. The
    PF-ODE keeps the sign of z, so a kick flips the states that it carries over 0. Arguments broadcast; float64. For a
    kick of phi standard deviations of the mode at the level pass ``delta`` = phi v^(1/2).
    """
    m, lam, delta = (torch.as_tensor(value, dtype=torch.float64) for value in (m, lam, delta))
    centre, spread = level[0] * m, variance(lam, level).sqrt()
    phi = torch.special.ndtr
    return sum((phi(-c / spread) - phi((-delta.abs() - c) / spread) for c in (centre, -centre)), start=0 * spread) / 2


def sde_flip_probability(m: float, lam: float, delta: float, level: Level) -> float:
    """Return how often the same kick changes the mode in which the reverse SDE ends, its later noise held fixed.

    On a line two solutions driven by the same noise never cross, so the kick can only move the end upwards, and
    P = E[P(x_0 > 0 | x + |delta|)] - E[P(x_0 > 0 | x)], where the second term is 1/2 and the posterior, a mixture of
    N(alpha lam z / v +- m sigma^2 / v, lam sigma^2 / v), is known. By quadrature over x.
    """
    alpha, sigma = level
    v = alpha**2 * lam + sigma**2
    z = torch.linspace(-1, 1, 8001, dtype=torch.float64) * (alpha * m + 9 * v**0.5)
    density = (-((z - alpha * m) ** 2) / (2 * v)).exp() + (-((z + alpha * m) ** 2) / (2 * v)).exp()
    kicked = z + abs(delta)
    right = torch.sigmoid(2 * alpha * m * kicked / v)
    width = sigma * (lam / v) ** 0.5
    ends = [torch.special.ndtr((alpha * lam * kicked + s * m * sigma**2) / (v * width)) for s in (1, -1)]
    return float((density * (right * ends[0] + (1 - right) * ends[1])).sum() / density.sum() - 0.5)


@dataclass(frozen=True, eq=False)
class Local:
    """What the Jacobian of a denoiser says of the landscape around B states at one level.

    All in EDM coordinates, J = dD/dx at noise ratio r = sigma/alpha, where r^2 J = Cov(x_0 | x) if D is exact. ``j``
    (B, k): largest eigenvalues of (J + J^T)/2, ``directions`` (B, k, D) their eigenvectors; ``residual`` (B, k): the
    distance within which an eigenvalue lies. ``along``
    (B, p): u^T J u for the start directions. ``asymmetry``: |J - J^T|/|J| (B,), Frobenius, from random probes;
    ``asymmetry_leading`` (B,): the same on the k leading directions alone. ``trace`` (B,): of J, from the probes.
    """

    ratio: float
    j: Tensor
    directions: Tensor
    residual: Tensor
    along: Tensor
    asymmetry: Tensor
    asymmetry_leading: Tensor
    trace: Tensor

    @property
    def lam(self) -> Tensor:
        """The local variance, see :func:`local_variance`: (B, k)."""
        return local_variance(self.j, self.ratio)


def local_variance(j: Tensor, ratio: Scalar) -> Tensor:
    """Return lam_loc = r^2 j / (1 - j), the variance that a Gaussian with this Jacobian eigenvalue would have.

    Constant in r inside a Gaussian-like mode. Infinite for j >= 1, where p_sigma is not concave: x lies between modes.
    """
    j, ratio = torch.as_tensor(j, dtype=torch.float64), torch.as_tensor(ratio, dtype=torch.float64)
    return torch.where(j < 1, ratio**2 * j / (1 - j).clamp(min=1e-300), math.inf)


def local(
    denoise: Denoiser, x: Tensor, level: Level, start: Tensor, *, k: int = 4, blocks: int = 6, probes: int = 4
) -> Local:
    """Read the local covariance of the data from the Jacobian of ``denoise`` at states ``x`` (B, ...) of ``level``.

    ``start`` (p, D): directions that open the Krylov space, the leading PCs of the data. A map of x = alpha x_EDM has
    J_EDM = alpha dD/dx, whatever the coordinates of the level.
    """
    denoise = with_graph(denoise)
    found = [_local_at(denoise, state, level, start, k, blocks, probes, seed) for seed, state in enumerate(x)]
    return Local(level[1] / level[0], *(torch.stack(parts) for parts in zip(*found)))


def _local_at(
    denoise: Denoiser, x: Tensor, level: Level, start: Tensor, k: int, blocks: int, probes: int, seed: int
) -> tuple[Tensor, ...]:
    def both(rows: Tensor) -> tuple[Tensor, Tensor]:
        v = rows.to(x).reshape(-1, *x.shape)
        pair = products(lambda states: level[0] * denoise(states, *level), x.expand_as(v), v)
        return pair[0].flatten(1).double().cpu(), pair[1].flatten(1).double().cpu()

    def symmetric(rows: Tensor) -> Tensor:
        pushed, pulled = both(rows)
        return (pushed + pulled) / 2

    start = torch.linalg.qr(start.detach().cpu().double().T).Q.T
    values, vectors, residuals = ritz(symmetric, start, blocks=blocks)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(probes, start.shape[1], generator=generator, dtype=torch.float64)
    rows = torch.cat([vectors[:k], start, noise])
    pushed, pulled = both(rows)
    lead, random = slice(0, k), slice(len(rows) - probes, None)
    small = pushed[lead] @ vectors[:k].T
    along = (pushed[k : k + len(start)] * start).sum(1)
    asymmetry = (pushed[random] - pulled[random]).norm() / pushed[random].norm()
    trace = (pushed[random] * noise).sum(1).mean()
    return values[:k], vectors[:k], residuals[:k], along, asymmetry, (small - small.T).norm() / small.norm(), trace


def with_graph(denoise: Denoiser) -> Denoiser:
    """Return a network's denoiser such that it keeps its graph; any other denoiser as it is."""
    return replace(denoise, grad=True) if isinstance(denoise, NetworkDenoiser) else denoise


def measure(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Measure the local landscape along a model's own trajectories, and when the classes of Fashion part.

    Keys: ``ratio`` (L,), sigma/alpha of the levels; ``seeds`` (B,); ``data_lam`` (k,), the leading variances of the
    data, and ``gaussian_j`` (L, k), what they make J; ``j``, ``residual``, ``lambda_loc`` (L, B, k), the last ``None``
    where j >= 1; ``along`` (L, B, p); ``asymmetry``, ``asymmetry_leading``, ``trace`` (L, B), see :class:`Local`.
    ``mixture``: for a network of Fashion-MNIST, if the data are at hand, ``j``, ``residual``, ``lambda_loc`` and
    ``trace`` of the exact mixture of its ten classes on its own trajectories, else ``None``. ``classes``: for a network
    of Fashion-MNIST what :func:`~atelier.landscape.classes.measure` returns, else ``None``. ``calibration``: for a
    network whose data are at hand ``ratio`` (l,), ``j`` and ``error`` (l, n, k) of :func:`calibration`, else ``None``.
    """
    record = along_trajectories(subject, settings)
    record |= {"mixture": None, "classes": None, "calibration": _calibrated(subject, settings)}
    if classes.applies(subject):
        mixture = classes.mixture(subject, settings)
        if mixture is not None:
            stand_in = replace(subject, denoise=mixture, kind="mixture")
            partner = along_trajectories(stand_in, settings)
            record["mixture"] = {key: partner[key] for key in ("j", "residual", "lambda_loc", "trace")}
        record["classes"] = classes.measure(subject, mixture, settings)
    return record


def along_trajectories(subject: Subject, settings: Settings, *, k: int = 4) -> dict[str, Any]:
    """Return the part of :func:`measure` that any denoiser has: :func:`local` on its own PF-ODE trajectories."""
    seeds = settings.seeds[: settings.pick(ci=1, book=5, full=32)]
    wanted = settings.pick(ci=(5.0, 1.2), book=RATIOS, full=RATIOS)
    levels = subject.levels(settings.steps)
    picks = sorted({int((levels.ratio[:-1].log() - math.log(r)).abs().argmin()) for r in wanted})
    parts = subject.batches(seeds, settings.batch)
    states = torch.cat([subject.run(part, steps=settings.steps).x[picks] for part in parts], 1)
    start, where = subject.gaussian.U[:, :k].T, getattr(subject.denoise, "device", "cpu")
    blocks, probes = settings.pick(ci=(3, 2), book=(6, 8), full=(8, 16))
    found = [
        local(subject.denoise, x.to(where), levels[i], start, k=k, blocks=blocks, probes=probes)
        for i, x in zip(picks, states)
    ]
    lam, ratio = subject.gaussian.lam[:k].cpu(), torch.tensor([part.ratio for part in found], dtype=torch.float64)
    record: dict[str, Any] = {"ratio": ratio.tolist(), "seeds": list(seeds), "data_lam": lam.tolist()}
    record["gaussian_j"] = (lam / (lam + ratio[:, None] ** 2)).tolist()
    names = ("j", "residual", "along", "asymmetry", "asymmetry_leading", "trace")
    record |= {name: [getattr(part, name).tolist() for part in found] for name in names}
    finite = [[[v if math.isfinite(v) else None for v in row] for row in part.lam.tolist()] for part in found]
    return record | {"lambda_loc": finite}


def calibration(
    denoise: Denoiser, x0: Tensor, level: Level, start: Tensor, *, seeds: Sequence[int], k: int = 4, blocks: int = 6
) -> tuple[Tensor, Tensor]:
    """Return ``j`` (B, k) at noised data and the errors (B, k) that were really made along those directions.

    error = (w . (x_0 - D(x)))^2 / r^2 for the eigenvector w of j. As w depends on x alone, both have the same mean for
    an exact denoiser. ``x0`` (B, ...), noised to ``level`` with the noise of ``seeds``.
    """
    x = level[0] * x0 + level[1] * noise(seeds, x0.shape[1:], dtype=x0.dtype, device=x0.device)
    found = local(denoise, x, level, start, k=k, blocks=blocks, probes=1)
    miss = (x0 - denoise(x, *level)).detach().flatten(1).double().cpu()
    return found.j, torch.einsum("bkd,bd->bk", found.directions, miss).square() / found.ratio**2


def _calibrated(subject: Subject, settings: Settings, k: int = 4) -> dict[str, Any] | None:
    n = settings.pick(ci=2, book=16, full=64)
    x0 = subject.data(n) if subject.kind == "network" else None
    if x0 is None:
        return None
    levels, start = subject.levels(settings.steps), subject.gaussian.U[:, :k].T
    wanted = settings.pick(ci=(1.2,), book=(1.2, 0.3), full=(5.0, 2.5, 1.2, 0.6, 0.3))
    picks = [int((levels.ratio[:-1].log() - math.log(r)).abs().argmin()) for r in wanted]
    blocks, seeds = settings.pick(ci=2, book=5, full=8), range(FRESH, FRESH + n)
    pairs = [calibration(subject.denoise, x0, levels[i], start, seeds=seeds, k=k, blocks=blocks) for i in picks]
    j, error = ([part.tolist() for part in column] for column in zip(*pairs))
    return {"ratio": levels.ratio[picks].tolist(), "j": j, "error": error}
