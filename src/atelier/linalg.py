"""Linear algebra that the chapters share: principal components of curves, spans, block Krylov spaces, errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from painters.linalg import Map

ROUNDING = 1e-12
"""Centred frames whose total variance is below this share of their squared norm do not move at all."""


def gram_pca(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variances and the scores of the principal components of each sample's frames.

    ``frames``: (n, B, ...), n points of B curves. The mean over the n points is removed and the n x n Gram matrix of
    inner products is diagonalised, G = W diag(s^2) W^T, which costs n^2 D instead of the n D min(n, D) of an SVD and
    has the same singular values s. Returns ``s^2`` (B, n), largest first, summing to the total squared deviation, and
    the scores W diag(s) (B, n, n): column k holds the coordinates of the n points along component k. float64.
    """
    if frames.ndim < 3 or len(frames) < 2:
        raise ValueError(f"PCA of a curve needs frames (n, B, ...) with n >= 2, got {tuple(frames.shape)}")
    points = frames.detach().flatten(2).transpose(0, 1).double()
    norm = points.square().sum((1, 2))
    points = points - points.mean(1, keepdim=True)
    gram = (points @ points.transpose(1, 2)).cpu()
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(1).clamp(min=0), vectors.flip(2)
    moves = (values.sum(1) > ROUNDING * norm.cpu()).double()[:, None]
    values = values * moves
    return values, vectors * values.sqrt()[:, None, :]


def outside(x: Tensor, span: Tensor) -> Tensor:
    """Return the share of |x|^2 that lies outside the linear span of some vectors, one number per sample.

    ``x``: (n, B, ...); ``span``: (m, B, ...), m vectors for each of the B samples, shared by its n points. The span is
    made orthonormal by QR, so parallel vectors do no harm. Returns (n, B) in [0, 1], float64; 0 where x = 0.
    """
    if span.shape[1:] != x.shape[1:]:
        raise ValueError(f"x {tuple(x.shape)} and the span {tuple(span.shape)} must agree but for their first size")
    points = x.detach().flatten(2).transpose(0, 1).double()
    basis = torch.linalg.qr(span.detach().flatten(2).permute(1, 2, 0).double()).Q
    left = points - (points @ basis) @ basis.transpose(1, 2)
    total = points.square().sum(2)
    share = left.square().sum(2) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return torch.where(total > 0, share, torch.zeros_like(share)).T.cpu()


def ritz(product: Map, start: Tensor, *, blocks: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Ritz values, vectors and residuals of a symmetric matrix S in the block Krylov space of ``start``.

    ``product`` maps rows (m, D) to rows S q; ``start`` (p, D) spans the first block, and ``blocks`` - 1 more follow,
    each the products of the last. All are kept and made orthonormal (twice). Returns (p blocks,) values, largest first,
    none above the eigenvalue of S of its rank; the vectors in rows, (p blocks, D); and |S w - value w| of each, the
    distance within which an eigenvalue lies. float64. Source: Golub and Underwood (1977).
    """
    basis, images = _krylov(lambda columns: product(columns.T.to(start)).double().T, start, blocks)
    small = basis.T @ images
    values, mix = torch.linalg.eigh((small + small.T).cpu() / 2)
    values, mix = values.flip(0), mix.flip(1).to(basis)
    vectors = basis @ mix
    return values, vectors.T, (images @ mix - vectors * values.to(basis)).norm(dim=0).cpu()


@dataclass(frozen=True, eq=False)
class Singular:
    """Singular values of a matrix J, largest first, with unit vectors in rows, and what they cost.

    ``residuals``: |J^T left_i - values_i right_i|; J right_i = values_i left_i holds by construction, so a singular
    value of J lies within residuals_i of values_i. ``products`` counts the products J v, and as many J^T u.
    """

    values: Tensor
    right: Tensor
    left: Tensor
    residuals: Tensor
    products: int


def singular(push: Map, pull: Map, start: Tensor, *, blocks: int = 4) -> Singular:
    """Return leading singular triplets of J from the block Krylov space of J^T J that ``start`` (p, D) spans.

    ``push`` maps rows (m, D) to rows J v, ``pull`` rows u to J^T u. Every block is kept and made orthonormal (twice),
    and the triplets are the best in their span: the SVD of J restricted to it. p blocks pushes and pulls; all p blocks
    triplets come back, the first p for the reader. Computed in float64, products in the dtype of ``start``. Source:
    Golub, Luk and Overton (1981); Musco and Musco (2015).
    """
    images: list[Tensor] = []

    def normal(columns: Tensor) -> Tensor:
        """J^T J v, with J v kept: it is what the decomposition needs."""
        images.append(push(columns.T.to(start)).double().T)
        return pull(images[-1].T.to(start)).double().T

    basis, pulled = _krylov(normal, start, blocks)
    left, values, mix = torch.linalg.svd(torch.cat(images, 1), full_matrices=False)
    right = basis @ mix.T
    # J^T left = J^T (J basis) mix^T / values, so the residuals cost no further product.
    tiny = torch.finfo(torch.float64).tiny
    missed = (pulled @ mix.T) / values.clamp(min=tiny) - right * values
    return Singular(values.cpu(), right.T, left.T, missed.norm(dim=0).cpu(), basis.shape[1])


def _krylov(product: Map, start: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis, in columns, of the block Krylov space of ``start`` (p, D), and its products."""
    p, D = start.shape
    if not 0 < p * blocks <= D:
        raise ValueError(f"{blocks} blocks of {p} directions do not fit into {D} dimensions")
    basis = torch.linalg.qr(start.double().T).Q
    images = product(basis)
    for _ in range(blocks - 1):
        block = images[:, -p:]
        # Once is not enough: what is left of a block that lies almost in the basis is rounding.
        for _ in range(2):
            block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q
        basis, images = torch.cat([basis, block], 1), torch.cat([images, product(block)], 1)
    return basis, images


def as_array(value: Any) -> np.ndarray:
    """Return ``value`` (a tensor, array, sequence or number) as a float64 array on the CPU."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)


def distance(got: Any, want: Any) -> tuple[float, float]:
    """Return ``(||got - want||, ||want||)``; the shapes must agree, or ``want`` be a number.

    Raises:
        ValueError: if the shapes differ, or there is no value.
    """
    a, b = as_array(got), as_array(want)
    if a.size == 0:
        raise ValueError(f"there is no value to compare: the shape is {a.shape}")
    if a.shape != b.shape and b.ndim > 0:
        raise ValueError(f"the shape is {a.shape}, expected {b.shape}")
    b = np.broadcast_to(b, a.shape)
    return float(np.linalg.norm((a - b).ravel())), float(np.linalg.norm(b.ravel()))
