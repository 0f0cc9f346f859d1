"""The closed form of the Gaussian flow against an adaptive integrator, and what follows from it mode by mode."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from partners import PATHS, agree, dense, flow_by_ode, gaussian, randn, rel

from painters import Gaussian, Levels
from painters.levels import CLEAN
from painters.schedules import cosine, scaled_linear, vp_linear
from painters.theory import emergence, ode_gain, sde_gain, variance

SPECTRA = {
    "full rank": gaussian([10.0, 1.0, 0.1, 0.01], seed=1),
    "rank 2 of 5": gaussian([4.0, 0.5], dim=5, seed=2),
    "low rank and rest": gaussian([9.0, 2.0], dim=5, rest=0.3, seed=3),
    "one dimension": gaussian([3.0], seed=4),
}


@pytest.mark.statement("thm-gaussian-flow")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", SPECTRA)
def test_flow_is_the_adaptive_integral_of_the_pf_ode(name: str, path: str) -> None:
    g, process = SPECTRA[name], PATHS[path]
    first = process.level(process.noisy)
    x = math.hypot(*first) * randn(3, g.dim, seed=5)
    times = [process.noisy, 0.5 * process.noisy, 0.1 * process.noisy, process.clean]
    for t, want in zip(times, flow_by_ode(g, x, process, times)):
        agree(g.flow(x, frm=first, to=process.level(t)), want, 1e-10)


@pytest.mark.statement("prop-gaussian-emergence", "prop-manifold-gaussian")
@pytest.mark.parametrize("path", PATHS)
def test_endpoint_estimate_stays_in_the_span_of_the_data(path: str) -> None:
    g, process = SPECTRA["rank 2 of 5"], PATHS[path]
    x = math.hypot(*process.level(process.noisy)) * randn(4, g.dim, seed=6)
    times = np.geomspace(process.noisy, process.clean, 9).tolist()
    off = torch.eye(g.dim, dtype=torch.float64) - g.U @ g.U.T
    for t, state in zip(times, flow_by_ode(g, x, process, times)):
        estimate = g(state, *process.level(t)) - g.mu
        agree((estimate @ off).norm() / estimate.norm(), 0.0, 1e-12)
        assert float((state @ off).norm()) > 1e-4  # while the state itself is off the span


def test_sde_gain_is_the_regression_of_the_cleaner_state_on_the_noisier() -> None:
    """With later noise held fixed the reverse chain moves by E[x_to | x_frm], here of the joint covariance of both."""
    to, frm = (0.9, 0.5), (0.3, 1.2)
    share = frm[0] / to[0]  # x_frm = share x_to + fresh noise
    fresh = math.sqrt(frm[1] ** 2 - (share * to[1]) ** 2)
    mixed = torch.tensor([[to[0], to[1], 0.0], [frm[0], share * to[1], fresh]], dtype=torch.float64)
    for lam in (0.0, 0.2, 1.0, 30.0):
        joint = mixed @ torch.tensor([lam, 1.0, 1.0], dtype=torch.float64).diag() @ mixed.T
        agree(sde_gain(torch.tensor(lam, dtype=torch.float64), frm=frm, to=to), joint[0, 1] / joint[1, 1], 1e-12)


def test_gains_are_refused_where_one_direction_of_many_has_nothing_to_flow_from() -> None:
    for gain in (ode_gain, sde_gain):
        with pytest.raises(ValueError, match="gain"):
            gain(torch.tensor([1.0, 0.0]), frm=CLEAN)


def test_trajectory_lists_the_flow_and_its_endpoint_estimates() -> None:
    g, levels = SPECTRA["low rank and rest"], Levels.of(cosine(), 12)
    x = randn(3, g.dim, seed=7)
    run = g.trajectory(x, levels)
    assert run.nfe == 0 and len(run.x) == 13 and len(run.x0) == 12
    for i, level in enumerate(levels):
        assert rel(run.x[i], g.flow(x, frm=(0.0, 1.0), to=level)) < 1e-12
        if i < 12:
            assert rel(run.x0[i], g(run.x[i], *level)) < 1e-14


@pytest.mark.statement("prop-gaussian-emergence")
def test_endpoint_estimate_has_its_closed_form() -> None:
    """xi = alpha lam / sqrt(v(t) v(T)) multiplies each coefficient of the starting state."""
    g, levels = SPECTRA["full rank"], Levels.of(vp_linear(), 20)
    x = randn(3, g.dim, seed=8)
    first = (float(levels.alpha[0]), float(levels.sigma[0]))
    c = g.project(x, alpha=first[0])
    for (alpha, sigma), estimate in zip(levels, g.trajectory(x, levels).x0):
        v_t, v_T = alpha**2 * g.lam + sigma**2, first[0] ** 2 * g.lam + first[1] ** 2
        agree(g.project(estimate), alpha * g.lam / (v_t * v_T).sqrt() * c, 1e-12)


@pytest.mark.statement("cor-gaussian-generator", "prop-manifold-gaussian")
def test_noise_to_image_is_the_square_root_of_the_covariance() -> None:
    g = SPECTRA["full rank"]
    root = g.flow(torch.eye(g.dim, dtype=torch.float64), frm=(0.0, 1.0)) - g.mu
    agree(root @ root.T, dense(g), 1e-12)
    agree(root, root.T, 1e-12)  # the symmetric root: the optimal-transport map


def test_emergence_is_a_sigmoid_in_log_snr() -> None:
    lam = torch.logspace(-3, 3, 7, dtype=torch.float64)
    for alpha, sigma in Levels.of(vp_linear(), 40)[:-1]:
        logsnr = math.log(alpha**2 / sigma**2)
        want = torch.sigmoid(logsnr + lam.log())
        assert rel(emergence(lam, (alpha, sigma)), want) < 1e-14
        xi = alpha * lam / variance(lam, (alpha, sigma)).sqrt()
        assert rel((xi / lam.sqrt()) ** 2, want) < 1e-14


@pytest.mark.statement("prop-gaussian-emergence")
def test_emergence_is_measured_from_the_denoiser() -> None:
    """Var(u_k . x0_hat) / lam_k under the noisy marginal, from the denoiser's own matrix, equals the sigmoid."""
    g = SPECTRA["full rank"]
    for level in ((0.02, 1.0), (0.6, 0.8), (0.99, 0.1), (1.0, 7.0), (0.3, 0.7)):
        basis = torch.eye(g.dim, dtype=torch.float64)
        J = (g(basis, *level) - g(torch.zeros_like(basis), *level)).T  # x0_hat = const + J x
        V = level[0] ** 2 * dense(g) + level[1] ** 2 * basis
        measured = (g.U.T @ J @ V @ J.T @ g.U).diagonal() / g.lam
        agree(measured, emergence(g.lam, level), 1e-12)


