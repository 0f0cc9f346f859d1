"""The comparison of ways to vary, against a Gaussian world where each way's law is known."""

import json
import math
from functools import cache

import numpy as np
import pytest
import torch
from partners import dense, randn

from atelier import variations
from atelier.subject import Settings, Subject
from atelier.variations import pareto, record
from atelier.variations.holding import Prediction, held
from atelier.variations.resampling import informative, resample, whiten, without
from atelier.variations.ways import Ways, changed_at
from painters import Gaussian, Levels, noise, solve
from painters.levels import vp_linear
from painters.theory.factors import FactorLaw

DIM = 16


def gaussian() -> Gaussian:
    U = torch.linalg.qr(randn(DIM, DIM, seed=3)).Q[:, :12].contiguous()
    return Gaussian(randn(DIM, seed=4) / 3, U, torch.logspace(1, -1.5, 12).double(), 0.02)


def world() -> Subject:
    g = gaussian()
    return Subject(
        "a Gaussian", g, g, (1, 4, 4), lambda n, **_: Levels.of(vp_linear(), n, **_), lambda x: x, kind="gaussian"
    )


@cache
def compared():
    """Every way on 500 seeds: two linear factors of the outline, and two of the details, told by some directions."""
    subject = world()
    g, levels = subject.gaussian, Levels.of(vp_linear(), 60, spacing="logsnr")
    readings = randn(DIM, 4, seed=9)
    covariance = dense(g) @ readings
    run = solve(g, levels.start(noise(range(500), (1, 4, 4)).double()), levels, solver="dpmpp2m", progress=False)
    at = [min(range(60), key=lambda i: abs(float(levels.ratio[i]) - r)) for r in (0.3, 1.5)]
    ways = Ways(subject, run, at, covariance[:, :2], covariance[:, 2:], strengths=3).every()
    return (
        subject,
        readings,
        covariance,
        run.final,
        ways,
        {m.name: [m.paint(j) for j in range(len(m.rho))] for m in ways},
    )


def names():
    return [m.name for m in compared()[4]]


def test_every_way_is_there():
    assert names() == [
        "noise", "state", "state_more", "state_less", "details", "renoise", "ancestral", "mix", "factors",
        "factors_state", "targeted", "turned", "turned_late", "edited",
    ]  # fmt: skip


@pytest.mark.parametrize("index", range(14))
def test_each_way_follows_its_law(index):
    """The correlation of each PC of the new pictures with the old ones is rho, and their variance stays."""
    subject, _, _, before, ways, painted = compared()
    g, method = subject.gaussian, ways[index]
    old = g.project(before.double())
    for rho, after in zip(method.rho, painted[method.name]):
        new = g.project(after.double())
        if method.name != "edited":  # which takes no heed of the law
            torch.testing.assert_close(new.var(0) / old.var(0), torch.ones(12).double(), rtol=0, atol=0.35)
        measured = (new * old).mean(0) / old.square().mean(0)
        torch.testing.assert_close(measured, rho[:-1], rtol=0, atol=0.16)


@pytest.mark.parametrize("index", range(14))
def test_each_factor_keeps_what_the_law_says(index):
    subject, readings, covariance, before, ways, painted = compared()
    g, method = subject.gaussian, ways[index]
    spread = (readings * covariance).sum(0)
    inside = g.U @ (g.U.T @ covariance)
    law = Prediction.of(FactorLaw(g, covariance, torch.zeros(4).double(), spread), covariance, [1, 1, 1, 1])
    torch.testing.assert_close(law.r2, (inside * torch.linalg.solve(dense(g), covariance)).sum(0) / spread)
    dim = Prediction(law.weights, law.other, [1, 1, 1, 1], 100 * spread)
    assert dim.keeps(method.rho[0][:-1]).isnan().all()  # nothing affine to be kept
    old = (g.project(before.double()) @ g.U.T) @ readings
    responses = method.responses or [rho[:-1] for rho in method.rho]
    for response, after in zip(responses, painted[method.name]):
        new = (g.project(after.double()) @ g.U.T) @ readings
        measured = (new * old).mean(0) / old.square().mean(0)
        torch.testing.assert_close(measured, law.keeps(response), rtol=0, atol=0.17)


def test_the_record_has_the_laws_numbers():
    subject, _, _, before, ways, painted = compared()
    for method in ways:
        scores = pareto.Scores.of(subject.gaussian, None, before.double(), painted[method.name], 4)
        found = pareto.describe(method, scores, subject.gaussian, cut=4, draws=20)
        for part in ("low", "rest"):
            measured = np.array([v["value"] for v in found[part]])
            np.testing.assert_allclose(measured, found[f"{part}_law"], atol=0.13, err_msg=method.name)


