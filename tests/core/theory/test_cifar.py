"""Gaussian facts about CIFAR-10's second moments, and the two peers' bugs that they expose.

Trajectories are exact flows on the DDPM schedule with 51 steps and leading spacing. Shapes of trajectories (PCA, plane,
rotation, angle) are in ``tests/experiments/test_geometry.py``.
"""

from __future__ import annotations

import math

import pytest
import torch
from partners import rel

from atelier.evidence.shape import rotation_error
from painters import Gaussian, Levels, Trajectory, noise, solve
from painters.schedules import vp_linear
from painters.theory import ode_gain

SEEDS = range(8)


@pytest.fixture(scope="module")
def levels() -> Levels:
    return Levels.of(vp_linear(), 51, spacing="leading")


@pytest.fixture(scope="module")
def run(cifar: Gaussian, levels: Levels) -> Trajectory:
    return cifar.trajectory(noise(SEEDS, (cifar.dim,), dtype=torch.float64), levels)


def test_spectrum(cifar: Gaussian) -> None:
    lam = cifar.lam
    assert float(lam.sum()) == pytest.approx(754.6, abs=0.1)
    assert float(cifar.mu.square().sum()) == pytest.approx(24.7, abs=0.05)
    assert [round(v, 1) for v in lam[:10].tolist()] == [220.2, 85.4, 50.8, 27.9, 27.3, 21.3, 20.6, 16.5, 15.6, 10.9]
    assert int((lam > 1).sum()) == 66 and int((lam > 0.1).sum()) == 311
    assert float(lam.sum() ** 2 / lam.square().sum()) == pytest.approx(9.2, abs=0.05)
    share = lam.cumsum(0) / lam.sum()
    assert [int((share < s).sum()) + 1 for s in (0.5, 0.8, 0.9, 0.95, 0.99)] == [4, 32, 93, 197, 537]


@pytest.mark.parametrize(
    ("sigma", "error"),
    [(0.1, 7.9), (0.5, 63.0), (1.0, 121.0), (2.0, 207.0), (5.0, 368.0), (10.0, 515.0), (20.0, 647.0), (80.0, 745.0)],
)
def test_denoising_error(cifar: Gaussian, sigma: float, error: float) -> None:
    assert cifar.mmse((1.0, sigma)) == pytest.approx(error, rel=8e-3)


def test_denoising_error_is_what_the_denoiser_makes(cifar: Gaussian) -> None:
    x0 = cifar.sample(noise(range(32), (cifar.dim,), dtype=torch.float64))
    eps = noise(range(100, 132), (cifar.dim,), dtype=torch.float64)
    for level in ((1.0, 1.0), (0.6, 0.8)):
        error = (cifar(level[0] * x0 + level[1] * eps, *level) - x0).square().sum(1).mean()
        assert float(error) == pytest.approx(cifar.mmse(level), rel=0.05)


@pytest.mark.parametrize(("sigma", "residual"), [(1.0, 0.215), (2.0, 0.0453), (5.0, 0.00506), (10.0, 7.8e-4)])
def test_constant_mean_model_explains_most_of_the_score(cifar: Gaussian, sigma: float, residual: float) -> None:
    """E|s - s_mean|^2 / E|s|^2 under the noisy marginal, from the scores' own matrices (diagonal here)."""
    v = cifar.lam + sigma**2
    slope = cifar.score(cifar.mu + torch.ones(1, cifar.dim, dtype=torch.float64), 1.0, sigma)[0]
    flat = Gaussian(cifar.mu, cifar.U[:, :0], cifar.lam[:0])
    flat_slope = flat.score(cifar.mu + torch.ones(1, cifar.dim, dtype=torch.float64), 1.0, sigma)[0]
    measured = float(((slope - flat_slope) ** 2 * v).sum() / (slope**2 * v).sum())
    assert measured == pytest.approx(residual, rel=8e-3)


def test_ddim_with_51_steps_keeps_93_percent_of_the_energy(cifar: Gaussian, levels: Levels, run: Trajectory) -> None:
    ddim = solve(cifar, run.x[0], levels, solver="ddim", progress=False)
    assert float(ddim.final.square().sum() / run.final.square().sum()) == pytest.approx(0.93, abs=0.006)


def test_final_energy_is_a_quarter_of_the_noise(run: Trajectory) -> None:
    ratio = run.final.square().sum(1) / run.x[0].square().sum(1)
    assert float(ratio.mean()) == pytest.approx(0.25, abs=0.04)


def test_angle_between_noise_and_image(cifar: Gaussian, run: Trajectory) -> None:
    energy = cifar.dim * (cifar.lam.sum() + cifar.mu.square().sum())
    expected = math.degrees(math.acos(float(cifar.lam.sqrt().sum() / energy.sqrt())))
    assert expected == pytest.approx(74.5, abs=0.7)
    measured = torch.rad2deg(torch.acos(torch.cosine_similarity(run.x[0], run.final, dim=1))).mean()
    assert float(measured) == pytest.approx(expected, abs=1.5)


def test_end_is_forecast_little_by_little(cifar: Gaussian, levels: Levels) -> None:
    """Share of |x_0|^2 outside span{x_T, x_t}, by QR: what the first i steps do not yet tell."""
    x_T = noise(range(48), (cifar.dim,), dtype=torch.float64)
    first, *_ = levels
    x_0 = cifar.flow(x_T, frm=first)
    for step, want in {10: 0.45, 20: 0.22, 30: 0.11, 40: 0.05}.items():
        state = cifar.flow(x_T, frm=first, to=(float(levels.alpha[step]), float(levels.sigma[step])))
        basis = torch.linalg.qr(torch.stack([x_T, state], dim=2))[0]
        seen = (basis.transpose(1, 2) @ x_0[:, :, None]).square().sum((1, 2))
        assert float((1 - seen / x_0.square().sum(1)).mean()) == pytest.approx(want, abs=0.04)


