"""What the files of the built site must be, without opening a browser."""

import re
from collections import Counter
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


def test_no_id_stands_twice(soup, page):
    count = Counter(tag["id"] for tag in soup(page).find_all(id=True))
    assert [name for name, times in count.items() if times > 1] == []


def test_the_head_says_what_the_page_is(site, soup, page):
    head = soup(page).head
    title = head.title.get_text()
    named = head.find("meta", property="og:title")["content"]
    assert named.split(": ")[-1].lower() in title.lower() and title.count("Outline") == 1
    about = head.find("meta", attrs={"name": "description"})["content"]
    assert 50 < len(about) <= 400 and about == head.find("meta", property="og:description")["content"]
    picture = urlsplit(head.find("meta", property="og:image")["content"])
    assert picture.scheme == "https" and (site / "_images" / Path(picture.path).name).exists()
    assert len(head.find("meta", property="og:image:alt")["content"]) > 20
    icon = head.find("link", rel="icon")["href"]
    assert (site / "book" / icon).resolve().exists()


def test_pictures_below_the_first_wait_to_be_seen(soup, page):
    pictures = [p for p in soup(page).find("article").find_all("img") if not p.find_parent(class_="frame-sequence")]
    assert all(p.get("loading") == "lazy" for p in pictures[1:])
    assert all(p.get("width") and p.get("height") for p in pictures)
    assert not [p for p in soup(page).find_all("img") if p["src"].startswith("data:")]


def test_the_first_page_of_the_site_leads_on_and_has_a_title(site):
    door = (site / "index.html").read_text(encoding="utf-8")
    assert "<title>How diffusion models paint" in door and "og:image" in door and "url=book/intro.html" in door
