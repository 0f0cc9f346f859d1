"""Statements of the book against partners that share nothing with their proofs; those that no other test holds.

Quadrature, adaptive integrators, regressions, autograd. What a test compares stands in the list of tools/trust.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from partners import PATHS, Path, agree, dense, gaussian, integrate, matched, randn, rel, target
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from atelier import variations
from atelier.gans import pullback
from atelier.landscape.farfield import FarField
from atelier.landscape.jacobian import local_variance
from atelier.learning.guidance import guided_gain, guided_offset
from atelier.variations import asking
from painters import Gaussian, Levels, Mixture, PointCloud, solve
from painters.denoiser import endpoint, guided
from painters.levels import CLEAN, NOISE, Level
from painters.linalg import jacobian
from painters.sampling.solvers import ddim, heun
from painters.theory import emergence

LEVELS = [(0.2, 0.98), (0.8, 0.6), (1.0, 0.3), (1.0, 4.0)]
F64 = torch.float64


def line(*parts: tuple[float, float, float]) -> Mixture:
    """A mixture on a line of (weight, mean, variance)."""
    one = torch.ones(1, 1, dtype=F64)
    made = tuple(Gaussian(torch.tensor([m], dtype=F64), one, torch.tensor([v], dtype=F64)) for _, m, v in parts)
    return Mixture(torch.tensor([w for w, _, _ in parts], dtype=F64), made)


WORLD = line((0.5, -1.0, 0.1), (0.3, 0.6, 0.3), (0.2, 2.5, 0.05))
"""Three bumps of different width and weight: far from a Gaussian, and from symmetric."""


def modes(dim: int = 3) -> Mixture:
    """Three modes in a few dimensions, turned against each other."""
    parts = tuple(gaussian([2.0, 0.6, 0.1][:dim], dim=dim, seed=i, mean=1.5) for i in range(3))
    return Mixture(torch.tensor([0.5, 0.3, 0.2], dtype=F64), parts)


def grid(width: float, n: int) -> tuple[Tensor, float]:
    """Points (n, 1) on a line and their distance: sums over them are exact for functions that fade at both ends."""
    points = torch.linspace(-width, width, n, dtype=F64)[:, None]
    return points, float(points[1] - points[0])


def density(x: Tensor, level: Level) -> Tensor:
    """The density of noisy states of WORLD at x (n, 1), from its three bumps."""
    spread = [level[0] ** 2 * float(g.lam) + level[1] ** 2 for g in WORLD.components]
    bumps = [norm.pdf(x[:, 0], level[0] * float(g.mu), v**0.5) for g, v in zip(WORLD.components, spread)]
    return (WORLD.weights[:, None] * torch.from_numpy(np.stack(bumps))).sum(0)


def distribution(x: np.ndarray, level: Level) -> np.ndarray:
    """The distribution function of noisy states of WORLD."""
    spread = [level[0] ** 2 * float(g.lam) + level[1] ** 2 for g in WORLD.components]
    steps = [norm.cdf(x, level[0] * float(g.mu), v**0.5) for g, v in zip(WORLD.components, spread)]
    return (WORLD.weights[:, None].numpy() * np.stack(steps)).sum(0)


def rates(path: Path, t: float) -> tuple[float, float]:
    """The time derivatives of alpha and sigma, from the forward process dx = f x dt + g dW."""
    alpha, sigma = path.level(t)
    return path.f(t) * alpha, path.f(t) * sigma + path.g2(t) / (2 * sigma)


def velocity(denoise: Callable[..., Tensor], path: Path, t: float, x: Tensor) -> Tensor:
    """alpha' x0_hat + sigma' eps_hat."""
    alpha, sigma = path.level(t)
    da, ds = rates(path, t)
    x0 = denoise(x, alpha, sigma)
    return da * x0 + ds * (x - alpha * x0) / sigma


def follow(rate: Callable[[float, Tensor], Tensor], x: Tensor, span: tuple[float, float], **options: float) -> Tensor:
    """The adaptive integral of dx/dt = rate(t, x)."""
    options = {"rtol": 1e-10, "atol": 1e-10} | options
    found = integrate(
        lambda t, y: rate(t, torch.from_numpy(y).reshape(x.shape)).numpy().ravel(), x.numpy().ravel(), span, **options
    )
    return torch.from_numpy(found.y[:, -1]).reshape(x.shape)


def pair(here: Level, there: Level) -> Levels:
    """The two levels of one step."""
    return Levels(*(torch.tensor(v, dtype=F64) for v in zip(here, there)))


# Chapter 1


@pytest.mark.statement("prop-derivation-regression")
@pytest.mark.parametrize("level", LEVELS)
def test_the_error_of_any_function_is_the_least_error_and_its_distance_from_the_conditional_mean(level):
    (x0, _), (x, _) = grid(5, 801), grid(5 * level[0] + 8 * level[1], 1001)
    joint = density(x0, CLEAN) * torch.exp(-((x - level[0] * x0.T) ** 2) / (2 * level[1] ** 2))
    joint /= joint.sum()

    def error(f: Tensor) -> Tensor:
        return (joint * (x0.T - f) ** 2).sum()

    best = WORLD(x, *level)
    for f in (torch.tanh(x), 0 * x, matched(WORLD)(x, *level)):
        apart = (joint.sum(1, keepdim=True) * (best - f) ** 2).sum()
        agree(error(best) + apart, error(f), 1e-9)
        assert error(best) < error(f)


@pytest.mark.statement("prop-gaussian-wiener")
@pytest.mark.parametrize("level", LEVELS)
def test_of_all_affine_functions_the_gaussians_denoiser_has_the_least_error(level):
    """Weighted least squares of x_0 on (1, x), by the moments of both on a grid; the data are no Gaussian."""
    (x0, _), (x, _) = grid(5, 801), grid(5 * level[0] + 8 * level[1], 1001)
    joint = density(x0, CLEAN) * torch.exp(-((x - level[0] * x0.T) ** 2) / (2 * level[1] ** 2))
    joint /= joint.sum()
    one, g = torch.ones_like(x), matched(WORLD)
    basis = torch.cat([one, x], 1)
    normal = basis.T @ (joint.sum(1, keepdim=True) * basis)
    fitted = basis @ torch.linalg.solve(normal, basis.T @ (joint @ x0))
    agree(g(x, *level), fitted, 1e-9)
    agree(g.mmse(level), float((joint * (x0.T - fitted) ** 2).sum()), 1e-9)


@pytest.mark.statement("thm-derivation-pfode")
@pytest.mark.parametrize("path", PATHS)
def test_the_averaged_velocities_carry_the_density(path):
    """On a line a flow carries the density if and only if it keeps the distribution function along every path."""
    process = PATHS[path]
    first, last = process.noisy, 0.02 * process.noisy
    x = math.hypot(*process.level(first)) * torch.linspace(-2, 2, 9, dtype=F64)[:, None]
    end = follow(lambda t, x: velocity(WORLD, process, t, x), x, (first, last))
    before = distribution(x[:, 0].numpy(), process.level(first))
    agree(distribution(end[:, 0].numpy(), process.level(last)), before, 1e-8)


@pytest.mark.statement("thm-derivation-ratio")
@pytest.mark.parametrize("path", PATHS)
def test_every_schedule_solves_one_equation_in_the_noise_to_signal_ratio(path):
    process, m = PATHS[path], modes()
    first, last = process.noisy, 0.05 * process.noisy
    (a, s), (b, r) = process.level(first), process.level(last)
    x = math.hypot(a, s) * randn(3, 3, seed=1)
    in_time = follow(lambda t, x: velocity(m, process, t, x), x, (first, last))
    # in ln r: dz/dln r = z - x0_hat
    span = (math.log(s / a), math.log(r / b))
    in_ratio = follow(lambda u, z: z - m(z, 1.0, math.exp(u)), x / a, span)
    agree(b * in_ratio, in_time, 1e-8)
    step = solve(m, x, pair((a, s), (b, r)), solver=ddim, progress=False).final
    agree(step, b * (x / a + (r / b - s / a) * (x - a * m(x, a, s)) / s), 1e-11)


@pytest.mark.statement("prop-derivation-amplification")
@pytest.mark.parametrize("angle", [0.1, 0.8, 1.5])
def test_an_error_of_the_output_moves_the_estimate_by_its_factor(angle):
    a, s = (torch.tensor(f(angle), dtype=F64) for f in (math.cos, math.sin))
    x0, eps, delta = randn(3, 4, seed=1), randn(3, 4, seed=2), randn(3, 4, seed=3)
    x = a * x0 + s * eps
    for prediction, factor in (("epsilon", s / a), ("v_prediction", s), ("sample", torch.ones(()))):
        output = target(x0, eps, a, s, prediction=prediction)
        right, wrong = (endpoint(x, o, a, s, prediction=prediction) for o in (output, output + delta))
        agree((wrong - right).norm() / delta.norm(), factor, 1e-9)
        agree(right, x0, 1e-9)


# Chapter 3


@pytest.mark.statement("prop-landscape-ascent")
def test_the_pf_ode_climbs_the_blurred_density():
    """Ascent of autograd's slope of ln p in the clock -sigma^2/2 against runs of the denoiser."""
    m, (far, near) = modes(), (6.0, 0.4)
    x = far * randn(2, 3, seed=3)

    def slope(u: float, x: Tensor) -> Tensor:
        z = x.clone().requires_grad_()
        return torch.autograd.grad(m.log_prob(z, 1.0, math.sqrt(-2 * u)).sum(), z)[0]

    climbed = follow(slope, x, (-(far**2) / 2, -(near**2) / 2), rtol=1e-9, atol=1e-9)
    walked = follow(lambda u, x: x - m(x, 1.0, math.exp(u)), x, (math.log(far), math.log(near)))
    agree(climbed, walked, 1e-7)
    levels = Levels(torch.ones(201), torch.logspace(math.log10(far), math.log10(near), 201, dtype=F64))
    assert rel(solve(m, x, levels, solver=heun, progress=False).final, climbed) < 5e-3


