"""Calibrated plans: better on seeds they have not seen, exact where nothing is left to fit, whole on disk."""

from __future__ import annotations

import itertools
import math
from functools import cache, partial

import pytest
import torch
from partners import gaussian, randn, rel
from sklearn.linear_model import Ridge

from painters import Gaussian, Levels, Mixture, solve
from painters.sampling import expint
from painters.sampling.expint import Place
from painters.sampling.plan import CARELESS, RIDGE, Plan, _along, _best, _features, _Path, _ridge, calibrate
from painters.schedules import edm, flow


@cache
def modes() -> Mixture:
    """Three modes in three dimensions, apart enough to fork."""
    return Mixture(torch.tensor([0.5, 0.3, 0.2]), tuple(gaussian([4.0, 1.0, 0.2], seed=i, mean=3.0) for i in range(3)))


@cache
def surrogate(rank: int | None = None) -> Gaussian:
    """Their Gaussian."""
    return Gaussian.of(modes().mean, torch.cov(modes().sample(4000).T), rank=rank)


@cache
def plans(schedule, rank: int | None = None) -> dict[int, Plan]:
    """Plans of 4 and 8 calls from 40 runs."""
    levels = Levels.of(schedule, 120, spacing="even")
    found = calibrate(
        modes(), levels.start(randn(40, 3, seed=1)), levels, surrogate=surrogate(rank), nfe=[4, 8], progress=False
    )
    return {len(plan.coefficients): plan for plan in found}


@pytest.mark.parametrize("rank", [None, 1])
@pytest.mark.parametrize("schedule", [edm(), flow()], ids=lambda s: s.name)
def test_on_other_seeds_a_plan_leaves_a_fraction_of_the_error(schedule, rank) -> None:
    """Also from pure noise, and where most directions are in the rest; each run makes as many calls as it says."""
    levels = Levels.of(schedule, 400, spacing="even")
    x = levels.start(randn(60, 3, seed=2))
    truth = solve(modes(), x, levels, solver="heun", progress=False).final
    for n, plan in plans(schedule, rank).items():
        run = plan.run(modes(), x, surrogate(rank), progress=False)
        even = Levels.of(schedule, n, spacing="even")
        plain = solve(modes(), x, even, solver="expint", surrogate=surrogate(rank), progress=False)
        assert run.nfe == n == plain.nfe
        assert rel(run.final, truth) < 0.5 * rel(plain.final, truth)


def test_coefficients_help_beyond_the_levels() -> None:
    levels = Levels.of(edm(), 400, spacing="even")
    x = levels.start(randn(60, 3, seed=3))
    truth = solve(modes(), x, levels, solver="heun", progress=False).final
    plan = plans(edm())[8]
    bare = Plan(plan.levels, plan.first, plan.floor, plan.edges, 0 * plan.coefficients, {})
    errors = [rel(p.run(modes(), x, surrogate(), progress=False).final, truth) for p in (plan, bare)]
    assert errors[0] < 0.8 * errors[1]


def test_of_a_gaussian_nothing_is_left_to_fit() -> None:
    g, levels = gaussian([9.0, 1.0], dim=5, rest=0.1, seed=4), Levels.of(edm(), 60, spacing="even")
    (plan,) = calibrate(g, levels.start(randn(8, 5, seed=5)), levels, surrogate=g, nfe=3, progress=False)
    x = levels.start(randn(8, 5, seed=6))
    last = g.flow(x, frm=levels[0], to=levels[-2])
    assert rel(plan.run(g, x, g, progress=False).final, g(last, *levels[-2])) < 1e-6
    assert float(plan.coefficients[:, :, 0].abs().max()) < 1e-6


def test_what_a_plan_may_add_is_what_a_step_of_first_order_adds() -> None:
    """Feature 1: the last difference of network and Gaussian, as held fixed it enters the state at the step's end."""
    g, m, levels = surrogate(), modes(), Levels(torch.ones(2), torch.tensor([3.0, 1.2], dtype=torch.float64))
    x = 3 * randn(5, g.dim, seed=2)
    moved = solve(m, x, levels, solver=partial(expint, surrogate=g, order=1, corrector=0), progress=False).final
    seen = [(3.0, m(x, 1.0, 3.0) - g(x, 1.0, 3.0))]
    features = _features(g, Place(x, torch.zeros_like(x), seen, levels[0], levels[1]))
    assert rel(features[1], _along(g, moved - g.flow(x, frm=levels[0], to=levels[1]))) < 1e-9
    assert rel(features[0], _along(g, g.flow(x, frm=levels[0], to=levels[1]) - g.mu)) < 1e-9


def test_a_plan_on_disk_paints_the_same(tmp_path) -> None:
    plan, x = plans(edm())[4], Levels.of(edm(), 5, spacing="even").start(randn(3, 3, seed=7))
    again = Plan.load(plan.save(tmp_path / "plan.json"))
    assert repr(again) == repr(plan) and again.about == {"states": 40}
    runs = [p.run(modes(), x, surrogate(), progress=False) for p in (plan, again)]
    assert torch.equal(runs[0].x, runs[1].x)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match="is no plan"):
        Plan.load(tmp_path / "plan.json")


