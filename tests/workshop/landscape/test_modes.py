"""Beyond one Gaussian where it can be checked exactly: guidance, two modes, named factors, and the reverse SDE."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from partners import PATHS, TwoModes, dense, gaussian, integrate, randn, rel

from painters import Gaussian, Levels, solve
from painters.schedules import cosine, edm, vp_linear
from painters.theory import emergence, ode_gain, sde_gain, variance


def line(mean: float, lam: float) -> Gaussian:
    """A Gaussian in one dimension."""
    return Gaussian(torch.tensor([mean]).double(), torch.ones(1, 1).double(), torch.tensor([lam]).double())


# classifier-free guidance


@pytest.mark.parametrize("w", [0.0, 1.0, 3.0, 7.5])
def test_guidance_with_equal_covariances_is_a_shifted_gaussian(w: float) -> None:
    without = gaussian([5.0, 1.0, 0.1], seed=1)
    with_ = Gaussian(without.mu + torch.tensor([1.0, -2.0, 0.5]).double(), without.U, without.lam)
    shifted = Gaussian(without.mu + w * (with_.mu - without.mu), without.U, without.lam)
    x = randn(5, 3, seed=2)
    for level in ((0.3, 0.9), (1.0, 4.0), (0.5, 0.5)):
        u, c = without(x, *level), with_(x, *level)
        assert rel(u + w * (c - u), shifted(x, *level)) < 1e-12


@pytest.mark.parametrize(("w", "std", "mean"), [(1.0, 1.0, 1.29), (3.0, 0.25, 1.95), (7.5, 0.011, 1.87)])
def test_guidance_on_a_wider_unconditional_gaussian(w: float, std: float, mean: float) -> None:
    """lam_u = 4, lam_c = 1, mu_c = 1.3 in EDM coordinates: std = lam_c^(1/2) (lam_c/lam_u)^((w-1)/2)."""
    lam_u, lam_c, mu_c, top = 4.0, 1.0, 1.3, 200.0
    without, with_ = line(0.0, lam_u), line(mu_c, lam_c)

    def guided(x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        u, c = without(x, alpha, sigma), with_(x, alpha, sigma)
        return u + w * (c - u)

    def rate(log_sigma: float, x: np.ndarray) -> np.ndarray:
        s2 = math.exp(2 * log_sigma)
        u, c = lam_u / (lam_u + s2) * x, mu_c + lam_c / (lam_c + s2) * (x - mu_c)
        return x - (u + w * (c - u))

    starts = np.array([0.0, top])
    low, high = integrate(rate, starts, (math.log(top), math.log(1e-5))).y[:, -1]
    law = math.sqrt(lam_c) * (lam_c / lam_u) ** ((w - 1) / 2)
    assert high - low == pytest.approx(law, rel=1e-3)  # exact as the starting level goes to infinity
    assert high - low == pytest.approx(std, rel=0.02)
    assert low == pytest.approx(mean, abs=0.01)
    levels = Levels.of(edm(sigma_min=1e-3, sigma_max=top), 300)
    run = solve(guided, torch.from_numpy(starts)[:, None], levels, solver="heun", progress=False)
    assert rel(run.final[:, 0], torch.tensor([low, high])) < 2e-3


# two modes: emergence is a bound, and a kick can change the mode


@pytest.mark.parametrize("lam", [0.0, 0.05, 1.0])
def test_two_modes_emerge_no_later_than_their_gaussian(lam: float) -> None:
    """Var E[x_0 | x_t] >= lam_total sigmoid(log-SNR + ln lam_total); lam = 0 is a cloud of two points."""
    modes, total = TwoModes(2.0, lam), 4.0 + lam
    for alpha, sigma in ((0.05, 1.0), (0.3, 0.95), (0.7, 0.7), (0.95, 0.3), (1.0, 9.0)):
        spread = alpha * modes.m + 12 * math.sqrt(alpha**2 * lam + sigma**2)
        z, dz = np.linspace(-spread, spread, 40_001, retstep=True)
        p = modes.density(z, alpha, sigma) * dz
        assert p.sum() == pytest.approx(1, abs=1e-9)
        share = float((p * modes.denoise(z, alpha, sigma) ** 2).sum() / total)
        bound = float(emergence(torch.tensor(total, dtype=torch.float64), (alpha, sigma)))
        assert bound <= share <= 1
        if 0.2 < bound < 0.9:
            assert share > 1.005 * bound  # strict where the data are not Gaussian


def test_a_factor_is_known_as_well_as_its_regression() -> None:
    """R_f^2 = alpha^2 c' (alpha^2 Sigma + sigma^2)^{-1} c / Var f is what x0_hat of the Gaussian knows of f."""
    g = gaussian([6.0, 1.0, 0.2, 0.0], seed=3)
    weights, own = randn(4, seed=4), 0.7  # f = weights . x_0 + noise of variance own
    covariance, eye = dense(g), torch.eye(4, dtype=torch.float64)
    c, var_f = covariance @ weights, weights @ covariance @ weights + own
    for level in ((0.05, 1.0), (0.5, 0.87), (0.98, 0.2), (1.0, 3.0)):
        V = level[0] ** 2 * covariance + level[1] ** 2 * eye
        law = level[0] ** 2 * c @ torch.linalg.solve(V, c) / var_f
        J = (g(eye, *level) - g(torch.zeros_like(eye), *level)).T
        known = weights @ J @ V @ J.T @ weights / var_f
        assert rel(known, law) < 1e-10
        schur = var_f - level[0] ** 2 * c @ torch.linalg.solve(V, c)  # Var(f | x_t), from the joint Gaussian
        assert rel(1 - schur / var_f, known) < 1e-10


