"""What a scene is made of: twenty independent factors in four bands, and the painter's hand."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Factor:
    """One cause of a picture: categorical with ``kinds``, equally likely, or continuous, uniform in [0, 1]."""

    name: str
    band: str
    kinds: tuple[str, ...] = ()


TABLES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("scenes.toml").read_text(encoding="utf-8"))
"""``factors``, ``colours``, and the words of captions and prompts."""
FACTORS: tuple[Factor, ...] = tuple(
    Factor(name, band, tuple(kinds)) for band, named in TABLES["factors"].items() for name, kinds in named.items()
)
THIRDS = {"low": 0, "high": 2}
"""The words for a continuous factor below 1/3 and above 2/3; between, it has none."""
NAMES = tuple(factor.name for factor in FACTORS)

TRAIN_SEEDS = range(50_000)
TEST_SEEDS = range(50_000, 60_000)
"""The seeds of the data set's scenes; anything measured on new scenes takes seeds from 60,000 on."""


@dataclass(frozen=True, eq=False)
class Factors:
    """The factors of n scenes: an array (n,) for each of ``NAMES``, and the seeds (n,) of the painter's hand.

    Categorical factors hold the index of their kind, continuous ones a number in [0, 1]. Indexing takes scenes.
    """

    values: dict[str, np.ndarray]
    seeds: np.ndarray

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: slice | np.ndarray | Sequence[int]) -> Factors:
        return Factors({name: value[index] for name, value in self.values.items()}, self.seeds[index])

    def replace(self, values: Mapping[str, str | float | np.ndarray]) -> Factors:
        """Return a copy with some factors set: to a kind's name or one number for all scenes, or to an array (n,).

        A continuous factor set to "low" or "high" is brought into its lowest or highest third, in proportion, so that
        scenes given a prompt are ``sample(n).replace(parse(prompt))``. Raises ``ValueError`` for an unknown factor or
        kind, a value out of range, or an array of another length.
        """
        return Factors(self.values | {name: _set(self, name, value) for name, value in values.items()}, self.seeds)


def factor(name: str) -> Factor:
    """Return the factor of this name; ``ValueError`` names them all if there is none."""
    if name not in NAMES:
        raise ValueError(f"scenes have no factor {name!r}: {', '.join(NAMES)}")
    return FACTORS[NAMES.index(name)]


def _set(factors: Factors, name: str, value: str | float | np.ndarray) -> np.ndarray:
    """Return one factor's new values (n,), or say what is wrong with them."""
    n, kinds = len(factors), factor(name).kinds
    if isinstance(value, str):
        if value not in (kinds or THIRDS):
            raise ValueError(f"{name} has no kind {value!r}: {', '.join(kinds or THIRDS)}")
        value = kinds.index(value) if kinds else (THIRDS[value] + factors.values[name]) / 3
    array = np.asarray(value, float)
    if array.shape not in ((), (n,)):
        raise ValueError(f"{name} of {n} scenes takes one value or an array ({n},), got shape {array.shape}")
    top = len(kinds) - 1 if kinds else 1
    if not np.all((array >= 0) & (array <= top) & (not kinds or array % 1 == 0)):
        raise ValueError(f"{name} takes {f'the indices 0 ... {top}' if kinds else 'numbers from 0 to 1'}, got {value}")
    return np.broadcast_to(array.astype(np.int64) if kinds else array, n)


def sample(n: int, seed: int = 0) -> Factors:
    """Return the factors of the ``n`` scenes with seeds ``seed`` ... ``seed + n - 1``, all factors independent."""
    seeds = np.arange(seed, seed + n)
    draws = np.array([np.random.default_rng(s).random(len(FACTORS)) for s in seeds.tolist()]).reshape(n, len(FACTORS))
    values = {f.name: (u * len(f.kinds)).astype(np.int64) if f.kinds else u for f, u in zip(FACTORS, draws.T)}
    return Factors(values, seeds)
