"""Pictures on disk: read in one way, written as single images and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from painters.files import replacing


def to_pil(image: Tensor) -> Image.Image:
    """Return one image (C, H, W) in [0, 1], C = 1 or 3, as a PIL image. Raises ``ValueError`` if it is not finite."""
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"an image is (1 or 3, H, W), got {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise ValueError("the image holds NaN or infinite values and was not saved")
    array = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def save(image: Image.Image, path: str | Path) -> Path:
    """Write a picture as PNG, whole or not at all, and return its path."""
    path = Path(path)
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")
    return path


def sheet(pictures: Sequence[Image.Image], *, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Return a contact sheet of equally large pictures on white, ``columns`` wide (default: about square)."""
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    columns = columns or int(np.ceil(len(pictures) ** 0.5))
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    canvas = Image.new(pictures[0].mode, (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, picture in enumerate(pictures):
        canvas.paste(picture, ((i % columns) * (width + gap), (i // columns) * (height + gap)))
    return canvas


def picture_files(folder: str | Path) -> list[Path]:
    """Return the pictures below a folder, in the order of their names."""
    return sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp", ".bmp"})


def square(image: Image.Image, *, size: int, channels: int = 3) -> np.ndarray:
    """Return a picture cropped to its central square and resized, uint8 (channels, size, size)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cropped = image.convert("L" if channels == 1 else "RGB").crop((left, top, left + side, top + side))
    pixels = np.asarray(cropped.resize((size, size), Image.Resampling.LANCZOS))
    return pixels.reshape(size, size, channels).transpose(2, 0, 1).copy()
