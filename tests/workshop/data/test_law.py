"""The factor law against regressions on noised data, and against a posterior known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from partners import TwoModes, agree, dense, gaussian, r2, randn, rel

from atelier.data.law import FactorLaw
from painters import Gaussian, Moments
from painters.theory import emergence

LEVELS = [(0.0, 1.0), (0.05, 1.0), (0.6, 0.8), (1.0, 0.3), (1.0, 3.0), (0.99, 0.01)]


def law_of(g: Gaussian, *, m: int = 3, seed: int = 0) -> FactorLaw:
    """A law whose factors are linear in the state plus something of their own."""
    c = dense(g) @ randn(g.dim, m, seed=seed)
    return FactorLaw(g, c, randn(m, seed=seed + 1), (c * torch.linalg.pinv(dense(g)).matmul(c)).sum(0) + 0.5)


@pytest.mark.statement("prop-factors-law")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("rest", [0.0, 0.2])
def test_it_is_the_dense_formula(level: tuple[float, float], rest: float) -> None:
    g = gaussian([4.0, 1.0, 0.1], dim=6, rest=rest, seed=2)
    law, (alpha, sigma) = law_of(g), level
    noisy = alpha**2 * dense(g) + sigma**2 * torch.eye(6, dtype=torch.float64)
    weights = alpha * torch.linalg.solve(noisy, law.covariance)
    agree(law.weights(level), weights, 1e-9)
    agree(r2(law, level), alpha * (weights * law.covariance).sum(0) / law.variance, 1e-9)
    lam, axes = torch.linalg.eigh(dense(g))
    tells = torch.where(lam[:, None] > 1e-9, (axes.T @ law.covariance) ** 2 / lam[:, None], 0.0) / law.variance
    agree(r2(law, level), emergence(lam.clamp(min=0), level) @ tells, 1e-9)  # each component tells when it stands


@pytest.mark.statement("prop-factors-law")
def test_a_regression_on_noised_data_finds_the_same_share_and_the_same_estimate() -> None:
    """The data are far from Gaussian: the law needs moments only. Partner: ordinary least squares in numpy."""
    n, draw = 40_000, np.random.default_rng(0)
    hidden = draw.integers(0, 3, n)
    level = draw.random(n)
    shapes = draw.normal(size=(4, 5))
    x0 = shapes[hidden] * (1 + level[:, None]) + level[:, None] * shapes[3] + 0.1 * draw.normal(size=(n, 5))
    f = np.concatenate([np.eye(3)[hidden], level[:, None], (level**2)[:, None]], axis=1)
    law = FactorLaw.from_moments(Moments.of(torch.from_numpy(np.concatenate([x0, f], axis=1))), 5)
    for alpha, sigma in [(1.0, 0.0), (0.8, 0.6), (0.3, 0.95)]:
        x = alpha * x0 + sigma * draw.normal(size=x0.shape)
        design = np.concatenate([np.ones((n, 1)), x], axis=1)
        fitted = design @ np.linalg.lstsq(design, f, rcond=None)[0]
        share = fitted.var(0) / f.var(0)
        assert rel(r2(law, (alpha, sigma)), share) < 0.03
        assert rel(law.estimate(torch.from_numpy(x), alpha, sigma), fitted) < 0.02


def test_the_estimate_explains_what_the_law_says() -> None:
    g = gaussian([3.0, 0.5, 0.05], seed=3)
    law = law_of(g, seed=4)
    x0 = g.sample(randn(60_000, 3, seed=5))
    f = law.mean + (x0 - g.mu) @ torch.linalg.solve(dense(g), law.covariance) + 0.5**0.5 * randn(60_000, 3, seed=6)
    for alpha, sigma in [(0.9, 0.4), (0.2, 1.0)]:
        estimate = law.estimate(alpha * x0 + sigma * randn(60_000, 3, seed=7), alpha, sigma)
        share = 1 - (f - estimate).square().mean(0) / law.variance
        assert float((share - r2(law, (alpha, sigma))).abs().max()) < 0.015


@given(scale=st.floats(0.1, 10), angle=st.floats(0.01, 1.5), seed=st.integers(0, 50))
def test_coordinates_do_not_matter_and_less_noise_tells_more(scale: float, angle: float, seed: int) -> None:
    law = law_of(gaussian([5.0, 0.2], dim=4, rest=0.01, seed=seed), seed=seed)
    level = (float(np.cos(angle)), float(np.sin(angle)))
    assert rel(r2(law, (scale * level[0], scale * level[1])), r2(law, level)) < 1e-9
    less = (float(np.cos(0.9 * angle)), float(np.sin(0.9 * angle)))
    assert bool((r2(law, less) >= r2(law, level) - 1e-12).all() & (r2(law, less) <= 1).all())


@pytest.mark.statement("prop-factors-law", "rem-gaussian-factors")
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.3), (1.0, 1.0), (0.3, 1.0), (0.02, 1.0)])
def test_it_is_a_lower_bound_of_what_can_be_known(alpha: float, sigma: float) -> None:
    """Two modes at +-m: E[side | x] is known, and explains more, or as much where all is noise."""
    modes = TwoModes(1.5, 0.2)
    law = FactorLaw(
        Gaussian(torch.zeros(1).double(), torch.eye(1).double(), torch.tensor([0.2 + 1.5**2]).double()),
        torch.tensor([[1.5]]).double(),
        torch.zeros(1).double(),
        torch.ones(1).double(),
    )
    z = np.linspace(-12, 12, 20_001)
    side = np.tanh(alpha * modes.m * z / (alpha**2 * modes.lam + sigma**2))
    known = float(np.trapezoid(side**2 * modes.density(z, alpha, sigma), z))
    assert known >= float(r2(law, (alpha, sigma))) - 1e-9
    if alpha == sigma:
        assert known > float(r2(law, (alpha, sigma))) + 0.01


@pytest.mark.parametrize(("small", "read"), [(1e-10, True), (1e-14, False)])
def test_a_direction_of_rounding_is_not_read(small: float, read: bool) -> None:
    g = Gaussian(torch.zeros(2).double(), torch.eye(2).double(), torch.tensor([1.0, small]).double())
    law = FactorLaw(g, torch.tensor([[0.5], [1e-8]]).double(), torch.zeros(1).double(), torch.ones(1).double())
    assert law.weights((1.0, 0.0))[:, 0].tolist() == pytest.approx([0.5, 1e-8 / small if read else 0])
    assert float(law.weights((1.0, 1.0))[1, 0]) == pytest.approx(1e-8)


def test_pixels_that_never_change_do_no_harm() -> None:
    x = randn(500, 4, seed=8)
    x[:, 2] = 0.7
    law = FactorLaw.from_moments(Moments.of(torch.cat([x, x[:, :1] - 2 * x[:, 1:2]], dim=1)), 1)
    assert float(r2(law, (1.0, 0.0))) == pytest.approx(1.0, abs=1e-9)
    assert float(law.weights((1.0, 0.0))[2].abs().max()) < 1e-6
    constant = FactorLaw.from_moments(Moments.of(torch.cat([x, torch.ones(500, 1)], dim=1)), 1)
    assert float(r2(constant, (1.0, 0.5))) == 0


def test_refusals() -> None:
    law = law_of(gaussian([1.0, 2.0]))
    with pytest.raises(ValueError, match="one level at a time"):
        law.estimate(torch.zeros(2, 2), torch.tensor([1.0, 0.5]), 0.1)
    with pytest.raises(ValueError, match="cannot be the last"):
        FactorLaw.from_moments(Moments.of(randn(5, 3)), 3)
