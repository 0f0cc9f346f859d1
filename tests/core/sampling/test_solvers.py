"""The solvers on the exact Gaussian: laws, orders, coordinates, inversion."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from partners import agree, gaussian, randn, rel

from painters import Gaussian, Levels, solve
from painters.levels import Spacing
from painters.sampling import SOLVERS
from painters.schedules import cosine, edm, flow, vp_linear


def modes(lam: list[float], mean: float = 0.0) -> Gaussian:
    """A Gaussian whose eigenvectors are the axes."""
    D = len(lam)
    return Gaussian(torch.full((D,), mean).double(), torch.eye(D).double(), torch.tensor(lam).double())


def amplitude(lam: list[float], levels: Levels) -> torch.Tensor:
    """What DDIM makes of a deviation of one standard deviation, divided by what the ODE makes of it."""
    g, x = modes(lam), torch.ones(1, len(lam), dtype=torch.float64)
    ddim = solve(g, x, levels, solver="ddim", progress=False).final
    return (ddim / g.flow(x, frm=next(iter(levels))))[0]


@pytest.mark.statement("prop-steps-cosine")
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("n", [1, 2, 10, 51, 100])
def test_ddim_loses_a_cosine_at_every_step(spacing: Spacing, n: int) -> None:
    lam = [0.01, 1.0, 10.0, 100.0, 1000.0]
    levels = Levels.of(vp_linear(), n, spacing=spacing)
    theta = torch.atan2(levels.alpha[:, None] * torch.tensor(lam).double().sqrt(), levels.sigma[:, None])
    agree(amplitude(lam, levels), theta.diff(dim=0).cos().prod(0), 1e-10)


@pytest.mark.parametrize(
    ("n", "spacing", "lam", "share"),
    [
        (51, "leading", 100.0, 0.968),
        (10, "leading", 100.0, 0.846),
        (10, "trailing", 100.0, 0.842),
        (10, "leading", 1.0, 0.832),
        (50, "leading", 10.0, 0.971),
        (100, "leading", 1000.0, 0.981),
        (10, "leading", 0.01, 0.368),
        (50, "leading", 0.01, 0.784),
    ],
)
def test_ddim_amplitudes(n: int, spacing: Spacing, lam: float, share: float) -> None:
    assert float(amplitude([lam], Levels.of(vp_linear(), n, spacing=spacing))) == pytest.approx(share, abs=6e-4)


@pytest.mark.statement("prop-steps-cosine")
def test_ddim_on_uniform_angles() -> None:
    """Cosine schedule, lam = 1: N equal angles lose cos(pi/2N)^N, about exp(-pi^2/8N)."""
    agree(float(amplitude([1.0], Levels.of(cosine(), 50))), math.cos(math.pi / 100) ** 50, 1e-9)
    assert math.cos(math.pi / 100) ** 50 == pytest.approx(0.9756, abs=1e-4)


# order of accuracy

BETWEEN = edm(sigma_min=0.3, sigma_max=10.0)


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("heun", 2), ("dpmpp2m", 2)])
@pytest.mark.parametrize("coordinates", ["ve", "vp", "flow"])
def test_order_between_two_noisy_levels(solver: str, order: int, coordinates) -> None:
    """The error against the exact flow falls like N^-order; the last, clean level is left out."""
    g = gaussian([9.0, 1.0, 0.05], seed=1)
    errors, counts = [], (40, 80, 160)
    for n in counts:
        levels = Levels.of(BETWEEN, n).to(coordinates)
        first, *_, last, _ = levels
        x = g.sample(randn(6, 3, seed=2), level=first)
        run = solve(g, x, levels, solver=solver, stop=n - 1, progress=False)
        errors.append(rel(run.final, g.flow(x, frm=first, to=last)))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.1)
    assert slopes[-2] == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("spacing", ["linspace", "logsnr"])
def test_heun_on_the_edm_grid_to_the_clean_end(spacing: Spacing) -> None:
    """The published run, sigma 80 to 0.002 to 0: slope 2 until the last Euler step shows, 35 calls for 18 steps."""
    g = gaussian([9.0, 1.0, 0.05], seed=1)
    x = 80 * randn(6, 3, seed=2)
    errors = []
    for n in (18, 36, 72):
        run = solve(g, x, Levels.of(edm(), n, spacing=spacing), progress=False)
        assert run.nfe == 2 * n - 1
        errors.append(rel(run.final, g.flow(x, frm=(1.0, 80.0))))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.25)
    assert errors[0] < 0.1


@pytest.mark.parametrize("solver", ["ddim", "heun", "dpmpp2m"])
@pytest.mark.parametrize("schedule", [vp_linear(), cosine(), edm(), flow(), flow(shift=3.0)], ids=lambda s: s.name)
def test_many_steps_reach_the_exact_flow(solver: str, schedule) -> None:
    g, levels = gaussian([4.0, 1.0, 0.1], seed=3), Levels.of(schedule, 400)
    x = levels.start(randn(4, 3, seed=4))
    run = solve(g, x, levels, solver=solver, progress=False)
    exact = g.trajectory(x, levels)
    assert rel(run.final, exact.final) < (1e-2 if solver == "ddim" else 2e-3)
    assert rel(run.x0, exact.x0) < 1e-2


# coordinates


@pytest.mark.statement("prop-reverse-rescale")
@pytest.mark.parametrize("solver", SOLVERS)
def test_vp_ve_and_flow_coordinates_make_one_run(solver: str) -> None:
    g, levels = gaussian([4.0, 1.0, 0.1, 0.0], seed=5), Levels.of(vp_linear(), 15)
    noise = randn(3, 4, seed=6)
    vp = solve(g, levels.start(noise), levels, solver=solver, progress=False)
    for coordinates in ("ve", "flow"):
        moved = levels.to(coordinates)
        other = solve(g, noise * float(moved.alpha[0] / levels.alpha[0]), moved, solver=solver, progress=False)
        agree(other.final, vp.final, 1e-10)
        agree(other.x0, vp.x0, 1e-10)
        assert rel(other.x, vp.to(coordinates).x) < 1e-10


@pytest.mark.parametrize("solver", SOLVERS)
def test_alpha_zero_is_a_legal_start(solver: str) -> None:
    """The first endpoint estimate from pure noise is the mean; cos(pi/2) is not 0, and counts as pure noise too."""
    g = gaussian([4.0, 0.5], seed=7)
    x = randn(3, 2, seed=8)
    for schedule in (cosine(), flow()):
        levels = Levels.of(schedule, 30)
        assert levels[0] == (0.0, 1.0)
        run = solve(g, x, levels, solver=solver, progress=False)
        assert rel(run.x0[0], g.mu.expand(3, 2)) < 1e-12
        nearly = Levels(levels.alpha + (levels.alpha == 0) * math.cos(math.pi / 2), levels.sigma)
        assert 0 < float(nearly.alpha[0]) < 1e-16
        assert rel(solve(g, x, nearly, solver=solver, progress=False).final, run.final) < 1e-6


# inversion


@pytest.mark.parametrize(("solver", "limit"), [("ddim", 2e-2), ("heun", 1e-3)])
@pytest.mark.parametrize("coordinates", ["vp", "ve"])
def test_inversion_round_trip(solver: str, limit: float, coordinates) -> None:
    """From noise to an image and back through the reversed levels; both legs are close to the exact flow."""
    g = gaussian([9.0, 1.0, 0.2], seed=9)
    schedule = edm(sigma_min=0.02, sigma_max=50.0)
    levels = Levels.of(schedule, 400, spacing="logsnr").to(coordinates)
    up = levels[::-1]
    assert isinstance(up, Levels) and up.steps == 400
    image = g.sample(randn(4, 3, seed=10))
    noise = solve(g, image, up, solver=solver, progress=False)
    assert rel(noise.final, g.flow(image, frm=(1.0, 0.0), to=levels[0])) < limit
    back = solve(g, noise.final, levels, solver=solver, progress=False)
    assert rel(back.final, image) < limit
    assert bool(torch.isfinite(noise.eps).all()) and float(noise.eps[0].abs().max()) == 0


def test_heun_stays_ddim_where_its_slope_is_not_formed() -> None:
    """Into and out of pure noise, and into and out of a clean level; between them it is the trapezoidal rule."""
    g, x = gaussian([4.0, 0.5], seed=7), randn(3, 2, seed=8)
    small, clean, noisy, pure, middle = (1e-7, 0.5), (0.8, 0.0), (0.6, 0.8), (0.0, 1.0), (1.0, 2.5)
    for here, there in itertools.permutations((small, clean, noisy, pure, middle), 2):
        if here in (small, pure) and there in (small, pure):
            continue
        levels = Levels(*torch.tensor([here, there], dtype=torch.float64).T)
        euler, heun = (solve(g, x, levels, solver=s, progress=False).final for s in ("ddim", "heun"))
        if {here, there} == {noisy, middle}:
            slopes = [(s - g(s, *level) * level[0]) / level[1] for s, level in ((x, here), (euler, there))]
            change = (there[1] / there[0] - here[1] / here[0]) / 2
            agree(heun, there[0] * (x / here[0] + change * (slopes[0] + slopes[1])), 1e-12)
        else:
            assert bool(heun.isfinite().all()) and torch.equal(heun, euler), (here, there)


# the stochastic solver


def test_ancestral_without_noise_is_ddim() -> None:
    g, levels = gaussian([4.0, 0.5], seed=11), Levels.of(vp_linear(), 12)
    x = randn(3, 2, seed=12)
    quiet = solve(g, x, levels, solver="ancestral", eta=0.0, progress=False)
    assert rel(quiet.x, solve(g, x, levels, solver="ddim", progress=False).x) < 1e-12
    assert quiet.meta["solver"] == "ancestral(eta=0.0)"
    half = solve(g, x, levels, solver="ancestral", eta=0.5, progress=False)
    full = solve(g, x, levels, solver="ancestral", progress=False)
    assert rel(half.final, quiet.final) > 0.01 and rel(full.final, half.final) > 0.01


@pytest.mark.statement("prop-steps-ancestral")
def test_ancestral_step_is_the_ddpm_posterior() -> None:
    """One step has the mean and variance of q(x_s | x_t, x0_hat), from Bayes' rule on the joint Gaussian."""
    g = Gaussian(torch.zeros(5000).double(), torch.zeros(5000, 0).double(), torch.zeros(0).double(), rest=1.0)
    (a, s), (b, r) = (0.3, math.sqrt(1 - 0.09)), (0.5, math.sqrt(0.75))
    levels = Levels(torch.tensor([a, b]), torch.tensor([s, r]))
    x = torch.full((1, 5000), 0.8, dtype=torch.float64)
    x0 = float(g(x, a, s)[0, 0])
    # prior of x_s given x0: N(b x0, r^2); x_t = (a/b) x_s + noise of variance s^2 - (a/b)^2 r^2
    q = s**2 - (a / b) ** 2 * r**2
    precision = 1 / r**2 + (a / b) ** 2 / q
    mean = (b * x0 / r**2 + (a / b) * 0.8 / q) / precision
    out = solve(g, x, levels, solver="ancestral", progress=False).final
    assert float(out.mean()) == pytest.approx(mean, abs=5 / math.sqrt(5000 * precision))
    assert float(out.var()) == pytest.approx(1 / precision, rel=0.08)
    out = solve(g, x.expand(1, 5000), levels, solver="ancestral", eta=0.0, progress=False).final
    assert float(out.std()) < 1e-12


def test_ancestral_refusals() -> None:
    g, levels = gaussian([1.0], seed=13), Levels.of(vp_linear(), 5)
    with pytest.raises(ValueError, match="noisy to clean only"):
        solve(g, randn(1, 1), levels[::-1], solver="ancestral", progress=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eta lies between"):
        solve(g, randn(1, 1), levels, solver="ancestral", eta=1.5, progress=False)
