"""Linear algebra that the experiments share: principal components of a few long vectors, and what a span misses."""

from __future__ import annotations

import torch
from torch import Tensor

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
