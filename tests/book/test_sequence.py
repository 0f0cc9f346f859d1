"""Frame sequences: their HTML, and how they behave on a page."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from atelier.pages import sequence

IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TEXTS = {"alts": ["first", "second", "third"], "caption": 'A "caption" <here>.', "name": "noise level"}
SHOWN = "s => [...s.querySelectorAll('.frame')].filter(f => f.checkVisibility()).map(f => f.querySelector('img').alt)"


def test_the_html_holds_everything_and_nothing_remote():
    html = sequence(IMAGES, **TEXTS)._repr_html_()
    assert re.findall(r'<img[^>]* alt="(\w+)"', html) == TEXTS["alts"]
    assert html.count("data:image/png;base64,") == 3
    assert "http" not in html and " id=" not in html
    assert "A &quot;caption&quot; &lt;here&gt;." in html and "<here>" not in html


def test_figures_are_closed():
    figures = []
    for scale in range(2):
        figure, axes = plt.subplots(figsize=(2, 1))
        axes.plot([0, scale])
        figures.append(figure)
    made = sequence(figures, alts=["a", "b"], labels=["0", "1"], caption="c", name="n")
    first, second = re.findall(r'src="([^"]+)"', made._repr_html_())
    assert first != second
    assert not any(plt.fignum_exists(figure.number) for figure in figures)


@pytest.mark.parametrize(
    ("frames", "changes", "says"),
    [
        (IMAGES[:1], {"alts": ["first"]}, "at least two frames"),
        (IMAGES, {"alts": ["first", "second"]}, "3 frames, 2 alt texts"),
        (IMAGES, {"labels": ["1"]}, "1 labels"),
        (IMAGES, {"alts": ["first", " ", "third"]}, "one is empty"),
        (IMAGES, {"caption": ""}, "one is empty"),
        (IMAGES * float("nan"), {}, "not finite"),
        (torch.zeros(3, 2, 8, 8), {}, "an image is"),
        (np.random.default_rng(0).random((3, 3, 600, 600)), {}, "at most 2 MB"),
    ],
)
def test_bad_input_is_one_sentence(frames, changes, says):
    with pytest.raises(ValueError, match=says) as problem:
        sequence(frames, **(TEXTS | changes))
    assert "\n" not in str(problem.value)


@pytest.mark.browser
def test_two_on_a_page_move_by_keyboard_and_print_as_sheets(browser):
    view = browser.new_page()
    made = sequence(IMAGES, labels=["1.0", "0.5", "0.0"], **TEXTS)._repr_html_()
    view.set_content(f"<html><body>{made}{made}</body></html>")
    first, second = view.query_selector_all(".frame-sequence")
    assert first.evaluate(SHOWN) == ["first"] and second.evaluate(SHOWN) == ["first"]
    view.keyboard.press("Tab")
    view.keyboard.press("ArrowRight")
    assert first.evaluate(SHOWN) == ["second"] and second.evaluate(SHOWN) == ["first"]
    assert first.query_selector("output").inner_text() == "0.5"
    assert first.query_selector("input").get_attribute("aria-valuetext") == "0.5"
    view.keyboard.press("Tab")
    view.keyboard.press("End")
    assert first.evaluate(SHOWN) == ["second"] and second.evaluate(SHOWN) == ["third"]
    view.emulate_media(media="print")
    assert first.evaluate(SHOWN) == TEXTS["alts"]
    assert not first.query_selector("input").is_visible()
    view.close()


@pytest.mark.browser
def test_without_scripts_it_is_a_contact_sheet(browser):
    context = browser.new_context(java_script_enabled=False)
    view = context.new_page()
    view.set_content(sequence(IMAGES, **TEXTS)._repr_html_())
    assert all(frame.is_visible() for frame in view.query_selector_all(".frame"))
    assert not view.query_selector("input").is_visible()
    context.close()
