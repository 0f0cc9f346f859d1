"""Diffusion models beside GANs: both are maps from noise to images, so both have a metric, and axes.

The sampler's map is looked at in the span of the data's first principal components (PCs), a generator in all of its
latents. Beside a trained GAN stand three generators that learned nothing from a critic: one that was never trained, one
with its weights shuffled, and the linear one of the PCs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from atelier.gans import pullback
from atelier.gans.maps import Mapping, generator_of, latents, nulls, pushed
from atelier.networks.generator import Generator
from atelier.statistics import mean
from atelier.subject import Settings, Subject

AXES = 8
"""Directions in which spans are compared."""
DRAWS = 20
"""How often as many differences of test pictures are drawn, to see what any pictures of these data share."""


def measure(subject: Subject, settings: Settings) -> dict[str, Any]:
    """Return the geometry of a model's map from noise to image, and a GAN's beside it where one paints the same data.

    See :func:`geometry` and :func:`beside`.
    """
    n, pcs, steps = settings.pick(ci=(2, 6, 4), book=(24, 32, 8), full=(40, 64, 25))
    record, J = geometry(subject, settings.seeds[:n], pcs=pcs, steps=steps)
    partner = generator_of(subject)
    return record if partner is None else record | beside(subject, partner, J)


def geometry(subject: Subject, seeds: tuple[int, ...], *, pcs: int, steps: int) -> tuple[dict[str, Any], Tensor]:
    """Return the record of a model's map, and its Jacobians (n, D, pcs) in the span of the data's first PCs.

    ``n`` points, ``pcs`` of the basis, ``steps`` of the map; ``theory`` [pcs] eigenvalues of the exact Gaussian's
    metric, psi^2, and ``theory_participation`` of these; ``map``: ``pixels``, see :func:`described`, and ``outside``,
    the share of the trace of J^T J outside the basis, an interval over points.
    """
    pcs = min(pcs, len(subject.gaussian.lam))
    mapping, basis = Mapping.of(subject, steps), principal(subject, pcs)
    J, outside = pushed(mapping, seeds, basis)
    trace = J.square().sum((1, 2))
    theory = mapping.scale**2 * subject.gaussian.gain(frm=mapping.levels[0])[:pcs].square()
    record = {
        "n": len(J),
        "pcs": pcs,
        "steps": steps,
        "theory": theory.tolist(),
        "theory_participation": float(pullback.participation(theory)),
        "map": {"pixels": described(J), "outside": mean(outside / (trace + outside)).record()},
    }
    return record, J


def beside(subject: Subject, partner: Generator, J: Tensor) -> dict[str, Any]:
    """Return what a GAN's metric is like beside the map's Jacobians ``J`` (n, D, d), at as many points.

    ``generators`` (``trained``, ``untrained``, ``shuffled``, ``linear``): ``pixels`` of each, see :func:`described`;
    ``overlap``, see :func:`shared`.
    """
    z = latents(range(len(J)), partner.latent)
    made = {"trained": partner, **nulls(subject, partner)}
    metrics = {name: pullback.metric(generate, z)[1].cpu() for name, generate in made.items()}
    return {
        "generators": {name: {"pixels": described(part)} for name, part in metrics.items()},
        "overlap": shared({"map": J} | {name: metrics[name] for name in ("trained", "untrained")}, subject),
    }


def described(J: Tensor) -> dict[str, Any]:
    """Return what a metric J^T J is like at n points, ``J`` (n, m, d).

    ``spectrum``, ``low``, ``high`` [d]: geometric mean of the eigenvalues over points, and 16 and 84 %. Intervals over
    points: ``participation``, and ``log``, the mean homogeneity of pairs of different points.
    """
    H = J.mT @ J
    values = pullback.spectra(H)[0]
    logs = values.clamp(min=1e-12 * float(values.max())).log()  # a direction that moves nothing has no logarithm
    return {
        "spectrum": logs.mean(0).exp().tolist(),
        "low": logs.quantile(0.16, 0).exp().tolist(),
        "high": logs.quantile(0.84, 0).exp().tolist(),
        "participation": mean(pullback.participation(values)).record(),
        "log": pullback.between(pullback.homogeneity(H)).record(),
    }


def principal(subject: Subject, k: int) -> Tensor:
    """Return the data's first ``k`` PCs as directions (k, ...), float32."""
    return subject.gaussian.U[:, :k].T.reshape(-1, *subject.shape).float().cpu()


def shared(J: dict[str, Tensor], subject: Subject) -> dict[str, Any]:
    """Return the overlaps of the first 8 image directions of several models' Jacobians (n, D, d) at their points.

    ``A B``: interval over points, A and B at different images; one of them may be ``pictures``, the differences of as
    many pairs of test pictures, drawn at random, which says how much pictures of these data share in any case;
    ``random``: the mean for directions drawn evenly. With the mean projections on the spans of A and of B it is
    tr(P_A P_B) / 8, so that by Cauchy and Schwarz (A B)^2 is at most (A A)(B B).
    """
    spans = {name: pullback.image_axes(part, min(AXES, part.shape[2])) for name, part in J.items()}
    data = subject.data(2 * AXES * DRAWS)
    if data is not None and len(data) == 2 * AXES * DRAWS:
        apart = (data[::2] - data[1::2]).flatten(1).double().reshape(DRAWS, AXES, -1)
        spans["pictures"] = torch.linalg.qr(apart.mT).Q.mT
    names, found = list(spans), {}
    for i, a in enumerate(names):
        for b in names[i:]:
            table = pullback.overlaps(spans[a], spans[b])
            found[f"{a} {b}"] = (pullback.between(table) if a == b else pullback.across(table)).record()
    return found | {"random": AXES / subject.dim}
