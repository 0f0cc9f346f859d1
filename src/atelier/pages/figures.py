"""The look of the book's figures, and strips of images."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib import rc_params_from_file
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from .shown import notebook

#: Okabe and Ito's palette: told apart with any common colour blindness, and ordered by contrast.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

STYLE: dict[str, Any] = {
    **rc_params_from_file(Path(__file__).parent / "assets" / "book.mplstyle", use_default_template=False),
    "axes.prop_cycle": cycler(color=PALETTE),
}
SHARP = 230
"""Dots per inch of pictures in notebooks and on the site: two for each pixel of the page's column."""


def set_style() -> None:
    """Make every later figure of this session look like the book's; notebooks show lines as SVG, pictures as PNG."""
    plt.style.use(STYLE)
    if hasattr(shell := notebook(), "kernel"):  # and not in a terminal, where figures have windows
        in_notebook(shell)


def in_notebook(shell: Any) -> None:
    """Choose how a notebook shows figures, for this session."""
    shell.run_line_magic("matplotlib", "inline")  # which would undo the choice, were it to come later
    for kind, mime in (("svg", "image/svg+xml"), ("png", "image/png")):
        shell.display_formatter.formatters[mime].for_type(Figure, partial(shown, kind=kind))


def shown(figure: Figure, *, kind: str) -> Any:
    """Encode a figure as SVG, or as PNG where it holds pictures or so many points that an SVG would be large.

    For the other kind the answer is None. A PNG comes with the size at which a notebook shows it.
    """
    held = figure.findobj(lambda thing: isinstance(thing, (AxesImage, QuadMesh, PathCollection)))
    dense = any(not isinstance(thing, PathCollection) or np.shape(thing.get_offsets())[0] > 1000 for thing in held)
    if dense == (kind == "svg") or not figure.axes:
        return None
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, bbox_inches="tight", dpi=SHARP, metadata={"Date": None} if not dense else {})
    if not dense:
        return buffer.getvalue().decode()
    width, height = (round(size * 144 / SHARP) for size in Image.open(buffer).size)
    return packed(buffer.getvalue()), {"width": width, "height": height}


def packed(png: bytes) -> bytes:
    """Return a PNG in fewer bytes: with a palette where nobody could tell, as in plots; pictures keep their colours."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    fewer = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    lost = np.abs(np.asarray(picture, np.float32) - np.asarray(fewer.convert("RGB"), np.float32)).mean()
    buffer = io.BytesIO()
    (fewer if lost < 0.1 else picture).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def as_image(image: Any) -> np.ndarray:
    """Return an image ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)`` as ``(H, W, 3)``, clipped to [0, 1].

    Raises:
        ValueError: for another shape, or for values that are not finite.
    """
    array = np.asarray(image.detach().cpu().float() if hasattr(image, "detach") else image, np.float32)
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[-1] not in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in (1, 3):
        raise ValueError(f"an image is (H, W), (C, H, W) or (H, W, C) with C 1 or 3, not {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("an image has values that are not finite.")
    return np.clip(np.broadcast_to(array, (*array.shape[:2], 3)), 0, 1)


def _beside(images: Sequence[Any], gap: int) -> np.ndarray:
    """Lay images of one size side by side on white."""
    tiles = [as_image(image) for image in images]
    white = np.ones((tiles[0].shape[0], gap, 3))
    return np.concatenate([part for tile in tiles for part in (tile, white)][:-1], axis=1)


def strip(
    rows: Mapping[str, Any] | Sequence[tuple[str, Any]],
    *,
    columns: Sequence[str] | None = None,
    column_label: str = "",
    width: float = 6.0,
) -> Figure:
    """Draw rows of images, one label above each row and one under each column.

    Args:
        rows: label -> images ``(N, C, H, W)`` in [0, 1], C 1 or 3. Values outside are clipped.
        columns: one label per image, written under the last row.
        column_label: what the columns' labels mean.
        width: of the figure, in inches.

    Raises:
        ValueError: if there is no row, or the rows or column labels differ in length.
    """
    pairs = list(rows.items()) if isinstance(rows, Mapping) else list(rows)
    counts = {len(images) for _, images in pairs}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"strip needs rows of one length, at least 1; it got the lengths {sorted(counts)}.")
    count = counts.pop()
    if columns is not None and len(columns) != count:
        raise ValueError(f"strip needs one column label per image: {count} images, {len(columns)} labels.")
    gap = max(1, round(as_image(pairs[0][1][0]).shape[1] / 14))
    mosaics = [_beside(images, gap) for _, images in pairs]
    ratios = [mosaic.shape[0] / mosaic.shape[1] for mosaic in mosaics]
    height = width * sum(ratios) + 0.28 * len(pairs) + (0.5 if columns or column_label else 0.1)
    figure, axes = plt.subplots(
        len(pairs), 1, figsize=(width, height), height_ratios=ratios, squeeze=False, layout="compressed"
    )
    for axis, (label, _), mosaic in zip(axes[:, 0], pairs, mosaics):
        axis.imshow(mosaic, interpolation="nearest")
        axis.set_title(label, loc="left", fontsize="medium", pad=3)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    last, tile = axes[-1, 0], (mosaics[-1].shape[1] + gap) / count
    if columns is not None:
        last.set_xticks([(i + 0.5) * tile - gap / 2 for i in range(count)], columns)
        last.tick_params(length=0)
    last.set_xlabel(column_label)
    return figure


def poster(pictures: Sequence[Any], names: Sequence[str], *, columns: int = 3, width: float = 6.0) -> Figure:
    """Draw pictures in a grid, each under its name.

    Raises:
        ValueError: if there are not as many names as pictures.
    """
    if len(pictures) != len(names):
        raise ValueError(f"poster needs a name for each picture: {len(pictures)} pictures, {len(names)} names.")
    rows, tall = -(-len(pictures) // columns), as_image(pictures[0]).shape[0] / as_image(pictures[0]).shape[1]
    size = (width, rows * (width / columns * tall + 0.26))
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="compressed", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, picture, name in zip(axes.flat, pictures, names):
        axis.imshow(as_image(picture))
        axis.set_title(name, loc="center", pad=4)
    return figure
