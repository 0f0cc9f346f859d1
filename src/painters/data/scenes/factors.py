"""What a scene is made of: twenty independent factors in four bands, and the painter's hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BANDS = ("areas", "masses", "objects", "details")


@dataclass(frozen=True)
class Factor:
    """One cause of a picture: categorical with ``kinds``, equally likely, or continuous, uniform in [0, 1]."""

    name: str
    band: str
    kinds: tuple[str, ...] = ()


FACTORS: tuple[Factor, ...] = (
    Factor("sky", "areas", ("blue", "golden", "pink", "indigo")),
    Factor("ground", "areas", ("meadow", "wheat", "snow", "heather")),
    Factor("horizon", "areas"),
    Factor("relief", "masses", ("hills", "mountains")),
    Factor("relief height", "masses"),
    Factor("orb", "masses", ("yellow sun", "red sun", "moon")),
    Factor("orb side", "masses", ("left", "right")),
    Factor("orb height", "masses"),
    Factor("clouds", "masses", ("clear", "cloudy")),
    Factor("tree", "objects", ("oak", "pine", "poplar")),
    Factor("tree side", "objects", ("left", "right")),
    Factor("tree height", "objects"),
    Factor("house side", "objects", ("left", "right")),
    Factor("house size", "objects"),
    Factor("walls", "objects", ("white", "ochre", "brick", "blue")),
    Factor("roof", "objects", ("red", "slate", "thatch")),
    Factor("door", "details", ("green", "red", "blue")),
    Factor("windows", "details", ("dark", "lit")),
    Factor("brush", "details"),
    Factor("grain", "details"),
)
NAMES = tuple(factor.name for factor in FACTORS)

TRAIN_SEEDS = range(50_000)
TEST_SEEDS = range(50_000, 60_000)


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

    def replace(self, values: Mapping[str, object]) -> Factors:
        """Return a copy with some factors set: an array (n,), one number, or a kind's name for all scenes.

        Raises ``ValueError`` for an unknown factor or kind, or a value out of range.
        """
        changed = dict(self.values)
        for name, value in values.items():
            kinds = factor(name).kinds
            if isinstance(value, str):
                if value not in kinds:
                    raise ValueError(f"{name} has no kind {value!r}: {', '.join(kinds) or 'a number from 0 to 1'}")
                value = kinds.index(value)
            array = np.broadcast_to(np.asarray(value, int if kinds else float), len(self))
            if len(array) and not (array.min() >= 0 and array.max() <= (len(kinds) - 1 if kinds else 1)):
                raise ValueError(f"{name} goes from 0 to {len(kinds) - 1 if kinds else 1}")
            changed[name] = array
        return Factors(changed, self.seeds)

    def table(self) -> np.ndarray:
        """Return the factors as a float64 array (n, 20), in the order of ``NAMES``."""
        return np.stack([self.values[name].astype(float) for name in NAMES], axis=1)


def factor(name: str) -> Factor:
    """Return the factor of this name; ``ValueError`` names them all if there is none."""
    if name not in NAMES:
        raise ValueError(f"scenes have no factor {name!r}: {', '.join(NAMES)}")
    return FACTORS[NAMES.index(name)]


def sample(n: int, seed: int = 0) -> Factors:
    """Return the factors of the ``n`` scenes with seeds ``seed`` ... ``seed + n - 1``, all factors independent."""
    seeds = np.arange(seed, seed + n)
    draws = np.stack([np.random.default_rng(s).random(len(FACTORS)) for s in seeds]) if n else np.empty((0, 20))
    values = {}
    for factor, u in zip(FACTORS, draws.T):
        values[factor.name] = (u * len(factor.kinds)).astype(np.int64) if factor.kinds else u
    return Factors(values, seeds)
