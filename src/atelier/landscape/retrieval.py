"""Retrieval: what the exact denoiser of the training set does, and whether a trained network does it too.

The cloud of the training images has the only endpoint estimate that is exact for it, a softmax-weighted mean of the
images, and its flow can only end on one of them. :func:`collapse` measures how the weights sharpen, :func:`outside`
whether estimates leave the range of the data, and :func:`copying` is a memorisation test: paintings of a network that
copies lie nearer to its training images than to as many fresh ones. Sources: Wang and Vastola (arXiv 2303.02490,
2412.09726); for comparing distances with those of held-out data, Meehan, Chaudhuri and Dasgupta (2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from atelier import statistics as intervals
from atelier.data.images import to_unit
from atelier.limits.analytic import crossing
from atelier.limits.carries import affordable, training
from atelier.subject import Settings, Subject
from painters.levels import Levels
from painters.sampling import noise, solve
from painters.theory.cloud import PointCloud
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

RATIOS = (50.0, 20.0, 10.0, 7.0, 5.0, 3.0, 2.0, 1.5, 1.0, 0.7, 0.5, 0.3)
"""Noise levels sigma/alpha at which weights are looked at, those inside the subject's range."""

HULL_PCS = 20
CHUNK = 2000


@dataclass(frozen=True, eq=False)
class Collapse:
    """The weights of a point cloud along L levels of B states each: ``ratio`` (L,) is sigma/alpha, noisy first.

    ``largest`` (L, B): the largest weight. ``effective`` (L, B): exp of the entropy of the weights, between 1 and the
    number of points. ``nearest`` (L, B): the index of the image with the largest weight. ``label`` (L, B): the largest
    total weight of a label, if the cloud has labels.
    """

    ratio: Tensor
    largest: Tensor
    effective: Tensor
    nearest: Tensor
    label: Tensor | None = None

    def level(self, images: float = 2.0) -> float:
        """Return sigma/alpha at which the median effective number first falls below ``images``, 0 if it never does."""
        median = self.effective.median(1).values.log()
        return float(crossing(self.ratio, -median, -float(torch.tensor(images).log())))


def collapse(cloud: PointCloud, states: Sequence[Tensor], levels: Levels) -> Collapse:
    """Return what the cloud's weights look like at ``states``, one (B, ...) for each of ``levels``, sigma > 0."""
    if len(states) != len(levels):
        raise ValueError(f"{len(levels)} levels need as many sets of states, got {len(states)}")
    seen = [cloud.weights(x, *level) for x, level in zip(states, levels)]
    label = None
    if cloud.labels is not None:
        label = torch.stack([w.labels.amax(1) for w in seen if w.labels is not None])
    largest, effective, near = (
        torch.stack([getattr(w, key) for w in seen]).cpu() for key in ("largest", "effective", "nearest")
    )
    return Collapse(levels.ratio, largest, effective, near, label)


