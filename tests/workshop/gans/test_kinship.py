"""GANs and diffusion maps through the same instruments, each beside an exact partner."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from atelier.data import scenes
from atelier.data.images import to_unit
from atelier.gans import kinship, maps, pullback, styles
from atelier.manifold import SamplerMap, alignment
from atelier.scoring import Ruler
from atelier.subject import Settings, Subject, subject
from painters import Gaussian, Levels
from painters.levels import vp_linear
from painters.sampling import noise


def world(dim=12, seed=3):
    U = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
    return Gaussian(torch.arange(dim).double(), U, torch.logspace(2, -2, dim, dtype=torch.float64))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bent(x, alpha, sigma):
    """A denoiser with a graph and a curve, elementwise: D = alpha tanh(x) + x^2 / 9."""
    return alpha * x.tanh() + x.square() / 9


def levels(n=6):
    return Levels.of(vp_linear(), n, spacing="logsnr")


@cache
def painted() -> tuple[Subject, dict]:
    """The exact Gaussian of the scenes beside the bundled GAN, in small; through JSON, as the ledger keeps it."""
    s = subject("scenes-ddpm", device="cpu").theory()
    return s, json.loads(json.dumps(kinship.measure(s, Settings(seeds=tuple(range(12)), profile="ci")), allow_nan=True))


@pytest.mark.parametrize("chunk", [2, 64])
def test_columns_of_a_sampler_are_its_pushes(chunk):
    run = SamplerMap(bent, random(5), levels())
    v = torch.eye(5).double()
    torch.testing.assert_close(maps.sampler_columns(run, v, chunk=chunk), run.push(v), rtol=1e-10, atol=1e-12)


def test_columns_of_a_constant_map_vanish():
    def still(x, alpha, sigma):
        return torch.ones_like(x) + 0 * x

    run = SamplerMap(still, random(5), levels())
    torch.testing.assert_close(maps.sampler_columns(run, torch.eye(5).double()), torch.zeros(5, 5).double())


def test_the_restricted_jacobian_against_differences_and_its_rest_against_the_trace(monkeypatch):
    monkeypatch.setattr(maps, "PROBES", 400)
    mapping = maps.Mapping(bent, levels())
    basis = torch.linalg.qr(random(8, 3, seed=1)).Q.T.float()
    J, seen, outside = maps.pushed(mapping, (4, 5), basis, lambda x: x.flatten(1)[:, :2] ** 2)
    assert seen is not None
    z, step = noise((4, 5), (8,)).double(), 1e-5
    for one, whole_z, rest, features in zip(J, z, outside, seen):
        full = torch.stack(
            [
                (mapping((whole_z + step * e)[None]) - mapping((whole_z - step * e)[None]))[0] / (2 * step)
                for e in torch.eye(8).double()
            ],
            1,
        )
        torch.testing.assert_close(one, full @ basis.T.double(), rtol=1e-3, atol=1e-4)
        left = full.square().sum() - (full @ basis.T.double()).square().sum()
        assert float(rest) == pytest.approx(float(left), rel=0.15)
        image = mapping(whole_z[None])[0]
        torch.testing.assert_close(features, 2 * image[:2, None] * (full @ basis.T.double())[:2], rtol=2e-3, atol=1e-3)


def test_pairs_of_points_are_averaged_without_the_diagonal_and_resampled_by_point():
    table = torch.tensor([[9.0, 0.2, 0.4], [0.6, 9.0, 0.8], [0.1, 0.3, 9.0]])
    found = pullback.between(table)
    assert found.value == pytest.approx(0.4) and found.n == 3
    assert 0.1 <= found.low < 0.4 < found.high <= 0.8
    shared = random(40)
    many = pullback.between((shared[:, None] + shared[None]) / 2)
    naive = float(shared.var()) ** 0.5 / math.sqrt(40 * 39)
    assert (many.high - many.low) / 3.92 > 2.5 * naive
    whole = pullback.across(shared[:, None].expand(40, 7))
    assert whole.value == pytest.approx(float(shared.mean()))
    assert (whole.high - whole.low) / 3.92 == pytest.approx(float(shared.std()) / math.sqrt(40), rel=0.15)


@pytest.mark.parametrize(("power", "wanted"), [(1, 1.0), (2, 2.0), (3, 27 / 15)])
def test_the_degree_of_a_map(power, wanted):
    """z^2 - 1 is of degree 2; z^3 = He_3 + 3 z has variance 6 + 9 and mean trace 9 E z^4 = 27, so 27/15."""
    even = torch.special.ndtri((torch.arange(20_000).double() + 0.5) / 20_000)  # a normal sample without luck
    traces = (power * even ** (power - 1)).square()
    found = pullback.degree(traces, {1: 1.0, 2: 2.0, 3: 15.0}[power])
    assert found.value == pytest.approx(wanted, rel=0.01)
    assert found.low <= found.value <= found.high


def test_image_axes_and_overlaps():
    g = world()
    H, J = pullback.metric(pullback.linear_generator(g.U, g.lam, g.mu, (12,)), random(2, 12))
    axes = pullback.image_axes(H, J, 4)
    assert axes.shape == (2, 4, 12)
    torch.testing.assert_close(axes @ axes.mT, torch.eye(4).double().expand(2, 4, 4))
    torch.testing.assert_close(pullback.overlaps(axes, g.U[:, :4].T[None])[:, 0], torch.ones(2).double())
    turned = torch.linalg.qr(random(12, 4, seed=8)).Q.T
    cosines = alignment.cosines(axes[0], turned)
    assert float(pullback.overlaps(axes[:1], turned[None])) == pytest.approx(float(cosines.square().mean()))


def test_overlaps_between_models():
    s = subject("scenes-ddpm", device="cpu")
    U = s.gaussian.U[:, :24].double()
    top, next_ = U[:, :8] * torch.arange(9, 1, -1), U[:, 8:16] * torch.arange(9, 1, -1)
    found = kinship.shared({"a": torch.stack([top, top]), "b": torch.stack([next_, next_, next_])}, s)
    assert found["a a"]["value"] == pytest.approx(1) and found["b b"]["value"] == pytest.approx(1)
    assert found["a b"]["value"] == pytest.approx(0, abs=1e-9)
    assert found["principal a b"] == pytest.approx([0.0] * 8, abs=1e-6)
    assert found["random"] == pytest.approx(8 / 3072)
    assert found["random"] < found["b pictures"]["value"] < found["a pictures"]["value"] < 1


def test_the_map_of_a_gaussian_has_its_metric():
    s, record = painted()
    found, limit = record["map"], record["theory"]
    finer = maps.pushed(maps.Mapping.of(s, 8), (0,), kinship.principal(s, 6), None)[0]
    described = kinship.described(finer)
    assert described["spectrum"] == pytest.approx(limit, rel=0.12)  # eight steps of the solver
    assert described["participation"]["value"] == pytest.approx(record["theory_participation"], rel=0.05)
    for scale in ("log", "linear"):
        assert found["pixels"][scale]["value"] == pytest.approx(1, abs=1e-5)
        assert found["features"][scale]["value"] < 0.999
    assert found["aligned"]["value"] == pytest.approx(1, abs=1e-5)
    whole = record["whole"]
    assert whole["found"] == pytest.approx(whole["restricted"], rel=1e-3)
    assert record["generators"]["linear"]["pixels"]["log"]["value"] == pytest.approx(1, abs=1e-5)
    assert record["generators"]["linear"]["aligned"]["value"] == pytest.approx(1, abs=1e-5)
    assert record["generators"]["trained"]["pixels"]["log"]["value"] < 0.9
    assert record["overlap"]["map map"]["value"] == pytest.approx(1, abs=1e-5)


def test_a_linear_map_has_degree_one_and_its_trace_is_counted_whole():
    """On a Gaussian, the trace inside the basis and outside it is the variance of what is painted."""
    s, _ = painted()
    mapping = maps.Mapping.of(s, 4)
    J, _, outside = maps.pushed(mapping, tuple(range(3)), kinship.principal(s, 6), None)
    variance = float(mapping(noise(range(60), s.shape)).flatten(1).double().var(0).sum())
    found = pullback.degree(J.square().sum((1, 2)) + outside, variance)
    assert found.value == pytest.approx(1, abs=0.15)
    told = kinship.summary(s, J, None, variance, outside)
    psi = s.gaussian.gain(frm=mapping.levels[0]).square()
    assert told["outside"]["value"] == pytest.approx(1 - float(psi[:6].sum() / psi.sum()), rel=0.3)
    assert told["degree"] == found.record()


@pytest.mark.parametrize(("first", "wanted"), [(0, 1.0), (8, 0.0)])
def test_directions_are_compared_at_the_same_image(first, wanted):
    """A linear generator of eight PCs: the first eight are those of a Gaussian's map, the next eight are not."""
    s, _ = painted()
    g, pcs = s.gaussian, slice(first, first + 8)
    paint = pullback.linear_generator(g.U[:, pcs], g.lam[pcs], g.mu, s.shape)
    mapping, settings = maps.Mapping.of(s, 8), Settings(profile="ci")

    class Linear:
        latent = 8

        def __call__(self, z):
            return paint(z)

    found = kinship.same_image(s, mapping, Linear(), settings, kinship.principal(s, 16))  # type: ignore[arg-type]
    assert found["same"]["value"] == pytest.approx(wanted, abs=1e-4)
    assert found["other"]["value"] == pytest.approx(wanted, abs=1e-4)
    assert found["missed"]["value"] < 0.1
    z = maps.latents(range(2), 8)
    assert found["length"]["value"] == pytest.approx(float(z.norm(dim=1).mean()) / math.sqrt(3072), rel=0.1)


