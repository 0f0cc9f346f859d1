"""Clean states whose causes are known: what factor readers learn from, and what models are judged by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from atelier.data import images, scenes
from atelier.data.scenes.factors import Factor

FASHION_CLASS = Factor("class", "class", images.FASHION_CLASSES)


@dataclass(frozen=True, eq=False)
class KnownStates:
    """Clean states with known factors: training and test states (n, C, H, W), and their factors, kinds or values (n,).

    States are uint8 pixels, or floats in the units of the diffusion, such as scaled latents.
    """

    train: Tensor
    test: Tensor
    train_factors: dict[str, Tensor]
    test_factors: dict[str, Tensor]
    factors: tuple[Factor, ...]
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of one state."""
        return tuple(self.train.shape[1:])

    def digest(self) -> str:
        """Return a hash of the training states and their factors, rounded as machines may round them differently."""
        found = hashlib.sha256(repr([tuple(self.train.shape), self.factors]).encode())
        values = (self.train.float().mean((0, 2, 3)), *(v.double().mean() for v in self.train_factors.values()))
        found.update(repr([[round(float(x), 3) for x in value.reshape(-1)] for value in values]).encode())
        return found.hexdigest()[:32]


def clean(states: Tensor) -> Tensor:
    """Return states as float32 in the units of the diffusion: uint8 pixels in [-1, 1], others as they are."""
    return images.to_unit(states) if states.dtype == torch.uint8 else states.float()


def known_pictures(name: str, size: int, folder: str | Path | None = None) -> KnownStates:
    """Return the pictures of ``"scenes"`` at this size, or of ``"fashion"`` (from ``folder``), with their factors.

    Raises ``ValueError`` for a folder of scenes, and ``FileNotFoundError`` if the data set is not there.
    """
    if name == "scenes":
        if folder is not None:
            raise ValueError(f"scenes are drawn by the package, their factors known: leave --data {folder} out")
        data = scenes.dataset(size)
        train, test = (_scene_factors(seeds) for seeds in (scenes.TRAIN_SEEDS, scenes.TEST_SEEDS))
        return KnownStates(data.train, data.test, train, test, scenes.FACTORS, name)
    data = images.fashion(folder)
    assert data.train_labels is not None and data.test_labels is not None
    train, test = {"class": data.train_labels}, {"class": data.test_labels}
    return KnownStates(data.train, data.test, train, test, (FASHION_CLASS,), name)


def _scene_factors(seeds: range) -> dict[str, Tensor]:
    values = scenes.sample(len(seeds), seeds.start).values
    return {
        name: torch.from_numpy(value).to(torch.int64 if value.dtype.kind == "i" else torch.float32)
        for name, value in values.items()
    }
