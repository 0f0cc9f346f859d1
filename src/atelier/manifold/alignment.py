"""How spans of directions agree, and what a direction has that a mere copy of the image has not.

For Gaussian data every search for the manifold finds the principal components (PCs), so agreement with their span is
the theory's prediction; its null is the agreement of random spans, k/D. The components of an endpoint path need one
more control. The path goes from the mean to the image, so its first component is mostly the image itself growing in
contrast, and the next ones its coarse and fine parts growing at different times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from atelier.evidence.order import radial_bands
from painters.linalg import gram_pca, outside
from painters.theory.gaussian import Gaussian

Product = Callable[[Tensor], Tensor]
"""(m, ...) vectors -> (m, ...) their products with a matrix."""
FREQUENCIES = 5
GROUPS = (3, 10, 30, 100, 300)
"""The image is copied in so many bands of spatial frequency, and in groups of PCs that end at these."""


def orthonormal(directions: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of ``directions`` (k, ...), shaped like them, float64."""
    return torch.linalg.qr(directions.flatten(1).double().cpu().T).Q.T.reshape(directions.shape)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosines of the principal angles between the spans of directions ``a`` (k, ...) and ``b`` (m, ...).

    Largest first, min(k, m) of them, float64.
    """
    return torch.linalg.svdvals(orthonormal(a).flatten(1) @ orthonormal(b).flatten(1).T)


def overlap(a: Tensor, b: Tensor) -> float:
    """Return the mean squared cosine of the principal angles between spans of ``a`` (k, ...) and ``b`` (k, ...).

    1 for one span, 0 for orthogonal ones, and k/D on average for random spans of k out of D dimensions.
    """
    return float(cosines(a, b).square().mean())


def consensus(inputs: Sequence[Tensor], values: Sequence[Tensor], k: int) -> Tensor:
    """Return the ``k`` leading directions of a sum of metrics, sum_j V_j diag(s_j^2) V_j^T, (k, ...), float64.

    ``inputs``: for each image its right singular directions (p, ...), ``values`` (p,): their singular values.
    """
    rows = torch.cat([v.flatten(1).double().cpu() * s.double().cpu()[:, None] for v, s in zip(inputs, values)])
    return torch.linalg.svd(rows, full_matrices=False)[2][:k].reshape(k, *inputs[0].shape[1:])


def reached(push: Product, directions: Tensor, values: Tensor) -> float:
    """Return how much of the strength of the best k directions some k ``directions`` (k, ...) have.

    |J Q|_F^2 / sum s_i^2 with Q an orthonormal basis of their span and ``values`` s (k,) the largest singular values
    of J: at most 1, and 1 only for the leading singular directions.
    """
    basis = orthonormal(directions).to(directions)
    return float(push(basis).double().square().sum() / values.square().sum())


def copies(gaussian: Gaussian, deviation: Tensor, *, frequency: bool = True) -> dict[str, Tensor]:
    """Return the spans that are no discovery about x_0 - mu = ``deviation`` (...): its copies, (m, ...) each, float64.

    ``"image"``: itself; ``"frequency"``: filtered to bands of spatial frequency, see
    :func:`~atelier.evidence.order.radial_bands` (for states (C, H, W) that are pictures); ``"pcs"``: its parts along
    groups of PCs, which end at :data:`GROUPS`, and the remainder; ``"all"``: all of these.
    """
    whole = deviation.double().cpu()
    found = {"image": whole[None], "pcs": _along_groups(gaussian, whole)}
    if not frequency:
        return found | {"all": found["pcs"]}
    masks = radial_bands(whole.shape[-2], whole.shape[-1], FREQUENCIES)[0]
    found["frequency"] = torch.fft.ifft2(torch.fft.fft2(whole) * masks[:, None]).real
    # bands and groups both sum to the image, so one of them adds nothing to the span of the others
    return found | {"all": torch.cat([found["frequency"], found["pcs"][:-1]])}


def _along_groups(gaussian: Gaussian, deviation: Tensor) -> Tensor:
    U, flat = gaussian.U.double().cpu(), deviation.flatten()
    bounds = [0, *(end for end in GROUPS if end < U.shape[1])]
    parts = [U[:, a:b] @ (U[:, a:b].T @ flat) for a, b in pairwise(bounds)]
    parts.append(flat - sum(parts, torch.zeros_like(flat)))
    return torch.stack(parts).reshape(-1, *deviation.shape)


def inside(directions: Tensor, span: Tensor) -> Tensor:
    """Return the share of the squared norm of each of ``directions`` (k, ...) in the span of ``span`` (m, ...), (k,).

    A direction counts as found for the rest, 1 - share. m/D on average for a random direction.
    """
    return 1 - outside(directions[:, None].cpu(), span[:, None].cpu())[:, 0]


def components(paths: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the first ``k`` principal components (B, k, ...) of each of B paths (N, B, ...), and their values (B, k).

    Each path's mean is removed. Components are unit vectors, values their singular values; a path of fewer components
    has zeros. float64.
    """
    squares, scores = gram_pca(paths)
    values = squares[:, :k].sqrt()
    rows = scores[:, :, :k].mT.to(paths.device) @ _centred(paths)
    # A root of rounding errors of the Gram matrix is 1e-8 of the largest value: below 1e-6 a direction is made of them.
    real = (values > 1e-6 * values[:, :1].clamp(min=torch.finfo(torch.float64).tiny)).to(rows)[..., None]
    vectors = torch.nn.functional.normalize(rows, dim=2) * real
    return vectors.reshape(paths.shape[1], k, *paths.shape[2:]), values


@dataclass(frozen=True, eq=False)
class Pooled:
    """Components (k, ...) of the paths of many seeds, and the share of the variance that is ``left`` for them.

    ``left`` is what remains of the paths' variance after the removal of each seed's own span, 1 without one.
    """

    vectors: Tensor
    left: float


def pooled(paths: Tensor, k: int, spans: Sequence[Tensor] | None = None) -> Pooled:
    """Return the first ``k`` principal components of paths (N, B, ...) of B seeds, each with its own mean removed.

    ``spans``: for each seed directions (m, ...) whose span is taken out of its path first, such as :func:`copies`.
    """
    points = _centred(paths).cpu()
    whole = float(points.square().sum())
    if spans is not None:
        bases = [orthonormal(span).flatten(1) for span in spans]
        points = torch.stack([p - (p @ basis.T) @ basis for p, basis in zip(points, bases)])
    rows = points.flatten(0, 1)
    wide = len(rows) <= rows.shape[1]  # the smaller of the two Gram matrices has the same components
    vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)[1].flip(-1)[..., :k]
    found = torch.nn.functional.normalize(rows.T @ vectors if wide else vectors, dim=0)
    return Pooled(found.T.reshape(k, *paths.shape[2:]), float(rows.square().sum()) / whole)


def _centred(paths: Tensor) -> Tensor:
    """The points (B, N, D) of paths (N, B, ...), each path's mean removed, float64."""
    points = paths.detach().flatten(2).transpose(0, 1).double()
    return points - points.mean(1, keepdim=True)