def test_nulls_have_the_trained_ones_sizes_and_leave_it_alone():
    s, _ = painted()
    trained = maps.generator_of(s)
    assert trained is not None
    z = maps.latents(range(3), trained.latent)
    before = trained(z)
    found = maps.nulls(s, trained)
    assert set(found) == {"untrained", "shuffled", "linear"}
    assert all(tuple(paint(z).shape) == (3, *s.shape) for paint in found.values())
    assert torch.equal(trained(z), before)
    variance = found["linear"](maps.latents(range(400), 64)).flatten(1).double().var(0).sum()
    assert float(variance) == pytest.approx(float(s.gaussian.lam[:64].sum()), rel=0.2)
    assert maps.generator_of(replace(s, shape=(1, 28, 28))) is None
    assert s.model is not None
    turned = s.model.card | {"training": s.model.card["training"] | {"variant": "inverted"}}
    assert maps.generator_of(replace(s, model=replace(s.model, card=turned))) is None


def test_features_are_the_readers_in_units_of_the_data():
    s, _ = painted()
    features, data = maps.feature_map(s), s.data(maps.FEATURES)
    assert features is not None and data is not None and s.reader is not None
    spread = features(data).std(0)
    assert float(spread.max()) == pytest.approx(1, rel=1e-3)
    own = s.reader.features(data[:4])
    torch.testing.assert_close(features(data[:4]) * s.reader.features(data).std(0), own, rtol=1e-3, atol=1e-4)
    assert maps.feature_map(replace(s, reader=None)) is None


