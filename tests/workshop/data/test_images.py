"""Pictures to train on: a reader's folder is taken whole, held out in part, and known by its digest."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.data import scenes
from atelier.data.images import ImageData, fashion, folder, streamed
from atelier.data.known import clean, known_pictures


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


def test_scenes_that_differ_by_a_grey_level_here_and_there_are_the_same_data():
    """Averages of 4 x 4 blocks over the pictures, to a tenth of a level: one value in 6 * 64 moves one by 1/24."""
    images = torch.full((6, 1, 16, 16), 100, dtype=torch.uint8)
    near, far = images.clone(), images.clone()
    near[0, 0, 3, 3] += 1
    far[:, :, :4, :4] += 1
    drawn, rounded, other = (ImageData(x, images, source="scenes").digest() for x in (images, near, far))
    assert drawn == rounded != other and len(drawn) == 32
    turned = images.clone()
    turned[:, :, :4, 4:8], images[:, :, 4:8, :4] = 120, 120
    assert len({ImageData(x, images, source="scenes").digest() for x in (images, turned)}) == 2


def test_pictures_of_the_hub_come_in_batches(monkeypatch):
    rows = [{"label": i, "image": Image.new("RGB", (6, 4), (i, 0, 255))} for i in range(7)]
    asked = []

    def load_dataset(name, **options):
        asked.append((name, options))
        return iter(rows)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    parts = list(streamed("some/one", size=4, n=5, batch=2))
    assert asked == [("some/one", {"split": "train", "streaming": True})]
    assert [tuple(part.shape) for part in parts] == [(2, 3, 4, 4), (2, 3, 4, 4), (1, 3, 4, 4)]
    first = torch.cat(parts)[:, :, 0, 0]
    torch.testing.assert_close(first, torch.tensor([[i / 127.5 - 1, -1, 1] for i in range(5)]).float())
    assert sum(len(part) for part in streamed("some/one", size=4)) == 7
    rows.insert(0, {"text": "no picture"})
    with pytest.raises(FileNotFoundError, match="some/one holds no pictures, only text"):
        next(streamed("some/one", size=4))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FileNotFoundError, match='install "painters\\[data\\]"'):
        next(streamed("some/one", size=4))


def test_clothes_and_scenes_have_known_factors(tmp_path, monkeypatch):
    drawn = np.random.default_rng(0).integers(0, 256, (8, 28, 28), np.uint8)
    arrays = {
        "train_images": drawn[:5],
        "train_labels": np.arange(5),
        "test_images": drawn[5:],
        "test_labels": np.ones(3),
    }
    np.savez(tmp_path / "fashion_mnist.npz", **arrays)
    clothes = known_pictures("fashion", 28, tmp_path)
    assert (
        clothes.shape == (1, 28, 28) and [f.name for f in clothes.factors] == ["class"] and clothes.source == "fashion"
    )
    assert clothes.train_factors["class"].tolist() == [0, 1, 2, 3, 4] and clothes.test_factors["class"].tolist() == [
        1,
        1,
        1,
    ]
    assert torch.equal(clean(clothes.train), clothes.train / 127.5 - 1)
    latents = torch.linspace(0, 1, 6).double()
    assert torch.equal(clean(latents), latents.float())
    monkeypatch.setattr(scenes, "TRAIN_SEEDS", range(5, 12))
    monkeypatch.setattr(scenes, "TEST_SEEDS", range(50, 53))
    painted = known_pictures("scenes", 32)
    assert painted.shape == (3, 32, 32) and len(painted.train) == 7 and len(painted.test) == 3
    for factors, seeds in ((painted.train_factors, (7, 5)), (painted.test_factors, (3, 50))):
        for name, value in scenes.sample(*seeds).values.items():
            kinds = bool(scenes.factors.factor(name).kinds)
            assert factors[name].dtype == (torch.int64 if kinds else torch.float32)
            np.testing.assert_allclose(factors[name], value, rtol=1e-6)
    with pytest.raises(ValueError, match="scenes are drawn by the package"):
        known_pictures("scenes", 32, tmp_path)
    other = replace(clothes, train_factors={"class": clothes.train_factors["class"] + 1})
    bright = replace(clothes, train=clothes.train + 1)
    assert len({one.digest() for one in (clothes, other, bright, painted)}) == 4 and len(clothes.digest()) == 32
    assert replace(clothes, test=clothes.train).digest() == clothes.digest()
