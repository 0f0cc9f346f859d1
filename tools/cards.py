"""Write `book/images/card-NAME.png`, the pictures of the front page's cards, from the figures of the built chapters.

python tools/build.py && python tools/cards.py

A card shows a part of its chapter's one figure: of a figure by its name, or of a frame of the page's first sequence.
"""

import io
from pathlib import Path

from bs4 import BeautifulSoup
from chromium import chromium
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SIZE = (480, 270)
PARTS: dict[str, tuple[str | int, tuple[float, float, float, float]]] = {
    "derivation": (4, (0, 0, 1, 0.61)),
    "gaussian": (8, (0, 0, 1, 1)),
    "landscape": (4, (0, 0, 1, 1)),
    "evidence": ("fig-evidence-three", (0, 0.27, 1, 0.585)),
    "manifold": (8, (0, 0.375, 1, 0.95)),
    "variations": ("fig-variations-knobs", (0, 0, 1, 0.66)),
    "gans": ("fig-gans-spectra", (0, 0, 1, 1)),
    "live": ("painting.png", (0, 0.52, 0.75, 0.93)),
}
"""Page -> its figure, a frame, or an image of the book, and the part of it: left, top, right, bottom in shares."""


def picture(page: str, what: str | int) -> Image.Image:
    """Return a figure of a built page."""
    if isinstance(what, str) and what.endswith(".png"):
        return Image.open(ROOT / "book" / "images" / what)
    folder = ROOT / "_build" / "html" / "book"
    soup = BeautifulSoup((folder / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
    image = (
        soup.select(".frame-sequence .frame img")[what] if isinstance(what, int) else soup.select_one(f"#{what} img")
    )
    if image is None:
        raise SystemExit(f"{page} has no figure {what}: build the book first")
    path = folder / str(image["src"])
    if path.suffix != ".svg":
        return Image.open(path)
    with chromium() as browser:
        view = browser.new_page(device_scale_factor=2)
        view.goto(path.resolve().as_uri())
        return Image.open(io.BytesIO(view.locator("svg").first.screenshot()))


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