def test_a_walk_sets_one_coordinate_and_leaves_the_others():
    z, axis = random(9), torch.nn.functional.normalize(random(9, seed=1), dim=0)
    path = styles.line(z, axis)
    torch.testing.assert_close(path @ axis, styles.STOPS.double())
    off = path - (path @ axis)[:, None] * axis
    torch.testing.assert_close(off, (z - (z @ axis) * axis).expand_as(off))


@cache
def ruler() -> Ruler:
    found = Ruler.of(subject("scenes-ddpm", device="cpu"), 150)
    assert found is not None
    return found


def drawn(n, **values):
    base = scenes.sample(n, scenes.TEST_SEEDS.start + 5000)
    return to_unit(scenes.render(base.replace({k.replace("_", " "): v for k, v in values.items()}), 32))


def test_walks_name_the_factor_that_a_painter_moves():
    """A painter of two axes: the first moves the horizon, the second nothing."""

    def paint(z):
        return torch.cat([drawn(1, horizon=float((0.5 + 0.2 * c).clamp(0, 1))) for c in z[:, 0]])

    found = styles.walks(ruler(), paint, random(3, 2).float(), torch.eye(2).expand(3, 2, 2))
    first, second = found["axis 1"], found["axis 2"]
    assert first["factor"] == ["horizon"] * 3 and first["purity"]["value"] > 0.6
    assert first["linearity"]["value"] > 0.8 and first["distance"]["value"] > 0.2
    assert second["change"]["value"] == pytest.approx(0, abs=1e-9)
    assert set(found) == {"axis 1", "axis 2", "random"}


