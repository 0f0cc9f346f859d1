"""Schedules: which noise levels (alpha, sigma) a model saw in training, and at which time its network is asked there.

Every forward process in this book mixes data and noise linearly,

    x = alpha x_0 + sigma eps,        eps ~ N(0, I),

so a noise level is nothing but the pair ``(alpha, sigma)``. A :class:`Schedule` says which pairs training saw,
as a function of a time t in [0, 1] (clean at 0, noisy at 1), and at which time of its own a network trained with it
is asked about a level. The levels that one run visits are :class:`painters.levels.Levels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Coordinates = Literal["vp", "ve", "flow"]
COORDINATES: tuple[Coordinates, ...] = ("vp", "ve", "flow")


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
        return torch.log(s.clamp(min=1e-12) / a.clamp(min=1e-12)).numpy()

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