@pytest.mark.statement("prop-landscape-critical")
@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_fixed_points_curvature_and_a_step_that_never_goes_down(sigma):
    # 1: zeros of the slope, by a search on a line, are fixed points
    def slope(v: float) -> float:
        return float(WORLD.score(torch.tensor([[v]], dtype=F64), 1.0, sigma))

    z = np.linspace(-4, 4, 400)
    signs = WORLD.score(torch.from_numpy(z)[:, None], 1.0, sigma)[:, 0].tolist()
    zeros = [brentq(slope, *z[i : i + 2], xtol=1e-14) for i in range(399) if signs[i] * signs[i + 1] < 0]
    at = torch.tensor(zeros, dtype=F64)[:, None]
    assert len(zeros) == {0.3: 5, 1.0: 1, 3.0: 1}[sigma]
    agree(WORLD(at, 1.0, sigma), at, 1e-9)
    # 2: the covariance of what may still come, summed over the points of a cloud, and autograd's Hessian
    cloud, x = PointCloud(randn(30, 3, seed=4)), randn(3, seed=5)
    w = torch.softmax(-(x - cloud.points).square().sum(1) / (2 * sigma**2), 0)
    off = cloud.points - w @ cloud.points
    J = jacobian(lambda z: cloud(z, 1.0, sigma), x)
    agree(sigma**2 * J, off.T @ (w[:, None] * off), 1e-9)
    m = modes()
    hessian = torch.autograd.functional.hessian(lambda z: m.log_prob(z[None], 1.0, sigma)[0], x)
    agree((jacobian(lambda z: m(z, 1.0, sigma), x) - torch.eye(3)) / sigma**2, hessian, 1e-9)
    # 3: what a step gains, at least; a step twice as long gives no such promise
    x = 2 * sigma * randn(200, 3, seed=6)
    step = m(x, 1.0, sigma) - x
    gain, longer = (m.log_prob(x + f * step, 1.0, sigma) - m.log_prob(x, 1.0, sigma) for f in (1, 2.5))
    least = step.square().sum(1) / (2 * sigma**2)
    agree((least - gain).clamp(min=0), torch.zeros(200), 1e-9)
    assert bool((longer < 6.25 * least).any())


