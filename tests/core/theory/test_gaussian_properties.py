"""Properties of the Gaussian over random spectra: null, repeated and huge variances, one dimension, both ends."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from partners import agree, dense, gaussian, randn, rel

from painters import Gaussian, Levels, Mixture, Moments, PointCloud, noise
from painters.levels import CLEAN, Level
from painters.schedules import edm
from painters.theory import emergence

VARIANCES = st.sampled_from([0.0, 1e-4, 0.3, 0.3, 1.0, 7.0, 100.0])
PURE_NOISE: Level = (0.0, 1.0)


@st.composite
def gaussians(draw: st.DrawFn, *, null: bool = True) -> Gaussian:
    """D = 1 ... 6 dimensions, any rank, repeated or zero variances, with or without an isotropic remainder."""
    dim = draw(st.integers(1, 6))
    values = draw(st.lists(VARIANCES, max_size=dim))
    rest = draw(st.sampled_from([0.0, 0.05, 2.0]))
    if not null:
        values, rest = [v + 1e-3 for v in values], rest + 1e-3
    return gaussian(values, dim=dim, rest=rest, seed=draw(st.integers(0, 999)))


@st.composite
def noisy(draw: st.DrawFn) -> Level:
    """A level with sigma > 0 in any coordinates, pure noise included."""
    kind = draw(st.sampled_from(["vp", "ve", "flow", "any", "pure"]))
    if kind == "pure":
        return PURE_NOISE
    if kind == "ve":
        return 1.0, 10 ** draw(st.floats(-2, 2))
    if kind == "any":
        return draw(st.floats(0, 3)), draw(st.floats(0.01, 3))
    t = draw(st.floats(0.02, 1.0))
    return (1 - t, t) if kind == "flow" else (math.cos(math.pi / 2 * t), math.sin(math.pi / 2 * t))


def states(g: Gaussian, level: Level, seed: int) -> torch.Tensor:
    return g.sample(randn(3, g.dim, seed=seed), level=level) + 0.1 * randn(3, g.dim, seed=seed + 1)


@given(g=gaussians(), frm=noisy(), mid=noisy(), to=st.one_of(noisy(), st.just(CLEAN)), seed=st.integers(0, 99))
def test_flow_composes(g: Gaussian, frm: Level, mid: Level, to: Level, seed: int) -> None:
    x = states(g, frm, seed)
    assert rel(g.flow(g.flow(x, frm=frm, to=mid), frm=mid, to=to), g.flow(x, frm=frm, to=to)) < 1e-9


@given(g=gaussians(), frm=noisy(), to=noisy(), seed=st.integers(0, 99))
def test_flow_is_undone_by_the_flow_back(g: Gaussian, frm: Level, to: Level, seed: int) -> None:
    x = states(g, frm, seed)
    assert rel(g.flow(g.flow(x, frm=frm, to=to), frm=to, to=frm), x) < 1e-9
    assert rel(g.flow(x, frm=frm, to=frm), x) < 1e-12


@given(g=gaussians(null=False), to=noisy(), seed=st.integers(0, 99))
def test_flow_returns_from_clean_data_where_there_is_variance(g: Gaussian, to: Level, seed: int) -> None:
    x = g.sample(randn(3, g.dim, seed=seed))
    assert rel(g.flow(g.flow(x, frm=CLEAN, to=to), frm=to), x) < 1e-9


@pytest.mark.statement("thm-gaussian-flow")
@given(g=gaussians(), frm=noisy(), to=st.one_of(noisy(), st.just(CLEAN)), seed=st.integers(0, 99))
def test_flow_carries_one_marginal_into_the_other(g: Gaussian, frm: Level, to: Level, seed: int) -> None:
    z = randn(3, g.dim, seed=seed)
    agree(g.flow(g.sample(z, level=frm), frm=frm, to=to), g.sample(z, level=to), 1e-9)


@given(g=gaussians(), level=st.one_of(noisy(), st.just(CLEAN)))
def test_sample_covariance(g: Gaussian, level: Level) -> None:
    """The map from unit noise to samples is affine: its matrix times its transpose is the covariance, exactly."""
    eye = torch.eye(g.dim, dtype=torch.float64)
    shift = g.sample(torch.zeros_like(eye), level=level)
    assert rel(shift, level[0] * g.mu.expand_as(shift)) < 1e-12
    root = g.sample(eye, level=level) - shift
    assert rel(root @ root.T, level[0] ** 2 * dense(g) + level[1] ** 2 * eye) < 1e-11
    assert float(root.trace()) >= 0  # of its roots the positive one, so that equal noise is an equal picture


@pytest.mark.statement("prop-gaussian-wiener")
@given(g=gaussians(), level=noisy(), seed=st.integers(0, 99))
def test_denoiser_is_the_dense_wiener_filter(g: Gaussian, level: Level, seed: int) -> None:
    a, s = level
    x, covariance = states(g, level, seed), dense(g)
    V = a**2 * covariance + s**2 * torch.eye(g.dim, dtype=torch.float64)
    want = g.mu + a * torch.linalg.solve(V, (x - a * g.mu).T).T @ covariance
    agree(g(x, a, s), want, 1e-9)


@pytest.mark.statement("thm-derivation-tweedie")
@given(g=gaussians(), level=noisy(), seed=st.integers(0, 99))
def test_tweedie(g: Gaussian, level: Level, seed: int) -> None:
    """alpha x0_hat = x + sigma^2 score, also at alpha = 0."""
    a, s = level
    x = states(g, level, seed)
    agree((a * g(x, a, s) - x - s**2 * g.score(x, a, s)).norm() / (x.norm() + a * g.mu.norm()), 0.0, 1e-9)


@given(g=gaussians(), seed=st.integers(0, 99))
def test_both_ends(g: Gaussian, seed: int) -> None:
    x = randn(3, g.dim, seed=seed)
    assert rel(g(x, *PURE_NOISE), g.mu.expand_as(x)) < 1e-12
    data = g.sample(x)
    assert rel(g(data, *CLEAN), data) < 1e-12
    on_support = g(x, *CLEAN)  # anything else is projected on the support
    assert rel(g(on_support, *CLEAN), on_support) < 1e-12


@given(g=gaussians(), level=noisy(), seed=st.integers(0, 99))
def test_log_prob_is_torchs(g: Gaussian, level: Level, seed: int) -> None:
    a, s = level
    V = a**2 * dense(g) + s**2 * torch.eye(g.dim, dtype=torch.float64)
    x = states(g, level, seed)
    want = torch.distributions.MultivariateNormal(a * g.mu, (V + V.T) / 2).log_prob(x)
    assert float((g.log_prob(x, a, s) - want).abs().max()) < 1e-7 * float(1 + want.abs().max())


@pytest.mark.statement("prop-gaussian-wiener")
@given(g=gaussians(), level=noisy(), seed=st.integers(0, 99))
def test_score_is_the_gradient_of_log_prob(g: Gaussian, level: Level, seed: int) -> None:
    x = states(g, level, seed).requires_grad_()
    (gradient,) = torch.autograd.grad(g.log_prob(x, *level).sum(), x)
    agree(g.score(x.detach(), *level), gradient, 1e-9)


@given(g=gaussians(), level=noisy())
def test_least_error_is_the_trace_of_the_posterior_covariance(g: Gaussian, level: Level) -> None:
    a, s = level
    covariance = dense(g)
    V = a**2 * covariance + s**2 * torch.eye(g.dim, dtype=torch.float64)
    want = float((covariance - a**2 * covariance @ torch.linalg.solve(V, covariance)).trace())
    assert g.mmse(level) == pytest.approx(want, rel=1e-8, abs=1e-10)


@given(g=gaussians(), levels=st.lists(noisy(), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_a_level_per_sample_is_three_calls(g: Gaussian, levels: list[Level], seed: int) -> None:
    x = randn(3, g.dim, seed=seed)
    a, s = (torch.tensor(v, dtype=torch.float64)[:, None] for v in zip(*levels))
    for method in (g, g.score, g.log_prob):
        together = method(x, a, s)
        one_by_one = torch.cat([method(x[i : i + 1], *level) for i, level in enumerate(levels)])
        assert rel(together, one_by_one) < 1e-12


@given(g=gaussians(), frm=noisy(), to=st.one_of(noisy(), st.just(CLEAN)))
def test_gain_lists_what_the_flow_does_to_each_direction(g: Gaussian, frm: Level, to: Level) -> None:
    gains, r = g.gain(frm=frm, to=to), len(g.lam)
    origin = frm[0] * g.mu
    moved = g.flow(origin + g.U.T, frm=frm, to=to) - to[0] * g.mu
    assert rel(moved, gains[:r, None] * g.U.T) < 1e-9
    outside = torch.eye(g.dim, dtype=torch.float64) - g.U @ g.U.T
    if r < g.dim:
        moved = g.flow(origin + outside, frm=frm, to=to) - to[0] * g.mu
        assert rel(moved, gains[-1] * outside) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_and_dtype_of_the_state_are_kept(dtype: torch.dtype) -> None:
    g = gaussian([4.0, 1.0], dim=12, rest=0.1, seed=1)
    x = randn(2, 3, 2, 2, seed=2).to(dtype)
    outputs = [g(x, 0.6, 0.8), g.score(x, 0.6, 0.8), g.sample(x), g.flow(x, frm=(0.6, 0.8)), g.flow(x, frm=PURE_NOISE)]
    for out in outputs:
        assert out.shape == x.shape and out.dtype == dtype
    assert rel(outputs[0], g(x.double(), 0.6, 0.8)) < (1e-12 if dtype == torch.float64 else 4e-3)
    assert g.log_prob(x, 0.6, 0.8).shape == (2,) and g.project(x).shape == (2, 2)


def test_gaussian_on_the_device_agrees_with_float64(device: torch.device) -> None:
    g = gaussian([30.0, 4.0, 1.0, 0.1], dim=16, rest=0.01, seed=3)
    x = randn(4, 16, seed=4)
    for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        moved = g.to(device, dtype)
        assert moved.device.type == device.type
        state = x.to(device, dtype)
        for level in ((0.1, 0.995), (0.9, 0.436)):
            assert rel(moved(state, *level), g(x, *level)) < limit
            assert rel(moved.flow(state, frm=level), g.flow(x, frm=level)) < limit


def test_refusals() -> None:
    eye, two = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"need mu \(D,\)"):
        Gaussian(two, eye, torch.ones(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="must not be negative"):
        Gaussian(two, eye, torch.tensor([1.0, -1e-3]))
    with pytest.raises(ValueError, match="must not be negative"):
        Gaussian(two, eye, two, rest=-1.0)
    with pytest.raises(ValueError, match="orthonormal"):
        Gaussian(two, 2 * eye, two)
    g = gaussian([1.0, 0.0], seed=5)
    with pytest.raises(ValueError, match="lives in 2 dimensions"):
        g(torch.zeros(3, 4), 0.6, 0.8)
    with pytest.raises(ValueError, match="no density"):
        g.log_prob(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="no density"):
        g.score(torch.zeros(1, 2), *CLEAN)
    with pytest.raises(ValueError, match="one per sample"):
        g(torch.zeros(3, 2), torch.ones(2), 1.0)
    with pytest.raises(ValueError, match="finite and not negative"):
        g(torch.zeros(3, 2), 1.0, float("nan"))


def test_along_is_the_quadratic_form_of_the_covariance():
    g = gaussian([3.0, 1.0, 0.2], dim=6, rest=0.05)
    u = torch.nn.functional.normalize(randn(2, 4, 6, seed=3), dim=-1)
    assert rel(g.along(u), torch.einsum("abi,ij,abj->ab", u, dense(g), u)) < 1e-12
    assert g.along(g.U[:, 1]).shape == ()
    assert rel(g.along(g.U.T), g.lam) < 1e-12


@pytest.mark.parametrize("rank", [None, 2, 0])
def test_a_gaussian_is_made_of_mean_and_covariance(rank):
    a = randn(6, 6, seed=1)
    S, mu = a @ a.T, randn(2, 3, seed=2)
    g = Gaussian.of(mu, S, rank=rank)
    assert torch.equal(g.mu, mu.flatten())
    assert rel(g.spectrum.sum(), S.trace()) < 1e-12
    assert rel(dense(g), S) < 1e-12 or rank is not None


@pytest.mark.parametrize(
    ("covariance", "reason"),
    [
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (torch.tensor([[1.0, math.nan], [math.nan, 1.0]]), "finite"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "negative variance"),
        (torch.eye(3), "needs a covariance"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused(covariance, reason):
    with pytest.raises(ValueError, match=reason):
        Gaussian.of(torch.zeros(2), covariance)


def test_a_rank_counts_components():
    with pytest.raises(ValueError, match="the rank counts the PCs"):
        Gaussian.of(torch.zeros(2), torch.eye(2), rank=-1)


@pytest.mark.parametrize(
    ("mu", "lam", "rest", "says"),
    [
        (0.0, math.nan, 0.0, "variances"),
        (0.0, math.inf, 0.0, "variances"),
        (0.0, -1.0, 0.0, "variances"),
        (0.0, 1.0, math.nan, "variances"),
        (0.0, 1.0, math.inf, "variances"),
        (math.nan, 1.0, 0.0, "mean"),
    ],
)
def test_numbers_that_are_no_gaussian_are_refused(mu, lam, rest, says):
    with pytest.raises(ValueError, match=says):
        Gaussian(torch.tensor([mu, 0.0]), torch.eye(2)[:, :1], torch.tensor([lam]), rest)
    with pytest.raises(ValueError, match="orthonormal"):
        Gaussian(torch.zeros(2), torch.full((2, 1), math.nan), torch.ones(1))


def test_the_theory_shows_itself_in_one_line():
    g = gaussian([3.0, 1.0], dim=6, rest=0.25)
    assert repr(g) == "Gaussian(D = 6, 2 PCs with 80.0% of the variance 5)"
    assert repr(Mixture(torch.tensor([0.25, 0.75]), (g, g))) == "Mixture(2 Gaussians, D = 6, weights 0.25 to 0.75)"
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert repr(PointCloud(points, torch.tensor([0, 4]))) == "PointCloud(2 points, D = 2, 2 labels)"
    assert repr(Moments.of(points)) == "Moments(n = 2, D = 2, variance 1)"


def test_unit_noise_is_no_state_of_a_large_level_for_the_theory_either():
    g, levels = Gaussian.of(torch.zeros(64), torch.eye(64)), Levels.of(edm(), 5)
    with pytest.raises(ValueError, match="size of unit noise"):
        g.trajectory(noise([0, 1], (64,)), levels)
    g.trajectory(levels.start(noise([0, 1], (64,))), levels)


def test_emergence_hides_no_wrong_variance():
    assert bool(emergence(torch.tensor([float("nan"), 1.0]), (1.0, 1.0)).isnan()[0])
    with pytest.raises(ValueError, match="negative"):
        emergence(torch.tensor([-1.0]), (1.0, 1.0))


def test_one_number_is_the_variance_of_every_direction():
    mean, x = randn(2, 3, seed=1), randn(5, 2, 3, seed=2)
    one, whole = Gaussian.of(mean, 0.7), Gaussian.of(mean, 0.7 * torch.eye(6, dtype=torch.float64))
    assert rel(one(x, 0.6, 0.8), whole(x, 0.6, 0.8)) < 1e-12 and len(one.lam) == 0
    assert torch.equal(Gaussian.of(mean, 0.0)(x, 0.6, 0.8), mean.expand_as(x).to(x))
    with pytest.raises(ValueError, match="negative"):
        Gaussian.of(mean, -1.0)
