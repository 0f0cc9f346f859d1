"""Pages are made lighter without losing a picture."""

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pydata_sphinx_theme
from fontTools.ttLib import TTFont
from lighten import icons, lighten
from PIL import Image

from atelier.pages.figures import SHARP

PAGE = """<html lang="en"><head><title>A &amp; B</title>
<meta property="og:title" content="A" />
<script defer src="_static/scripts/fontawesome.js?digest=1"></script>
<script src="../_static/searchtools.js"></script>
<script src="../searchindex.js"></script>
<script src="../_static/painters.js"></script></head><body>
<a href="api.html">API</a><details open="open"><summary><span></span></summary></details>
<img alt="A logo" src="../_static/logo.png"/><article>{pictures}</article></body></html>"""


def png(wide: int, tall: int, value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((tall, wide), value, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def test_style_sheets_and_fonts_keep_the_icons_that_are_shown(tmp_path):
    fonts = tmp_path / "_static" / "vendor" / "fontawesome" / "webfonts"
    fonts.mkdir(parents=True)
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
    for file in theme.glob("vendor/fontawesome/webfonts/*"):
        shutil.copy(file, fonts)
    sheet = tmp_path / "_static" / "theme.css"
    shutil.copy(theme / "styles" / "pydata-sphinx-theme.css", sheet)
    (tmp_path / "_static" / "own.css").write_text('.more::after { content: "\\f107" }')
    (tmp_path / "page.html").write_text('<i class="fa-solid fa-bars"></i><i class="fa-brands fa-github"></i>')
    before = sheet.read_text()
    icons(tmp_path)
    text = sheet.read_text()
    assert ".fa-bars:before" in text and ".fa-github:before" in text and ".fa-anchor:before" not in text
    assert ".fa-anchor:before" in before and "woff2" not in text and len(text) > len(before) / 2
    held = {path.stem: set(TTFont(path).getBestCmap()) for path in fonts.iterdir()}
    assert {0xF0C9, 0xF107} <= held["fa-solid-900"] and 0xF13D not in held["fa-solid-900"]
    assert held["fa-brands-400"] & {0xF09B, 0xF099} == {0xF09B}
    assert sum(path.stat().st_size for path in fonts.iterdir()) < 60_000


def test_pages_load_less_and_show_the_same(tmp_path):
    images = tmp_path / "_images"
    for folder in (images, tmp_path / "book" / "api", tmp_path / "_static" / "scripts"):
        folder.mkdir(parents=True)
    cell = f"{'0' * 63}a"
    (images / f"{cell}.png").write_bytes(png(4 * SHARP, 2 * SHARP))
    (images / f"{cell}.svg").write_text('<?xml version="1.0"?>\n<svg width="288.0pt" height="144pt" viewBox="0 0 9 9">')
    (images / "card.png").write_bytes(png(30, 20))
    (tmp_path / "_static" / "scripts" / "fontawesome.js").write_text("")
    embedded = [base64.b64encode(png(8, 4, value)).decode() for value in (1, 2)]
    pictures = [f'<img alt="{n}" src="../_images/{n}">' for n in (f"{cell}.svg", f"{cell}.png", "card.png")]
    pictures += [f'<img src="data:image/png;base64,{data}" alt="frame">' for data in embedded]
    pictures.append('<img alt="sized" src="../_images/card.png" width="15">')
    pictures.append(f'<a href="../_images/{cell}.png">large</a>')
    text = PAGE.format(pictures="\n".join(pictures))
    (tmp_path / "book" / "page.html").write_text(text)
    (tmp_path / "book" / "api" / "deep.html").write_text(PAGE.format(pictures=pictures[3]))
    (tmp_path / "search.html").write_text(text)
    (tmp_path / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=book/page.html" />\n')
    lighten(tmp_path)
    made = (tmp_path / "book" / "page.html").read_text()
    article = made.partition("<article")[2]
    tags = re.findall(r"<img[^>]*>", article)
    sizes = [tuple(int(n) for n in re.findall(r' (?:width|height)="(\d+)"', tag)) for tag in tags]
    assert sizes == [(576, 288), (576, 288), (30, 20), (8, 4), (8, 4), (15,)]
    assert ['loading="lazy"' in tag for tag in tags] == [False, True, True, False, False, True]
    drawn, _, *frames, _ = re.findall(r'src="\.\./(_images/\w+\.webp)"', article)
    assert f'href="../{drawn}"' in article
    for file, value, wide in ((drawn, 0, 4 * SHARP), (frames[0], 1, 8), (frames[1], 2, 8)):
        pixels = np.asarray(Image.open(tmp_path / file))
        assert pixels.shape == (wide // 2, wide, 3) and (pixels == value).all()
    assert f'src="../../{frames[0]}"' in (tmp_path / "book" / "api" / "deep.html").read_text()
    assert sorted(path.suffix for path in images.iterdir()) == [".svg", ".webp", ".webp", ".webp", ".webp"]
    assert '<summary aria-label="Pages of API">' in made
    assert "painters.js" in made and "searchindex" not in made and "searchtools" not in made
    assert "searchindex" in (tmp_path / "search.html").read_text()
    assert "fontawesome" not in made and not list(tmp_path.rglob("fontawesome.js"))
    door = (tmp_path / "index.html").read_text()
    assert "<title>A &amp; B</title>" in door and "og:title" in door and "url=book/page.html" in door
