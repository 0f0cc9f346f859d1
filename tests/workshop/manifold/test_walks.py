"""Walks: they stay on the shell, go where they say, and on a Gaussian do what the closed form says."""

import math

import pytest
import torch
from partners import randn as random

from atelier.manifold import walks
from atelier.scoring import distance
from painters import Gaussian, Levels
from painters.levels import NOISE
from painters.schedules import vp_linear


def gaussian(dim=24):
    U = torch.linalg.qr(random(dim, dim, seed=3)).Q
    return Gaussian(random(dim, seed=4), U, torch.logspace(1, -2, dim, dtype=torch.float64))


def test_great_circles_stay_on_the_shell_and_turn_by_the_angle():
    x, angles = random(2, 12), torch.tensor([-1.0, 0.0, 0.4, 3.0]).double()
    found = walks.line(x, random(3, 2, 12, seed=1), angles)
    assert found.shape == (3, 4, 2, 12)
    norms = found.flatten(2).norm(dim=2)
    torch.testing.assert_close(norms, x.norm().expand(3, 4))
    turned = (found.flatten(2) @ x.flatten()) / x.norm() ** 2
    torch.testing.assert_close(turned, angles.cos().expand(3, 4))
    torch.testing.assert_close(found[:, 1], x.expand(3, 2, 12))
    own = torch.stack([angles, 2 * angles, 0 * angles])
    torch.testing.assert_close(walks.line(x, random(3, 2, 12, seed=1), own)[0], found[0])
    assert float((walks.line(x, random(3, 2, 12, seed=1), own)[2] - x).abs().max()) < 1e-12


def test_a_walk_goes_to_the_side_of_its_direction():
    x, u = random(24), random(24, seed=1)
    after = walks.line(x, u[None], torch.tensor([0.2]).double())[0, 0]
    besides = u - (u @ x) / (x @ x) * x
    assert float(after @ besides) == pytest.approx(math.sin(0.2) * float(x.norm() * besides.norm()))


def test_the_dial_sets_a_coordinate_and_keeps_the_length():
    x, units = random(3, 8), torch.nn.functional.normalize(random(2, 24, seed=1), dim=1).reshape(2, 3, 8)
    values = torch.tensor([-2.0, 0.0, 1.5]).double()
    found = walks.dial(x, units, values)
    torch.testing.assert_close(torch.einsum("kn...,k...->kn...", found, units).flatten(2).sum(2), values.expand(2, 3))
    torch.testing.assert_close(found.flatten(2).norm(dim=2), x.norm().expand(2, 3))
    own = (x * units[0]).sum()
    torch.testing.assert_close(walks.dial(x, units[:1], own[None])[0, 0], x)
    with pytest.raises(ValueError, match="can be"):
        walks.dial(x, units, torch.tensor([99.0]))


def test_painting_follows_the_flow():
    g, levels = gaussian(), Levels.of(vp_linear(), 300, spacing="logsnr")
    states = random(2, 3, 24)
    want = g.flow(states.flatten(0, 1), frm=levels[0]).reshape(states.shape)
    found = walks.painted(g, states, levels, batch=4)
    assert float((found - want).norm() / want.norm()) < 5e-3


def test_matched_walks_are_equally_far():
    g, x, directions = gaussian(), random(24), random(5, 24, seed=1)

    def walk(angles):
        points = walks.line(x, directions, angles)
        return g.flow(points.flatten(0, 1), frm=NOISE).reshape(points.shape)

    angles, ends = walks.matched(walk, g, 5, target=0.6, rounds=12)
    torch.testing.assert_close(ends, walk(torch.stack([-angles, angles], 1)))
    torch.testing.assert_close(distance(g, ends[:, 0], ends[:, 1]), torch.full((5,), 0.6).double(), rtol=1e-4, atol=0)
    assert float(walks.matched(walk, g, 5, target=50.0, most=1.0)[0].max()) == 1.0
