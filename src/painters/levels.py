"""Noise levels: the pairs (alpha, sigma) of a forward process, and the sequence of them that one run visits.

Every forward process in this book mixes data and noise linearly,

    x = alpha x_0 + sigma eps,        eps ~ N(0, I),

so a noise level is nothing but the pair ``(alpha, sigma)``. A :class:`Schedule` says which pairs training saw,
as a function of a time t in [0, 1] (clean at 0, noisy at 1). :class:`Levels` are the N + 1 pairs of one run,
noisy to clean, in float64.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor

Coordinates = Literal["vp", "ve", "flow"]
Spacing = Literal["trailing", "leading", "linspace", "karras", "logsnr"]
Level = tuple[float, float]

COORDINATES: tuple[Coordinates, ...] = ("vp", "ve", "flow")
CLEAN: Level = (1.0, 0.0)


@dataclass(frozen=True)
class Schedule:
    """The forward process a model was trained with: ``at(t)`` gives alpha and sigma for t in [0, 1].

    ``steps`` is the number of discrete training times, ``None`` for a continuous process. A discrete schedule is
    defined at t = (i + 1) / steps, i = 0 ... steps - 1. ``coordinates`` names the scale in which the network
    reads x: ``"vp"`` (alpha^2 + sigma^2 = 1), ``"ve"`` (alpha = 1) or ``"flow"`` (alpha + sigma = 1).
    """

    name: str
    at: Callable[[Tensor], tuple[Tensor, Tensor]]
    coordinates: Coordinates
    steps: int | None = None

    def table(self) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma, float64 (steps,), at every training time of a discrete schedule, clean first."""
        if self.steps is None:
            raise ValueError(f"the schedule {self.name!r} is continuous, it has no table: call .at(t) instead")
        return self.at(torch.arange(1, self.steps + 1, dtype=torch.float64) / self.steps)


def discrete(alphas_cumprod: Tensor, *, name: str = "discrete") -> Schedule:
    """Return the variance-preserving schedule alpha_i^2 = ``alphas_cumprod[i]`` of a discrete-time model.

    ``alphas_cumprod``, (T,), decreases from almost 1. Beware of the name: in diffusers it is the square of the
    alpha used here and in the paper.
    """
    alpha_bar = torch.as_tensor(alphas_cumprod, dtype=torch.float64).cpu()
    if alpha_bar.ndim != 1 or not bool(((alpha_bar >= 0) & (alpha_bar < 1)).all() & (alpha_bar.diff() < 0).all()):
        raise ValueError("alphas_cumprod must be one-dimensional, decreasing, and lie in [0, 1)")
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        index = (torch.as_tensor(t, dtype=torch.float64) * len(alpha)).round().long() - 1
        if bool(((index < 0) | (index >= len(alpha))).any()):
            raise ValueError(f"a discrete schedule is defined at t = 1/{len(alpha)} ... 1, got t = {t}")
        return alpha[index], sigma[index]

    return Schedule(name, at, "vp", len(alpha))


def vp_linear(*, beta_0: float = 1e-4, beta_1: float = 0.02, steps: int = 1000) -> Schedule:
    """Return the DDPM schedule: betas linear from ``beta_0`` to ``beta_1``, alpha_i^2 = prod_j (1 - beta_j)."""
    betas = torch.linspace(beta_0, beta_1, steps, dtype=torch.float64)
    return discrete((1 - betas).cumprod(0), name="vp-linear")


def scaled_linear(*, beta_0: float = 0.00085, beta_1: float = 0.012, steps: int = 1000) -> Schedule:
    """Return the Stable Diffusion schedule: square roots of the betas linear from beta_0^(1/2) to beta_1^(1/2)."""
    betas = torch.linspace(beta_0**0.5, beta_1**0.5, steps, dtype=torch.float64) ** 2
    return discrete((1 - betas).cumprod(0), name="scaled-linear")


def cosine() -> Schedule:
    """Return the continuous cosine schedule alpha = cos(pi t / 2), sigma = sin(pi t / 2); alpha = 0 at t = 1."""

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sin(math.pi / 2 * (1 - t)), torch.sin(math.pi / 2 * t)

    return Schedule("cosine", at, "vp")


