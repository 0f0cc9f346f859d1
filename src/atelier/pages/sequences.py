"""Frame sequences: a slider over pictures that needs no kernel, no network and no widget library."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from .figures import as_image, packed
from .shown import Shown, embedded

MAX_BYTES = 2_000_000
PLAY = '<button type="button" class="play">Play</button>'


def _png(frame: Any) -> bytes:
    """Encode a matplotlib figure (and close it) or an image as PNG."""
    buffer = io.BytesIO()
    if isinstance(frame, Figure):
        frame.savefig(buffer, format="png")
        plt.close(frame)
    else:
        Image.fromarray(np.round(as_image(frame) * 255).astype(np.uint8)).save(buffer, "png")
    return packed(buffer.getvalue())


def sequence(
    frames: Sequence[Any],
    alts: Sequence[str],
    *,
    caption: str,
    name: str,
    labels: Sequence[str] | None = None,
    start: int = 0,
    play: bool = False,
) -> Shown:
    """Make a slider over frames that works on a static page, by mouse, touch and keyboard.

    Args:
        frames: matplotlib figures of one size (they are closed), or images in [0, 1].
        alts: one text per frame for a reader who does not see it.
        caption: plain text under the slider.
        name: what the slider moves, e.g. "noise level".
        labels: the value shown beside the slider for each frame; by default "1 of N".
        start: the frame that shows first.
        play: add a button that plays the frames, and play once when the sequence comes into view, from ``start``,
            unless the reader's system asks for less motion.

    Raises:
        ValueError: if there are fewer than two frames, a text is missing, ``start`` is none of them, or they take
            over 2 MB.
    """
    count = len(frames)
    labels = [f"{i + 1} of {count}" for i in range(count)] if labels is None else labels
    if count < 2 or len(alts) != count or len(labels) != count:
        raise ValueError(
            f"sequence needs at least two frames, and one alt text and one label for each; "
            f"it got {count} frames, {len(alts)} alt texts and {len(labels)} labels."
        )
    if not all(text.strip() for text in (*alts, *labels, caption, name)):
        raise ValueError("sequence needs a caption, a name, and an alt text and a label per frame; one is empty.")
    if not 0 <= start < count:
        raise ValueError(f"a sequence of {count} frames cannot start at frame {start}; the first is 0.")
    pixels = not any(isinstance(frame, Figure) for frame in frames)
    pngs = tuple(_png(frame) for frame in frames)
    size = sum(map(len, pngs))
    if size > MAX_BYTES:
        raise ValueError(f"the {count} frames take {size / 1e6:.1f} MB; use fewer or smaller ones, at most 2 MB.")
    sharp = ' class="pixels"' if pixels else ""
    shown = "".join(
        f'<figure class="frame" data-label="{escape(label)}">'
        f'<img{sharp} src="data:image/png;base64,{base64.b64encode(png).decode()}"'
        f' alt="{escape(alt)}"><figcaption>{escape(label)}</figcaption></figure>'
        for png, alt, label in zip(pngs, alts, labels)
    )
    html = (
        f'<div class="frame-sequence"{" data-play" if play else ""} role="group" aria-label="{escape(caption)}">'
        f'{embedded("sequence.css")}<div class="frames">{shown}</div>'
        f'<div class="control">{PLAY if play else ""}<label>{escape(name)} <input type="range" min="0"'
        f' max="{count - 1}" step="1" value="{start}"></label> <output></output></div>'
        f'<p class="caption">{escape(caption)}</p>{embedded("sequence.js")}</div>'
    )
    return Shown(f"{count} frames over {name}: {caption}", html)