@pytest.mark.parametrize(
    ("lam", "index", "closed"),
    [(0.01, 26, 27), (0.1, 92, 93), (1.0, 258, 259), (10.0, 484, 486), (100.0, 674, 676), (1000.0, 825, 828)],
)
def test_half_emergence_times_of_the_ddpm_schedule(lam: float, index: int, closed: float) -> None:
    alpha, sigma = vp_linear().table()
    share = torch.stack([emergence(torch.tensor(lam), level) for level in zip(alpha.tolist(), sigma.tolist())])
    assert abs(int((share - 0.5).abs().argmin()) - index) <= 1
    b0, k = 1e-4, (0.02 - 1e-4) / 1000
    assert round((-b0 + math.sqrt(b0**2 + 2 * k * math.log1p(lam))) / k) == closed


def test_emergence_ends() -> None:
    lam = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    assert emergence(lam, (0.0, 1.0)).tolist() == [0.0, 0.0, 0.0]
    assert emergence(lam, CLEAN).tolist() == [0.0, 1.0, 1.0]


def _excited(lam: list[float], n: int = 400) -> torch.Tensor:
    """States (n + 1, D) of one exact trajectory on the cosine schedule, mean zero, each mode started at 1."""
    D = len(lam)
    g = Gaussian(torch.zeros(D).double(), torch.eye(D).double(), torch.tensor(lam).double())
    return g.trajectory(torch.ones(1, D).double(), Levels.of(cosine(), n)).x[:, 0]


def _off_plane(x: torch.Tensor) -> torch.Tensor:
    """Share of |x_t|^2 outside span{x_0, x_T}, by least squares."""
    plane = x[[0, -1]].T
    left = x.T - plane @ torch.linalg.lstsq(plane, x.T).solution
    return left.square().sum(0) / x.T.square().sum(0)


@pytest.mark.statement("prop-gaussian-rotation")
@pytest.mark.parametrize("lam", [[0.0, 3.0], [3.0, 0.2], [0.0, 0.0, 5.0, 5.0, 5.0]])
def test_two_valued_spectrum_gives_an_exact_plane(lam: list[float]) -> None:
    x = _excited(lam)
    agree(_off_plane(x).sqrt().max(), 0.0, 1e-12)
    assert int(torch.linalg.matrix_rank(x, rtol=1e-12)) == 2


@pytest.mark.statement("prop-gaussian-rotation")
@pytest.mark.parametrize(("lam", "most"), [([0.0, 3.0, 0.2], 4e-3), ([0.0, 0.01, 100.0], 4e-5)])
def test_three_valued_spectrum_leaves_the_plane(lam: list[float], most: float) -> None:
    x = _excited(lam)
    assert float(_off_plane(x).max()) == pytest.approx(most, rel=0.15)
    assert int(torch.linalg.matrix_rank(x, rtol=1e-9)) == 3


def _per_mode(lam: float, n: int = 600) -> tuple[torch.Tensor, ...]:
    """alpha, sigma, x_t of one mode started at 1 from pure noise."""
    g = Gaussian(torch.zeros(1).double(), torch.ones(1, 1).double(), torch.tensor([lam], dtype=torch.float64))
    levels = Levels.of(cosine(), n)
    run = g.trajectory(torch.ones(1, 1).double(), levels)
    return levels.alpha, levels.sigma, run.x[:, 0, 0]


