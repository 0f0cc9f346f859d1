"""Orders by name: in the Gaussian's world the smallest change carries them out and moves nothing else."""

import math
from dataclasses import replace

import pytest
import torch
from partners import agree, gaussian

from atelier.data.scenes.factors import factor
from atelier.manifold.knobs import Facts
from atelier.networks.readers import columns
from atelier.subject import Subject, subject
from atelier.variations import asking
from painters import Levels, noise
from painters.levels import CLEAN
from painters.schedules import vp_linear
from painters.theory.gaussian import Gaussian

LEVEL = (0.8, 0.6)


@pytest.fixture(scope="module")
def facts():
    """What the data say of a sky, a horizon and clouds in a world of twelve dimensions."""
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 12, generator=draw, dtype=torch.float64)).Q
    lam = torch.linspace(3, 0.5, 12, dtype=torch.float64)
    world = Gaussian(torch.randn(12, generator=draw, dtype=torch.float64), basis, lam)
    cov = torch.randn(12, 7, generator=draw, dtype=torch.float64)
    for kinds in (slice(0, 4), slice(5, 7)):  # indicators of the kinds sum to 1
        cov[:, kinds] -= cov[:, kinds].mean(1, keepdim=True)
    spread = (cov.square() / lam[:, None]).sum(0)
    factors = (factor("sky"), factor("horizon"), factor("clouds"))
    return Facts(world, factors, cov, cov, spread)


@pytest.fixture(scope="module")
def affine(facts):
    return asking.Affine.of(facts, blur=0.0)


def states(affine, n=5):
    fresh = torch.randn(n, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return affine.gaussian.sample(fresh, level=LEVEL)


@pytest.mark.statement("prop-variations-ask")
def test_an_order_is_carried_out_in_the_image_and_nothing_else_is_moved(affine):
    x = states(affine)
    before = affine.read(asking.white(affine.gaussian, x, LEVEL))
    sent = affine.ask(x, LEVEL, {"sky": "pink", "horizon": 0.9}, loud=1.0)
    image = affine.gaussian.flow(sent, frm=LEVEL, to=CLEAN)
    after = affine.read(asking.white(affine.gaussian, image, CLEAN))
    pink = torch.tensor([0.0, 0.0, 1.0, 0.0]).double()
    agree(after[:, :4], pink.expand(5, 4), 1e-6)
    agree(after[:, 4], torch.full((5,), 0.9, dtype=torch.float64), 1e-6)
    agree(after[:, 5:], before[:, 5:], 1e-6)


@pytest.mark.statement("prop-variations-ask")
def test_no_shorter_step_does_it(affine):
    z = asking.white(affine.gaussian, states(affine), LEVEL)
    step = affine.step(z, {"clouds": "cloudy"})
    want = affine.wanted(z, {"clouds": "cloudy"}) - affine.read(z)
    shortest = torch.linalg.lstsq(affine.weights.T, want.T, driver="gelsd").solution.T
    agree(step, shortest, 1e-6)


def test_white_and_coloured_undo_each_other(affine):
    x = states(affine)
    z = asking.white(affine.gaussian, x, LEVEL)
    torch.testing.assert_close(asking.coloured(affine.gaussian, z, LEVEL, x), x)
    small = x.float().reshape(5, 3, 4)
    assert asking.white(affine.gaussian, small, LEVEL).dtype == torch.float64
    again = asking.coloured(affine.gaussian, z, LEVEL, small)
    assert again.dtype == torch.float32 and torch.allclose(again, small, atol=1e-5)


def test_readings_are_the_best_affine_ones_through_a_blur_and_leave_out_what_is_not_known(facts):
    """White noise of the blur on a picture makes Cov(f, y) (Sigma + blur^2)^-1 of Cov(f, x) Sigma^-1."""
    whole = asking.Affine.of(facts)
    assert [f.name for f in whole.factors] == ["sky", "horizon", "clouds"]
    assert whole.mean.tolist() == [0.25] * 4 + [0.5] * 3
    g = facts.gaussian
    cov = g.U @ facts.one  # of the data's own axes
    root = g.U @ g.lam.sqrt().diag() @ g.U.T
    reading = torch.linalg.solve(g.U @ g.lam.diag() @ g.U.T + 0.1**2 * torch.eye(12).double(), cov)
    torch.testing.assert_close(whole.weights, root @ reading)
    unknown = facts.spread.clone()
    unknown[4] *= 5.1
    some = asking.Affine.of(replace(facts, spread=unknown))
    assert [f.name for f in some.factors] == ["sky", "clouds"] and some.mean.tolist() == [0.25] * 4 + [0.5] * 2
    torch.testing.assert_close(some.weights, whole.weights[:, [0, 1, 2, 3, 5, 6]])
    unknown[4] = 4.9 * facts.spread[4]
    assert len(asking.Affine.of(replace(facts, spread=unknown)).factors) == 3


def test_a_network_is_asked_for_half_as_much_again(affine):
    x, order = states(affine), {"horizon": 0.9}
    once, loud = affine.ask(x, LEVEL, order, loud=1.0), affine.ask(x, LEVEL, order)
    torch.testing.assert_close(loud - x, 1.5 * (once - x))
    torch.testing.assert_close(affine.ask(x, LEVEL, {}), x)


def test_states_are_those_of_a_run_to_the_level():
    g = gaussian([4.0, 1.0, 0.2], seed=2)
    who = Subject("small", g, g, (3,), lambda n, spacing: Levels.of(vp_linear(), n, spacing=spacing), abs)
    levels, start, x = asking.states_at(who, [4, 2], 0.75, 60)
    assert start == int((levels.ratio[:-1].log() - math.log(0.75)).abs().argmin()) and levels.steps == 60
    begin = levels.start(noise([4, 2], (3,)))
    torch.testing.assert_close(x.double(), g.flow(begin.double(), frm=levels[0], to=levels[start]), rtol=0, atol=5e-3)


def test_a_kind_that_is_not_known_is_named(affine):
    with pytest.raises(ValueError, match="sky has no kind 'green': blue, golden"):
        affine.ask(states(affine), LEVEL, {"sky": "green"})


def test_on_a_network_an_order_changes_the_picture_and_the_measurement_has_its_committed_form():
    painter = subject("scenes-sd")
    affine = asking.Affine.learned(painter, 200)
    pictures = asking.scenes(painter, affine, 21, [{"sky": "indigo"}], steps=8)
    assert pictures.shape == (2, 3, 64, 64)
    sky = pictures[:, :, :16].mean((1, 2, 3))
    assert sky[1] < sky[0] - 0.2  # night falls

    record = asking.asked()
    factors, seeds = len(record["factors"]), record["seeds"]
    assert len(record["known"]) == factors
    for found in record["at"]:
        assert len(found["price"]) == factors
        for key in ("granted", "others", "null_granted", "null_others"):
            assert torch.tensor(found[key]).shape == (seeds, factors)
    assert sum(columns(affine.factors)) == affine.weights.shape[1] == len(affine.mean)
