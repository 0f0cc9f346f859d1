"""Flip laws against the integrated flow, local variances against known posteriors, mode trees against brute force."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from partners import TwoModes, agree, dense, gaussian, randn
from scipy.stats import norm
from torch import Tensor

from atelier.landscape import classes
from atelier.landscape import jacobian as room
from atelier.landscape.jacobian import local, local_variance
from atelier.landscape.modes import flip_probability, mean_shift, mode_tree
from atelier.subject import Settings, Subject, subject
from painters import Gaussian, Levels, Mixture, PointCloud, noise
from painters.denoiser import Scalar
from painters.linalg import jacobian
from painters.sampling.noise import NOISED_AGAIN
from painters.schedules import edm

CI = Settings(seeds=(0,), steps=6, profile="ci")


@pytest.fixture(scope="module")
def latent():
    """A latent model: 256 dimensions, so that its Jacobian can be written out."""
    return subject("scenes-sd", device="cpu")


def line(means, lam, weights=None) -> Mixture:
    """A mixture on a line."""
    one = torch.ones(1, 1, dtype=torch.float64)
    parts = [Gaussian(torch.tensor([float(m)]).double(), one, torch.tensor([float(lam)]).double()) for m in means]
    weights = torch.full((len(means),), 1 / len(means)) if weights is None else torch.tensor(weights)
    return Mixture(weights.double(), tuple(parts))


# flips


@pytest.mark.statement("prop-landscape-flip")
@pytest.mark.parametrize("level", [(0.1, 0.99), (0.4, 0.9), (0.8, 0.6), (1.0, 4.0)], ids=str)
@pytest.mark.parametrize("delta", [0.7, -1.5])
def test_flip_law_of_the_ode(level, delta):
    """The weight of the states that do change sides, exact where a kick or the ridge ends a cell of the grid."""
    modes = TwoModes(2.0, 0.3)
    edges = np.linspace(-3, 3, 601)
    z = (edges[1:] + edges[:-1]) / 2
    v = level[0] ** 2 * 0.3 + level[1] ** 2
    mass = np.diff(sum(norm.cdf(edges, side * level[0] * 2.0, math.sqrt(v)) for side in (1, -1)) / 2)
    ends = modes.finish(np.concatenate([z, z + delta]), *level)
    measured = float(mass[ends[: len(z)] * ends[len(z) :] < 0].sum())
    agree(float(flip_probability(2.0, 0.3, delta, level)), measured, 1e-9)


def test_flip_law_against_known_values_and_in_units_of_the_mode():
    alphas, known = (0.08, 0.22, 0.37, 0.61, 0.78), (0.31, 0.18, 0.056, 0.0021, 6e-5)
    for alpha, want in zip(alphas, known):
        got = float(flip_probability(6.0, 1.0, 1.0, (alpha, math.sqrt(1 - alpha**2))))
        assert got == pytest.approx(want, rel=0.08)
    m, lam, level = 3.0, 0.2, (0.3, 0.95)
    v = level[0] ** 2 * lam + level[1] ** 2  # phi standard deviations: P depends on alpha m / sqrt(v) alone
    scaled = flip_probability(level[0] * m / math.sqrt(v), 0.0, 0.5, (1.0, 1.0))
    torch.testing.assert_close(flip_probability(m, lam, 0.5 * math.sqrt(v), level), scaled)
    assert flip_probability(torch.ones(3, 1), 0.1, torch.ones(2), level).shape == (3, 2)


# modes


def extrema(mixture: Mixture, grid: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """All maxima and all minima of the blurred density of data on a line, to half a step of the grid."""
    height = mixture.log_prob(grid[:, None], 1.0, sigma)
    inner, rises = grid[1:-1], height.diff() > 0
    return inner[rises[:-1] & ~rises[1:]], inner[~rises[:-1] & rises[1:]]


@pytest.mark.parametrize(("m", "c"), [(1.0, 0.04), (2.0, 1.0)])
def test_two_equal_modes_merge_where_the_law_says(m, c):
    mixture, law = line([-m, m], c), math.sqrt(m**2 - c)
    sigmas = law * torch.linspace(0.94, 1.06, 13)
    tree = mode_tree(mixture, torch.tensor([[-m], [m]]).double(), sigmas)
    assert tree.merging(0, 1) == pytest.approx(law, rel=0.02)
    assert tree.count[0] == 2 and tree.count[-1] == 1
    for sigma, counts in ((0.98 * law, [2, 1]), (1.02 * law, [1, 0])):
        assert [len(part) for part in extrema(mixture, torch.linspace(-4, 4, 401).double(), sigma)] == counts


def test_mode_tree_equals_brute_force_on_a_hierarchy():
    means = [a + b + c for a in (-4, 4) for b in (-1.2, 1.2) for c in (-0.3, 0.3)]
    mixture, grid = line(means, 0.01), torch.linspace(-8, 8, 4001).double()
    sigmas = torch.tensor([0.08, 0.2, 0.5, 0.9, 2.0, 3.0, 6.0]).double()
    tree = mode_tree(mixture, torch.tensor(means).double()[:, None], sigmas)
    for sigma, found in zip(sigmas.tolist(), tree.modes):
        modes, minima = extrema(mixture, grid, sigma)
        torch.testing.assert_close(found[:, 0].sort().values, modes, rtol=0, atol=0.02 * sigma + 0.004)
        for points, sign in ((found[:, 0], 1), (minima, -1)):  # the Jacobian tells them apart
            slope = [jacobian(lambda x, s=sigma: mixture(x, 1.0, s), p[None])[0, 0] for p in points]
            assert all(sign * float(j) < sign for j in slope)
    assert tree.count == [8, 8, 4, 4, 2, 2, 1]
    assert tree.leaf[2].tolist() == [tree.leaf[2][i] for i in (0, 0, 2, 2, 4, 4, 6, 6)]
    for upper, parent, lower in zip(tree.modes[1:], tree.parent, tree.modes[:-1]):
        assert len(parent) == len(lower) and int(parent.max()) == len(upper) - 1
    assert tree.merging(0, 1) == 0.5 and tree.merging(0, 2) == 2.0 and tree.merging(0, 7) == 6.0
    starts = torch.tensor(means).double()[:, None]
    early = mode_tree(mixture, starts, [0.9, 0.2, 0.5])
    assert early.sigma.tolist() == [0.2, 0.5, 0.9] and early.count == [8, 4, 4] and early.merging(0, 7) == math.inf
    assert torch.equal(starts[:, 0], torch.tensor(means).double()), "the starts stay where they were"


def test_mean_shift_climbs_to_the_nearest_image_of_a_cloud():
    cloud = PointCloud(randn(12, 5, seed=1))
    x = cloud.points + 0.05 * randn(12, 5, seed=2)
    torch.testing.assert_close(mean_shift(cloud, x, 0.1), cloud.points, rtol=0, atol=1e-4)
    assert bool((cloud.log_prob(mean_shift(cloud, x, 0.6), 1.0, 0.6) >= cloud.log_prob(x, 1.0, 0.6)).all())


# local variances


@pytest.mark.statement("prop-modes-width")
@pytest.mark.parametrize("level", [(0.6, 0.8), (1.0, 2.0), (0.3, 0.7)], ids=str)
def test_local_variances_of_a_gaussian_are_its_own(level):
    lam = [9.0, 4.0, 1.0, 0.3, 0.1]
    g = gaussian(lam, dim=12, rest=0.01)
    x = g.sample(randn(2, 12, seed=1), level=level).reshape(2, 3, 4)
    found = local(g, x, level, g.U[:, :3].T, k=3, blocks=3, probes=2000)
    want = torch.tensor(lam[:3], dtype=torch.float64).expand(2, 3)
    agree(found.lam, want, 1e-6)
    assert found.ratio == level[1] / level[0]
    skewed = randn(3, 3, seed=5) @ g.U[:, :3].T  # a basis of the same span, as PCs in float32 are not quite one
    agree(local(g, x, level, skewed.float(), k=3, blocks=3, probes=2).lam, want, 1e-5)
    gain = g.spectrum / (g.spectrum + found.ratio**2)
    torch.testing.assert_close(found.trace, gain.sum().expand(2), rtol=0.03, atol=0)
    assert found.asymmetry.max() < 1e-10


@pytest.mark.parametrize("z", [0.0, 0.4, 3.0])
def test_the_jacobian_is_the_posterior_covariance(z):
    """sigma^2 j = Var(x_0 | x), by sums over a grid; j > 1 on the ridge, where the local variance is infinite."""
    mixture, sigma = line([-2.0, 2.0], 0.3), 0.9
    grid = torch.linspace(-8, 8, 20_001).double()
    weight = mixture.log_prob(grid[:, None]).exp() * torch.exp(-((z - grid) ** 2) / (2 * sigma**2))
    weight = weight / weight.sum()
    spread = float((weight * grid**2).sum() - (weight * grid).sum() ** 2)
    alpha = 0.5
    x = torch.tensor([[alpha * z]]).double()
    found = local(mixture, x, (alpha, alpha * sigma), torch.ones(1, 1), k=1, blocks=1)
    assert sigma**2 * float(found.j) == pytest.approx(spread, rel=1e-6)
    assert math.isinf(float(found.lam)) == (spread > sigma**2)
    if z == 3.0:
        assert float(found.lam) == pytest.approx(0.3, rel=0.02)


def test_local_variance_is_flat_inside_a_mode_and_rises_where_modes_merge():
    x, values = torch.tensor([[3.0]]).double(), []
    for sigma in (0.3, 0.7, 1.5, 30.0):
        values.append(float(local(line([-3.0, 3.0], 0.5), x, (1.0, sigma), torch.ones(1, 1), k=1, blocks=1).lam))
    assert values[:2] == pytest.approx([0.5, 0.5], rel=1e-3)
    assert values[2] > 0.52 and values[3] == pytest.approx(9.5, rel=0.03)


def test_asymmetry_is_that_of_the_matrix():
    A = torch.diag(torch.linspace(1, 0.1, 10).double()) + 0.2 * randn(10, 10, seed=3)

    def skewed(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return x @ A.T / alpha

    found = local(skewed, randn(1, 10, seed=4), (0.5, 0.5), torch.eye(10)[:2], k=10, blocks=5, probes=4000)
    assert float(found.asymmetry) == pytest.approx(float((A - A.T).norm() / A.norm()), rel=0.05)
    torch.testing.assert_close(found.j[0], torch.linalg.eigvalsh((A + A.T) / 2).flip(0))
    assert float(found.trace) == pytest.approx(float(A.trace()), rel=0.05)


def test_local_variance_at_one_is_infinite():
    j = torch.tensor([0.5, 1.0, 1.2])
    assert local_variance(j, 2.0).tolist() == [4.0, math.inf, math.inf]


# classes


def test_two_far_classes_part_where_the_law_says():
    apart = line([-2.0, 2.0], 0.3)
    assert classes.speciation(apart) == pytest.approx(math.sqrt(4 - 0.3))
    assert classes.speciation(line([-0.2, 0.2], 0.3)) == 0.0
    levels = Levels.of(edm(sigma_min=0.02, sigma_max=40.0), 24)
    found = classes._exact(apart, levels, [0, 12, 20], 400, 200)
    kept = np.mean(found["kept"], 1)
    assert kept[0] < 0.65 and kept[2] > 0.99 and len(found["resampled"]) == 3
    assert np.shape(found["kept"]) == (3, 400) and found["speciation"] == classes.speciation(apart)
    for i, again in enumerate(found["resampled"]):
        x, alpha, sigma = np.linspace(-150, 150, 60_001), *levels[[0, 12, 20][i]]
        p = TwoModes(2.0, 0.3).density(x, alpha, sigma) * (x[1] - x[0])
        v = alpha**2 * 0.3 + sigma**2
        right = 0.5 * (1 + np.tanh(alpha * 2.0 * x / v))
        assert again == pytest.approx(float((p * (right**2 + (1 - right) ** 2)).sum()), abs=0.03)


def test_repainting_is_the_flow_from_freshly_noised_images():
    g, levels, seeds = (
        gaussian([4.0, 0.5], dim=3, rest=0.1),
        Levels.of(edm(sigma_min=0.01, sigma_max=20.0), 400),
        [3, 9],
    )
    x0 = g.sample(randn(2, 3, seed=1))
    fresh = noise(seeds, (3,), stream=NOISED_AGAIN, dtype=torch.float64)
    for start in (100, 250):
        alpha, sigma = levels[start]
        want = g.flow(alpha * x0 + sigma * fresh, frm=levels[start])
        torch.testing.assert_close(classes.repaint(g, x0, levels, start, seeds), want, rtol=0, atol=5e-3)


def test_speciation_in_many_dimensions_against_a_dense_matrix():
    parts = tuple(gaussian([2.0, 0.5], dim=6, rest=0.1, seed=s, mean=3.0) for s in range(4))
    mixture = Mixture(torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), parts)
    offsets = torch.stack([g.mu for g in parts]) - mixture.mean
    B = (offsets.T * mixture.weights) @ offsets
    values, vectors = torch.linalg.eigh(B)
    within = sum(w * dense(g) for w, g in zip(mixture.weights, parts))
    c = float(vectors[:, -1] @ within @ vectors[:, -1])
    assert classes.speciation(mixture) == pytest.approx(math.sqrt(float(values[-1]) - c), rel=1e-9)


def test_parting_counts_what_keeps_its_class_whatever_the_batches(monkeypatch):
    """Three classes of one colour each, painted as asked; anew all are painted black, which is the class 0."""
    colours = torch.tensor([-1.0, 0.0, 1.0])

    def painter(labels):
        return lambda x, *_: colours[torch.tensor(labels)][:, None, None, None].expand_as(x)

    g = gaussian([1.0], dim=4, rest=0.1)
    reader = SimpleNamespace(factors=[SimpleNamespace(name="class")])
    model = SimpleNamespace(classes=("a", "b", "c"), denoiser=painter, card={})
    world = Subject(
        "colours", lambda x, *_: -torch.ones_like(x), g, (1, 2, 2), lambda n: Levels.of(edm(), n), abs, reader, model
    )  # type: ignore[arg-type]
    monkeypatch.setattr(Subject, "read", lambda self, x: {"class": (x.mean((1, 2, 3)) + 1).round().long()})
    for batch in (3, 50):
        found = classes.parting(world, None, Settings(profile="ci", batch=batch))
        assert found["n"] == 10 and found["told"] == 1 and found["mixture"] is None
        assert found["kept"] == [[1, 0, 0, 1, 0, 0, 1, 0, 0, 1]] * len(found["ratio"])
    odd = replace(world, model=SimpleNamespace(classes=("a", "b", "c"), denoiser=lambda _: painter([0] * 10), card={}))
    assert classes.parting(odd, None, Settings(profile="ci"))["told"] == 0.4


# the record


def test_the_record_of_an_exact_gaussian_is_flat(latent):
    found = json.loads(json.dumps(room.measure(latent.theory(), CI)))
    assert found["mixture"] is None and found["classes"] is None
    ratio, j = torch.tensor(found["ratio"], dtype=torch.float64), torch.tensor(found["j"], dtype=torch.float64)[:, 0]
    lam = local_variance(j, ratio[:, None])
    torch.testing.assert_close(lam, latent.gaussian.lam[:4].expand_as(lam), rtol=0.05, atol=0)
    assert max(map(max, found["asymmetry"])) < 1e-3


def test_batches_of_seeds_leave_no_trace_in_the_record():
    g = gaussian([9.0, 4.0, 1.0, 0.3], dim=12, rest=0.01)
    world = Subject("small", g, g, (3, 2, 2), lambda n: Levels.of(edm(), n), lambda x: x, kind="gaussian")
    whole, parts = (
        room.along_trajectories(world, Settings(tuple(range(7)), 6, "book", batch), k=2) for batch in (50, 4)
    )
    assert whole["seeds"] == parts["seeds"] == [0, 1, 2, 3, 4, 5]
    assert np.shape(whole["j"]) == (len(whole["ratio"]), 6, 2)
    for key in ("ratio", "j", "trace"):
        np.testing.assert_allclose(parts[key], whole[key], rtol=1e-5)
    want = [g.lam[:2] / (g.lam[:2] + r**2) for r in whole["ratio"]]
    np.testing.assert_allclose(np.array(whole["j"])[:, 2], torch.stack(want), rtol=1e-5)


def test_the_record_of_a_network_agrees_with_its_dense_jacobian(latent):
    found = json.loads(json.dumps(room.measure(latent, CI)))
    assert found["mixture"] is None and found["classes"] is None  # it knows no classes
    run = latent.run([0], steps=CI.steps)
    i = int((run.levels.ratio[:-1] - found["ratio"][-1]).abs().argmin())
    (alpha, sigma), start = run.levels[i], latent.gaussian.U[:, :4].T
    J = jacobian(lambda x: alpha * room.with_graph(latent.denoise)(x, alpha, sigma), run.x[i, 0]).double()
    S = torch.linalg.eigvalsh((J + J.T) / 2).flip(0)
    got = torch.tensor(found["j"][-1][0], dtype=torch.float64)
    assert bool((got <= S[:4] + 1e-4).all()) and float(got[0]) > 0.9 * float(S[0]), "a Krylov space finds from below"
    better = local(latent.denoise, run.x[i], (alpha, sigma), start, blocks=8, probes=30)
    torch.testing.assert_close(better.j[0], S[:4], rtol=1e-2, atol=0)
    assert float(better.asymmetry) == pytest.approx(float((J - J.T).norm() / J.norm()), rel=0.2)
    assert float(better.trace) == pytest.approx(float(J.trace()), rel=0.2)


def test_the_record_of_classes_without_their_data(monkeypatch):
    def nothing():
        raise FileNotFoundError

    network = subject("fashion-ddpm", device="cpu")
    assert classes.applies(network) and not classes.applies(network.theory())
    monkeypatch.setattr(classes.image_data, "fashion", nothing)
    assert classes.mixture(CI) is None
    found = json.loads(json.dumps(classes.parting(network, None, CI)))
    assert found["mixture"] is None and 0.5 <= found["told"] <= 1
    kept = torch.tensor(found["kept"])
    assert kept.shape == (len(found["ratio"]), found["n"]) and set(kept.flatten().tolist()) <= {0, 1}
    assert kept[-1].double().mean() >= 0.8