def outside(gaussian: Gaussian, estimates: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the share of coordinates of ``estimates`` (B, ...) that leave the data's range, (B,).

    ``low``, ``high`` (K,): the least and largest coordinates of the data along the first K PCs of ``gaussian``. An
    estimate in the convex hull of the data leaves none of them.
    """
    seen = gaussian.project(estimates)[:, : len(low)]
    slack = 1e-5 * (high - low)
    return ((seen < low - slack) | (seen > high + slack)).double().mean(1)


def nearest(images: Tensor, gallery: Tensor | Iterable[Tensor], *, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return the distances |x - y| to the k nearest images of a gallery, and their numbers, both (B, k), near first.

    ``gallery``: (n, ...), or an iterable of such parts, so that it need not fit in memory. Candidates are found by the
    expanded product in float32 and measured by their differences, so that a copy is at distance 0.
    """
    x = images.flatten(1).float()
    best = torch.full((len(x), k), torch.inf)
    index = torch.full((len(x), k), -1)
    first = 0
    for part in gallery.split(CHUNK) if isinstance(gallery, Tensor) else gallery:
        y = part.flatten(1).float()
        rough = y.square().sum(1) - 2 * x @ y.T
        found = rough.topk(min(k + 2, len(y)), largest=False).indices
        exact = (x[:, None] - y[found]).norm(dim=2)
        best, order = torch.cat([best, exact], 1).topk(k, largest=False)
        index = torch.cat([index, found + first], 1).gather(1, order)
        first += len(y)
    return best, index


@dataclass(frozen=True, eq=False)
class Copying:
    """Distances of n paintings, and of m held-out images, to the nearest image of the training set, and of a fresh one.

    ``training`` (n,), ``held`` (m,): distance to the whole training set. ``equal`` (n,), ``fresh`` (n,): distance of
    each painting to as many training images as there are fresh ones, and to the fresh ones. ``index`` (n,): the number
    of the nearest training image. ``sizes``: how many training and fresh images there were.
    """

    training: Tensor
    held: Tensor
    equal: Tensor
    fresh: Tensor
    index: Tensor
    sizes: tuple[int, int]

    def record(self) -> dict[str, Any]:
        """Return the tests as JSON stores them.

        ``ratio``: median distance to training over that of held-out images, with a bootstrap interval. ``rank``: the
        chance that a painting is nearer than a held-out image, 1/2 if they are alike. ``share``: how many paintings
        are nearer to a training image than to every one of as many fresh images, 1/2 without copying however smooth
        the paintings are, 1 for copies. ``close``: how many are nearer than all but 1 % of the held-out images.
        """
        ratio = median_ratio(self.training, self.held)
        nearer = (self.training[:, None] < self.held).double() + 0.5 * (self.training[:, None] == self.held).double()
        hits, close = int((self.equal < self.fresh).sum()), int((self.training < self.held.quantile(0.01)).sum())
        n = len(self.training)
        return {
            "n": n,
            "ratio": ratio.record(),
            "rank": intervals.mean(nearer.mean(1)).record(),
            "share": intervals.proportion(hits, n).record(),
            "close": intervals.proportion(close, n).record(),
            "to_training": self.training.tolist(),
            "to_fresh": self.fresh.tolist(),
            "index": self.index.tolist(),
        }


def median_ratio(a: Tensor, b: Tensor, *, draws: int = 2000, seed: int = 0) -> intervals.Interval:
    """Return median(a) / median(b) of two independent samples, resampled each for itself."""
    generator = np.random.default_rng(seed)
    medians = []
    for values in (a.numpy(), b.numpy()):
        medians.append(np.median(values[generator.integers(len(values), size=(draws, len(values)))], axis=1))
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    return intervals.Interval(float(np.median(a.numpy()) / np.median(b.numpy())), float(low), float(high), len(a))


def copying(paintings: Tensor, held: Tensor, training: Iterable[Tensor], fresh: Iterable[Tensor]) -> Copying:
    """Measure how near ``paintings`` (n, ...) and ``held``-out images (m, ...) lie to two galleries, read once each.

    ``training`` and ``fresh`` are iterables of parts (.., ...) of images; held-out and fresh images must be different
    ones. The first training images, as many as there are fresh ones, make the equal gallery.
    """
    size, kept = 0, []
    for part in fresh:
        size += len(part)
        kept.append(nearest(paintings, part)[0])
    everyone, first = torch.cat([paintings, held]), 0
    best, index = torch.full((len(everyone),), torch.inf), torch.zeros(len(everyone), dtype=torch.long)
    equal = torch.full((len(paintings),), torch.inf)
    for part in training:
        for piece in (part[: max(size - first, 0)], part[max(size - first, 0) :]):
            if len(piece) == 0:
                continue
            distance, number = (v[:, 0] for v in nearest(everyone, piece))
            index = torch.where(distance < best, number + first, index)
            best = torch.minimum(best, distance)
            if first < size:
                equal = torch.minimum(equal, distance[: len(paintings)])
            first += len(piece)
    n = len(paintings)
    return Copying(best[:n], best[n:], equal, torch.cat(kept, 1).amin(1), index[:n], (first, size))


def gallery(subject: Subject, n: int, *, test: bool, skip: int = 0) -> Iterator[Tensor]:
    """Yield pictures ``skip`` ... n of the subject's training or test data as its reader sees them, in parts."""
    pictures = subject.pictures(n, test=test)
    assert pictures is not None and subject.reader is not None
    factor = pictures.shape[2] // subject.reader.shape[1]
    for part in pictures[skip:].split(CHUNK):
        yield F.avg_pool2d(to_unit(part), factor)


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Measure retrieval by the training set's cloud, and test the subject for memorisation. ``None`` without its data.

    Keys. ``training``: images in the cloud. ``ratio`` [L]: levels sigma/alpha, noisy first. For states S = ``test``
    (noised test images) and ``path`` (the subject's own runs, at ``path_ratio``): ``S_largest`` [L x [median, 5 %,
    95 %]], ``S_effective`` likewise, ``S_label`` likewise if there are labels, ``S_collapse``: sigma/alpha where the
    median effective number falls below 2. ``outside`` {"cloud", "gaussian", "subject"} [L]: share of coordinates along
    20 PCs where the estimates at noised test images leave the data's range. ``paintings``, ``control`` (the cloud's
    own paintings), ``gaussian`` (the exact Gaussian's): {n, ratio, rank, share, close (intervals), to_training,
    to_fresh, index}, see :class:`Copying`; ``held`` [m]: the held-out distances; ``galleries`` {"training", "fresh"}.
    A subject that is not a network has no cloud: of these keys only ``paintings``, ``held`` and ``galleries``.
    """
    if subject.reader is None or subject.pictures(1) is None:
        return None
    found: dict[str, Any] = {}
    with tqdm(total=4, desc="retrieval", leave=False, disable=not settings.progress) as bar:
        if subject.kind == "network":
            images, labels = training(subject, settings.pick(ci=300, book=affordable(subject), full=60_000))
            assert images is not None
            found |= {"training": len(images)} | _weights(subject, settings, PointCloud(images.double(), labels))
        bar.update()
        return found | _memorisation(subject, settings, bar)


def _weights(subject: Subject, settings: Settings, cloud: PointCloud) -> dict[str, Any]:
    """The cloud's weights at noised test images and along the subject's runs, and who leaves the data's range."""
    n = settings.pick(ci=4, book=32, full=500)
    highest = float(subject.levels(10).ratio[0])
    ratio = torch.tensor([r for r in RATIOS if r <= highest], dtype=torch.float64)
    levels = Levels(1 / torch.hypot(ratio, torch.ones(())), ratio / torch.hypot(ratio, torch.ones(())), "looked at")
    held = subject.data(n)
    assert held is not None
    noises = noise(range(len(held)), subject.shape)
    states = [a * held + s * noises for a, s in levels]
    found = {"ratio": ratio.tolist()} | _row("test", collapse(cloud, states, levels))
    run = subject.run(settings.seeds[:n], steps=settings.pick(ci=8, book=25, full=50), solver="dpmpp2m")
    kept = sorted(set((run.levels.ratio[:-1].log()[:, None] - ratio.log()).abs().argmin(0).tolist()))
    path = Levels(run.levels.alpha[kept], run.levels.sigma[kept], run.levels.origin)
    found |= {"path_ratio": path.ratio.tolist()} | _row("path", collapse(cloud, [run.x[i] for i in kept], path))
    seen = subject.gaussian.project(cloud.points)[:, :HULL_PCS]
    ends = (seen.amin(0), seen.amax(0))
    denoisers = {"cloud": cloud, "gaussian": subject.gaussian, "subject": subject.denoise}
    found["outside"] = {
        name: [float(outside(subject.gaussian, d(x, *level), *ends).mean()) for x, level in zip(states, levels)]
        for name, d in denoisers.items()
    }
    return found


