"""Make the pages of the built site light: what a page does not need it does not load, and pictures wait to be seen.

The theme brings a script of icons, 1.5 MB, that its fonts draw as well, and the index of the search to every page.
Pictures get their sizes, so that nothing moves when they arrive, and all but a page's first wait until they are near.
Frames of sequences, which a notebook must hold in itself, become files beside the others.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from PIL import Image

from atelier.pages.figures import SHARP

ICONS = re.compile(r"<script[^>]*fontawesome\.js[^>]*>\s*</script>|<link[^>]*preload[^>]*fontawesome\.js[^>]*>")
SEARCH = re.compile(r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>\s*')
PICTURE = re.compile(r"<img\b[^>]*>")
SOURCE = re.compile(r'\bsrc="([^"]*)"')
EMBEDDED = "data:image/png;base64,"
CELL = re.compile(r"[0-9a-f]{64}\.png")
POINTS = re.compile(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"')


@cache
def size(path: Path) -> tuple[int, int] | None:
    """Return the size in pixels at which a page shows a picture, where there is room; an inch of a figure is 144."""
    if path.suffix == ".svg":
        with path.open(encoding="utf-8") as file:
            found = POINTS.search(file.read(2000))
        return (round(float(found[1]) * 2), round(float(found[2]) * 2)) if found else None
    with Image.open(path) as picture:
        scale = 144 / SHARP if CELL.fullmatch(path.name) else 1.0
        return round(picture.width * scale), round(picture.height * scale)


def written(data: str, folder: Path) -> Path:
    """Write an embedded picture as a file and return where it is."""
    content = base64.b64decode(data)
    path = folder / f"frame-{hashlib.sha256(content).hexdigest()[:32]}.png"
    path.write_bytes(content)
    return path


def lighter(page: Path, html: Path) -> str:
    """Return the text of a page with its pictures made light."""
    seen = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal seen
        tag = match[0]
        found = SOURCE.search(tag)
        if found is None:
            return tag
        frame = found[1].startswith(EMBEDDED)
        if frame:
            path = written(found[1].removeprefix(EMBEDDED), html / "_images")
            tag = tag.replace(found[1], "../" * len(page.parent.relative_to(html).parts) + f"_images/{path.name}")
        else:
            path = page.parent / found[1]
        extra = ""
        if path.exists() and " width=" not in tag and (shown := size(path.resolve())):
            extra = f' width="{shown[0]}" height="{shown[1]}"'
        seen += 1
        if seen > 1 and not frame:
            extra += ' loading="lazy"'
        return tag.replace("<img", f"<img{extra}", 1)

    head, article, rest = page.read_text(encoding="utf-8").partition("<article")
    return head + article + PICTURE.sub(replace, rest)


def doorway(html: Path) -> None:
    """Give the page at the site's root, which only leads to the first one, that page's title and description."""
    door = html / "index.html"
    found = re.search(r"url=([^\"]+)", door.read_text(encoding="utf-8"))
    if found is None or not (html / found[1]).exists():
        return
    front = (html / found[1]).read_text(encoding="utf-8")
    facts = re.findall(r'<title>.*?</title>|<meta (?:name="description"|property="og:)[^>]*>', front, re.S)
    door.write_text(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{chr(10).join(facts)}\n'
        f'<meta http-equiv="refresh" content="0; url={found[1]}">\n</head>\n'
        f'<body><a href="{found[1]}">Outline First, Details Later</a></body>\n</html>\n',
        encoding="utf-8",
    )


def lighten(html: Path) -> None:
    """Make every page of a built site lighter, in place."""
    doorway(html)
    (html / "_images").mkdir(exist_ok=True)
    for page in html.rglob("*.html"):
        text = ICONS.sub("", lighter(page, html))
        if page.name != "search.html":
            text = SEARCH.sub("", text)
        page.write_text(text, encoding="utf-8")
    for file in (html / "_static").rglob("fontawesome.js*"):
        file.unlink()
    for file in (html / "_static").rglob("*.js.map"):  # for those who debug the theme
        file.unlink()
