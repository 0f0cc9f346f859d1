"""GANs and diffusion maps through the same instruments, each beside an exact partner."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from partners import randn as random
from scipy import stats

from atelier.gans import kinship, maps, pullback
from atelier.manifold import alignment
from atelier.networks.generator import Generator, GeneratorNetwork
from atelier.subject import Settings, Subject, subject
from painters import Gaussian, Levels, solve
from painters.sampling import noise
from painters.schedules import vp_linear


def world(dim=12, seed=3):
    U = torch.linalg.qr(random(dim, dim, seed=seed)).Q
    return Gaussian(torch.arange(dim).double(), U, torch.logspace(2, -2, dim, dtype=torch.float64))


def bent(x, alpha, sigma):
    """A denoiser with a graph and a curve, elementwise: D = alpha tanh(x) + x^2 / 9."""
    return alpha * x.tanh() + x.square() / 9


def levels(n=6):
    return Levels.of(vp_linear(), n, spacing="logsnr")


@cache
def scenes() -> Subject:
    """The exact Gaussian of scenes-sd, in latents of 256 numbers."""
    return subject("scenes-sd", device="cpu").theory()


@cache
def generator() -> Generator:
    """A generator of latents of scenes-sd that was never trained: the partner of the exact Gaussian."""
    torch.manual_seed(7)
    channels, side = scenes().shape[0], scenes().shape[-1]
    network = GeneratorNetwork(latent=16, channels=(8, 6), colours=channels, side=side // 2)
    return Generator(network.eval().requires_grad_(False), scenes().shape, torch.device("cpu"))


@cache
def painted() -> dict:
    """Both geometries in small; through JSON, as the ledger keeps it."""
    record, J = kinship.geometry(scenes(), (0, 1), pcs=16, steps=4)
    return json.loads(json.dumps(record | kinship.beside(scenes(), generator(), J)))


def test_the_restricted_jacobian_against_differences_and_its_rest_against_the_trace(monkeypatch):
    monkeypatch.setattr(maps, "PROBES", 400)
    mapping = maps.Mapping(bent, levels())

    def image(z):
        x = mapping.levels.start(z[None])
        return solve(bent, x, mapping.levels, solver="dpmpp2m", progress=False).final[0]

    basis = torch.linalg.qr(random(8, 3, seed=1)).Q.T.float()
    J, outside = maps.pushed(mapping, (4, 5), basis)
    z, step = noise((4, 5), (8,)).double(), 1e-5
    for one, whole_z, rest in zip(J, z, outside):
        columns = [(image(whole_z + step * e) - image(whole_z - step * e)) / (2 * step) for e in torch.eye(8).double()]
        full = torch.stack(columns, 1)
        torch.testing.assert_close(one, full @ basis.T.double(), rtol=1e-3, atol=1e-4)
        left = full.square().sum() - (full @ basis.T.double()).square().sum()
        assert float(rest) == pytest.approx(float(left), rel=0.15)


def test_pairs_of_points_are_averaged_without_the_diagonal():
    found = pullback.between(torch.tensor([[9.0, 0.2, 0.4], [0.6, 9.0, 0.8], [0.1, 0.3, 9.0]]))
    assert found.value == pytest.approx(0.4) and found.n == 3
    without = np.array([(0.8 + 0.3) / 2, (0.4 + 0.1) / 2, (0.2 + 0.6) / 2])  # by hand, each point left out
    pseudo = 3 * 0.4 - 2 * without
    reach = stats.t.ppf(0.975, 2) * pseudo.std(ddof=1) / 3**0.5
    assert (found.low, found.high) == pytest.approx((0.4 - reach, 0.4 + reach))
    two = pullback.between(torch.tensor([[9.0, 0.2], [0.6, 9.0]]))
    assert two.value == pytest.approx(0.4) and math.isnan(two.low)
    one = pullback.between(torch.tensor([[9.0]]))
    assert math.isnan(one.value) and one.n == 1, "a point alone makes no pair"
    table = np.array([[0.1, 0.3, 0.8], [0.5, 0.7, 0.6]])
    wide = pullback.across(torch.from_numpy(table))
    error = (table.mean(1).var(ddof=1) / 2 + table.mean(0).var(ddof=1) / 3) ** 0.5
    assert wide.value == pytest.approx(0.5) and wide.n == 2
    assert wide.high - wide.value == pytest.approx(stats.t.ppf(0.975, 1) * error)  # by the fewer of the points


@pytest.mark.parametrize(("n", "m"), [(10, 24), (24, 20), (60, 10)])
def test_intervals_of_pairs_cover_as_often_as_they_say(n, m):
    """A table a_i + b_j + e_ij of mean 0, whose rows and columns move together; alone, pairs would look 500."""
    rng = np.random.default_rng(5)
    hits = {"across": 0, "between": 0}
    for _ in range(400):
        a, b, e = rng.exponential(size=(n, 1)) - 1, 0.5 * rng.normal(size=(1, m)), 0.5 * rng.normal(size=(n, m))
        found = pullback.across(torch.from_numpy(a + b + e))
        hits["across"] += found.low <= 0 <= found.high
        assert found == pullback.across(torch.from_numpy(a + b + e)), "nothing is drawn at random"
        square = torch.from_numpy(a + a.T + 0.5 * rng.normal(size=(n, n)))
        one = pullback.between(square)
        hits["between"] += one.low <= 0 <= one.high
    assert 0.9 < hits["across"] / 400 < 0.99
    assert 0.88 < hits["between"] / 400 < 0.98  # a jackknife of few skewed points covers a little less


def test_image_axes_and_overlaps():
    g = world()
    J = pullback.metric(pullback.linear_generator(g.U, g.lam, g.mu, (12,)), random(2, 12))[1]
    axes = pullback.image_axes(J, 4)
    assert axes.shape == (2, 4, 12)
    torch.testing.assert_close(axes @ axes.mT, torch.eye(4).double().expand(2, 4, 4))
    torch.testing.assert_close(pullback.overlaps(axes, g.U[:, :4].T[None])[:, 0], torch.ones(2).double())
    turned = torch.linalg.qr(random(12, 4, seed=8)).Q.T
    cosines = alignment.cosines(axes[0], turned)
    assert float(pullback.overlaps(axes[:1], turned[None])) == pytest.approx(float(cosines.square().mean()))


def test_overlaps_between_models():
    s = scenes()
    U = s.gaussian.U[:, :24].double()
    top, next_ = U[:, :8] * torch.arange(9, 1, -1), U[:, 8:16] * torch.arange(9, 1, -1)
    found = kinship.shared({"a": torch.stack([top, top]), "b": torch.stack([next_, next_, next_])}, s)
    assert found["a a"]["value"] == pytest.approx(1) and found["b b"]["value"] == pytest.approx(1)
    assert found["a b"]["value"] == pytest.approx(0, abs=1e-9)
    assert found["random"] == pytest.approx(8 / s.dim)
    assert found["random"] < found["b pictures"]["value"] < found["a pictures"]["value"] < 1
    # differences of pictures x - y have the covariance 2 Sigma: their spans are those of draws from N(0, Sigma)
    draws = torch.randn(200, 8, len(s.gaussian.lam), generator=torch.Generator().manual_seed(1)).double()
    spans = torch.linalg.qr((draws * s.gaussian.lam.double().sqrt() @ s.gaussian.U.double().T).mT).Q.mT
    law = pullback.between(pullback.overlaps(spans, spans)).value
    assert found["pictures pictures"]["value"] == pytest.approx(law, rel=0.15)


def test_what_a_metric_is_like_against_numpy():
    J = random(7, 9, 4)
    found, H = kinship.described(J), (J.mT @ J).numpy()
    values = np.sort(np.linalg.eigvalsh(H))[:, ::-1]
    logs = np.log(values)
    np.testing.assert_allclose(found["spectrum"], stats.gmean(values, axis=0))
    for key, percent in (("low", 16), ("high", 84)):
        np.testing.assert_allclose(found[key], np.exp(np.percentile(logs, percent, axis=0)))
    wide = values.sum(1) ** 2 / (values**2).sum(1)
    assert found["participation"]["value"] == pytest.approx(wide.mean()) and found["participation"]["n"] == 7
    still = kinship.described(torch.cat([J, torch.zeros(7, 9, 1).double()], 2))
    np.testing.assert_allclose(still["spectrum"][:4], found["spectrum"])
    assert 0 < still["spectrum"][4] < 1e-11 * values.max()


def test_the_map_of_a_gaussian_has_its_metric():
    record = painted()
    found = record["map"]["pixels"]
    J = maps.pushed(maps.Mapping.of(scenes(), 20), (0,), kinship.principal(scenes(), 16))[0]
    finer = kinship.described(J)
    assert finer["spectrum"] == pytest.approx(record["theory"], rel=0.03)  # twenty steps of the solver
    assert finer["participation"]["value"] == pytest.approx(record["theory_participation"], rel=0.01)
    assert found["log"]["value"] == pytest.approx(1, abs=1e-5)
    psi = scenes().gaussian.gain(frm=maps.Mapping.of(scenes(), 4).levels[0]).square()
    assert record["map"]["outside"]["value"] == pytest.approx(1 - float(psi[:16].sum() / psi.sum()), rel=0.3)
    assert record["overlap"]["map map"]["value"] == pytest.approx(1, abs=1e-5)


def test_a_generator_stands_beside_its_nulls():
    record = painted()
    assert set(record["generators"]) == {"trained", "untrained", "shuffled", "linear"}
    assert record["generators"]["linear"]["pixels"]["log"]["value"] == pytest.approx(1, abs=1e-5)
    assert record["generators"]["trained"]["pixels"]["log"]["value"] < 0.98
    pairs = {"map trained", "map untrained", "trained untrained", "map pictures", "pictures pictures", "random"}
    assert pairs <= set(record["overlap"]) and "map shuffled" not in record["overlap"]


def test_nulls_have_the_trained_ones_sizes_and_leave_it_alone():
    trained = generator()
    z = maps.latents(range(3), trained.latent)
    before = trained(z)
    found = maps.nulls(scenes(), trained)
    assert set(found) == {"untrained", "shuffled", "linear"}
    assert all(tuple(paint(z).shape) == (3, *scenes().shape) for paint in found.values())
    assert torch.equal(trained(z), before)
    torch.manual_seed(5)
    first = torch.rand(1)
    torch.manual_seed(5)
    again = maps.nulls(scenes(), trained)
    assert torch.equal(torch.rand(1), first), "whoever draws afterwards does not notice"
    assert torch.equal(again["untrained"](z), found["untrained"](z)) and not torch.equal(found["untrained"](z), before)
    wide = replace(
        scenes(), gaussian=replace(scenes().gaussian, U=scenes().gaussian.U[:, :5], lam=scenes().gaussian.lam[:5])
    )
    moved = maps.nulls(wide, trained)["linear"](maps.latents(range(3), 5)).flatten(1).double() - wide.gaussian.mu
    torch.testing.assert_close(
        moved @ wide.gaussian.U, maps.latents(range(3), 5).double() * wide.gaussian.lam.sqrt(), rtol=1e-4, atol=1e-4
    )
    variance = found["linear"](maps.latents(range(400), 16)).flatten(1).double().var(0).sum()
    assert float(variance) == pytest.approx(float(scenes().gaussian.lam[:16].sum()), rel=0.2)


def test_the_partner_of_a_model_paints_its_data(monkeypatch):
    s = scenes()
    assert s.model is not None
    monkeypatch.setattr(maps, "GANS", {"scenes": "a-gan"})
    assert maps.generator_of(s) is None  # as it is not bundled
    monkeypatch.setattr(maps, "bundled", lambda kind: ("a-gan",))
    monkeypatch.setattr(maps, "load_generator", lambda name, device: generator())
    assert maps.generator_of(s) is generator()
    assert maps.generator_of(replace(s, shape=(1, 28, 28))) is None
    turned = s.model.card | {"training": s.model.card["training"] | {"variant": "checkerboard"}}
    assert maps.generator_of(replace(s, model=replace(s.model, card=turned))) is None
    assert "generators" in kinship.measure(s, Settings(profile="ci"))
    monkeypatch.setattr(maps, "GANS", {})
    assert "generators" not in kinship.measure(s, Settings(profile="ci"))
