"""What walks along found, named and random directions change in a subject's images, all at an equal distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atelier.evidence.factors import known
from atelier.evidence.order import short
from atelier.evidence.kicks import random_directions
from atelier.manifold.alignment import components
from atelier.manifold.knobs import Knob, coordinates_record, covariances, judge, knobs
from atelier.manifold.walks import Score, at_level, dial, line, matched, paint, score, straight
from atelier.networks.readers import columns
from atelier.scoring import Ruler
from atelier.statistics import mean, proportion
from atelier.subject import Settings, Subject
from painters.levels import Levels
from painters.sampling import noise, solve

TARGET = 0.5
"""The ends of every walk are so far apart, 1 for two unrelated images."""
RANGE = 2.0
"""Named knobs are also turned from so many standard deviations of the noise below its mean to as many above."""


@dataclass(frozen=True, eq=False)
class Found:
    """What the searches found at one seed: right directions (k, ...) of the whole map, and of one step at a level.

    ``state`` (...) is that at ``levels[index]``, on the same run as the noise.
    """

    whole: Tensor
    level: Tensor
    state: Tensor
    index: int


@dataclass(frozen=True, eq=False)
class Walked:
    """Walks along n directions: the ``angles`` (n,) of their ends, ``answers`` (n, steps, m), and their ``score``."""

    angles: Tensor
    answers: Tensor
    score: Score

    def part(self, at: slice) -> Walked:
        """Return some of the walks."""
        return Walked(self.angles[at], self.answers[at], Score(**{k: v[at] for k, v in vars(self.score).items()}))


def turn(
    subject: Subject, ruler: Ruler, x: Tensor, rows: Tensor, levels: Levels, *, level: int | None, settings: Settings
) -> Walked:
    """Walk from the state ``x`` (...) along ``rows`` (n, ...), in noise or at a level, until ends are TARGET apart.

    The search of the angles starts from those that the exact Gaussian needs.
    """
    g = subject.gaussian
    start = level or 0

    def states(angles: Tensor) -> Tensor:
        return line(x, rows, angles) if level is None else at_level(g, x, levels[start], rows, angles)

    def images(angles: Tensor) -> Tensor:
        return paint(subject.denoise, states(angles), levels, start=start)

    def exact(angles: Tensor) -> Tensor:
        points = states(angles)
        return g.flow(points.flatten(0, 1), frm=levels[start]).reshape(points.shape)

    guess = matched(exact, g, len(rows), target=TARGET, rounds=8)
    angles = matched(images, g, len(rows), target=TARGET, rounds=settings.pick(ci=1, book=2, full=3), begin=guess)
    positions = torch.linspace(-1, 1, settings.pick(ci=3, book=5, full=9), dtype=torch.float64)
    return _scored(ruler, images(angles[:, None] * positions), angles, positions)


def dialled(
    subject: Subject, ruler: Ruler, noises: Tensor, rows: Tensor, levels: Levels, *, settings: Settings
) -> Walked:
    """Set coordinates of the unit noise ``noises`` (...), those along ``rows`` (n, ...), from -RANGE to RANGE."""
    values = RANGE * torch.linspace(-1, 1, settings.pick(ci=3, book=5, full=9), dtype=torch.float64)
    images = paint(subject.denoise, levels.start(dial(noises, rows, values)), levels)
    return _scored(ruler, images, torch.full((len(rows),), RANGE), values)


def push_along(ruler: Ruler, image: Tensor, rows: Tensor, *, settings: Settings) -> Walked:
    """Step from an ``image`` (...) along ``rows`` (n, ...), with no diffusion, until the ends are TARGET apart."""
    size = TARGET * float(2 * ruler.subject.gaussian.spectrum.sum()) ** 0.5 / 2
    positions = torch.linspace(-1, 1, settings.pick(ci=3, book=5, full=9), dtype=torch.float64)
    images = straight(image, rows, size * positions).float()
    return _scored(ruler, images, torch.full((len(rows),), size, dtype=torch.float64), positions)


def _scored(ruler: Ruler, images: Tensor, angles: Tensor, positions: Tensor) -> Walked:
    said = ruler.answers(images.flatten(0, 1)).reshape(*images.shape[:2], -1)
    return Walked(angles, said, score(ruler, images, positions, answers=said))


def steer(
    subject: Subject,
    settings: Settings,
    seeds: Sequence[int],
    found: Sequence[Found],
    levels: Levels,
    *,
    dials: Sequence[int],
) -> dict[str, Any]:
    """Return the records ``walks`` and ``knobs``, see :func:`atelier.manifold.record.measure`.

    ``found``: for each of ``seeds`` what was found there; knobs are dialled at the seeds ``dials``. Empty without a
    reader or data.
    """
    ruler = Ruler.of(subject, settings.pick(ci=60, book=400, full=1000))
    latent = 1 if subject.image_size == subject.shape[-1] else 2
    data = known(subject, settings.pick(ci=200, book=8000, full=20_000) // latent, test=False)
    if ruler is None or data is None:
        return {}
    rows, explained = covariances(subject.gaussian, data)
    sizes = columns(data.factors)
    used = [f in ruler.factors for f in data.factors]
    rows = torch.cat([part for part, use in zip(rows.split(sizes), used) if use])
    made = knobs(subject.gaussian, rows, ruler.factors, subject.shape)
    made = made[: settings.pick(ci=3, book=len(made), full=len(made))]
    k = len(found[0].whole)
    pcs = subject.gaussian.U[:, :k].T.reshape(k, *subject.shape).double().cpu()
    named = torch.stack([knob.direction for knob in made])
    free = noise(dials, subject.shape)
    walked = {"dial": [dialled(subject, ruler, eps, named, levels, settings=settings) for eps in free]}
    for seed, f in zip(seeds, found):
        x = levels.start(noise([seed], subject.shape))[0]
        random = random_directions([4 * seed + i for i in range(settings.pick(ci=2, book=4, full=8))], subject.shape)
        groups = {"whole": f.whole.double().cpu(), "pcs": pcs, "random": random, "knobs": named}
        every = turn(subject, ruler, x, torch.cat(list(groups.values())), levels, level=None, settings=settings)
        first = 0
        for kind, directions in groups.items():
            walked.setdefault(kind, []).append(every.part(slice(first, first + len(directions))))
            first += len(directions)
        at = turn(subject, ruler, f.state, f.level.double().cpu(), levels, level=f.index, settings=settings)
        walked.setdefault("level", []).append(at)
        run = solve(subject.denoise, x[None], levels, solver="dpmpp2m", progress=False)
        own = components(run.x0, k)[0][0]
        walked.setdefault("straight", []).append(push_along(ruler, run.final[0], own, settings=settings))
    walks = {name: _kind(walked[name]) for name in ("whole", "pcs", "random", "level", "straight")}
    walks["level"]["sigma_over_alpha"] = float(levels.ratio[found[0].index])
    record = coordinates_record(rows, explained[torch.tensor(used)], made)
    record |= {"range": RANGE, "target": TARGET} | _knobs(ruler, made, walked)
    return {"factors": ruler.names, "target": TARGET, "walks": walks, "knobs": record}


def _kind(walked: Sequence[Walked]) -> dict[str, Any]:
    rows = [w.score.record() for w in walked]
    each = {
        "purity": [w.score.purity.nanmean() for w in walked],
        "linearity": [w.score.linearity.nanmean() for w in walked],
        "total": [w.score.change.sum(1).mean() for w in walked],
        "distance": [w.score.distance.mean() for w in walked],
    }
    summary = {name: mean(torch.stack(values).numpy()).record() for name, values in each.items()}
    return {key: [row[key] for row in rows] for key in rows[0]} | {
        "angle": [short(w.angles) for w in walked],
        "summary": summary,
    }


def _knobs(ruler: Ruler, made: Sequence[Knob], walked: Mapping[str, Sequence[Walked]]) -> dict[str, Any]:
    at = torch.tensor([k.factor for k in made])
    random, whole = ([_sizes(ruler, made, w) for w in walked[name]] for name in ("random", "whole"))
    top = torch.cat([w.score.factor for w in walked["random"]])
    return {
        "factor": at.tolist(),
        "dial": _judged(ruler, made, walked["dial"]),
        "equal": _judged(ruler, made, walked["knobs"]),
        "random": short(torch.cat(random).mean(0)),
        "best": short(torch.stack([part.max(0).values for part in whole]).mean(0)),
        "random_named": mean(torch.stack([part.mean() for part in random]).numpy()).record(),
        "chance": 1 / len(made) if len(ruler.factors) == 1 else float((top[:, None] == at).double().mean()),
    }


def _judged(ruler: Ruler, made: Sequence[Knob], walked: Sequence[Walked]) -> dict[str, Any]:
    """What walks along the knobs did to what they name, in one record."""
    found = [judge(ruler, made, w.answers) for w in walked]
    record = _kind(walked)
    record |= {key: [short(f[key].double()) for f in found] for key in found[0]}
    for key in ("hit", "right"):
        counts = torch.stack([f[key] for f in found])
        record["summary"][key] = proportion(int(counts.sum()), counts.numel()).record()
    for key in ("named", "others", "linear"):
        record["summary"][key] = mean(torch.stack([f[key].nanmean() for f in found]).numpy()).record()
    return record


def _sizes(ruler: Ruler, made: Sequence[Knob], w: Walked) -> Tensor:
    """How much other walks change what the knobs name, (n, knobs): a kind's probability counts in size."""
    if len(ruler.factors) == 1:
        return (w.answers[:, -1] - w.answers[:, 0])[:, [k.columns.start for k in made]].abs()
    return w.score.change[:, [k.factor for k in made]]
