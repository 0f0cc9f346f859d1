"""Diffusion models beside GANs: both are maps from noise to images, so both have a metric, axes, and an order in depth.

The sampler's map is looked at in the span of the data's first principal components (PCs), a generator in all of its
latents: as many unit normal numbers in both. Beside the trained GAN stand three generators that learned nothing from a
critic: one that was never trained, one with its weights shuffled, and the linear one of the PCs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from atelier.gans import pullback, styles
from atelier.gans.maps import Mapping, feature_map, generator_of, latents, nulls, pushed
from atelier.manifold import alignment, whole_directions
from atelier.networks.generator import Generator
from atelier.scoring import Ruler
from atelier.statistics import mean
from atelier.subject import Settings, Subject
from atelier.variations import invert
from painters.sampling import noise

AXES = 8
"""Directions in which spans are compared."""


def measure(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Return the geometry of a model's map from noise to image, and a GAN's beside it where one paints the same data.

    ``n`` points, ``pcs`` of the basis, ``steps`` of the map; ``theory`` [pcs] eigenvalues of the exact Gaussian's
    metric, psi^2, and ``theory_participation`` of these; ``map``, see :func:`summary`; ``whole``, see there; ``depth``:
    ``map``, see :func:`atelier.gans.styles.depth`, with ``ratio`` sigma/alpha of its stages.

    With a GAN also ``generators`` (``trained``, ``untrained``, ``shuffled``, ``linear``), each as ``map`` but for its
    ``outside``; ``depth`` of the first three; ``overlap``, see :func:`shared`; ``same``, see :func:`same_image`;
    ``walks`` and ``mixing``, see :mod:`atelier.gans.styles`.
    """
    n, pcs, steps = settings.pick(ci=(2, 6, 4), book=(20, 48, 8), full=(40, 64, 25))
    pcs, seeds = min(pcs, len(subject.gaussian.lam)), settings.seeds
    mapping, features, partner = Mapping.of(subject, steps), feature_map(subject), generator_of(subject)
    basis = principal(subject, pcs)
    J, seen, outside = pushed(mapping, seeds[:n], basis, features)
    run = mapping.stages(seeds, subject.shape, batch=settings.batch)
    theory = mapping.scale**2 * subject.gaussian.gain(frm=mapping.levels[0])[:pcs].square()
    record: dict[str, Any] = {
        "n": len(J),
        "pcs": pcs,
        "steps": steps,
        "theory": theory.tolist(),
        "theory_participation": float(pullback.participation(theory)),
        "map": summary(subject, J, seen, _variance(run[-1]), outside),
        "whole": whole(mapping, noise(seeds[:1], subject.shape)[0], basis, J[0]),
        "depth": {"map": styles.depth(run[:-1], run[:-1], run[-1], subject.gaussian)},
    }
    record["depth"]["map"]["ratio"] = mapping.levels.ratio[:-1].tolist()
    if partner is None:
        return record
    record |= {"generators": {}, "overlap": {}, "same": same_image(subject, mapping, partner, settings, basis)}
    z, metrics = latents(range(n), partner.latent), {"map": J}
    for name, generate in {"trained": partner, **nulls(subject, partner)}.items():
        metrics[name] = pullback.metric(generate, z)[1]
        seen = None if features is None else pullback.metric(generate, z, features=features)[1]
        variance = _variance(generate(latents(seeds, partner.latent)))
        record["generators"][name] = summary(subject, metrics[name], seen, variance)
        if isinstance(generate, Generator):
            maps, pictures = generate.depth(latents(range(settings.pick(ci=60, book=1000, full=4000)), partner.latent))
            record["depth"][name] = styles.depth(maps, pictures, pictures[-1], subject.gaussian)
    record["overlap"] = shared({name: metrics[name] for name in ("map", "trained", "untrained")}, subject)
    return record | styled(subject, settings, mapping, partner, metrics)


def styled(
    subject: Subject, settings: Settings, mapping: Mapping, partner: Generator, J: dict[str, Tensor]
) -> dict[str, Any]:
    """Return ``walks`` along the first axes of ``J`` of "map" and "trained", and ``mixing``; empty without a reader."""
    ruler = Ruler.of(subject, settings.pick(ci=60, book=400, full=1000))
    if ruler is None:
        return {}
    seeds = settings.seeds[: settings.pick(ci=2, book=8, full=50)]
    axes = {name: pullback.spectra(J[name].mT @ J[name])[1][: len(seeds)].mT for name in ("map", "trained")}
    basis = principal(subject, axes["map"].shape[-1])
    through = torch.einsum("nad,d...->na...", axes["map"].float(), basis)
    return {
        "walks": {
            "map": styles.walks(ruler, mapping, noise(seeds, subject.shape), through),
            "gan": styles.walks(ruler, partner, latents(range(len(seeds)), partner.latent), axes["trained"].float()),
        },
        "mixing": styles.mixing(ruler, partner, mapping, settings.pick(ci=4, book=50, full=400)),
    }


def summary(
    subject: Subject, J: Tensor, seen: Tensor | None, variance: float, outside: Tensor | None = None
) -> dict[str, Any]:
    """Return what a map's metric is like, from Jacobians at n points: ``J`` (n, D, d), ``seen`` (n, f, d) in features.

    ``pixels`` and ``features``, see :func:`described`; intervals over points: ``aligned``, the overlap of the first 8
    image directions with the data's PCs; ``degree``, see :func:`atelier.gans.pullback.degree`; and
    ``outside``, the share of the trace of J^T J outside the directions of J, of which there is ``outside`` (n,).
    """
    trace = J.square().sum((1, 2))
    rest = torch.zeros_like(trace) if outside is None else outside
    return {
        "pixels": described(J),
        **({} if seen is None else {"features": described(seen)}),
        "aligned": mean(pullback.overlaps(axes(J), principal(subject, AXES).flatten(1).double()[None])[:, 0]).record(),
        "degree": pullback.degree(trace + rest, variance).record(),
        **({} if outside is None else {"outside": mean(rest / (trace + rest)).record()}),
    }


