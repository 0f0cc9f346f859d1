"""The exponential integrator: exact on its surrogate, of its order elsewhere, and known solvers as special cases."""

from __future__ import annotations

import itertools
import math
from functools import cache, partial

import pytest
import torch
from partners import agree, gaussian, randn, rel
from scipy.integrate import quad

from painters import Gaussian, Levels, Mixture, solve
from painters.sampling import choose_level, expint, teleport
from painters.sampling.expint import FINE, weights
from painters.schedules import cosine, edm, flow, vp_linear

SCHEDULES = (edm(), vp_linear(), cosine(), flow(), flow(shift=3.0))


def modes() -> Mixture:
    """Three modes in three dimensions, apart enough to fork."""
    return Mixture(torch.tensor([0.5, 0.3, 0.2]), tuple(gaussian([4.0, 1.0, 0.2], seed=i, mean=3.0) for i in range(3)))


@pytest.mark.statement("prop-faster-leftover")
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_its_own_gaussian_is_followed_exactly(schedule, n: int) -> None:
    """Nothing is left to integrate: any number of steps, low rank plus rest, pure noise and the clean end included."""
    g = gaussian([9.0, 1.0, 0.05], dim=7, rest=0.2, seed=1)
    levels = Levels.of(schedule, n)
    x = levels.start(randn(4, 7, seed=2))
    run = solve(g, x, levels, solver="expint", surrogate=g, progress=False)
    agree(run.x, g.trajectory(x, levels).x, 1e-12)
    assert run.nfe == n


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_a_surrogate_without_closed_flow_is_followed_in_small_steps(schedule) -> None:
    g, levels = gaussian([9.0, 1.0, 0.05], seed=1), Levels.of(schedule, 4)
    x = levels.start(randn(4, 3, seed=2))
    run = solve(g, x, levels, solver="expint", surrogate=lambda x, a, s: g(x, a, s), progress=False)
    assert rel(run.x, g.trajectory(x, levels).x) < 1e-3 and run.nfe == 4


def test_a_surrogate_without_closed_flow_is_asked_in_steps_no_longer_than_they_may_be() -> None:
    asked, g = [], gaussian([9.0, 1.0, 0.05], seed=1)
    levels = Levels(torch.ones(2), torch.tensor([10.0, 7.2], dtype=torch.float64))
    chosen = partial(expint, surrogate=lambda x, a, s: asked.append(float(s / a)) or g(x, a, s))
    solve(g, levels.start(randn(1, 3, seed=2)), levels, solver=chosen, progress=False)
    logs = sorted({round(math.log(s), 9) for s in asked})
    assert logs[0] == pytest.approx(math.log(7.2)) and logs[-1] == pytest.approx(math.log(10))
    assert max(b - a for a, b in itertools.pairwise(logs)) < FINE + 1e-9


