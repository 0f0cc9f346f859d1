"""What a network's Jacobian says of the landscape around a state: its local variances, and whether it has any."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from atelier.landscape import classes
from atelier.linalg import ritz
from atelier.subject import Settings, Subject, levels_at
from painters.denoiser import Denoiser, Scalar
from painters.levels import Level
from painters.linalg import products
from painters.models.adapters import NetworkDenoiser

RATIOS = (20.0, 4.0, 2.0, 1.0, 0.3, 0.15)
"""Noise levels sigma/alpha at which the landscape is read: one far off, three between modes, two near the end."""


@dataclass(frozen=True, eq=False)
class Local:
    """What the Jacobian of a denoiser says of the landscape around B states at one level.

    All in EDM coordinates, J = dD/dx at noise ratio r = sigma/alpha, where r^2 J = Cov(x_0 | x) if D is exact. ``j``
    (B, k): largest eigenvalues of (J + J^T)/2. ``asymmetry`` (B,): |J - J^T|/|J|, Frobenius, and ``trace`` (B,): of J,
    both from random probes.
    """

    ratio: float
    j: Tensor
    asymmetry: Tensor
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

    # A basis that is orthonormal in float64: PCs that were stored in float32 are so only to seven digits.
    start = torch.linalg.qr(start.detach().cpu().double().T).Q.T
    values = ritz(symmetric, start, blocks=blocks)[0]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(probes, start.shape[1], generator=generator, dtype=torch.float64)
    pushed, pulled = both(noise)
    return values[:k], (pushed - pulled).norm() / pushed.norm(), (pushed * noise).sum(1).mean()


def with_graph(denoise: Denoiser) -> Denoiser:
    """Return a network's denoiser such that it keeps its graph; any other denoiser as it is."""
    return replace(denoise, grad=True) if isinstance(denoise, NetworkDenoiser) else denoise


def measure(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Measure the local landscape along a model's own trajectories, and when the classes of Fashion part.

    Keys: ``ratio`` (L,), sigma/alpha of the levels; ``seeds`` (B,); ``j`` (L, B, k), ``asymmetry``, ``trace`` (L, B),
    see :class:`Local`. ``mixture``: for a network of Fashion-MNIST, if the data are at hand, ``j`` of the exact mixture
    of its ten classes on its own trajectories, else ``None``. ``classes``: for a network of Fashion-MNIST what
    :func:`~atelier.landscape.classes.parting` returns, else ``None``.
    """
    record = along_trajectories(subject, settings) | {"mixture": None, "classes": None}
    if classes.applies(subject):
        mixture = classes.mixture(settings)
        if mixture is not None:
            partner = along_trajectories(replace(subject, denoise=mixture, kind="mixture"), settings)
            record["mixture"] = {"j": partner["j"]}
        record["classes"] = classes.parting(subject, mixture, settings)
    return record


def along_trajectories(subject: Subject, settings: Settings, *, k: int = 4) -> dict[str, Any]:
    """Return the part of :func:`measure` that any denoiser has: :func:`local` on its own PF-ODE trajectories."""
    seeds = settings.seeds[: settings.pick(ci=1, book=6, full=32)]
    levels = subject.levels(settings.steps)
    picks = levels_at(levels, settings.pick(ci=(5.0, 1.2), book=RATIOS, full=RATIOS))
    parts = subject.batches(seeds, settings.batch)
    states = torch.cat([subject.run(part, steps=settings.steps).x[picks] for part in parts], 1)
    start, where = subject.gaussian.U[:, :k].T, getattr(subject.denoise, "device", "cpu")
    blocks, probes = settings.pick(ci=(3, 2), book=(6, 4), full=(8, 16))
    found = [
        local(subject.denoise, x.to(where), levels[i], start, k=k, blocks=blocks, probes=probes)
        for i, x in zip(picks, states)
    ]
    record: dict[str, Any] = {"ratio": [part.ratio for part in found], "seeds": list(seeds)}
    return record | {name: [getattr(part, name).tolist() for part in found] for name in ("j", "asymmetry", "trace")}
