"""Knobs: in a Gaussian world whose factors are known, they move the named one, by the predicted amount."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from partners import agree, dense
from partners import randn as random

from atelier.data.law import FactorLaw
from atelier.data.scenes.factors import Factor
from atelier.evidence.factors import law
from atelier.manifold import knobs
from atelier.manifold.knobs import Facts
from atelier.scoring import Known
from atelier.subject import Settings, Subject, subject
from painters import Gaussian, Levels, noise
from painters.levels import NOISE
from painters.schedules import vp_linear

FACTORS = (Factor("size", "areas"), Factor("hue", "masses", ("a", "b", "c")))
SHAPE = (2, 3, 4)


def gaussian(dim=24, low=-2):
    U = torch.linalg.qr(random(dim, dim, seed=3)).Q
    return Gaussian(random(dim, seed=4), U, torch.logspace(1, low, dim, dtype=torch.float64))


def world(n=4000):
    """Gaussian states with facts that are linear in them, but for noise."""
    g = gaussian()
    states = g.sample(random(n, *SHAPE, seed=5))
    facts = g.project(states)[:, :8] / g.lam[:8].sqrt() @ random(8, 4, seed=6) + 0.5 * random(n, 4, seed=7)
    return g, Known(states, facts, FACTORS)


def learned(factors=FACTORS, columns=slice(None)):
    g, data = world()
    return Facts.made(*law(g, Known(data.states, data.facts[:, columns], factors)), factors)


def test_covariances_and_the_share_explained():
    g, data = world()
    facts = learned()
    want = random(8, 4, seed=6) * g.lam[:8, None].sqrt()
    assert float((facts.covariance[:8] - want).norm() / want.norm()) < 0.1
    signal = random(8, 4, seed=6).square().sum(0)
    share = [float(signal[0] / (signal[0] + 0.25)), float(signal[1:].sum() / (signal[1:].sum() + 0.75))]
    assert facts.r2(10).tolist() == pytest.approx(share, abs=0.05)
    assert facts.r2().tolist() == pytest.approx(share, abs=0.05)
    blind = Facts.made(*law(g, Known(data.states, random(4000, 4, seed=8), FACTORS)), FACTORS)
    assert blind.r2(10).abs().max() < 0.01  # crossed halves: no bias of pcs/n


def small(**changed):
    g = gaussian()
    return replace(Subject("small", g, g, SHAPE, lambda n, **_: Levels.of(vp_linear(), n), lambda x: x), **changed)


def test_facts_are_those_of_the_factors_asked_for(monkeypatch):
    g, data = world(500)
    asked = []

    def known(subject, n, *, test):
        asked.append((n, test))
        return Known(data.states[:n], data.facts[:n], FACTORS)

    monkeypatch.setattr(knobs, "known", known)
    found = Facts.of(small(), FACTORS[1:], 300)
    some = Known(data.states[:300], data.facts[:300, 1:], FACTORS[1:])
    want = Facts.made(*law(g, some), FACTORS[1:])
    assert found is not None and found.factors == FACTORS[1:] and asked == [(300, False)]
    torch.testing.assert_close((found.one, found.other, found.spread), (want.one, want.other, want.spread))
    torch.testing.assert_close(found.covariance, (want.one + want.other) / 2)
    monkeypatch.setattr(knobs, "known", lambda *_, **__: None)
    assert Facts.of(small(), FACTORS, 300) is None


def test_of_latents_half_as_many_are_learned_from_as_of_pixels(monkeypatch):
    asked, latent = [], SimpleNamespace(image_shape=(3, 6, 8))
    monkeypatch.setattr(knobs.Ruler, "of", lambda subject, n: asked.append(n) or SimpleNamespace(factors=FACTORS))
    monkeypatch.setattr(Facts, "of", lambda subject, factors, n: asked.append(n) or factors)
    sizes = []
    for profile in ("ci", "book", "full"):
        for who in (small(), small(model=latent)):
            assert knobs.instruments(who, Settings(profile=profile))[1] is FACTORS  # type: ignore[index]
        ruled, pixels, again, latents = asked[-4:]
        assert ruled == again and pixels == 2 * latents
        sizes.append((ruled, pixels))
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    monkeypatch.setattr(Facts, "of", lambda *_: None)
    assert knobs.instruments(small(), Settings(profile="ci")) is None
    monkeypatch.setattr(knobs.Ruler, "of", lambda *_: None)
    assert knobs.instruments(small(), Settings(profile="ci")) is None


def test_random_directions_lie_among_the_first_pcs(monkeypatch):
    monkeypatch.setattr(knobs, "MANY", 10)
    g = gaussian()
    found = [knobs._random(g, b, seed) for b, seed in ((3, 0), (3, 1), (12, 0))]
    assert [one.shape for one in found] == [(24, 3), (24, 3), (24, 10)]
    for one in found:
        torch.testing.assert_close(one.T @ one, torch.eye(one.shape[1]).double())
        assert float((g.U[:, 10:].T @ one).abs().max()) < 1e-12
    assert float((found[0] - found[1]).abs().max()) > 0.1
    torch.testing.assert_close(knobs._random(g, 3, 0), found[0])


@pytest.mark.statement("prop-manifold-knob")
def test_a_step_of_the_noise_moves_the_affine_estimate_as_predicted_and_no_other_moves_it_more():
    g, data = world()
    facts = learned()
    affine = FactorLaw(g, g.U @ facts.covariance, data.facts.mean(0), data.facts.var(0))
    found = knobs.knob_of_each(facts, SHAPE)
    assert [k.name for k in found] == ["size", "hue"]
    z, others = random(1, *SHAPE, seed=1), torch.nn.functional.normalize(random(500, 24, seed=2), dim=1)

    def moved(direction, columns):
        images = g.flow(torch.cat([z, z + direction.reshape(-1, *SHAPE)]), frm=NOISE)
        said = affine.estimate(images, 1.0, 0.0)[:, columns]
        return said[1:] - said[0]

    for k in found:
        assert float(k.direction.norm()) == pytest.approx(1)
        agree(moved(k.direction, k.columns)[0], k.pattern, 1e-6)
        assert float(k.pattern[-1]) > 0
        assert float(moved(others, k.columns).norm(dim=1).max()) < float(k.pattern.norm())
        before = affine.estimate(g.flow(z, frm=NOISE), 1.0, 0.0)
        after = affine.estimate(g.flow(z + 0.3 * k.direction, frm=NOISE), 1.0, 0.0)
        assert bool(k.right(before, after)) and not bool(k.right(after, before))


@pytest.mark.statement("prop-manifold-knob")
def test_a_knob_of_one_column_moves_the_image_along_the_covariance():
    g, facts = gaussian(), learned()
    c = facts.covariance[:, :1]
    coordinates, pattern = knobs.strongest(g, c)
    u = knobs.in_noise(g, coordinates[None], SHAPE)[0]
    z = random(1, *SHAPE, seed=1)
    images = g.flow(torch.cat([z, z + u]), frm=NOISE)
    moved = (images[1] - images[0]).flatten()
    along = torch.nn.functional.normalize(g.U @ c[:, 0], dim=0)
    agree(moved / moved.norm(), along, 1e-6)
    agree(pattern[0], (c[:, 0] / g.lam.sqrt()).norm(), 1e-6)


def test_one_factor_alone_has_a_knob_for_each_kind():
    found = knobs.knob_of_each(learned(FACTORS[1:], slice(1, 4)), SHAPE, pcs=10)
    assert [k.name for k in found] == ["a", "b", "c"]
    assert [(k.columns.start, k.columns.stop) for k in found] == [(0, 1), (1, 2), (2, 3)]
    assert all(float(k.pattern[0]) > 0 and k.factor == 0 for k in found)


# What tells a factor alone


def told(g, readings):
    """Facts that are linear forms r . (x_0 - mu) of a Gaussian's states: two of one factor, then two more factors."""
    factors = (Factor("side", "areas", ("left", "right")), Factor("size", "areas"), Factor("hue", "masses"))
    covariance = dense(g) @ readings
    return Facts.made(FactorLaw(g, covariance, torch.zeros(4), (readings * covariance).sum(0)), covariance, factors)


