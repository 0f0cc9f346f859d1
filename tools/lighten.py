"""Make the pages of the built site light: what a page does not need it does not load, and pictures wait to be seen.

The theme brings a script of icons, 1.5 MB, that its fonts draw as well, two thousand icons in these, and the index of
the search to every page. Pictures get their sizes, so that nothing moves when they arrive, and all but a page's first
wait until they are near; all of them, and the frames of sequences, which a notebook holds in itself, become WebP files
with the same pixels. What the theme's elements do not say to readers' aids is said.
"""

import base64
import hashlib
import io
import re
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from PIL import Image

from atelier.pages.figures import SHARP

SCRIPT = re.compile(r"<script[^>]*fontawesome\.js[^>]*>\s*</script>|<link[^>]*preload[^>]*fontawesome\.js[^>]*>")
SEARCH = re.compile(r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>\s*')
PICTURE = re.compile(r"<img\b[^>]*>")
SOURCE = re.compile(r'\bsrc="([^"]*)"')
EMBEDDED = "data:image/png;base64,"
CELL = re.compile(r"[0-9a-f]{64}\.png")
PLAIN = re.compile(r"_images/([\w-]+\.png)")
POINTS = re.compile(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"')
FOLD = re.compile(r">([^<>]+)</a>(<details[^>]*>)<summary>")
NAMED = re.compile(r"\bfa-[a-z0-9-]+")
ICON = re.compile(r'((?:\.fa-[a-z0-9-]+:before,?)+)\{content:"\\([ef][0-9a-f]{3})"\}')
CODE = re.compile("\\\\([ef][0-9a-f]{3})|([\ue000-\uf8ff])")
WOFF = re.compile(r'url\([^)]*fontawesome[^)]*\.woff2\) format\("woff2"\),')


def packed(png: bytes, folder: Path) -> Path:
    """Write a picture as WebP, without loss, under a name of its own and return where it is."""
    path = folder / f"{hashlib.sha256(png).hexdigest()[:32]}.webp"
    if not path.exists():
        Image.open(io.BytesIO(png)).convert("RGB").save(path, lossless=True)
    return path


def size(path: Path) -> tuple[int, int] | None:
    """Return the size in pixels at which a page shows a picture, where there is room; an inch of a figure is 144."""
    if path.suffix == ".svg":
        with path.open(encoding="utf-8") as file:
            found = POINTS.search(file.read(2000))
        return (round(float(found[1]) * 2), round(float(found[2]) * 2)) if found else None
    with Image.open(path) as picture:
        scale = 144 / SHARP if CELL.fullmatch(path.name) else 1.0
        return round(picture.width * scale), round(picture.height * scale)


def lighter(page: Path, html: Path) -> str:
    """Return the text of a page with its pictures made light."""
    up, seen = "../" * len(page.parent.relative_to(html).parts), 0

    def replace(match: re.Match[str]) -> str:
        nonlocal seen
        tag, found = match[0], SOURCE.search(match[0])
        if found is None:
            return tag
        frame, extra = found[1].startswith(EMBEDDED), ""
        if frame:
            path = packed(base64.b64decode(found[1].removeprefix(EMBEDDED)), html / "_images")
            tag = tag.replace(found[1], f"{up}_images/{path.name}")
        else:
            path = (page.parent / found[1]).resolve()
        if path.exists() and " width=" not in tag and (shown := size(path)):
            extra = f' width="{shown[0]}" height="{shown[1]}"'
        seen += 1
        if seen > 1 and not frame:
            extra += ' loading="lazy"'
        return tag.replace("<img", f"<img{extra}", 1)

    def rename(match: re.Match[str]) -> str:
        path = html / match[0]
        return f"_images/{packed(path.read_bytes(), path.parent).name}" if path.exists() else match[0]

    head, article, rest = page.read_text(encoding="utf-8").partition("<article")
    # Figures lead to their pictures, so names are changed wherever they stand.
    return head + article + PLAIN.sub(rename, PICTURE.sub(replace, rest))


def icons(html: Path) -> None:
    """Leave in the theme's style sheets and fonts the icons that the site shows."""
    static, named, codes = html / "_static", set(), set()
    for path in (*html.rglob("*.html"), *static.rglob("*.js")):
        named |= set(NAMED.findall(path.read_text(encoding="utf-8")))

    def keep(match: re.Match[str]) -> str:
        if named.isdisjoint(NAMED.findall(match[1])):
            return ""
        codes.add(int(match[2], 16))
        return match[0]

    for path in static.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        codes |= {int(code, 16) if code else ord(char) for code, char in CODE.findall(ICON.sub("", text))}
        path.write_text(WOFF.sub("", ICON.sub(keep, text)), encoding="utf-8")
    for path in static.glob("vendor/fontawesome/webfonts/*"):
        if path.suffix != ".ttf":
            path.unlink()
            continue
        font, subsetter = TTFont(path), Subsetter(Options(layout_features=[]))
        subsetter.populate(unicodes=codes)
        subsetter.subset(font)
        font.save(path)


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
        text = SCRIPT.sub("", lighter(page, html))
        # In the navigation a fold has no name of its own.
        text = FOLD.sub(r'>\1</a>\2<summary aria-label="Pages of \1">', text)
        # A role that the standard gave up, in what says that it is a list.
        text = text.replace('role="doc-biblioentry"', 'role="listitem"')
        if page.name != "search.html":
            text = SEARCH.sub("", text)
        page.write_text(text, encoding="utf-8")
    for file in (html / "_images").glob("*.png"):
        if not file.name.startswith("first-"):  # which stand in heads
            file.unlink()
    for file in (html / "_static").rglob("fontawesome.js*"):
        file.unlink()
    for file in (html / "_static").rglob("*.js.map"):  # for those who debug the theme
        file.unlink()
    icons(html)
