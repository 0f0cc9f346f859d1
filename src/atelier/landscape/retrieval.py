"""Does a trained network copy its training set?

The cloud of the training images has the only endpoint estimate that is exact for it, a softmax-weighted mean of the
images, and its flow can only end on one of them. :func:`copying` is a memorisation test: paintings of a network that
copies lie nearer to its training images than to as many fresh ones. Sources: Wang and Vastola (arXiv 2303.02490,
2412.09726); for comparing distances with those of held-out data, Meehan, Chaudhuri and Dasgupta (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from atelier.data.controls import undone
from atelier.data.images import to_unit
from atelier.statistics import proportion
from atelier.subject import Settings, Subject
from painters.theory.cloud import PointCloud
from painters.trajectory import Frames

CHUNK = 2000


def nearest(images: Tensor, gallery: Tensor, *, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return the distances |x - y| to the k nearest images of a gallery (n, ...), and their numbers, both (B, k).

    Near first. Candidates are found by the expanded product in float32 and measured by their differences, so that a
    copy is at distance 0.
    """
    x = images.flatten(1).float()
    best = torch.full((len(x), k), torch.inf)
    index = torch.full((len(x), k), -1)
    first = 0
    for part in gallery.split(CHUNK):
        y = part.flatten(1).float()
        rough = y.square().sum(1) - 2 * x @ y.T
        found = rough.topk(min(k + 2, len(y)), largest=False).indices
        exact = (x[:, None] - y[found]).norm(dim=2)
        best, order = torch.cat([best, exact], 1).topk(k, largest=False)
        index = torch.cat([index, found + first], 1).gather(1, order)
        first += len(y)
    return best, index


def copying(paintings: Tensor, training: Tensor, fresh: Tensor) -> Tensor:
    """Return which ``paintings`` (n, ...) lie nearer to a training image than to every fresh one, bool (n,).

    ``training``, ``fresh`` (m, ...): equally many images. Half of the paintings do without copying, however smooth they
    are, and all copies. Raises ``ValueError`` for galleries of unequal sizes: the larger would win by chance.
    """
    if len(training) != len(fresh):
        raise ValueError(f"galleries must be equally large, got {len(training)} training and {len(fresh)} fresh images")
    return nearest(paintings, training)[0][:, 0] < nearest(paintings, fresh)[0][:, 0]


def gallery(subject: Subject, n: int, *, test: bool) -> Tensor:
    """Return the first ``n`` pictures of the subject's training or test data as its reader sees them."""
    pictures, reader = subject.pictures(n, test=test), subject.reader
    assert pictures is not None and reader is not None
    return torch.cat([reader.look(undone(to_unit(part), subject.variant)) for part in pictures.split(CHUNK)])


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Test the subject for memorisation. ``None`` without its data or a reader.

    Keys. ``gallery``: images in each gallery, the first of the training and of the test data. ``paintings``, and for a
    network ``gaussian`` (the exact Gaussian's) and ``control`` (those of the cloud of the training images, which are
    copies): {"share": interval of how many are nearer to a training image, see :func:`copying`}.
    """
    if subject.reader is None or subject.pictures(1) is None:
        return None
    n, m = settings.pick(ci=4, book=120, full=1000), settings.pick(ci=300, book=10_000, full=10_000)
    steps = settings.pick(ci=12, book=25, full=50)
    painters = {"paintings": (subject, n)}
    if subject.kind == "network":
        known = subject.data(m, test=False)
        assert known is not None
        cloud = replace(subject, denoise=PointCloud(known.double()), kind="cloud")
        painters |= {"gaussian": (subject.theory(), n), "control": (cloud, settings.pick(ci=2, book=32, full=200))}
    galleries = gallery(subject, m, test=False), gallery(subject, m, test=True)
    found: dict[str, Any] = {"gallery": len(galleries[0])}
    for name, (painter, few) in painters.items():
        nearer = copying(_paintings(painter, settings.seeds[:few], steps, settings.batch), *galleries)
        found[name] = {"share": proportion(int(nearer.sum()), len(nearer)).record()}
    return found


def _paintings(subject: Subject, seeds: Sequence[int], steps: int, batch: int) -> Tensor:
    """Paintings as the reader sees them."""
    save = Frames(every=None)
    runs = (subject.run(s, steps=steps, solver="dpmpp2m", save=save) for s in subject.batches(seeds, batch))
    return torch.cat([subject.look(run.final) for run in runs])
