"""Real images: Fashion-MNIST, data sets of the hub, and folders of a reader's own pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.pictures import caption, listed, read_each, square, told

LEAST = 20
"""A folder of fewer pictures leaves at most one to test on."""

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageData:
    """Training and test images, uint8 (n, C, H, W), with integer labels (n,) if there are any.

    ``captions`` holds lists of n captions of the training images, each wording them differently; ``test_captions``
    one list. ``source`` is the data set's name, ``"fashion"`` or ``"scenes"``, or ``"folder"`` for a reader's pictures.
    """

    train: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    captions: tuple[list[str], ...] = ()
    test_captions: list[str] = field(default_factory=list)
    source: str = "folder"

    def digest(self) -> str:
        """Return a hash of everything that training sees: images, labels and captions of the training half.

        Drawn scenes differ from machine to machine in single values by one grey level, so their averages are hashed,
        rounded to a tenth of a level: a run may be continued on another machine.
        """
        pixels = self.train.contiguous()
        if self.source == "scenes":
            mean = pixels.sum(0, keepdim=True).double() / len(pixels)
            pixels = torch.nn.functional.adaptive_avg_pool2d(mean, 4).mul(10).round().int()
        found = hashlib.sha256(pixels.numpy().data)
        if self.train_labels is not None:
            found.update(self.train_labels.contiguous().numpy().data)
        found.update(repr([tuple(self.train.shape), self.captions]).encode())
        return found.hexdigest()[:32]


def to_unit(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1], the scale in which models and theory work: x / 127.5 - 1."""
    return images.float() / 127.5 - 1


def fashion(folder: str | Path | None = None) -> ImageData:
    """Return Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 grey pixels in ten classes.

    Looks for ``fashion_mnist.npz`` in ``folder``, then in the folder named by ``PAINTERS_DATA``; otherwise fetches
    ``zalando-datasets/fashion_mnist`` from the Hugging Face hub (needs ``pip install "painters[data]"``). Raises
    ``FileNotFoundError`` saying what to do if none of these works. Source: Xiao, Rasul and Vollgraf (2017), MIT.
    """
    for place in (folder, os.environ.get("PAINTERS_DATA")):
        if place is not None and (path := Path(place) / "fashion_mnist.npz").is_file():
            with np.load(path) as arrays:
                return _grey(*(arrays[k] for k in ("train_images", "train_labels", "test_images", "test_labels")))
    if folder is not None:
        raise FileNotFoundError(
            f"there is no fashion_mnist.npz in {folder}; on pictures of your own train the recipe pixels"
        )
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]

        hub = load_dataset("zalando-datasets/fashion_mnist")
    except Exception as error:
        raise FileNotFoundError(
            "Fashion-MNIST was not found: set PAINTERS_DATA to a folder with fashion_mnist.npz, or install "
            f'"painters[data]" and connect to the Hugging Face hub ({type(error).__name__})'
        ) from error
    arrays = []
    for split in ("train", "test"):
        arrays += [np.stack([np.asarray(image) for image in hub[split]["image"]]), np.asarray(hub[split]["label"])]
    return _grey(*arrays)


def folder(path: str | Path, *, size: int, channels: int | None = None) -> ImageData:
    """Return the pictures below ``path`` as :func:`atelier.pictures.read` reads them, every tenth held out.

    They are centre-cropped and resized to ``size`` pixels; ``channels`` is 1 or 3, by default 1 if all pictures are
    grey. A text file beside a picture, ``NAME.txt`` for ``NAME.png``, is its caption; without one its caption is empty.
    What is not read is said in one line. Raises ``FileNotFoundError`` if there is no such folder or fewer than 20
    readable pictures in it, and ``ValueError`` if all are the same or a caption is not in UTF-8.
    """
    files, skipped = listed(path)
    captions = {file: caption(file) for file in files}  # first, as one that cannot be read stops everything
    arrays = dict(read_each(files, skipped, size=size, channels=channels or 3))
    if len(arrays) < LEAST:
        raise FileNotFoundError(
            f"{path} holds {len(arrays)} readable pictures{told(skipped, '; ')}; training needs at least {LEAST}"
        )
    if skipped:
        print(told(skipped))
    images = torch.from_numpy(np.stack(list(arrays.values())))
    if bool((images == images[:1]).all()):
        raise ValueError(f"all {len(images)} pictures in {path} are the same: there is nothing to learn from them")
    if channels is None and bool((images == images[:, :1]).all()):
        images = images[:, :1].clone()
    held = torch.arange(len(images)) % 10 == 0
    said: tuple[list[str], list[str]] = ([], [])
    for place, file in zip(held.tolist(), arrays):
        said[place].append(captions[file])
    return ImageData(images[~held], images[held], captions=(said[0],), test_captions=said[1])


def streamed(source: str, *, size: int, channels: int = 3, n: int | None = None, batch: int = 250) -> Iterator[Tensor]:
    """Yield the training pictures of a data set of the hub in batches (b, C, size, size) in [-1, 1], at most ``n``.

    They are centre-cropped and resized (needs ``pip install "painters[data]"``). Raises ``FileNotFoundError`` in one
    sentence if there is no such data set.
    """
    images = islice(_hub(source), n)
    while part := [square(image, size=size, channels=channels) for image in islice(images, batch)]:
        yield to_unit(torch.from_numpy(np.stack(part)))


def _hub(source: str) -> Iterator[Image.Image]:
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]

        rows = load_dataset(source, split="train", streaming=True)
    except Exception as error:
        missing = 'for a data set of the hub install "painters[data]"' if isinstance(error, ImportError) else ""
        why = missing or f"and no such data set could be read from the hub ({type(error).__name__})"
        raise FileNotFoundError(f"there is no folder {source}, {why}") from error
    for row in rows:
        found = next((value for value in row.values() if isinstance(value, Image.Image)), None)
        if found is None:
            raise FileNotFoundError(f"the data set {source} holds no pictures, only {', '.join(row)}")
        yield found


def _grey(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> ImageData:
    images = [torch.from_numpy(a.astype(np.uint8))[:, None] for a in (train, test)]
    labels = [torch.from_numpy(a.astype(np.int64)) for a in (train_labels, test_labels)]
    return ImageData(images[0], images[1], labels[0], labels[1], source="fashion")
