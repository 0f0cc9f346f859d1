"""Emergence curves: exact on a Gaussian, a lower bound on other data, and honest about what it cannot see."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from atelier.data.controls import checkerboard
from atelier.evidence import order as module
from atelier.evidence.order import (
    Paths,
    band_energy,
    band_law,
    bound,
    crossing,
    emerge,
    follow,
    measure,
    order,
    radial_bands,
)
from atelier.subject import Settings, Subject
from painters import Gaussian, Levels, Moments, PointCloud, noise, solve
from painters.schedules import cosine, edm, flow, vp_linear
from painters.theory import emergence
from painters.theory.mixture import Mixture


def gaussian(lam=(30.0, 2.0, 0.3, 0.01), dim=6):
    lam = torch.tensor(lam, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    U = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q[:, : len(lam)]
    return Gaussian(torch.arange(dim, dtype=torch.float64), U, lam)


def run(g, levels, seeds=(5,)):
    return g.trajectory(levels.start(noise(seeds, (g.dim,), dtype=torch.float64)), levels)


@pytest.mark.parametrize("seeds", [(5,), (5, 6, 7)], ids=("one", "three"))
@pytest.mark.parametrize("schedule", [vp_linear(), cosine(), edm(), flow()], ids=lambda s: s.name)
def test_samples_of_a_gaussian_follow_the_sigmoid_exactly_however_few(schedule, seeds):
    g, levels = gaussian(), Levels.of(schedule, 40)
    found = emerge(run(g, levels, seeds), g)
    torch.testing.assert_close(found.emerged, torch.sigmoid(found.shifted), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.theory, torch.sigmoid(found.shifted), rtol=1e-9, atol=1e-14)
    assert len(found.logsnr) == (39 if levels.alpha[0] == 0 else 40)


def test_half_emergence_is_at_sigma_squared_equal_to_lambda():
    g = gaussian()
    levels = Levels.of(vp_linear(), 600, spacing="logsnr")
    found = emerge(run(g, levels), g)
    torch.testing.assert_close(found.half_sigma(), g.lam.sqrt(), rtol=1e-3, atol=0)
    quarter = crossing(found.logsnr, found.emerged, 0.25)
    torch.testing.assert_close(quarter, -g.lam.log() - torch.log(torch.tensor(3.0)), rtol=0, atol=2e-3)


def test_half_is_nan_where_it_was_not_seen():
    g = gaussian((1e9, 1.0))
    found = emerge(run(g, Levels.of(vp_linear(), 50)), g)
    assert found.half_sigma().isnan().tolist() == [True, False]


def test_two_modes_emerge_no_later_than_the_gaussian():
    m = 3.0

    def denoise(x, alpha, sigma):
        return m * torch.tanh(m * alpha * x / sigma**2)

    g = Gaussian(torch.zeros(1).double(), torch.ones(1, 1).double(), torch.tensor([m**2]).double())
    levels = Levels.of(vp_linear(), 200)
    trajectory = solve(denoise, levels.start(noise(range(2000), (1,), dtype=torch.float64)), levels, progress=False)
    found = emerge(trajectory, g)
    excess = found.emerged - found.theory
    assert float(excess.min()) > -0.01 and float(excess.max()) > 0.1


def test_a_mean_only_denoiser_never_emerges():
    g = gaussian()
    null = Gaussian(g.mu, g.U[:, :0], g.lam[:0])
    levels = Levels.of(vp_linear(), 30)
    trajectory = solve(lambda x, a, s: null(x, a, s), g.sample(noise([1], (6,), dtype=torch.float64), level=levels[0]),
                       levels[:20], progress=False)  # fmt: skip
    found = emerge(trajectory, g)
    assert float(found.emerged.max()) < 1e-20 and bool(found.half_sigma().isnan().all())


def test_refuses_components_that_cannot_emerge():
    g = gaussian((1.0, 0.0))
    trajectory = run(g, Levels.of(vp_linear(), 10))
    with pytest.raises(ValueError, match="components with variance"):
        emerge(trajectory, g)
    assert emerge(trajectory, g, pcs=1).emerged.shape == (10, 1)
    null = Gaussian(g.mu, g.U[:, :0], g.lam[:0])
    with pytest.raises(ValueError, match="no energy"):
        emerge(run(null, Levels.of(cosine(), 10)), g, pcs=1)


def tiny(lam, shape=(1, 6, 6), *, seed=4, rest=0.0):
    """A subject whose data are one Gaussian in rotated axes, on a trained model's kind of levels."""
    dim = shape[0] * shape[1] * shape[2]
    generator = torch.Generator().manual_seed(seed)
    lam = torch.as_tensor(lam, dtype=torch.float64)
    U = torch.linalg.qr(torch.randn(dim, len(lam), generator=generator, dtype=torch.float64)).Q
    g = Gaussian(torch.zeros(dim, dtype=torch.float64), U, lam, rest)
    return of(g, g, shape)


