"""``galaxies-*``: score networks of galaxies that nobody here trained, read from an installed ``galaxygrad``.

A network reads a state x = ln(1 + image)/0.1 of one grey channel and a time t of the process dx = -x/2 dt + dW, t in
[0, 10], so alpha = exp(-t/2); it returns the score. It is an MLP-mixer: a convolution makes patches of 4 x 4 pixels,
each of its blocks mixes patches and then channels, and a transposed convolution paints the patches again. The package
itself runs it with jax, which is not needed here.

Pictures are a fixed stretch of x to grey, logarithmic in brightness: black is -0.25, a little below the sky at 0,
and white is on the card. Levels are even in log-SNR unless others are asked for: in the network's own time, 50 steps
would make the last one out of sigma = 0.4. An endpoint estimate is made of a score times sigma^2/alpha, so near the
noisy end it is mostly the network's error. Source: Sampson et al. (2024).
"""

from __future__ import annotations

import hashlib
import io
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from painters.models.folders import Training
from painters.schedules import vp_sde

PACKAGE, VERSION = "galaxygrad", "0.2.0"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"
SCHEDULE = vp_sde(beta_0=1, beta_1=1, t_max=10, t_min=1e-3)
"""The published process; it was sampled down to t = 0, where a score says nothing: ours starts at sigma = 0.03."""
HIDDEN, WIDTH, BLOCKS, PATCH = 64, 512, 4, 4


class Block(nn.Module):
    """y + MLP over patches(norm y), then the same over channels; y is (B, channels, patches)."""

    def __init__(self, patches: int) -> None:
        super().__init__()
        self.patches, self.channels = (
            nn.Sequential(nn.Linear(n, WIDTH), nn.ReLU(), nn.Linear(WIDTH, n)) for n in (patches, HIDDEN)
        )
        self.norm1, self.norm2 = nn.LayerNorm([HIDDEN, patches]), nn.LayerNorm([patches, HIDDEN])

    def forward(self, y: Tensor) -> Tensor:
        y = (y + self.patches(self.norm1(y))).mT
        return (y + self.channels(self.norm2(y))).mT


class ScoreNet(nn.Module):
    """The network for pictures of ``size`` pixels a side; its parameters stand in the order of the published files."""

    def __init__(self, size: int) -> None:
        super().__init__()
        patches = (size // PATCH) ** 2
        self.conv_in = nn.Conv2d(2, HIDDEN, PATCH, PATCH)
        self.conv_out = nn.ConvTranspose2d(HIDDEN, 1, PATCH, PATCH)
        self.blocks = nn.Sequential(*(Block(patches) for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm([HIDDEN, patches])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the score (B, 1, size, size) of states x (B, 1, size, size) at times t (B,) in [0, 10]."""
        clock = (t / 10).to(x).reshape(-1, 1, 1, 1).expand_as(x)  # the time is a second channel
        y = self.conv_in(torch.cat([x, clock], 1))
        return self.conv_out(self.norm(self.blocks(y.flatten(2))).reshape(y.shape))


def installed() -> bool:
    """Return whether there is a ``galaxygrad``, of whatever version."""
    return any(True for _ in metadata.distributions(name=PACKAGE))


def parts(name: str, card: dict[str, Any]) -> dict[str, Any]:
    """Return the network of a card, its weights read from the installed package, and how it was trained.

    A file is one .npy array after the other; a transposed convolution keeps its kernel as a correlation, flipped
    against torch. Raises ``FileNotFoundError`` where the package is missing, ``ValueError`` for a file that is not the
    one on the card, each in one sentence.
    """
    if not installed():
        raise FileNotFoundError(f"the weights of {name} come with a package that is not installed: {INSTALL}")
    package = metadata.distribution(PACKAGE)
    path = Path(str(package.locate_file(f"{PACKAGE}/{card['file']}")))
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise ValueError(
            f"{path} of {PACKAGE} {package.version} does not hold the weights of {name}, which are those of version "
            f"{VERSION}: {INSTALL.replace('install', 'install --force-reinstall')}"
        )
    network, file = ScoreNet(card["shape"][-1]), io.BytesIO(content)
    weights = {key: torch.from_numpy(np.load(file)) for key in network.state_dict()}
    weights["conv_out.weight"] = weights["conv_out.weight"].transpose(0, 1).flip(2, 3)
    network.load_state_dict({key: weights[key].reshape(own.shape) for key, own in network.state_dict().items()})
    return {"unet": network.eval().requires_grad_(False), "training": Training(SCHEDULE, "score")}
