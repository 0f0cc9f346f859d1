"""Does a trained network copy its training set?

The cloud of the training images has the only endpoint estimate that is exact for it, a softmax-weighted mean of the
images, and its flow can only end on one of them. :func:`copying` is a memorisation test: paintings of a network that
copies lie nearer to its training images than to as many fresh ones. Sources: Wang and Vastola (arXiv 2303.02490,
2412.09726); for comparing distances with those of held-out data, Meehan, Chaudhuri and Dasgupta (2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atelier.data.images import to_unit
from atelier.statistics import ENDS, Interval, proportion
from atelier.subject import Settings, Subject
from painters.theory.cloud import PointCloud
from painters.trajectory import Frames

CHUNK = 2000


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
    """Test the subject for memorisation. ``None`` without its data or a reader.

    Keys. ``paintings``, and for a network ``gaussian`` (the exact Gaussian's) and ``control`` (those of the cloud of
    training images, which are copies): {n, ratio, share}, see :meth:`Copying.record`; ``galleries`` {"training",
    "fresh"}: their sizes.
    """
    if subject.reader is None or subject.pictures(1) is None:
        return None
    n = settings.pick(ci=4, book=120, full=1000)
    m = settings.pick(ci=300, book=10_000, full=10_000)
    whole = settings.pick(ci=600, book=60_000, full=60_000)
    steps = settings.pick(ci=12, book=25, full=50)
    held = subject.data(min(n, m // 2))
    assert held is not None
    skip = len(held)
    paintings = {"paintings": _paintings(subject, settings.seeds[:n], steps, settings.batch)}
    if subject.kind == "network":
        paintings["gaussian"] = _paintings(subject.theory(), settings.seeds[:n], steps, settings.batch)
        known = subject.data(m - skip, test=False)
        assert known is not None
        few = settings.seeds[: settings.pick(ci=2, book=32, full=200)]
        cloud = replace(subject, denoise=PointCloud(known.double()), kind="cloud")
        paintings["control"] = _paintings(cloud, few, steps, settings.batch)
    galleries = gallery(subject, whole, test=False), gallery(subject, m, test=True, skip=skip)
    test = copying(torch.cat([*paintings.values()]), subject.look(held), *galleries)
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
