"""Noise levels: the pairs (alpha, sigma) of a forward process, and the sequence of them that one run visits.

Every forward process in this book mixes data and noise linearly,

    x = alpha x_0 + sigma eps,        eps ~ N(0, I),

so a noise level is nothing but the pair ``(alpha, sigma)``. A :class:`Schedule` says which pairs training saw,
as a function of a time t in [0, 1] (clean at 0, noisy at 1), and at which time of its own a network trained with it
is asked about a level. :class:`Levels` are the N + 1 pairs of one run, noisy to clean, in float64.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

Coordinates = Literal["vp", "ve", "flow"]
Spacing = Literal["trailing", "leading", "linspace", "karras", "logsnr", "even"]
Level = tuple[float, float]

COORDINATES: tuple[Coordinates, ...] = ("vp", "ve", "flow")
CLEAN: Level = (1.0, 0.0)
NOISE: Level = (0.0, 1.0)


@dataclass(frozen=True)
class Schedule:
    """The forward process a model was trained with: ``at(t)`` gives alpha and sigma for t in [0, 1].

    ``steps`` is the number of discrete training times, ``None`` for a continuous process. A discrete schedule is
    defined at t = (i + 1) / steps, i = 0 ... steps - 1. ``coordinates`` names the scale in which the network
    reads x: ``"vp"`` (alpha^2 + sigma^2 = 1), ``"ve"`` (alpha = 1) or ``"flow"`` (alpha + sigma = 1). ``clock`` turns
    alpha and sigma in these coordinates into the time that the network is called with, see :meth:`time`.
    """

    name: str
    at: Callable[[Tensor], tuple[Tensor, Tensor]] = field(repr=False)
    coordinates: Coordinates
    steps: int | None = None
    clock: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, repr=False)

    def table(self) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma, float64 (steps,), at every training time of a discrete schedule, clean first."""
        if self.steps is None:
            raise ValueError(f"the schedule {self.name!r} is continuous, it has no table: call .at(t) instead")
        return self.at(torch.arange(1, self.steps + 1, dtype=torch.float64) / self.steps)

    @property
    def ends(self) -> tuple[float, float]:
        """sigma / alpha at the noisiest and at the cleanest level; infinite where the noisiest is pure noise."""
        alpha, sigma = self.at(torch.tensor([1.0, 1 / (self.steps or math.inf)], dtype=torch.float64))
        high, low = (sigma / alpha).tolist()
        return high, low

    def time(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the network's time, float64 (n,), for levels of any shape and in any coordinates.

        Raises ``ValueError`` for levels noisier or cleaner than those of training, where a network was never asked.
        """
        if self.clock is None:
            raise ValueError(f"no network time is known for the schedule {self.name!r}: give it a clock")
        alpha, sigma = alpha.flatten().double().cpu(), sigma.flatten().double().cpu()
        ratio, (high, low) = sigma / alpha, self.ends
        # written so that NaN, the level (0, 0), is refused as well
        if not bool(((ratio >= low * (1 - 1e-4)) & (ratio <= high * (1 + 1e-4))).all()):
            raise ValueError(
                f"the network was trained from sigma/alpha {low:.4g} to {high:.4g} and was asked at "
                f"{float(ratio.min()):.4g} ... {float(ratio.max()):.4g}: take levels inside its range, e.g. "
                "model.levels(n)"
            )
        c = rescale(alpha, sigma, self.coordinates)
        return self.clock(c * alpha, c * sigma)


def discrete(alphas_cumprod: Tensor, *, name: str = "discrete") -> Schedule:
    """Return the variance-preserving schedule alpha_i^2 = ``alphas_cumprod[i]`` of a discrete-time model.

    ``alphas_cumprod``, (T,), decreases from almost 1. Beware of the name: in diffusers it is the square of the
    alpha used here and in the paper. The network's time is the training index from 0, interpolated in log-SNR. Where
    the last level is pure noise, whose log-SNR is infinite, the last interval is linear in alpha instead.
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

    def logs(a: Tensor, s: Tensor) -> np.ndarray:
        tiny = 1e-12
        return torch.log(s.clamp(min=tiny) / a.clamp(min=tiny)).numpy()

    table = logs(alpha, sigma)

    def clock(a: Tensor, s: Tensor) -> Tensor:
        ratio = logs(a, s)
        t = np.interp(ratio, table, np.arange(len(table), dtype=np.float64))
        if alpha[-1] == 0:
            t = np.where(ratio > table[-2], len(table) - 1 - (a / alpha[-2]).numpy(), t)
        nearest = np.round(t)  # a training level, come through other coordinates, keeps its whole time
        return torch.from_numpy(np.where(np.abs(t - nearest) < 1e-4, nearest, t))

    return Schedule(name, at, "vp", len(alpha), clock)


def vp_linear(*, beta_0: float = 1e-4, beta_1: float = 0.02, steps: int = 1000) -> Schedule:
    """Return the DDPM schedule: betas linear from ``beta_0`` to ``beta_1``, alpha_i^2 = prod_j (1 - beta_j)."""
    betas = torch.linspace(beta_0, beta_1, steps, dtype=torch.float64)
    return discrete((1 - betas).cumprod(0), name="vp-linear")


def scaled_linear(*, beta_0: float = 0.00085, beta_1: float = 0.012, steps: int = 1000) -> Schedule:
    """Return the Stable Diffusion schedule: square roots of the betas linear from beta_0^(1/2) to beta_1^(1/2)."""
    betas = torch.linspace(beta_0**0.5, beta_1**0.5, steps, dtype=torch.float64) ** 2
    return discrete((1 - betas).cumprod(0), name="scaled-linear")


def cosine() -> Schedule:
    """Return the continuous cosine schedule alpha = cos(pi t / 2), sigma = sin(pi t / 2); alpha = 0 at t = 1.

    The network's time is t.
    """

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sin(math.pi / 2 * (1 - t)), torch.sin(math.pi / 2 * t)

    return Schedule("cosine", at, "vp", clock=lambda alpha, sigma: 2 / math.pi * torch.atan2(sigma, alpha))


def edm(*, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """Return the EDM schedule: alpha = 1, sigma^(1/rho) linear in t from ``sigma_min`` to ``sigma_max``.

    The network's time is sigma (sigma/alpha in other coordinates): with prediction ``"sample"`` it is an EDM denoiser
    D(x/alpha, sigma/alpha), with ``"epsilon"`` or ``"score"`` a raw network of variance-exploding noise. A raw F of EDM
    is wrapped first: ``lambda x, s: c_skip(s) * x + c_out(s) * F(c_in(s) * x, c_noise(s))``.
    """
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), (low + t * (high - low)) ** rho

    return Schedule("edm", at, "ve", clock=lambda alpha, sigma: sigma)


def vp_sde(
    *, beta_0: float = 0.1, beta_1: float = 20.0, t_max: float = 1.0, t_min: float = 0.0, time_scale: float = 1.0
) -> Schedule:
    """Return the variance-preserving SDE dx = -beta x/2 ds + beta^(1/2) dW, s in [0, ``t_max``].

    beta is linear from ``beta_0`` at 0 to ``beta_1`` at ``t_max``; alpha = exp(-B/2), sigma = (1 - exp(-B))^(1/2) with
    B(s) = beta_0 s + (beta_1 - beta_0) s^2/(2 t_max). The network's time is ``time_scale`` s (999 for those of Song's
    code, which predict epsilon). Levels run down to ``t_min``; at 0 the cleanest has no noise, and spacings in log-SNR
    need some. Source: Song et al. (2021).
    """
    if not (beta_0 >= 0 and beta_1 >= 0 and beta_0 + beta_1 > 0 and 0 <= t_min < t_max):
        raise ValueError(f"a VP process has betas > 0 and 0 <= t_min < t_max, got {beta_0}, {beta_1}, {t_min}, {t_max}")
    slope = (beta_1 - beta_0) / t_max

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        s = t_min + t * (t_max - t_min)
        B = beta_0 * s + slope / 2 * s**2
        return torch.exp(-B / 2), torch.sqrt(-torch.expm1(-B))

    def clock(alpha: Tensor, sigma: Tensor) -> Tensor:
        B = torch.log1p((sigma / alpha) ** 2)  # not -2 ln(alpha), which loses its digits where alpha is near 1
        root = torch.sqrt((beta_0**2 + 2 * slope * B).clamp(min=0))
        return time_scale * 2 * B / (beta_0 + root).clamp(min=1e-300)

    return Schedule("vp-sde", at, "vp", clock=clock)


def ve_sde(*, sigma_min: float = 0.01, sigma_max: float = 50.0, time_scale: float = 1.0) -> Schedule:
    """Return the variance-exploding SDE: alpha = 1, sigma = sigma_min (sigma_max/sigma_min)^s, s in [0, 1].

    The network's time is ``time_scale`` s; for a network called with sigma itself take :func:`edm`. Source: Song et
    al. (2021).
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"a VE process needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), sigma_min * (sigma_max / sigma_min) ** t

    def clock(alpha: Tensor, sigma: Tensor) -> Tensor:
        return time_scale * torch.log(sigma / sigma_min) / math.log(sigma_max / sigma_min)

    return Schedule("ve-sde", at, "ve", clock=clock)


def flow(*, shift: float = 1.0, time_scale: float = 1000.0) -> Schedule:
    """Return the linear flow-matching schedule: alpha = 1 - s, sigma = s, with s = shift t / (1 + (shift - 1) t).

    The network's time is ``time_scale`` s: 1000 as in diffusers, 1 for one trained on s in [0, 1]. A network that
    counts from noise to data is wrapped: ``lambda x, s: -network(x, 1 - s)``.
    """

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        s = shift * t / (1 + (shift - 1) * t)
        return 1 - s, s

    return Schedule("flow", at, "flow", clock=lambda alpha, sigma: time_scale * sigma)


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

        Raises ``ValueError`` as :meth:`visited_by` does.
        """
        scheduler = copy.deepcopy(scheduler)
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
            squares = torch.cat([alpha_bar[index], last.reshape(1)])
            if squares[-1] == squares[-2]:
                squares = squares[:-1]
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
    one = torch.ones_like(ratio)
    c = rescale(one, ratio, schedule.coordinates)
    return c, c * ratio
