"""The measurement of the manifold: what the searches find, how far it is the theory's, and what walks change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from atelier.evidence.order import counted, even, short
from atelier.landscape.jacobian import with_graph
from atelier.manifold.alignment import compare, endpoints
from atelier.manifold.search import Directions, SamplerMap, StepMap, searched
from atelier.manifold.steering import Found, steer
from atelier.subject import Settings, Subject
from painters.levels import Levels
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian, emergence, ode_gain

NOISE_LEVELS = (10.0, 3.0, 1.0, 0.3, 0.1)
"""The one-step map is searched at the levels of the run whose sigma/alpha is nearest to these."""
SEEDS = {"endpoint": (4, 50, 200), "one_step": (2, 4, 12), "whole": (2, 4, 10), "walks": (1, 3, 10), "dial": (1, 8, 20)}
"""How many seeds each part takes, in the profiles ci, book and full."""


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Search the manifold around images of a subject in the three ways, and measure what walks on it change.

    Returns ``dim`` D, ``k`` directions, Krylov ``blocks`` of ``width``, ``steps`` of the whole map, ``chance`` = k/D,
    ``seeds`` of each part (S below); ``endpoint``, see :func:`atelier.manifold.alignment.endpoints`;
    ``whole``: the ``gain`` (k) psi of the theory, and what :func:`atelier.manifold.alignment.compare`
    lists; ``one_step``: the same [levels] with the ``gain`` alpha lam / v, ``sigma_over_alpha`` and ``counted`` (0 or
    1). Searches start at the first PCs. Where values are alike, as at low noise, no search finds one leading span, not
    even on the exact Gaussian, whose record is the measure of that; there ``reached`` says more.

    With a reader and data also ``factors`` [F], and ``walks`` between ends that are ``target`` apart (1 as for
    unrelated images), along the right directions of the ``whole`` map, ``pcs`` and ``random`` ones in noise, right
    directions of one step on the shell of that ``level`` (with its ``sigma_over_alpha``), and ``straight`` ones, the
    image plus components of its endpoint path. Each has [S][n] lists of
    :class:`atelier.manifold.walks.Score` and ``angle``, and over seeds ``summary``: intervals of
    ``purity``, ``linearity``, ``total`` change and ``distance``.

    ``knobs``: what :func:`atelier.manifold.knobs.coordinates_record` lists, the ``factor`` index of each,
    and two walks: ``dial``, set from -``range`` to ``range`` standard deviations, and ``equal``, of ``target``
    distance. Both have also the [S][n] lists of :func:`atelier.manifold.knobs.judge`, with intervals in
    ``summary``; ``random`` and ``best`` [n]: the mean change of what a knob names along random directions, and along
    the best of the whole map's, over ends of the same distance; ``random_named``: the former over all names;
    ``chance``: how often the factor that a random direction changes most is a given one. ``None`` for a subject that
    knows nothing but the mean.
    """
    if subject.kind == "mean":
        return None
    k, width, blocks = settings.pick(ci=(2, 2, 2), book=(6, 2, 10), full=(8, 2, 20))
    cold, levels = settings.pick(ci=1, book=2, full=4), settings.pick(ci=1, book=5, full=5)
    seeds = {n: settings.seeds[: settings.pick(ci=a, book=b, full=c)] for n, (a, b, c) in SEEDS.items()}
    fine = even(subject, settings.pick(ci=8, book=20, full=40))
    coarse = even(subject, settings.pick(ci=3, book=10, full=20))
    start = subject.gaussian.U[:, :k].T.reshape(k, *subject.shape).float().cpu()
    record = {
        "dim": subject.dim,
        "k": k,
        "width": width,
        "blocks": blocks,
        "steps": coarse.steps,
        "chance": k / subject.dim,
        "seeds": {name: len(part) for name, part in seeds.items()},
        "endpoint": _endpoint(subject, seeds["endpoint"], fine, k, settings.batch),
        "one_step": _one_step(subject, seeds["one_step"], fine, start, levels, (width, blocks), cold),
    }
    denoise = with_graph(subject.denoise)
    maps = [SamplerMap(denoise, x, coarse) for x in coarse.start(noise(seeds["whole"], subject.shape))]
    found, record["whole"] = _compare(maps, start, subject.gaussian, (width, blocks), cold)
    record["whole"]["gain"] = short(ode_gain(subject.gaussian.lam[:k].double().cpu(), frm=coarse[0]))
    middle = _nearest(coarse, 1.0)
    steps = [StepMap(denoise, run.x[middle], coarse[middle]) for run in maps]
    local = [searched(step, start, blocks=blocks, width=width) for step in steps]
    at = [Found(w.inputs, s.inputs, run.x[middle], middle) for w, s, run in zip(found, local, maps)]
    return record | steer(subject, settings, seeds["walks"], at, coarse, dials=seeds["dial"])


def _compare(
    maps: Sequence[StepMap | SamplerMap], start: Tensor, gaussian: Gaussian, size: tuple[int, int], cold: int
) -> tuple[list[Directions], dict[str, Any]]:
    """Search each map, the first ``cold`` from random directions too, and compare what was found."""
    width, blocks = size
    found = [searched(run, start, blocks=blocks, width=width) for run in maps]
    random = torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
    other = [searched(run, random, blocks=blocks, width=width) for run in maps[:cold]]
    return found, compare(found, [run.push for run in maps], gaussian, cold=other)


def _endpoint(subject: Subject, seeds: Sequence[int], levels: Levels, k: int, batch: int) -> dict[str, Any]:
    paths, images, exact = [], [], []
    for part in subject.batches(seeds, batch):
        x = levels.start(noise(part, subject.shape))
        run = solve(subject.denoise, x, levels, solver="dpmpp2m", progress=False)
        paths.append(run.x0)
        images.append(run.final)
        exact.append(subject.gaussian.trajectory(x.double().cpu(), levels).x0)
    joined, pictures = (torch.cat(paths, 1), torch.cat(images), torch.cat(exact, 1)), subject.image_size
    return endpoints(subject.gaussian, *joined, k=k, frequency=pictures == subject.shape[-1])


def _one_step(
    subject: Subject, seeds: Sequence[int], levels: Levels, start: Tensor, n: int, size: tuple[int, int], cold: int
) -> dict[str, Any]:
    run = solve(subject.denoise, levels.start(noise(seeds, subject.shape)), levels, solver="dpmpp2m", progress=False)
    at = sorted({_nearest(levels, ratio) for ratio in NOISE_LEVELS[-n:]})
    lam, denoise, rows = subject.gaussian.lam[: len(start)].double().cpu(), with_graph(subject.denoise), []
    for i in at:
        maps = [StepMap(denoise, x, levels[i]) for x in run.x[i]]
        rows.append(_compare(maps, start, subject.gaussian, size, cold)[1])
    table = {key: [row[key] for row in rows] for key in rows[0] if key != "reached"}
    return table | {
        "sigma_over_alpha": short(levels.ratio[at]),
        "counted": counted(subject, levels[:-1])[at].int().tolist(),
        "gain": short(torch.stack([emergence(lam, levels[i]) / levels[i][0] for i in at])),
        "reached": {name: [row["reached"][name] for row in rows] for name in rows[0]["reached"]},
    }


def _nearest(levels: Levels, ratio: float) -> int:
    return int((levels.logsnr[:-1] + 2 * torch.tensor(ratio).log()).abs().argmin())