@pytest.mark.statement("prop-gaussian-rotation")
@pytest.mark.parametrize("lam", [0.05, 1.0, 30.0])
def test_rotation_misses_a_mode_by_at_most_root_two_minus_one(lam: float) -> None:
    alpha, sigma, x = _per_mode(lam)
    miss = (x - alpha * x[-1] - sigma * x[0]).abs() / x
    agree(miss, (alpha * math.sqrt(lam) + sigma) / (alpha**2 * lam + sigma**2).sqrt() - 1, 1e-9)
    worst = int(miss.argmax())
    assert float(miss.max()) == pytest.approx(math.sqrt(2) - 1, abs=1e-5)
    assert float(alpha[worst] ** 2 * lam / sigma[worst] ** 2) == pytest.approx(1, rel=2e-2)


@pytest.mark.statement("prop-gaussian-rotation")
@pytest.mark.parametrize("lam", [0.05, 1.0, 30.0])
def test_evolving_target_misses_a_mode_by_at_most_a_quarter(lam: float) -> None:
    alpha, sigma, x = _per_mode(lam)
    g = Gaussian(torch.zeros(1).double(), torch.ones(1, 1).double(), torch.tensor([lam], dtype=torch.float64))
    estimate = g(x[:, None], alpha[:, None], sigma[:, None])[:, 0]
    miss = (x - alpha * estimate - sigma * x[0]).abs() / x
    q = sigma / x
    agree(miss, (q * (1 - q)).abs(), 1e-9)
    worst = int(miss.argmax())
    assert float(miss.max()) == pytest.approx(0.25, abs=1e-5)
    assert float(alpha[worst] ** 2 * lam / sigma[worst] ** 2) == pytest.approx(3, rel=2e-2)


@pytest.mark.statement("prop-gaussian-gain", "prop-manifold-gaussian")
def test_a_kick_grows_by_the_gain() -> None:
    g = gaussian([50.0, 1.0, 0.02, 0.0], seed=9)
    x, delta = randn(2, 4, seed=10), 0.37
    for level in Levels.of(vp_linear(), 10)[:-1]:
        v = level[0] ** 2 * g.lam + level[1] ** 2
        for k in range(4):
            moved = g.flow(x + delta * g.U[:, k], frm=level) - g.flow(x, frm=level)
            agree(moved.norm(dim=1) / delta, (g.lam[k] / v[k]).sqrt().expand(2), 1e-9)
        assert rel(g.gain(frm=level), (g.lam / v).sqrt()) < 1e-14


@pytest.mark.statement("prop-gaussian-gain")
def test_a_kick_in_standard_deviations_acts_the_same_at_every_time() -> None:
    g = gaussian([50.0, 1.0, 0.02], seed=11)
    x, phi = randn(2, 3, seed=12), 0.5
    for level in Levels.of(vp_linear(), 10)[:-1]:
        for k, lam in enumerate(g.lam.tolist()):
            kick = phi * float(variance(g.lam[k], level).sqrt()) * g.U[:, k]
            moved = g.flow(x + kick, frm=level) - g.flow(x, frm=level)
            agree(moved.norm(dim=1), torch.full((2,), phi * math.sqrt(lam), dtype=torch.float64), 1e-9)


@pytest.mark.parametrize(("lam", "share"), [(10.0, 0.960), (100.0, 0.684), (1000.0, 0.177)])
def test_unit_noise_on_the_stable_diffusion_schedule_loses_variance(lam: float, share: float) -> None:
    alpha, sigma = scaled_linear().table()
    last = (float(alpha[-1]), float(sigma[-1]))
    assert last[0] == pytest.approx(0.0683, abs=5e-5)
    g = Gaussian(torch.zeros(1).double(), torch.ones(1, 1).double(), torch.tensor([lam]).double())
    variance_out = float(g.flow(torch.ones(1, 1).double(), frm=last)) ** 2
    assert variance_out / lam == pytest.approx(share, abs=6e-4)


def test_ddpm_schedule_loses_little() -> None:
    alpha, sigma = vp_linear().table()
    assert float(alpha[999] ** 2) == pytest.approx(4.036e-5, rel=1e-3)
    assert float(alpha[950] ** 2) == pytest.approx(1.060e-4, rel=1e-3)
    for index, share in ((999, 0.991), (950, 0.977)):
        gain = ode_gain(torch.tensor(220.0), frm=(float(alpha[index]), float(sigma[index])))
        assert float(gain**2 / 220) == pytest.approx(share, abs=6e-4)


def test_null_direction_has_no_past() -> None:
    g = gaussian([2.0], dim=2, mean=0.0, seed=13)
    on = 0.7 * g.U[:, 0][None]
    assert rel(g.flow(on, frm=CLEAN, to=(0.6, 0.8)), on * math.sqrt((0.36 * 2 + 0.64) / 2)) < 1e-12
    off = on + torch.stack([-g.U[1, 0], g.U[0, 0]])[None]
    with pytest.raises(ValueError, match="no past to flow to"):
        g.flow(off, frm=CLEAN, to=(0.6, 0.8))
    with pytest.raises(ValueError, match="not defined"):
        ode_gain(torch.tensor([1.0, 0.0]), frm=CLEAN, to=(0.6, 0.8))
