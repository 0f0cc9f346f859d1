"""The loop itself: fenceposts, what is kept, what is counted, what is refused; and noise that belongs to its image."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from partners import gaussian, randn, rel

from painters import Frames, Gaussian, Levels, noise, solve
from painters.denoiser import Scalar
from painters.levels import Level
from painters.models.adapters import NetworkDenoiser
from painters.sampling import SOLVERS, Step, ancestral, ddim
from painters.sampling.noise import draw, streams
from painters.sampling.solvers import drive
from painters.schedules import edm, flow, vp_linear


def small() -> Gaussian:
    return gaussian([4.0, 1.0, 0.1], seed=1)


# fenceposts


@pytest.mark.parametrize("solver", SOLVERS)
def test_state_and_estimate_share_a_level(solver: str) -> None:
    g, levels = small(), Levels.of(vp_linear(), 9)
    x = randn(2, 3, seed=2)
    run = solve(g, x, levels, solver=solver, progress=False)
    assert len(run.levels) == 10 and run.x.shape == (10, 2, 3) and run.x0.shape == (9, 2, 3)
    assert torch.equal(run.x[0], x) and torch.equal(run.final, run.x[-1])
    for state, estimate, level in zip(run.x, run.x0, levels):
        assert rel(estimate, g(state, *level)) < 1e-12


@pytest.mark.parametrize(
    ("every", "kept"), [(1, list(range(11))), (3, [0, 3, 6, 9, 10]), (5, [0, 5, 10]), (None, [0, 10]), (99, [0, 10])]
)
def test_kept_frames_are_those_of_the_full_run(every: int | None, kept: list[int]) -> None:
    g, levels = small(), Levels.of(vp_linear(), 10)
    x = randn(2, 3, seed=3)
    full = solve(g, x, levels, progress=False)
    some = solve(g, x, levels, save=Frames(every=every), progress=False)
    assert Frames(every=every).kept(10) == kept == some.meta["kept"]
    assert torch.equal(some.x, full.x[kept]) and torch.equal(some.x0, full.x0[kept[:-1]])
    assert torch.equal(some.levels.alpha, levels.alpha[kept]) and torch.equal(some.levels.sigma, levels.sigma[kept])
    assert some.nfe == full.nfe == 19


def test_frames_are_projected_and_cast_before_they_are_stored() -> None:
    g, levels = small(), Levels.of(vp_linear(), 6)
    x = randn(2, 3, seed=4)
    full = solve(g, x, levels, progress=False)
    run = solve(g, x, levels, save=Frames(dtype=torch.float32, fn=lambda f: f @ g.U[:, :1]), progress=False)
    assert run.x.shape == (7, 2, 1) and run.x.dtype == run.x0.dtype == torch.float32
    assert rel(run.x, full.x @ g.U[:, :1]) < 1e-6 and rel(run.x0, full.x0 @ g.U[:, :1]) < 1e-6
    with pytest.raises(ValueError, match="every must be at least 1"):
        Frames(every=0)


def test_frames_do_not_alias_the_state() -> None:
    x = randn(1, 3, seed=5)
    run = solve(small(), x, Levels.of(vp_linear(), 3), progress=False)
    before = run.x[0].clone()
    x += 1
    assert torch.equal(run.x[0], before)


def test_a_run_in_two_parts_is_the_whole_run() -> None:
    g, levels = small(), Levels.of(vp_linear(), 10)
    x = randn(2, 3, seed=6)
    whole = solve(g, x, levels, solver="heun", progress=False)
    first = solve(g, x, levels, solver="heun", stop=4, progress=False)
    second = solve(g, first.final, levels, solver="heun", start=4, progress=False)
    assert torch.equal(first.final, whole.x[4]) and torch.equal(second.final, whole.final)
    assert first.levels[-1] == second.levels[0] == levels[4]
    assert first.nfe + second.nfe == whole.nfe
    assert (second.meta["start"], second.meta["stop"]) == (4, 10)


def test_one_step() -> None:
    """N = 1 goes straight to the endpoint estimate."""
    g, levels = small(), Levels.of(vp_linear(), 1)
    x = randn(2, 3, seed=7)
    for solver in SOLVERS:
        run = solve(g, x, levels, solver=solver, progress=False)
        assert run.nfe == 1 and rel(run.final, run.x0[0]) < 1e-12


def test_a_solver_may_be_a_function() -> None:
    g, levels = small(), Levels.of(vp_linear(), 5)
    x = randn(2, 3, seed=8)
    run = solve(g, x, levels, solver=ddim, progress=False)
    assert torch.equal(run.final, solve(g, x, levels, solver="ddim", progress=False).final)
    assert run.meta["solver"] == "ddim"


@pytest.mark.parametrize(("solver", "calls"), [("ddim", 8), ("heun", 15), ("dpmpp2m", 8), ("ancestral", 8)])
def test_nfe_is_counted(solver: str, calls: int) -> None:
    seen = []

    def counting(x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        seen.append((alpha, sigma))
        return small()(x, alpha, sigma)

    run = solve(counting, randn(1, 3), Levels.of(vp_linear(), 8), solver=solver, progress=False)
    assert run.nfe == calls == len(seen)


# refusals


def test_unknown_solver_and_bad_ranges() -> None:
    g, x, levels = small(), randn(2, 3), Levels.of(vp_linear(), 5)
    with pytest.raises(ValueError, match="no solver 'huen': choose one of ddim, heun"):
        solve(g, x, levels, solver="huen", progress=False)
    for start, stop in ((5, None), (-1, 3), (3, 3), (0, 6)):
        with pytest.raises(ValueError, match="need 0 <= start < stop <= 5"):
            solve(g, x, levels, start=start, stop=stop, progress=False)
    with pytest.raises(ValueError, match="3 seeds for a batch of 2"):
        solve(g, x, levels, seeds=[1, 2, 3], progress=False)


def test_arguments_that_are_easily_confused() -> None:
    class Model:
        def denoiser(self) -> Gaussian:
            return small()

    g, x, levels = small(), randn(2, 3), Levels.of(vp_linear(), 5)
    for arguments, options, says in (
        ((Model(), x, levels), {}, r"a Model is none: pass model\.denoiser\(\)"),
        ((g.mu, x, levels), {}, "a Tensor is none: pass a function"),
        ((g, x, 8), {}, r"got 8: pass model\.levels\(n\)"),
        ((g, x, levels), {"save": 5}, r"got 5: pass Frames\(every=n\)"),
        ((g, x.long(), levels), {}, r"in floating point.* got torch\.int64"),
        ((g, [1.0], levels), {}, "in floating point.* got a list"),
        ((g, x, levels), {"seeds": [0.5, 1]}, "seeds are whole numbers"),
        ((g, x, levels), {"seeds": 3}, "seeds are whole numbers"),
        ((g, x, levels), {"eta": 0.5}, "eta = 0.5 is an option of the ancestral solver, and heun has none"),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            solve(*arguments, progress=False, **options)
        assert "\n" not in str(caught.value)


def test_unit_noise_at_a_level_of_another_size_is_refused() -> None:
    g, levels = gaussian([4.0, 1.0], dim=100, rest=0.01), Levels.of(edm(), 4)
    eps = noise(range(3), (100,), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"size of unit noise.*sigma = 80 .*pass levels.start\(noise\)"):
        solve(g, eps, levels, progress=False)
    x = levels.start(eps)
    solve(g, x, levels, progress=False)
    solve(g, x + 300 * g.U[:, 0], levels, progress=False)  # kicked
    solve(g, g.flow(x, frm=levels[0], to=levels[1]), levels, start=1, progress=False)  # teleported
    solve(g, 0 * x, levels, progress=False)  # the mean
    solve(g, eps, Levels.of(vp_linear(), 4), progress=False)


# options and the callback


def test_eta_is_an_option_of_the_ancestral_solver() -> None:
    g, x, levels = small(), randn(2, 3), Levels.of(vp_linear(), 5)
    run = solve(g, x, levels, solver="ancestral", eta=0.5, progress=False)
    assert torch.equal(run.final, solve(g, x, levels, solver=partial(ancestral, eta=0.5), progress=False).final)
    assert run.meta["solver"] == "ancestral(eta=0.5)"


def test_a_callback_sees_every_step_and_may_stop_the_run() -> None:
    g, x, levels = small(), randn(2, 3), Levels.of(vp_linear(), 8)
    whole, seen = solve(g, x, levels, start=2, progress=False), []
    solve(g, x, levels, start=2, on_step=lambda *step: seen.append(step), progress=False)
    assert [step[0] for step in seen] == [2, 3, 4, 5, 6, 7] and [step[1] for step in seen] == list(levels)[2:-1]
    assert torch.equal(torch.stack([step[2] for step in seen]), whole.x[:-1])
    assert torch.equal(torch.stack([step[3] for step in seen]), whole.x0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_gradient_passes_through_a_run_and_no_graph_is_kept(solver: str) -> None:
    """One of every step would be held until the end: neither network nor surrogate, state nor callback makes one."""
    levels, modes, seen = Levels.of(vp_linear(), 4, spacing="even"), [], []
    learned = torch.tensor([4.0, 1.0, 0.1], requires_grad=True)
    g = Gaussian(torch.zeros(3), torch.eye(3), learned)

    def denoise(x: torch.Tensor, alpha: Scalar, sigma: Scalar) -> torch.Tensor:
        modes.append(torch.is_grad_enabled())
        return g(x, alpha, sigma)

    def on_step(i: int, level: Level, x: torch.Tensor, x0: torch.Tensor) -> None:
        seen.append((torch.is_grad_enabled(), x0.requires_grad, x.grad_fn))

    options = {"surrogate": lambda x, alpha, sigma: learned * x} if solver == "expint" else {}
    x = noise([1, 2], (3,)).requires_grad_()
    run = solve(denoise, x, levels, solver=solver, on_step=on_step, progress=False, **options)
    assert len(modes) >= 4 and not any(modes) and seen == [(True, False, None)] * 4
    assert torch.is_grad_enabled() and not run.final.requires_grad
    with torch.no_grad():
        assert torch.equal(run.x, solve(g, x, levels, solver=solver, progress=False, **options).x)
    steps = drive(SOLVERS[solver], g, x, levels, None)
    for _ in range(3):
        assert torch.is_grad_enabled() and next(steps).x.grad_fn is None
    steps.close()  # type: ignore[attr-defined]
    assert torch.is_grad_enabled()


def test_a_denoiser_may_take_a_gradient_of_its_own() -> None:
    """The score of a density by automatic differentiation, as guidance by a classifier takes it, is Tweedie's."""
    g, levels, x = small(), Levels.of(vp_linear(), 5, spacing="even"), randn(2, 3)

    def denoise(x: torch.Tensor, alpha: Scalar, sigma: Scalar) -> torch.Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (score,) = torch.autograd.grad(g.log_prob(x, alpha, sigma).sum(), x)
        return (x + sigma**2 * score) / alpha

    runs = [solve(d, x, levels, solver="heun", progress=False).final for d in (denoise, g)]
    assert rel(*runs) < 1e-10


