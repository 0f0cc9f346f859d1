"""Noise levels: the sequence of pairs (alpha, sigma) that one run visits, noisy to clean, in float64.

At a level the state is x = alpha x_0 + sigma eps; which levels a model was trained on says its
:class:`painters.schedules.Schedule`.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor

from painters.schedules import Coordinates, Schedule, rescale

Spacing = Literal["trailing", "leading", "linspace", "karras", "logsnr", "even"]
Level = tuple[float, float]

CLEAN: Level = (1.0, 0.0)
NOISE: Level = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Levels:
    """The noise levels of one run: ``alpha`` and ``sigma``, float64 (N + 1,), noisy to clean.

    N is the number of steps, so there is one level more than there are steps. ``origin`` says where they come
    from. Source: the pairs are those of DDIM, EDM and flow matching alike.
    """

    alpha: Tensor
    sigma: Tensor
    origin: str = "given"

    def __post_init__(self) -> None:
        alpha = torch.as_tensor(self.alpha, dtype=torch.float64).cpu()
        sigma = torch.as_tensor(self.sigma, dtype=torch.float64).cpu()
        if alpha.ndim != 1 or alpha.shape != sigma.shape or len(alpha) < 1:
            raise ValueError(f"alpha and sigma must be 1-D and of one length, got {alpha.shape} and {sigma.shape}")
        if not bool(torch.isfinite(alpha).all() & torch.isfinite(sigma).all()):
            raise ValueError("alpha and sigma must be finite")
        if bool((alpha < 0).any() | (sigma < 0).any() | ((alpha == 0) & (sigma == 0)).any()):
            raise ValueError("alpha and sigma must not be negative, nor both zero at one level")
        noise = torch.atan2(sigma, alpha).diff()
        if not bool((noise < 0).all() | (noise > 0).all()):
            raise ValueError("levels must run strictly from noisy to clean (or from clean to noisy to invert)")
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "sigma", sigma)

    @classmethod
    def of(cls, schedule: Schedule, n: int, *, spacing: Spacing | None = None, offset: int = 0) -> Levels:
        """Return the levels of an ``n``-step run of ``schedule``, ending clean at (1, 0).

        Spacings, as a time t_i for step i = 0 ... n - 1: ``"trailing"`` 1 - i/n (the default, starts at the
        noisiest level); ``"linspace"`` both ends of the training range (the default for EDM, whose published grid
        it is); ``"leading"`` every (T // n)-th training index from ``offset`` on, which starts below the
        noisiest level. ``"karras"`` is linear in (sigma/alpha)^(1/7), ``"logsnr"`` in ln(alpha/sigma), both
        between the ends of the schedule, so both need finite ones; ``"even"`` is ``"logsnr"`` where they are, so that
        every component has as many levels while it emerges, and else ``"trailing"``. The last step, into sigma = 0, is
        first order under every solver, and under ``"trailing"`` it is the largest: to see a solver's own order take
        ``"even"``. Raises ``ValueError`` if n does not fit.
        """
        n = _whole(n)
        if not isinstance(schedule, Schedule):
            raise ValueError(
                f"levels are of a schedule, such as edm(); of a model take model.levels(n); got {schedule!r}"
            )
        if n < 1 or (schedule.steps is not None and n > schedule.steps):
            raise ValueError(f"{schedule.name} allows 1 to {schedule.steps or 'any number of'} steps, got {n}")
        spacing = spacing or ("linspace" if schedule.coordinates == "ve" else "trailing")
        if spacing == "even":
            spacing = "logsnr" if _finite(schedule) else "trailing"
        if spacing in ("karras", "logsnr"):
            alpha, sigma = _between_ends(schedule, n, spacing)
        else:
            alpha, sigma = schedule.at(_times(schedule, n, spacing, offset))
        return cls(
            torch.cat([alpha, alpha.new_ones(1)]), torch.cat([sigma, sigma.new_zeros(1)]), f"{schedule.name}, {spacing}"
        )

    @classmethod
    def from_scheduler(cls, scheduler: object, n: int) -> Levels:
        """Return the levels that a diffusers scheduler would visit in ``n`` steps; the scheduler is only read.

        Of a :class:`~painters.models.scheduler.PaintersScheduler` they are those of the scheduler in whose place it is,
        among which its ``start`` counts. Raises ``ValueError`` as :meth:`visited_by` does.
        """
        scheduler = copy.deepcopy(getattr(scheduler, "base", scheduler))
        if not hasattr(scheduler, "set_timesteps"):
            raise ValueError(f"{type(scheduler).__name__} is not a diffusers scheduler: it has no set_timesteps")
        scheduler.set_timesteps(_whole(n))  # type: ignore[attr-defined]
        return cls.visited_by(scheduler)

    @classmethod
    def visited_by(cls, scheduler: object) -> Levels:
        """Return the levels of the timesteps that were set on a diffusers scheduler.

        They are variance-preserving, or those of flow matching where the scheduler's sigmas are. Repeated levels (Heun,
        PNDM) are listed once. Raises ``ValueError`` for a scheduler that has neither ``sigmas`` nor ``alphas_cumprod``.
        """
        scheduler = getattr(scheduler, "base", scheduler)
        name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
        sigmas = getattr(scheduler, "sigmas", None)
        if sigmas is not None and len(sigmas) > len(scheduler.timesteps):  # type: ignore[attr-defined]
            sigma = torch.unique_consecutive(torch.as_tensor(sigmas, dtype=torch.float64).cpu())
            flows = "Flow" in name or config.get("use_flow_sigmas")
            alpha = 1 - sigma if flows else 1 / torch.sqrt(1 + sigma**2)
            sigma = sigma if flows else sigma * alpha
        elif hasattr(scheduler, "alphas_cumprod"):
            alpha_bar = torch.as_tensor(scheduler.alphas_cumprod, dtype=torch.float64)  # type: ignore[attr-defined]
            index = torch.unique_consecutive(torch.as_tensor(scheduler.timesteps).cpu().long())  # type: ignore[attr-defined]
            last = torch.as_tensor(getattr(scheduler, "final_alpha_cumprod", 1.0), dtype=torch.float64)
            squares = torch.unique_consecutive(torch.cat([alpha_bar[index], last.reshape(1)]))
            alpha, sigma = squares.sqrt(), (1 - squares).sqrt()
        else:
            raise ValueError(f"cannot read the noise levels of {name}: it has neither sigmas nor alphas_cumprod")
        spacing = config.get("timestep_spacing")
        return cls(alpha, sigma, f"{name}, {spacing}" if spacing else name)

    def __len__(self) -> int:
        return len(self.alpha)

    @overload
    def __getitem__(self, key: int) -> Level: ...

    @overload
    def __getitem__(self, key: slice) -> Levels: ...

    def __getitem__(self, key: int | slice) -> Level | Levels:
        if isinstance(key, slice):
            kept = list(range(len(self)))[key]
            return Levels(self.alpha[kept], self.sigma[kept], self.origin)
        return float(self.alpha[key]), float(self.sigma[key])

    def __iter__(self) -> Iterator[Level]:
        return iter(zip(self.alpha.tolist(), self.sigma.tolist(), strict=True))

    @property
    def steps(self) -> int:
        """The number of steps N, one less than the number of levels."""
        return len(self) - 1

    @property
    def ratio(self) -> Tensor:
        """sigma / alpha, (N + 1,): the noise level in EDM's units; infinite where alpha = 0."""
        return self.sigma / self.alpha

    @property
    def logsnr(self) -> Tensor:
        """ln(alpha^2 / sigma^2), (N + 1,): minus infinity at pure noise, infinity at clean data."""
        return 2 * (self.alpha.log() - self.sigma.log())

    def to(self, coordinates: Coordinates) -> Levels:
        """Return the same levels in ``"vp"``, ``"ve"`` or ``"flow"`` coordinates; ``"ve"`` at alpha = 0 raises."""
        c = rescale(self.alpha, self.sigma, coordinates)
        return Levels(c * self.alpha, c * self.sigma, self.origin)

    def start(self, noise: Tensor) -> Tensor:
        """Scale unit noise (B, ...) to the state x[0] = (alpha_0^2 + sigma_0^2)^(1/2) noise.

        Unit noise is read in variance-preserving units, as diffusers' pipelines read their latents, so that one
        noise means one image in every coordinate system.
        """
        return noise * float(torch.hypot(self.alpha[0], self.sigma[0]))

    def __repr__(self) -> str:
        ends = [f"(alpha {a:.4g}, sigma {s:.4g})" for a, s in (next(iter(self)), (self.alpha[-1], self.sigma[-1]))]
        start = self.sigma[0] / self.alpha[0]
        return f"Levels({self.steps} steps of {self.origin}: {ends[0]} -> {ends[1]}, starts at sigma/alpha {start:.4g})"


