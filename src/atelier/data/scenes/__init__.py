"""Procedural painter's landscapes: pictures whose causes are known exactly.

A scene is drawn from twenty independent factors in four bands, from large areas to fine details (``FACTORS``), and
from the painter's hand, everything the factors leave open: small shifts, the line of the hills, strokes and grain.
Both follow from the scene's seed alone, so a scene is the same in any batch and on any machine, up to single values off
by one grey level where machines round differently. At another size its strokes and grain are as fine as the new pixels.

Scenes under a condition, a prompt for instance, have some factors set and the rest left to chance:
``render(sample(n).replace(parse("a moon in a pink sky")))``. How much of the pictures each factor decides says
:mod:`atelier.data.scenes.shares`.
"""

from atelier.data.images import ImageData
from atelier.data.scenes.captions import caption
from atelier.data.scenes.drawing import render
from atelier.data.scenes.factors import FACTORS, NAMES, TEST_SEEDS, TRAIN_SEEDS, Factor, Factors, sample
from atelier.data.scenes.parsing import parse

__all__ = [
    "FACTORS", "NAMES", "TEST_SEEDS", "TRAIN_SEEDS", "Factor", "Factors", "caption", "dataset", "parse", "render",
    "sample",
]  # fmt: skip


def dataset(size: int = 32, *, captions: int = 0) -> ImageData:
    """Return the 50,000 training and 10,000 test scenes, from the seeds ``TRAIN_SEEDS`` and ``TEST_SEEDS``.

    ``captions``: in how many wordings each training scene is described; 0 for none, and none of the test scenes.
    """
    train, test = (sample(len(seeds), seeds.start) for seeds in (TRAIN_SEEDS, TEST_SEEDS))
    return ImageData(
        render(train, size),
        render(test, size),
        captions=tuple(caption(train, version=version) for version in range(captions)),
        test_captions=caption(test) if captions else [],
        source="scenes",
    )
