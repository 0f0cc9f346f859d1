"""Strips show what they are given, and say what is wrong with what they cannot show."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from atelier.pages import set_style, strip
from atelier.pages.figures import SHARP, packed, shown


@pytest.fixture(autouse=True)
def style():
    set_style()
    yield
    plt.close("all")


def test_a_strip_shows_its_images_in_order():
    grey = torch.linspace(0, 1, 4).reshape(4, 1, 1, 1).expand(4, 1, 14, 14)
    figure = strip({"state": grey, "estimate": grey.flip(0).expand(4, 3, 14, 14)}, columns=list("abcd"))
    first, second = figure.axes
    assert first.get_title(loc="left") == "state" and second.get_title(loc="left") == "estimate"
    assert [label.get_text() for label in second.get_xticklabels()] == list("abcd")
    for axis, want in ((first, grey[:, 0, 0, 0]), (second, grey.flip(0)[:, 0, 0, 0])):
        mosaic = np.asarray(axis.images[0].get_array())
        assert mosaic.shape == (14, 4 * 14 + 3, 3)
        assert np.allclose([mosaic[7, i * 15 + 7, 0] for i in range(4)], want)


def test_values_outside_are_clipped():
    image = np.asarray(strip({"x": torch.tensor([-5.0, 5.0]).reshape(2, 1, 1, 1)}).axes[0].images[0].get_array())
    assert image[0, 0].tolist() == [0, 0, 0] and image[0, -1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ({}, {}, "rows of one length"),
        ({"a": torch.zeros(2, 1, 4, 4), "b": torch.zeros(3, 1, 4, 4)}, {}, r"\[2, 3\]"),
        ({"a": torch.zeros(2, 1, 4, 4)}, {"columns": ["x"]}, "2 images, 1 labels"),
        ({"a": torch.full((1, 1, 4, 4), float("inf"))}, {}, "not finite"),
        ({"a": torch.zeros(1, 2, 4, 4)}, {}, "an image is"),
    ],
)
def test_bad_input_is_one_sentence(rows, options, says):
    with pytest.raises(ValueError, match=says):
        strip(rows, **options)


def test_lines_are_shown_as_svg_and_pictures_as_png():
    plot, axis = plt.subplots()
    axis.plot([0, 1], [1, 0])
    axis.scatter([0, 1], [0, 1])
    svg = shown(plot, kind="svg")
    assert svg == shown(plot, kind="svg") and "<svg" in svg and "<image" not in svg
    assert shown(plot, kind="png") is None
    colours = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    picture = strip({"x": colours})
    assert shown(picture, kind="svg") is None
    png, size = shown(picture, kind="png")
    drawn = Image.open(io.BytesIO(png))
    assert abs(drawn.width / size["width"] - SHARP / 144) < 0.01
    assert drawn.mode == "RGB"
    cloud, axis = plt.subplots()
    axis.scatter(*torch.zeros(2, 1001))
    assert shown(cloud, kind="svg") is None and shown(cloud, kind="png")[0] is not None


@pytest.mark.parametrize("colours", [200, 2000])
def test_packing_loses_no_colour_of_a_picture(colours):
    generator = np.random.default_rng(0)
    pixels = generator.integers(256, size=(colours, 3), dtype=np.uint8)[generator.integers(colours, size=(90, 90))]
    plain = io.BytesIO()
    Image.fromarray(pixels).save(plain, "png")
    made = Image.open(io.BytesIO(packed(plain.getvalue())))
    assert made.mode == ("P" if colours <= 256 else "RGB")
    assert np.array_equal(np.asarray(made.convert("RGB")), pixels)
