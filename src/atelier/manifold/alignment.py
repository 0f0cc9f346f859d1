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
from typing import TYPE_CHECKING, Any

import torch
from scipy.linalg import subspace_angles
from torch import Tensor

from atelier.evidence.bands import radial_bands
from atelier.evidence.order import short
from atelier.statistics import mean
from painters.linalg import gram_pca, outside
from painters.theory.gaussian import Gaussian

if TYPE_CHECKING:
    from atelier.manifold import Directions

Product = Callable[[Tensor], Tensor]
"""(m, ...) vectors -> (m, ...) their products with a matrix."""
FREQUENCIES = 5
GROUPS = (3, 10, 30, 100, 300)
"""The image is copied in so many bands of spatial frequency, and in groups of PCs that end at these."""


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosines of the principal angles between the spans of directions ``a`` (k, ...) and ``b`` (m, ...).

    Largest first, min(k, m) of them, float64.
    """
    angles = subspace_angles(*(part.flatten(1).double().cpu().numpy().T for part in (a, b)))
    return torch.from_numpy(angles).cos().flip(0)


def overlap(a: Tensor, b: Tensor) -> float:
    """Return the mean squared cosine of the principal angles between spans of ``a`` (k, ...) and ``b`` (k, ...).

    1 for one span, 0 for orthogonal ones, and k/D on average for random spans of k out of D dimensions.
    """
    return float(cosines(a, b).square().mean())


def orthonormal(directions: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of ``directions`` (k, ...), shaped like them, float64."""
    return torch.linalg.qr(directions.flatten(1).double().T).Q.T.reshape(directions.shape)


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


def frequency_copies(deviation: Tensor, n: int = FREQUENCIES) -> Tensor:
    """Return x_0 - mu (C, H, W) filtered to m <= n bands of spatial frequency, (m, C, H, W), which sum to it. float64.

    The bands are those of :func:`atelier.evidence.bands.radial_bands`.
    """
    masks = radial_bands(deviation.shape[-2], deviation.shape[-1], n)[0]
    return torch.fft.ifft2(torch.fft.fft2(deviation.double().cpu()) * masks[:, None]).real


def pc_copies(gaussian: Gaussian, deviation: Tensor, edges: Sequence[int] = GROUPS) -> Tensor:
    """Return the parts of x_0 - mu (...) along groups of PCs, and the remainder, (m, ...), which sum to it. float64.

    The groups end at PC ``edges``, counted from 1, as far as there are PCs.
    """
    U = gaussian.U.double().cpu()
    flat = deviation.double().cpu().flatten()
    bounds = [0, *(e for e in edges if e < U.shape[1])]
    parts = [U[:, a:b] @ (U[:, a:b].T @ flat) for a, b in pairwise(bounds)]
    parts.append(flat - sum(parts, torch.zeros_like(flat)))
    return torch.stack(parts).reshape(-1, *deviation.shape)


def copies(gaussian: Gaussian, deviation: Tensor, *, frequency: bool = True) -> dict[str, Tensor]:
    """Return the spans that are no discovery about x_0 - mu = ``deviation`` (...): its copies, (m, ...) each.

    ``"image"``: itself; ``"frequency"``: filtered (for states (C, H, W) that are pictures); ``"pcs"``: its parts along
    groups of PCs; ``"all"``: all of these (but for one, which the others make up).
    """
    found = {"image": deviation.double().cpu()[None], "pcs": pc_copies(gaussian, deviation)}
    if not frequency:
        return found | {"all": found["pcs"]}
    found["frequency"] = frequency_copies(deviation)
    return found | {"all": torch.cat([found["frequency"], found["pcs"][:-1]])}


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
    points = points - points.mean(1, keepdim=True)
    rows = scores[:, :, :k].mT.to(points) @ points
    real = (values > 1e-6 * values[:, :1].clamp(min=torch.finfo(torch.float64).tiny)).to(rows)[..., None]
    vectors = torch.nn.functional.normalize(rows, dim=2) * real
    return vectors.reshape(paths.shape[1], k, *paths.shape[2:]), values


@dataclass(frozen=True, eq=False)
class Pooled:
    """Components (k, ...) of the paths of many seeds, their ``shares`` (k,) of the variance, and the share ``left``.

    ``left`` is what remains of the paths' variance after the removal of each seed's own span, 1 without one.
    """

    vectors: Tensor
    shares: Tensor
    left: float


def pooled(paths: Tensor, k: int, spans: Sequence[Tensor] | None = None) -> Pooled:
    """Return the first ``k`` principal components of paths (N, B, ...) of B seeds, each with its own mean removed.

    ``spans``: for each seed directions (m, ...) whose span is taken out of its path first, such as :func:`copies`.
    """
    points = paths.detach().flatten(2).transpose(0, 1).double().cpu()
    points = points - points.mean(1, keepdim=True)
    whole = float(points.square().sum())
    if spans is not None:
        bases = [torch.linalg.qr(span.flatten(1).double().T).Q for span in spans]
        points = torch.stack([p - (p @ basis) @ basis.T for p, basis in zip(points, bases)])
    rows = points.flatten(0, 1)
    left = float(rows.square().sum())
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    squares, vectors = (part.flip(-1)[..., :k] for part in torch.linalg.eigh(gram))
    found = rows.T @ vectors if len(rows) <= rows.shape[1] else vectors
    found = torch.nn.functional.normalize(found, dim=0).T.reshape(k, *paths.shape[2:])
    return Pooled(found, squares / left, left / whole)


