"""How spans of directions agree, and what a direction has that a mere copy of the image has not.

For Gaussian data every search for the manifold finds the principal components (PCs), so agreement with their span is
the theory's prediction; its null is the agreement of random spans, k/D. The components of an endpoint path need one
more control. The path goes from the mean to the image, so its first component is mostly the image itself growing in
contrast, and the next ones its coarse and fine parts growing at different times.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from atelier.evidence.order import radial_bands
from atelier.linalg import gram_pca, outside
from painters.theory.gaussian import Gaussian

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
    points = paths.detach().flatten(2).transpose(0, 1).double()
    rows = scores[:, :, :k].mT.to(points) @ (points - points.mean(1, keepdim=True))
    # A root of rounding errors of the Gram matrix is 1e-8 of the largest value: below 1e-6 a direction is made of them.
    real = (values > 1e-6 * values[:, :1].clamp(min=torch.finfo(torch.float64).tiny)).to(rows)[..., None]
    vectors = torch.nn.functional.normalize(rows, dim=2) * real
    return vectors.reshape(paths.shape[1], k, *paths.shape[2:]), values
