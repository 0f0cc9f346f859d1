"""Write `book/images/card-NAME.png`, the pictures of the front page's cards, from the figures of the built chapters.

python tools/build.py && python tools/cards.py

A card shows a part of its chapter's one figure: of a figure by its name, or of a frame of the page's first sequence.
"""

import base64
import io
import re
from pathlib import Path

from bs4 import BeautifulSoup
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SIZE = (480, 270)
PARTS: dict[str, tuple[str | int, tuple[float, float, float, float]]] = {}
"""Chapter -> its figure, or the number of a frame, and the part of it: left, top, right, bottom in shares."""


def picture(page: str, what: str | int) -> Image.Image:
    """Return a figure of a built page."""
    folder = ROOT / "_build" / "html" / "book"
    soup = BeautifulSoup((folder / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
    if isinstance(what, int):
        source = soup.select(".frame-sequence .frame img")[what]["src"]
        return Image.open(io.BytesIO(base64.b64decode(re.sub(r"^data:[^,]*,", "", str(source)))))
    image = soup.select_one(f"#{what} img")
    if image is None:
        raise SystemExit(f"{page} has no figure {what}: build the book first")
    return Image.open(folder / str(image["src"]))


def main() -> None:
    """Cut all cards."""
    for page, (what, (left, top, right, bottom)) in PARTS.items():
        whole = picture(page, what).convert("RGB")
        wide, tall = whole.size
        part = whole.crop((round(left * wide), round(top * tall), round(right * wide), round(bottom * tall)))
        part.thumbnail(SIZE, Image.Resampling.LANCZOS)
        card = Image.new("RGB", SIZE, "white")
        card.paste(part, ((SIZE[0] - part.width) // 2, (SIZE[1] - part.height) // 2))
        card.quantize(64).save(ROOT / "book" / "images" / f"card-{page}.png", optimize=True)
        print(f"wrote book/images/card-{page}.png")


if __name__ == "__main__":
    main()
