"""Mixtures of Gaussians against dense matrices, autograd and brute-force quadrature; and what many modes change."""

from __future__ import annotations

import dataclasses
import itertools
import math
from statistics import NormalDist

import pytest
import torch
from partners import agree, dense, gaussian, matched, randn, rel
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor

from painters import Gaussian, Levels, Mixture, Moments, PointCloud, solve
from painters.theory import emergence, ode_gain

LEVELS = [(0.0, 1.0), (0.05, 0.999), (0.6, 0.8), (0.999, 0.04), (1.0, 7.0), (0.5, 0.5)]


def line(mean: float, lam: float) -> Gaussian:
    """A Gaussian in one dimension."""
    return Gaussian(torch.tensor([mean]).double(), torch.ones(1, 1).double(), torch.tensor([lam]).double())


def mixture(weights: list[float], *parts: Gaussian) -> Mixture:
    return Mixture(torch.tensor(weights, dtype=torch.float64), parts)


def three(dim: int = 5) -> Mixture:
    """Three components of different rank, remainder and place."""
    return mixture(
        [0.5, 0.3, 0.2],
        gaussian([2.0, 0.5], dim=dim, rest=0.1, seed=1),
        gaussian([0.3], dim=dim, rest=0.7, seed=2),
        gaussian([1.0, 0.4, 0.2, 0.1, 0.05][:dim], dim=dim, seed=3),
    )


def skewed() -> Mixture:
    """One dimension, three bumps, far from symmetric."""
    return mixture([0.6, 0.3, 0.1], line(-1.0, 0.1), line(0.5, 0.3), line(4.0, 0.02))


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.from_numpy(data.images / 8 - 1)[:, None], torch.from_numpy(data.target)


