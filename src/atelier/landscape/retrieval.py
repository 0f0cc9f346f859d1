"""Retrieval: what the exact denoiser of the training set does, and whether a trained network does it too.

The cloud of the training images has the only endpoint estimate that is exact for it, a softmax-weighted mean of the
images, and its flow can only end on one of them. :func:`collapse` measures how the weights sharpen, and
:func:`copying` is a memorisation test: paintings of a network that copies lie nearer to its training images than to as
many fresh ones. Sources: Wang and Vastola (arXiv 2303.02490, 2412.09726); for comparing distances with those of
held-out data, Meehan, Chaudhuri and Dasgupta (2020).
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

from atelier.data.images import to_unit
from atelier.limits.carries import affordable, passing, training
from atelier.statistics import ENDS, Interval, proportion
from atelier.subject import Settings, Subject
from painters.levels import Levels
from painters.sampling import noise, paint_on
from painters.theory.cloud import PointCloud
from painters.trajectory import Frames

RATIOS = (50.0, 20.0, 10.0, 7.0, 5.0, 3.0, 2.0, 1.5, 1.0, 0.7, 0.5, 0.3)
"""Noise levels sigma/alpha at which weights are looked at, those inside the subject's range."""

CHUNK = 2000


@dataclass(frozen=True, eq=False)
class Collapse:
    """The weights of a point cloud along L levels of B states each: ``ratio`` (L,) is sigma/alpha, noisy first.

    ``largest`` (L, B): the largest weight. ``effective`` (L, B): exp of the entropy of the weights, between 1 and the
    number of points. ``label`` (L, B): the largest total weight of a label, if the cloud has labels.
    """

    ratio: Tensor
    largest: Tensor
    effective: Tensor
    label: Tensor | None = None

    def level(self, images: float = 2.0) -> float:
        """Return sigma/alpha at which the median effective number first falls to ``images``, 0 if it never does."""
        median = self.effective.median(1).values.log()
        return float(passing(self.ratio, -median[:, None], -float(np.log(images))))