def test_first_the_image_is_added_then_the_noise_removed(run: Trajectory) -> None:
    change = run.x.diff(dim=0)[[0, 10, 25, 40]]
    noise_like = torch.cosine_similarity(change, run.x[:1], dim=2).mean(1)
    image_like = torch.cosine_similarity(change, run.x[-1:], dim=2).mean(1)
    assert noise_like.tolist() == pytest.approx([-0.10, -0.25, -0.61, -0.92], abs=0.03)
    assert image_like.tolist() == pytest.approx([0.36, 0.68, 0.54, 0.12], abs=0.04)


def test_variance_of_the_image_in_the_endpoint_estimate(cifar: Gaussian, run: Trajectory) -> None:
    """Share of the final variance (expected over the noise) that x0_hat holds: tr Cov(x0_hat) / tr Cov(x_0)."""
    want = {10: 0.16, 20: 0.51, 25: 0.64, 30: 0.74, 40: 0.89}
    final = (run.final - cifar.mu).square().sum()
    for step, share in want.items():
        assert float((run.x0[step] - cifar.mu).square().sum() / final) == pytest.approx(share, abs=0.05)


def test_late_random_kicks_change_more_energy_and_early_ones_more_content(cifar: Gaussian) -> None:
    """rms |dx_0| of a random unit kick has its minimum inside; a kick along PC 1 only ever loses weight."""
    alpha, sigma = vp_linear().table()

    def rms(index: int) -> float:
        gain = cifar.gain(frm=(float(alpha[index]), float(sigma[index])))
        return float(gain.square().mean().sqrt())

    for t, want in {950: 0.494, 760: 0.456, 570: 0.355, 380: 0.287, 190: 0.297, 95: 0.366, 0: 0.747}.items():
        assert rms(t) == pytest.approx(want, abs=2e-3)
    lowest = min(range(0, 951, 10), key=rms)
    assert 280 <= lowest <= 310 and rms(lowest) == pytest.approx(0.279, abs=1e-3)
    first = [float(ode_gain(cifar.lam[0], frm=(float(alpha[t]), float(sigma[t])))) for t in (950, 570, 380, 190)]
    assert first == pytest.approx([14.7, 4.9, 2.1, 1.2], rel=0.03)


def _literal(x: torch.Tensor, a: torch.Tensor, s: torch.Tensor, x_T: torch.Tensor, x_0: torch.Tensor) -> float:
    """Mean over time and samples of |x_i - (a_i x_0 + s_i x_T)|^2 / |x_i|^2, for the pairing given."""
    miss = x - a[:, None, None] * x_0 - s[:, None, None] * x_T
    return float((miss.square().sum(2) / x.square().sum(2)).mean())


def test_rotation_error_is_its_closed_form(cifar: Gaussian, levels: Levels, run: Trajectory) -> None:
    """Mode by mode, with y = x_T - alpha_T mu: the residual is (psi_t - alpha psi_0 - sigma) y - sigma alpha_T mu."""
    first = (float(levels.alpha[0]), float(levels.sigma[0]))
    y = run.x[0] - first[0] * cifar.mu
    v_T = first[0] ** 2 * cifar.lam + first[1] ** 2
    want = []
    for alpha, sigma in levels:
        psi = ((alpha**2 * cifar.lam + sigma**2) / v_T).sqrt()
        residual = (psi - alpha * (cifar.lam / v_T).sqrt() - sigma) * y - sigma * first[0] * cifar.mu
        want.append(residual.square().sum(1) / (alpha * cifar.mu + psi * y).square().sum(1))
    assert rel(rotation_error(run), torch.stack(want)) < 1e-9


def test_rotation_error_needs_the_root_of_alphas_cumprod(levels: Levels, run: Trajectory) -> None:
    """'Smaller' is no evidence: with alphas_cumprod for its root the formula looks twice as good, and is wrong."""
    a, s, ends = levels.alpha, levels.sigma, (run.x[0], run.x[-1])
    right = float(rotation_error(run).mean())
    assert right == pytest.approx(0.01035, abs=5e-4)
    assert right == pytest.approx(_literal(run.x, a, s, *ends), rel=1e-9)
    squared = _literal(run.x, a**2, s, *ends)
    assert squared == pytest.approx(0.0057, abs=4e-4) and squared < right
    both = _literal(run.x[1:], a[:-1] ** 2, s[:-1], *ends)  # and entry i of the schedule paired with state i + 1
    assert both == pytest.approx(0.0116, abs=5e-4)


def test_pairing_states_with_the_wrong_level_costs_8e_4(cifar: Gaussian, levels: Levels, run: Trajectory) -> None:
    """An exactly Gaussian model, compared one step late, seems wrong by this much per pixel, in [-1, 1] units."""
    theory = torch.stack([cifar.flow(run.x[0], frm=next(iter(levels)), to=level) for level in list(levels)[:-1:5]])
    assert rel(theory, run.x[:-1:5]) < 1e-12
    late = (run.x[1:] - run.x[:-1]).square().mean((1, 2))
    assert float(late.mean()) == pytest.approx(8e-4, abs=5e-5)
    assert float(late.max()) == pytest.approx(2.8e-3, abs=2e-4)
