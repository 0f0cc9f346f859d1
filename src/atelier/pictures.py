"""Pictures on disk: read in one way, whoever made them; written as single images and contact sheets."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from painters.files import replacing

KINDS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".ppm", ".pgm")
"""The kinds of pictures that are read; of several frames or pages the first is taken."""
LARGE, WIDEST = 140, 4096
"""Pixels: what a contact sheet of a command enlarges small pictures to, and how wide it may become by that."""
NAMED = 3
"""So many of the files skipped for one reason are named, the others counted."""


Skipped = dict[Path, str]
"""Files that are not read, and why."""


def listed(path: str | Path) -> tuple[list[Path], Skipped]:
    """Return the pictures below a folder in the order of their names, and the files that are none and why.

    Copies in hidden folders (``.ipynb_checkpoints``) are none, nor is the contact sheet in a folder that ``painters
    sample`` or ``vary`` wrote. Raises ``FileNotFoundError`` if there is no such folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    every = sorted(file for file in path.rglob("*") if file.is_file())
    pictures = [file for file in every if file.suffix.lower() in KINDS]
    runs = {file.parent for file in every if file.name == "run.json"}
    hidden = {file for file in every if any(part.startswith(".") for part in file.relative_to(path).parts)}
    skipped = dict.fromkeys([file for file in pictures if file in hidden], "hidden")
    skipped |= {run / "sheet.png": "the contact sheet of a run" for run in runs if run / "sheet.png" in pictures}
    # Captions, the records of a run and hidden files such as .DS_Store are no input that anybody misses.
    known = {*pictures, *hidden, *(file.with_suffix(".txt") for file in pictures)}
    others = [file for file in every if file not in known and not runs & {file.parent, file.parent.parent}]
    skipped |= dict.fromkeys(others, "no kind of picture that is read")
    return [file for file in pictures if file not in skipped], skipped


def read_each(
    files: Sequence[Path], skipped: Skipped, *, size: int, channels: int = 3
) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield (file, pixels) of the ``files`` that can be read, see :func:`read`; the others go to ``skipped``."""
    for file in files:
        try:
            yield file, square(_opened(file), size=size, channels=channels)
        except _Unreadable as error:
            skipped[file] = str(error)


def told(skipped: Skipped, before: str = "") -> str:
    """Return in one line how many files were skipped, why, and the names of some; nothing if none was."""
    reasons: dict[str, list[str]] = {}
    for file, reason in skipped.items():
        reasons.setdefault(reason, []).append(str(file))
    parts = []
    for reason, names in reasons.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        parts.append(f"{', '.join(names[:NAMED])}{more} ({reason})")
    count = f"{len(skipped)} file{'s' if len(skipped) > 1 else ''}"
    return f"{before}{count} skipped: {'; '.join(parts)}" if parts else ""


def read(path: str | Path, *, size: int, channels: int = 3) -> np.ndarray:
    """Return one picture cropped to its central square and resized, uint8 (channels, size, size).

    Any kind and mode: transparency is laid on white, the camera's rotation applied, 16 bits become 8. Raises
    ``FileNotFoundError`` if there is none, and ``ValueError`` if it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no picture {path}")
    try:
        return square(_opened(path), size=size, channels=channels)
    except _Unreadable as error:
        raise ValueError(f"{path} cannot be read ({error}); give a PNG, JPEG or WebP file") from error


def caption(picture: Path) -> str:
    """Return the text in ``NAME.txt`` beside a picture, empty without one. ``ValueError`` if it is not in UTF-8."""
    path = picture.with_suffix(".txt")
    try:
        return path.read_text(encoding="utf-8-sig").strip() if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise ValueError(f"the caption {path} is not text in UTF-8: save it as UTF-8, or delete it") from error


def square(image: Image.Image, *, size: int, channels: int = 3) -> np.ndarray:
    """Return a picture of any mode cropped to its central square and resized, uint8 (channels, size, size)."""
    plain = _plain(image)
    side = min(plain.size)
    left, top = (plain.width - side) // 2, (plain.height - side) // 2
    cropped = plain.convert("L" if channels == 1 else "RGB").crop((left, top, left + side, top + side))
    pixels = np.asarray(cropped.resize((size, size), Image.Resampling.LANCZOS))
    return pixels.reshape(size, size, channels).transpose(2, 0, 1).copy()


class _Unreadable(ValueError):
    """Why a file is skipped, in a few words."""


def _opened(path: Path) -> Image.Image:
    """The first frame of a picture in a mode without transparency, its file closed."""
    try:
        # Pillow warns of large pictures from half its limit on; what it opens at all is meant here.
        quiet = warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)
        with quiet, Image.open(path) as image:
            image.load()
            return _plain(image)
    except _Unreadable:
        raise
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise _Unreadable(f"more than {limit} million pixels: make it smaller") from error
    except Exception as error:  # whatever the damage made one of Pillow's fifty readers stumble over
        raise _Unreadable("damaged, cut short, or no picture") from error


def _plain(image: Image.Image) -> Image.Image:
    """The picture as L or RGB, eight bits a channel, upright, transparency laid on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        # 16-bit grey opens as "I" or as "I;16" by format and version; floats are shares of white.
        white = 1.0 if image.mode == "F" else 65535.0
        if values.min() < 0 or not values.max() <= white:
            raise _Unreadable(f"numbers beyond 0 to {white:g}, so that its white is not known")
        return Image.fromarray((values / white * 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


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


def sheet(
    pictures: Sequence[Image.Image | Path], *, columns: int | None = None, gap: int = 2, side: int = 1
) -> Image.Image:
    """Return a contact sheet of equally large pictures on white, ``columns`` wide (default: about square).

    Pictures or their files; one file is open at a time. Each is shown as squares of whole pixels, enlarged until it has
    ``side`` of them, unless the sheet would be wider than :data:`WIDEST`.
    """
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    columns = columns or int(np.ceil(len(pictures) ** 0.5))
    rows = -(-len(pictures) // columns)
    opened = (_opened(picture) if isinstance(picture, Path) else picture for picture in pictures)
    first = next(opened)
    times = max(1, min(-(-side // min(first.size)), WIDEST // (columns * first.width)))
    width, height = (times * pixels for pixels in first.size)
    canvas = Image.new(first.mode, (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, picture in enumerate(itertools.chain([first], opened)):
        large = picture.resize((width, height), Image.Resampling.NEAREST)
        canvas.paste(large, ((i % columns) * (width + gap), (i // columns) * (height + gap)))
    return canvas