def of(denoise, g, shape):
    def levels(n, *, spacing="trailing"):
        return Levels.of(vp_linear(), n, spacing=spacing)

    return Subject("tiny", denoise, g, shape, levels, lambda x: x / 2 + 0.5)


def test_crossings_of_many_curves_are_those_of_each():
    logsnr = torch.linspace(-5, 5, 21, dtype=torch.float64)
    curves = torch.stack([torch.sigmoid(logsnr - 2), torch.full_like(logsnr, 0.2), torch.sigmoid(logsnr + 9)], 1)
    found = crossing(logsnr, curves)
    assert abs(float(found[0]) - 2) < 1e-12 and found[1:].isnan().all()
    between = torch.tensor([[0.0], [0.4], [0.8], [0.1], [0.9]], dtype=torch.float64)
    assert float(crossing(torch.arange(5.0).double(), between)) == pytest.approx(1.25), "the first time, not the last"


def test_bands_part_the_spectrum_and_a_checkerboard_turns_them_round():
    masks, edges = radial_bands(8, 8)
    assert bool((masks.sum(0) == 1).all()) and bool((edges[:, 0] < edges[:, 1]).all())
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(band_energy(x, masks).sum(1), x.double().square().sum((1, 2, 3)))
    assert float(band_energy(torch.ones(1, 1, 8, 8), masks)[0, 0]) == pytest.approx(64)
    assert float(band_energy(checkerboard(torch.ones(1, 1, 8, 8)), masks)[0, -1]) == pytest.approx(64)
    wave = torch.cos(2 * torch.pi * 2 * torch.arange(8) / 8).expand(1, 1, 8, 8)
    hit = int(band_energy(wave, masks)[0].argmax())
    assert float(edges[hit, 0]) <= 0.25 < float(edges[hit, 1])


def test_the_law_of_the_bands_is_the_gaussian_flow():
    subject = tiny([40.0, 9.0, 2.0, 0.5, 0.1], rest=0.03)
    g, shape = subject.gaussian, subject.shape
    levels = subject.levels(30)
    masks, _ = radial_bands(*shape[1:])
    run = g.trajectory(levels.start(noise(range(6000), shape, dtype=torch.float64)), levels)
    energy = torch.stack([band_energy(x0, masks).mean(0) for x0 in run.x0])
    got = band_law(g, shape, masks, levels[:-1], levels[0])
    torch.testing.assert_close(got, energy / band_energy(run.final, masks).mean(0), rtol=0.08, atol=0.01)
    axes = torch.linalg.qr(g.U, mode="complete").Q
    every = Gaussian(g.mu, axes, torch.cat([g.lam, torch.full((36 - len(g.lam),), 0.9).double()]))
    partly = Gaussian(g.mu, g.U, g.lam, 0.9)
    told = [band_law(one, shape, masks, levels[:-1], levels[0]) for one in (partly, every)]
    torch.testing.assert_close(*told)  # the remainder is what all other components would be
    white = Gaussian(g.mu, g.U, torch.full_like(g.lam, 0.7), 0.7)
    one = torch.stack([emergence(torch.tensor(0.7).double(), level) for level in levels[:-1]])
    torch.testing.assert_close(
        band_law(white, shape, masks, levels[:-1], levels[0]), one[:, None].expand(-1, len(masks))
    )


def test_levels_of_pure_noise_are_not_followed_and_batches_leave_no_trace():
    """On one Gaussian each seed's own ratio is the sigmoid; its bands are the energies of its estimates."""
    subject = replace(tiny([9.0, 2.0, 0.5, 0.0]), shape=(1, 6, 6))
    grid, (masks, _) = Levels.of(cosine(), 12), radial_bands(6, 6)
    assert grid.alpha[0] == 0
    paths, levels = follow(subject, replace(SETTINGS, batch=2), [3, 4, 5], grid, masks)
    assert levels.logsnr.isfinite().all() and levels.steps + 1 == 11
    assert paths.shown.shape == (3, 11, 3 + len(masks)) and paths.final.shape == (3, 3 + len(masks))
    whole, _ = follow(subject, SETTINGS, [3, 4, 5], grid, masks)
    torch.testing.assert_close((paths.shown, paths.final), (whole.shown, whole.final))
    torch.testing.assert_close(paths.shown[..., 3:].sum(2), paths.shown[..., :3].sum(2))
    run = solve(subject.denoise, grid.start(noise([4], subject.shape)), grid, solver="heun", progress=False)
    assert float(paths.shown[1, 0, 3:].sum()) == pytest.approx(float(run.x0[1].square().sum()), rel=1e-4)