def test_keeping_what_tells_the_outline_keeps_it_and_turning_the_details_leaves_it():
    _, readings, _, before, ways, painted = compared()
    g = gaussian()
    old = (g.project(before.double()) @ g.U.T) @ readings
    by_name = {m.name: m for m in ways}

    def correlation(name, j):
        new = (g.project(painted[name][j].double()) @ g.U.T) @ readings
        return (new * old).mean(0) / old.square().mean(0)

    assert (correlation("factors", -1)[:2] > 0.9).all() and by_name["factors"].strength[-1] == 0
    assert by_name["turned"].strength[-1] == pytest.approx(math.pi)
    for name in ("turned", "turned_late"):
        first, last = correlation(name, 0), correlation(name, -1)
        assert (last[:2] > first[:2] - 0.15).all() and (last[2:] < first[2:] - 0.3).all(), name
    assert (correlation("edited", -1)[:2] > 0.95).all() and (correlation("edited", -1)[2:] < 0.35).all()


def test_the_laws_by_hand():
    lam = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
    assert held(lam, "noise", pcs=2).tolist() == [1, 1, 0]
    assert held(lam, "details", pcs=2).tolist() == [0, 0, 1]
    want = [0.8 * math.sqrt(v / (0.64 * v + 0.36)) for v in lam.tolist()]
    assert held(lam, "renoise", level=(0.8, 0.6)).tolist() == pytest.approx(want)
    assert held(lam, "ancestral", level=(1.6, 1.2)).tolist() == pytest.approx(want)  # whatever the coordinates
    assert held(lam, "mix", angle=math.pi / 3).tolist() == pytest.approx([0.5] * 3)
    with pytest.raises(ValueError, match="no law"):
        held(lam, "magic")


# Resampling in whitened coordinates


def test_whitening_is_undone_by_sampling():
    g, level = gaussian(), (0.8, 0.6)
    x = randn(5, 1, 4, 4)
    z = whiten(g, x, level)
    torch.testing.assert_close(g.sample(z, level=level), x.flatten(1))
    root = torch.linalg.inv(torch.linalg.cholesky(0.64 * dense(g) + 0.36 * torch.eye(DIM).double()))
    torch.testing.assert_close(z.norm(dim=1), ((x.flatten(1) - 0.8 * g.mu) @ root.T).norm(dim=1))


def test_with_the_first_components_resampling_is_repainting():
    g, level = gaussian(), (0.8, 0.6)
    x, fresh = randn(5, 1, 4, 4), randn(5, 1, 4, 4, seed=1)
    torch.testing.assert_close(
        resample(g, x, fresh, level, g.U[:, :5]),
        variations.repaint(g, x, fresh, level, keep="outline", pcs=5),
    )


@pytest.mark.parametrize("angle", [0.4, math.pi / 2, math.pi])
def test_a_resampled_state_keeps_the_law_and_turns_what_it_should(angle):
    g, level = gaussian(), (0.8, 0.6)
    x = g.sample(randn(40_000, DIM), level=level)
    B = informative(g, randn(DIM, 2, seed=5))
    Q = without(g.U[:, :6], B)
    y = resample(g, x, randn(40_000, DIM, seed=1), level, Q, turned=B, angle=angle)
    covariance = (y - y.mean(0)).T @ (y - y.mean(0)) / len(y)
    torch.testing.assert_close(covariance, 0.64 * dense(g) + 0.36 * torch.eye(DIM).double(), rtol=0, atol=0.12)
    old, new = whiten(g, x, level), whiten(g, y, level)
    torch.testing.assert_close(new @ Q, old @ Q)
    along = ((new @ B) * (old @ B)).mean(0)
    torch.testing.assert_close(along, torch.full((2,), math.cos(angle)).double(), rtol=0, atol=0.03)


def test_what_tells_a_factor_holds_its_best_estimate_and_nothing_else_does():
    g = gaussian()
    c = dense(g) @ (g.U @ randn(12, 3, seed=5))
    B = informative(g, c, pcs=2, blur=1e-4)
    torch.testing.assert_close(B.T @ B, torch.eye(5).double())
    torch.testing.assert_close(B[:, :2], g.U[:, :2])
    weights = g.U @ ((g.U.T @ c) / g.lam.sqrt()[:, None])  # f_hat = weights . z in clean whitened coordinates
    torch.testing.assert_close(B @ (B.T @ weights), weights, rtol=0, atol=1e-4)
    other = informative(g, randn(DIM, 2, seed=6), besides=informative(g, c))
    assert float((other.T @ informative(g, c)).abs().max()) < 1e-9
    assert without(B, B[:, :3]).shape == (DIM, 2)


