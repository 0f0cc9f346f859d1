"""What an experiment is done on: a denoiser, the theory of its data, and the means to look at what it paints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from atelier.data import images as image_data
from atelier.data import scenes
from atelier.data.controls import Variant, undone, varied
from atelier.networks import shuffled
from atelier.networks.readers import READER_OF, Read, Reader, load_reader
from painters.denoiser import Denoiser
from painters.levels import Levels
from painters.models import Model, load
from painters.models.folders import training_of
from painters.models.precision import LARGE, choose_device, choose_dtype
from painters.models.record import moments_of, record
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames, Trajectory

T = TypeVar("T")
SAMPLES = 256
"""So many images of its own give the moments of a pipeline that comes without."""


@dataclass(frozen=True)
class Settings:
    """How much is measured: ``seeds``, solver ``steps``, and a ``profile`` that each experiment scales itself by.

    ``progress``: show bars.
    """

    seeds: tuple[int, ...] = tuple(range(200))
    steps: int = 50
    profile: str = "book"
    batch: int = 50
    progress: bool = True

    def pick(self, *, ci: T, book: T, full: T) -> T:
        """Return the value for this profile."""
        return {"ci": ci, "book": book, "full": full}[self.profile]


@dataclass(frozen=True, eq=False)
class Subject:
    """A denoiser under study beside the Gaussian of its data.

    ``denoise`` may be a network, or the theory itself: every experiment takes either. ``gaussian`` has the mean and
    covariance of the data's states, latents for a latent model. ``levels(n)`` are those of an n-step run, ``decode``
    turns clean states into pictures in [0, 1], and ``reader``, if there is one, reads pictures. ``kind`` is
    ``"network"``, ``"gaussian"``, ``"mean"`` or ``"shuffled"``. ``moments`` says where those of ``gaussian`` come from
    if they were not shipped with the model: ``source``, ``n``, and ``circular`` if they are those of the model's own
    samples. ``record`` runs the network in the place of ``denoise`` where only a pipeline can ask it.
    """

    name: str
    denoise: Denoiser = field(repr=False)
    gaussian: Gaussian = field(repr=False)
    shape: tuple[int, ...]
    levels: Callable[..., Levels] = field(repr=False)
    decode: Callable[[Tensor], Tensor] = field(repr=False)
    reader: Reader | None = field(default=None, repr=False)
    model: Model | None = field(default=None, repr=False)
    kind: str = "network"
    moments: dict[str, Any] = field(default_factory=dict, repr=False)
    record: Callable[..., tuple[Trajectory, Any]] | None = field(default=None, repr=False)

    @property
    def dim(self) -> int:
        """D, the number of dimensions of a state."""
        return self.gaussian.dim

    def theory(self) -> Subject:
        """Return the same subject with the exact Gaussian in the place of the network."""
        return replace(self, denoise=self.gaussian, kind="gaussian")

    def mean_only(self) -> Subject:
        """Return the same subject with a denoiser that knows nothing but the mean: a null."""
        g = self.gaussian
        return replace(self, denoise=Gaussian.of(g.mu, 0.0), kind="mean")

    def shuffled(self) -> Subject:
        """Return the same subject with the weights of its network shuffled: a null. ``ValueError`` without weights."""
        if self.model is None or not isinstance(self.model.network, torch.nn.Module):
            raise ValueError(f"{self.name} has no weights to shuffle")
        model = replace(self.model, network=shuffled(self.model.network))
        return replace(self, denoise=model.denoiser(), model=model, kind="shuffled")

    def run(
        self,
        seeds: Sequence[int],
        *,
        steps: int = 50,
        solver: str = "heun",
        save: Frames = Frames(),  # noqa: B008 (frozen)
    ) -> Trajectory:
        """Paint one image for each seed, from the model's own noise, and return the trajectory."""
        if self.record is not None and self.kind == "network":
            return self.record(seeds=seeds, steps=steps, solver=solver, save=save)[0]
        levels = self.levels(steps)
        x = levels.start(noise(seeds, self.shape))
        return solve(self.denoise, x, levels, solver=solver, save=save, seeds=seeds, progress=False)

    def batches(self, seeds: Sequence[int], size: int = 50) -> Iterator[Sequence[int]]:
        """Yield the seeds in batches: what is measured streams, so that no more frames live than one batch needs."""
        for first in range(0, len(seeds), size):
            yield seeds[first : first + size]

    @property
    def variant(self) -> Variant | None:
        """What was changed in the data of a control; ``None`` for data as they are."""
        return None if self.model is None else self.model.card.get("training", {}).get("variant")

    def look(self, x: Tensor) -> Tensor:
        """Return clean states (n, *shape) as the reader sees them: decoded, in [-1, 1], averaged down to its size.

        Of a control the change is undone, because the reader learned from data as they are.
        Raises ``ValueError`` if there is no reader, or its size does not divide the pictures'.
        """
        if self.reader is None:
            raise ValueError(f"{self.name} has no reader: nothing can be said about what its pictures show")
        return self.reader.look(undone(self.decode(x) * 2 - 1, self.variant))

    def read(self, x: Tensor) -> Read:
        """Return what clean states show: the kind (n,) of each categorical factor, the value (n,) of the others."""
        seen = self.look(x)
        assert self.reader is not None
        return self.reader.values(seen)

    def pictures(self, n: int, *, test: bool = True) -> Tensor | None:
        """Return ``n`` uint8 pictures of the model's own test (or training) data, ``None`` if they are not at hand.

        Scenes are drawn by the package. Fashion-MNIST is used if it is found, see
        :func:`atelier.data.images.fashion`.
        """
        facts = {} if self.model is None else self.model.card.get("training", {})
        if facts.get("data") == "scenes":
            seeds = scenes.TEST_SEEDS if test else scenes.TRAIN_SEEDS
            return scenes.render(scenes.sample(min(n, len(seeds)), seeds.start), self.image_size)
        if facts.get("data") != "fashion":
            return None
        try:
            found = varied(image_data.fashion(), self.variant)
        except FileNotFoundError:
            return None
        return (found.test if test else found.train)[:n]

    def data(self, n: int, *, test: bool = True) -> Tensor | None:
        """Return :meth:`pictures` as clean states, (n, *shape)."""
        part = self.pictures(n, test=test)
        if part is None or self.model is None:
            return None
        return torch.cat([self.model.encode(image_data.to_unit(p) / 2 + 0.5).cpu() for p in part.split(250)])

    @property
    def image_size(self) -> int:
        """The side of a picture in pixels."""
        return self.shape[-1] if self.model is None else self.model.image_shape[-1]


