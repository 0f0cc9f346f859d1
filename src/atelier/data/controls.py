"""Changed data for controls: one property of the images is altered, everything else of a training run stays.

- ``"checkerboard"``: images in [-1, 1] times (-1)^(i + j). An orthogonal map: the covariance keeps its eigenvalues, and
  low and high spatial frequencies change places.
- ``"inverted"``: scenes whose large areas hardly vary in colour, while their small objects vary as before.
- ``"half-a"``, ``"half-b"``: every other training image, so that two networks share none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from atelier.data import scenes
from atelier.data.images import ImageData

Variant = Literal["checkerboard", "inverted", "half-a", "half-b"]

INVERTED_CONTRAST = (0.1, 0.3, 1.0, 1.0)
"""Contrast of the four bands of ``"inverted"`` scenes, see :func:`atelier.data.scenes.drawing.render`."""


def checkerboard(images: Tensor) -> Tensor:
    """Return images (n, C, H, W) times (-1)^(i + j), uint8 or in [-1, 1]; applied twice it gives them back.

    In uint8, where -1 ... 1 is 0 ... 255, a change of sign is 255 - value: exact.
    """
    rows, columns = (torch.arange(n, device=images.device) for n in images.shape[-2:])
    odd = (rows[:, None] + columns) % 2 == 1
    return torch.where(odd, 255 - images if images.dtype == torch.uint8 else -images, images)


def varied(data: ImageData, variant: Variant) -> ImageData:
    """Return ``data`` with one thing changed. ``"inverted"`` needs scenes, else ``ValueError``."""
    if variant == "checkerboard":
        return replace(data, train=checkerboard(data.train), test=checkerboard(data.test))
    if variant == "inverted":
        if data.source != "scenes":
            raise ValueError(f"only scenes can be drawn with inverted contrast, not {data.source}")
        return scenes.dataset(data.train.shape[-1], contrast=INVERTED_CONTRAST)
    first = 0 if variant == "half-a" else 1
    labels = None if data.train_labels is None else data.train_labels[first::2]
    captions = tuple(text[first::2] for text in data.captions)
    return replace(data, train=data.train[first::2], train_labels=labels, captions=captions)
