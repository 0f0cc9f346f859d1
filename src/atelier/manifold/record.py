"""The measurement of the manifold: what the searches find, how far it is the theory's, and how far it carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from atelier.landscape.jacobian import with_graph
from atelier.manifold.alignment import components, copies, inside, overlap
from atelier.manifold.knobs import dialled, instruments, knob_of_each
from atelier.manifold.search import Directions, SamplerMap, searched, step_map
from atelier.manifold.walks import TARGET, walked
from atelier.scoring import distance
from atelier.statistics import mean, short
from atelier.subject import Settings, Subject, levels_at
from atelier.trained import counted
from painters.levels import Levels
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian, emergence, ode_gain

NOISE_LEVELS = (10.0, 1.0, 0.1)
"""The one-step map is searched at the levels of the run whose sigma/alpha is nearest to these."""
SEEDS = {"endpoint": (4, 48, 200), "one_step": (2, 3, 12), "whole": (2, 6, 12), "dial": (1, 8, 20)}
"""How many seeds each part takes, in the profiles ci, book and full."""
COMPONENTS = 4
"""So many components of an endpoint path are looked at."""


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Search the manifold around images of a subject in the three ways, and measure how far the directions carry.

    Returns ``dim`` D, ``k`` directions, ``steps`` of the whole map, ``chance`` = k/D,
    ``seeds`` of each part (S below); ``endpoint``, see :func:`endpoints`; ``whole``: the ``gain`` (k) psi of the
    theory, and what :func:`compared` lists; ``one_step``: the same [levels] with the ``gain`` alpha lam / v,
    ``sigma_over_alpha`` and ``counted`` (0 or 1); ``far``, see :func:`far`. Searches start at the first PCs. Where
    values are alike, as at low noise, no search finds one leading span, not even on the exact Gaussian, whose record is
    the measure of that. With a reader and data ``knobs``, see :func:`~atelier.manifold.knobs.dialled`. ``None`` for a
    subject that knows nothing but the mean.
    """
    if subject.kind == "mean":
        return None
    g = subject.gaussian
    size = settings.pick(ci=(2, 2), book=(2, 8), full=(2, 20))
    k, cold = settings.pick(ci=2, book=6, full=8), settings.pick(ci=1, book=2, full=4)
    seeds = {n: settings.seeds[: settings.pick(ci=a, book=b, full=c)] for n, (a, b, c) in SEEDS.items()}
    fine = subject.levels(settings.pick(ci=8, book=20, full=40), spacing="even")
    coarse = subject.levels(settings.pick(ci=3, book=10, full=20), spacing="even")
    start = g.U[:, :k].T.reshape(k, *subject.shape).float().cpu()
    begin, denoise = coarse.start(noise(seeds["whole"], subject.shape)), with_graph(subject.denoise)
    maps = [SamplerMap(denoise, x, coarse) for x in begin]
    found, whole = _searched(maps, start, g, size, cold)
    at = levels_at(coarse, NOISE_LEVELS[-settings.pick(ci=1, book=3, full=3) :])
    steps = [[step_map(denoise, run.x[i], coarse[i]) for run in maps[: len(seeds["one_step"])]] for i in at]
    rows = [_searched(part, start, g, size, cold)[1] for part in steps]
    lam = g.lam[:k].double().cpu()
    record = {
        "dim": subject.dim,
        "k": k,
        "steps": coarse.steps,
        "chance": k / subject.dim,
        "seeds": {name: len(part) for name, part in seeds.items()},
        "endpoint": _endpoint(subject, seeds["endpoint"], fine, settings.batch),
        "one_step": {key: [row[key] for row in rows] for key in rows[0]}
        | {
            "sigma_over_alpha": short(coarse.ratio[at]),
            "counted": counted(subject, coarse[:-1])[at].int().tolist(),
            "gain": short(torch.stack([emergence(lam, coarse[i]) / coarse[i][0] for i in at])),
        },
        "whole": whole | {"gain": short(ode_gain(lam, frm=coarse[0]))},
        "far": far(subject, begin, found, coarse, rounds=settings.pick(ci=1, book=3, full=4)),
    }
    tools = instruments(subject, settings)
    if tools is None:
        return record
    free = noise(seeds["dial"], subject.shape)
    return record | {"knobs": dialled(*tools, knob_of_each(tools[1], subject.shape), free, coarse)}


