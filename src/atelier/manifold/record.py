"""The measurement of the manifold: what the searches find, how far it is the theory's, and what walks change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atelier.evidence.kicks import random_directions
from atelier.evidence.order import counted
from atelier.landscape.jacobian import with_graph
from atelier.manifold.alignment import components, copies, cosines, inside, overlap
from atelier.manifold.knobs import PCS, Facts, Knob, judged, knob_of_each
from atelier.manifold.search import Directions, SamplerMap, StepMap, searched
from atelier.manifold.walks import RANGE, TARGET, Score, dialled, stepped, turned
from atelier.scoring import Ruler
from atelier.statistics import mean, proportion, short
from atelier.subject import Settings, Subject, levels_at
from painters.levels import Levels
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian, emergence, ode_gain

NOISE_LEVELS = (10.0, 3.0, 1.0, 0.3, 0.1)
"""The one-step map is searched at the levels of the run whose sigma/alpha is nearest to these."""
SEEDS = {"endpoint": (4, 50, 200), "one_step": (2, 4, 12), "whole": (2, 4, 10), "walks": (1, 3, 10), "dial": (1, 8, 20)}
"""How many seeds each part takes, in the profiles ci, book and full."""
COMPONENTS = 4
"""So many components of an endpoint path are looked at."""


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Search the manifold around images of a subject in the three ways, and measure what walks on it change.

    Returns ``dim`` D, ``k`` directions, Krylov ``blocks`` of ``width``, ``steps`` of the whole map, ``chance`` = k/D,
    ``seeds`` of each part (S below); ``endpoint``, see :func:`endpoints`; ``whole``: the ``gain`` (k) psi of the
    theory, and what :func:`compared` lists; ``one_step``: the same [levels] with the ``gain`` alpha lam / v,
    ``sigma_over_alpha`` and ``counted`` (0 or 1). Searches start at the first PCs. Where values are alike, as at low
    noise, no search finds one leading span, not even on the exact Gaussian, whose record is the measure of that. With a
    reader and data also what :func:`steered` lists. ``None`` for a subject that knows nothing but the mean.
    """
    if subject.kind == "mean":
        return None
    k, width, blocks = settings.pick(ci=(2, 2, 2), book=(6, 2, 10), full=(8, 2, 20))
    cold, levels = settings.pick(ci=1, book=2, full=4), settings.pick(ci=1, book=5, full=5)
    seeds = {n: settings.seeds[: settings.pick(ci=a, book=b, full=c)] for n, (a, b, c) in SEEDS.items()}
    fine = subject.levels(settings.pick(ci=8, book=20, full=40), spacing="even")
    coarse = subject.levels(settings.pick(ci=3, book=10, full=20), spacing="even")
    start = _first_pcs(subject, k).float()
    record = {
        "dim": subject.dim,
        "k": k,
        "width": width,
        "blocks": blocks,
        "steps": coarse.steps,
        "chance": k / subject.dim,
        "seeds": {name: len(part) for name, part in seeds.items()},
        "endpoint": _endpoint(subject, seeds["endpoint"], fine, settings.batch),
        "one_step": _one_step(subject, seeds["one_step"], fine, start, levels, (width, blocks), cold),
    }
    denoise = with_graph(subject.denoise)
    maps = [SamplerMap(denoise, x, coarse) for x in coarse.start(noise(seeds["whole"], subject.shape))]
    found, record["whole"] = _searched(maps, start, subject.gaussian, (width, blocks), cold)
    record["whole"]["gain"] = short(ode_gain(subject.gaussian.lam[:k].double().cpu(), frm=coarse[0]))
    (middle,) = levels_at(coarse, [1.0])
    steps = [StepMap(denoise, run.x[middle], coarse[middle]) for run in maps]
    local = [searched(step, start, blocks=blocks, width=width) for step in steps]
    at = [Found(w.inputs, s.inputs, run.x[middle], middle) for w, s, run in zip(found, local, maps)]
    return record | steered(subject, settings, seeds["walks"], at, coarse, dials=seeds["dial"])


def _first_pcs(subject: Subject, k: int) -> Tensor:
    return subject.gaussian.U[:, :k].T.reshape(k, *subject.shape).double().cpu()


def _searched(
    maps: Sequence[StepMap | SamplerMap], start: Tensor, gaussian: Gaussian, size: tuple[int, int], cold: int
) -> tuple[list[Directions], dict[str, Any]]:
    """Search each map, the first ``cold`` from random directions too, and compare what was found."""
    width, blocks = size
    found = [searched(run, start, blocks=blocks, width=width) for run in maps]
    random = torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
    return found, compared(found, gaussian, [searched(run, random, blocks=blocks, width=width) for run in maps[:cold]])