@pytest.mark.parametrize(("alpha", "share"), [(0.08, 0.31), (0.22, 0.18), (0.37, 0.056), (0.61, 0.0021), (0.78, 6e-5)])
def test_a_kick_flips_the_mode_with_the_predicted_probability(alpha: float, share: float) -> None:
    modes, delta = TwoModes(6.0, 1.0), 1.0
    sigma = math.sqrt(1 - alpha**2)
    scale = math.sqrt(alpha**2 * modes.lam + sigma**2)
    cdf = [NormalDist(c * alpha * modes.m, scale).cdf for c in (1, -1)]
    law = sum(F(0.0) - F(-delta) for F in cdf) / 2
    edges = np.linspace(-2, 1, 601)  # every state that a kick of 1 could carry over the ridge
    z = (edges[1:] + edges[:-1]) / 2
    ends = modes.finish(np.concatenate([z, z + delta]), alpha, sigma)
    flipped = ends[: len(z)] * ends[len(z) :] < 0
    mass = np.array([sum(F(b) - F(a) for F in cdf) / 2 for a, b in itertools.pairwise(edges)])
    measured = float(mass[flipped].sum())
    assert measured == pytest.approx(law, rel=0.02)
    assert measured == pytest.approx(share, rel=0.1)


# the reverse SDE


def _rate_of_the_mean(lam: float, path: str):
    process = PATHS[path]

    def rate(t: float, y: np.ndarray) -> np.ndarray:
        a, s = process.level(t)
        return (process.f(t) + process.g2(t) / (a**2 * lam + s**2)) * y

    return process, rate


@pytest.mark.parametrize("path", ["vp", "cosine", "edm"])
@pytest.mark.parametrize("lam", [10.0, 1.0, 0.05])
def test_sde_gain_is_the_integral_of_the_reverse_drift(lam: float, path: str) -> None:
    """With the later noise fixed, a kick obeys dy/dt = (f + g^2/v) y: twice the score's share in the PF-ODE."""
    process, rate = _rate_of_the_mean(lam, path)
    start, end = 0.7 * process.noisy, 0.01 * process.noisy
    want = integrate(rate, np.ones(1), (start, end)).y[0, -1]
    got = sde_gain(torch.tensor(lam, dtype=torch.float64), frm=process.level(start), to=process.level(end))
    assert rel(got, want) < 1e-9


@pytest.mark.parametrize("steps", [20, 1000])
def test_sde_gain_is_what_the_ancestral_solver_does(steps: int) -> None:
    """Same seeds, so the same later noise; the DDPM posterior keeps the gain exact at any number of steps."""
    g = gaussian([10.0, 1.0, 0.1, 0.0], seed=5)
    levels = Levels.of(vp_linear(), steps)
    i = steps // 4
    x, kick = randn(1, 4, seed=6), 0.5
    starts = torch.cat([x, x + kick * g.U.T])  # one undisturbed, one kicked along each eigenvector
    final = solve(g, starts, levels, solver="ancestral", start=i, seeds=[3] * 5, progress=False).final
    moved = (final[1:] - final[:1]) @ g.U
    assert rel(moved, torch.diag(kick * sde_gain(g.lam, frm=list(levels)[i]))) < 1e-9


def test_ancestral_solver_keeps_the_marginal_variance() -> None:
    """Var(x) tends to v at every level: the fresh noise makes up for what the drift takes. 6,000 independent modes."""
    lam, D, n = 4.0, 6000, 400
    none = torch.zeros(D, 0, dtype=torch.float64)
    g, levels = Gaussian(torch.zeros(D).double(), none, none[0], rest=lam), Levels.of(cosine(), n)
    x = solve(g, randn(1, D, seed=7), levels, solver="ancestral", progress=False).x
    for i in (50, 200, 300, 400):
        v = float(variance(torch.tensor(lam), list(levels)[i]))
        assert float(x[i].square().mean()) == pytest.approx(v, rel=0.06)  # standard error 1.8 %, bias below 2 %


def test_sde_forgets_early_kicks_and_peaks_where_predicted() -> None:
    lam = torch.tensor(10.0, dtype=torch.float64)
    alpha = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    levels = [(a, math.sqrt(1 - a**2)) for a in alpha.tolist()]
    sde = torch.stack([sde_gain(lam, frm=level) for level in levels])
    ode = torch.stack([ode_gain(lam, frm=level) for level in levels])
    assert float(alpha[sde.argmax()]) == pytest.approx(1 / math.sqrt(10 - 1), abs=1.1e-3)
    assert float(sde[0]) < 0.011 and float(ode[0]) == pytest.approx(math.sqrt(10), rel=1e-4)
    assert float(sde_gain(lam, frm=(0.0, 1.0))) == 0.0
    assert bool((sde < ode).all())  # their ratio is the square root of the emerged share
    kick = (0.05, math.sqrt(1 - 0.05**2))
    assert float(sde_gain(lam, frm=kick)) == pytest.approx(0.49, abs=5e-3)
    assert float(ode_gain(lam, frm=kick)) == pytest.approx(3.13, abs=5e-3)
    for small in (0.5, 2.0):  # at lam <= 2 there is no peak inside: the gain only rises
        curve = torch.stack([sde_gain(torch.tensor(small, dtype=torch.float64), frm=level) for level in levels])
        assert bool((curve.diff() > 0).all())


def test_sde_gain_refuses_where_it_is_not_defined() -> None:
    with pytest.raises(ValueError, match="noise or variance where it starts"):
        sde_gain(torch.tensor(0.0), frm=(1.0, 0.0))
    with pytest.raises(ValueError, match="alpha > 0 where it ends"):
        sde_gain(torch.tensor(1.0), frm=(0.0, 1.0), to=(0.0, 1.0))