# Chapters 6 and 7


@pytest.mark.statement("prop-variations-share")
@pytest.mark.parametrize("level", [(0.3, 0.95), (0.8, 0.6), (1.0, 2.0)])
def test_one_number_for_each_component(level):
    """Matrices of the package's linear maps of (old, fresh): their products are covariances, without any draw."""
    g = gaussian([9.0, 2.0, 0.5, 0.1], seed=7, mean=0.0)
    eye, nil = torch.eye(4, dtype=F64), torch.zeros(4, 4, dtype=F64)
    old, fresh = torch.cat([eye, nil]), torch.cat([nil, eye])  # row i: unit i of the old z, then of the fresh noise
    image = g.sample(old)
    # 2: noise and back
    again = asking.white(g, variations.renoise(image, fresh, level), level)
    share = emergence(g.lam, level)
    agree(again @ g.U, torch.cat([g.U * share.sqrt(), g.U * (1 - share).sqrt()]), 1e-9)
    # 3: the first PCs of one state and the rest of another
    state, other = g.sample(old, level=level), g.sample(fresh, level=level)
    P = g.U[:, :2] @ g.U[:, :2].T
    agree(variations.repaint(g, state, fresh, level, keep="outline", pcs=2), other + (state - other) @ P, 1e-9)
    # 1: any axes, any numbers: the law of the data, the correlation, the mean squared distance
    axes = torch.linalg.qr(randn(4, 4, seed=8)).Q
    rho = torch.tensor([1.0, 0.7, 0.2, 0.0], dtype=F64)
    changed = ((old @ axes) * rho + (fresh @ axes) * (1 - rho**2).sqrt()) @ axes.T
    end = g.flow(asking.coloured(g, changed, level, state), frm=level)
    start = g.flow(state, frm=level)
    agree(end.T @ end, dense(g), 1e-9)
    z = [asking.white(g, x, CLEAN) @ axes for x in (start, end)]
    agree((z[0].T @ z[1]).diagonal(), rho, 1e-9)
    apart, unrelated = (z[0] - z[1]).square().sum(0), 2 * torch.ones(4, dtype=F64)
    agree(apart / unrelated, 1 - rho, 1e-9)