def compared(found: Sequence[Directions], gaussian: Gaussian, cold: Sequence[Directions]) -> dict[str, Any]:
    """Return how the k directions found at S images agree with the data's PCs, and with those of another search.

    ``values``, ``residuals`` (relative to the value) and ``image_cosines`` with the first k PCs, [S][k]; ``inputs``,
    ``images``: :func:`~atelier.manifold.alignment.overlap` of right and left span with the PCs, ``sides``: of one with
    the other, [S]; ``cold``: overlap with the PCs of the right span found from random directions, and ``agree`` of both
    right spans, for the images of ``cold``.
    """
    pcs = gaussian.U[:, : len(found[0])].T.reshape(found[0].inputs.shape)
    return {
        "values": short(torch.stack([d.values for d in found])),
        "residuals": short(torch.stack([d.residuals / d.values for d in found])),
        "image_cosines": short(torch.stack([cosines(d.images, pcs) for d in found])),
        "inputs": [overlap(d.inputs, pcs) for d in found],
        "images": [overlap(d.images, pcs) for d in found],
        "sides": [overlap(d.images, d.inputs) for d in found],
        "cold": [overlap(d.inputs, pcs) for d in cold],
        "agree": [overlap(other.inputs, d.inputs) for other, d in zip(cold, found)],
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


def _one_step(
    subject: Subject, seeds: Sequence[int], levels: Levels, start: Tensor, n: int, size: tuple[int, int], cold: int
) -> dict[str, Any]:
    run = solve(subject.denoise, levels.start(noise(seeds, subject.shape)), levels, solver="dpmpp2m", progress=False)
    at = levels_at(levels, NOISE_LEVELS[-n:])
    lam, denoise, rows = subject.gaussian.lam[: len(start)].double().cpu(), with_graph(subject.denoise), []
    for i in at:
        maps = [StepMap(denoise, x, levels[i]) for x in run.x[i]]
        rows.append(_searched(maps, start, subject.gaussian, size, cold)[1])
    return {key: [row[key] for row in rows] for key in rows[0]} | {
        "sigma_over_alpha": short(levels.ratio[at]),
        "counted": counted(subject, levels[:-1])[at].int().tolist(),
        "gain": short(torch.stack([emergence(lam, levels[i]) / levels[i][0] for i in at])),
    }


@dataclass(frozen=True, eq=False)
class Found:
    """What the searches found at one seed: right directions (k, ...) of the whole map, and of one step at a level.

    ``state`` (...) is that at ``levels[index]``, on the same run as the noise.
    """

    whole: Tensor
    level: Tensor
    state: Tensor
    index: int


def steered(
    subject: Subject,
    settings: Settings,
    seeds: Sequence[int],
    found: Sequence[Found],
    levels: Levels,
    *,
    dials: Sequence[int],
) -> dict[str, Any]:
    """Return what walks along found, named and random directions change, all at an equal distance.

    ``found``: for each of ``seeds`` what was found there; knobs are dialled at the seeds ``dials``. ``factors`` [F],
    and ``walks`` between ends that are ``target`` apart (1 as for unrelated images), along the right directions of the
    ``whole`` map, ``pcs`` and ``random`` ones in noise, right directions of one step on the shell of that ``level``
    (with its ``sigma_over_alpha``), and ``straight`` ones, the image plus components of its endpoint path. Each has
    [S][n] lists of :class:`~atelier.manifold.walks.Score`, and over seeds ``summary``: intervals of ``purity`` and
    ``linearity``.

    ``knobs``: ``names``, ``factor`` index and ``explained`` R^2 of each [n], what
    :func:`~atelier.manifold.knobs.stored` needs, and two walks: ``dial``, set from -``range`` to ``range`` standard
    deviations, and ``equal``, of ``target`` distance. Both have also the [S][n] lists of
    :func:`~atelier.manifold.knobs.judged`, with intervals in ``summary``; ``random`` and ``best`` [n]: the mean change
    of what a knob names along random directions, and along the best of the whole map's, over ends of the same distance;
    ``random_named``: the former over all names; ``chance``: how often the factor that a random direction changes most
    is a given one. Empty without a reader or data.
    """
    ruler = Ruler.of(subject, settings.pick(ci=60, book=400, full=1000))
    latent = 1 if subject.image_size == subject.shape[-1] else 2  # encoding is dear
    n = settings.pick(ci=200, book=8000, full=20_000) // latent
    facts = None if ruler is None else Facts.of(subject, ruler.factors, n)
    if ruler is None or facts is None:
        return {}
    made = knob_of_each(facts, subject.shape)[: settings.pick(ci=3, book=None, full=None)]
    pcs, named = _first_pcs(subject, len(found[0].whole)), torch.stack([knob.direction for knob in made])
    free = noise(dials, subject.shape)
    walked = {"dial": [dialled(ruler, eps, named, levels, settings=settings) for eps in free]}
    for seed, f in zip(seeds, found):
        x = levels.start(noise([seed], subject.shape))[0]
        random = random_directions([4 * seed + i for i in range(settings.pick(ci=2, book=4, full=8))], subject.shape)
        groups = {"whole": f.whole.double().cpu(), "pcs": pcs, "random": random, "knobs": named}
        # all in one batch, as the angles of each are searched with runs of the network
        every = turned(ruler, x, torch.cat(list(groups.values())), levels, settings=settings)
        first = 0
        for kind, directions in groups.items():
            walked.setdefault(kind, []).append(every.part(slice(first, first + len(directions))))
            first += len(directions)
        at = turned(ruler, f.state, f.level.double().cpu(), levels, level=f.index, settings=settings)
        walked.setdefault("level", []).append(at)
        run = solve(subject.denoise, x[None], levels, solver="dpmpp2m", progress=False)
        own = components(run.x0, len(pcs))[0][0]
        walked.setdefault("straight", []).append(stepped(ruler, run.final[0], own, settings=settings))
    walks = {name: _kind(walked[name]) for name in ("whole", "pcs", "random", "level", "straight")}
    walks["level"]["sigma_over_alpha"] = float(levels.ratio[found[0].index])
    coordinates = facts.covariance[:PCS].T
    record = {
        "names": [k.name for k in made],
        "sizes": [len(k.pattern) for k in made],
        "pcs": coordinates.shape[1],
        "coordinates": short(coordinates),
        "explained": short(facts.r2(PCS)[[k.factor for k in made]]),
        "range": RANGE,
        "target": TARGET,
    }
    record |= knobs_record(ruler, made, walked)
    return {"factors": ruler.names, "target": TARGET, "walks": walks, "knobs": record}


def _kind(walked: Sequence[Score]) -> dict[str, Any]:
    """Scores of the walks of one kind at several seeds, in one record."""
    rows = [w.record() for w in walked]
    summary = {
        name: mean(torch.stack([getattr(w, name).nanmean() for w in walked]).numpy()).record()
        for name in ("purity", "linearity")
    }
    return {key: [row[key] for row in rows] for key in rows[0]} | {"summary": summary}


def knobs_record(ruler: Ruler, made: Sequence[Knob], walked: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """Return what knobs changed, and random and found directions beside them, see :func:`steered`."""
    at = torch.tensor([k.factor for k in made])
    random, whole = ([_sizes(ruler, made, w) for w in walked[name]] for name in ("random", "whole"))
    top = torch.cat([w.factor for w in walked["random"]])
    return {
        "factor": at.tolist(),
        "dial": _judged(ruler, made, walked["dial"]),
        "equal": _judged(ruler, made, walked["knobs"]),
        "random": short(torch.cat(random).mean(0)),
        "best": short(torch.stack([part.max(0).values for part in whole]).mean(0)),
        "random_named": mean(torch.stack([part.mean() for part in random]).numpy()).record(),
        "chance": 1 / len(made) if len(ruler.factors) == 1 else float((top[:, None] == at).double().mean()),
    }


def _judged(ruler: Ruler, made: Sequence[Knob], walked: Sequence[Score]) -> dict[str, Any]:
    """What walks along the knobs did to what they name, in one record."""
    found = [judged(ruler, made, w.answers) for w in walked]
    record = _kind(walked)
    record |= {key: [short(f[key].double()) for f in found] for key in found[0]}
    for key in ("hit", "right"):
        counts = torch.stack([f[key] for f in found])
        record["summary"][key] = proportion(int(counts.sum()), counts.numel()).record()
    named = torch.stack([f["named"].nanmean() for f in found])
    record["summary"]["named"] = mean(named.numpy()).record()
    return record


def _sizes(ruler: Ruler, made: Sequence[Knob], w: Score) -> Tensor:
    """How much other walks change what the knobs name, (n, knobs): a kind's probability counts in size."""
    if len(ruler.factors) == 1:
        return (w.answers[:, -1] - w.answers[:, 0])[:, [k.columns.start for k in made]].abs()
    return w.change[:, [k.factor for k in made]]