def _whole(n: int) -> int:
    """A number of steps, refused unless it is whole: the levels of 2.5 steps would be those of neither 2 nor 3."""
    try:
        return operator.index(n)
    except TypeError:
        raise ValueError(f"the number of steps is a whole number, got {n!r}") from None


def _finite(schedule: Schedule) -> bool:
    """Whether log-SNR is finite at both ends; cos(pi/2) is 6e-17 and not 0, hence the bound."""
    high, low = schedule.ends
    return high < 1e8 and low > 0


def refuse_unit_noise(x: Tensor, level: Level) -> None:
    """Raise ``ValueError`` if ``x`` is unit noise and the level is not, the one wrong size that no state can have.

    A state's rms is at least about sigma, whatever the data and however it was kicked. Noise that was not scaled has
    rms 1 up to 1/sqrt(2 n) for n numbers; at three times that size, and from 64 numbers on, the two cannot be confused.
    Other sizes are left alone: somebody may well start from the mean.
    """
    size, n = math.hypot(*level), x.numel()
    if size > 3 and n >= 64 and abs(float(x.double().square().mean().sqrt()) - 1) < 4 / math.sqrt(2 * n):
        raise ValueError(
            f"x has the size of unit noise, and the level alpha = {level[0]:.4g}, sigma = {level[1]:.4g} has size "
            f"{size:.4g}: pass levels.start(noise)"
        )


