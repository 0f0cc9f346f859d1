"""Variations on purpose, against the exact Gaussian world, where what is kept is kept exactly."""

import pytest
import torch
from partners import randn as random

from atelier import variations
from painters import Gaussian, Levels, load, noise, solve
from painters.sampling import paint_on
from painters.schedules import vp_linear
from painters.theory.gaussian import ode_gain


def world(dim=12):
    U = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q
    return Gaussian(torch.arange(dim).double(), U, torch.logspace(2, -2, dim, dtype=torch.float64))


@pytest.mark.statement("prop-variations-share")
@pytest.mark.parametrize("i", [0, 25])
@pytest.mark.parametrize("keep", ["outline", "details"])
def test_what_is_kept_is_kept_exactly_in_the_image(keep, i):
    g, levels = world(), Levels.of(vp_linear(), 40)
    x = g.sample(random(5, 12), level=levels[i])
    other = variations.repaint(g, x, random(5, 12, seed=1), levels[i], keep=keep, pcs=4)
    before, after = (g.project(g.flow(state, frm=levels[i])) for state in (x, other))
    kept, drawn = (slice(0, 4), slice(4, 12)) if keep == "outline" else (slice(4, 12), slice(0, 4))
    torch.testing.assert_close(after[:, kept], before[:, kept], rtol=1e-9, atol=1e-9)
    assert float(((after - before)[:, drawn] / g.lam[drawn].sqrt()).abs().median()) > 0.5


def test_a_repainted_state_has_the_law_of_its_level():
    g, level = world(), (0.8, 0.6)
    x = g.sample(random(20_000, 12), level=level)
    y = variations.repaint(g, x, random(20_000, 12, seed=1), level, keep="outline", pcs=5)
    v = 0.64 * g.lam + 0.36
    torch.testing.assert_close(g.project(y, alpha=0.8).var(0), v, rtol=0.05, atol=0)
    torch.testing.assert_close(y.mean(0), 0.8 * g.mu, rtol=0, atol=0.3)


def test_all_or_nothing():
    g, level = world(), (0.8, 0.6)
    x, fresh = g.sample(random(3, 12), level=level), random(3, 12, seed=1)
    new = g.sample(fresh, level=level)
    torch.testing.assert_close(variations.repaint(g, x, fresh, level, keep="outline", pcs=12), x)
    torch.testing.assert_close(variations.repaint(g, x, fresh, level, keep="outline", pcs=0), new)
    torch.testing.assert_close(variations.repaint(g, x, fresh, level, keep="details", pcs=12), new)
    with pytest.raises(ValueError, match="12 components"):
        variations.repaint(g, x, fresh, level, keep="outline", pcs=13)
    with pytest.raises(ValueError, match="outline"):
        variations.repaint(g, x, fresh, level, keep="colours", pcs=3)


def test_as_many_components_stand_as_have_more_variance_than_the_noise():
    g = world()
    assert variations.standing(g, (0.6, 0.8)) == int((g.lam >= (0.8 / 0.6) ** 2).sum())
    assert variations.standing(g, (1.0, 0.0)) == 12


def test_the_grid_follows_the_exact_gain():
    g, levels = world(), Levels.of(vp_linear(), 300, spacing="logsnr")
    run = solve(g, levels.start(random(1, 12)), levels, solver="dpmpp2m", progress=False)
    images = variations.grid(g, run, g.U[:, 2], steps=[0, 150], sizes=[-2.0, 0.0, 3.0], levels=levels)
    for row, i in zip(images, [0, 150]):
        gain = ode_gain(g.lam[2:3], frm=levels[i])
        torch.testing.assert_close(
            g.project(row - run.final + g.mu)[:, 2], torch.tensor([-2.0, 0, 3]) * gain, rtol=2e-2, atol=1e-4
        )
    with pytest.raises(ValueError, match="every frame"):
        variations.grid(g, run, g.U[:, 2], steps=[0], sizes=[1.0], levels=levels[:5])


def test_inversion_comes_back_in_the_exact_world():
    g = Gaussian(world().mu, world().U, world().lam.clamp(min=1.0))
    levels = Levels.of(vp_linear(), 400, spacing="logsnr")
    image = g.sample(random(4, 12))
    noisy = variations.invert(g, image, levels).final
    torch.testing.assert_close(noisy, g.flow(image, frm=(1.0, 0.0), to=levels[0]), rtol=0, atol=0.02)
    assert float(variations.round_trip(g, image, levels, centre=g.mu)[1].max()) < 1e-3


def test_a_network_repaints_its_own_image():
    model = load("fashion-twin-v", device="cpu")
    levels = model.levels(50, spacing="logsnr")
    image = solve(model.denoiser(), levels.start(noise([0, 1], model.shape)), levels, progress=False).final
    noisy, error = variations.round_trip(model.denoiser(), image, levels, centre=torch.zeros(model.shape))
    assert noisy.shape == image.shape and float(error.max()) < 0.2
    again = paint_on(model.denoiser(), noisy, levels)
    lost = (again - image).flatten(1).norm(dim=1) / image.flatten(1).norm(dim=1)
    torch.testing.assert_close(lost, error)