def subject(
    name: str,
    *,
    device: str = "auto",
    gaussian: Gaussian | None = None,
    prompt: str | None = None,
    moments: dict[str, Any] | None = None,
) -> Subject:
    """Load a model and everything an experiment on it needs.

    ``gaussian``: the moments of its data, if they are not shipped with it, and ``moments`` where they come from.
    ``prompt``: for a conditional model; its theory is then that of the data under the prompt, and must be given.
    Raises ``ValueError`` saying how to get moments if there are none.
    """
    model = load(name, device=device)
    if prompt is not None and gaussian is None:
        raise ValueError(
            "under a prompt the data have other moments: pass the Gaussian of the data the prompt describes"
        )
    gaussian = gaussian or model.moments
    if gaussian is None:
        raise ValueError(
            f"{name} comes without the moments of its data, which the theory needs: make them with painters moments "
            "and pass --moments FILE"
        )
    data = model.card.get("training", {}).get("data")
    reader = load_reader(READER_OF[data], device=device) if data in READER_OF else None
    if gaussian.dim != math.prod(model.shape):
        raise ValueError(
            f"the moments have {gaussian.dim} dimensions and a state of {name} has {math.prod(model.shape)}"
        )
    name = model.card.get("name", Path(name).name) if Path(name).is_dir() else name
    shipped = model.card.get("moments", {})
    if moments is None and gaussian is model.moments and shipped.get("circular"):
        moments = {key: shipped[key] for key in ("source", "n", "circular")}
    origin = (moments or {}) | ({} if prompt is None else {"prompt": prompt})
    return Subject(
        name, model.denoiser(prompt), gaussian, model.shape, model.levels, model.decode, reader, model, moments=origin
    )


def pipeline(
    source: str, prompt: str, *, device: str = "auto", gaussian: Gaussian | None = None, moments: Any = None
) -> Subject:
    """Load a pipeline of diffusers, a folder or a hub id, for the experiments that need only its trajectories.

    ``prompt``: a text, or the number of a class; guidance is the pipeline's own. Without a ``gaussian`` of the states
    that the prompt describes it is that of :data:`SAMPLES` images of its own, and marked as circular. A pipeline that
    packs its states starts from other noise than the theory beside it. Whatever asks the network itself raises
    ``ValueError``.
    """
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    where, what = choose_device(device), int(prompt) if prompt.isdecimal() else prompt
    try:
        pipe: Any = DiffusionPipeline.from_pretrained(source, dtype=choose_dtype("auto", where, LARGE)).to(where)
    except (OSError, ValueError) as error:
        why = type(error).__name__
        raise ValueError(f"{source} is no folder or hub id from which diffusers makes a pipeline ({why})") from error
    pipe.set_progress_bar_config(disable=True)
    if gaussian is None:
        gaussian = moments_of(pipe, [what], SAMPLES)[what]
        moments = {"source": "its own samples", "n": SAMPLES, "circular": True}
    paint = partial(record, pipe, what, options={"output_type": "latent"})
    levels = cache(lambda n: paint(seeds=[0], steps=n, save=Frames(fn=lambda x: x[:, :1]))[0].levels)

    def denoise(x: Tensor, alpha: Any, sigma: Any) -> Tensor:
        raise ValueError(f"the network of {source} is asked by its pipeline alone: measure --only geometry")

    network, known = pipe.components.get("unet") or pipe.transformer, training_of(pipe.scheduler)
    shape, name = paint(seeds=[0], steps=1)[0].x.shape[2:], Path(source).name if Path(source).is_dir() else source
    card, facts = {"name": name}, (moments or {}) | {"prompt": prompt}
    model = Model(network, known.schedule, known.prediction, shape, where, network.dtype, card=card)  # type: ignore[arg-type]
    return Subject(name, denoise, gaussian, shape, levels, lambda x: x, None, model, moments=facts, record=paint)


def levels_at(levels: Levels, ratios: Iterable[float]) -> list[int]:
    """Return which noisy ones of ``levels`` are nearest in ln(sigma/alpha) to ``ratios``, noisy first, each once."""
    return sorted({int((levels.ratio[:-1].log() - math.log(r)).abs().argmin()) for r in ratios})
