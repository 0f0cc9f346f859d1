"""The converged solution of the probability-flow ODE, which every sampler is compared with; made once and kept.

In units of x/alpha, with s = sigma/alpha, and whitened by the data's Gaussian, y = (s^2 + Sigma)^{-1/2} (x/alpha - mu),

    dy / d ln s = -(s^2 + Sigma)^{-1/2} (D(x) - G(x)),

with G the Gaussian's own denoiser: the Gaussian is solved exactly, and only what the network says beyond it is
integrated, by an Adams-Bashforth method on a fine grid. A network is not smooth between its training times, so that
a high order gains nothing there and about one step a training time is needed: order 2. Exact laws are smooth: order 4.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm.auto import tqdm

from atelier.faster.targets import Target
from atelier.ranks import dealt, held, place
from painters.files import replacing, save_tensors
from painters.levels import NOISE
from painters.sampling import batches
from painters.theory.gaussian import Gaussian

CHECKED = 4
"""The images of so many seeds are made a second time, on a grid twice as fine."""
CLEAN_TIMES, FINER = 20, 5
"""The first 20 training times are wide apart in log s: five steps to each."""


@dataclass(frozen=True, eq=False)
class References:
    """The reference images of one target, kept one by one in a folder named by all that makes them."""

    target: Target
    folder: Path
    grid: list[float]

    @classmethod
    def of(cls, target: Target, *, fine: int = 1, root: Path | None = None) -> References:
        """Return the references on a grid ``fine`` times as fine as is enough, kept below ``root``.

        By default that is ``$PAINTERS_CACHE``, or ``~/.cache/painters``.
        """
        grid = grid_of(target, fine)
        root = root or Path(os.environ.get("PAINTERS_CACHE") or Path.home() / ".cache" / "painters")
        made_of = json.dumps([target.identity, target.shape, [f"{s:.9g}" for s in grid]])
        name = f"{target.name.replace('/', '--')}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
        return cls(target, root / "references" / name, grid)

    def images(self, seeds: Sequence[int], *, batch: int = 64, progress: bool = True) -> Tensor:
        """Return the images (n, *shape) of seeds, float64; those that are not there yet are made, batch by batch."""
        missing = self._missing(seeds)
        if missing:
            parts, steps = list(batches(missing, min(batch, -(-len(missing) // place()[1])))), len(self.grid)
            with tqdm(total=steps * len(parts), disable=not progress, desc=f"reference of {self.target.name}") as bar:
                for part in dealt(parts):
                    with held(self._file(part[0])):
                        if left := self._missing(part):
                            made = integrate(self.target, left, self.grid, tick=bar.update)
                            for seed, image in zip(left, made):
                                save_tensors(self._file(seed), {"image": image})
        return torch.stack([load_file(self._file(seed))["image"] for seed in seeds])

    def difference(self, seeds: Sequence[int], *, progress: bool = True) -> float:
        """Return how far images on a grid twice as fine are from these, relative RMS; measured once and kept."""
        path = self.folder / "difference.json"
        if not path.is_file():
            some = list(seeds)[:CHECKED]
            finer = References.of(self.target, fine=2, root=self.folder.parents[1]).images(some, progress=progress)
            found = float((self.images(some, progress=progress) - finer).norm() / finer.norm())
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"seeds": some, "difference": found}) + "\n")
        return json.loads(path.read_text())["difference"]

    def _missing(self, seeds: Sequence[int]) -> list[int]:
        return [seed for seed in seeds if not self._file(seed).is_file()]

    def _file(self, seed: int) -> Path:
        return self.folder / f"{seed:06d}.safetensors"


def grid_of(target: Target, fine: int = 1) -> list[float]:
    """Return sigma/alpha from the noisiest level to the cleanest: every training time of a network, or 120 to an e."""
    log_s = target.table.log().numpy()
    if target.model is None or target.schedule.steps is None:
        log_s = np.linspace(log_s[0], log_s[-1], math.ceil(120 * (log_s[-1] - log_s[0])))
    last, first = len(log_s) - 1, min(CLEAN_TIMES, len(log_s) - 1)
    times = [np.linspace(last, first, (last - first) * fine + 1), np.linspace(first, 0, first * FINER * fine + 1)[1:]]
    return np.exp(np.interp(np.concatenate(times), np.arange(last + 1), log_s)).tolist()


def integrate(target: Target, seeds: Sequence[int], grid: Sequence[float], *, tick=lambda: None) -> Tensor:
    """Return D(x, s_min), float64 (B, *shape), at the end of the flow through ``grid`` from the noise of ``seeds``."""
    noise, order = target.noise(seeds), 4 if target.model is None else 2
    empty = torch.zeros(noise[0].numel(), dtype=torch.float64)
    gaussian = target.gaussian or Gaussian.of(empty, 0.0)
    centred = replace(gaussian, mu=empty)
    denoise, x0 = target.denoiser(seeds), noise
    mean = gaussian.mu.reshape(noise.shape[1:])
    x = noise * math.hypot(1, grid[0])
    y = centred.flow(x - mean, frm=(1.0, grid[0]), to=NOISE)
    slopes: list[Tensor] = []
    for i, s in enumerate(grid):
        x0 = denoise(x, 1.0, s)
        tick()
        if i + 1 < len(grid):
            slopes = [*slopes, -centred.flow(x0 - gaussian(x, 1.0, s), frm=(1.0, s), to=NOISE)][-order:]
            weights = adams(np.log(grid[i + 1 - len(slopes) : i + 2]))
            y = y + sum(w * slope for w, slope in zip(weights, slopes))
            x = centred.flow(y, frm=NOISE, to=(1.0, grid[i + 1])) + mean
    return x0


def adams(nodes: np.ndarray) -> list[float]:
    """Return the weights of the slopes at all ``nodes`` but the last in the integral from the last but one to it."""
    t = nodes - nodes[-2]
    powers = np.arange(1, len(t))
    scale = t[-1]  # in units of the step the Vandermonde matrix is well conditioned
    return (scale * np.linalg.solve(np.vander(t[:-1] / scale, increasing=True).T, 1 / powers)).tolist()