def test_the_levels_are_the_best_of_all() -> None:
    """Dynamic programming against every choice of three levels out of six."""
    generator = torch.Generator().manual_seed(8)
    costs = torch.rand(6, 7, generator=generator).double().numpy()
    begin = torch.rand(6, generator=generator).double().numpy()
    total = {
        chosen: begin[chosen[0]] + sum(costs[a, b] for a, b in itertools.pairwise(chosen)) + costs[chosen[-1], 6]
        for chosen in itertools.combinations(range(6), 3)
    }
    for i, j in itertools.product(range(6), range(7)):
        if j <= i:
            costs[i, j] = float("inf")
    assert tuple(_best(costs, begin, 3)) == min(total, key=total.__getitem__)


@pytest.mark.parametrize("rank", [None, 1])
def test_costs_are_the_errors_of_single_steps_as_the_gaussian_carries_them_to_the_image(rank) -> None:
    """Against the integrator's own step of first order, and small Heun steps along the line through both values."""
    g, m, levels = surrogate(rank), modes(), Levels.of(edm(sigma_min=0.05, sigma_max=20.0), 6, spacing="even")
    x = levels.start(randn(9, 3, seed=11))
    floor = float(levels.ratio[-2])
    run = solve(m, x, levels, solver=partial(expint, surrogate=g, floor=floor), progress=False)
    costs, begin = _Path(run.levels, run.x, run.x0, g, floor).costs()
    whole = float((run.final - g.mu).square().sum(1).mean())
    beyond = [x0 - g(x, *level) for x, x0, level in zip(run.x, run.x0, levels)]

    def size(error, level) -> float:
        """Its mean square once the Gaussian's flow has carried it to the image."""
        carried = g.flow(error + level[0] * g.mu, frm=level) - g.mu
        return float(carried.square().sum(1).mean()) / whole

    first_order = partial(expint, surrogate=g, order=1, corrector=0, floor=floor)

    def step(i: int, there) -> torch.Tensor:
        two = Levels(*torch.tensor([levels[i], there], dtype=torch.float64).T)
        return solve(m, run.x[i], two, solver=first_order, progress=False).final

    for i, j in itertools.combinations(range(6), 2):
        (s0, s1), span = (levels[i][1], levels[j][1]), torch.linspace(0, 1, 60).double()

        def between(x, a, s, i=i, j=j, s0=s0, s1=s1):
            """Linear in ln s is (1 + lam/s^2) times what the network says beyond the Gaussian."""
            share = math.log(float(s) / s0) / math.log(s1 / s0)
            ends = ((1 - share, s0, beyond[i]), (share, s1, beyond[j]))
            told = (w * g.apply(v, lambda lam, e=e: (1 + lam / e**2) / (1 + lam / float(s) ** 2)) for w, e, v in ends)
            return g(x, a, s) + sum(told)

        fine = Levels(torch.ones(60), s0 * (s1 / s0) ** span)
        careful = solve(between, run.x[i], fine, solver="heun", progress=False).final - run.x[j]
        plain = step(i, levels[j]) - run.x[j]
        want = size(careful, levels[j]) + CARELESS * size(plain, levels[j])
        assert costs[i, j] == pytest.approx(want, rel=0.02, abs=1e-7), (i, j)
        assert costs[j, i] == float("inf") == costs[i, i]
    for i in range(6):
        assert costs[i, 6] == pytest.approx(size(step(i, (1.0, 0.0)) - run.final, (1.0, 0.0)), rel=1e-6, abs=1e-12)
        taken = g.flow(run.x[0], frm=levels[0], to=levels[i]) - run.x[i]
        assert begin[i] == pytest.approx(size(taken, levels[i]), rel=1e-6, abs=1e-12)


def test_coefficients_are_those_of_a_ridge_regression_on_features_of_one_size() -> None:
    sizes = torch.tensor([30.0, 1.0, 0.02]).double()
    features, missed = sizes[:, None] * randn(3, 500, seed=9), randn(500, seed=10)
    scale = features.square().mean(1).sqrt()
    ridge = Ridge(alpha=RIDGE * 500, fit_intercept=False).fit((features / scale[:, None]).T.numpy(), missed.numpy())
    assert rel(_ridge(features, missed) * scale, ridge.coef_) < 1e-9
    exact = _ridge(features, 2 * features[0] - features[1])
    assert rel(exact * sizes, torch.tensor([60.0, -1.0, 0.0]).double()) < 10 * RIDGE


def test_refusals() -> None:
    g, levels = gaussian([1.0], seed=1), Levels.of(edm(), 5, spacing="even")
    with pytest.raises(ValueError, match="5 noisy levels allow 1 to as many calls, got 6"):
        calibrate(g, levels.start(randn(2, 1)), levels, surrogate=g, nfe=6, progress=False)