def by_definition(
    m: Mixture, x: Tensor, alpha: float, sigma: float, *, half: float = 0.5, volume: float = 0.5
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ln p, weights, D and score from dense covariances: ln N = -half y' V^-1 y - volume ln det V - (D/2) ln 2 pi."""
    logs, ends, slopes = [], [], []
    for g in m.components:
        V = alpha**2 * dense(g) + sigma**2 * torch.eye(g.dim, dtype=torch.float64)
        y = x - alpha * g.mu
        h = torch.linalg.solve(V, y.T).T
        logs.append(-half * (y * h).sum(1) - volume * torch.logdet(V) - g.dim / 2 * math.log(2 * math.pi))
        ends.append(g.mu + alpha * h @ dense(g))
        slopes.append(-h)
    joint = torch.stack(logs, 1) + m.weights.log()
    w = joint.softmax(1)
    blend = [(w.T[:, :, None] * torch.stack(part)).sum(0) for part in (ends, slopes)]
    return joint.logsumexp(1), w, *blend


def measured(m: Mixture, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    state = (x, alpha, sigma)
    return m.log_prob(*state), m.responsibilities(*state), m(*state), m.score(*state)


# the formulas


@pytest.mark.parametrize("level", LEVELS)
def test_everything_is_what_the_definition_says(level: tuple[float, float]) -> None:
    m = three()
    x = m.sample(20, seed=4, level=level)
    for got, want in zip(measured(m, x, *level), by_definition(m, x, *level)):
        assert rel(got, want) < 1e-11


@pytest.mark.parametrize(
    "mistake",
    [
        lambda m, x, a, s: by_definition(m, x, a, s**2),  # the variance where the standard deviation belongs
        lambda m, x, a, s: by_definition(m, x, a, s, volume=0.25),  # (2 pi sigma)^(D/2) for (2 pi sigma^2)^(D/2)
        lambda m, x, a, s: by_definition(m, x, a, s, half=1.0),  # a softmax without its 1/2
    ],
    ids=["sigma squared", "normaliser", "no half"],
)
def test_common_mistakes_would_be_seen(mistake) -> None:
    """The comparison above, at the same tolerance, with the partner made wrong on purpose."""
    m, level = three(), (0.6, 0.8)
    x = m.sample(20, seed=4, level=level)
    wrong = mistake(m, x, *level)
    assert all(rel(got, bad) > 1e-2 for got, bad in zip(measured(m, x, *level)[:3], wrong))


def test_one_component_is_the_gaussian() -> None:
    g = gaussian([3.0, 1.0, 0.1], dim=6, rest=0.02, seed=5)
    m = mixture([1.0], g)
    x = randn(7, 1, 2, 3, seed=6)
    alpha, sigma = torch.linspace(0, 1, 7), torch.logspace(-6, 1, 7)
    for level in [*LEVELS, (1.0, 1e-8), (alpha, sigma)]:
        assert torch.equal(m(x, *level), g(x, *level))
        assert torch.equal(m.score(x, *level), g.score(x, *level))
        assert torch.equal(m.log_prob(x, *level), g.log_prob(x, *level))
        assert torch.equal(m.responsibilities(x, *level), torch.ones(7, 1).double())


def test_one_level_per_sample() -> None:
    m, x = three(), randn(4, 5, seed=7)
    alpha, sigma = torch.tensor([0.0, 0.3, 0.9, 1.0]), torch.tensor([1.0, 0.9, 0.1, 5.0])
    together = measured(m, x, alpha, sigma)
    for i in range(4):
        for all_, one in zip(together, measured(m, x[i : i + 1], float(alpha[i]), float(sigma[i]))):
            assert rel(all_[i : i + 1], one) < 1e-12
    assert rel(m(x, alpha.reshape(4, 1), sigma.reshape(4, 1)), together[2]) == 0


@pytest.mark.statement("thm-derivation-tweedie")
@pytest.mark.parametrize("level", [(0.6, 0.8), (1.0, 0.3), (0.2, 0.98)])
def test_score_is_the_slope_of_the_density_and_tweedie_holds(level: tuple[float, float]) -> None:
    for m in (skewed(), three(2), three()):
        x = m.sample(9, seed=8, level=level).requires_grad_()
        (slope,) = torch.autograd.grad(m.log_prob(x, *level).sum(), x)
        agree(m.score(x, *level).detach(), slope, 1e-10)
        tweedie = (x + level[1] ** 2 * slope) / level[0]
        agree(m(x, *level).detach(), tweedie.detach(), 1e-10)


@pytest.mark.parametrize("level", [(0.6, 0.8), (1.0, 0.3), (1.0, 3.0), (0.1, 0.99), (0.0, 1.0)])
def test_posterior_mean_by_quadrature_in_one_dimension(level: tuple[float, float]) -> None:
    m, (alpha, sigma) = skewed(), level
    z = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    prior = sum(
        float(w) * torch.from_numpy(stats.norm.pdf(z, float(g.mu), math.sqrt(g.lam)))
        for w, g in zip(m.weights, m.components)
    )
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]
    joint = prior * torch.from_numpy(stats.norm.pdf(x, alpha * z, sigma))
    assert rel(m(x, *level)[:, 0], (joint @ z) / joint.sum(1)) < 1e-9
    assert rel(m.log_prob(x, *level), (joint.sum(1) * float(z[1] - z[0])).log()) < 1e-9


def test_posterior_mean_by_quadrature_in_two_dimensions() -> None:
    m, (alpha, sigma) = three(2), (0.7, 0.6)
    axis = torch.linspace(-9, 9, 451, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    prior = sum(
        float(w) * torch.from_numpy(stats.multivariate_normal(g.mu, dense(g)).pdf(z.numpy()))
        for w, g in zip(m.weights, m.components)
    )
    x = randn(8, 2, seed=9)
    joint = prior * (-(torch.cdist(x, alpha * z) ** 2) / (2 * sigma**2)).exp()
    assert rel(m(x, alpha, sigma), joint @ z / joint.sum(1, keepdim=True)) < 1e-8


def test_the_coordinates_of_a_level_do_not_matter() -> None:
    m, x = three(), randn(6, 5, seed=10)
    alpha, sigma = 0.6, 0.8  # variance preserving
    for c in (1 / alpha, 1 / (alpha + sigma)):  # variance exploding, flow matching
        assert rel(m(c * x, c * alpha, c * sigma), m(x, alpha, sigma)) < 1e-12
        assert rel(c * m.score(c * x, c * alpha, c * sigma), m.score(x, alpha, sigma)) < 1e-12
        same = m.log_prob(c * x, c * alpha, c * sigma) + m.dim * math.log(c)
        assert rel(same, m.log_prob(x, alpha, sigma)) < 1e-12


def test_pure_noise_says_nothing() -> None:
    m, x = three(), 3 * randn(6, 5, seed=11)
    assert rel(m(x, 0.0, 1.0), m.mean.expand(6, 5)) < 1e-14
    assert rel(m.responsibilities(x, 0.0, 1.0), m.weights.expand(6, 3)) < 1e-14
    assert rel(m.mean, sum(w * g.mu for w, g in zip(m.weights, m.components))) < 1e-14


def test_tiny_noise_and_far_away_states_stay_finite() -> None:
    m = mixture([0.5, 0.5], gaussian([2.0], dim=4, seed=1), gaussian([1.0, 0.1], dim=4, seed=2))  # no remainder
    for sigma in (1e-3, 1e-6, 1e-9):
        for i, g in enumerate(m.components):  # on each component's plane D is the projection on it
            x0 = g.sample(randn(3, 4, seed=12))
            assert rel(m(x0 + sigma * randn(3, 4, seed=13), 1.0, sigma), x0) < 4 * sigma
            assert bool((m.responsibilities(x0, 1.0, sigma)[:, i] > 0.99).all())
    far = 1e6 * randn(3, 4, seed=14)
    assert all(bool(torch.isfinite(value).all()) for value in measured(m, far, 1.0, 0.1))
    with pytest.raises(ValueError, match="use sigma > 0"):
        m(far, 1.0, 0.0)
    full = mixture([0.5, 0.5], line(1.0, 0.5), line(-1.0, 0.2))
    assert rel(full(randn(5, 1, seed=15), 1.0, 0.0), randn(5, 1, seed=15)) < 1e-14


@pytest.mark.parametrize("sigma", [1e-3, 1e-5, 1e-7])
def test_density_keeps_its_digits_at_small_noise(sigma: float) -> None:
    """Rotating the frame changes nothing; a difference of squares over sigma^2 would be all rounding error."""
    lam = torch.tensor([900.0, 30.0], dtype=torch.float64)
    axes = Gaussian(torch.zeros(40).double(), torch.eye(40, 2).double(), lam)
    turn = torch.linalg.qr(randn(40, 40, seed=16))[0]
    x = axes.sample(randn(8, 40, seed=17)) + sigma * randn(8, 40, seed=18)
    want = -0.5 * (x[:, :2] ** 2 / (lam + sigma**2)).sum(1) - 0.5 * (x[:, 2:] / sigma).square().sum(1)
    want -= 0.5 * ((lam + sigma**2).log().sum() + 38 * math.log(sigma**2) + 40 * math.log(2 * math.pi))
    turned = mixture([1.0], Gaussian(axes.mu, turn[:, :2].contiguous(), lam))
    assert rel(axes.log_prob(x, 1.0, sigma), want) < 1e-12
    assert float((turned.log_prob(x @ turn.T, 1.0, sigma) - want).abs().max()) < 1e-14 * 100 / sigma


def test_states_keep_their_shape_and_dtype(device: torch.device) -> None:
    m = three(6).to(device)
    x = randn(3, 1, 2, 3, seed=19).float().to(device)
    for result in (m(x, 0.6, 0.8), m.score(x, 0.6, 0.8)):
        assert result.shape == x.shape and result.dtype == x.dtype and result.device.type == device.type
    want = three(6)(x.double().cpu(), 0.6, 0.8)
    assert rel(m(x, 0.6, 0.8), want) < 1e-6
    assert rel(m.to(dtype=torch.float32)(x, 0.6, 0.8), want) < 1e-5
    assert m.device.type == device.type and m.sample(4, seed=1).device.type == device.type
    assert rel(m.sample(4, seed=1), three(6).sample(4, seed=1)) < 1e-12


# moments and samples


def test_classes_together_have_the_moments_of_the_data(digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits
    m = Mixture.of_classes(images, labels)
    whole, moments = matched(m), Moments.of(images)
    assert rel(whole.mu, moments.mean) < 1e-13 and rel(dense(whole), moments.covariance) < 1e-12
    assert rel(m.weights, labels.bincount() / len(labels)) < 1e-6
    third = Gaussian.from_moments(Moments.of(images[labels == 3]))
    assert rel(dense(m.components[3]), dense(third)) < 1e-12


@pytest.mark.parametrize("n", [1, 2, 20, 64, 65])
def test_few_images_make_the_same_gaussian_as_their_covariance(digits: tuple[Tensor, Tensor], n: int) -> None:
    images = digits[0][:n].flatten(1)
    (g,) = Mixture.of_classes(images, torch.zeros(n, dtype=torch.long)).components
    assert rel(g.mu, images.mean(0)) < 1e-14
    assert rel(dense(g), torch.cov(images.T, correction=0)) < 1e-11
    assert len(g.lam) == n - 1 and g.rest == pytest.approx(0, abs=1e-12), "n images have n - 1 directions"
    (low,) = Mixture.of_classes(images, torch.zeros(n, dtype=torch.long), rank=5).components
    want = Gaussian.from_moments(Moments.of(images), rank=min(5, n - 1))
    assert rel(dense(low), dense(want)) < 1e-11


def test_kmeans_finds_separate_clusters_and_lists_each_image_once(digits: tuple[Tensor, Tensor]) -> None:
    truth = mixture([0.2, 0.3, 0.5], *(gaussian([0.3, 0.1], dim=4, seed=s, mean=6.0) for s in (1, 2, 3)))
    x = truth.sample(400, seed=20).reshape(400, 1, 2, 2)
    origin = truth.responsibilities(x, 1.0, 0.1).argmax(1)
    want = Mixture.of_classes(x, origin)
    got = Mixture.kmeans(x, 3, seed=1)
    order = [
        int(torch.cdist(g.mu[None], torch.stack([h.mu for h in want.components])).argmin()) for g in got.components
    ]
    assert sorted(order) == [0, 1, 2] and rel(got.weights, want.weights[order]) < 1e-6
    assert all(rel(dense(g), dense(want.components[i])) < 1e-9 for g, i in zip(got.components, order))
    again, other = Mixture.kmeans(x, 3, seed=1), Mixture.kmeans(x, 1)
    assert all(torch.equal(a.mu, b.mu) for a, b in zip(got.components, again.components))
    assert rel(dense(other.components[0]), torch.cov(x.flatten(1).T, correction=0)) < 1e-12


def test_kmeans_is_as_tight_as_the_library_alone(digits: tuple[Tensor, Tensor]) -> None:
    """Seeding on a subset and few iterations cost almost nothing of the within-cluster variance."""
    images, k = digits[0], 30
    m = Mixture.kmeans(images, k, seed=0)
    within = sum(float(w * g.spectrum.sum()) for w, g in zip(m.weights, m.components))
    best = KMeans(k, n_init=3, random_state=0).fit(images.flatten(1).numpy()).inertia_ / len(images)
    assert within < 1.03 * best
    assert [g.U.shape[1] for g in Mixture.kmeans(images, k, rank=4).components] == [4] * k


def test_kmeans_starts_in_every_cluster() -> None:
    """Twelve tight clusters far apart: from centres drawn at random, Lloyd's algorithm leaves some of them merged."""
    centres = 20 * randn(12, 3, seed=26)
    x = centres.repeat(30, 1) + 0.1 * randn(360, 3, seed=27)
    for seed in range(3):
        m = Mixture.kmeans(x, 12, seed=seed)
        assert max(float(g.spectrum.sum()) for g in m.components) < 0.06
        assert rel(m.weights, torch.full((12,), 1 / 12)) < 1e-6


def test_samples_have_the_mixture_s_moments_at_any_level() -> None:
    m, n = three(), 20_000
    for level in ((1.0, 0.0), (0.6, 0.8)):
        x = m.sample(n, seed=21, level=level)
        g = matched(m)
        want = level[0] ** 2 * dense(g) + level[1] ** 2 * torch.eye(5, dtype=torch.float64)
        assert rel(x.mean(0), level[0] * m.mean) < 0.04
        assert rel(torch.cov(x.T), want) < 0.04
    assert torch.equal(m.sample(5, seed=3), m.sample(5, seed=3))
    assert not torch.equal(m.sample(5, seed=3), m.sample(5, seed=4))
    parts = m.responsibilities(m.sample(n, seed=22), 1.0, 0.05).mean(0)  # E w_i(x) = pi_i
    assert float((parts - m.weights).abs().max()) < 4 * 0.5 / math.sqrt(n)


def test_a_mixture_of_points_is_a_point_cloud() -> None:
    points, x = randn(12, 5, seed=23), randn(6, 5, seed=24)
    none = torch.zeros(5, 0, dtype=torch.float64)
    m = mixture([1 / 12] * 12, *(Gaussian(p, none, none[0]) for p in points))
    cloud = PointCloud(points)
    for level in LEVELS:
        assert rel(m(x, *level), cloud(x, *level)) < 1e-12
        assert rel(m.score(x, *level), cloud.score(x, *level)) < 1e-11
        assert rel(m.log_prob(x, *level), cloud.log_prob(x, *level)) < 1e-12


# what many modes change, exactly, by quadrature over the noisy state


def noisy_axis(m: Mixture, level: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """A grid of noisy states (n, 1) and their probabilities (n,)."""
    g, spread = matched(m), 0.0
    for part in m.components:
        spread = max(
            spread, level[0] * abs(float(part.mu)) + 12 * math.hypot(level[0] * float(part.lam.sqrt()), level[1])
        )
    x = torch.linspace(-spread, spread, 60_001, dtype=torch.float64)[:, None]
    p = m.log_prob(x, *level).exp() * float(x[1] - x[0])
    assert float(p.sum()) == pytest.approx(1, abs=1e-9) and g.dim == 1
    return x, p


@pytest.mark.statement("prop-derivation-regression", "prop-gaussian-wiener")
@pytest.mark.parametrize("level", [(0.1, 0.995), (0.6, 0.8), (0.98, 0.2), (1.0, 0.05), (1.0, 6.0)])
def test_gaussian_error_is_the_best_error_plus_the_distance_to_the_best(level: tuple[float, float]) -> None:
    """Pythagoras: E|x_0 - D_gauss|^2 = E|x_0 - D|^2 + E|D - D_gauss|^2, with E|x_0 - D|^2 = E x_0^2 - E D^2."""
    m = skewed()
    g, (x, p) = matched(m), noisy_axis(m, level)
    best = float(m.mean.square() + g.lam) - float(p @ m(x, *level)[:, 0].square())
    apart = float(p @ (m(x, *level) - g(x, *level))[:, 0].square())
    agree(best + apart, g.mmse(level), 1e-7)
    assert apart > 0.01 * best or level[1] > 5 * level[0]


@pytest.mark.statement("prop-gaussian-bound", "rem-gaussian-factors", "prop-factors-law")
@pytest.mark.parametrize("level", [(0.1, 0.995), (0.4, 0.92), (0.6, 0.8), (0.98, 0.2), (1.0, 6.0)])
def test_emergence_and_factors_are_never_later_than_the_gaussian_says(level: tuple[float, float]) -> None:
    """Var D >= lam sigmoid(log-SNR + ln lam), and Var E[f|x] >= alpha^2 c^2 / V for the factor f = 'third bump'."""
    m = skewed()
    (lam,), (x, p) = matched(m).lam, noisy_axis(m, level)
    D = m(x, *level)[:, 0]
    share = float(p @ (D - m.mean) ** 2 / lam)
    bound = float(emergence(lam, level))
    agree(max(bound - share, share - 1, 0.0), 0.0, 1e-9)
    pi = float(m.weights[2])
    known = m.responsibilities(x, *level)[:, 2]
    c = pi * float(m.components[2].mu - m.mean)  # Cov(x_0, f)
    law = level[0] ** 2 * c**2 / float(level[0] ** 2 * lam + level[1] ** 2) / (pi * (1 - pi))
    posterior = float(p @ (known - pi) ** 2) / (pi * (1 - pi))
    agree(max(law - posterior, posterior - 1, 0.0), 0.0, 1e-9)
    if 0.2 < bound < 0.95:
        assert share > 1.01 * bound and posterior > 1.01 * law


@pytest.mark.parametrize(("alpha", "share"), [(0.08, 0.31), (0.22, 0.18), (0.37, 0.056), (0.61, 0.0021), (0.78, 6e-5)])
def test_flip_probability_by_the_package_s_own_solver(alpha: float, share: float) -> None:
    """A kick of 1 flips the mode (+-6, variance 1) exactly from -1 < z < 0: followed to the end by Heun steps."""
    m, sigma, kick = mixture([0.5, 0.5], line(6.0, 1.0), line(-6.0, 1.0)), math.sqrt(1 - alpha**2), 1.0
    edges = torch.linspace(-2, 1, 151, dtype=torch.float64)
    z = ((edges[1:] + edges[:-1]) / 2)[:, None]
    slope = torch.cat([torch.logspace(math.log10(sigma / alpha), -2, 40).double(), torch.zeros(1).double()])
    angle = torch.atan(slope)
    levels = Levels(torch.cos(angle), torch.sin(angle))
    end = solve(m, torch.cat([z, z + kick]), levels, progress=False).final[:, 0]
    assert bool(((end.abs() - 6).abs() < 6).all())
    flipped = end[: len(z)] * end[len(z) :] < 0
    v = math.sqrt(alpha**2 + sigma**2)
    cdf = [NormalDist(c * alpha * 6, v).cdf for c in (1, -1)]
    mass = torch.tensor([sum(F(b) - F(a) for F in cdf) / 2 for a, b in itertools.pairwise(edges.tolist())])
    law = sum(F(0.0) - F(-kick) for F in cdf) / 2
    assert float(mass[flipped].sum()) == pytest.approx(law, rel=0.03)
    assert float(mass[flipped].sum()) == pytest.approx(share, rel=0.1)


def test_in_a_gaussian_a_kick_in_standard_deviations_is_never_early_or_late() -> None:
    g, kick = matched(mixture([0.5, 0.5], line(6.0, 1.0), line(-6.0, 1.0))), 0.3
    assert float(g.lam) == pytest.approx(37.0)
    for alpha in (0.08, 0.37, 0.78):
        level = (alpha, math.sqrt(1 - alpha**2))
        size = kick * math.sqrt(alpha**2 * 37 + level[1] ** 2)
        x = torch.tensor([[0.5], [0.5 + size]], dtype=torch.float64)
        ends = g.flow(x, frm=level)
        assert float(ends[1] - ends[0]) == pytest.approx(kick * math.sqrt(37), rel=1e-9)
        assert size * float(ode_gain(g.lam, frm=level)) == pytest.approx(kick * math.sqrt(37), rel=1e-9)


# the landscape


def jacobian(m: Mixture, x: Tensor, sigma: float) -> Tensor:
    return torch.autograd.functional.jacobian(lambda y: m(y[None], 1.0, sigma)[0], x)


def test_jacobian_reads_the_local_covariance_and_rises_where_modes_merge() -> None:
    """Inside one mode sigma^2 j/(1-j) is its own variance at every sigma; sigma^2 dD/dx = Cov(x_0|x) everywhere."""
    here = gaussian([0.5, 0.2], seed=25, mean=0.0)
    there = Gaussian(here.mu + torch.tensor([6.0, 0.0]).double(), here.U, here.lam)
    m = mixture([0.5, 0.5], here, there)
    tops = []
    for sigma in (0.3, 0.7, 1.0, 3.0, 6.0):
        J = jacobian(m, here.mu, sigma)
        assert rel(J, J.T) < 1e-12
        j, frame = torch.linalg.eigh(J)
        read = (sigma**2 * j / (1 - j)).flip(0)
        tops.append(float(read[0]))
        if sigma <= 1.0:
            assert rel(read, here.lam) < 1e-3
            assert float((frame.flip(1) * here.U).sum(0).abs().min()) > 0.999
    assert tops[3] > 10 * tops[0] and tops[4] > tops[3]


@pytest.mark.statement("rem-derivation-second")
@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_posterior_covariance_is_the_jacobian(alpha: float) -> None:
    m, x, sigma = skewed(), torch.tensor([0.9]).double(), 0.8
    z = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    density = m.log_prob(z[:, None]).exp() * (-((x - alpha * z) ** 2) / (2 * sigma**2)).exp()
    density /= density.sum()
    variance = density @ z**2 - (density @ z) ** 2
    slope = torch.autograd.functional.jacobian(lambda y: m(y[None], alpha, sigma)[0], x)
    agree(sigma**2 / alpha * float(slope), float(variance), 1e-9)


@pytest.mark.parametrize(("place", "c"), [(2.0, 0.5), (3.0, 1.0), (1.0, 0.0)])
def test_equal_modes_merge_where_the_noise_variance_is_m2_minus_c(place: float, c: float) -> None:
    """Critical points of the blurred density obey x = D(x): three below sigma^2 = m^2 - c, one above."""
    m = mixture([0.5, 0.5], line(place, c), line(-place, c))
    merge = math.sqrt(place**2 - c)
    assert float(jacobian(m, torch.zeros(1).double(), merge)) == pytest.approx(1, abs=1e-9)
    x = torch.linspace(-2 * place, 2 * place, 4000, dtype=torch.float64)[:, None]  # even: zero is not on the grid
    for factor, count in ((0.9, 3), (0.99, 3), (1.01, 1), (1.5, 1)):
        pull = (m(x, 1.0, factor * merge) - x)[:, 0]
        assert int((pull[1:] * pull[:-1] < 0).sum()) == count
        same = m.score(x, 1.0, factor * merge)[:, 0] * (factor * merge) ** 2  # D - x = sigma^2 score
        assert rel(pull, same) < 1e-9


# refusals


def test_refusals() -> None:
    g, images = gaussian([1.0, 0.5]), randn(6, 2, 2)
    with pytest.raises(ValueError, match="one weight per component"):
        mixture([0.5, 0.5], g)
    with pytest.raises(ValueError, match="one weight per component"):
        mixture([])
    with pytest.raises(ValueError, match="sum to 1"):
        mixture([0.5, 0.6], g, g)
    with pytest.raises(ValueError, match="must be positive"):
        mixture([1.5, -0.5], g, g)
    with pytest.raises(ValueError, match="must be positive"):
        mixture([1.0, 0.0], g, g)
    with pytest.raises(ValueError, match="must be positive"):
        mixture([math.nan], g)
    with pytest.raises(ValueError, match="share dimension"):
        mixture([0.5, 0.5], g, gaussian([1.0]))
    with pytest.raises(ValueError, match="share dimension"):
        mixture([0.5, 0.5], g, g.to(dtype=torch.float32))
    with pytest.raises(ValueError, match="2 dimensions"):
        mixture([1.0], g)(randn(3, 5), 1.0, 1.0)
    with pytest.raises(ValueError, match="one alpha and sigma"):
        mixture([1.0], g)(randn(3, 2), torch.ones(2), 1.0)
    with pytest.raises(ValueError, match="one integer label per image"):
        Mixture.of_classes(images, torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match="one integer label per image"):
        Mixture.of_classes(images, torch.zeros(6))
    with pytest.raises(ValueError, match="floating point"):
        Mixture.of_classes(images.to(torch.uint8), torch.zeros(6, dtype=torch.long))
    with pytest.raises(ValueError, match="NaN"):
        Mixture.kmeans(images / 0, 2)
    for k in (0, 7):
        with pytest.raises(ValueError, match="1 to 6 clusters"):
            Mixture.kmeans(images, k)
    parts = [g]
    listed = Mixture(torch.ones(1), parts)  # type: ignore[arg-type]
    parts.append(g)
    assert listed.components == (g,) and listed.weights.dtype == g.mu.dtype
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixture([1.0], g).weights = torch.ones(1)  # type: ignore[misc]
    assert not hasattr(mixture([1.0], g), "flow")
