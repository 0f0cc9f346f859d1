"""Analytic denoisers and the two residuals against scores, dense algebra, Pythagoras and CIFAR-10's spectrum."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from partners import gaussian, randn, rel
from torch import Tensor

from atelier.limits.analytic import Inside, analytic, flattery
from atelier.limits.carries import compare, early, grid, measure, passing
from atelier.subject import Settings, Subject
from painters import Gaussian, Levels, noise
from painters.levels import edm, scaled_linear, vp_linear
from painters.theory.cloud import PointCloud
from painters.theory.mixture import Mixture
from painters.theory.moments import Moments

SHAPE = (1, 4, 4)
LEVEL = (0.6, 0.8)


@dataclass(frozen=True, eq=False)
class Toy(Subject):
    """A subject with data of its own: skewed, of two classes, 4 x 4 pixels."""

    train: Tensor = field(default_factory=lambda: torch.zeros(0))
    test: Tensor = field(default_factory=lambda: torch.zeros(0))

    def data(self, n, *, test=True):
        return (self.test if test else self.train)[:n]


def skewed(n: int, seed: int = 0) -> Tensor:
    z = randn(n, 16, seed=seed)
    z = torch.cat([0.2 * z[:, :8], 0.15 * (z[:, 8:] ** 2 - 1)], 1) + 0.3 * (z[:, :1] > 0.5)
    return (z * torch.linspace(1.8, 0.2, 16, dtype=z.dtype)).reshape(n, *SHAPE)


def toy(denoise=None, *, data: bool = True, kind: str = "network") -> Subject:
    train, test = skewed(240), skewed(60, seed=1)
    g = Gaussian.from_moments(Moments.of(train))
    reader = SimpleNamespace(shape=SHAPE, look=lambda x: x, features=lambda x: x.flatten(1)[:, :5])
    options = {
        "levels": lambda n: Levels.of(vp_linear(), n),
        "decode": lambda x: x / 2 + 0.5,
        "reader": reader,
        "kind": kind,
    }
    make = Toy if data else Subject
    extra = {"train": train, "test": test} if data else {}
    return make("toy", denoise or PointCloud(train), g, SHAPE, **options, **extra)  # type: ignore[arg-type]


def test_the_score_residual_is_that_of_the_scores():
    cloud = PointCloud(skewed(50).flatten(1))
    g = Gaussian.from_moments(Moments.of(cloud.points))
    x = LEVEL[0] * cloud.points[:20] + LEVEL[1] * randn(20, 16, seed=3)
    found = compare(cloud, {"gaussian": g}, x, LEVEL, mean=g.mu, batch=7)
    s, other = cloud.score(x, *LEVEL), g.score(x, *LEVEL)
    want = (s - other).square().sum() / s.square().sum()
    assert found.residuals("noise")["gaussian"].value == pytest.approx(float(want), rel=1e-10)
    d, guess = cloud(x, *LEVEL), g(x, *LEVEL)
    assert found.residuals("size")["gaussian"].value == pytest.approx(
        float((d - guess).square().sum() / d.square().sum()), rel=1e-10
    )
    assert found.residuals("moved")["gaussian"].value == pytest.approx(
        float((d - guess).square().sum() / (d - g.mu).square().sum()), rel=1e-10
    )


def test_the_network_is_compared_where_there_is_noise_and_signal():
    with pytest.raises(ValueError, match="positive"):
        compare(gaussian([1.0]), {}, randn(2, 1), (0.0, 1.0), mean=torch.zeros(1))


def test_the_best_denoiser_has_the_least_loss_and_pythagoras_holds():
    parts = (gaussian([2.0, 0.5, 0.1], seed=0), gaussian([1.0, 0.2, 0.3], seed=1, mean=2.0))
    truth = Mixture(torch.tensor([0.3, 0.7], dtype=torch.float64), parts)
    x0 = truth.sample(6000, seed=5)
    g = Gaussian.from_moments(Moments.of(x0))
    found = compare(truth, {"gaussian": g}, LEVEL[0] * x0 + LEVEL[1] * randn(6000, 3, seed=6), LEVEL, mean=g.mu, x0=x0)
    losses = found.losses()
    assert losses["network"].value < losses["gaussian"].value
    gap = found.loss["gaussian"] - found.loss["network"] - found.apart["gaussian"]
    assert abs(float(gap.mean())) < 3 * float(gap.std()) / 6000**0.5
    assert compare(truth, {"gaussian": g}, x0, LEVEL, mean=g.mu).losses() == {}


def test_a_mixture_inside_the_components_keeps_the_gaussian_outside():
    g = gaussian([3.0, 1.0, 0.5], dim=6, rest=0.2, seed=4)
    inner = Gaussian(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64), g.lam)
    x = randn(5, 6, seed=1)
    assert rel(Inside(g, inner)(x, 0.7, 0.4), g(x, 0.7, 0.4)) < 1e-12
    centres = randn(2, 3, seed=9)
    weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
    coordinates = Mixture(weights, tuple(Gaussian(c, torch.eye(3, dtype=torch.float64), g.lam / 2) for c in centres))
    whole = Mixture(weights, tuple(Gaussian(g.mu + g.U @ c, g.U, g.lam / 2, 0.2) for c in centres))
    assert rel(Inside(g, coordinates)(x, 0.7, 0.4), whole(x, 0.7, 0.4)) < 1e-12


def test_analytic_denoisers_know_more_and_more():
    train, test = skewed(3000), skewed(400, seed=1)
    labels = (train.flatten(1)[:, 0] > 0.3).long()
    g = Gaussian.from_moments(Moments.of(train))
    found = analytic(g, train, labels, clusters=(1, 2), ranks=(1, 4, 99))
    names = ["mean", "isotropic", "rank 1", "rank 4", "gaussian", "classes", "k-means 1", "k-means 2", "cloud"]
    assert list(found) == names
    x = 0.8 * test + 0.6 * randn(400, *SHAPE, seed=2)
    loss = {name: float((d(x, 0.8, 0.6) - test).square().mean()) for name, d in found.items()}
    assert loss["mean"] > loss["isotropic"] > loss["rank 1"] > loss["rank 4"] > loss["gaussian"] > loss["k-means 2"]
    assert loss["gaussian"] > loss["classes"]
    assert rel(found["k-means 1"](x, 0.8, 0.6), g(x, 0.8, 0.6)) < 1e-9  # its moments are the Gaussian's
    assert rel(found["mean"](x, 0.8, 0.6).flatten(1), g.mu.expand(400, -1)) < 1e-12
    spread = float(g.lam.mean())
    y = x.flatten(1) - 0.8 * g.mu
    want = g.mu + 0.8 * spread / (0.64 * spread + 0.36) * y
    assert rel(found["isotropic"](x, 0.8, 0.6).flatten(1), want) < 1e-12


def test_the_constant_mean_is_flattered_as_the_spectrum_says(cifar: Gaussian):
    got = [flattery(cifar, (1.0, sigma)) for sigma in (0.5, 1, 2, 5, 10, 20, 40, 80)]
    want = [0.981, 0.215, 0.0453, 0.00506, 7.8e-4, 8.8e-5, 7.1e-6, 4.8e-7]
    assert got == pytest.approx(want, rel=0.02)
    g = gaussian([5.0, 1.0, 0.2], dim=8, rest=0.05, seed=2)
    x = g.sample(randn(50_000, 8), level=LEVEL)
    nothing = Gaussian(g.mu, g.U[:, :0], g.lam[:0], 0.0)
    seen = compare(g, {"mean": nothing}, x, LEVEL, mean=g.mu, batch=50_000)
    assert float(seen.apart["mean"].mean() / seen.noise.mean()) == pytest.approx(flattery(g, LEVEL), rel=0.02)


def test_a_gaussian_run_is_foretold_and_the_null_is_not():
    g = gaussian([4.0, 1.0, 0.1], dim=6, rest=0.02, seed=1)
    levels = Levels.of(scaled_linear(), 12)
    run = g.trajectory(levels.start(noise(range(3), (6,), dtype=torch.float64)), levels)
    found = early(g, levels, run.x, run.x0)
    assert {key: value.shape for key, value in found.errors.items()} == dict.fromkeys(("x", "null", "x0"), (12, 3))
    assert float(found.errors["x"].max()) < 1e-12
    assert float(found.errors["x0"].max()) < 1e-12
    a0, s0 = levels[0]
    a, s = levels[7]
    told = a * g.mu + s / s0 * (run.x[0] - a0 * g.mu)
    assert rel(found.errors["null"][7], (told - run.x[7]).norm(dim=1) / run.x[7].norm(dim=1)) < 1e-9
    assert float(found.until(0.05).max()) == 0
    assert bool((found.until(0.05, what="null") > 0).all())
    shifted = early(g, levels, run.x, run.x0 + 0.1)
    distance = (run.x[-1] - g.mu).norm(dim=1)
    assert rel(shifted.errors["x0"][4], 0.1 * math.sqrt(6) / distance) < 1e-9


def test_a_passing_is_interpolated_in_the_log_of_the_level():
    ratio, errors = torch.tensor([8.0, 4.0, 2.0, 1.0]), torch.tensor([[0.0, 0.1, 0.3, 0.2], [0.2, 0.1, 0.0, 0.4]]).T
    assert passing(ratio, errors, 0.2).tolist() == pytest.approx([math.sqrt(8), 8])
    assert passing(ratio, errors, 0.5).tolist() == [0, 0]


def test_levels_stay_inside_the_range():
    assert grid(toy()).ratio.tolist() == pytest.approx([50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1])
    short = Subject("short", gaussian([1.0]), gaussian([1.0]), (1,), lambda n: Levels.of(scaled_linear(), n), abs)
    assert float(grid(short).ratio[0]) == pytest.approx(10)
    wide = Subject("wide", gaussian([1.0]), gaussian([1.0]), (1,), lambda n: Levels.of(edm(), n), abs)
    assert float(grid(wide).ratio[0]) == pytest.approx(50)


SETTINGS = Settings(seeds=tuple(range(4)), steps=12, profile="ci", batch=3)


def test_measuring_the_training_cloud_itself():
    found = json.loads(json.dumps(measure(toy(), SETTINGS)))
    n = len(found["ratio"])
    assert found["training"] == 240
    assert max(row[0] for row in found["test_score"]["cloud"]) < 1e-20
    for key in ("score", "size", "moved", "loss"):
        assert all(len(row) == n for row in found[f"test_{key}"].values())
    last = {name: row[-1][0] for name, row in found["test_loss"].items()}
    assert last["cloud"] == pytest.approx(last["network"])
    assert last["cloud"] > 2 * last["gaussian"], "it knows its own images and no others"
    assert found["painted"]["gaussian"]["pixels"][0] > found["painted"]["cloud"]["pixels"][0]
    assert len(found["painted"]["cloud"]["features"]) == 2
    subject, x = toy(), noise(range(2), SHAPE)
    images = subject.run(range(2), steps=12, solver="dpmpp2m").final
    apart = (subject.gaussian.flow(x, frm=subject.levels(6)[0]) - images) / 2
    assert found["painted"]["gaussian"]["pixels"] == pytest.approx(apart.square().flatten(1).mean(1).tolist(), rel=1e-4)
    assert found["unrelated"]["pixels"] == pytest.approx(float((images[0] - images[1]).square().mean() / 4), rel=1e-4)
    assert found["early_null"][0][0] == pytest.approx(0, abs=1e-9)
    assert found["until"]["x 0.05"][0] > 0


def test_without_data_the_states_are_those_of_the_runs():
    subject = toy(data=False)
    theory = subject.theory()
    found = measure(theory, SETTINGS)
    assert found is not None
    assert found["training"] == 0
    assert "path_loss" not in found
    assert max(row[0] for row in found["path_size"]["gaussian"]) == 0
    visited = theory.levels(12).ratio.tolist()
    assert all(min(abs(r / v - 1) for v in visited[:-1]) < 1e-12 for r in found["ratio"])
    assert found["flattery"] == pytest.approx([flattery(theory.gaussian, level) for level in _levels(found["ratio"])])
    assert found["early_x0"][0][0] < 0.2


def _levels(ratios):
    return [(1 / math.hypot(1, r), r / math.hypot(1, r)) for r in ratios]
