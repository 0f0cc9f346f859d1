"""The Gaussian of data that come as pictures, or as what a model paints: what the theory of a model needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm.auto import tqdm

from painters.data.images import picture_files, square, to_unit
from painters.models.loading import load_moments
from painters.models.model import Model
from painters.models.packing import save_moments
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.theory.moments import MAX_DIMENSION, Moments
from painters.trajectory import Frames

MAX_NUMBERS = 2**30
"""At most so many numbers are held at once: 4.3 GB in float32."""


def pictures(source: str, *, size: int, channels: int = 3, n: int | None = None, batch: int = 250) -> Iterator[Tensor]:
    """Yield batches of pictures (b, C, size, size) in [-1, 1], centre-cropped, from a folder or a hub data set.

    ``source``: a folder of pictures, or the id of a data set on the hub, whose training part is streamed (needs
    ``pip install "painters[data]"``). ``n``: stop after so many. Raises ``FileNotFoundError`` in one sentence if there
    are none.
    """
    images = islice(_images(source), n)
    while part := [square(image, size=size, channels=channels) for image in islice(images, batch)]:
        yield to_unit(torch.from_numpy(np.stack(part)))


def _images(source: str) -> Iterator[Image.Image]:
    if Path(source).is_dir():
        for file in picture_files(source):
            try:
                with Image.open(file) as image:
                    yield image.copy()
            except OSError:
                continue
        return
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]

        rows = load_dataset(source, split="train", streaming=True)
    except ImportError as error:
        raise FileNotFoundError(
            f'there is no folder {source}; for a data set of the hub install "painters[data]"'
        ) from error
    except Exception as error:
        raise FileNotFoundError(
            f"there is no folder {source}, and no such data set could be read from the hub ({type(error).__name__})"
        ) from error
    for row in rows:
        found = next((value for value in row.values() if isinstance(value, Image.Image)), None)
        if found is None:
            raise FileNotFoundError(f"the data set {source} holds no pictures, only {', '.join(row)}")
        yield found


def encoded(model: Model, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the states (b, *shape) of a model for batches of pictures in [-1, 1]: latents, for a latent model."""
    for part in batches:
        yield model.encode(part / 2 + 0.5).cpu()


def painted(
    model: Model,
    n: int,
    *,
    prompt: str | None = None,
    guidance: float = 1.0,
    steps: int = 50,
    solver: str = "dpmpp2m",
    batch: int = 16,
) -> Iterator[Tensor]:
    """Yield the final states (b, *shape) of seeds 0 ... n - 1: a theory made of them is circular, and must say so."""
    denoise, levels = model.denoiser(prompt, guidance=guidance), model.levels(steps)
    for first in range(0, n, batch):
        seeds = range(first, min(first + batch, n))
        x = levels.start(noise(seeds, model.shape))
        yield solve(denoise, x, levels, solver=solver, seeds=seeds, save=Frames(every=None), progress=False).final.cpu()


def counted(batches: Iterable[Tensor], total: int | None = None) -> Iterator[Tensor]:
    """Yield the batches unchanged under a progress bar that counts samples, ``total`` of them if that is known."""
    with tqdm(total=total, unit="samples") as bar:
        for part in batches:
            yield part
            bar.update(len(part))


def gaussian_of(batches: Iterable[Tensor], *, rank: int = 512) -> tuple[Gaussian, int]:
    """Return the Gaussian of samples (b, ...) with ``rank`` PCs and an even remainder, and how many samples there were.

    Of fewer samples than dimensions the PCs are found from their n x n Gram matrix, G = W diag(n lam) W^T,
    U = X^T W (n lam)^(-1/2), and the rank is at most n/2, because the later PCs of few samples are mostly chance. Of
    more, the covariance is streamed, up to D = 12,288. Raises ``ValueError`` for no samples, or more than can be held.
    """
    parts: list[Tensor] = []
    n, moments = 0, None
    for part in batches:
        flat = part.flatten(1)
        n, dim = n + len(flat), flat.shape[1]
        if moments is not None:
            moments = moments + Moments.of(flat)
            continue
        parts.append(flat.float())
        if n > dim and dim <= MAX_DIMENSION:
            moments, parts = Moments.stream(parts), []
        elif n * dim > MAX_NUMBERS:
            raise ValueError(
                f"samples of D = {dim} are held in memory, at most {MAX_NUMBERS // dim} of them: give a smaller --n"
            )
    if moments is not None:
        return Gaussian.from_moments(moments, rank=rank), n
    if n < 4:
        raise ValueError(f"moments need at least 4 samples, got {n}")
    return _from_few(torch.cat(parts), rank), n


def _from_few(samples: Tensor, rank: int) -> Gaussian:
    """The Gaussian of n samples (n, D), n at most D."""
    n, dim = samples.shape
    mu = samples.double().mean(0)
    centred = samples - mu.float()
    gram = torch.zeros(n, n, dtype=torch.float64)
    for columns in centred.split(4096, dim=1):
        gram.addmm_(columns.double(), columns.double().T)
    values, vectors = torch.linalg.eigh(gram)
    r = min(rank, n // 2)
    lam, W = values.flip(0).clamp(min=0) / n, vectors.flip(1)[:, :r]
    U = torch.cat([columns.double().T @ W for columns in centred.split(4096, dim=1)])
    U = torch.linalg.qr(U / (n * lam[:r]).sqrt()).Q
    return Gaussian(mu, U, lam[:r], float(lam[r:].sum()) / (dim - r))


def save(gaussian: Gaussian, path: str | Path, *, facts: dict[str, Any]) -> None:
    """Write moments with ``facts`` on their origin: ``source``, ``n``, and ``circular`` for a model's own samples."""
    save_moments(gaussian, Path(path), facts={"painters": json.dumps(facts)})


def read(path: str | Path) -> tuple[Gaussian, dict[str, Any]]:
    """Return moments and the facts on their origin. Raises ``FileNotFoundError`` or ``ValueError`` in one sentence."""
    gaussian = load_moments(Path(path))
    if gaussian is None:
        raise FileNotFoundError(f"there is no moments file {path}: make one with painters moments")
    try:
        with safe_open(str(path), "pt") as file:
            facts = json.loads((file.metadata() or {}).get("painters", "{}"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): make it again with painters moments") from error
    return gaussian, {"source": Path(path).name} | facts
