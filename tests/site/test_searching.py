"""What a reader finds first: the page about it, the term's definition, the chapters; the package's reference last."""

import pytest

pytestmark = pytest.mark.browser

FOUND = """() => [...document.querySelectorAll("#search-results li > a")].map(a => {
  const url = new URL(a.href);
  return url.pathname.replace(/^\\/book\\/|\\.html$/g, "") + url.hash;
})"""
DONE = "() => /found|did not match/.test(document.querySelector('#search-results .search-summary')?.textContent ?? '')"


@pytest.fixture(scope="module")
def search(browser, address):
    """Return what the search finds, in its order, as PAGE or PAGE#PLACE."""
    view = browser.new_page()

    def look(words: str) -> list[str]:
        view.goto(f"{address}/search.html?q={words.replace(' ', '+')}", wait_until="load")
        view.wait_for_function(DONE, timeout=30_000)
        view.wait_for_function(  # results are listed one after the other
            "() => { const n = document.querySelectorAll('#search-results li').length;"
            " const same = n === window.seen; window.seen = n; return same && n > 0; }",
            polling=300,
        )
        return view.evaluate(FOUND)

    yield look
    view.close()


@pytest.mark.parametrize(
    "words, first, early",
    [
        ("guidance", "guidance", {"glossary#term-guidance"}),
        ("kick", "gaussian", {"landscape", "evidence", "variations"}),
        ("half-time", "glossary#term-half-time", {"evidence"}),
        ("Gaussian flow", "gaussian", {"learning"}),
        ("sampler", "gans", {"steps", "faster"}),
    ],
)
def test_the_page_about_it_comes_first(search, words, first, early):
    found = search(words)
    assert found[0] == first and early <= set(found[1:6]), found[:8]


@pytest.mark.parametrize("words", ["guidance", "kick", "sampler", "solve", "levels"])
def test_the_reference_of_the_package_comes_last(search, words):
    package = [page.startswith("api") for page in search(words)]
    assert package == sorted(package) and not package[0]
    assert any(package)


def test_a_name_of_the_package_is_found(search):
    assert "api/models-record#painters.models.record.moments_of" in search("moments_of")


def test_a_symbol_is_found(search):
    assert "symbols" in search("log-SNR")
