"""Trajectory geometry against closed forms, the nulls, and the CIFAR-10 spectrum."""

import json
import math
from dataclasses import replace

import pytest
import torch

from atelier.evidence.shape import (
    COLUMNS,
    angle,
    dimension,
    measure,
    plane_residual,
    random_walk,
    rotation_error,
    scalars,
)
from atelier.subject import Settings, Subject
from painters import Gaussian, Levels, noise, solve
from painters.schedules import cosine, edm, flow, scaled_linear, vp_linear


def diagonal(lam, mu=None):
    lam = torch.as_tensor(lam, dtype=torch.float64)
    mu = torch.zeros_like(lam) if mu is None else torch.as_tensor(mu, dtype=torch.float64)
    return Gaussian(mu, torch.eye(len(lam), dtype=torch.float64), lam)


def run(gaussian, levels, seeds=(0, 1, 2, 3)):
    return gaussian.trajectory(levels.start(noise(seeds, (gaussian.dim,), dtype=torch.float64)), levels)


@pytest.fixture(scope="module")
def cifar(cifar):
    return cifar, run(cifar, Levels.of(vp_linear(), 51, spacing="leading"), range(16))


# closed forms


@pytest.mark.parametrize("schedule", [vp_linear(), scaled_linear(), cosine(), edm(), flow()], ids=lambda s: s.name)
def test_two_distinct_variances_span_a_plane_and_three_do_not(schedule):
    levels = Levels.of(schedule, 60)
    two = run(diagonal([3.0] * 5 + [0.2] * 20), levels)
    assert float(plane_residual(two).max()) < 1e-25
    three = run(diagonal([3.0] * 5 + [0.2] * 20 + [0.0] * 30), levels)
    worst = float(plane_residual(three).max())
    assert 1e-5 < worst < 0.02
    values = torch.linalg.svdvals(three.x.transpose(0, 1))
    assert bool((values[:, 2] > 1e-6 * values[:, 0]).all()) and bool((values[:, 3] < 1e-12 * values[:, 0]).all())