def test_what_mixing_keeps_is_scored_between_chance_and_perfect():
    before = drawn(60)
    assert styles.scored(ruler(), before, before)["selective"]["value"] == pytest.approx(0)
    other = styles.scored(ruler(), before, before.roll(1, 0))
    assert other["selective"]["value"] == pytest.approx(0, abs=0.12) and other["distance"]["value"] > 0.8
    details = {f.name: f for f in scenes.FACTORS if f.band in styles.DETAIL}
    fresh = scenes.sample(60, scenes.TEST_SEEDS.start + 7000).values
    base = scenes.sample(60, scenes.TEST_SEEDS.start + 5000)
    after = to_unit(scenes.render(base.replace({k: fresh[k] for k in details}), 32))
    asked = styles.scored(ruler(), before, after)
    assert asked["details"]["value"] > 0.4 and styles.scored(ruler(), before, before)["details"]["value"] == 0
    assert asked["selective"]["value"] > 0.6 and asked["outline"]["value"] > 0.8 and asked["distance"]["value"] < 0.6


def test_mixing_goes_from_another_picture_to_the_same():
    mixed = painted()[1]["mixing"]
    assert [one["at"] for one in mixed["styles"]] == [0, 1, 2, 3]
    assert mixed["styles"][0]["distance"]["value"] > mixed["styles"][3]["distance"]["value"]
    assert mixed["pcs"][0]["distance"]["value"] > mixed["pcs"][-1]["distance"]["value"]
    assert mixed["map angle"][0]["distance"]["value"] < mixed["map angle"][-1]["distance"]["value"]
    z, other = random(50_000, 2), random(50_000, 2, seed=7)
    turned = styles.turned(z, other, 0.3)
    assert float(turned.var()) == pytest.approx(1, abs=0.02)
    assert float((turned * z).mean()) == pytest.approx(math.cos(0.15 * math.pi), abs=0.02)
    torch.testing.assert_close(styles.turned(z, other, 1.0), other)


def test_depth_reads_what_stands_and_in_which_order():
    """Stages that show the coordinates above a falling threshold: what varies more stands earlier."""
    g = world(40, seed=5)
    final = g.sample(random(300, 40, seed=6))
    seen = [g.project(final) * (g.lam > limit) @ g.U.T + g.mu for limit in (10.0, 1.0, 0.0)]
    found = styles.depth(seen, seen, final, g)
    first = torch.tensor(found["painted"])
    torch.testing.assert_close(first[0], (g.lam[: styles.PCS] > 10).float(), rtol=0, atol=1e-5)
    torch.testing.assert_close(first[2], torch.ones(styles.PCS))
    assert found["early"]["rho"] > 0.8
    assert torch.tensor(found["readout"])[0, 0] > 0.9 and torch.tensor(found["readout"])[0, -1] < 0.2
    backward = [g.project(final) * (g.lam <= limit) @ g.U.T + g.mu for limit in (0.1, 1.0, 200.0)]
    assert styles.depth(backward, backward, final, g)["early"]["rho"] < -0.6
