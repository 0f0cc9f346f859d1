"""A page as a reader prints it: in the dark theme, with its scripts, folds closed and sliders where they stand."""

import pdf
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
THEME = "() => document.documentElement.dataset.theme"


def test_a_page_on_paper_is_whole_and_light(fresh_page, page):
    view = fresh_page(page)
    view.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
    view.emulate_media(media="print")
    view.set_viewport_size({"width": pdf.WIDTH, "height": 900})
    view.wait_for_function(f"({THEME})() === 'light'")
    # Chromium loads what waits to come into view before it prints.
    view.evaluate("() => { for (const image of document.images) image.loading = 'eager'; }")
    pdf.ready(view)
    assert pdf.look(view) == []
    assert view.evaluate("() => getComputedStyle(document.querySelector('article p')).color") == "rgb(0, 0, 0)"
    view.emulate_media(media="screen")
    view.wait_for_function(f"({THEME})() === 'dark'")
