"""Exact partners: independent ways to compute what the package computes, written from the definitions.

They use dense matrices, scipy's integrators and sums over a grid, never the package's own formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from painters import Gaussian, Mixture


def rel(got: Tensor | float | np.ndarray, want: Tensor | float | np.ndarray) -> float:
    """Return ||got - want|| / ||want||, and the absolute norm where ``want`` is zero."""
    got, want = (torch.as_tensor(v, dtype=torch.float64).cpu() for v in (got, want))
    assert got.shape == want.shape, f"shapes differ: {tuple(got.shape)} and {tuple(want.shape)}"
    scale = float(want.norm())
    return float((got - want).norm()) / (scale or 1.0)


COMPARED: list[tuple[float, float]] = []
"""Errors and bounds of the running test, for the list of tools/trust.py; conftest.py empties it before each."""


def agree(got: Tensor | float | np.ndarray, want: Tensor | float | np.ndarray, bound: float) -> None:
    """Assert that two numbers or arrays agree up to a relative error, and keep the error for the book's list."""
    error = rel(got, want)
    COMPARED.append((error, bound))
    assert error <= bound, f"the relative error is {error:.3g}, {bound:g} at most"


JUDGED: dict[str, set[bool]] = {}
"""Rows of the ledger that the running test judged, and whether they held; conftest.py empties it before each."""


def judge(row: str, **records: Any) -> str:
    """Return the verdict of a row of the ledger on a world's records, and keep it for the test's marker ``claim``."""
    from atelier.ledger.claim import Records, evaluate
    from atelier.ledger.rows import CLAIMS

    verdict = evaluate(next(claim for claim in CLAIMS if claim.id == row), Records(records)).verdict
    assert verdict != "not measured", f"{row} reads nothing in these records"
    JUDGED.setdefault(row, set()).add(verdict.startswith("holds"))
    return verdict


def gaussian(
    lam: list[float], *, dim: int | None = None, rest: float = 0.0, seed: int = 0, mean: float = 1.0
) -> Gaussian:
    """Return a Gaussian with the given variances, in a random basis and around a random mean."""
    dim = len(lam) if dim is None else dim
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    mu = mean * torch.randn(dim, generator=generator, dtype=torch.float64)
    return Gaussian(mu, basis[:, : len(lam)].contiguous(), torch.tensor(lam, dtype=torch.float64), rest)


def target(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, *, prediction: str) -> Tensor:
    """Return what a network with this prediction type would return at x = alpha x_0 + sigma eps if it knew both."""
    return {
        "epsilon": lambda: eps,
        "v_prediction": lambda: alpha * eps - sigma * x0,
        "sample": lambda: x0,
        "flow_prediction": lambda: eps - x0,
        "score": lambda: -eps / sigma,
    }[prediction]()


def r2(law: Any, level: tuple[float, float]) -> Tensor:
    """Return alpha^2 c^T V^{-1} c / Var f of an affine law of factors, 0 for a factor that does not vary."""
    explained = level[0] * (law.covariance * law.weights(level)).sum(0)
    return torch.where(law.variance > 0, explained / law.variance.clamp(min=1e-300), 0.0)


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Return unit normal numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(g: Gaussian) -> Tensor:
    """Return the D x D covariance."""
    projector = g.U @ g.U.T
    return g.U @ torch.diag(g.lam) @ g.U.T + g.rest * (torch.eye(g.dim, dtype=torch.float64) - projector)


def matched(m: Mixture) -> Gaussian:
    """Return the Gaussian with the mean and covariance of a mixture, sum_i pi_i [Sigma_i + d_i d_i^T]."""
    offsets = torch.stack([g.mu - m.mean for g in m.components])
    parts = torch.stack([dense(g) for g in m.components]) + offsets[:, :, None] * offsets[:, None]
    return Gaussian.of(m.mean, torch.einsum("k,kij->ij", m.weights, parts))


