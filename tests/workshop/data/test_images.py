"""Pictures to train on: a reader's folder is taken whole, held out in part, and known by its digest."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.data.images import ImageData, fashion, folder


def write(place, n, *, colour=lambda i: (8 * i, 100, 200)):
    place.mkdir()
    for i in range(n):
        Image.new("RGB", (40, 30), colour(i)).save(place / f"{i:02d}.png")
    return place


def test_clothes_of_the_hub_are_those_of_a_file(tmp_path, monkeypatch):
    drawn = np.random.default_rng(0)
    arrays = {
        "train": drawn.integers(0, 256, (5, 28, 28), np.uint8),
        "test": drawn.integers(0, 256, (3, 28, 28), np.uint8),
    }
    labels = {"train": np.arange(5), "test": np.arange(3) + 6}
    kept = {f"{split}_images": arrays[split] for split in arrays} | {
        f"{split}_labels": labels[split] for split in arrays
    }
    np.savez(tmp_path / "fashion_mnist.npz", **kept)
    hub = {s: {"image": [Image.fromarray(a) for a in arrays[s]], "label": labels[s].tolist()} for s in arrays}
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda name: hub))
    monkeypatch.delenv("PAINTERS_DATA", raising=False)
    one, other = fashion(tmp_path), fashion()
    for name in ("train", "test", "train_labels", "test_labels"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert one.test[:, 0].tolist() == arrays["test"].tolist() and one.test_labels.tolist() == [6, 7, 8]


def test_every_tenth_picture_is_held_out_with_its_caption(tmp_path):
    place = write(tmp_path / "a", 21)
    for i in (0, 1, 10):
        (place / f"{i:02d}.txt").write_text(f"number {i}\n")
    found = folder(place, size=8)
    assert found.train.shape == (18, 3, 8, 8) and found.test[:, 0, 0, 0].tolist() == [0, 80, 160]
    assert found.test_captions == ["number 0", "number 10", ""]
    assert found.captions[0][:2] == ["number 1", ""] and len(found.captions[0]) == 18
    assert found.train_labels is None and found.source == "folder"


def test_grey_pictures_are_found_to_be_grey(tmp_path):
    place = write(tmp_path / "grey", 20, colour=lambda i: (8 * i,) * 3)
    assert folder(place, size=8).train.shape == (18, 1, 8, 8)
    assert folder(place, size=8, channels=3).train.shape == (18, 3, 8, 8)
    Image.new("RGB", (40, 30), (9, 8, 8)).save(place / "one.png")
    assert folder(place, size=8).train.shape[1] == 3


def test_a_folder_with_nothing_to_learn_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        folder(tmp_path / "nowhere", size=8)
    with pytest.raises(FileNotFoundError, match="at least 20"):
        folder(write(tmp_path / "few", 19), size=8)
    with pytest.raises(ValueError, match=r"all 20 pictures in .* are the same"):
        folder(write(tmp_path / "same", 20, colour=lambda i: (1, 2, 3)), size=8)
    place = write(tmp_path / "latin", 20)
    (place / "03.txt").write_bytes("ein grüner Baum".encode("latin-1"))
    with pytest.raises(ValueError, match=r"03\.txt is not text in UTF-8"):
        folder(place, size=8)


def test_the_digest_changes_with_all_that_training_sees():
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(6)
    whole = ImageData(images, images[:2], labels, labels[:2], captions=(list("abcdef"),))
    other = images.clone()
    other[3, 0, 2, 2] ^= 1
    for changed in (
        ImageData(other, images[:2], labels, labels[:2], captions=(list("abcdef"),)),
        ImageData(images, images[:2], labels.flip(0), labels[:2], captions=(list("abcdef"),)),
        ImageData(images, images[:2], labels, labels[:2], captions=(list("abcdeg"),)),
        ImageData(images[:5], images[:2], labels[:5], labels[:2], captions=(list("abcde"),)),
    ):
        assert changed.digest() != whole.digest()
    assert ImageData(images.clone(), other, labels, captions=(list("abcdef"),)).digest() == whole.digest()
