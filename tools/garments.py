"""Write `book/images/garments.png`: the first sixteen training images of Fashion-MNIST, enlarged.

PAINTERS_DATA=FOLDER python tools/garments.py
"""

from pathlib import Path

from PIL import Image

from atelier.data.images import fashion
from atelier.pictures import save, sheet

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS, SCALE = 8, 2, 4


def main() -> None:
    """Draw the figure."""
    pictures = [Image.fromarray(image.numpy()[0]) for image in fashion().train[: COLUMNS * ROWS]]
    large = sheet(pictures, columns=COLUMNS, gap=2 * SCALE, side=SCALE * pictures[0].width)
    path = save(large, ROOT / "book" / "images" / "garments.png")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
