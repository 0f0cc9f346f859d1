"""Procedural painter's landscapes: pictures whose causes are known exactly.

A scene is drawn from twenty independent factors in four bands, from large areas to fine details (``FACTORS``), and
from the painter's hand, everything the factors leave open: small shifts, the line of the hills, strokes and grain.
Both follow from the scene's seed alone, so a scene is the same in any batch, on any machine and at any size.
"""

from painters.data.images import ImageData
from painters.data.scenes.captions import caption, parse
from painters.data.scenes.drawing import render
from painters.data.scenes.factors import BANDS, FACTORS, NAMES, TEST_SEEDS, TRAIN_SEEDS, Factor, Factors, sample

__all__ = [
    "BANDS", "FACTORS", "NAMES", "TEST_SEEDS", "TRAIN_SEEDS", "Factor", "Factors", "caption", "dataset", "parse",
    "render", "sample",
]  # fmt: skip


def dataset(size: int = 32) -> ImageData:
    """Return the 50,000 training and 10,000 test scenes, from the seeds ``TRAIN_SEEDS`` and ``TEST_SEEDS``."""
    train, test = (render(sample(len(seeds), seeds.start), size) for seeds in (TRAIN_SEEDS, TEST_SEEDS))
    return ImageData(train, test, source="scenes")
