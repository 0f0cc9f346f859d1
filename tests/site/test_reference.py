"""The reference of the package: a page for each module, short enough to read on a phone."""

import re
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

TALLEST = 12_000
"""Pixels at 1280: all modules on one page were 118,000."""


@pytest.fixture(scope="module")
def modules(site):
    """The pages of the modules."""
    return sorted((site / "book" / "api").glob("*.html"))


def test_every_name_of_the_index_leads_to_its_place(site, modules):
    index = BeautifulSoup((site / "book" / "api.html").read_text(encoding="utf-8"), "html.parser").find("article")
    links = [urlsplit(link["href"]) for link in index.select("table a[href]")]
    inside = [link for link in links if link.path.startswith("api/")]
    assert {link.path for link in inside} == {f"api/{path.name}" for path in modules} and len(modules) > 20
    for link in inside:
        text = (site / "book" / link.path).read_text(encoding="utf-8")
        assert re.search(f'id="{re.escape(unquote(link.fragment))}"', text), link


def test_pages_of_modules_link_to_pages_that_exist(modules):
    for path in modules:
        article = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").find("article")
        for link in article.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.path and not parts.scheme:
                assert (path.parent / unquote(parts.path)).resolve().exists(), f"{path.name}: {link['href']}"


def test_there_are_no_lists_of_names(site):
    assert not (site / "genindex.html").exists() and not (site / "py-modindex.html").exists()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_of_modules_fit(browser, address, modules, width):
    view = browser.new_page(viewport={"width": width, "height": 900})
    wide, tall = {}, {}
    for path in modules:
        view.goto(f"{address}/book/api/{path.name}", wait_until="load")
        size = view.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        wide |= {path.name: size[0]} if size[0] > width else {}
        tall |= {path.name: size[1]} if width == 1280 and size[1] > TALLEST else {}
    view.close()
    assert wide == {} and tall == {}