def test_what_is_a_line_in_ln_s_beyond_a_surrogate_without_closed_flow_is_followed() -> None:
    """Two values tell a line, so five steps, the first corrected by the second, are as good as many Heun steps."""
    g, b, c = gaussian([9.0, 1.0, 0.05], seed=1), *randn(2, 3, seed=6)

    def network(x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        return g(x, alpha, sigma) + b + c * math.log(sigma / alpha)

    few, many = (Levels.of(edm(sigma_min=0.3, sigma_max=10.0), n, spacing="logsnr") for n in (5, 2000))
    x = few.start(randn(4, 3, seed=2))
    chosen = partial(expint, surrogate=lambda x, a, s: g(x, a, s), order=2, corrector=2)
    got = solve(network, x, few, solver=chosen, stop=4, progress=False).final
    want = solve(network, x, many, solver="heun", stop=1999, progress=False).final
    assert rel(got, want) < 1e-3 < 0.1 < rel(g.flow(x, frm=few[0], to=few[4]), want)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_without_a_surrogate_its_first_order_is_ddim(schedule) -> None:
    m, levels = modes(), Levels.of(schedule, 6)
    x = levels.start(randn(4, 3, seed=2))
    run = solve(m, x, levels, solver=partial(expint, order=1, corrector=0), progress=False)
    assert rel(run.x, solve(m, x, levels, solver="ddim", progress=False).x) < 1e-13


def test_without_a_surrogate_its_second_order_is_the_multistep_solver_up_to_its_error() -> None:
    """DPM-Solver++(2M) takes the slope of the last two estimates; here the line through them is integrated exactly."""
    m, gaps = modes(), []
    for n in (20, 40):
        levels = Levels.of(edm(sigma_min=0.3, sigma_max=10.0), n, spacing="logsnr")
        x = levels.start(randn(4, 3, seed=2))
        run = solve(m, x, levels, solver=partial(expint, corrector=0), stop=n - 1, progress=False)
        gaps.append(rel(run.final, solve(m, x, levels, solver="dpmpp2m", stop=n - 1, progress=False).final))
    assert gaps[1] < gaps[0] / 3.5 and gaps[1] < 0.01


def test_an_isotropic_surrogate_is_the_preconditioning_of_edm() -> None:
    """Its first order holds fixed what EDM's network is trained to say, F in D = c_skip x + c_out F."""
    m, c = modes(), 2.0
    g = Gaussian.of(torch.zeros(3), c)
    for s0, s1 in ((9.0, 4.0), (2.0, 0.5), (0.5, 0.0)):
        x = s0 * randn(4, 3, seed=3)
        levels = Levels(torch.ones(2), torch.tensor([s0, s1]))
        run = solve(m, x, levels, solver=partial(expint, order=1, surrogate=g), progress=False)
        skip, out = c / (c + s0**2), s0 * math.sqrt(c / (c + s0**2))
        F = (m(x, 1.0, s0) - skip * x) / out
        # dx/ds = (x - D)/s with F held: x = (c + s^2)^(1/2) (cos-like part) + F times what makes it true at s0
        held = x * math.sqrt((c + s1**2) / (c + s0**2))
        beyond = F * out * (1 + c / s0**2) * (1 - math.sqrt((c + s1**2) / (c + s0**2)))
        assert rel(run.final, held + beyond) < 1e-12


@cache
def followed() -> tuple[torch.Tensor, torch.Tensor]:
    """Five states at s = 10 and what many Heun steps make of them at s = .3."""
    x = 10 * randn(5, 3, seed=3)
    fine = Levels.of(edm(sigma_min=0.3, sigma_max=10.0), 2000, spacing="logsnr")
    return x, solve(modes(), x, fine, solver="heun", stop=1999, progress=False).final


@pytest.mark.parametrize(
    ("order", "corrector", "least", "most"),
    [(1, 0, 0.8, 1.2), (2, 0, 1.8, 2.3), (1, 2, 1.8, 2.3), (2, 2, 1.8, 3.6), (3, 3, 2.6, 4.2)],
)
@pytest.mark.parametrize("surrogate", [None, gaussian([9.0, 4.0, 1.0], seed=5)], ids=["none", "gaussian"])
def test_order_between_two_noisy_levels(order: int, corrector: int, least: float, most: float, surrogate) -> None:
    """On three modes, against many Heun steps; the surrogate is not the truth, so that something is left over."""
    m, errors = modes(), []
    x, truth = followed()
    for n in (20, 40, 80):
        levels = Levels.of(edm(sigma_min=0.3, sigma_max=10.0), n, spacing="logsnr")
        chosen = partial(expint, surrogate=surrogate, order=order, corrector=corrector)
        errors.append(rel(solve(m, x, levels, solver=chosen, stop=n - 1, progress=False).final, truth))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert least < sum(slopes) / 2 < most


def test_the_modes_themselves_leave_nothing_over() -> None:
    """Five calls through three forks: their one Gaussian knows nothing of a fork, and no surrogate knows less."""
    m = modes()
    levels = Levels.of(edm(), 5, spacing="logsnr")
    x = levels.start(randn(20, 3, seed=4))
    truth = solve(m, x, Levels.of(edm(), 400, spacing="logsnr"), solver="heun", progress=False).final
    one = Gaussian.of(m.mean, torch.cov(m.sample(4000).T))
    errors = [
        rel(solve(m, x, levels, solver="expint", surrogate=s, progress=False).final, truth) for s in (m, one, None)
    ]
    assert errors[0] < 2e-3 and min(errors[1:]) > 0.1


def test_a_kick_is_not_corrected_away() -> None:
    """The corrector adds the change of the step before, so a state that was pushed stays pushed by all of it."""
    g = gaussian([9.0, 1.0, 0.05], seed=1)
    levels = Levels.of(edm(), 6, spacing="logsnr")
    push, steps = randn(2, 3, seed=6), expint(levels.start(randn(2, 3, seed=5)), levels, surrogate=g)
    said = next(steps)
    for k in range(levels.steps):
        moved = steps.send(g(said.x, *said.level))
        if k < levels.steps - 1:
            said = steps.send(moved.x + push if k == 2 else moved.x)
        if k == 2:
            kicked = moved.x + push
    assert rel(moved.x, g.flow(kicked, frm=levels[3])) < 1e-12


@pytest.mark.statement("prop-faster-leftover")
@pytest.mark.parametrize(("s0", "s1"), [(9.0, 2.0), (0.3, 0.1)])
def test_weights_are_the_integrals_they_stand_for(s0: float, s1: float) -> None:
    lam, nodes = torch.tensor([0.0, 1e-4, 0.5, 30.0]).double(), (2 * s0, 1.4 * s0, s0)
    logs = [math.log(s) for s in nodes]

    def integrand(t: float, j: int, variance: float) -> float:
        line = math.prod((t - b) / (logs[j] - b) for b in logs if b != logs[j])
        return math.sqrt(variance + s1**2) * math.exp(2 * t) * (variance + math.exp(2 * t)) ** -1.5 * line

    want = [[quad(integrand, math.log(s1), math.log(s0), (j, v))[0] for v in lam.tolist()] for j in range(3)]
    got = weights(lam, s0, s1, nodes)
    agree(got, torch.tensor(want, dtype=torch.float64), 1e-9)
    assert torch.equal(weights(lam.reshape(2, 2), s0, s1, nodes), got.reshape(-1, 2, 2))
    assert rel(got.sum(0), weights(lam, s0, s1, nodes[:1])[0]) < 1e-9  # the polynomials sum to 1
    assert torch.equal(weights(lam, math.inf, 0.0, nodes[:1]), torch.ones(1, 4).double())
    single = weights(lam.float(), s0, s1, nodes)
    assert single.dtype == torch.float64 and rel(single, got) < 1e-6, "in double precision whatever is given"


@pytest.mark.parametrize("floor", [0.02, 0.3])
@pytest.mark.parametrize("closed", [True, False])
def test_a_run_ends_at_the_estimate_foretold_at_its_floor(floor: float, closed: bool) -> None:
    """From any last level, on its own Gaussian; and at the floor itself it is the network's own answer."""
    g = gaussian([9.0, 1.0, 0.05], dim=7, rest=0.001, seed=1)
    known = g if closed else lambda x, a, s: g(x, a, s)
    for last in (0.5, floor):
        levels = Levels(torch.ones(4), torch.tensor([9.0, 2.0, last, 0.0], dtype=torch.float64))
        x = 9 * randn(4, 7, seed=2)
        solver = partial(expint, surrogate=known, floor=floor)
        want = g(g.flow(x, frm=levels[0], to=(1.0, floor)), 1.0, floor)
        assert rel(solve(g, x, levels, solver=solver, progress=False).final, want) < (1e-12 if closed else 1e-3)
    solver = partial(expint, surrogate=gaussian([4.0, 1.0, 0.1]), floor=floor, corrector=0)
    run = solve(modes(), x[:, :3], levels, solver=solver, progress=False)
    assert rel(run.final, run.x0[-1]) < 1e-12


def test_a_network_that_knows_its_schedule_is_read_where_training_ended() -> None:
    """Then small PCs end as the network says, and do not keep noise as the Gaussian's own flow would."""

    class Trained:
        schedule = edm(sigma_min=0.3, sigma_max=9.0)

        def __call__(self, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
            return g(x, alpha, sigma)

    g = gaussian([9.0, 1.0, 0.01], seed=1)
    levels = Levels.of(Trained.schedule, 5)
    x = levels.start(randn(4, 3, seed=2))
    run = solve(Trained(), x, levels, solver="expint", surrogate=g, progress=False)
    assert rel(run.final, run.x0[-1]) < 1e-12 < 0.01 < rel(run.final, g.flow(x, frm=levels[0]))
    given = solve(Trained(), x, levels, solver=partial(expint, surrogate=g, floor=0.0), progress=False)
    assert rel(given.final, g.flow(x, frm=levels[0])) < 1e-12


def test_refusals() -> None:
    g, levels = gaussian([1.0], seed=1), Levels.of(vp_linear(), 5)
    with pytest.raises(ValueError, match="noisy to clean only"):
        solve(g, randn(1, 1), levels[::-1], solver="expint", progress=False)
    with pytest.raises(
        ValueError, match=r"surrogate = Gaussian.* is an option of the expint solver, and heun has none"
    ):
        solve(g, randn(1, 1), levels, surrogate=g, progress=False)
    with pytest.raises(ValueError, match="order 1 or more"):
        solve(g, randn(1, 1), levels, solver=partial(expint, order=0), progress=False)


# teleportation


def test_teleported_runs_of_a_gaussian_end_where_the_whole_run_ends() -> None:
    g, levels = gaussian([4.0, 1.0], dim=6, rest=0.1, seed=3), Levels.of(edm(), 30)
    x = levels.start(randn(3, 6, seed=4))
    state = teleport(g, x, levels, 20)
    assert rel(state, g.trajectory(x, levels).x[20]) < 1e-12
    run = solve(g, state, levels, solver="expint", surrogate=g, start=20, progress=False)
    assert run.nfe == 10 and rel(run.final, g.flow(x, frm=levels[0])) < 1e-12


def test_the_level_is_chosen_from_the_spectrum() -> None:
    g, levels = gaussian([4.0, 1.0], dim=6, rest=0.1, seed=3), Levels.of(edm(), 60)
    share = [float((s * (s * a**2 / (s * a**2 + r**2))).sum() / s.sum()) for s in [g.spectrum] for a, r in levels]
    for tolerance in (0.0, 0.01, 0.3, 0.9):
        k = choose_level(g, levels, tolerance)
        assert k == max([i for i, v in enumerate(share[:-1]) if v <= tolerance], default=0)
    bigger = Gaussian(g.mu, g.U, 9 * g.lam, 9 * g.rest)  # three times the data stand three times as early
    assert levels.ratio[choose_level(bigger, levels, 0.02)] > 2 * levels.ratio[choose_level(g, levels, 0.02)]
    with pytest.raises(ValueError, match="from 0 to below 1"):
        choose_level(g, levels, 1.0)