def collapse(cloud: PointCloud, states: Sequence[Tensor], levels: Levels) -> Collapse:
    """Return what the cloud's weights look like at ``states``, one (B, ...) for each of ``levels``, sigma > 0."""
    if len(states) != len(levels):
        raise ValueError(f"{len(levels)} levels need as many sets of states, got {len(states)}")
    seen = [cloud.weights(x, *level) for x, level in zip(states, levels)]
    labels = [w.labels.amax(1) for w in seen if w.labels is not None]
    largest, effective = (torch.stack(column).cpu() for column in zip(*((w.largest, w.effective) for w in seen)))
    return Collapse(levels.ratio, largest, effective, torch.stack(labels) if labels else None)


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
    each painting to as many training images as there are fresh ones, and to the fresh ones. ``sizes``: how many
    training and fresh images there were.
    """

    training: Tensor
    held: Tensor
    equal: Tensor
    fresh: Tensor
    sizes: tuple[int, int]

    def rows(self, at: slice) -> Copying:
        """Return the test of some of the paintings."""
        return Copying(self.training[at], self.held, self.equal[at], self.fresh[at], self.sizes)

    def record(self) -> dict[str, Any]:
        """Return the tests as JSON stores them.

        ``ratio``: median distance to training over that of held-out images, with a bootstrap interval. ``share``: how
        many paintings are nearer to a training image than to every one of as many fresh images, 1/2 without copying
        however smooth the paintings are, 1 for copies.
        """
        n, hits = len(self.training), int((self.equal < self.fresh).sum())
        ratio = median_ratio(self.training, self.held)
        return {"n": n, "ratio": ratio.record(), "share": proportion(hits, n).record()}


def median_ratio(a: Tensor, b: Tensor, *, draws: int = 2000) -> Interval:
    """Return median(a) / median(b) of two independent samples, resampled each for itself."""
    generator = np.random.default_rng(0)
    medians = []
    for values in (a.numpy(), b.numpy()):
        medians.append(np.median(values[generator.integers(len(values), size=(draws, len(values)))], axis=1))
    low, high = np.quantile(medians[0] / medians[1], ENDS)
    return Interval(float(np.median(a.numpy()) / np.median(b.numpy())), float(low), float(high), len(a))


def copying(paintings: Tensor, held: Tensor, training: Iterable[Tensor], fresh: Iterable[Tensor]) -> Copying:
    """Measure how near ``paintings`` (n, ...) and ``held``-out images (m, ...) lie to two galleries, read once each.

    ``training`` and ``fresh`` are iterables of parts (.., ...) of images; held-out and fresh images must be different
    ones. The first training images, as many as there are fresh ones, make the equal gallery.
    """
    size, kept, n = 0, [], len(paintings)
    for part in fresh:
        size += len(part)
        kept.append(nearest(paintings, part)[0])
    everyone, first = torch.cat([paintings, held]), 0
    best, equal = torch.full((len(everyone),), torch.inf), torch.full((n,), torch.inf)
    for part in training:
        # A part in which the equal gallery ends is read in two pieces.
        for piece in (part[: max(size - first, 0)], part[max(size - first, 0) :]):
            if len(piece) == 0:
                continue
            distance = nearest(everyone, piece)[0][:, 0]
            best = torch.minimum(best, distance)
            if first < size:
                equal = torch.minimum(equal, distance[:n])
            first += len(piece)
    return Copying(best[:n], best[n:], equal, torch.cat(kept, 1).amin(1), (first, size))


def gallery(subject: Subject, n: int, *, test: bool, skip: int = 0) -> Iterator[Tensor]:
    """Yield pictures ``skip`` ... n of the subject's training or test data as its reader sees them, in parts."""
    pictures = subject.pictures(n, test=test)
    assert pictures is not None and subject.reader is not None
    factor = pictures.shape[2] // subject.reader.shape[1]
    for part in pictures[skip:].split(CHUNK):
        yield F.avg_pool2d(to_unit(part), factor)


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Measure retrieval by the training set's cloud, and test the subject for memorisation. ``None`` without its data.

    Keys. ``training``: images in the cloud. ``ratio`` [L]: levels sigma/alpha, noisy first. ``test_effective`` [L x
    [median, 5 %, 95 %]]: effective numbers of training images at noised test images; ``test_collapse``: sigma/alpha
    where the median falls to 2. ``paintings``, ``control`` (the cloud's own paintings), ``gaussian`` (the exact
    Gaussian's): {n, ratio, share}, see :meth:`Copying.record`; ``galleries`` {"training", "fresh"}: their sizes. A
    subject that is not a network has no cloud: of these keys only ``paintings`` and ``galleries``.
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
    """The cloud's weights at noised test images."""
    highest = float(subject.levels(10).ratio[0])
    ratio = torch.tensor([r for r in RATIOS if r <= highest], dtype=torch.float64)
    length = torch.hypot(ratio, torch.ones(()))
    levels = Levels(1 / length, ratio / length, "looked at")
    held = subject.data(settings.pick(ci=4, book=32, full=500))
    assert held is not None
    noises = noise(range(len(held)), subject.shape)
    seen = collapse(cloud, [a * held + s * noises for a, s in levels], levels)
    q = torch.tensor([0.5, 0.05, 0.95], dtype=seen.effective.dtype)
    effective = seen.effective.quantile(q, dim=1).T.tolist()
    return {"ratio": ratio.tolist(), "test_collapse": seen.level(), "test_effective": effective}


def _memorisation(subject: Subject, settings: Settings, bar: Any) -> dict[str, Any]:
    """The memorisation test of the subject's paintings, and of paintings that are copies."""
    n = settings.pick(ci=4, book=120, full=1000)
    m = settings.pick(ci=300, book=10_000, full=10_000)
    whole = settings.pick(ci=600, book=60_000, full=60_000)
    steps = settings.pick(ci=12, book=25, full=50)
    held = subject.data(min(n, m // 2))
    assert held is not None
    skip = len(held)
    paintings = {"paintings": _paintings(subject, settings.seeds[:n], steps, settings.batch)}
    bar.update()
    if subject.kind == "network":
        paintings["gaussian"] = _paintings(subject.theory(), settings.seeds[:n], steps, settings.batch)
        known = subject.data(m - skip, test=False)
        assert known is not None
        levels, few = subject.levels(steps), settings.seeds[: settings.pick(ci=2, book=32, full=200)]
        start = levels.start(noise(few, subject.shape))
        paintings["control"] = subject.look(paint_on(PointCloud(known.double()), start, levels, solver="dpmpp2m"))
    bar.update()
    galleries = gallery(subject, whole, test=False), gallery(subject, m, test=True, skip=skip)
    test = copying(torch.cat([*paintings.values()]), subject.look(held), *galleries)
    bar.update()
    found: dict[str, Any] = {"galleries": dict(zip(("training", "fresh"), test.sizes))}
    first = 0
    for name, part in paintings.items():
        found[name] = test.rows(slice(first, first + len(part))).record()
        first += len(part)
    return found


def _paintings(subject: Subject, seeds: Sequence[int], steps: int, batch: int) -> Tensor:
    """Paintings as the reader sees them."""
    save = Frames(every=None)
    runs = (subject.run(s, steps=steps, solver="dpmpp2m", save=save) for s in subject.batches(seeds, batch))
    return torch.cat([subject.look(run.final) for run in runs])