@pytest.mark.statement("prop-gans-fixed")
def test_what_the_pictures_fix_of_a_generator():
    A = randn(6, 4, seed=9)
    covariance = A @ A.T  # of G(z) = A z, z unit normal
    H, J = pullback.metric(lambda z: z @ A.T, randn(2, 4, seed=10))
    values, vectors = torch.linalg.eigh(covariance)
    agree(torch.linalg.eigvalsh(H[0]), values[2:], 1e-9)
    directions = torch.linalg.svd(J[0])[0][:, :4].flip(1)
    agree((directions * vectors[:, 2:]).sum(0).abs(), torch.ones(4), 1e-9)

    def turned(z: Tensor) -> Tensor:
        """A rotation by an angle that depends on the radius alone preserves the unit normal law."""
        c, s = (f(z.square().sum(1)) for f in (torch.cos, torch.sin))
        return torch.stack([c * z[:, 0] - s * z[:, 1], s * z[:, 0] + c * z[:, 1]], 1)

    z, B = randn(5, 2, seed=11), randn(3, 2, seed=12)
    curved = lambda z: torch.tanh(z @ B.T)  # noqa: E731
    twisted, (there, _) = pullback.metric(lambda z: curved(turned(z)), z), pullback.metric(curved, turned(z))
    Jh = torch.stack([jacobian(lambda v: turned(v), one) for one in z])
    agree(twisted[0], Jh.mT @ there @ Jh, 1e-9)
    agree(Jh.det().abs(), torch.ones(5), 1e-9)
    agree(turned(z).norm(dim=1), z.norm(dim=1), 1e-9)
    assert rel(twisted[0], there) > 0.1


# Going deeper: reverse


