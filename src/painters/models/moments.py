"""The Gaussian of samples, of data or of what a model paints, and its files: what the theory of a model needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from painters.files import save_tensors
from painters.levels import Spacing
from painters.models.model import Model
from painters.sampling import batches, noise, solve
from painters.theory.gaussian import Gaussian
from painters.theory.moments import MAX_DIMENSION, Moments
from painters.trajectory import Frames

MAX_NUMBERS = 2**30
"""At most so many numbers are held at once: 4.3 GB in float32."""
FIRST = 1_000_000
"""The first seed of a model's own samples: what is compared with their moments is painted from smaller ones."""
NO_VARIANCE = 1e-10
"""An eigenvalue below this share of the largest is the rounding of products of float32 numbers."""


def painted(
    model: Model,
    seeds: Sequence[int],
    *,
    prompt: str | None = None,
    guidance: float = 1.0,
    steps: int = 50,
    spacing: Spacing | None = None,
    solver: str = "dpmpp2m",
    batch: int = 16,
    keep: str | Path | None = None,
) -> Iterator[Tensor]:
    """Return batches of final states (b, *shape) of seeds: a theory made of them is circular, so say so.

    ``keep``: a folder to which each batch is written as soon as it is painted, and from which it is read again; whoever
    names it makes sure that what is there was made in the same way, see :func:`painters.files.claim`.
    """
    denoise, levels = model.denoiser(prompt, guidance=guidance), model.levels(steps, spacing=spacing)

    def make(part: Sequence[int]) -> tuple[Sequence[int], Tensor]:
        x = levels.start(noise(part, model.shape))
        run = solve(denoise, x, levels, solver=solver, seeds=part, save=Frames(every=None), progress=False)
        return part, run.final.cpu()

    return each(make, seeds, batch, keep)


def kept(folder: str | Path) -> dict[int, Any]:
    """Return the states in a folder that ``keep`` named, by seed or by number of the picture; ``None`` if it is unread.

    They stay on disk until they are used.
    """
    rows: dict[int, Any] = {}
    # A hidden file is being written by another process, or was when that was killed.
    for file in sorted(Path(folder).glob("[!.]*.safetensors")):
        found = load_file(file)
        rows |= zip_longest(found["seeds"].tolist(), found["states"])
    return rows


def each(make: Callable[..., Any], numbers: Sequence[int], batch: int, keep: str | Path | None) -> Iterator[Tensor]:
    """Yield the states that ``keep`` holds, in the order of ``numbers`` however they were dealt, then make the others.

    ``make`` turns numbers into numbers and their states (b, ...), those without a state last.
    """
    rows = {} if keep is None else kept(keep)
    for part in batches((i for i in numbers if rows.get(i) is not None), batch):
        yield torch.stack([rows[i] for i in part])
    for part in batches((i for i in numbers if i not in rows), batch):
        found, states = make(part)
        if keep is not None:
            save_tensors(Path(keep) / f"{part[0]:06d}.safetensors", {"seeds": torch.tensor(found), "states": states})
        yield states


def gaussian_of(samples: Iterable[Tensor], *, rank: int = 512) -> tuple[Gaussian, int]:
    """Return the Gaussian of samples (b, ...) with ``rank`` PCs and an even remainder, and how many samples there were.

    Of fewer samples than dimensions the PCs are found from their n x n Gram matrix, G = W diag(n lam) W^T,
    U = X^T W (n lam)^(-1/2), and the rank is at most n/2, because the later PCs of few samples are mostly chance. Of
    more, the covariance is streamed, up to D = 12,288. Raises ``ValueError`` for fewer than 4 samples or more than can
    be held, for samples that are all the same, and for numbers that are not finite.
    """
    if rank < 0:
        raise ValueError(f"the rank counts the PCs that are kept, 0 or more, got {rank}")
    parts: list[Tensor] = []
    n, moments = 0, None
    for part in samples:
        flat = part.flatten(1)
        if not bool(torch.isfinite(flat).all()):
            raise ValueError("the samples hold NaN or infinite values")
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
    if n < 4:
        raise ValueError(f"moments need at least 4 samples, got {n}")
    found = _from_few(torch.cat(parts), rank) if moments is None else Gaussian.from_moments(moments, rank=rank)
    if not bool((found.spectrum > 0).any()):
        raise ValueError(f"all {n} samples are the same: they have no variance, and there is nothing to describe")
    return found, n


def _from_few(samples: Tensor, rank: int) -> Gaussian:
    """The Gaussian of n samples (n, D), n at most D."""
    n, dim = samples.shape
    mu = samples.double().mean(0)
    centred = samples - mu.float()
    gram = torch.zeros(n, n, dtype=torch.float64)
    for columns in centred.split(4096, dim=1):
        gram.addmm_(columns.double(), columns.double().T)
    values, vectors = torch.linalg.eigh(gram)
    lam = values.flip(0).clamp(min=0) / n
    # Where pictures repeat, the later eigenvalues are rounding, and their vectors would be divided by it.
    r = min(rank, n // 2, int((lam > NO_VARIANCE * lam[0]).sum()))
    W = vectors.flip(1)[:, :r]
    U = torch.cat([columns.double().T @ W for columns in centred.split(4096, dim=1)])
    U = torch.linalg.qr(U / (n * lam[:r]).sqrt()).Q
    return Gaussian(mu, U, lam[:r], float(lam[r:].sum()) / (dim - r))


def save_moments(gaussian: Gaussian, path: str | Path, *, facts: Mapping[str, Any] | None = None) -> Path:
    """Write a Gaussian as safetensors: mu, lam and rest in float32, U in float16, which costs 3e-4 of each vector.

    ``facts`` on its origin go to the header: ``source``, ``n``, and ``circular`` for a model's own samples. Raises
    ``ValueError`` for numbers that are not finite.
    """
    numbers = {"mu": gaussian.mu, "lam": gaussian.lam, "rest": torch.tensor(gaussian.rest)}
    stored = {key: value.float() for key, value in numbers.items()} | {"U": gaussian.U.half()}
    return save_tensors(path, stored, about=None if facts is None else {"painters": dict(facts)})


def facts_in(path: str | Path) -> dict[str, Any]:
    """Return the facts in the header of a file of moments."""
    with safe_open(str(path), "pt") as file:
        return json.loads((file.metadata() or {}).get("painters", "{}"))


def load_moments(path: str | Path) -> tuple[Gaussian, dict[str, Any]]:
    """Return a Gaussian and the facts on its origin, its eigenvectors made orthonormal again to float64.

    Raises ``FileNotFoundError`` or ``ValueError`` in one sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no moments file {path}: make one with painters moments")
    try:
        facts = facts_in(path)
        t = {key: value.double() for key, value in load_file(path).items()}
        U, R = torch.linalg.qr(t["U"])
        gaussian = Gaussian(t["mu"], U * R.diagonal().sign(), t["lam"], float(t["rest"]))
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged or holds no moments ({error}): make it again") from error
    return gaussian, {"source": path.name} | facts