def test_the_energy_of_the_images_is_their_variance_whatever_the_last_step():
    """In a world of two modes E[x_0 | x] is no affine function, and the run ends where there is much noise left."""
    m, shape = 1.0, (1, 2, 2)
    U = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    parts = tuple(Gaussian(s * m * U[:, 0], U, torch.tensor([0.2, 0.5, 0.3, 0.1]).double()) for s in (-1, 1))
    g = Gaussian(torch.zeros(4).double(), U, torch.tensor([0.2 + m**2, 0.5, 0.3, 0.1]).double())
    world = of(Mixture(torch.tensor([0.5, 0.5]).double(), parts), g, shape)
    fine = world.levels(100, spacing="logsnr")
    grid = Levels([*fine.alpha[:60], 1.0], [*fine.sigma[:60], 0.0])
    assert 0.3 < float(grid.ratio[-2]) < 0.5
    masks, _ = radial_bands(2, 2)
    paths, _ = follow(world, replace(SETTINGS, batch=3000), range(3000), grid, masks)
    assert paths.final.mean(0)[:4].tolist() == pytest.approx(g.lam.tolist(), rel=0.08)
    assert float(paths.final.mean(0)[4:].sum()) == pytest.approx(float(g.lam.sum()), rel=0.05)
    assert float(paths.shown[:, -1, 3].mean()) < 0.6 * 0.1, (
        "the picture of the last step lacks what was taken for noise"
    )


def test_errors_of_a_curve_are_its_spread_over_repetitions():
    generator = torch.Generator().manual_seed(2)
    final = torch.randn(400, 60, 1, generator=generator, dtype=torch.float64)
    shown = 0.6 * final + 0.5 * torch.randn(400, 60, 1, generator=generator, dtype=torch.float64)
    repeats = [Paths(s.square()[:, None], f.square()) for s, f in zip(shown, final)]
    values = torch.stack([p.curves()[0, 0] for p in repeats])
    told = torch.stack([p.errors()[0, 0] for p in repeats]).mean()
    assert float(told / values.std()) == pytest.approx(1, abs=0.12)
    assert float(values.mean()) == pytest.approx(0.61, abs=0.03)
    large = Paths(9 * repeats[1].shown, 9 * repeats[1].final)
    pair = Paths(torch.cat([repeats[0].shown, large.shown], 2), torch.cat([repeats[0].final, large.final], 1))
    alone = torch.cat([p.errors() for p in repeats[:2]], 1)
    torch.testing.assert_close(pair.errors(), alone)  # of each component its own, whatever its size
    twice = torch.tensor([2.0] + [0.0] * 58 + [1.0])
    rows = repeats[0]
    assert float(rows.curves(twice)[0, 0]) == pytest.approx(
        float((2 * rows.shown[0] + rows.shown[59]).sum() / (2 * rows.final[0] + rows.final[59]).sum())
    )


def test_the_bound_counts_pairs_beyond_the_errors_where_there_is_something_to_see():
    theory = torch.tensor([[0.5], [0.5], [0.5], [0.5], [0.001]], dtype=torch.float64)
    curves = torch.tensor([[0.5], [0.45], [0.3], [0.8], [0.0]], dtype=torch.float64)
    errors = torch.full_like(curves, 0.05)
    use = torch.ones(5, dtype=torch.bool)
    assert bound(curves, errors, theory, use) == pytest.approx({"pairs": 4, "not_below": 0.75, "mean_not_below": 0})
    blind = bound(torch.zeros_like(theory), torch.zeros_like(theory), theory, use)
    assert blind["not_below"] == blind["mean_not_below"], "the null is the same count for curves that never rise"
    use[2] = False
    assert bound(curves, errors, theory, use)["not_below"] == 1
    assert bound(curves, errors, theory, torch.zeros(5, dtype=torch.bool)) == {"pairs": 0}


def test_slope_and_rank_of_half_times():
    logsnr = torch.linspace(-12, 12, 200, dtype=torch.float64)
    lam = torch.tensor([100.0, 10.0, 1.0, 0.1], dtype=torch.float64)
    everything = torch.ones(4, dtype=torch.bool)
    for power in (1.0, 0.6, -0.5):
        curves = torch.sigmoid(logsnr[:, None] + power * lam.log())
        assert order(logsnr, curves, lam, everything) == pytest.approx([power, 1 if power > 0 else -1], abs=1e-3)
    assert np.isnan(order(logsnr, torch.sigmoid(logsnr[:, None] + lam.log()), lam, lam > 5)).all()


SETTINGS = Settings(seeds=tuple(range(200)), profile="ci", batch=100)


