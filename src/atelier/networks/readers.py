"""Factor readers: small noise-conditioned networks that say what a state shows, at any noise level."""

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

from atelier.data.scenes.factors import Factor
from atelier.networks import load_network
from painters.denoiser import Scalar, column
from painters.levels import CLEAN
from painters.models.precision import choose_device

READER_OF = {"scenes": "scenes-reader", "fashion": "fashion-reader"}
"""Which bundled reader reads the pictures of a data set, and of the models trained on it."""
LOGSNR = 12.0
"""Log-SNRs beyond this, clean states among them, look alike to a reader."""
FREQUENCIES = 8
WIDTH = 64
"""Numbers that describe a level inside the network, components of its affine path, and most features it may have."""
COARSE = 8
"""The affine path sees about so many blocks of pixels a side."""
BATCH = 512

Read = dict[str, Tensor]
"""Name of a factor -> probabilities (n, K) of its kinds, or values (n,) of a continuous factor."""


class ReaderNetwork(torch.nn.Module):
    """A convolutional network (x, log-SNR) -> one score for each kind, or one value, of each factor.

    Two things help it at the ends. Beside the state it sees how rough the state is around each pixel, see
    :func:`roughness`: a texture shows in squares of small differences, which convolutions learn slowly beside large
    shapes. And an affine path reads the averaged-down state through components with one gain for each level, the form
    of the best affine estimate, which is all there is to know in strong noise.

    ``shape``: (C, H, W) of a state. ``columns``: outputs of each factor, the number of its kinds or 1. ``patch``: side
    of the pixel blocks that are stacked into channels first (1: none). ``channels``: width of each stage; between
    stages the picture halves. Before the last layer stand ``features`` numbers.
    """

    def __init__(
        self,
        shape: Sequence[int],
        columns: Sequence[int],
        *,
        patch: int = 2,
        channels: Sequence[int] = (32, 64, 64),
        features: int = WIDTH,
    ) -> None:
        super().__init__()
        c, h, w = shape
        if h % patch or w % patch or features > WIDTH:
            raise ValueError(f"a reader needs sides divisible by {patch} and at most {WIDTH} features")
        self.columns, self.patch = tuple(columns), patch
        self.level = torch.nn.Linear(2 * FREQUENCIES + 1, WIDTH)
        self.stem = torch.nn.Conv2d((c + 2) * patch**2, channels[0], 3, padding=1)
        self.blocks = torch.nn.ModuleList([_Block(width) for width in channels])
        self.halvings = torch.nn.ModuleList(
            [torch.nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels)]
        )
        h, w = (math.ceil(side / patch / 2 ** (len(channels) - 1)) for side in (h, w))
        self.last = torch.nn.GroupNorm(8, channels[-1])
        self.to_features = torch.nn.Linear(channels[-1] * h * w, features)
        self.heads = torch.nn.Linear(features, sum(columns))
        self.coarse = max(1, max(shape[1:]) // COARSE)
        h, w = (side // self.coarse for side in shape[1:])
        self.components = torch.nn.Linear(c * h * w, WIDTH)
        self.gains = torch.nn.Linear(WIDTH, WIDTH)
        self.affine = torch.nn.Linear(WIDTH, sum(columns))

    def features(self, x: Tensor, logsnr: Tensor) -> Tensor:
        """Return the features (B, features) of states scaled to about unit variance; ``logsnr`` (B,)."""
        return self._features(x, self._level(logsnr))

    def forward(self, x: Tensor, logsnr: Tensor) -> Tensor:
        """Return the outputs (B, sum of columns)."""
        level = self._level(logsnr)
        components = self.components(F.avg_pool2d(x, self.coarse).flatten(1))
        return self.heads(self._features(x, level)) + self.affine(self.gains(level) * components)

    def _level(self, logsnr: Tensor) -> Tensor:
        place = logsnr[:, None] / LOGSNR
        angles = place * (math.pi / 2 * torch.arange(1, FREQUENCIES + 1, device=logsnr.device))
        return F.silu(self.level(torch.cat([place, angles.sin(), angles.cos()], dim=1)))

    def _features(self, x: Tensor, level: Tensor) -> Tensor:
        x = self.stem(F.pixel_unshuffle(torch.cat([x, roughness(x)], dim=1), self.patch))
        for i, block in enumerate(self.blocks):
            x = block(x if i == 0 else self.halvings[i - 1](x), level)
        return F.silu(self.to_features(F.silu(self.last(x)).flatten(1)))


def roughness(x: Tensor) -> Tensor:
    """Return ln of the mean squared difference of neighbours, along rows and along columns, (B, 2, H, W).

    The mean is over channels and 5 x 5 pixels; the logarithms are divided by 4 to have about unit variance.
    """
    maps = []
    for step in ((0, 1), (1, 0)):
        difference = x[..., step[0] :, step[1] :] - x[..., : x.shape[-2] - step[0], : x.shape[-1] - step[1]]
        squares = F.pad(difference.square().mean(1, keepdim=True), (0, step[1], 0, step[0]), mode="replicate")
        maps.append((F.avg_pool2d(squares, 5, 1, 2, count_include_pad=False) + 1e-5).log() / 4 + 1)
    return torch.cat(maps, dim=1)


class _Block(torch.nn.Module):
    """Two convolutions around a residual, told the level between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList([torch.nn.GroupNorm(8, width) for _ in range(2)])
        self.convolutions = torch.nn.ModuleList([torch.nn.Conv2d(width, width, 3, padding=1) for _ in range(2)])
        self.level = torch.nn.Linear(WIDTH, width)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        y = self.convolutions[0](F.silu(self.norms[0](x))) + self.level(level)[:, :, None, None]
        return x + self.convolutions[1](F.silu(self.norms[1](y)))


@dataclass(frozen=True, eq=False)
class Reader:
    """A trained factor reader r(x, alpha, sigma): what a noisy state says about each factor.

    ``factors`` are those it reads, ``shape`` (C, H, W) that of a state: pixels in [-1, 1], or scaled latents. It was
    trained to report E[f | x], so that what it does not know lies near the factor's mean, not near a wrong value.
    ``card`` says how it was trained and how well it reads, level by level.
    """

    network: ReaderNetwork = field(repr=False)
    factors: tuple[Factor, ...]
    shape: tuple[int, ...]
    device: torch.device
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def width(self) -> int:
        """How many features the reader has."""
        return self.network.heads.in_features

    def look(self, pictures: Tensor) -> Tensor:
        """Return pictures (n, C, H, W) as the reader sees them: averaged down to its size.

        Raises ``ValueError`` if its size does not divide theirs.
        """
        (c, h, w), (channels, height, width) = self.shape, pictures.shape[1:]
        if c != channels or height % h or width % w or height // h != width // w:
            raise ValueError(f"a reader of {self.shape} cannot see pictures of {tuple(pictures.shape[1:])}")
        return F.avg_pool2d(pictures, height // h)

    def read(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Read:
        """Return the probabilities (B, K) of each categorical factor and the values (B,) of each continuous one.

        ``x`` (B, C, H, W) = alpha x_0 + sigma eps, in any coordinates; clean states have (1, 0). Raises ``ValueError``
        for another shape or a level that is not one.
        """
        return split(self._run(x, alpha, sigma, features=False), self.factors)

    def values(self, x: Tensor, alpha: Scalar = CLEAN[0], sigma: Scalar = CLEAN[1]) -> Read:
        """Return the most probable kind (B,) of each categorical factor and the value (B,) of each continuous one."""
        found = self.read(x, alpha, sigma)
        return {f.name: found[f.name].argmax(1) if f.kinds else found[f.name] for f in self.factors}

    def features(self, x: Tensor) -> Tensor:
        """Return the numbers (B, d), d <= 64, that clean states (B, C, H, W) are read from."""
        return self._run(x, *CLEAN, features=True)

    @torch.no_grad()
    def _run(self, x: Tensor, alpha: Scalar, sigma: Scalar, *, features: bool) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"this reader reads states of shape {self.shape}, got {tuple(x.shape[1:])}")
        a, s = column(alpha, x), column(sigma, x)
        if bool((torch.hypot(a, s) == 0).any()):
            raise ValueError("alpha and sigma cannot both be zero: that is no noise level")
        scale, logsnr = (v.expand(len(x), 1, 1, 1) for v in normal(a, s))
        run = self.network.features if features else self.network
        parts = []
        for part, c, level in zip(x.split(BATCH), scale.split(BATCH), logsnr.split(BATCH)):
            state = part.to(self.device, torch.float32) * c.to(self.device, torch.float32)
            state = state.contiguous(memory_format=torch.channels_last)
            parts.append(run(state, level.flatten().to(self.device, torch.float32)).cpu())
        return torch.cat(parts)


def normal(alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1/(alpha^2 + sigma^2)^(1/2) and ln(alpha^2/sigma^2), the latter clipped to what a reader tells apart."""
    tiny = torch.finfo(torch.float64).tiny
    logsnr = 2 * (alpha.double().clamp(min=tiny).log() - sigma.double().clamp(min=tiny).log())
    return 1 / torch.hypot(alpha, sigma), logsnr.clamp(-LOGSNR, LOGSNR)


def columns(factors: Sequence[Factor]) -> list[int]:
    """Return how many outputs each factor has: one for each kind, or one."""
    return [max(len(f.kinds), 1) for f in factors]


def split(outputs: Tensor, factors: Sequence[Factor]) -> Read:
    """Return a network's outputs (B, m) as probabilities and values, factor by factor.

    A continuous factor is uniform in [0, 1], and its output counts standard deviations from the mean.
    """
    found = {}
    for f, part in zip(factors, outputs.split(columns(factors), dim=1)):
        found[f.name] = part.softmax(1) if f.kinds else 0.5 + part[:, 0] / math.sqrt(12)
    return found


def indicators(values: Read, factors: Sequence[Factor]) -> Tensor:
    """Return factors as numbers (n, m): an indicator for each kind of a categorical one, the value of a continuous one.

    ``values`` holds kinds (n,) or probabilities (n, K), which stand for themselves, and values (n,). float64.
    """
    parts = []
    for f in factors:
        value = torch.as_tensor(values[f.name])
        if f.kinds and value.ndim == 1:
            value = F.one_hot(value.long(), len(f.kinds))
        parts.append(value.double().reshape(len(value), max(len(f.kinds), 1)))
    return torch.cat(parts, dim=1)


def load_reader(name: str | Path, *, device: str = "auto") -> Reader:
    """Load a factor reader by bundled name (``"scenes-reader"``, ``"fashion-reader"``) or folder.

    Raises ``FileNotFoundError`` or ``ValueError`` with one sentence saying what is wrong and what to do.
    """
    network, card = load_network(
        "reader", name, lambda card: ReaderNetwork(card["shape"], columns(_factors(card)), **card["network"])
    )
    where = choose_device(device)
    network.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Reader(network, _factors(card), tuple(card["shape"]), where, card)


def _factors(card: dict[str, Any]) -> tuple[Factor, ...]:
    return tuple(Factor(f["name"], f["band"], tuple(f["kinds"])) for f in card["factors"])


def describe(factors: Sequence[Factor]) -> list[dict[str, Any]]:
    """Return factors as a card states them."""
    return [{"name": f.name, "band": f.band, "kinds": list(f.kinds)} for f in factors]
