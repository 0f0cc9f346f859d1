"""How much a chapter computes: ``ci`` in tests, ``book`` on the site, ``full`` on a GPU."""

import os
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One profile. ``steps`` is a sampler's step count, ``seeds`` the number of images."""

    name: str
    steps: int
    seeds: int

    def pick(self, *, ci: T, book: T, full: T) -> T:
        """Return the value for this profile: ``run.pick(ci=200, book=20_000, full=200_000)``."""
        return {"ci": ci, "book": book, "full": full}[self.name]


PROFILES = {
    "ci": Run("ci", steps=10, seeds=2),
    "book": Run("book", steps=50, seeds=8),
    "full": Run("full", steps=100, seeds=64),
}


def read_profile(name: str | None) -> Run:
    """Return the profile called ``name``; None or an empty string means ``book``.

    Raises:
        ValueError: if there is no such profile.
    """
    if not name:
        return PROFILES["book"]
    if name not in PROFILES:
        raise ValueError(f"PAINTERS_PROFILE is {name!r}; it must be one of {', '.join(PROFILES)}.")
    return PROFILES[name]


run = read_profile(os.environ.get("PAINTERS_PROFILE"))
