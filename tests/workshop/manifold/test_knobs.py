"""Named knobs: on a Gaussian world whose factors are known, they move the named one, by the predicted amount."""

import numpy as np
import pytest
import torch
from partners import randn as random

from atelier.data.scenes.factors import Factor
from atelier.evidence.factors import Known
from atelier.manifold import knobs, walks
from painters import Gaussian
from painters.theory.factors import FactorLaw

FACTORS = (Factor("size", "areas"), Factor("hue", "masses", ("a", "b", "c")))
SHAPE = (2, 3, 4)


def gaussian(dim=24):
    U = torch.linalg.qr(random(dim, dim, seed=3)).Q
    return Gaussian(random(dim, seed=4), U, torch.logspace(1, -2, dim, dtype=torch.float64))


def world(n=4000):
    """Gaussian states with facts that are linear in them, but for noise."""
    g = gaussian()
    states = g.sample(random(n, *SHAPE, seed=5))
    facts = g.project(states)[:, :8] / g.lam[:8].sqrt() @ random(8, 4, seed=6) + 0.5 * random(n, 4, seed=7)
    return g, Known(states, facts, FACTORS)


def test_covariances_and_the_share_explained():
    g, data = world()
    coordinates, explained = knobs.covariances(g, data, 10)
    want = random(8, 4, seed=6).T * g.lam[:8].sqrt()
    assert float((coordinates[:, :8] - want).norm() / want.norm()) < 0.1
    signal = random(8, 4, seed=6).square().sum(0)
    share = [float(signal[0] / (signal[0] + 0.25)), float(signal[1:].sum() / (signal[1:].sum() + 0.75))]
    assert explained.tolist() == pytest.approx(share, abs=0.05)
    blind = Known(data.states, random(4000, 4, seed=8), FACTORS)
    assert knobs.covariances(g, blind, 10)[1].abs().max() < 0.01  # crossed halves: no bias of pcs/n


def test_a_step_of_the_noise_moves_the_affine_estimate_as_predicted_and_no_other_moves_it_more():
    g, data = world()
    coordinates, _ = knobs.covariances(g, data, 24)
    law = FactorLaw(g, (g.U @ coordinates.T), data.facts.mean(0), data.facts.var(0))
    found = knobs.knobs(g, coordinates, FACTORS, SHAPE)
    assert [k.name for k in found] == ["size", "hue"]
    z, others = random(1, *SHAPE, seed=1), torch.nn.functional.normalize(random(500, 24, seed=2), dim=1)

    def moved(direction, columns):
        images = g.flow(torch.cat([z, z + direction.reshape(-1, *SHAPE)]), frm=walks.NOISE)
        said = law.estimate(images, 1.0, 0.0)[:, columns]
        return said[1:] - said[0]

    for k in found:
        assert float(k.direction.norm()) == pytest.approx(1)
        torch.testing.assert_close(moved(k.direction, k.columns)[0], k.pattern)
        assert float(k.pattern[-1]) > 0
        assert float(moved(others, k.columns).norm(dim=1).max()) < float(k.pattern.norm())
        before = law.estimate(g.flow(z, frm=walks.NOISE), 1.0, 0.0)
        after = law.estimate(g.flow(z + 0.3 * k.direction, frm=walks.NOISE), 1.0, 0.0)
        assert bool(k.right(before, after)) and not bool(k.right(after, before))


def test_a_knob_of_one_column_moves_the_image_along_the_covariance():
    g, data = world()
    coordinates, _ = knobs.covariances(g, data, 24)
    u, pattern = knobs.knob(g, coordinates[:1], SHAPE)
    z = random(1, *SHAPE, seed=1)
    images = g.flow(torch.cat([z, z + u]), frm=walks.NOISE)
    moved, c = (images[1] - images[0]).flatten(), g.U @ coordinates[0]
    assert float(torch.nn.functional.cosine_similarity(moved, c, dim=0)) == pytest.approx(1)
    assert float(pattern[0]) == pytest.approx(float((coordinates[0] / g.lam.sqrt()).norm()))


def test_one_factor_alone_has_a_knob_for_each_kind():
    g, data = world()
    coordinates, _ = knobs.covariances(g, data, 10)
    found = knobs.knobs(g, coordinates[1:], FACTORS[1:], SHAPE)
    assert [k.name for k in found] == ["a", "b", "c"]
    assert [(k.columns.start, k.columns.stop) for k in found] == [(0, 1), (1, 2), (2, 3)]
    assert all(float(k.pattern[0]) > 0 for k in found)


def test_a_results_file_gives_the_knobs_back():
    g, data = world()
    coordinates, explained = knobs.covariances(g, data, 10)
    made = knobs.knobs(g, coordinates, FACTORS, SHAPE)
    again = knobs.stored(knobs.coordinates_record(coordinates, explained, made), g, SHAPE)
    assert list(again) == ["size", "hue"]
    for k in made:
        assert float((again[k.name] * k.direction).sum()) > 1 - 1e-4


class Plain:
    """A ruler that reads its answers off the states."""

    def __init__(self, factors):
        self.factors = factors
        self.names = [f.name for f in factors]

    def change(self, before, after):
        moved = (after - before).square()
        return torch.stack([moved[:, 0], moved[:, 1:].sum(1)], 1)


def test_the_judge_knows_hits_from_misses():
    g, data = world()
    coordinates, _ = knobs.covariances(g, data, 10)
    made = knobs.knobs(g, coordinates, FACTORS, SHAPE)
    t = torch.linspace(-1, 1, 5).double()[:, None]
    size, hue = torch.zeros(4).double(), torch.zeros(4).double()
    size[0], hue[1:] = 1.0, made[1].pattern
    hit = knobs.judge(Plain(FACTORS), made, torch.stack([t * (size + 0.1 * hue), t * hue]))  # type: ignore[arg-type]
    assert hit["hit"].all() and hit["right"].all()
    turned = 4 * float(made[1].pattern.square().sum())
    assert hit["named"].tolist() == pytest.approx([4.0, turned])
    assert hit["others"].tolist() == pytest.approx([0.01 * turned, 0.0])
    assert hit["linear"].tolist() == pytest.approx([1, 1])
    miss = knobs.judge(Plain(FACTORS), made, torch.stack([-t * size - 2 * t * hue, t.square() * size]))  # type: ignore[arg-type]
    assert not miss["hit"].any() and not miss["right"].any()
    kinds = knobs.knobs(g, coordinates[1:], FACTORS[1:], SHAPE)
    rows = torch.stack([t * torch.tensor(v).double() for v in ([1.0, 0.5, -2.0], [1.0, 0.5, 0.2], [0.0, -1.0, 1.0])])
    judged = knobs.judge(Plain(FACTORS[1:]), kinds, rows)  # type: ignore[arg-type]
    assert judged["hit"].tolist() == [True, False, True]
    assert np.allclose(judged["named"], [2.0, 1.0, 2.0])
    assert np.allclose(judged["others"], [2.5, 1.2, 1.0])