@dataclass(frozen=True)
class Path:
    """A forward process dx = f(t) x dt + g(t) dW and the alpha(t), sigma(t) it leads to; noisy at ``noisy``."""

    alpha: Callable[[float], float]
    sigma: Callable[[float], float]
    f: Callable[[float], float]
    g2: Callable[[float], float]
    noisy: float
    clean: float

    def level(self, t: float) -> tuple[float, float]:
        return self.alpha(t), self.sigma(t)


def _vp() -> Path:
    def beta(t: float) -> float:
        return 0.1 + 19.9 * t

    def alpha(t: float) -> float:
        return math.exp(-0.05 * t - 19.9 * t**2 / 4)

    def sigma(t: float) -> float:
        return math.sqrt(-math.expm1(-0.1 * t - 19.9 * t**2 / 2))

    return Path(alpha, sigma, lambda t: -beta(t) / 2, beta, 1.0, 1e-3)


PATHS: dict[str, Path] = {
    "vp": _vp(),
    "cosine": Path(
        lambda t: math.cos(math.pi * t / 2),
        lambda t: math.sin(math.pi * t / 2),
        lambda t: -math.pi / 2 * math.tan(math.pi * t / 2),
        lambda t: math.pi * math.tan(math.pi * t / 2),
        0.99,
        1e-3,
    ),
    "edm": Path(lambda t: 1.0, lambda t: t, lambda t: 0.0, lambda t: 2 * t, 80.0, 2e-3),
    "flow": Path(lambda t: 1 - t, lambda t: t, lambda t: -1 / (1 - t), lambda t: 2 * t / (1 - t), 0.99, 1e-3),
}


def integrate(rate: Callable[[float, np.ndarray], np.ndarray], y: np.ndarray, span: tuple[float, float], **options):
    """Return scipy's DOP853 solution at the tolerances of double precision."""
    options = {"rtol": 1e-12, "atol": 1e-12} | options
    solution = solve_ivp(rate, span, y, method="DOP853", **options)
    assert solution.success, solution.message
    return solution


def flow_by_ode(g: Gaussian, x: Tensor, path: Path, times: list[float]) -> Tensor:
    """Integrate dx/dt = f x - g^2/2 score with a dense covariance; return the states (len(times), B, D)."""
    covariance, mu = dense(g).numpy(), g.mu.numpy()

    def rate(t: float, flat: np.ndarray) -> np.ndarray:
        a, s = path.level(t)
        state = flat.reshape(-1, g.dim)
        score = -np.linalg.solve(a**2 * covariance + s**2 * np.eye(g.dim), (state - a * mu).T).T
        return (path.f(t) * state - path.g2(t) / 2 * score).ravel()

    solution = integrate(rate, x.numpy().ravel(), (times[0], times[-1]), t_eval=times)
    return torch.from_numpy(solution.y.T.reshape(len(times), *x.shape))


@dataclass(frozen=True)
class TwoModes:
    """Two one-dimensional Gaussians at +m and -m with variance ``lam`` and equal weight."""

    m: float
    lam: float

    def density(self, z: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
        """Density of the noisy state."""
        v = alpha**2 * self.lam + sigma**2
        bumps = sum(np.exp(-((z - c * alpha * self.m) ** 2) / (2 * v)) for c in (1, -1))
        return bumps / (2 * math.sqrt(2 * math.pi * v))

    def denoise(self, z: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
        """E[x_0 | z]: each mode's own Wiener filter, weighted by its responsibility."""
        v = alpha**2 * self.lam + sigma**2
        right = 0.5 * (1 + np.tanh(alpha * self.m * z / v))
        each = [c * self.m + alpha * self.lam / v * (z - c * alpha * self.m) for c in (1, -1)]
        return right * each[0] + (1 - right) * each[1]

    def finish(self, z: np.ndarray, alpha: float, sigma: float) -> np.ndarray:
        """Follow the PF-ODE to clean data, in y = z/alpha and r = sigma/alpha: dy/dr = (y - D)/r."""

        def rate(log_r: float, y: np.ndarray) -> np.ndarray:
            return y - self.denoise(y, 1.0, math.exp(log_r))

        start = math.log(sigma / alpha)
        return integrate(rate, z / alpha, (start, math.log(1e-3)), rtol=1e-9, atol=1e-9).y[:, -1]
