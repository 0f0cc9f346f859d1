"""The built site, served on 127.0.0.1, and a page that can reach nothing else."""

import functools
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from chromium import served  # browsing has said where the tools are

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"


def pytest_generate_tests(metafunc):
    """Give a test that takes `page` one case per page of the book."""
    if "page" in metafunc.fixturenames:
        pages = sorted(path.stem for path in (HTML / "book").glob("*.html"))
        metafunc.parametrize("page", pages or [pytest.param("", marks=pytest.mark.skip("no site; run make book"))])


@pytest.fixture(scope="session")
def site():
    """The folder of the built site."""
    if not (HTML / "index.html").exists():
        pytest.skip("there is no site in _build/html; run make book")
    return HTML


@pytest.fixture(scope="session")
def soup(site):
    """Parse a page of the book, once."""

    @functools.cache
    def parse(page: str) -> BeautifulSoup:
        return BeautifulSoup((site / "book" / f"{page}.html").read_text(encoding="utf-8"), "html.parser")

    return parse


@pytest.fixture(scope="session")
def places(soup):
    """Return the ids of a page, found once."""

    @functools.cache
    def find(page: str) -> set[str]:
        return {tag["id"] for tag in soup(page).find_all(id=True)}

    return find


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served."""
    with served(site) as found:
        yield found


def load(browser, address: str, name: str, width: int):
    """Open a page with every request to another host blocked; `view.problems` lists what went wrong."""
    view = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    view.problems = []

    def guard(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            view.problems.append(f"remote request: {route.request.url}")
            route.abort()

    def failed(response):
        if response.status >= 400:
            view.problems.append(f"status {response.status}: {response.url}")

    view.context.route("**/*", guard)
    view.on("response", failed)
    view.on("pageerror", lambda error: view.problems.append(f"script error: {error}"))
    view.goto(f"{address}/book/{name}.html", wait_until="load")
    view.evaluate("() => document.fonts.ready.then(() => true)")
    return view


@pytest.fixture(scope="session")
def open_page(browser, address):
    """Open a page of the book, once for each width."""
    views = {}

    def open_(name: str, *, width: int = 1280):
        if (name, width) not in views:
            views[name, width] = load(browser, address, name, width)
        return views[name, width]

    yield open_
    for view in views.values():
        view.context.close()


@pytest.fixture
def fresh_page(browser, address):
    """Open a page of the book that no other test has touched, or will."""
    views = []

    def open_(name: str, *, width: int = 1280):
        views.append(load(browser, address, name, width))
        return views[-1]

    yield open_
    for view in views:
        view.context.close()