@pytest.mark.parametrize(("every", "kept"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3, 4]), (None, [0, 4])])
def test_a_run_that_is_stopped_keeps_what_was_done(every: int | None, kept: list[int]) -> None:
    g, x, levels = small(), randn(2, 3), Levels.of(vp_linear(), 8)
    whole = solve(g, x, levels, solver="ddim", progress=False)
    run = solve(g, x, levels, solver="ddim", save=Frames(every), on_step=lambda i, level, x, x0: i == 3, progress=False)
    assert run.meta["kept"] == kept and run.meta["stop"] == 4 and run.meta["stopped"] and run.nfe == 4
    assert torch.equal(run.x, whole.x[kept]) and torch.equal(run.x0, whole.x0[kept[:-1]])
    assert torch.equal(run.levels.alpha, levels.alpha[kept])
    again = solve(g, run.final, levels, solver="ddim", start=run.meta["stop"], progress=False)
    assert torch.equal(again.final, whole.final) and "stopped" not in again.meta


def test_wrong_shapes() -> None:
    levels = Levels.of(vp_linear(), 5)
    with pytest.raises(ValueError, match="lives in 3 dimensions"):
        solve(small(), randn(2, 4), levels, progress=False)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) into \(2, 1\)"):
        solve(lambda x, a, s: x[:, :1], randn(2, 3), levels, progress=False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_value_that_is_not_finite_names_its_step(bad: float, at: int) -> None:
    levels, calls = Levels.of(vp_linear(), 8), []

    def broken(x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        calls.append(alpha)
        out = small()(x, alpha, sigma)
        return out + bad if len(calls) == at + 1 else out

    alpha, sigma = list(levels)[at]
    with pytest.raises(FloatingPointError, match=f"in step {at}, from alpha = {alpha:.4g}, sigma = {sigma:.4g}"):
        solve(broken, randn(2, 3), levels, solver="ddim", progress=False)
    assert len(calls) == at + 1  # stopped there


def test_one_number_of_a_state_that_is_not_finite_names_its_step() -> None:
    def leaking(x: torch.Tensor, levels: Levels, seeds: object):
        for i in range(levels.steps):
            wrong = x.clone()
            wrong[1, 2] = float("nan") if i == 2 else 0.0
            yield Step(x, wrong)

    with pytest.raises(FloatingPointError, match="in step 2,"):
        solve(small(), randn(2, 3), Levels.of(vp_linear(), 4), solver=leaking, progress=False)  # type: ignore[arg-type]


def test_noise_that_is_not_finite_is_noticed() -> None:
    x = randn(2, 3)
    x[1, 1] = float("nan")
    with pytest.raises(FloatingPointError, match="in the starting state"):
        solve(small(), x, Levels.of(vp_linear(), 4), progress=False)


def test_interruption_is_not_swallowed() -> None:
    def interrupted(x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(interrupted, randn(1, 3), Levels.of(vp_linear(), 4), progress=False)


# noise


def test_noise_of_a_seed_does_not_depend_on_its_batch(device: torch.device) -> None:
    shape = (3, 4, 4)
    alone = noise([7], shape)
    assert alone.shape == (1, 3, 4, 4) and alone.dtype == torch.float32
    together = noise([3, 7, 1], shape, device=device)
    assert together.device.type == device.type
    assert torch.equal(together[1].cpu(), alone[0])
    assert not torch.equal(together[0], together[1])
    state = torch.get_rng_state()
    noise(range(3), shape)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone


def test_noise_in_another_dtype_is_the_same_noise() -> None:
    assert torch.equal(noise([5], (6,), dtype=torch.float64), noise([5], (6,)).double())
    assert torch.equal(noise([5], (6,), dtype=torch.bfloat16), noise([5], (6,)).bfloat16())


def test_noise_is_standard_normal() -> None:
    z = noise(range(40), (1000,), dtype=torch.float64)
    assert abs(float(z.mean())) < 0.02 and float(z.var()) == pytest.approx(1, abs=0.03)
    correlations = torch.corrcoef(z) - torch.eye(40, dtype=torch.float64)
    assert float(correlations.abs().max()) < 0.2


def test_draws_continue_each_stream() -> None:
    generators = streams([1, 2])
    first, second = draw(generators, (4,)), draw(generators, (4,))
    alone = streams([2])
    assert torch.equal(draw(alone, (4,))[0], first[1]) and torch.equal(draw(alone, (4,))[0], second[1])
    with pytest.raises(ValueError, match="at least one seed"):
        noise([], (3,))


def convolution(device: torch.device) -> NetworkDenoiser:
    """A small random network with a time input, float32."""
    torch.manual_seed(0)
    first, last = torch.nn.Conv2d(2, 16, 3, padding=1), torch.nn.Conv2d(16, 1, 3, padding=1)
    net = torch.nn.Sequential(first, torch.nn.SiLU(), last)
    net = net.to(device)

    def call(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        time = (t / 1000).reshape(-1, 1, 1, 1).expand(len(x), 1, *x.shape[2:]).to(x.dtype)
        return net(torch.cat([x, time], 1))

    return NetworkDenoiser(call, vp_linear(), "v_prediction", device)


@pytest.mark.parametrize("solver", SOLVERS)
def test_image_of_a_seed_does_not_depend_on_its_batch(solver: str, device: torch.device) -> None:
    denoise, levels, seeds = convolution(device), Levels.of(vp_linear(), 10), [4, 9, 2, 11, 6]
    together = solve(denoise, noise(seeds, (1, 8, 8)), levels, solver=solver, seeds=seeds, progress=False)
    assert together.seeds == tuple(seeds)
    for i, seed in enumerate(seeds):
        alone = solve(denoise, noise([seed], (1, 8, 8)), levels, solver=solver, seeds=[seed], progress=False)
        assert torch.equal(alone.x[0, 0], together.x[0, i])
        assert rel(alone.final[0], together.final[i]) < 1e-4
    again = solve(denoise, noise(seeds, (1, 8, 8)), levels, solver=solver, seeds=seeds, progress=False)
    assert rel(again.x, together.x) < 1e-6


@pytest.mark.parametrize("seed", [0, 3, 2**31 - 1])
def test_fresh_noise_is_not_the_starting_noise(seed: int) -> None:
    """A stochastic step must not draw its image's start again: solve one step for the noise that it added."""
    start = noise([seed], (400,), dtype=torch.float64)
    nothing = Gaussian(torch.zeros(400).double(), torch.zeros(400, 0).double(), torch.zeros(0).double())
    levels = Levels.of(vp_linear(), 20)
    x = solve(nothing, start, levels, solver="ancestral", seeds=[seed], stop=1, progress=False).final
    (a, s), (b, r) = list(levels)[:2]
    q = a * r / (b * s)
    fresh = (x - r * q * start / s) / (r * (1 - q**2) ** 0.5)
    assert float(fresh.square().mean()) == pytest.approx(1, abs=0.3)
    assert abs(float(torch.cosine_similarity(start, fresh)[0])) < 0.2


@pytest.mark.parametrize("seed", [-1, 2**31, 2**40])
def test_seeds_that_a_generator_cannot_tell_apart_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="a seed lies between 0 and 2147483647"):
        noise([seed], (2,))


@pytest.mark.parametrize("schedule", [vp_linear(), edm(), flow()], ids=lambda s: s.name)
def test_one_noise_starts_every_coordinate_system(schedule) -> None:
    levels, z = Levels.of(schedule, 5), randn(2, 3, seed=9)
    a, s = float(levels.alpha[0]), float(levels.sigma[0])
    assert rel(levels.start(z), z * (a**2 + s**2) ** 0.5) < 1e-12


def test_progress_bar_is_optional(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = partial(solve, small(), randn(1, 3), Levels.of(vp_linear(), 3))
    quiet(progress=False)
    assert capsys.readouterr().err == ""
    quiet(progress=True)
    assert "painting" in capsys.readouterr().err


def stepping(*steps):
    def solver(x, levels, seeds):
        yield from (step(x) for step in steps)

    return solver


def good(x: torch.Tensor) -> Step:
    return Step(x, x)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda x, levels, seeds: None, "ended after 0"),
        (lambda x, levels, seeds: iter([Step(x, x)] * 4), "ended after 0"),
        (stepping(), "ended after 0"),
        (stepping(good, good, good), "ended after 3"),
        (stepping(good, good, good, good, good), "something else"),
        (stepping(lambda x: x), "something else"),
        (stepping(lambda x: (x, x)), "something else"),
        (stepping(lambda x: Step(x, x[:1])), "something else"),
    ],
)
def test_a_solver_that_keeps_no_contract_is_one_sentence(broken, said):
    levels = Levels(torch.ones(5), torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match=f"4 times Step\\(x0_hat, x\\), and .*{said}"):
        solve(lambda x, a, s: x, torch.full((2, 3), 9.0), levels, solver=broken, progress=False)
