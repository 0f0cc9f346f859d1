"""What the files of the built site must be, without opening a browser."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from export import repository_address
from numbering import read_book

ROOT = Path(__file__).resolve().parents[2]


def test_every_image_has_alt_text(soup, page):
    for image in soup(page).find_all("img"):
        assert image.get("alt", "").strip(), f"no alt text: {str(image)[:120]}"


def test_alt_text_is_not_a_file_name(soup, page):
    for image in soup(page).find("article").find_all("img"):
        assert not re.search(r"[0-9a-f]{16}|\.(png|svg|jpe?g)$", image["alt"]), image["alt"]


def test_nothing_is_loaded_from_another_host(soup, page):
    loads = [
        (tag, tag.get("src") or tag.get("data")) for tag in soup(page).find_all(["script", "img", "iframe", "object"])
    ]
    loads += [(tag, tag["href"]) for tag in soup(page).find_all("link") if tag.get("href")]
    for tag, address in loads:
        assert not re.match(r"(https?:)?//", address or ""), f"{tag.name} loads {address}"


def test_style_sheets_load_nothing_from_another_host(site):
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8", errors="replace")
        remote = re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\"']+", text)
        assert not remote, f"{path.name} loads {remote[0]}"


def test_internal_links_arrive(site, soup, places, page):
    here = site / "book" / f"{page}.html"
    for link in soup(page).find_all("a", href=True):
        parts = urlsplit(link["href"])
        if parts.scheme or parts.netloc:
            continue
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        assert target.exists(), f"{link['href']} leads nowhere"
        if parts.fragment and target.suffix == ".html" and target.parent == here.parent:
            assert unquote(parts.fragment) in places(target.stem), f"{link['href']} has no such place"


def test_colab_opens_the_notebook_of_each_chapter(soup, page):
    links = {link["href"] for link in soup(page).find_all("a", href=re.compile("colab"))}
    book = read_book(ROOT)
    if not next((p.has_notebook for p in book.pages if p.name == page), False):
        assert not links
        return
    repository = repository_address(ROOT).removeprefix("https://github.com/")
    assert links == {f"https://colab.research.google.com/github/{repository}/blob/main/book/{page}.ipynb"}
    assert (ROOT / "book" / f"{page}.ipynb").exists()


def test_numbers_are_those_of_the_notebooks(soup, page):
    for label, target in read_book(ROOT).targets.items():
        if target.page != page or not target.number or ".md:" in label:
            continue
        if target.kind == "Equation":
            shown = soup(page).find(id=f"equation-{label}").find(class_="eqno").get_text()
            assert f"({target.number})" in shown, f"{label}: {shown}"
        else:
            shown = " ".join(soup(page).find(id=label).get_text(" ").split())
            assert f"{target.kind} {target.number} " in f"{shown} ", f"{label}: {shown[:80]}"


def test_no_markup_is_left_over(soup, page):
    article = soup(page).find("article")
    text = "".join(s for s in article.strings if not s.find_parents(["pre", "code", "script", "style"]))
    found = re.search(r"\{[a-z][\w:]*\}`|:::|\$\$|^\([\w-]+\)=|\[\^", text, re.M)
    assert not found, f"raw markup near {text[max(0, found.start() - 40) : found.end() + 40]!r}"
