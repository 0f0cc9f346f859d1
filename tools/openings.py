"""Write `book/images/openings/NAME.png`: the first figure of each page, which its notebook shows before it is run.

    python tools/openings.py          all pages, each executed as far as its first figure
    python tools/openings.py NAME     only these

Of a sequence it is the frame that shows first. The picture's text for those who do not see it, and a sequence's
caption, stand in the file. Run it when a first figure has changed, then `tools/export.py`.
"""

import argparse
import io
import json
import re
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

from figures import CAPTION, FRAME, decoded, execute, source_of
from myst import Block, Page
from numbering import read_book
from PIL import Image
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).resolve().parent.parent
WIDTH, MAX_BYTES = 900, 40_000
START = re.compile(r'<input type="range"[^>]* value="(\d+)"')


def first(page: Page, opening: Block, root: Path) -> tuple[bytes, str, str]:
    """Return the picture of a page's first figure, its text, and the caption if it is a frame of a sequence."""
    start = replace(page, blocks=page.blocks[: page.blocks.index(opening) + 1])
    place = root / ".cache" / "openings" / f"{page.name}.ipynb"
    place.parent.mkdir(parents=True, exist_ok=True)
    shown = json.loads(execute(source_of(start), str(root / "book"), str(place)))["cells"][-1]["outputs"]
    for data in (out["data"] for out in shown if "data" in out):
        html = "".join(data.get("text/html", ""))
        if frames := FRAME.findall(html):
            picture, alt = frames[int(START.findall(html)[0])]
            return decoded(picture), unescape(alt), unescape(CAPTION.findall(html)[0])
        if "image/png" in data:
            return decoded(data["image/png"]), opening.options["mystnb"]["image"]["alt"], ""
    raise SystemExit(f"{page.name} shows no picture where its first figure should be")


def small(png: bytes, alt: str, caption: str) -> bytes:
    """Return a picture with few enough bytes, and with its texts."""
    told = PngInfo()
    told.add_itxt("Description", " ".join(alt.split()))
    if caption:
        told.add_itxt("Caption", " ".join(caption.split()))
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for width, colours in ((WIDTH, 128), (WIDTH, 64), (WIDTH * 3 // 4, 64), (WIDTH // 2, 64), (WIDTH // 2, 16)):
        smaller = picture.copy()
        smaller.thumbnail((width, width * 2), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        flat = smaller.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
        flat.save(buffer, "png", optimize=True, pnginfo=told)
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Write the pictures; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the first figures that notebooks show before they are run.")
    parser.add_argument("only", nargs="*", metavar="NAME", help="only these pages")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    options = parser.parse_args(arguments)
    folder = options.root / "book" / "images" / "openings"
    folder.mkdir(parents=True, exist_ok=True)
    for page in read_book(options.root).pages:
        if page.opening and (not options.only or page.name in options.only):
            picture = small(*first(page, page.opening, options.root))
            (folder / f"{page.name}.png").write_bytes(picture)
            print(f"{page.name}: {len(picture)} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
