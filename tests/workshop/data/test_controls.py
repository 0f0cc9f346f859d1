"""The control changes what it says, and nothing else."""

import torch

from atelier.data.controls import CONTROLS, checkerboard, undone, varied
from atelier.data.images import ImageData, to_unit
from atelier.training.recipes import RECIPES
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


def test_a_control_changes_all_images_and_keeps_their_labels():
    images, labels = pictures(7), torch.arange(7)
    data = ImageData(images, images[:2], labels, labels[:2], captions=(list("abcdefg"),), source="fashion")
    board = varied(data, "checkerboard")
    assert torch.equal(checkerboard(board.train), data.train) and torch.equal(checkerboard(board.test), data.test)
    assert board.train_labels is labels and board.captions == data.captions and varied(data, None) is data
    assert torch.equal(undone(board.train, "checkerboard"), data.train) and undone(images, None) is images
    assert {recipe.name for recipe in RECIPES.values() if getattr(recipe.kind, "variant", None)} == set(CONTROLS)