@pytest.mark.statement("prop-reverse-renoise")
@pytest.mark.parametrize("h", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("there", [(0.8, 0.6), (1.0, 0.9), (0.5, 0.6)])
def test_taking_apart_and_mixing_again_has_the_next_density(there, h):
    """The distribution of x' by quadrature over pairs (x, x0_star), long steps and back to more noise included."""
    (alpha, sigma), (beta, tau) = (0.4, 0.9), there
    (x0, d0), (x, dx) = grid(5, 701), grid(9, 901)
    joint = (
        density(x0, CLEAN) * torch.from_numpy(norm.pdf((x - alpha * x0.T).numpy() / sigma)) / sigma * d0 * dx
    )  # p(x) p(x0 | x)
    centre = beta * x0.T + math.sqrt(tau**2 - h**2) * (x - alpha * x0.T) / sigma
    at = torch.linspace(-2, 3, 11, dtype=F64)
    if h:
        found = torch.stack([(joint * torch.from_numpy(norm.pdf(float(v), centre.numpy(), h))).sum() for v in at])
        agree(found, WORLD.log_prob(at[:, None], *there).exp(), 1e-8)
    for power in (1, 2, 3):  # moments need no kernel, and so hold h = 0 as well
        made = (joint * centre**power).sum() + (3 * h**2 * (joint * centre).sum() if power == 3 else 0)
        made = made + (h**2 if power == 2 else 0)
        wide, step = grid(9, 4001)
        agree(made, (density(wide, there) * wide[:, 0] ** power).sum() * step, 1e-8)


def fading(x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Functions phi that fade at both ends, with their first two derivatives."""
    bell = torch.exp(-(x**2) / 8)
    return [
        (bell, -x / 4 * bell, (x**2 / 16 - 0.25) * bell),
        (x * bell, (1 - x**2 / 4) * bell, (x**3 / 16 - 0.75 * x) * bell),
    ]


@pytest.mark.statement("prop-reverse-langevin")
@pytest.mark.parametrize("level", LEVELS)
def test_langevin_dynamics_rests_in_the_density(level):
    """E[k^2/2 s phi' + k^2/2 phi''] = 0 for every phi: no average changes."""
    x, _ = grid(25, 20_001)
    p, s = density(x, level), WORLD.score(x, *level)[:, 0]
    for _, slope, bend in fading(x[:, 0]):
        agree((p * s * slope).sum(), -(p * bend).sum(), 1e-9)


@pytest.mark.statement("thm-reverse-sde")
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("path", PATHS)
def test_the_reverse_sde_has_the_densities(path, eta):
    """d/dtau E phi(x) = E[drift phi' + eta^2 g^2/2 phi''] at every t, the left side by differences of a quadrature."""
    process = PATHS[path]
    x, _ = grid(40, 20_001)
    for t in (0.3 * process.noisy, 0.7 * process.noisy) if path != "edm" else (0.8, 2.5):
        level, g2 = process.level(t), process.g2(t)
        score, u = WORLD.score(x, *level), velocity(WORLD, process, t, x)
        drift = (-u + eta**2 * g2 / 2 * score)[:, 0]
        if eta == 1.0:
            agree(drift, (-process.f(t) * x + g2 * score)[:, 0], 1e-9)
        for phi, slope, bend in fading(x[:, 0]):
            h = 1e-3 * t
            a, b, c, d = ((density(x, process.level(t + k * h)) * phi).sum() for k in (-2, -1, 1, 2))
            change = -(8 * (c - b) - (d - a)) / (12 * h)  # tau = -t
            made = (density(x, level) * (drift * slope + eta**2 * g2 / 2 * bend)).sum()
            agree(made, change, 1e-7)


@pytest.mark.statement("thm-reverse-sde")
def test_ancestral_steps_become_the_reverse_sde():
    """What one short step of the package's sampler adds and draws, over its length, against drift and noise."""
    process, t, n = PATHS["cosine"], 0.4, 20_000
    level, step, x = process.level(t), 1e-5, torch.full((1, 20_000), 0.7, dtype=F64)
    one = Gaussian(torch.zeros(n).double(), torch.zeros(n, 0).double(), torch.zeros(0).double(), rest=0.5)
    levels = pair(level, process.level(t - step))
    for eta in (0.0, 0.6, 1.0):
        out = solve(one, x, levels, solver="ancestral", eta=eta, progress=False).final
        drift = -process.f(t) * 0.7 + (1 + eta**2) / 2 * process.g2(t) * float(one.score(x, *level)[0, 0])
        noise = eta * math.sqrt(process.g2(t) * step)
        assert abs(float((out - x).mean()) - step * drift) < 4 * noise / math.sqrt(n) + 1e-3 * step
        assert float(out.std()) == pytest.approx(noise, rel=0.02, abs=1e-12)


@pytest.mark.statement("prop-reverse-parameters")
@pytest.mark.parametrize("level", [(0.8, 0.6), (0.3, 0.7), (0.3, 1.7), (1.0, 4.0)])
def test_all_outputs_at_once(level):
    a, s = level
    x0, eps, delta = randn(3, 4, seed=13), randn(3, 4, seed=14), randn(3, 4, seed=15)
    x, alpha, sigma = a * x0 + s * eps, torch.tensor(a, dtype=F64), torch.tensor(s, dtype=F64)
    known = {"epsilon": (0.0, 1.0), "v_prediction": (-s, a), "sample": (1.0, 0.0), "flow_prediction": (-1.0, 1.0)}
    for c0, ce in [*known.values(), (0.4, 2.0), (-3.0, 0.1)]:
        determinant = a * ce - s * c0
        said = c0 * x0 + ce * eps + delta  # an output with an error
        pair = torch.linalg.solve(torch.tensor([[a, s], [c0, ce]], dtype=F64), torch.stack([x, said]).reshape(2, -1))
        agree((ce * x - s * said) / determinant, pair[0].reshape(3, 4), 1e-9)
        agree((a * said - c0 * x) / determinant, pair[1].reshape(3, 4), 1e-9)
        agree(pair[0].reshape(3, 4) - x0, -s * delta / determinant, 1e-9)
        agree(delta.square().sum(), (determinant / s) ** 2 * (pair[0].reshape(3, 4) - x0).square().sum(), 1e-9)
        for prediction in (name for name, c in known.items() if c == (c0, ce)):
            # the package reads these two on the scales on which they are trained
            scale = {"v_prediction": a**2 + s**2, "flow_prediction": a + s}.get(prediction, 1.0)
            if math.isclose(scale, 1):
                agree(endpoint(x, said, alpha, sigma, prediction=prediction), pair[0].reshape(3, 4), 1e-9)


@pytest.mark.statement("prop-reverse-rescale")
def test_rescaling_a_level_changes_nothing():
    m, process, other = modes(), PATHS["vp"], PATHS["flow"]
    x = randn(3, 3, seed=16)
    agree(m(2.7 * x, 2.7 * 0.6, 2.7 * 0.8), m(x, 0.6, 0.8), 1e-11)
    # the same ratios in other coordinates, at other times: VP, and c = 1/(alpha + sigma) of it
    ends = []
    for path in (process, other):
        times = [brentq(lambda t, p=path, r=r: math.log(p.sigma(t) / p.alpha(t) / r), 1e-3, 0.999) for r in (8.0, 0.2)]
        (a, s), (b, _) = (path.level(t) for t in times)
        start = x * math.hypot(8.0, 1.0) * a
        assert s / a == pytest.approx(8.0)
        rate = partial(velocity, m, path)
        ends.append(follow(lambda t, x, rate=rate: rate(t, x), start, (times[0], times[1])) / b)
    agree(ends[0], ends[1], 1e-8)


# Going deeper: steps


def on_line(lam: float, mu: float = 0.0) -> Gaussian:
    return Gaussian(torch.tensor([mu], dtype=F64), torch.ones(1, 1, dtype=F64), torch.tensor([lam], dtype=F64))


@pytest.mark.statement("prop-steps-heun")
@pytest.mark.parametrize("lam", [0.05, 1.0, 40.0])
def test_one_step_of_heun_multiplies_by_its_gain(lam):
    """The package's solver, from a strong noise and from a weak one, on VP and other scales."""
    for here, there in (((0.05, 0.99), (0.3, 0.9)), ((0.6, 0.8), (0.7, 0.5)), ((1.0, 3.0), (1.0, 2.0))):
        theta, to = (math.atan2(s, a * math.sqrt(lam)) for a, s in (here, there))
        delta = theta - to
        law = math.cos(delta) * (1 + math.sin(delta) ** 2 / 2) + math.tan(theta) * math.sin(delta) ** 3 / 2
        psi = math.sqrt((there[0] ** 2 * lam + there[1] ** 2) / (here[0] ** 2 * lam + here[1] ** 2))
        step = solve(on_line(lam), torch.ones(1, 1, dtype=F64), pair(here, there), solver="heun", progress=False)
        agree(float(step.final), psi * law, 1e-9)
    for delta in (0.02, 0.04):  # 1 - 3/8 delta^4: the next order is delta^6
        first = math.cos(delta) * (1 + math.sin(delta) ** 2 / 2)
        assert (1 - first) / delta**4 == pytest.approx(3 / 8, rel=2 * delta**2)


@pytest.mark.statement("prop-steps-ancestral")
@pytest.mark.parametrize("lam", [0.05, 1.0, 40.0])
def test_one_ancestral_step_on_a_gaussian(lam):
    """The gain from two runs with the same noise, the noise's variance from Bayes' rule."""
    for here, there in (((0.05, 0.99), (0.3, 0.9)), ((0.6, 0.8), (0.8, 0.6)), ((1.0, 3.0), (1.0, 2.0))):
        (a, s), (b, r) = here, there
        x = torch.tensor([[0.0], [1.0]], dtype=F64)
        ends = [
            solve(on_line(lam), x[i : i + 1], pair(here, there), solver="ancestral", seeds=[5], progress=False).final
            for i in (0, 1)
        ]
        gain, v, w = float(ends[1] - ends[0]), a**2 * lam + s**2, b**2 * lam + r**2
        agree(gain, a * w / (b * v), 1e-9)
        # x_t = (a/b) x_s + noise of variance q: the precision of x_s given x_t and x_0
        q = s**2 - (a / b) ** 2 * r**2
        drawn = 1 / (1 / r**2 + (a / b) ** 2 / q)
        blend = b - a**2 * r**2 / (b * s**2)
        agree(w - (gain**2 * v + drawn), blend**2 * lam * s**2 / v, 1e-9)


@pytest.mark.statement("prop-steps-terminal")
@pytest.mark.parametrize("level", [(0.0064, 0.99998), (0.0683, 0.9977), (1.0, 80.0)])
def test_a_start_from_unit_noise_has_the_wrong_variance_and_mean(level):
    """The flow is affine: what it makes of 0 and of each unit vector says what it makes of N(0, I)."""
    g = gaussian([500.0, 20.0, 0.3], seed=17, mean=2.0)
    mean = g.flow(torch.zeros(1, 3, dtype=F64), frm=level)
    spread = (g.flow(torch.eye(3, dtype=F64), frm=level) - mean) @ g.U
    v = level[0] ** 2 * g.lam + level[1] ** 2
    agree(spread.square().sum(0), g.lam / v, 1e-9)
    agree(mean @ g.U, (g.mu @ g.U * (1 - level[0] * (g.lam / v).sqrt()))[None], 1e-9)


# Going deeper: modes, factors, learning, guidance, faster


@pytest.mark.statement("prop-modes-width")
@pytest.mark.parametrize("level", [(1.0, 0.4), (0.6, 0.8), (0.5, 2.0)])
def test_the_width_of_a_mode(level):
    alpha, ratio = level[0], level[1] / level[0]
    g = gaussian([4.0, 1.0, 0.2], seed=18)
    J = alpha * jacobian(lambda z: g(z, *level), randn(3, seed=19))
    agree(J, J.T, 1e-9)
    agree(local_variance(torch.linalg.eigvalsh(J).flip(0), ratio), g.lam, 1e-9)
    # the mean trace is the mean squared error, on a line and for any data: E x_0^2 - E D^2 by quadrature
    x, step = grid(40, 20_001)
    p = density(x, level) * step
    z = x.clone().requires_grad_()
    slope = torch.autograd.grad(WORLD(z, *level).sum(), z)[0][:, 0]
    wide, dw = grid(9, 4001)
    second = (density(wide, CLEAN) * wide[:, 0] ** 2).sum() * dw
    agree(ratio**2 * alpha * (p * slope).sum(), second - (p * WORLD(x, *level)[:, 0] ** 2).sum(), 1e-8)


@pytest.mark.statement("prop-modes-far")
def test_far_away_the_correction_is_what_is_left():
    """At noise 1000 of a skewed cloud; a state and its mirror image, so that the next order, which is odd, is gone."""
    y = torch.tensor([[-1.0], [0.2], [0.3], [4.0]], dtype=F64)
    cloud, far = PointCloud(y), FarField.of(y)
    z = torch.tensor([0.0, 0.4, 2.0], dtype=F64)[:, None]
    for scale in (1.0, 0.5):
        level, mean = (scale, 1000.0 * scale), scale * y.mean()
        both = [mean + sign * level[1] * z for sign in (1, -1)]
        left = sum(cloud(x, *level) - far.gaussian(x, *level) for x in both) / 2
        agree(sum(far.correction(x, *level) for x in both) / 2, left, 1e-4)


@pytest.mark.statement("prop-learning-order")
def test_a_linear_denoiser_learns_principal_components_in_order():
    """Gradient flow of autograd's loss of the whole matrix, integrated; the loss from moments, nothing diagonal."""
    g, sigma, eta = gaussian([5.0, 1.0, 0.1], seed=20, mean=0.0), 0.5, 0.3
    S, eye = dense(g), torch.eye(3, dtype=F64)

    def descent(_: float, W: Tensor) -> Tensor:
        W = W.clone().requires_grad_()
        # E|W(x0 + sigma eps) - x0|^2
        loss = torch.trace((W - eye) @ S @ (W - eye).T) + sigma**2 * (W**2).sum()
        return -eta * torch.autograd.grad(loss, W)[0]

    for time in (0.05, 0.7, 5.0):
        W = follow(descent, torch.zeros(3, 3, dtype=F64), (0.0, time))
        law = g.lam / (g.lam + sigma**2) * (1 - torch.exp(-2 * eta * (g.lam + sigma**2) * time))
        agree(W, g.U @ torch.diag(law) @ g.U.T, 1e-8)


WIDE, NARROW = (torch.tensor(v, dtype=F64) for v in ([4.0, 2.0, 0.5], [1.0, 1.9, 0.02]))
CENTRE, CLASS = (torch.tensor(v, dtype=F64) for v in ([0.0, 0.3, -1.0], [1.3, -0.4, 0.5]))


@pytest.mark.statement("prop-guidance-law")
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0, 7.5])
def test_guidance_between_two_gaussians(w):
    axes = torch.linalg.qr(randn(3, 3, seed=21)).Q
    every, one = (Gaussian(axes @ mu, axes, lam) for mu, lam in ((CENTRE, WIDE), (CLASS, NARROW)))
    both, (far, near) = guided(one, every, w), (30.0, 0.01)
    x = far * torch.cat([torch.zeros(1, 3, dtype=F64), axes.T])
    end = follow(lambda u, x: x - both(x, 1.0, math.exp(u)), x, (math.log(far), math.log(near))) @ axes
    frm, to = (1.0, far), (1.0, near)
    agree((end[1:] - end[0]).diagonal(), far * guided_gain(WIDE, NARROW, w, frm=frm, to=to), 1e-8)
    agree(end[0], guided_offset(CENTRE, WIDE, CLASS, NARROW, w, frm=frm, to=to), 1e-8)
    agree(guided_gain(WIDE, NARROW, w, frm=NOISE), NARROW.sqrt() * (NARROW / WIDE) ** ((w - 1) / 2), 1e-11)

    def entering(s: float, mu_u: float, lam_u: float, mu_c: float, lam_c: float) -> float:
        gain = (1 + s**2 / lam_u) ** ((w - 1) / 2) * (1 + s**2 / lam_c) ** (-w / 2)
        return gain * s * ((1 - w) * mu_u / (lam_u + s**2) + w * mu_c / (lam_c + s**2))

    rows = zip(CENTRE.tolist(), WIDE.tolist(), CLASS.tolist(), NARROW.tolist())
    means = [sum(quad(entering, *part, row, limit=200)[0] for part in ((0, 1), (1, np.inf))) for row in rows]
    agree(guided_offset(CENTRE, WIDE, CLASS, NARROW, w, frm=NOISE), torch.tensor(means, dtype=F64), 1e-8)


@pytest.mark.statement("prop-guidance-slopes")
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_where_the_spread_of_guided_runs_changes(w):
    """Fifty runs of two mixtures that are nothing like Gaussians: their spread by differences along the ODE."""
    every, one = modes(), Mixture(torch.tensor([0.7, 0.3], dtype=F64), modes().components[:2])
    both, s, h = guided(one, every, w), 1.2, 1e-3
    start, times = 10 * randn(50, 3, seed=22), [math.log(s) + k * h for k in (2, 1, 0, -1, -2)]

    def rate(u: float, flat: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(flat).reshape(50, 3)
        return (x - both(x, 1.0, math.exp(u))).numpy().ravel()

    found = integrate(rate, start.numpy().ravel(), (math.log(10), times[-1]), t_eval=times, rtol=1e-11)
    d, c, y, b, a = torch.from_numpy(found.y.T.reshape(5, 50, 3))
    a, b, c, d = (x.std(0).log() for x in (a, b, c, d))

    def slope(D: Mixture) -> Tensor:
        out, off = D(y, 1.0, s), y - y.mean(0)
        return (off * (out - out.mean(0))).sum(0) / off.square().sum(0)

    bu, bc = slope(every), slope(one)
    agree(1 - bc + (w - 1) * (bu - bc), (8 * (c - b) - (d - a)) / (12 * h), 1e-6)


@pytest.mark.statement("prop-faster-leftover")
def test_the_equation_of_what_is_left_over():
    """Integrated in y with the leftover g of a network that is not the Gaussian, against the PF-ODE in x."""
    m, surrogate, (far, near) = modes(), gaussian([4.0, 1.0, 0.3], seed=23), (9.0, 0.3)
    lam, U, mu = surrogate.lam, surrogate.U, surrogate.mu
    x = far * randn(4, 3, seed=24)
    plain = follow(lambda u, x: x - m(x, 1.0, math.exp(u)), x, (math.log(far), math.log(near)))

    def rate(u: float, y: Tensor) -> Tensor:
        s = math.exp(u)
        z, w = y * (lam + s**2).sqrt(), lam / (lam + s**2)
        d = (m(z @ U.T + mu, 1.0, s) - mu) @ U
        return -(s**2) / (lam + s**2) ** 1.5 * (d - w * z) / (1 - w)

    y = follow(rate, (x - mu) @ U / (lam + far**2).sqrt(), (math.log(far), math.log(near)))
    agree((y * (lam + near**2).sqrt()) @ U.T + mu, plain, 1e-8)
    kept = [(surrogate.flow(x, frm=(1.0, far), to=(1.0, s)) - mu) @ U / (lam + s**2).sqrt() for s in (5.0, near)]
    agree(kept[1], kept[0], 1e-9)