@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi])
@pytest.mark.parametrize("level", [(0.01, 1.0), (0.8, 0.6)])
def test_what_tells_a_factor_alone_changes_it_and_no_other(angle, level):
    g, readings = gaussian(12, low=0), random(12, 4, seed=9)
    Q = told(g, readings).alone("side")
    assert Q.shape == (12, 2)
    x, fresh = g.sample(random(200, 12), level=level), random(200, 12, seed=1)
    before, after = (
        (g.flow(state, frm=level) - g.mu) @ readings for state in (x, knobs.turn(g, x, fresh, level, Q, angle))
    )
    # the blur that regularises the weights leaks a little
    assert float((after - before)[:, 2:].norm() / before[:, 2:].norm()) < 0.02
    own = float((after - before)[:, :2].norm() / before[:, :2].norm())
    assert own < 1e-9 if angle == 0 else own > 0.3


def test_turning_keeps_the_law_and_all_other_coordinates():
    g, level = gaussian(12, low=0), (0.8, 0.6)
    Q = told(g, random(12, 4, seed=5)).alone("size")
    x = g.sample(random(40_000, 12), level=level)
    y = knobs.turn(g, x, random(40_000, 12, seed=1), level, Q, 2.0)
    old, new = (g.flow(state, frm=level, to=NOISE) for state in (x, y))
    other = torch.eye(12).double() - Q @ Q.T
    torch.testing.assert_close(new @ other, old @ other)
    assert float((new @ Q).var()) == pytest.approx(1, abs=0.03)
    assert float(((new @ Q) * (old @ Q)).mean()) == pytest.approx(math.cos(2.0), abs=0.03)


