"""New noise for a part of a state: what stays is an outline, or the details, or what tells some named factors.

All of it works on states at one noise level and needs no network. On the data's own Gaussian what stays in the state
stays in the picture, and the changed state has the law of an unchanged one.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from painters.levels import Level
from painters.theory.gaussian import Gaussian, emergence, variance

Keep = Literal["outline", "details"]


def standing(gaussian: Gaussian, level: Level, *, share: float = 0.5) -> int:
    """Return how many PCs stand at a level: those of which the endpoint estimate holds ``share`` of the variance.

    sigmoid(log-SNR + ln lam_k) >= share, with share 1/2 all lam_k >= sigma^2/alpha^2. It is the theory's answer to how
    many components make up the outline at that level. 0 to the number of known PCs.
    """
    return int((emergence(gaussian.lam, level) >= share).sum())


def repaint(gaussian: Gaussian, x: Tensor, fresh: Tensor, level: Level, *, keep: Keep, pcs: int) -> Tensor:
    """Return states at ``level`` that share some coordinates with ``x`` (B, ...) and take the others from ``fresh``.

    With ``keep="outline"`` the coordinates along the first ``pcs`` PCs stay and all others are drawn anew, from the
    Gaussian's law at that level; with ``"details"`` the reverse. ``fresh`` (B, ...) is unit noise. At a level of pure
    noise this is a change of the noise alone. If x has the law of the data's Gaussian at that level, so has the result.
    """
    if keep not in get_args(Keep):
        raise ValueError(f"keep is 'outline' or 'details', got {keep!r}")
    if not 0 <= pcs <= len(gaussian.lam):
        raise ValueError(f"this theory knows {len(gaussian.lam)} components, asked for {pcs}")
    new = gaussian.sample(fresh, level=level).reshape(x.shape)
    basis = gaussian.U[:, :pcs].to(x)
    apart = (x - new).flatten(1)
    along = ((apart @ basis) @ basis.T).reshape(x.shape)
    return new + along if keep == "outline" else x - along


def whiten(gaussian: Gaussian, x: Tensor, level: Level) -> Tensor:
    """Return z = (alpha^2 Sigma + sigma^2 I)^(-1/2) (x - alpha mu), (B, D), for states ``x`` (B, ...) at ``level``.

    Unit normal if x has the law of the data's Gaussian there; the Gaussian's PF-ODE leaves z as it is. Undone by
    ``gaussian.sample(z, level=level)``. Needs sigma > 0, or variance in every direction.
    """
    y = x.flatten(1).to(gaussian.mu) - level[0] * gaussian.mu
    inside, outside = (variance(lam, level).rsqrt() for lam in (gaussian.lam, gaussian.lam.new_tensor(gaussian.rest)))
    return ((y @ gaussian.U) * (inside - outside)) @ gaussian.U.T + outside * y


def resample(
    gaussian: Gaussian,
    x: Tensor,
    fresh: Tensor,
    level: Level,
    basis: Tensor,
    *,
    turned: Tensor | None = None,
    angle: float = math.pi / 2,
) -> Tensor:
    """Return states at ``level`` that keep whitened coordinates of ``x`` (B, ...) along ``basis``; the rest is drawn.

    z' = fresh + Q Q^T (z - fresh), with orthonormal columns Q = ``basis`` (D, b) and unit noise ``fresh`` (B, ...).
    With the first k PCs it is :func:`repaint` with ``keep="outline"``. Along the columns of ``turned`` (D, t),
    orthogonal to Q, z' = cos(angle) z + sin(angle) fresh instead: kept at 0, drawn anew at pi/2, mirrored at pi. If x
    has the law of the data's Gaussian at that level, so has the result.
    """
    drawn, z = fresh.flatten(1).to(gaussian.mu), whiten(gaussian, x, level)
    Q = basis.to(gaussian.mu)
    new = drawn + ((z - drawn) @ Q) @ Q.T
    if turned is not None:
        B = turned.to(gaussian.mu)
        new = new + ((math.cos(angle) * z + (math.sin(angle) - 1) * drawn) @ B) @ B.T
    return gaussian.sample(new, level=level).reshape(x.shape).to(x)


def informative(
    gaussian: Gaussian, covariance: Tensor, *, pcs: int = 0, besides: Tensor | None = None, blur: float = 0.1
) -> Tensor:
    """Return whitened directions (D, b) from which factors of the finished picture are read, and the first ``pcs`` PCs.

    They span the columns of U (lam + blur^2)^(-1) lam^(1/2) U^T c for ``covariance`` c = Cov(x_0, f) (D, m): the
    weights of the best affine estimate of f from the picture seen through noise of size ``blur``, in coordinates that
    the Gaussian's PF-ODE carries unchanged from noise to picture. So keeping them in the noise keeps that estimate.
    ``besides`` (D, a), orthonormal: what they must be orthogonal to, so that what it tells is not touched.
    """
    lam, U = gaussian.lam, gaussian.U
    w = (lam.sqrt() / (lam + blur**2))[:, None] * (U.T @ covariance.to(U))
    w = U @ (w / w.norm(dim=0).clamp(min=1e-12))
    if besides is not None:
        w = w - besides @ (besides.T @ w)
    w = w - U[:, :pcs] @ (U[:, :pcs].T @ w)
    return torch.cat([U[:, :pcs], _span(w, 1e-6)], 1)


def without(basis: Tensor, directions: Tensor) -> Tensor:
    """Return an orthonormal basis (D, c) of what ``basis`` (D, b) spans outside ``directions`` (D, t), orthonormal."""
    return _span(basis - directions @ (directions.T @ basis), 1e-3)


def _span(columns: Tensor, tolerance: float) -> Tensor:
    """An orthonormal basis of the span of columns, all of length up to 1, shorter ones than ``tolerance`` left out."""
    left, size, _ = torch.linalg.svd(columns, full_matrices=False)
    return left[:, size > tolerance]


def mix(x: Tensor, fresh: Tensor, angle: float) -> Tensor:
    """Return cos(angle) x + sin(angle) fresh, (B, ...): noise moved on the sphere towards other noise."""
    return math.cos(angle) * x + math.sin(angle) * fresh


def renoise(image: Tensor, fresh: Tensor, level: Level) -> Tensor:
    """Return alpha image + sigma fresh, (B, ...): the image as it would have been seen at ``level``."""
    return level[0] * image + level[1] * fresh
