"""Starting noise that belongs to the image, not to the batch; and the streams for noise that must not meet it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from painters.denoiser import floating
from painters.levels import Level
from painters.trajectory import numbered

# One list of all streams, so that no two uses that must be independent ever share one: stream + seed is what seeds a
# generator, so a stream is disjoint from its neighbours as long as seeds stay below the distance between them.
NOISED_AGAIN = 2**20
"""Images noised again to see whether they keep their class."""
FRESH = 2**28
"""New noise for a part of a state that is painted anew, and random probes of a map."""
RANDOM = 2**29
"""Random directions of kicks, and the noise that strains a finished picture."""
OFF = 2**30
"""Directions outside the span of the data."""
STEPS = 2**31
"""What a stochastic solver draws at every step; the one stream that no seed reaches, as seeds end below it."""


def noise(
    seeds: Iterable[int],
    shape: Sequence[int],
    *,
    stream: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return unit normal noise (B, *shape), one independent CPU generator per seed.

    The noise of a seed is bit-identical whatever the batch around it or the device it is moved to. ``stream``: one of
    the constants of this module, for noise that must not meet that of the images. Raises ``ValueError`` without seeds,
    or for one that is no whole number in 0 ... 2^31 - 1.
    """
    generators = streams(seeds, stream=stream)
    if not generators:
        raise ValueError("noise needs at least one seed")
    return floating(draw(generators, shape, dtype=dtype, device=device), "noise")


def renoise(x0: Tensor, level: Level, seeds: Iterable[int], *, stream: int = FRESH) -> Tensor:
    """Return alpha x0 + sigma noise: clean states (B, ...) as they would have been seen at a noise level.

    One seed per state; the noise is not that of the images' own start but of another ``stream``.
    """
    alpha, sigma = level
    return alpha * x0 + sigma * noise(seeds, x0.shape[1:], stream=stream, dtype=x0.dtype, device=x0.device)


def batches(seeds: Iterable[int], size: int) -> Iterator[tuple[int, ...]]:
    """Yield seeds in tuples of ``size``, the last perhaps shorter. Raises ``ValueError`` for a size below 1."""
    if size < 1:
        raise ValueError(f"a batch holds at least 1 image, got {size}")
    every = numbered(seeds)
    yield from (every[i : i + size] for i in range(0, len(every), size))


def streams(seeds: Iterable[int], *, stream: int = 0) -> list[torch.Generator]:
    """Return one CPU generator per seed, seeded with seed + stream. Raises ``ValueError`` as :func:`noise` does."""
    numbers = numbered(seeds)
    # A CPU generator reads 32 bits of its seed, and the highest tells the solver's stream from all others.
    if any(not 0 <= seed < STEPS or seed + stream >= 2 * STEPS for seed in numbers):
        raise ValueError(f"a seed lies between 0 and {STEPS - 1}, got {list(numbers)}")
    return [torch.Generator().manual_seed(seed + stream) for seed in numbers]


def draw(
    generators: Sequence[torch.Generator],
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the next unit normal draw of each generator, stacked to (B, *shape)."""
    return torch.stack([torch.randn(tuple(shape), generator=g) for g in generators]).to(device, dtype)