def test_a_turned_state_is_of_the_kind_and_shape_that_it_was():
    g, level = gaussian(12, low=0), (0.8, 0.6)
    Q, x, fresh = told(g, random(12, 4, seed=5)).alone("size"), random(3, 1, 3, 4), random(3, 1, 3, 4, seed=1)
    small = knobs.turn(g, x.float(), fresh.float(), level, Q, 2.0)
    assert small.dtype == torch.float32 and small.shape == x.shape
    torch.testing.assert_close(small.double(), knobs.turn(g, x, fresh, level, Q, 2.0), rtol=1e-4, atol=1e-4)


def test_with_one_factor_its_knob_is_all_that_tells_it():
    g = gaussian(12, low=0)
    covariance = dense(g) @ random(12, 2, seed=9)
    facts = Facts.made(
        FactorLaw(g, covariance, torch.zeros(2), torch.ones(2)), covariance, [Factor("side", "areas", ("a", "b"))]
    )
    Q = facts.alone("side", blur=1e-4)
    weights = g.U @ ((g.U.T @ covariance) / g.lam.sqrt()[:, None])  # f_hat = weights . z in clean whitened coordinates
    assert Q.shape == weights.shape
    torch.testing.assert_close(Q @ (Q.T @ weights), weights, rtol=0, atol=1e-4)


def test_what_tells_some_factors_is_the_span_of_what_tells_each():
    g = gaussian(12, low=0)
    facts = told(g, random(12, 4, seed=9))
    both, each = facts.alone("side", "hue"), [facts.alone(name) for name in ("side", "hue")]
    assert both.shape == (12, 3)
    for Q in each:
        torch.testing.assert_close(both @ (both.T @ Q), Q)
    assert facts.alone("side", "size", "hue").shape == (12, 4)


def test_what_tells_a_factor_alone_does_not_depend_on_units():
    g = gaussian(12, low=0)
    covariance, units = random(12, 4, seed=9), torch.tensor([1e-9, 1.0, 1.0, 1e-8]).double()
    for name in ("side", "size", "hue"):
        one, other = told(g, covariance).alone(name), told(g, covariance * units).alone(name)
        torch.testing.assert_close(other @ other.T, one @ one.T)


def test_what_is_known_of_a_factor_is_the_share_of_its_weights():
    g, readings = gaussian(12, low=0), random(12, 4, seed=9)
    facts = told(g, readings)
    torch.testing.assert_close(facts.r2(), torch.ones(3).double())
    squares = (g.lam.sqrt()[:, None] * (g.U.T @ readings)).square()
    want = squares[:5].sum(0) / squares.sum(0)
    assert facts.r2(5)[1:].tolist() == pytest.approx(want[2:].tolist())
    assert float(facts.r2(5)[0]) == pytest.approx(float(squares[:5, :2].sum() / squares[:, :2].sum()))
    assert replace(facts, spread=100 * facts.spread).r2().tolist() == pytest.approx([0.01] * 3)


# The measurement


