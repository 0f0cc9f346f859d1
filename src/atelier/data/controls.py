"""Changed data for a control: one property of the images is altered, everything else of a training run stays.

``"checkerboard"``: images in [-1, 1] times (-1)^(i + j). An orthogonal map: the covariance keeps its eigenvalues, and
low and high spatial frequencies change places.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from atelier.data.images import ImageData

CONTROLS = ("fashion-checkerboard",)
"""Models trained on changed data, to test one prediction each."""

Variant = Literal["checkerboard"]


def checkerboard(images: Tensor) -> Tensor:
    """Return images (n, C, H, W) times (-1)^(i + j), uint8 or in [-1, 1]; applied twice it gives them back.

    In uint8, where -1 ... 1 is 0 ... 255, a change of sign is 255 - value: exact.
    """
    rows, columns = (torch.arange(n, device=images.device) for n in images.shape[-2:])
    odd = (rows[:, None] + columns) % 2 == 1
    return torch.where(odd, 255 - images if images.dtype == torch.uint8 else -images, images)


def varied(data: ImageData, variant: Variant | None) -> ImageData:
    """Return ``data`` with one thing changed, or as it is for ``None``."""
    if variant is None:
        return data
    return replace(data, train=checkerboard(data.train), test=checkerboard(data.test))


def undone(images: Tensor, variant: Variant | None) -> Tensor:
    """Return the ``images`` of a control as they would be in the unchanged data, which readers and eyes know."""
    return checkerboard(images) if variant == "checkerboard" else images
