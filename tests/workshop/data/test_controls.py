"""The controls change what they say, and nothing else."""

import pytest
import torch

from atelier.data import scenes
from atelier.data.controls import INVERTED_CONTRAST, checkerboard, varied
from atelier.data.images import ImageData, to_unit
from painters import Moments


def pictures(n=40, size=8):
    return (torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(1)) * 255).to(torch.uint8)


def test_a_checkerboard_undoes_itself_and_is_the_same_in_both_units():
    images = pictures()
    assert torch.equal(checkerboard(checkerboard(images)), images)
    assert not torch.equal(checkerboard(images), images)
    torch.testing.assert_close(to_unit(checkerboard(images)), checkerboard(to_unit(images)), atol=1e-6, rtol=0)
    assert checkerboard(torch.ones(1, 1, 2, 3))[0, 0].tolist() == [[1, -1, 1], [-1, 1, -1]]


def test_a_checkerboard_is_orthogonal_and_keeps_the_spectrum():
    flat = torch.eye(36, dtype=torch.float64).reshape(36, 1, 6, 6)
    turned = checkerboard(flat).flatten(1)
    torch.testing.assert_close(turned.T @ turned, torch.eye(36, dtype=torch.float64))
    x = to_unit(pictures(200, 6))
    before, after = (Moments.of(v).eigh()[1] for v in (x, checkerboard(x)))
    torch.testing.assert_close(after, before)


def test_a_checkerboard_exchanges_low_and_high_frequencies():
    x = to_unit(pictures(3))
    moved = torch.fft.fft2(checkerboard(x)).abs()
    torch.testing.assert_close(moved, torch.fft.fft2(x).abs().roll((4, 4), (-2, -1)), rtol=1e-4, atol=1e-4)


def test_the_halves_share_no_image_and_leave_none_out():
    images, labels = pictures(7), torch.arange(7)
    data = ImageData(images, images[:2], labels, labels[:2], captions=(list("abcdefg"),), source="fashion")
    a, b = varied(data, "half-a"), varied(data, "half-b")
    assert a.train_labels is not None and b.train_labels is not None
    assert a.train_labels.tolist() == [0, 2, 4, 6] and b.train_labels.tolist() == [1, 3, 5]
    assert torch.equal(a.train, images[::2]) and torch.equal(b.train, images[1::2])
    assert list(a.captions[0]) == ["a", "c", "e", "g"] and torch.equal(a.test, data.test)
    board = varied(data, "checkerboard")
    assert torch.equal(checkerboard(board.train), data.train) and torch.equal(checkerboard(board.test), data.test)
    with pytest.raises(ValueError, match="only scenes"):
        varied(data, "inverted")


def test_inverted_scenes_vary_in_their_objects_as_others_vary_in_their_areas():
    def share(band, contrast, n=150):
        """Total effect of a band: E|f(A) - f(A with the band of B)|^2 / E|f(A) - f(B)|^2."""
        a, b = scenes.sample(n, 60_000), scenes.sample(n, 70_000)
        mixed = a.replace({f.name: b.values[f.name] for f in scenes.FACTORS if f.band == band})
        first, second, third = (to_unit(scenes.render(v, contrast=contrast)) for v in (a, b, mixed))
        return float((first - third).square().sum() / (first - second).square().sum())

    normal = {band: share(band, (1.0,) * 4) for band in scenes.BANDS}
    inverted = {band: share(band, INVERTED_CONTRAST) for band in scenes.BANDS}
    print(normal, inverted)
    assert normal["areas"] > 3 * normal["objects"]
    assert inverted["objects"] > inverted["areas"]
