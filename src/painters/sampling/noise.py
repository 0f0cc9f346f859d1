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
    ``ValueError`` without seeds.
    """
    generators = streams(seeds)
    if not generators:
        raise ValueError("noise needs at least one seed")
    return draw(generators, shape, dtype=dtype, device=device)


def streams(seeds: Iterable[int]) -> list[torch.Generator]:
    """Return one CPU generator per seed."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def draw(
    generators: Sequence[torch.Generator],
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the next unit normal draw of each generator, stacked to (B, *shape)."""
    return torch.stack([torch.randn(tuple(shape), generator=g) for g in generators]).to(device, dtype)
