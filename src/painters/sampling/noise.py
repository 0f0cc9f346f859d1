"""Starting noise that belongs to the image, not to the batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def noise(
    seeds: Iterable[int],
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return unit normal noise (B, *shape), one independent CPU generator per seed.

    The noise of a seed is bit-identical whatever the batch around it or the device it is moved to. Raises
    ``ValueError`` without seeds, or for one outside 0 ... 2^31 - 1.
    """
    generators = streams(seeds)
    if not generators:
        raise ValueError("noise needs at least one seed")
    return draw(generators, shape, dtype=dtype, device=device)


def streams(seeds: Iterable[int], *, fresh: bool = False) -> list[torch.Generator]:
    """Return one CPU generator per seed; with ``fresh`` a second stream, disjoint from all those without it.

    Raises ``ValueError`` for a seed outside 0 ... 2^31 - 1: a CPU generator reads 32 bits of it, and one tells the
    two kinds of stream apart.
    """
    seeds = [int(seed) for seed in seeds]
    if any(not 0 <= seed < _FRESH for seed in seeds):
        raise ValueError(f"a seed lies between 0 and {_FRESH - 1}, got {seeds}")
    return [torch.Generator().manual_seed(seed + (_FRESH if fresh else 0)) for seed in seeds]


_FRESH = 2**31


def draw(
    generators: Sequence[torch.Generator],
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the next unit normal draw of each generator, stacked to (B, *shape)."""
    return torch.stack([torch.randn(tuple(shape), generator=g) for g in generators]).to(device, dtype)
