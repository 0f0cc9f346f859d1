"""What a reader sees: the site opened in Chromium with the network blocked."""

import pytest

pytestmark = pytest.mark.browser

FORMULAS = """() => [...document.querySelectorAll(".math")].map(node => {
  const shown = node.querySelector(".katex-html");
  const box = shown ? shown.getBoundingClientRect() : {width: 0, height: 0};
  const folded = !node.checkVisibility();
  return {
    source: node.textContent.slice(0, 80),
    drawn: shown !== null && shown.childElementCount > 0,
    visible: folded || (box.width > 1 && box.height > 1),
    error: node.querySelector(".katex-error") !== null,
    raw: /\\\\\\(|\\\\\\[|\\$/.test([...node.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join("")),
  };
})"""

WIDE = """() => [...document.querySelectorAll("body *")]
  .filter(node => node.checkVisibility() && node.getBoundingClientRect().right > innerWidth + 1)
  .map(node => `${node.tagName}.${node.className} ${Math.round(node.getBoundingClientRect().right)}`).slice(0, 5)"""


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_load_alone_and_fit(open_page, page, width):
    view = open_page(page, width=width)
    assert view.problems == []
    overflow = view.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0, f"{overflow} px too wide at {width} px: {view.evaluate(WIDE)}"


def test_every_formula_is_drawn(open_page, page):
    for formula in open_page(page).evaluate(FORMULAS):
        assert formula["drawn"] and formula["visible"], f"empty: {formula['source']}"
        assert not formula["error"] and not formula["raw"], f"not understood: {formula['source']}"


CUT = """() => [...document.querySelectorAll("article span.math")]
  .filter(node => node.checkVisibility() && node.closest("table") === null)
  .filter(node => node.getBoundingClientRect().right > innerWidth)
  .map(node => node.textContent.slice(0, 60))"""


STOPS = """() => [...document.querySelectorAll(".math, .math *")]
  .filter(node => !node.closest("a"))
  .filter(node => node.tabIndex >= 0 || (node.matches("div.math") && node.scrollWidth > node.clientWidth + 1))
  .map(node => node.textContent.slice(0, 60))"""


@pytest.mark.parametrize("width", [1280, 390])
def test_no_formula_stops_the_tabulator_or_has_to_be_scrolled(open_page, page, width):
    assert open_page(page, width=width).evaluate(STOPS) == []


def test_no_formula_in_a_line_is_cut_on_a_phone(open_page, page):
    assert open_page(page, width=390).evaluate(CUT) == []


def test_the_menus_open_on_a_phone(open_page):
    view = open_page("gaussian", width=390)
    for side in ("primary", "secondary"):
        view.locator(f"button.{side}-toggle:visible").click()
        view.locator("dialog[open] a").first.wait_for(timeout=10_000)
        view.keyboard.press("Escape")  # the page is shared with other tests
        view.locator("dialog[open]").wait_for(state="hidden", timeout=10_000)


EMPTY = """async () => {
  const all = [...document.images];
  all.forEach(i => { i.loading = "eager"; });
  await Promise.all(all.map(i => i.decode().catch(() => 0)));
  const bent = i => {
    const style = getComputedStyle(i), edge = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
    const shape = (i.clientWidth - edge) / (i.clientHeight - edge) / (i.naturalWidth / i.naturalHeight);
    return i.checkVisibility() && style.objectFit === "fill" && Math.abs(shape - 1) > 0.03;
  };
  return all.filter(i => i.naturalWidth === 0 || bent(i)).map(i => i.alt);
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_every_picture_is_drawn_in_its_shape(open_page, page, width):
    assert open_page(page, width=width).evaluate(EMPTY) == []


def test_no_control_does_nothing(open_page, page):
    """Each slider of a frame sequence moves its own frames by keyboard; those of instruments test_live.py knows."""
    view = open_page(page)
    sliders = view.query_selector_all("article input[type=range]:not(form input)")
    sequences = view.query_selector_all("article .frame-sequence")
    assert len(sliders) == len(sequences)
    assert view.query_selector_all("article .jupyter-widgets, article .widget-slider") == []
    for sequence in sequences:
        slider = sequence.query_selector("input")
        shown = "s => [...s.querySelectorAll('.frame')].map((f, i) => f.checkVisibility() ? i : -1).filter(i => i >= 0)"
        sequence.scroll_into_view_if_needed()
        slider.focus()
        view.keyboard.press("Home")
        assert sequence.evaluate(shown) == [0]
        view.keyboard.press("ArrowRight")
        assert sequence.evaluate(shown) == [1]
        view.keyboard.press("End")
        assert sequence.evaluate(shown) == [len(sequence.query_selector_all(".frame")) - 1]
        view.keyboard.press("Home")