def test_rotation_error_is_the_closed_form_mode_by_mode():
    lam = torch.tensor([30.0, 2.0, 0.5, 0.01, 0.0])
    gaussian, levels = diagonal(lam), Levels.of(vp_linear(), 51, spacing="leading")
    trajectory = run(gaussian, levels)
    c, a, s = trajectory.x[0].double(), levels.alpha[:, None, None], levels.sigma[:, None, None]
    root = (a**2 * lam + s**2).sqrt() / (a[0] ** 2 * lam + s[0] ** 2).sqrt()
    got, state = rotation_error(trajectory), (root * c).square().sum(2)
    want = ((root - a * root[-1] - s) * c).square().sum(2) / state
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    weight = a * lam / (a**2 * lam + s**2)
    weight[-1] = 1.0  # the last state is its own target
    want = ((root * (1 - a * weight) - s) * c).square().sum(2) / state
    torch.testing.assert_close(rotation_error(trajectory, evolving=True), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("lam", [0.05, 1.0, 40.0])
def test_one_mode_is_worst_where_theory_says(lam):
    levels = Levels.of(cosine(), 4000)
    trajectory = run(diagonal([lam]), levels, [0])
    ratio2 = levels.ratio.square()
    final, evolving = rotation_error(trajectory)[:, 0].sqrt(), rotation_error(trajectory, evolving=True)[:, 0].sqrt()
    assert float(final.max()) == pytest.approx(math.sqrt(2) - 1, abs=1e-5)
    assert float(ratio2[final.argmax()]) == pytest.approx(lam, rel=0.05)
    assert float(evolving.max()) == pytest.approx(0.25, abs=1e-5)
    assert float(ratio2[evolving.argmax()]) == pytest.approx(lam / 3, rel=0.05)


@pytest.mark.parametrize("share", [plane_residual, rotation_error])
def test_shares_do_not_depend_on_coordinates(share):
    trajectory = run(diagonal([9.0, 1.0, 0.1, 0.0], [1.0, 0, 0, 2.0]), Levels.of(vp_linear(), 20))
    for coordinates in ("ve", "flow"):
        torch.testing.assert_close(share(trajectory.to(coordinates)), share(trajectory), rtol=1e-8, atol=1e-12)


# common mistakes: each changes a number, and one makes it look better


def test_alphas_cumprod_in_the_place_of_its_root_and_a_shifted_schedule_are_seen(cifar):
    _, trajectory = cifar
    levels, right = trajectory.levels, float(rotation_error(trajectory).mean())
    squared = Levels(levels.alpha**2, levels.sigma)
    wrong = float(rotation_error(replace(trajectory, levels=squared)).mean())
    assert right == pytest.approx(0.0104, abs=2e-4)
    assert wrong == pytest.approx(0.0057, abs=3e-4), "the mistake is smaller than the truth: smaller is not better"
    alpha, sigma = levels.alpha[:-1, None, None], levels.sigma[:-1, None, None]
    x = trajectory.x
    miss = x[1:] - alpha**2 * x[-1] - sigma * x[0]
    both = float((miss.square().sum(2) / x[1:].square().sum(2)).mean())
    assert both == pytest.approx(0.0116, abs=3e-4)


# nulls


def test_a_denoiser_that_knows_only_the_mean_is_the_flattest_of_all():
    null = Gaussian(torch.full((500,), 0.1).double(), torch.zeros(500, 0).double(), torch.zeros(0).double())
    trajectory = run(null, Levels.of(vp_linear(), 51))
    assert float(dimension(trajectory.x).cumulative[:, 0].min()) > 0.99
    assert dimension(trajectory.x).components().tolist() == [2] * 4
    assert dimension(trajectory.x0).components().tolist() == [0] * 4
    assert bool(dimension(trajectory.x0).cumulative.isnan().all())
    assert float(rotation_error(trajectory).max()) < 1e-4
    assert float(rotation_error(trajectory, evolving=True).max()) < 1e-4


def test_random_walk_null():
    walk = random_walk(range(3), (20_000,), steps=400)
    assert walk.shape == (401, 3, 20_000) and float(walk[0].abs().max()) == 0
    shares = dimension(walk).cumulative
    assert float(shares[:, 0].mean()) == pytest.approx(6 / math.pi**2, abs=0.01)
    torch.testing.assert_close(random_walk([2], (20_000,), steps=400), walk[:, 2:])


def test_components_counts_the_first_share_that_is_reached():
    frames = torch.zeros(3, 1, 2)
    frames[1, 0, 0], frames[2, 0, 1] = 1.0, 0.1
    found = dimension(frames)
    assert found.components(0.9).item() == 1 and found.components(0.9999).item() == 2
    with pytest.raises(ValueError, match="between 0 and 1"):
        found.components(1.0)
    assert dimension(torch.cat([frames, 0 * frames], 1)).components(0.9).tolist() == [1, 0], "each curve by itself"


# the CIFAR-10 spectrum: numbers of the theory that no network enters


def test_cifar_trajectory_dimension(cifar):
    _, trajectory = cifar
    states, estimates = dimension(trajectory.x), dimension(trajectory.x0)
    assert states.cumulative[:, :2].mean(0).tolist() == pytest.approx([0.980, 0.9996], abs=0.004)
    assert states.components().tolist() == [2] * 16
    assert estimates.cumulative[:, :3].mean(0).tolist() == pytest.approx([0.905, 0.986, 0.998], abs=0.01)
    assert float(estimates.components().double().mean()) == pytest.approx(4, abs=0.3)
    assert float(dimension(trajectory.eps).cumulative[:, 1].mean()) == pytest.approx(0.967, abs=0.005)
    assert float(dimension(trajectory.x.diff(dim=0)).cumulative[:, 1].mean()) == pytest.approx(0.99, abs=0.003)


def test_cifar_plane_and_rotation(cifar):
    _, trajectory = cifar
    plane = plane_residual(trajectory)
    assert float(plane.mean()) == pytest.approx(0.0034, abs=3e-4)
    assert float(plane.mean(1).max()) == pytest.approx(0.012, abs=1e-3)
    assert float(rotation_error(trajectory).mean()) == pytest.approx(0.0104, abs=5e-4)
    assert float(rotation_error(trajectory, evolving=True).mean()) == pytest.approx(0.0030, abs=2e-4)
    assert float(angle(trajectory).mean()) == pytest.approx(74, abs=1)


def test_cifar_sampler_nulls(cifar):
    gaussian, trajectory = cifar
    stochastic = solve(gaussian, trajectory.x[0], trajectory.levels, solver="ancestral", progress=False)
    assert dimension(stochastic.x).cumulative[:, :2].mean(0).tolist() == pytest.approx([0.28, 0.49], abs=0.015)
    assert dimension(stochastic.x0).cumulative[:, :2].mean(0).tolist() == pytest.approx([0.69, 0.83], abs=0.05)


# the record


def subject():
    gaussian = diagonal([9.0] * 2 + [1.0] * 4 + [0.1] * 10, [0.5] * 16)
    return Subject(
        "toy",
        Gaussian(gaussian.mu, gaussian.U, gaussian.lam / 2),  # a network that is wrong on purpose
        gaussian,
        (1, 4, 4),
        lambda n: Levels.of(vp_linear(), n),
        lambda x: x / 2 + 0.5,
    )


def test_record_has_six_columns_and_each_is_what_it_says():
    toy = subject()
    record = measure(toy, Settings(seeds=tuple(range(5)), steps=12, profile="ci", batch=3))
    assert json.loads(json.dumps(record)) and tuple(record["columns"]) == COLUMNS
    assert record["seeds"] == 4 and len(record["sigma_over_alpha"]) == 13
    for name, solver, who in (
        ("network", "heun", toy),
        ("ancestral", "ancestral", toy),
        ("sampler", "heun", toy.theory()),
    ):
        for key, values in scalars(who.run(range(4), steps=12, solver=solver)).items():
            assert record["columns"][name][key]["value"] == pytest.approx(float(values.mean()), rel=1e-4, abs=1e-9), key
    exact = toy.gaussian.trajectory(noise(range(4), toy.shape, dtype=torch.float64), toy.levels(12))
    assert record["columns"]["gaussian"]["angle"]["value"] == pytest.approx(float(angle(exact).mean()))
    assert set(record["columns"]["walk"]) == {f"states_{k}" for k in (1, 2)}
    assert not any(key.startswith("estimates") for key in record["columns"]["mean"])
    walk = dimension(random_walk(range(4), toy.shape, steps=12)).cumulative[:, 1].mean()
    assert record["columns"]["walk"]["states_2"]["value"] == pytest.approx(float(walk))
    assert record["columns"]["mean"]["plane_mean"]["value"] < 1e-3
    for profile, n in (("book", 64), ("full", 200)):
        large = measure(toy, Settings(seeds=tuple(range(205)), steps=3, profile=profile, batch=300))
        assert large["seeds"] == large["columns"]["walk"]["states_1"]["n"] == n
    whole = measure(toy, Settings(seeds=tuple(range(5)), steps=12, profile="ci", batch=50))
    for name, column in record["columns"].items():
        assert {k: v["low"] for k, v in whole["columns"][name].items()} == pytest.approx(
            {k: v["low"] for k, v in column.items()}, rel=1e-4, abs=1e-6
        ), "batches leave no trace"