def _times(schedule: Schedule, n: int, spacing: Spacing, offset: int) -> Tensor:
    """Times t in [0, 1] of the n network calls, noisy first."""
    i = torch.arange(n, dtype=torch.float64)
    steps = schedule.steps
    if spacing == "trailing":
        return 1 - i / n if steps is None else (steps - i * (steps / n)).round() / steps
    if spacing == "linspace":
        t = torch.linspace(1, 0, n, dtype=torch.float64)
        return t if steps is None else ((t * (steps - 1)).round() + 1) / steps
    if spacing == "leading":
        if steps is None:
            raise ValueError(f"'leading' counts training indices and {schedule.name} is continuous: use 'trailing'")
        return ((n - 1 - i) * (steps // n) + offset + 1).clamp(max=steps) / steps
    raise ValueError(f"spacing must be trailing, leading, linspace, karras, logsnr or even, got {spacing!r}")


def _between_ends(schedule: Schedule, n: int, spacing: Spacing) -> tuple[Tensor, Tensor]:
    """Levels spaced evenly in a function of sigma / alpha between the two ends of the schedule."""
    high, low = schedule.ends
    if not _finite(schedule):
        raise ValueError(
            f"{spacing!r} needs finite noise at both ends and {schedule.name} runs from sigma/alpha {high:.3g} to "
            f"{low:.3g}: use 'trailing'"
        )
    t = torch.linspace(0, 1, n, dtype=torch.float64)
    if spacing == "karras":
        ratio = (high ** (1 / 7) + t * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    else:
        ratio = torch.exp(math.log(high) + t * math.log(low / high))
    c = rescale(torch.ones_like(ratio), ratio, schedule.coordinates)
    return c, c * ratio
