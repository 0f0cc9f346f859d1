"""The ledger on its page: it sorts and filters without a kernel, by keyboard, and becomes cards on a phone."""

import pytest

from atelier.data.controls import CONTROLS
from atelier.ledger.claim import VERDICTS
from atelier.ledger.column import column
from atelier.ledger.records import RESULTS, read
from atelier.ledger.rows import CLAIMS
from atelier.pages.ledgers import _group

pytestmark = pytest.mark.browser

VISIBLE = "rows => rows.filter(r => r.checkVisibility()).map(r => r.id)"
HUB = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture
def claims(open_page, site):
    """The page, and what it shows with nothing filtered."""
    if not (site / "book" / "claims.html").exists():
        pytest.skip("the page of the ledger is not in the book")

    def at(width: int = 1280):
        view = open_page("claims", width=width)
        view.click(".ledger button[name=all]")
        return view

    return at


def rows(view) -> list[str]:
    return view.eval_on_selector_all(".ledger tbody tr", VISIBLE)


def test_every_claim_has_a_row_and_the_count_says_so(claims):
    view = claims()
    assert rows(view) == [claim.id for claim in CLAIMS]
    assert view.inner_text(".ledger output") == f"{len(CLAIMS)} of {len(CLAIMS)} claims"


def test_fields_filter_by_words_part_and_verdict(claims):
    view = claims()
    view.fill(".ledger input[type=search]", "angle ORTHOGONAL")
    assert rows(view) == ["i-angle"] and view.inner_text(".ledger output").startswith("1 of ")
    view.click(".ledger button[name=all]")
    view.select_option(".ledger select[name=part]", "iii")
    assert rows(view) == [claim.id for claim in CLAIMS if claim.part == "iii"]
    view.click(".ledger button[name=all]")
    view.select_option(".ledger select[name=verdict]", "fails")
    failing = rows(view)
    for name in failing:
        assert "fails" in view.inner_text(f"#{name}")
    assert 0 < len(failing) < len(CLAIMS)
    shown = [c for c in map(column, map(read, RESULTS.glob("*.json"))) if _group(c, CONTROLS) == "model"]
    for verdict in VERDICTS:
        view.select_option(".ledger select[name=verdict]", verdict)
        with_it = {cell.claim.id for c in shown for cell in c.cells if cell.verdict == verdict}
        assert rows(view) == [claim.id for claim in CLAIMS if claim.id in with_it], verdict


def test_what_was_reported_is_found_though_its_column_is_hidden(claims):
    view = claims()
    view.fill(".ledger input[type=search]", "reported EDM")
    assert "g-score" in rows(view) and len(rows(view)) < len(CLAIMS)


def test_headings_sort_by_keyboard_and_restore_the_order(claims):
    view = claims()
    heading = view.query_selector(".ledger thead th button")
    order = [claim.id for claim in CLAIMS]
    rising = view.evaluate("ids => [...ids].sort((a, b) => a.localeCompare(b))", order)
    for want, said in ((rising, "ascending"), (rising[::-1], "descending"), (order, None)):
        heading.focus()
        view.keyboard.press("Enter")
        assert rows(view) == want
        assert heading.evaluate("b => b.parentElement.getAttribute('aria-sort')") == said


def test_columns_are_shown_by_their_boxes_and_say_what_was_not_measured(claims):
    view = claims()
    cells = f'.ledger td[data-column="{HUB}"]'
    assert not view.is_visible(cells)
    assert not view.is_visible(".ledger td[data-group=reported]") and not view.is_visible(".ledger td[data-group=null]")
    view.focus(".ledger input[value=hub]")
    view.keyboard.press("Space")
    assert view.is_visible(cells)
    assert set(view.eval_on_selector_all(cells, "all => all.map(c => c.innerText.trim())")) == {"not yet measured"}
    view.keyboard.press("Space")
    assert not view.is_visible(cells)


def test_on_a_phone_rows_are_cards(claims):
    view = claims(width=390)
    shape = view.eval_on_selector(".ledger tbody tr", "r => getComputedStyle(r).display")
    assert shape == "block"
    widest = view.eval_on_selector_all(
        ".ledger tbody :is(th, td)",
        "all => Math.max(...all.filter(c => c.checkVisibility()).map(c => c.getBoundingClientRect().right))",
    )
    assert widest <= 390
    named = view.eval_on_selector(".ledger tbody td", "c => getComputedStyle(c, '::before').content")
    assert "exact theory" in named