def edm(*, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """Return the EDM schedule: alpha = 1, sigma^(1/rho) linear in t from ``sigma_min`` to ``sigma_max``."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), (low + t * (high - low)) ** rho

    return Schedule("edm", at, "ve")


def flow(*, shift: float = 1.0) -> Schedule:
    """Return the linear flow-matching schedule: alpha = 1 - s, sigma = s, with s = shift t / (1 + (shift - 1) t)."""

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        s = shift * t / (1 + (shift - 1) * t)
        return 1 - s, s

    return Schedule("flow", at, "flow")


def rescale(alpha: Tensor, sigma: Tensor, to: Coordinates) -> Tensor:
    """Return the factor c that moves a level, and the state at it, to other coordinates: (c alpha, c sigma), c x.

    c = 1/(alpha^2 + sigma^2)^(1/2) for ``"vp"``, 1/alpha for ``"ve"``, 1/(alpha + sigma) for ``"flow"``. The
    endpoint estimate is in units of the data and does not change. Raises ``ValueError`` for ``"ve"`` at alpha = 0.
    """
    if to == "vp":
        return 1 / torch.hypot(alpha, sigma)
    if to == "flow":
        return 1 / (alpha + sigma)
    if to == "ve":
        if bool((alpha <= 0).any()):
            raise ValueError("a level with alpha = 0 is pure noise: it has no place in 've' coordinates (alpha = 1)")
        return 1 / alpha
    raise ValueError(f"coordinates must be one of {', '.join(COORDINATES)}, got {to!r}")


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
        between the ends of the schedule, so both need alpha > 0. Raises ``ValueError`` if n does not fit.
        """
        if n < 1 or (schedule.steps is not None and n > schedule.steps):
            raise ValueError(f"{schedule.name} allows 1 to {schedule.steps or 'any number of'} steps, got {n}")
        spacing = spacing or ("linspace" if schedule.coordinates == "ve" else "trailing")
        if spacing in ("karras", "logsnr"):
            alpha, sigma = _between_ends(schedule, n, spacing)
        else:
            alpha, sigma = schedule.at(_times(schedule, n, spacing, offset))
        one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        return cls(torch.cat([alpha, one]), torch.cat([sigma, zero]), f"{schedule.name}, {spacing}")

    @classmethod
    def from_scheduler(cls, scheduler: object, n: int) -> Levels:
        """Return the levels that a diffusers scheduler would visit in ``n`` steps; the scheduler is only read.

        Repeated levels (Heun, PNDM) are listed once. Raises ``ValueError`` for a scheduler that has neither
        ``sigmas`` nor ``alphas_cumprod``.
        """
        scheduler = copy.deepcopy(scheduler)
        name = type(scheduler).__name__
        if not hasattr(scheduler, "set_timesteps"):
            raise ValueError(f"{name} is not a diffusers scheduler: it has no set_timesteps")
        scheduler.set_timesteps(n)  # type: ignore[attr-defined]
        sigmas = getattr(scheduler, "sigmas", None)
        if sigmas is not None and len(sigmas) > len(scheduler.timesteps):  # type: ignore[attr-defined]
            sigma = torch.unique_consecutive(torch.as_tensor(sigmas, dtype=torch.float64).cpu())
            alpha = 1 - sigma if "Flow" in name else 1 / torch.sqrt(1 + sigma**2)
            sigma = sigma if "Flow" in name else sigma * alpha
        elif hasattr(scheduler, "alphas_cumprod"):
            alpha_bar = torch.as_tensor(scheduler.alphas_cumprod, dtype=torch.float64)  # type: ignore[attr-defined]
            index = torch.unique_consecutive(torch.as_tensor(scheduler.timesteps).cpu().long())  # type: ignore[attr-defined]
            last = torch.as_tensor(getattr(scheduler, "final_alpha_cumprod", 1.0), dtype=torch.float64)
            squares = torch.cat([alpha_bar[index], last.reshape(1)])
            if squares[-1] == squares[-2]:
                squares = squares[:-1]
            alpha, sigma = squares.sqrt(), (1 - squares).sqrt()
        else:
            raise ValueError(f"cannot read the noise levels of {name}: it has neither sigmas nor alphas_cumprod")
        spacing = getattr(getattr(scheduler, "config", None), "timestep_spacing", None)
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


def _times(schedule: Schedule, n: int, spacing: Spacing, offset: int) -> Tensor:
    """Times t in [0, 1] of the n network calls, noisy first."""
    i = torch.arange(n, dtype=torch.float64)
    steps = schedule.steps
    if spacing == "trailing":
        return 1 - i / n if steps is None else (steps - i * (steps / n)).round() / steps
    if spacing == "linspace":
        if n == 1:
            return torch.ones(1, dtype=torch.float64)
        t = torch.linspace(1, 0, n, dtype=torch.float64)
        return t if steps is None else ((t * (steps - 1)).round() + 1) / steps
    if spacing == "leading":
        if steps is None:
            raise ValueError(f"'leading' counts training indices and {schedule.name} is continuous: use 'trailing'")
        return ((n - 1 - i) * (steps // n) + offset + 1).clamp(max=steps) / steps
    raise ValueError(f"spacing must be trailing, leading, linspace, karras or logsnr, got {spacing!r}")


def _between_ends(schedule: Schedule, n: int, spacing: Spacing) -> tuple[Tensor, Tensor]:
    """Levels spaced evenly in a function of sigma / alpha between the two ends of the schedule."""
    first = 0.0 if schedule.steps is None else 1 / schedule.steps
    alpha, sigma = schedule.at(torch.tensor([1.0, first], dtype=torch.float64))
    high, low = (sigma / alpha).tolist()
    if not (math.isfinite(high) and high < 1e8 and low > 0):
        raise ValueError(
            f"{spacing!r} needs finite noise at both ends and {schedule.name} runs from sigma/alpha {high:.3g} to "
            f"{low:.3g}: use 'trailing'"
        )
    t = torch.linspace(0, 1, n, dtype=torch.float64)
    if spacing == "karras":
        ratio = (high ** (1 / 7) + t * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    else:
        ratio = torch.exp(math.log(high) + t * math.log(low / high))
    one = torch.ones_like(ratio)
    c = rescale(one, ratio, schedule.coordinates)
    return c, c * ratio