def compare(
    found: Sequence[Directions],
    pushes: Sequence[Product],
    gaussian: Gaussian,
    *,
    cold: Sequence[Directions],
    seed: int = 0,
) -> dict[str, Any]:
    """Return how the k directions found at S images agree with the data's PCs, with each other, and with chance.

    ``pushes``: for each image v (m, ...) -> J v. ``values``, ``residuals`` (relative to the value), ``input_cosines``
    and ``image_cosines`` with the first k PCs, [S][k]; ``inputs``, ``images``: :func:`overlap` of right and left span
    with the PCs, ``sides``: of one with the other, ``between``: of the right span with those of the other images, on
    average, [S]; ``reached``: see :func:`reached`, by the ``pcs``, by the :func:`consensus` of the ``others`` and by k
    ``random`` directions, [S] each; ``cold``: :func:`overlap` with the PCs of the right span found from random
    directions, and ``agree`` of both right spans, for the images of ``cold``; ``nfe`` [S], of one search alone. With
    one image what needs another is NaN.
    """
    k, shape = len(found[0]), found[0].inputs.shape[1:]
    pcs = gaussian.U[:, :k].T.reshape(k, *shape).double().cpu()
    inputs, images = [d.inputs.double().cpu() for d in found], [d.images.double().cpu() for d in found]
    values = [d.values for d in found]
    draws = torch.Generator().manual_seed(seed)
    between, reach = [], {"pcs": [], "others": [], "random": []}
    for i, (push, d) in enumerate(zip(pushes, found)):
        rest = [j for j in range(len(found)) if j != i]
        random = torch.randn(k, *shape, generator=draws, dtype=torch.float64)
        between.append(sum(overlap(inputs[i], inputs[j]) for j in rest) / len(rest) if rest else float("nan"))
        others = consensus([inputs[j] for j in rest], [values[j] for j in rest], k) if rest else None
        for name, directions in {"pcs": pcs, "others": others, "random": random}.items():
            share = float("nan") if directions is None else reached(push, directions.to(d.inputs), values[i])
            reach[name].append(share)
    return {
        "values": short(torch.stack(values)),
        "residuals": short(torch.stack([d.residuals / d.values for d in found])),
        "input_cosines": short(torch.stack([cosines(v, pcs) for v in inputs])),
        "image_cosines": short(torch.stack([cosines(u, pcs) for u in images])),
        "inputs": [overlap(v, pcs) for v in inputs],
        "images": [overlap(u, pcs) for u in images],
        "sides": [overlap(u, v) for u, v in zip(images, inputs)],
        "between": between,
        "reached": reach,
        "cold": [overlap(d.inputs, pcs) for d in cold],
        "agree": [overlap(d.inputs, v) for d, v in zip(cold, inputs)],
        "nfe": [d.nfe for d in found],
    }


def endpoints(
    gaussian: Gaussian, paths: Tensor, images: Tensor, exact: Tensor, *, k: int, frequency: bool
) -> dict[str, Any]:
    """Return what the components of endpoint paths have beyond copies of the image, in one record.

    ``paths`` and ``exact`` (N, B, ...): endpoint estimates of B seeds, and of the exact Gaussian from the same noise;
    ``images`` (B, ...). ``variance``: share of a path's variance in each component; ``inside``: its share within the
    spans of :func:`copies`, and within ``all`` of another seed's image, ``other``; ``aligned``: within the first k PCs;
    intervals over seeds for each of 4 components. ``random``: m/D, what of a random direction ``all`` holds.
    ``pooled``: :func:`overlap` with the first k PCs of the k pooled components (``aligned``) and of those of what
    copies leave (``left_aligned``), with the exact Gaussian's pooled ones (``gaussian``), and the share of variance
    that copies leave, ``left`` and ``left_gaussian``.
    """
    shape, B, D = images.shape[1:], len(images), images[0].numel()
    mu = gaussian.mu.double().cpu().reshape(shape)
    pcs = gaussian.U[:, :k].T.reshape(k, *shape).double().cpu()
    vectors, _ = components(paths, 4)
    squares = gram_pca(paths)[0]
    spans = [copies(gaussian, image.double().cpu() - mu, frequency=frequency) for image in images]
    rows: dict[str, list[Tensor]] = {name: [] for name in (*spans[0], "other")}
    aligned = []
    for i, (found, span) in enumerate(zip(vectors, spans)):
        for name in span:
            rows[name].append(inside(found, span[name]))
        rows["other"].append(inside(found, spans[(i + 1) % B]["all"]))
        aligned.append(inside(found, pcs))

    def over_seeds(values: list[Tensor]) -> list[dict[str, float | int]]:
        return [mean(column.numpy()).record() for column in torch.stack(values).double().T]

    every = [span["all"] for span in spans]
    theirs = [copies(gaussian, last.double().cpu() - mu, frequency=frequency)["all"] for last in exact[-1]]
    whole, left = pooled(paths, k), pooled(paths, k, every)
    theory, theory_left = pooled(exact, k), pooled(exact, k, theirs)
    return {
        "variance": over_seeds([(s / s.sum())[:4] for s in squares]),
        "inside": {name: over_seeds(values) for name, values in rows.items()},
        "random": len(every[0]) / D,
        "aligned": over_seeds(aligned),
        "pooled": {
            "shares": short(whole.shares),
            "aligned": overlap(whole.vectors, pcs),
            "gaussian": overlap(whole.vectors, theory.vectors),
            "left": left.left,
            "left_gaussian": theory_left.left,
            "left_aligned": overlap(left.vectors, pcs),
        },
    }
