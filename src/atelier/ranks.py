"""Several processes on one piece of work, as ``torchrun`` and ``accelerate launch`` start them.

They talk through files alone, in a folder that all of them see. Each takes its share of the same list, whatever of it
is done already, so that no two make the same thing and none waits for another. A process that was killed is made good
by the same command, with any number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from painters.files import locked


def place() -> tuple[int, int]:
    """Return this process's number and how many there are, RANK and WORLD_SIZE; (0, 1) without them."""
    rank, world = (os.environ.get(name, alone) for name, alone in (("RANK", "0"), ("WORLD_SIZE", "1")))
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise ValueError(f"RANK {rank!r} is none of WORLD_SIZE {world!r}: set both as torchrun does, or neither")
    return int(rank), int(world)


def share(items: Sequence[Any]) -> Sequence[Any]:
    """Return the part of a list that is this process's: an equal one of as many parts as there are processes."""
    rank, world = place()
    return items[len(items) * rank // world : len(items) * (rank + 1) // world]


def dealt(items: Sequence[Any]) -> Sequence[Any]:
    """Return the whole list, beginning with this process's share: each takes what nobody holds, see ``held``."""
    rank, world = place()
    first = len(items) * rank // world
    return [*items[first:], *items[:first]]


def held(path: Path) -> AbstractContextManager[None]:
    """Hold one piece of work against other processes, which wait until it is done; alone, do nothing."""
    return locked(path) if place()[1] > 1 else nullcontext()
