"""The exact theory of diffusion on one Gaussian: denoiser, flow, endpoint estimate, gains.

Data x_0 ~ N(mu, Sigma) with Sigma = U diag(lam) U^T + rest (I - U U^T) are noised to x = alpha x_0 + sigma eps, so
along an eigenvector of variance lam the noisy state has variance

    v = alpha^2 lam + sigma^2,

and the probability-flow ODE keeps (x - alpha mu)/sqrt(v) constant, whatever the schedule. Everything below follows.
Source: the closed form is that of Wang and Vastola (arXiv 2303.02490); the schedule-free form is derived in the book.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from painters.denoiser import Scalar, column, floating
from painters.levels import CLEAN, Level, Levels, refuse_unit_noise
from painters.theory.moments import Moments
from painters.trajectory import Trajectory

ROUNDING = 1e-5
"""A covariance made in float32 is symmetric, and free of negative variances, up to this share of its largest entry."""


def variance(lam: Tensor, level: Level) -> Tensor:
    """Return v = alpha^2 lam + sigma^2, the variance of the noisy state along a direction of data variance ``lam``."""
    alpha, sigma = level
    return alpha**2 * lam + sigma**2


def ode_gain(lam: Tensor, *, frm: Level, to: Level = CLEAN) -> Tensor:
    """Return how much the PF-ODE stretches a deviation between two levels: psi = sqrt(v(to) / v(frm)).

    ``lam``: data variances, any shape, 0 for a null direction. Raises ``ValueError`` where v(frm) = 0, that is for
    lam = 0 out of a clean level: no noise is there to flow back.
    """
    v = variance(lam, frm)
    if bool((v <= 0).any()):
        raise ValueError("a direction without variance cannot be followed out of sigma = 0: the gain is not defined")
    return (variance(lam, to) / v).sqrt()


def sde_gain(lam: Tensor, *, frm: Level, to: Level = CLEAN) -> Tensor:
    """Return the same stretch under the reverse SDE with the later noise held fixed.

    gain = alpha_f v(to) / (alpha_t v(frm)), which at to = (1, 0) is alpha lam / v: a stochastic sampler forgets
    early kicks. Raises ``ValueError`` if v(frm) = 0 or alpha at ``to`` is 0.
    """
    v = variance(lam, frm)
    if bool((v <= 0).any()) or to[0] == 0:
        raise ValueError("the SDE gain needs noise or variance where it starts and alpha > 0 where it ends")
    return frm[0] * variance(lam, to) / (to[0] * v)


def emergence(lam: Tensor, level: Level) -> Tensor:
    """Return the share of a direction's final variance already in the endpoint estimate: sigmoid(log-SNR + ln lam).

    = alpha^2 lam / (alpha^2 lam + sigma^2), in [0, 1]. It is 1/2 where (sigma/alpha)^2 = lam. Of a whole Gaussian take
    its ``spectrum``, which counts the directions beyond its PCs. Raises ``ValueError`` for negative variances.
    """
    if bool((lam < 0).any()):
        raise ValueError("variances must not be negative")
    signal = level[0] ** 2 * lam
    return torch.where(signal == 0, 0.0, signal / (signal + level[1] ** 2))


@dataclass(frozen=True, eq=False, repr=False)
class Gaussian:
    """A Gaussian data distribution, and with it the exact denoiser, flow and likelihood at every noise level.

    ``mu`` (D,), ``U`` (D, r) with orthonormal columns, ``lam`` (r,) >= 0, ``rest`` >= 0 the variance of every
    direction outside the columns of ``U``. States x are (B, ...) with D numbers each; results keep their shape and
    dtype, while the arithmetic is done in the dtype of ``mu`` (float64 unless moved by :meth:`to`). A Gaussian is a
    :class:`~painters.denoiser.Denoiser`: calling it gives E[x_0 | x], the best affine denoiser of any data with
    these moments. The D x D covariance is never formed.
    """

    mu: Tensor
    U: Tensor
    lam: Tensor
    rest: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mu", "U", "lam"):
            floating(getattr(self, name), f"{name} of a Gaussian")
        if self.mu.ndim != 1 or self.U.shape != (len(self.mu), len(self.lam)) or self.lam.ndim != 1:
            raise ValueError(
                f"need mu (D,), U (D, r), lam (r,); got {tuple(self.mu.shape)}, {tuple(self.U.shape)}, "
                f"{tuple(self.lam.shape)}"
            )
        # Written so that NaN, of which every comparison is false, is refused too.
        if not (0 <= self.rest < math.inf and bool(((self.lam >= 0) & torch.isfinite(self.lam)).all())):
            raise ValueError("variances must not be negative, and must be finite")
        if not bool(torch.isfinite(self.mu).all()):
            raise ValueError("the mean must be finite")
        tilt = self.U.T @ self.U - torch.eye(len(self.lam)).to(self.U)
        slack = {torch.float64: 1e-6, torch.float32: 1e-3}.get(self.U.dtype, 5e-2)
        if tilt.numel() and not float(tilt.abs().max()) <= slack:
            raise ValueError(
                "the columns of U must be orthonormal: pass eigenvectors, or orthogonalise with torch.linalg.qr"
            )

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor | float, *, rank: int | None = None) -> Gaussian:
        """Return the Gaussian with this mean, D numbers of any shape, and covariance (D, D); float64 on the CPU.

        A number is the variance of every direction; 0 makes the denoiser that knows the mean alone. Beyond ``rank`` PCs
        the variance is spread evenly over the rest. Raises ``ValueError`` for a matrix that is not finite and
        symmetric, or has a negative variance.
        """
        mu, S = (torch.as_tensor(v, dtype=torch.float64).detach().cpu() for v in (mean.flatten(), covariance))
        if S.ndim == 0:
            return cls(mu, mu.new_zeros(len(mu), 0), mu.new_zeros(0), float(S))
        if S.shape != (len(mu), len(mu)):
            raise ValueError(f"a mean of {len(mu)} numbers needs a covariance of its square, got {tuple(S.shape)}")
        size = float(S.abs().max())
        if not (math.isfinite(size) and torch.allclose(S, S.T, rtol=0, atol=ROUNDING * size)):
            raise ValueError("a covariance is finite and symmetric, and this matrix is not")
        return cls.from_moments(Moments(1, mu, S), rank=rank)

    @classmethod
    def from_moments(cls, moments: Moments, *, rank: int | None = None) -> Gaussian:
        """Return the Gaussian with these moments; beyond ``rank`` PCs the variance is spread evenly over the rest.

        Raises ``ValueError`` for a negative rank or variance.
        """
        U, lam = moments.eigh()
        r = len(lam) if rank is None else min(rank, len(lam))
        if r < 0:
            raise ValueError(f"the rank counts the PCs that are kept, 0 or more, got {rank}")
        if float(lam[-1]) < -ROUNDING * float(lam[0]):
            raise ValueError(f"a covariance has no negative variance, and this one has {float(lam[-1]):.3g}")
        lam = lam.clamp(min=0)
        rest = float(lam[r:].mean()) if r < len(lam) else 0.0
        return cls(moments.mean, U[:, :r].contiguous(), lam[:r], rest)

    @property
    def dim(self) -> int:
        """D, the number of dimensions of the data."""
        return len(self.mu)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.mu.device

    @property
    def spectrum(self) -> Tensor:
        """All D variances, those of the columns of ``U`` first: (D,)."""
        return torch.cat([self.lam, self.lam.new_full((self.dim - len(self.lam),), self.rest)])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Gaussian:
        """Return the same Gaussian on another device or in another dtype."""
        return replace(self, **{k: getattr(self, k).to(device=device, dtype=dtype) for k in ("mu", "U", "lam")})

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return E[x_0 | x] = mu + U diag(alpha lam / v) U^T (x - alpha mu) + (same with rest), shaped like ``x``."""
        y, a, s = self._centred(x, alpha, sigma)

        def gain(lam: Tensor) -> Tensor:
            signal = a * lam
            return torch.where(signal > 0, signal / (a * signal + s**2), torch.zeros_like(signal))

        return self._restore(self.mu + self._apply(y, gain), x)

    def flow(self, x: Tensor, *, frm: Level, to: Level = CLEAN) -> Tensor:
        """Follow the PF-ODE exactly from one level to another, in one step and for any schedule.

        x_to = alpha_to mu + U diag(psi) U^T y + psi(rest) (I - U U^T) y,  y = x - alpha_frm mu,
        psi(lam) = sqrt(v_to / v_frm). ``x``: (B, ...). Levels are pairs and may be in different coordinates. Raises
        ``ValueError`` when asked to flow noise out of sigma = 0 in a direction without variance.
        """
        y, _, _ = self._centred(x, *frm)

        def gain(lam: Tensor) -> Tensor:
            v = variance(lam, frm)
            tiny = torch.finfo(v.dtype).tiny
            return torch.where(v > 0, (variance(lam, to) / v.clamp(min=tiny)).sqrt(), torch.zeros_like(v))

        if frm[1] == 0:  # only here a direction can have no variance, and what x has in it would vanish without a word
            lost = y - self._apply(y, lambda lam: (variance(lam, frm) > 0).to(lam.dtype))
            if float(lost.norm()) > 1e-6 * max(float(y.norm()), 1e-30):
                raise ValueError(
                    "x has a component in a direction without variance: at sigma = 0 it has no past to flow to"
                )
        moved = self._apply(y, gain)
        return self._restore(to[0] * self.mu + moved, x)

    def gain(self, *, frm: Level, to: Level = CLEAN) -> Tensor:
        """Return psi of :meth:`flow` for each of the D directions of :attr:`spectrum`, (D,)."""
        return ode_gain(self.spectrum, frm=frm, to=to)

    def trajectory(self, x: Tensor, levels: Levels) -> Trajectory:
        """Return the exact solution from ``x`` at ``levels[0]`` through all levels: no solver, no network call.

        ``x``: (B, ...). The trajectory has N + 1 states and N endpoint estimates, and ``nfe`` 0.
        """
        start, *later = list(levels)
        refuse_unit_noise(x, start)
        states = [x, *(self.flow(x, frm=start, to=level) for level in later)]
        x0 = [self(state, *level) for state, level in zip(states[:-1], levels)]
        return Trajectory(levels, torch.stack(states), torch.stack(x0), nfe=0, meta={"solver": "exact"})

    def score(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return grad log p(x) = -(alpha^2 Sigma + sigma^2 I)^{-1} (x - alpha mu), shaped like ``x``.

        Raises ``ValueError`` where a direction has no variance at this level.
        """
        y, a, s = self._centred(x, alpha, sigma)
        return self._restore(-self._apply(y, lambda lam: 1 / self._positive(a**2 * lam + s**2)), x)

    def log_prob(self, x: Tensor, alpha: Scalar = 1.0, sigma: Scalar = 0.0) -> Tensor:
        """Return ln p(x), in nats, (B,): the Gaussian N(alpha mu, alpha^2 Sigma + sigma^2 I) at ``x`` (B, ...).

        Raises ``ValueError`` where a direction has no variance at this level.
        """
        y, a, s = self._centred(x, alpha, sigma)
        v, r = self._positive(a**2 * self.spectrum + s**2), len(self.lam)
        inside = y @ self.U
        distance = (inside.square() / v[:, :r]).sum(1)
        if r < self.dim:  # subtract before squaring: at small sigma a difference of squares is rounding error
            distance = distance + (y - inside @ self.U.T).square().sum(1) / v[:, r]
        return -0.5 * (distance + v.log().sum(1) + self.dim * math.log(2 * math.pi))

    def sample(self, noise: Tensor, *, level: Level = CLEAN) -> Tensor:
        """Return samples at ``level`` from unit noise (B, ...): alpha mu + (alpha^2 Sigma + sigma^2 I)^(1/2) noise."""
        flat = self._flat(noise)
        moved = self._apply(flat, lambda lam: variance(lam, level).sqrt())
        return self._restore(level[0] * self.mu + moved, noise)

    def mmse(self, level: Level) -> float:
        """Return the least mean squared error of a denoiser at ``level``, sum_k lam sigma^2 / v, in data units squared.

        Summed over the D dimensions. For other data with these moments it is the error of the best affine denoiser.
        """
        v = variance(self.spectrum, level)
        return float(torch.where(v > 0, self.spectrum * level[1] ** 2 / v.clamp(min=1e-300), 0.0).sum())

    def apply(self, x: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
        """Return gain(Sigma) x = U diag(gain(lam)) U^T x + gain(rest) (I - U U^T) x, shaped like ``x`` (B, ...)."""
        return self._restore(self._apply(self._flat(x), gain), x)

    def along(self, directions: Tensor) -> Tensor:
        """Return u . Sigma u, the data's variance along unit ``directions`` (D,) or (..., D): () or (...)."""
        u = directions.to(self.mu)
        inside = (u @ self.U).square()
        return inside @ self.lam + self.rest * (u.square().sum(-1) - inside.sum(-1)).clamp(min=0)

    def project(self, x: Tensor, *, alpha: float = 1.0) -> Tensor:
        """Return the coordinates U^T (x - alpha mu) of ``x`` (B, ...) along the eigenvectors, (B, r)."""
        return (self._flat(x) - alpha * self.mu) @ self.U

    def __repr__(self) -> str:
        inside, rest = float(self.lam.sum()), self.rest * (self.dim - len(self.lam))
        share = inside / (inside + rest) if inside + rest > 0 else 0.0
        return f"Gaussian(D = {self.dim}, {len(self.lam)} PCs with {share:.1%} of the variance {inside + rest:.4g})"

    def _flat(self, x: Tensor) -> Tensor:
        if floating(x, "a state").shape[1:].numel() != self.dim:
            raise ValueError(f"this Gaussian lives in {self.dim} dimensions, got x of shape {tuple(x.shape)}")
        return x.reshape(len(x), self.dim).to(self.mu)

    def _centred(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> tuple[Tensor, Tensor, Tensor]:
        flat = self._flat(x)
        a, s = column(alpha, flat).to(self.mu), column(sigma, flat).to(self.mu)
        return flat - a * self.mu, a, s

    def _apply(self, y: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
        """Multiply by gain(lam) along each eigenvector and by gain(rest) outside them."""
        outside = gain(self.lam.new_full((1,), self.rest)) if len(self.lam) < self.dim else self.lam.new_zeros(1)
        return ((y @ self.U) * (gain(self.lam) - outside)) @ self.U.T + outside * y

    @staticmethod
    def _positive(v: Tensor) -> Tensor:
        if bool((v <= 0).any()):
            raise ValueError("at this level a direction has no variance, so there is no density: use sigma > 0")
        return v

    @staticmethod
    def _restore(flat: Tensor, like: Tensor) -> Tensor:
        return flat.reshape(like.shape).to(like)