def _row(name: str, weights: Collapse) -> dict[str, Any]:
    found: dict[str, Any] = {f"{name}_collapse": weights.level()}
    for key in ("largest", "effective", "label"):
        values = getattr(weights, key)
        if values is not None:
            q = torch.tensor([0.5, 0.05, 0.95], dtype=values.dtype)
            found[f"{name}_{key}"] = values.quantile(q, dim=1).T.tolist()
    return found


def _memorisation(subject: Subject, settings: Settings, bar: Any) -> dict[str, Any]:
    """The memorisation test of the subject's paintings, and of paintings that are copies."""
    n = settings.pick(ci=4, book=120, full=1000)
    m = settings.pick(ci=300, book=10_000, full=10_000)
    whole = settings.pick(ci=600, book=60_000, full=60_000)
    steps = settings.pick(ci=12, book=25, full=50)
    held = subject.data(min(n, m // 2))
    assert held is not None
    skip = len(held)
    paintings = {"paintings": _paint(subject, settings.seeds[:n], steps, settings.batch)}
    bar.update()
    if subject.kind == "network":
        paintings["gaussian"] = _paint(subject.theory(), settings.seeds[:n], steps, settings.batch)
        known = subject.data(m - skip, test=False)
        assert known is not None
        few = settings.seeds[: settings.pick(ci=2, book=32, full=200)]
        x = subject.levels(steps).start(noise(few, subject.shape))
        copies = solve(PointCloud(known.double()), x, subject.levels(steps), solver="dpmpp2m", save=Frames(every=None),
                       progress=False)  # fmt: skip
        paintings["control"] = subject.look(copies.final)
    bar.update()
    pictures = torch.cat([*paintings.values()])
    whole_test = copying(
        pictures, subject.look(held), gallery(subject, whole, test=False), gallery(subject, m, test=True, skip=skip)
    )
    bar.update()
    found: dict[str, Any] = {
        "held": whole_test.held.tolist(),
        "galleries": dict(zip(("training", "fresh"), whole_test.sizes)),
    }
    first = 0
    for name, part in paintings.items():
        i = slice(first, first + len(part))
        w = whole_test
        found[name] = Copying(w.training[i], w.held, w.equal[i], w.fresh[i], w.index[i], w.sizes).record()
        first += len(part)
    return found


def _paint(subject: Subject, seeds: Sequence[int], steps: int, batch: int) -> Tensor:
    """Paintings as the reader sees them."""
    save = Frames(every=None)
    runs = (subject.run(s, steps=steps, solver="dpmpp2m", save=save) for s in subject.batches(seeds, batch))
    return torch.cat([subject.look(run.final) for run in runs])
