"""Analytic denoisers, the two residuals, and what is foretold of a run, against scores, dense algebra and formulas."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch
from partners import gaussian, randn, rel
from torch import Tensor

from atelier.learning.analytic import Inside, analytic
from atelier.learning.carries import affordable, compare, early, grid, measure, passing
from atelier.ledger.claim import Records
from atelier.ledger.rows.carry import READINGS
from atelier.subject import Settings, Subject
from painters import Gaussian, Levels, noise
from painters.schedules import edm, scaled_linear, vp_linear
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
    options = {
        "levels": lambda n: Levels.of(vp_linear(), n),
        "decode": lambda x: x / 2 + 0.5,
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


def test_a_mixture_inside_the_components_keeps_the_gaussian_outside():
    g = gaussian([3.0, 1.0, 0.5], dim=6, rest=0.2, seed=4)
    inner = Gaussian(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64), g.lam)
    x = randn(5, 6, seed=1)
    assert rel(Inside(g, inner)(x, 0.7, 0.4), g(x, 0.7, 0.4)) < 1e-12
    single = Inside(g, inner)(x.float(), 0.7, 0.4)  # a network's states are answered in their own precision
    assert single.dtype == torch.float32 and rel(single, g(x, 0.7, 0.4)) < 1e-6
    centres = randn(2, 3, seed=9)
    weights = torch.tensor([0.4, 0.6], dtype=torch.float64)
    coordinates = Mixture(weights, tuple(Gaussian(c, torch.eye(3, dtype=torch.float64), g.lam / 2) for c in centres))
    whole = Mixture(weights, tuple(Gaussian(g.mu + g.U @ c, g.U, g.lam / 2, 0.2) for c in centres))
    assert rel(Inside(g, coordinates)(x, 0.7, 0.4), whole(x, 0.7, 0.4)) < 1e-12


def test_inside_the_components_alone_nothing_is_said_of_the_rest():
    g = gaussian([3.0, 1.0], dim=5, seed=4)
    inner = Gaussian(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64), g.lam)
    x = randn(4, 5, seed=1)
    for level in ((1.0, 0.0), (0.6, 0.8)):
        assert rel(Inside(g, inner)(x, *level), g(x, *level)) < 1e-12


@pytest.mark.parametrize(("n", "k", "rank"), [(240, 10, 6), (43, 10, 1), (129, 2, None), (128, 2, 16), (39, 10, 0)])
def test_a_component_keeps_a_quarter_as_many_pcs_as_it_has_images(n, k, rank):
    train = skewed(n)
    g = Gaussian.from_moments(Moments.of(skewed(400)))
    found = analytic(g, train, clusters=(k,)).get(f"k-means {k}")
    assert (found is None) == (rank == 0)
    if rank != 0:
        parts = found.inner.components  # type: ignore[union-attr, attr-defined]
        assert max(len(part.lam) for part in parts) == (rank or 16) and len(parts) == k
        assert any(part.rest > 0 for part in parts) == (rank is not None and rank < 16)


def test_analytic_denoisers_know_more_and_more():
    train, test = skewed(3000), skewed(400, seed=1)
    g = Gaussian.from_moments(Moments.of(train))
    found = analytic(g, train, clusters=(1, 2))
    assert list(found) == ["mean", "gaussian", "k-means 1", "k-means 2", "cloud"]
    assert list(analytic(g)) == ["mean", "gaussian"]
    assert list(analytic(g, train[:10], clusters=(2, 4))) == ["mean", "gaussian", "k-means 2", "cloud"], "too few"
    x = 0.8 * test + 0.6 * randn(400, *SHAPE, seed=2)
    loss = {name: float((d(x, 0.8, 0.6) - test).square().mean()) for name, d in found.items()}
    assert loss["mean"] > loss["gaussian"] > loss["k-means 2"]
    assert rel(found["k-means 1"](x, 0.8, 0.6), g(x, 0.8, 0.6)) < 1e-9  # its moments are the Gaussian's
    assert rel(found["mean"](x, 0.8, 0.6).flatten(1), g.mu.expand(400, -1)) < 1e-12


def test_a_gaussian_run_is_foretold_and_the_null_is_not():
    g = gaussian([4.0, 1.0, 0.1], dim=6, rest=0.02, seed=1)
    levels = Levels.of(scaled_linear(), 12)
    run = g.trajectory(levels.start(noise(range(3), (6,), dtype=torch.float64)), levels)
    found = early(g, levels, run.x)
    assert {key: value.shape for key, value in found.items()} == dict.fromkeys(("x", "null"), (12, 3))
    assert float(found["x"].max()) < 1e-12
    a0, s0 = levels[0]
    a, s = levels[7]
    told = a * g.mu + s / s0 * (run.x[0] - a0 * g.mu)
    assert rel(found["null"][7], (told - run.x[7]).norm(dim=1) / run.x[7].norm(dim=1)) < 1e-9
    ratio = levels.ratio[:-1]
    assert float(passing(ratio, found["x"], 0.05).max()) == 0
    assert bool((passing(ratio, found["null"], 0.05) > 0).all())
    pushed = run.x.clone()
    pushed[4] *= 1.25
    assert early(g, levels, pushed)["x"][4].tolist() == pytest.approx([0.2] * 3), "of what the state is, not was"


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
    ends = Levels(torch.ones(3).double(), torch.tensor([10.0, 1.0, 0.0]).double())
    exact = grid(replace(wide, levels=lambda n: ends))
    assert exact.ratio.tolist() == pytest.approx([10, 5, 2, 1, 0.5, 0.2, 0.1]), "the end of the range is inside"
    torch.testing.assert_close(torch.hypot(exact.alpha, exact.sigma), torch.ones(7).double())


def test_a_book_learns_from_few_latents_as_they_are_dear():
    plain = Subject("pixels", gaussian([1.0]), gaussian([1.0]), (1,), lambda n: Levels.of(edm(), n), abs)
    models = [SimpleNamespace(codec=codec, card={}) for codec in (None, object())]
    whole, pixels, latents = (affordable(replace(plain, model=model)) for model in (None, *models))  # type: ignore[arg-type]
    assert whole == pixels > latents


SETTINGS = Settings(seeds=tuple(range(4)), steps=12, profile="ci", batch=3)


def test_measuring_the_training_cloud_itself():
    found = json.loads(json.dumps(measure(toy(), SETTINGS)))
    n = len(found["ratio"])
    assert found["training"] == 240 and found["test_n"] == 16
    for key in ("score", "size", "moved"):
        table = found[f"test_{key}"]
        assert list(table) == ["mean", "gaussian", "k-means 2", "cloud"]
        assert all(len(row) == n for row in table.values())
        assert max(row[0] for row in table["cloud"]) < 1e-20
    assert [row[0] for row in found["test_moved"]["mean"]] == pytest.approx([1] * n), "in units of itself"
    score = [row[0] for row in found["test_score"]["mean"]]
    assert score[0] < 1e-3 < 1 < score[-1], "which flatters it at high noise"
    assert found["early_null"][0][0] == pytest.approx(0, abs=1e-9)
    assert set(found["until"]) == {"x 0.05", "null 0.05"}
    assert found["until"]["null 0.05"][0] > found["until"]["x 0.05"][0] > 0


def test_the_rows_read_the_residuals():
    found = measure(toy(), SETTINGS)
    i = found["ratio"].index(pytest.approx(5))
    records = Records({"approximation": found})
    read = READINGS["g-score"].measure(records)
    assert read is not None and (read.value, read.n) == (found["test_moved"]["gaussian"][i][0], 16)
    theory = READINGS["g-score"].measure(Records({"approximation": measure(toy(data=False).theory(), SETTINGS)}))
    assert theory is not None and theory.value == pytest.approx(0, abs=1e-20)
    retrieved = READINGS["g-not-the-training-set"]
    assert retrieved.measure(records).value < 1e-20 < retrieved.nulls(records)["best mixture"]  # type: ignore[union-attr]


def test_the_early_phase_is_over_all_seeds_whatever_the_batches(monkeypatch):
    who, settings = toy(data=False), replace(SETTINGS, profile="full", seeds=tuple(range(7)))
    whole = measure(who, settings)
    batches = Subject.batches
    monkeypatch.setattr(Subject, "batches", lambda self, seeds, size=3: batches(self, seeds, 3))
    parts = measure(who, settings)
    run = who.run(range(7), steps=12, solver="dpmpp2m")
    told = early(who.gaussian, run.levels, run.x)
    for found in (whole, parts):
        for key, errors in told.items():
            assert [row[0] for row in found[f"early_{key}"]] == pytest.approx(
                errors.mean(1).tolist(), rel=1e-4, abs=1e-7
            )
            where = passing(run.levels.ratio[:-1], errors, 0.05)
            assert found["until"][f"{key} 0.05"][0] == pytest.approx(float(where.mean()), rel=1e-4)
    assert (whole["path_n"], parts["path_n"]) == (7, 3), "those of the first batch are enough"


def test_without_data_the_states_are_those_of_the_runs():
    subject = toy(data=False)
    theory = subject.theory()
    found = measure(theory, SETTINGS)
    assert found["training"] == 0
    assert list(found["path_size"]) == ["mean", "gaussian"]
    assert max(row[0] for row in found["path_size"]["gaussian"]) == 0
    visited = theory.levels(12).ratio.tolist()
    assert all(min(abs(r / v - 1) for v in visited[:-1]) < 1e-12 for r in found["ratio"])
    assert len(found["early_ratio"]) == len(found["early_x"]) == len(found["early_null"]) > 1
    assert found["path_n"] == 2 and found["early_x"][0][0] == pytest.approx(0, abs=1e-6)