def described(J: Tensor) -> dict[str, Any]:
    """Return what a metric J^T J is like at n points, ``J`` (n, m, d).

    ``spectrum``, ``low``, ``high`` [d]: geometric mean of the eigenvalues over points, and 16 and 84 %. Intervals over
    points: ``participation``, and ``log`` and ``linear``, the mean homogeneity of pairs of different points.
    """
    H = J.mT @ J
    values = pullback.spectra(H)[0]
    logs = values.clamp(min=1e-12 * float(values.max())).log()
    tables = zip(("log", "linear"), pullback.homogeneity(H))
    return {
        "spectrum": logs.mean(0).exp().tolist(),
        "low": logs.quantile(0.16, 0).exp().tolist(),
        "high": logs.quantile(0.84, 0).exp().tolist(),
        "participation": mean(pullback.participation(values)).record(),
        **{name: pullback.between(table).record() for name, table in tables},
    }


def whole(mapping: Mapping, z: Tensor, basis: Tensor, J: Tensor) -> dict[str, Any]:
    """Return the leading singular values ``found`` at unit noise ``z`` over all directions, with their ``residuals``.

    And ``restricted``, those of ``J`` (D, d), the same map in the span of ``basis`` (d, ...).
    """
    k = min(AXES, len(basis) // 2)
    start = mapping.scale * z
    found = whole_directions(mapping.denoise, start, mapping.levels, start=basis[:k], blocks=3)
    values = mapping.scale * found.values
    return {
        "found": values.tolist(),
        "residuals": (mapping.scale * found.residuals).tolist(),
        "restricted": torch.linalg.svdvals(J)[:k].tolist(),
    }


def axes(J: Tensor) -> Tensor:
    """Return the first image directions of Jacobians (n, m, d), orthonormal, (n, AXES, m)."""
    return pullback.image_axes(J.mT @ J, J, min(AXES, J.shape[2]))


def principal(subject: Subject, k: int) -> Tensor:
    """Return the data's first ``k`` PCs as directions (k, ...), float32."""
    return subject.gaussian.U[:, :k].T.reshape(-1, *subject.shape).float().cpu()


def shared(J: dict[str, Tensor], subject: Subject) -> dict[str, Any]:
    """Return the overlaps of the first 8 image directions of several models' Jacobians (n, D, d) at their points.

    ``A B``: interval over points, A and B at different images; ``A pictures``: with differences of as many pairs of
    test pictures, drawn at random, which says how much pictures of these data share in any case; ``random``: the mean
    for directions drawn evenly; ``principal A B``: principal cosines of the spans of all points together.
    """
    spans = {name: axes(part) for name, part in J.items()}
    names, found = list(J), {}
    for i, a in enumerate(names):
        for b in names[i:]:
            table = pullback.overlaps(spans[a], spans[b])
            found[f"{a} {b}"] = (pullback.between(table) if a == b else pullback.across(table)).record()
    draws = 20
    data = subject.data(2 * AXES * draws)
    if data is not None and len(data) == 2 * AXES * draws:
        apart = (data[::2] - data[1::2]).flatten(1).double().reshape(draws, AXES, -1)
        chance = torch.linalg.qr(apart.mT).Q.mT
        found |= {f"{a} pictures": pullback.across(pullback.overlaps(spans[a], chance)).record() for a in names}
    first, second = (torch.linalg.svd(torch.cat(list(J[a]), 1), full_matrices=False)[0][:, :AXES] for a in names[:2])
    cosines = alignment.cosines(first.T, second.T).tolist()
    return found | {"random": AXES / subject.dim, f"principal {names[0]} {names[1]}": cosines}


def same_image(
    subject: Subject, mapping: Mapping, partner: Generator, settings: Settings, basis: Tensor
) -> dict[str, Any]:
    """Compare the image directions of GAN and map at the same images, the GAN's, whose noise is found by inversion.

    Intervals over images: ``same``, the overlap of the first 8 directions at the same image, ``other`` at different
    ones, ``missed`` |repainted - image| / |image - mu|, and ``length`` of the noise over its expected one, sqrt(D).
    """
    z = latents(range(settings.pick(ci=2, book=4, full=20)), partner.latent)
    with torch.no_grad():
        images = partner(z)
        start = invert(mapping.denoise, images, subject.levels(2 * mapping.levels.steps)).final / mapping.scale
        missed = (mapping(start) - images).flatten(1).norm(dim=1)
    columns = torch.stack([mapping.push(one, basis)[1].flatten(1).double().cpu().T for one in start])
    table = pullback.overlaps(axes(pullback.metric(partner, z)[1]), axes(columns))
    whole = (images - subject.gaussian.mu.to(images).reshape(subject.shape)).flatten(1).norm(dim=1)
    return {
        "same": mean(table.diagonal()).record(),
        "other": pullback.between(table).record(),
        "missed": mean(missed / whole).record(),
        "length": mean(start.flatten(1).norm(dim=1) / math.sqrt(subject.dim)).record(),
    }


def _variance(images: Tensor) -> float:
    """The total variance of images (n, ...), summed over their dimensions."""
    return float(images.flatten(1).double().var(0).sum())
