"""What samplers are tried on: a network or an exact law, its range of noise, its noise, and the moments of its data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from atelier.data import scenes
from painters.denoiser import Denoiser
from painters.levels import Spacing
from painters.models import Model, load
from painters.sampling import noise
from painters.schedules import Schedule, flow, vp_linear
from painters.theory import Gaussian, Mixture

FAR, NEAR = 1e6, 1e-3
"""The range of sigma/alpha where a schedule begins in pure noise or ends clean: beyond FAR an image moves by 1e-6."""
TABLE = 1000
"""So many training times stand in for a continuous schedule: the schedulers of diffusers know tables only."""
PROMPTS = 64
SPACINGS: tuple[Spacing, ...] = ("trailing", "even", "karras")
"""The levels on which our samplers and azula's are tried."""


@dataclass(frozen=True, eq=False)
class Target:
    """A denoiser on which samplers are compared.

    ``denoiser(seeds)`` is that of a batch of seeds, which differs from batch to batch where each seed has its own
    prompt; ``calls`` are the network calls that one answer of it takes, 2 under guidance. ``gaussian`` has the moments
    of the data, where known. ``identity`` stands for all that decides what the denoiser says.
    """

    name: str
    schedule: Schedule
    shape: tuple[int, ...]
    denoiser: Callable[[Sequence[int]], Denoiser]
    identity: str
    gaussian: Gaussian | None = None
    calls: int = 1
    model: Model | None = None

    @cached_property
    def range(self) -> tuple[float, float]:
        """sigma/alpha at the noisiest and the cleanest level of training, between 1e6 and 0.001."""
        high, low = self.schedule.ends
        return min(high, FAR), max(low, NEAR)

    @cached_property
    def table(self) -> Tensor:
        """sigma/alpha at every training time, float64, clean first; a continuous schedule has 1000 of them."""
        steps, at = self.schedule.steps, self.schedule.at
        alpha, sigma = self.schedule.table() if steps else at(torch.linspace(0, 1, TABLE, dtype=torch.float64))
        high, low = self.range
        return (sigma / alpha).clamp(low, high)

    def allows(self, spacing: Spacing) -> bool:
        """Whether there are levels with this spacing: pure noise and no noise have no place on Karras' levels."""
        return spacing != "karras" or self.schedule.ends == self.range

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Return the unit noise (B, *shape) that every sampler starts from, in float64."""
        return noise(seeds, self.shape, dtype=torch.float64)


def of_model(name: str, model: Model, *, guidance: float | None = None) -> Target:
    """Return a network as a target; with a ``guidance``, each seed has a prompt, one of 64 captions of test scenes."""
    gaussian = None if model.moments is None else model.moments.to("cpu", torch.float64)
    captions = [] if guidance is None else scenes.caption(scenes.sample(PROMPTS, scenes.TEST_SEEDS.start))

    def denoiser(seeds: Sequence[int]) -> Denoiser:
        if guidance is None:
            return model.denoiser()
        return model.denoiser([captions[seed % PROMPTS] for seed in seeds], guidance=guidance)

    identity = f"{model.weights} {model.prediction} {model.dtype} {guidance} {captions}"
    calls = 1 if guidance in (None, 1.0) else 2
    return Target(name, model.schedule, model.shape, denoiser, identity, gaussian, calls, model)


def of_law(name: str, law: Gaussian | Mixture, schedule: Schedule, gaussian: Gaussian | None = None) -> Target:
    """Return an exact law, a Gaussian or a mixture, as a target; ``gaussian`` has its moments."""
    probe = law(noise(range(4), (law.dim,), dtype=torch.float64), 1.0, 1.0).flatten().tolist()
    digest = hashlib.sha256(" ".join(f"{value:.9g}" for value in probe).encode()).hexdigest()
    return Target(name, schedule, (law.dim,), lambda _: law, f"{digest} {schedule.name}", gaussian)


def _network(name: str, *, device: str, of: str | None = None, guidance: float | None = None) -> Target:
    return of_model(name, load(of or name, device=device), guidance=guidance)


def _digits(name: str, *, schedule: Schedule, mixed: bool = True, device: str = "cpu") -> Target:
    """The law of scikit-learn's 8 x 8 digits: one Gaussian, or one for each class. It stays on the CPU."""
    from sklearn.datasets import load_digits

    images, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    whole = Gaussian.of((images / 8 - 1).mean(0), torch.cov(images.T / 8))
    return of_law(name, Mixture.of_classes(images / 8 - 1, labels, rank=40) if mixed else whole, schedule, whole)


TARGETS: dict[str, Callable[..., Target]] = {
    "scenes-sd-w1": partial(_network, of="scenes-sd", guidance=1.0),
    "scenes-sd-w3": partial(_network, of="scenes-sd", guidance=3.0),
    "gaussian": partial(_digits, schedule=vp_linear(), mixed=False),
    "mixture": partial(_digits, schedule=vp_linear()),
    "mixture-flow": partial(_digits, schedule=flow()),
}
"""Those that are more than a model: ``scenes-sd`` with one prompt per seed at guidance 1 and 3, and exact laws."""


def target(name: str, *, device: str = "auto") -> Target:
    """Return one of :data:`TARGETS`, or a model, without a prompt, by the name that ``load`` takes."""
    return TARGETS.get(name, _network)(name, device=device)
