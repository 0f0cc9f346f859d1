"""The point cloud against a naive softmax over explicit differences, and what the theory says of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from partners import agree, randn, rel
from scipy.optimize import nnls
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from atelier.landscape.farfield import FarField
from painters import Gaussian, Levels, Moments, PointCloud, solve
from painters.schedules import edm
from painters.theory import emergence

LEVELS = [(0.0, 1.0), (0.05, 0.999), (0.6, 0.8), (0.98, 0.2), (1.0, 0.01), (1.0, 30.0), (0.5, 0.5)]


@pytest.fixture(scope="module")
def digits() -> PointCloud:
    """1,797 digits of 8 x 8 pixels in [-1, 1], with their labels."""
    data = load_digits()
    return PointCloud(torch.from_numpy(data.images / 8 - 1)[:, None], torch.from_numpy(data.target))


def small(n: int = 40, *, seed: int = 0) -> PointCloud:
    return PointCloud(randn(n, 1, 2, 3, seed=seed), torch.arange(n) % 4)


def noised(cloud: PointCloud, n: int, level: tuple[float, float], *, seed: int = 1) -> Tensor:
    """The first n points at this level, with noise."""
    return level[0] * cloud.points[:n].double() + level[1] * randn(n, *cloud.points.shape[1:], seed=seed)


def naive(cloud: PointCloud, x: Tensor, alpha: float, sigma: float, *, half: float = 0.5) -> dict[str, Tensor]:
    """Every result by its definition, from all differences x_b - alpha y_i at once."""
    y = cloud.points.double().flatten(1)
    away = x.double().flatten(1)[:, None] - alpha * y
    logits = -half * away.square().sum(2) / sigma**2
    w = logits.softmax(1)
    mean = w @ y
    norm = math.log(len(y)) + y.shape[1] / 2 * math.log(2 * math.pi * sigma**2)
    labels = torch.zeros(len(w), 1) if cloud.labels is None else w @ torch.nn.functional.one_hot(cloud.labels).double()
    return {
        "D": mean.reshape(x.shape),
        "score": -((w[:, :, None] * away).sum(1) / sigma**2).reshape(x.shape),
        "log p": logits.logsumexp(1) - norm,
        "largest": w.amax(1),
        "nearest": w.argmax(1),
        "entropy": -torch.special.xlogy(w, w).sum(1),
        "labels": labels,
    }


def measured(cloud: PointCloud, x: Tensor, alpha: float, sigma: float) -> dict[str, Tensor]:
    state = (x, alpha, sigma)
    return {
        "D": cloud(*state),
        "score": cloud.score(*state),
        "log p": cloud.log_prob(*state),
        **{k: v for k, v in vars(cloud.weights(*state)).items() if v is not None},
    }


def apart(got: dict[str, Tensor], want: dict[str, Tensor]) -> dict[str, float]:
    """Relative differences; indices are compared one by one, and entropies on the scale of one nat."""
    error = {key: rel(got[key], want[key]) for key in got}
    if "entropy" in got:
        error["entropy"] = float((got["entropy"] - want["entropy"]).abs().max())
    return error


# the formulas


@pytest.mark.parametrize("level", LEVELS)
def test_everything_is_the_naive_softmax(level: tuple[float, float]) -> None:
    cloud = small()
    x = noised(cloud, 9, level)
    assert max(apart(measured(cloud, x, *level), naive(cloud, x, *level)).values()) < 1e-11


@pytest.mark.parametrize(
    "mistake",
    [
        lambda cloud, x, a, s: naive(cloud, x, a, s**2),  # the variance where the standard deviation belongs
        lambda cloud, x, a, s: naive(cloud, x, a, s, half=1.0),  # a softmax without its 1/2
    ],
    ids=["sigma squared", "no half"],
)
def test_common_mistakes_would_be_seen(mistake) -> None:
    """The comparison above, at the same tolerance, with the partner made wrong on purpose."""
    cloud, level = small(), (0.6, 0.8)
    x = noised(cloud, 9, level)
    error = apart(measured(cloud, x, *level), mistake(cloud, x, *level))
    assert all(error[key] > 1e-2 for key in ("D", "log p", "largest", "entropy", "labels"))


def test_a_wrong_normaliser_would_be_seen() -> None:
    """The density integrates to 1; with (2 pi sigma)^(D/2) for (2 pi sigma^2)^(D/2) it would not."""
    cloud, alpha, sigma = PointCloud(randn(7, 2, seed=2)), 0.8, 0.3
    axis = torch.linspace(-5, 5, 401, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    mass = float(cloud.log_prob(x, alpha, sigma).exp().sum()) * float(axis[1] - axis[0]) ** 2
    assert mass == pytest.approx(1, abs=1e-9)
    assert abs(mass * sigma**2 / sigma - 1) > 0.5


def test_one_level_per_sample() -> None:
    cloud = small()
    x = randn(4, 1, 2, 3, seed=3)
    alpha, sigma = torch.tensor([0.0, 0.3, 0.9, 1.0]), torch.tensor([1.0, 0.9, 1e-5, 5.0])
    together = measured(cloud, x, alpha, sigma)  # type: ignore[arg-type]
    for i in range(4):
        one = measured(cloud, x[i : i + 1], float(alpha[i]), float(sigma[i]))
        assert max(apart(one, {key: value[i : i + 1] for key, value in together.items()}).values()) < 1e-6
    assert rel(cloud(x, alpha.reshape(4, 1, 1, 1), sigma.reshape(4, 1, 1, 1)), together["D"]) == 0


@pytest.mark.parametrize("level", [(0.6, 0.8), (1.0, 0.3), (0.2, 0.98), (1.0, 1e-9)])
def test_score_is_the_slope_of_the_density_and_tweedie_holds(level: tuple[float, float]) -> None:
    cloud = small()
    x = noised(cloud, 6, level).requires_grad_()
    (slope,) = torch.autograd.grad(cloud.log_prob(x, *level).sum(), x)
    assert rel(cloud.score(x, *level).detach(), slope) < 1e-6
    assert rel(level[0] * cloud(x, *level).detach(), (x + level[1] ** 2 * slope).detach()) < 1e-10


def test_the_coordinates_of_a_level_do_not_matter() -> None:
    cloud, x, alpha, sigma = small(), randn(6, 1, 2, 3, seed=4), 0.6, 0.8
    for c in (1 / alpha, 1 / (alpha + sigma)):  # variance exploding, flow matching
        assert rel(cloud(c * x, c * alpha, c * sigma), cloud(x, alpha, sigma)) < 1e-12
        assert rel(c * cloud.score(c * x, c * alpha, c * sigma), cloud.score(x, alpha, sigma)) < 1e-12
        moved = cloud.log_prob(c * x, c * alpha, c * sigma) + cloud.dim * math.log(c)
        assert rel(moved, cloud.log_prob(x, alpha, sigma)) < 1e-12


def test_pure_noise_weighs_all_points_alike() -> None:
    cloud, x = small(), 5 * randn(3, 1, 2, 3, seed=5)
    weights = cloud.weights(x, 0.0, 1.0)
    assert rel(cloud(x, 0.0, 1.0), cloud.points.mean(0).expand(3, 1, 2, 3)) < 1e-14
    assert (
        rel(weights.effective, torch.full((3,), 40.0)) < 1e-12 and rel(weights.largest, torch.full((3,), 1 / 40)) < 1e-6
    )


# precision, memory and devices


@pytest.mark.parametrize("sigma", [1e-2, 1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_near_duplicates_are_told_apart_at_small_noise(sigma: float, dtype: torch.dtype) -> None:
    """Pairs about sigma apart: the difference of their squared distances is far below the rounding of |x|^2."""
    D = 300
    first = 3 * randn(20, D, seed=6).to(dtype).double()
    second = first + sigma * randn(20, D, seed=7) / 6
    cloud = PointCloud(torch.cat([first, second]).to(dtype))  # in float32 small shifts round away: true duplicates
    x = first[:8] + sigma * randn(8, D, seed=8)
    x = torch.cat([x, first[:1] + 3 * sigma * randn(1, D, seed=9)])  # near the same pair as another, and further off
    want = naive(cloud, x, 1.0, sigma)
    assert max(apart(measured(cloud, x, 1.0, sigma), want).values()) < 1e-5
    y = cloud.points.double()
    expanded = x.square().sum(1, keepdim=True) - 2 * x @ y.T + y.square().sum(1)
    lost = float(((-expanded / (2 * sigma**2)).softmax(1).amax(1) - want["largest"]).abs().max())
    assert sigma > 1e-5 or lost > 0.01  # what the expanded product alone would make of it, by machine


def test_float32_images_give_float64_answers(digits: PointCloud) -> None:
    level = (1.0, 0.3)
    x = noised(digits, 20, level).float()
    single = PointCloud(digits.points.float(), digits.labels)
    assert torch.equal(single.points.double(), digits.points)  # multiples of 1/8
    want = naive(digits, x, *level)
    got = measured(single, x, *level)
    assert got["D"].dtype == got["score"].dtype == torch.float32 and got["log p"].dtype == torch.float64
    assert apart(got, want)["D"] < 1e-7 and apart(got, want)["log p"] < 1e-13


@pytest.mark.parametrize("chunk", [1, 7, 64, 100])
def test_parts_do_not_matter(chunk: int) -> None:
    cloud = small()
    for level in ((0.6, 0.8), (1.0, 1e-7), (0.0, 1.0)):
        x = noised(cloud, 9, level)
        parts = measured(dataclasses.replace(cloud, chunk=chunk), x, *level)
        assert max(apart(parts, measured(cloud, x, *level)).values()) < 1e-10


class Largest(TorchDispatchMode):
    """Records the most numbers in any tensor that an operation makes."""

    seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, Tensor) and value.storage_offset() == 0 and not value._is_view():
                self.seen = max(self.seen, value.numel())
        return out


@pytest.mark.parametrize("sigma", [1.0, 1e-7])
def test_memory_is_bounded(digits: PointCloud, sigma: float) -> None:
    cloud = PointCloud(digits.points[:600].float(), torch.arange(600) % 10, chunk=4000)
    x = noised(cloud, 100, (1.0, sigma))
    with Largest() as largest:
        measured(cloud, x, 1.0, sigma)
    allowed = max(4000, x.numel())  # the states and their results are the caller's
    assert largest.seen <= allowed < 0.11 * len(cloud.points) * len(x)


def test_runs_where_the_state_is(device: torch.device) -> None:
    cloud = small()
    x = noised(cloud, 5, (0.6, 0.8)).to(device)
    for places in (cloud, cloud.to(device, torch.float32)):
        got = measured(places, x, 0.6, 0.8)
        assert {value.device.type for value in got.values()} == {device.type}
        error = apart({key: value.cpu() for key, value in got.items()}, naive(cloud, x.cpu(), 0.6, 0.8))
        assert max(error.values()) < (1e-11 if places is cloud else 1e-5)


# what the theory says


@pytest.mark.statement("prop-derivation-hull")
@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_estimate_is_in_the_convex_hull(sigma: float) -> None:
    """Non-negative least squares finds weights with sum 1 that make D of the points; for x itself it finds none."""
    cloud = PointCloud(randn(15, 4, seed=9))
    x = 4 * randn(5, 4, seed=10)
    D = cloud(x, 1.0, sigma)
    y = np.vstack([cloud.points.T.numpy(), np.ones(15)])
    for inside, outside in zip(D.tolist(), x.tolist()):
        agree(y @ nnls(y, [*inside, 1.0])[0], np.array([*inside, 1.0]), 1e-9)
        assert nnls(y, [*outside, 1.0])[1] > 0.1


@pytest.mark.parametrize("sigma_min", [0.05, 0.002])
def test_sampling_ends_on_a_training_image(digits: PointCloud, sigma_min: float) -> None:
    levels = Levels.of(edm(sigma_min=sigma_min, sigma_max=40.0), 40)
    start = levels.start(randn(16, 1, 8, 8, seed=11))
    run = solve(digits, start, levels, progress=False)
    y = digits.points.flatten(1)
    left = torch.cdist(run.x[-2].flatten(1), y).amin(1) / (sigma_min * math.sqrt(64))
    assert float(left.min()) > 0.3 and float(left.max()) < 2  # sigma_min sqrt(D) away at sigma_min
    ends = torch.cdist(run.final.flatten(1), y)
    assert float(ends.amin(1).max()) < 1e-6
    assert torch.equal(ends.argmin(1), digits.weights(run.x[-2], 1.0, sigma_min).nearest)
    assert len(ends.argmin(1).unique()) > 10  # different images from different noise


def test_collapse_of_the_effective_number(digits: PointCloud) -> None:
    """From all images to one: exp(H) falls with sigma, and the label is known before the image."""
    sigmas, effective, sure = (40.0, 5.0, 2.0, 1.0, 0.3), [], []
    for sigma in sigmas:
        weights = digits.weights(noised(digits, 200, (1.0, sigma)), 1.0, sigma)
        assert weights.labels is not None and rel(weights.labels.sum(1), torch.ones(200)) < 1e-12
        effective.append(float(weights.effective.median()))
        sure.append((float(weights.labels.amax(1).median()), float(weights.largest.median())))
    assert effective == sorted(effective, reverse=True)
    assert effective[0] > 1700 and effective[-1] < 1.01
    assert all(label >= image for label, image in sure)
    assert digits.labels is not None and sure[3][0] > 0.95


@pytest.mark.statement("prop-derivation-regression")
@pytest.mark.parametrize("sigma", [0.5, 2.0, 8.0])
def test_pythagoras(digits: PointCloud, sigma: float) -> None:
    """E|x_0 - D_gauss|^2 = E|x_0 - D|^2 + E|D - D_gauss|^2 within Monte Carlo error; the left side is a sum."""
    g = Gaussian.from_moments(Moments.of(digits.points))
    x0 = digits.points
    x = noised(digits, len(x0), (1.0, sigma), seed=12)
    D, linear = digits(x, 1.0, sigma), g(x, 1.0, sigma)
    best, apart_ = ((a - b).square().flatten(1).sum(1) for a, b in ((x0, D), (D, linear)))
    total = best + apart_
    assert abs(float(total.mean()) - g.mmse((1.0, sigma))) < 4 * float(total.std()) / math.sqrt(len(x))
    assert sigma > 4 or float(apart_.mean()) > 0.05 * float(best.mean())  # in the far field they coincide


@pytest.mark.statement("prop-gaussian-bound", "rem-gaussian-factors")
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 4.0, 10.0])
def test_emergence_and_factors_are_never_later_than_the_gaussian_says(digits: PointCloud, sigma: float) -> None:
    """PC by PC: Var(u . D) >= lam sigmoid(log-SNR + ln lam). For f = 'is it a 0': Var E[f|x] >= the linear R^2."""
    level = (1.0, sigma)
    g = Gaussian.from_moments(Moments.of(digits.points))
    x = noised(digits, len(digits.points), level, seed=13)
    lam = g.lam[:30]
    power = g.project(digits(x, *level))[:, :30].square() / lam
    share, error = power.mean(0), power.std(0) / math.sqrt(len(x))
    bound = emergence(lam, level)
    assert bool((share + 4 * error >= bound).all())
    if sigma <= 4:
        assert float((share / bound).max()) > 1.2
    assert digits.labels is not None
    weights = digits.weights(x, *level)
    assert weights.labels is not None
    f = (digits.labels == 0).double()
    p = float(f.mean())
    posterior = (weights.labels[:, 0] - p).square() / (p * (1 - p))
    c = (digits.points.flatten(1) - g.mu).T @ (f - p) / len(f)
    law = float(((c @ g.U) ** 2 / (g.lam + sigma**2)).sum()) / (p * (1 - p))
    assert float(posterior.mean()) + 4 * float(posterior.std()) / math.sqrt(len(x)) >= law
    if sigma <= 4:
        assert float(posterior.mean()) > 1.05 * law


# the far field


@pytest.mark.statement("prop-modes-far")
def test_far_field_slopes(digits: PointCloud) -> None:
    """|D - D_gauss| falls as sigma^-2, and as sigma^-3 or faster once the third cumulant is added."""
    far = FarField.of(digits.points)
    sigmas = torch.tensor([40.0, 80.0, 160.0], dtype=torch.float64)
    eps = randn(100, 1, 8, 8, seed=14)
    before, after = [], []
    for sigma in sigmas.tolist():
        x = digits.points[:100] + sigma * eps
        D = digits(x, 1.0, sigma)
        before.append(float((D - far.gaussian(x, 1.0, sigma)).norm()))
        after.append(float((D - far(x, 1.0, sigma)).norm()))
    slopes = [np.polyfit(sigmas.log().numpy(), np.log(error), 1)[0] for error in (before, after)]
    assert slopes[0] == pytest.approx(-2, abs=0.05) and slopes[1] < -2.9
    assert all(b < 0.15 * a for a, b in zip(before, after))


def test_correction_in_one_dimension() -> None:
    """sigma^2 k3 (z^2 - 1) / (2 s^4) with s^2 = lam + sigma^2; nothing for symmetric data."""
    y = torch.tensor([[-1.0], [0.2], [0.3], [4.0]], dtype=torch.float64)
    far, centred = FarField.of(y), y - y.mean()
    k3, lam = float(centred.pow(3).mean()), float(centred.square().mean())
    x = torch.linspace(-9, 9, 7, dtype=torch.float64)[:, None]
    for alpha, sigma in ((1.0, 3.0), (0.6, 0.8), (0.0, 1.0)):
        s2 = alpha**2 * lam + sigma**2
        z2 = (x - alpha * y.mean()) ** 2 / s2
        assert rel(far.correction(x, alpha, sigma), alpha**2 * sigma**2 * k3 * (z2 - 1) / (2 * s2**2)) < 1e-12
    mirror = FarField.of(torch.cat([y, -y]))
    assert float(mirror.correction(x, 1.0, 3.0).abs().max()) < 1e-14


@pytest.mark.statement("prop-modes-far")
def test_correction_is_the_tensor_formula_at_any_level() -> None:
    y = randn(30, 2, 2, seed=15).exp()
    far, flat = FarField.of(y), y.flatten(1)
    centred = flat - flat.mean(0)
    K = torch.einsum("ni,nj,nk->ijk", centred, centred, centred) / 30
    x = randn(5, 2, 2, seed=16)
    alpha, sigma = torch.tensor([0.0, 0.3, 0.9, 1.0, 1.0]), torch.tensor([1.0, 0.9, 0.2, 5.0, 50.0])
    rows = []
    for state, a, s in zip(x.flatten(1), alpha.double(), sigma.double()):
        V = a**2 * centred.T @ centred / 30 + s**2 * torch.eye(4, dtype=torch.float64)
        h = torch.linalg.solve(V, state - a * flat.mean(0))
        A = torch.outer(h, h) - torch.linalg.inv(V)
        rows.append(a**2 * s**2 / 2 * torch.linalg.solve(V, torch.einsum("ijk,jk->i", K, A)))
    agree(far.correction(x, alpha, sigma), torch.stack(rows).reshape(5, 2, 2), 1e-12)
    assert rel(far(x, alpha, sigma), far.gaussian(x, alpha, sigma) + far.correction(x, alpha, sigma)) == 0
    single = far.correction(x.float(), alpha, sigma)
    assert single.dtype == torch.float32 and rel(single, far.correction(x, alpha, sigma)) < 1e-5
    few = FarField.of(randn(3, 6, seed=17))  # fewer points than dimensions
    assert bool(torch.isfinite(few(randn(2, 6, seed=18), 1.0, 2.0)).all())


# refusals


def test_refusals() -> None:
    points = randn(6, 2, 2)
    with pytest.raises(ValueError, match="floating point"):
        PointCloud(points.to(torch.uint8))
    with pytest.raises(ValueError, match=r"images \(n, \.\.\.\)"):
        PointCloud(torch.zeros(0, 4))
    with pytest.raises(ValueError, match=r"images \(n, \.\.\.\)"):
        PointCloud(torch.zeros(4))
    with pytest.raises(ValueError, match="NaN"):
        PointCloud(points / 0)
    for labels in (torch.zeros(5, dtype=torch.long), torch.zeros(6), torch.full((6,), -1)):
        with pytest.raises(ValueError, match="one integer >= 0 per point"):
            PointCloud(points, labels)
    with pytest.raises(ValueError, match="at least 1"):
        PointCloud(points, chunk=0)
    cloud = PointCloud(points)
    for call in (cloud, cloud.score, cloud.log_prob, cloud.weights):
        with pytest.raises(ValueError, match="use sigma > 0"):
            call(points, 1.0, 0.0)
    with pytest.raises(ValueError, match="4 dimensions"):
        cloud(randn(3, 5), 1.0, 1.0)
    with pytest.raises(ValueError, match="one alpha and sigma"):
        cloud(randn(3, 4), 1.0, torch.ones(2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        cloud.chunk = 3  # type: ignore[misc]
    assert not hasattr(cloud, "flow") and cloud.weights(points, 1.0, 1.0).labels is None
