"""A small generative adversarial network: a generator that is told its latent, the style, in each of its blocks.

    z ~ N(0, I);        h_1 = block_1(constant; z),  h_{l+1} = block_{l+1}(up(h_l); z);
    picture = sum_l up(to_rgb_l(h_l))

Each block doubles the side and is told the style through a gain and a shift of every channel; every block paints a
share of the picture at its own size. Source: Goodfellow et al. (2014); layers after Karras et al. (2018), styles and
shares after Karras et al. (2019, 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from atelier.networks import load_network
from painters.models.precision import choose_device

SLOPE = 0.2
TINY = 1e-8
"""Keeps square roots from zero, where their gradient is infinite."""


class _Even(torch.nn.Linear):
    """A linear layer y = W x / sqrt(inputs) + b, whose weights W have unit size and are scaled down as they are used.

    Adam moves every weight by about the learning rate, all of one direction at once. Next to weights of the usual
    size 1/sqrt(inputs) that is much, and the layer soon hears one direction of its inputs only.
    Source: Karras et al. (2018).
    """

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.weight)
        torch.nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / math.sqrt(self.in_features), self.bias)


class _Styled(torch.nn.Module):
    """A 3 x 3 convolution whose channels are brought to unit size at each pixel, then given a gain and a shift by w."""

    def __init__(self, inputs: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(inputs, outputs, 3, padding=1)
        self.style = _Even(latent, 2 * outputs)

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        gain, shift = self.style(w)[:, :, None, None].chunk(2, dim=1)
        return F.leaky_relu(_unit(self.convolution(h)) * (1 + gain) + shift, SLOPE)


class GeneratorNetwork(torch.nn.Module):
    """Maps ``latent`` numbers to pictures, one block of each width in ``channels``, from ``side`` pixels up."""

    def __init__(
        self, *, latent: int = 64, channels: Sequence[int] = (96, 64, 48, 32), colours: int = 3, side: int = 4
    ) -> None:
        super().__init__()
        self.latent, self.channels = latent, tuple(channels)
        self.constant = torch.nn.Parameter(torch.randn(1, channels[0], side, side))
        widths = [channels[0], *channels]
        self.first = torch.nn.ModuleList([_Styled(a, b, latent) for a, b in pairwise(widths)])
        self.second = torch.nn.ModuleList([_Styled(width, width, latent) for width in channels])
        self.to_rgb = torch.nn.ModuleList([torch.nn.Conv2d(width, colours, 1) for width in channels])
        for layer in self.to_rgb:
            # the first pictures are then about as bright as real ones, and the critic has something to do
            torch.nn.init.normal_(layer.weight, std=0.3 / math.sqrt(layer.weight.shape[1]))  # type: ignore[arg-type, union-attr, index]

    def forward(self, z: Tensor) -> Tensor:
        """Return the pictures (B, colours, H, W), about in [-1, 1], of latents ``z`` (B, latent)."""
        h, picture = self.constant.expand(len(z), -1, -1, -1), None
        for i, (first, second, to_rgb) in enumerate(zip(self.first, self.second, self.to_rgb)):
            h = second(first(_doubled(h) if i else h, z), z)
            picture = to_rgb(h) if picture is None else _doubled(picture) + to_rgb(h)
        assert picture is not None
        return picture


class CriticNetwork(torch.nn.Module):
    """Scores pictures (B, C, H, W): one number each, higher for what it takes to be real."""

    def __init__(self, *, size: int = 32, colours: int = 3, channels: Sequence[int] = (32, 48, 64, 96)) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(colours, channels[0], 3, padding=1)
        self.blocks = torch.nn.ModuleList([torch.nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels)])
        side = size // 2 ** (len(channels) - 1)
        self.last = torch.nn.Conv2d(channels[-1] + 1, channels[-1], 3, padding=1)
        self.score = torch.nn.Linear(channels[-1] * side**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.stem(x), SLOPE)
        for block in self.blocks:
            h = F.avg_pool2d(F.leaky_relu(block(h), SLOPE), 2)
        # how much the pictures of a batch differ: without it a generator that always paints the same can win
        variety = (h.var(0, unbiased=False) + TINY).sqrt().mean().expand(len(h), 1, *h.shape[2:])
        h = F.leaky_relu(self.last(torch.cat([h, variety], dim=1)), SLOPE)
        return self.score(h.flatten(1))[:, 0]


@dataclass(frozen=True, eq=False)
class Generator:
    """A trained generator, loaded: ``generator(z)`` paints. ``latent``: numbers in z; ``shape``: (C, H, W)."""

    network: GeneratorNetwork = field(repr=False)
    shape: tuple[int, ...]
    device: torch.device
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def latent(self) -> int:
        """How many numbers a latent z has."""
        return self.network.latent

    def __call__(self, z: Tensor) -> Tensor:
        """Return pictures (B, C, H, W), about in [-1, 1], of latents ``z`` (B, latent); gradients flow.

        Raises ``ValueError`` for other shapes.
        """
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"give latents (B, {self.latent}), got {tuple(z.shape)}")
        return self.network(z.to(self.device, torch.float32))


def load_generator(name: str | Path, *, device: str = "auto") -> Generator:
    """Load a generator by bundled name (``"fashion-gan"``) or folder.

    Raises ``FileNotFoundError`` or ``ValueError`` with one sentence saying what is wrong and what to do.
    """
    network, card = load_network("generator", name, lambda card: GeneratorNetwork(**card["network"]))
    where = choose_device(device)
    return Generator(network.to(where), tuple(card["shape"]), where, card)


def _unit(h: Tensor) -> Tensor:
    return h * (h.square().mean(1, keepdim=True) + TINY).rsqrt()


def _doubled(h: Tensor) -> Tensor:
    return F.interpolate(h, scale_factor=2, mode="bilinear")
