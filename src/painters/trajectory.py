"""What one run leaves behind, with the fenceposts in the type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import index
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from painters.files import save_tensors
from painters.levels import Levels
from painters.schedules import Coordinates, rescale


def numbered(seeds: Iterable[int]) -> tuple[int, ...]:
    """Return seeds as a tuple of integers. Raises ``ValueError`` for one seed alone, floats, bools and words."""
    try:
        found = tuple(seeds)
        # A bool counts as 0 or 1 in Python and in torch, and is here a mask that was meant for something else.
        if any(isinstance(seed, bool) or getattr(seed, "dtype", None) == torch.bool for seed in found):
            raise TypeError("a bool")
        return tuple(index(seed) for seed in found)
    except TypeError as error:
        raise ValueError(f"seeds are whole numbers, several as in [3] or range(8), got {seeds!r}") from error


@dataclass(frozen=True)
class Frames:
    """Which frames a run keeps: every ``every``-th step, and always both ends.

    ``every=None`` keeps the ends only. ``dtype`` and ``device`` say how and where frames are stored (default: as
    computed, on the CPU). ``fn``, (B, ...) -> (B, ...), is applied to x and to x0_hat before they are stored and may
    project them, so that a large run keeps a few numbers instead of images.
    """

    every: int | None = 1
    dtype: torch.dtype | None = None
    device: torch.device | str = "cpu"
    fn: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least 1, or None for the two ends, got {self.every}")

    def kept(self, steps: int) -> list[int]:
        """Return the indices of the levels kept in a run of ``steps`` steps, both ends included."""
        return sorted({*range(0, steps, self.every or max(steps, 1)), steps})

    def store(self, frame: Tensor) -> Tensor:
        """Return the frame as it will be kept."""
        frame = frame if self.fn is None else self.fn(frame)
        return frame.detach().to(device=self.device, dtype=self.dtype, copy=True)


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """The states and endpoint estimates of one run.

    ``levels``: the N + 1 levels kept. ``x`` (N + 1, B, ...): states, ``x[0]`` the start and ``x[-1]`` the image.
    ``x0`` (N, B, ...): endpoint estimates, ``x0[i]`` made from ``x[i]`` at level i. ``nfe``: network calls made per
    sample. ``seeds``: one per sample, if known. ``meta``: solver and options, JSON-serialisable; ``projected`` in it
    says that ``x`` and ``x0`` are not states but what :class:`Frames` made of them.
    """

    levels: Levels
    x: Tensor
    x0: Tensor
    nfe: int
    seeds: tuple[int, ...] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.levels)
        if len(self.x) != n or len(self.x0) != n - 1:
            raise ValueError(
                f"{n} levels need {n} states and {n - 1} endpoint estimates, got {len(self.x)} and {len(self.x0)}"
            )
        if self.x.ndim < 2 or self.x.shape[1:] != self.x0.shape[1:]:
            raise ValueError(
                f"states (N + 1, B, ...) and estimates (N, B, ...) are of one batch, got x {tuple(self.x.shape)} "
                f"and x0 {tuple(self.x0.shape)}"
            )
        if self.seeds is not None:
            object.__setattr__(self, "seeds", numbered(self.seeds))
            if len(self.seeds) != self.x.shape[1]:
                raise ValueError(f"{len(self.seeds)} seeds for a batch of {self.x.shape[1]}")

    @property
    def final(self) -> Tensor:
        """The last state, (B, ...): the image, if the run went to the clean end."""
        return self.x[-1]

    @property
    def eps(self) -> Tensor:
        """The noise that each endpoint estimate leaves over, (N, B, ...): eps_hat = (x - alpha x0_hat) / sigma.

        Zero at sigma = 0, where a run that inverts an image starts. Raises ``ValueError`` for projected frames.
        """
        self._whole("their noise")
        a, s = (self.per_frame(v[:-1]) for v in (self.levels.alpha, self.levels.sigma))
        return torch.where(s > 0, (self.x[:-1] - a * self.x0) / torch.where(s > 0, s, 1.0), 0.0)

    def to(self, coordinates: Coordinates) -> Trajectory:
        """Return the same run with states in ``"vp"``, ``"ve"`` or ``"flow"`` coordinates; x0_hat does not change.

        Raises ``ValueError`` for projected frames.
        """
        self._whole("other coordinates")
        c = rescale(self.levels.alpha, self.levels.sigma, coordinates)
        return replace(self, levels=self.levels.to(coordinates), x=self.x * self.per_frame(c))

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file with JSON metadata, whole or not at all, and return its path.

        Raises ``ValueError`` for numbers that are not finite.
        """
        header = {
            "origin": self.levels.origin,
            "nfe": self.nfe,
            "seeds": None if self.seeds is None else list(self.seeds),
            "meta": self.meta,
        }
        tensors = {"alpha": self.levels.alpha, "sigma": self.levels.sigma, "x": self.x, "x0": self.x0}
        return save_tensors(path, tensors, about={"painters.trajectory": header})

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Read a file written by :meth:`save`.

        Raises ``FileNotFoundError`` if there is none and ``ValueError`` if it is damaged or something else.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no trajectory at {path}")
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["painters.trajectory"])
                t = {key: file.get_tensor(key) for key in ("alpha", "sigma", "x", "x0")}
            seeds = header["seeds"]
            levels = Levels(t["alpha"], t["sigma"], header["origin"])
            return cls(levels, t["x"], t["x0"], header["nfe"], None if seeds is None else tuple(seeds), header["meta"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged or is not a trajectory ({error}); run the sampler again") from error

    @classmethod
    def join(cls, parts: Sequence[Trajectory]) -> Trajectory:
        """Return the runs of several batches through the same levels as one run.

        Raises ``ValueError`` for no runs, or if they visited different levels or were made in different ways.
        """
        if not parts:
            raise ValueError("there are no runs to join: give at least one Trajectory")
        first = parts[0]
        for part in parts[1:]:
            if not all(torch.equal(*(getattr(run.levels, v) for run in (part, first))) for v in ("alpha", "sigma")):
                raise ValueError("only runs through the same levels can be joined")
            mine, other = ({**run.meta, "nfe": run.nfe, "shape": run.x.shape[2:]} for run in (first, part))
            if apart := [key for key in {**mine, **other} if mine.get(key) != other.get(key)]:
                told = ", ".join(f"{key} {mine.get(key)} and {other.get(key)}" for key in apart)
                raise ValueError(f"only runs made in one way can be joined, and these differ: {told}")
        seeds = [part.seeds for part in parts]
        known = None if any(s is None for s in seeds) else tuple(seed for s in seeds for seed in (s or ()))
        x, x0 = torch.cat([p.x for p in parts], 1), torch.cat([p.x0 for p in parts], 1)
        return replace(first, x=x, x0=x0, seeds=known)

    def __repr__(self) -> str:
        high, low = self.levels.ratio[[0, -1]].tolist()
        seeds = ", ".join(map(str, self.seeds or ["unknown"]))
        return (
            f"Trajectory({self.meta.get('solver', 'given')}: x {tuple(self.x.shape)}, x0 {tuple(self.x0.shape)}, "
            f"sigma/alpha {high:.4g} -> {low:.4g}, nfe {self.nfe}, seeds {shorten(seeds, 40)})"
        )

    def _whole(self, wanted: str) -> None:
        if self.meta.get("projected"):
            raise ValueError(f"projected frames cannot tell {wanted}: leave out Frames(fn=) to keep states")

    def per_frame(self, values: Tensor) -> Tensor:
        """Shape one number a level, (n,), to multiply n frames (n, B, ...)."""
        return values.to(self.x).reshape(-1, *(1,) * (self.x.ndim - 1))