def test_measuring_the_theory_gives_the_theory():
    subject = tiny([60.0, 20.0, 8.0, 2.0, 0.7, 0.2, 0.05])
    found = json.loads(json.dumps(measure(subject.theory(), SETTINGS)))
    assert found["half"] == pytest.approx(subject.gaussian.lam.sqrt().tolist(), rel=0.02)
    assert found["slope_counted"]["value"] == pytest.approx(1, abs=0.01)
    assert found["rank_counted"]["value"] == pytest.approx(1) and found["rank_counted"]["high"] <= 1
    assert found["bound_counted"]["not_below"] == 1 and found["bound_counted"]["mean_not_below"] == 0
    assert found["seeds"] == 16 and found["half_counted"] == [1] * 7
    bands = found["bands"]
    seen = [i for i, half in enumerate(bands["half_law"]) if half > 0]
    assert [bands["half"][i] for i in seen] == pytest.approx([bands["half_law"][i] for i in seen], rel=0.4)


@pytest.mark.parametrize(("profile", "n"), [("ci", 16), ("book", 200), ("full", 210)])
def test_a_profile_says_how_many_seeds_are_painted(profile, n):
    settings = Settings(seeds=tuple(range(210)), steps=4, profile=profile, batch=300)
    found = measure(tiny([60.0, 20.0, 8.0, 2.0]).theory(), settings)
    assert found is not None and found["seeds"] == found["slope_counted"]["n"] == n


def test_components_beyond_the_ends_of_the_run_are_not_timed():
    """As of latents: the levels end at 0.05, above the roots of the smallest variances, and the spectrum goes on."""
    inside = torch.linspace(np.log(40.0), np.log(0.008), 30).exp()
    lam = torch.cat([inside, torch.linspace(np.log(1e-3), np.log(1e-6), 20).exp()])
    latents = tiny(lam, (1, 8, 8)).theory()
    steps = 50

    def levels(n, *, spacing="trailing"):
        ratio = torch.cat([torch.linspace(np.log(15.0), np.log(0.05), n).exp(), torch.zeros(1)]).double()
        return Levels((1 + ratio**2).rsqrt(), ratio * (1 + ratio**2).rsqrt())

    found = measure(replace(latents, levels=levels), replace(SETTINGS, steps=steps))
    timed = torch.tensor(found["half_counted"]).bool()
    assert timed.tolist() == (lam.sqrt() >= 1.5 * 0.05).tolist() and 25 < int(timed.sum()) < 40
    assert found["slope_counted"]["value"] == pytest.approx(1, abs=0.02)
    assert found["rank_counted"]["value"] == pytest.approx(1, abs=0.02)
    half = torch.tensor(found["half"])
    assert half[lam.sqrt() < 0.05].isnan().all(), "no half in the run's last step, a jump onto x0_hat"
    assert half[timed].double() == pytest.approx(lam[timed].sqrt(), rel=0.02)
    short = replace(latents, levels=lambda n, spacing=None: levels(n)[20:])
    late = torch.tensor(measure(short, replace(SETTINGS, steps=steps))["half_counted"]).bool()
    assert not late[lam.sqrt() > levels(steps).ratio[20] / 1.5].any(), "nor those that stand before the run begins"


def test_points_lie_on_or_above_the_bound_and_a_lagging_denoiser_below():
    images = load_digits().images[:300, None] / 8 - 1
    points = torch.from_numpy(images).float()[..., 1:7, 1:7].contiguous()
    g = Gaussian.from_moments(Moments.of(points))
    g = Gaussian(g.mu, g.U[:, g.lam > 1e-3].contiguous(), g.lam[g.lam > 1e-3])
    settings = replace(SETTINGS, profile="book", seeds=tuple(range(120)), steps=40)
    cloud = measure(of(PointCloud(points), g, (1, 6, 6)), settings)
    assert cloud["bound_counted"]["not_below"] > 0.97 and cloud["slope_counted"]["value"] < 0.95

    def late(x, alpha, sigma):
        return g(x, alpha, 1.5 * sigma)

    assert measure(of(late, g, (1, 6, 6)), settings)["bound_counted"]["not_below"] < 0.2


def test_a_world_that_is_too_small_is_late_and_lies_below_the_bound():
    subject = tiny([60.0, 20.0, 8.0, 2.0, 0.7, 0.2, 0.05])
    g = subject.gaussian
    small = replace(subject, denoise=Gaussian(g.mu, g.U, g.lam / 4), kind="network")
    found = measure(small, replace(SETTINGS, profile="book", steps=50))
    assert found["bound_counted"]["not_below"] < 0.1
    assert found["half"] == pytest.approx((g.lam / 4).sqrt().tolist(), rel=0.05)


def test_only_components_that_cross_at_levels_that_count_are_timed(monkeypatch):
    subject = tiny([60.0, 20.0, 8.0, 2.0, 0.7, 0.2, 0.05])
    monkeypatch.setattr(module, "counted", lambda _, levels: levels.ratio > 1.0)
    found = measure(subject, SETTINGS)
    assert found["half_counted"] == [1, 1, 1, 1, 0, 0, 0]