def _searched(
    maps: Sequence[SamplerMap], start: Tensor, gaussian: Gaussian, size: tuple[int, int], cold: int
) -> tuple[list[Directions], dict[str, Any]]:
    """Search each map, the first ``cold`` from random directions too, and compare what was found."""
    width, blocks = size
    found = [searched(run, start, blocks=blocks, width=width) for run in maps]
    random = torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
    return found, compared(found, gaussian, [searched(run, random, blocks=blocks, width=width) for run in maps[:cold]])


def compared(found: Sequence[Directions], gaussian: Gaussian, cold: Sequence[Directions]) -> dict[str, Any]:
    """Return how the k directions found at S images agree with the data's PCs, and with those of another search.

    ``values`` and ``residuals`` (relative to the value), [S][k]; ``images``:
    :func:`~atelier.manifold.alignment.overlap` of the left span with the PCs, [S]; ``agree``: of that found from the
    PCs with that found from random directions, for the first images.
    """
    pcs = gaussian.U[:, : len(found[0])].T.reshape(found[0].inputs.shape)
    return {
        "values": short(torch.stack([d.values for d in found])),
        "residuals": short(torch.stack([d.residuals / d.values for d in found])),
        "images": [overlap(d.images, pcs) for d in found],
        "agree": [overlap(other.images, d.images) for other, d in zip(cold, found)],
    }


def far(
    subject: Subject, begin: Tensor, found: Sequence[Directions], levels: Levels, *, rounds: int = 2
) -> dict[str, Any]:
    """Return what is left of the directions at the length of a walk, from S states ``begin`` (S, ...) of noise.

    Walks along the k directions ``found`` at each of them and along as many PCs, their ends ``target`` apart (1 as for
    unrelated images). ``whole`` [S]: overlap of the differences between ends, along the found directions, with the PCs;
    ``pcs`` [S]: mean squared cosine of those along PC k with PC k. ``angles`` and ``distance``, {"whole", "pcs"}
    [S][k]: how far the noise was turned (radians, to either side), and how far apart the ends came to lie.
    """
    k, g = len(found[0]), subject.gaussian
    pcs = g.U[:, :k].T.reshape(found[0].inputs.shape).double().cpu()
    rows = []
    for x, one in zip(begin, found):
        # all in one batch, as the angles of each are searched with runs of the network
        angles, ends = walked(subject, x, torch.cat([one.inputs.double().cpu(), pcs]), levels, rounds=rounds)
        moved = (ends[:, 1] - ends[:, 0]).double().cpu()
        own = torch.cosine_similarity(moved[k:].flatten(1), pcs.flatten(1)).square().mean()
        rows.append((overlap(moved[:k], pcs), float(own), angles, distance(g, ends[:, 0], ends[:, 1])))
    whole, own, turned, apart = zip(*rows)
    sizes = {"angles": torch.stack(turned), "distance": torch.stack(apart)}
    return {"target": TARGET, "whole": list(whole), "pcs": list(own)} | {
        key: {"whole": short(both[:, :k]), "pcs": short(both[:, k:])} for key, both in sizes.items()
    }


def _endpoint(subject: Subject, seeds: Sequence[int], levels: Levels, batch: int) -> dict[str, Any]:
    runs = [
        solve(subject.denoise, levels.start(noise(part, subject.shape)), levels, solver="dpmpp2m", progress=False)
        for part in subject.batches(seeds, batch)
    ]
    paths, images = torch.cat([run.x0 for run in runs], 1), torch.cat([run.final for run in runs])
    return endpoints(subject.gaussian, paths, images, frequency=subject.image_size == subject.shape[-1])


def endpoints(gaussian: Gaussian, paths: Tensor, images: Tensor, *, frequency: bool) -> dict[str, Any]:
    """Return what the components of endpoint paths have beyond copies of the image, in one record.

    ``paths`` (N, B, ...): endpoint estimates of B seeds; ``images`` (B, ...). ``inside``: the share of each of 4
    components within the spans of :func:`~atelier.manifold.alignment.copies`, and within ``all`` of another seed's
    image, ``other``; intervals over seeds.
    """
    mu = gaussian.mu.double().cpu().reshape(images.shape[1:])
    spans = [copies(gaussian, image.double().cpu() - mu, frequency=frequency) for image in images]
    spans = [own | {"other": spans[(i + 1) % len(spans)]["all"]} for i, own in enumerate(spans)]
    vectors = components(paths, COMPONENTS)[0]

    def over_seeds(name: str) -> list[dict[str, float | int]]:
        shares = torch.stack([inside(found, span[name]) for found, span in zip(vectors, spans)])
        return [mean(column.numpy()).record() for column in shares.double().T]

    return {"inside": {name: over_seeds(name) for name in spans[0]}}