class Linear:
    """A ruler of three sizes that are linear forms of the states, a world of its own being the measure of change."""

    def __init__(self, who, readings):
        self.subject, self.readings = who, readings
        self.factors = tuple(Factor(name, "areas") for name in ("a", "b", "c"))
        self.names, self.unrelated = ["a", "b", "c"], torch.tensor([0.5, 1.0, 2.0]).double()

    def answers(self, x):
        return (x.flatten(1).double() - self.subject.gaussian.mu) @ self.readings

    def change(self, before, after):
        return (after - before).abs()

    def score(self, change):
        return (change.mean(0) / self.unrelated).clamp(max=1)


def test_the_record_of_what_tells_a_factor_alone(monkeypatch):
    g, readings = gaussian(12, low=0), 0.05 * random(12, 3, seed=9)
    levels = Levels.of(vp_linear(), 40, spacing="logsnr")
    who = Subject("a Gaussian", g, g, (12,), lambda n, **_: levels, lambda x: x, kind="gaussian")
    ruler = Linear(who, readings)
    covariance = dense(g) @ readings
    facts = Facts.made(
        FactorLaw(g, covariance, torch.zeros(3), (readings * covariance).sum(0)), covariance, ruler.factors
    )
    monkeypatch.setattr(knobs, "instruments", lambda *_: (ruler, facts))
    seeds = tuple(range(40))
    found = knobs.measure(who, Settings(seeds, profile="full"))
    assert found is not None and found["seeds"] == 40
    # on a Gaussian a mirrored whitened coordinate is the mirrored one of the image
    z = noise(seeds, (12,), dtype=torch.float64) @ g.U
    weights = g.lam.sqrt()[:, None] * (g.U.T @ readings)
    moved = []
    for name in ruler.names:
        Q = g.U.T @ facts.alone(name)
        moved.append((2 * (z @ Q) @ (Q.T @ weights)).abs() / ruler.unrelated)
    want = torch.stack(moved)  # (knob, seed, factor)
    np.testing.assert_allclose(found["own"], want.diagonal(dim1=0, dim2=2).mean(1), rtol=0.05, atol=0.02)
    assert max(found["others"]) < 0.05 * np.mean(found["own"])
    rest = want.sum((0, 2)) - want.diagonal(dim1=0, dim2=2).sum(1)
    np.testing.assert_allclose(found["others"], rest / 6, rtol=0.3, atol=0.005)
    np.testing.assert_allclose(found["change"], want.mean(1).clamp(max=1), rtol=0.05, atol=0.02)
    null = []
    for seed in range(knobs.RANDOM):
        Q = g.U.T @ knobs._random(g, 1, seed)
        null.append((2 * (z @ Q) @ (Q.T @ weights)).abs() / ruler.unrelated)
    np.testing.assert_allclose(found["null"], torch.stack(null).mean((0, 2)), rtol=0.05, atol=0.02)


def test_one_factor_has_no_others_to_leave_alone(monkeypatch):
    g, readings = gaussian(12, low=0), 0.05 * random(12, 3, seed=9)
    who = Subject("g", g, g, (12,), lambda n, **_: Levels.of(vp_linear(), n), lambda x: x, kind="gaussian")
    for n in (1, 2):
        ruler = Linear(who, readings[:, :n])
        ruler.factors, ruler.names, ruler.unrelated = ruler.factors[:n], ruler.names[:n], ruler.unrelated[:n]
        covariance = dense(g) @ readings[:, :n]
        facts = Facts.made(FactorLaw(g, covariance, torch.zeros(n), torch.ones(n)), covariance, ruler.factors)
        monkeypatch.setattr(knobs, "instruments", lambda *_, ruler=ruler, facts=facts: (ruler, facts))
        found = knobs.measure(who, Settings((0, 1), profile="ci"))
        assert (found is None) == (n == 1)
    assert np.shape(found["change"]) == (2, 2)  # type: ignore[index]


def test_measure_finds_that_knobs_turn_their_factor():
    who = subject("scenes-sd", device="cpu")
    record = knobs.measure(who.theory(), Settings(seeds=tuple(range(6)), profile="ci"))
    assert record is not None
    F, n = len(record["factors"]), record["seeds"]
    assert np.shape(record["change"]) == (F, F) and np.shape(record["own"]) == np.shape(record["null"]) == (n,)
    assert np.mean(record["own"]) > 3 * np.mean(record["others"]) and np.max(record["change"]) <= 1
    assert knobs.measure(replace(who, reader=None), Settings(profile="ci")) is None