# Curves


def test_the_most_change_is_read_where_the_curve_crosses():
    kept, changed = np.array([0.95, 0.85, 0.4]), np.array([0.1, 0.3, 0.9])
    assert pareto.most(kept, changed) == pytest.approx(0.2)
    assert pareto.most(np.array([0.5]), np.array([0.5])) == pytest.approx(0.1)
    assert pareto.most(np.array([0.99, 0.95]), np.array([0.6, 0.4])) == 0.6
    assert pareto.most(np.array([0.8, 0.95]), np.array([0.2, 0.5])) == pytest.approx(0.5)
    assert pareto.most(kept, changed, least=0.4) == pytest.approx(0.9)


def test_values_at_equal_distance():
    read = pareto.at_distance(np.array([0.6, 0.2]), np.array([1.0, 0.0]), np.array([0.1, 0.3, 0.6, 0.7]))
    np.testing.assert_allclose(read, [np.nan, 0.25, 1.0, np.nan])
    table = pareto.equal_change(
        [0.5], torch.tensor([[0.4, 0.8]]).expand(6, 2), {"a": torch.tensor([[0.0, 1.0]]).expand(6, 2)}, draws=20
    )
    assert table["a"][0]["value"] == pytest.approx(0.25)


def test_gains_are_paired_over_seeds():
    own = torch.rand(30, 1, generator=torch.Generator().manual_seed(0)).double()
    same = (torch.full((30, 1), 0.95).double(), own)
    found = pareto.gains({"renoise": same, "better": (same[0], own + 0.2)}, draws=50)
    assert found["better"]["value"] == pytest.approx(0.2) and found["better"]["low"] == pytest.approx(0.2)


def test_unrelated_pictures_change_by_one_everywhere():
    g = gaussian()
    a, b = g.sample(randn(4000, DIM)), g.sample(randn(4000, DIM, seed=1))
    for cut in (2, 8):
        low, rest = pareto.split_change(g, a, b, cut)
        assert float(low.mean()) == pytest.approx(1, abs=0.05) and float(rest.mean()) == pytest.approx(1, abs=0.05)


def test_levels_of_change_lie_in_range_and_are_clean_first():
    levels = Levels.of(vp_linear(), 20, spacing="logsnr")
    at = changed_at(levels, most=4)
    ratio = [float(levels.ratio[i]) for i in at]
    assert len(at) == 4 and ratio == sorted(ratio) and ratio[0] >= 0.2 and ratio[-1] <= 8


def test_measure_without_a_reader():
    record = variations.measure(world(), Settings(seeds=tuple(range(40)), profile="ci"))
    assert record is not None and record["factors"] is None and record["given"] is None
    json.dumps(record)
    assert set(record["methods"]) == set(names()[:8])
    assert record["unrelated"]["rest"] == pytest.approx(1, abs=0.9)
    for found in record["methods"].values():
        assert len(found["low"]) == len(found["strength"]) == len(found["low_law"])
        assert "outline_kept" not in found and 0 <= found["most_rest"]["value"] < 3
    assert {len(errors) for errors in record["inversion"]["own"].values()} == {len(record["inversion"]["steps"])}
    assert record["inversion"]["data"] is None
    assert set(record["gain_rest"]) == set(names()[:8]) - {"renoise"}
    assert variations.measure(world().mean_only(), Settings()) is None


def test_the_strain_is_the_denoising_error_over_that_before():
    subject = world()
    g, seeds = subject.gaussian, range(2000)
    own = g.sample(randn(2000, 1, 4, 4, seed=7))
    ratio = record.STRAIN
    level = (1 / math.sqrt(1 + ratio**2), ratio / math.sqrt(1 + ratio**2))
    missed = record._missed(subject, own, seeds=seeds)
    assert float(missed.mean()) == pytest.approx(g.mmse(level), rel=0.05)
    off = own + 0.5 * randn(2000, 1, 4, 4, seed=8)
    scores = pareto.Scores.of(g, None, own, [own, off], 4, missed=lambda x: record._missed(subject, x, seeds=seeds))
    assert scores.strain is not None
    assert float(scores.strain[:, 0].mean()) == pytest.approx(1) and float(scores.strain[:, 1].mean()) > 1.2
