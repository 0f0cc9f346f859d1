"""Schedules and levels: values, coordinates, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st
from partners import rel

from painters import Levels
from painters.levels import CLEAN, NOISE
from painters.schedules import Schedule, cosine, discrete, edm, flow, rescale, scaled_linear, ve_sde, vp_linear, vp_sde

SCHEDULES = [vp_linear(), scaled_linear(), cosine(), edm(), flow(), flow(shift=3.0), vp_sde(), ve_sde()]
IDS = ["vp", "sd", "cosine", "edm", "flow", "flow-shifted", "vp-sde", "ve-sde"]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=IDS)
@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_levels_run_from_noisy_to_clean(schedule: Schedule, n: int) -> None:
    levels = Levels.of(schedule, n)
    assert levels.steps == n and len(levels) == n + 1
    assert levels.alpha.dtype == levels.sigma.dtype == torch.float64
    assert levels[-1] == (1.0, 0.0)
    assert bool((levels.ratio.diff() < 0).all()) and bool((levels.logsnr.diff() > 0).all())
    invariant = {"vp": levels.alpha**2 + levels.sigma**2, "ve": levels.alpha, "flow": levels.alpha + levels.sigma}
    assert rel(invariant[schedule.coordinates], torch.ones(n + 1)) < 1e-12


def test_discrete_schedules_are_products_of_betas() -> None:
    betas = [1e-4 + i * (0.02 - 1e-4) / 999 for i in range(1000)]
    alpha_bar = 1.0
    alpha, sigma = vp_linear().table()
    for i, beta in enumerate(betas):
        alpha_bar *= 1 - beta
        if i % 111 == 0:
            assert float(alpha[i]) == pytest.approx(math.sqrt(alpha_bar), rel=1e-9)
            assert float(sigma[i]) == pytest.approx(math.sqrt(1 - alpha_bar), rel=1e-9)
    alpha, sigma = scaled_linear().table()
    assert float(alpha[-1] ** 2) == pytest.approx(0.004660, rel=1e-3)
    assert float(sigma[-1] / alpha[-1]) == pytest.approx(14.61, abs=0.01)


def test_discrete_takes_alphas_cumprod_and_not_its_root() -> None:
    alpha_bar = torch.linspace(0.99, 0.01, 10, dtype=torch.float64)
    alpha, sigma = discrete(alpha_bar).table()
    assert rel(alpha**2, alpha_bar) < 1e-12 and rel(sigma**2, 1 - alpha_bar) < 1e-12


def test_cosine_and_flow_start_at_pure_noise() -> None:
    for schedule in (cosine(), flow(), flow(shift=3.0)):
        assert Levels.of(schedule, 10)[0] == (0.0, 1.0)
    t = torch.tensor([0.25, 0.5], dtype=torch.float64)
    assert rel(cosine().at(t)[0], torch.cos(math.pi / 2 * t)) < 1e-12
    assert rel(flow(shift=3.0).at(t)[1], 3 * t / (1 + 2 * t)) < 1e-12


def test_the_exploding_process_is_the_published_one() -> None:
    """Song et al. (2021), CIFAR-10: noise from .01 to 50, each step by the same factor."""
    alpha, sigma = ve_sde().at(torch.linspace(0, 1, 3, dtype=torch.float64))
    assert alpha.tolist() == [1, 1, 1] and sigma.tolist() == pytest.approx([0.01, math.sqrt(0.5), 50])


def test_the_preserving_process_is_the_published_one() -> None:
    """Song et al. (2021): beta from .1 to 20 in the time from 0 to 1."""
    alpha, sigma = vp_sde().at(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert alpha.tolist() == pytest.approx([math.exp(-B / 2) for B in (0, 0.05 + 19.9 / 8, 0.1 + 19.9 / 2)])
    assert torch.hypot(alpha, sigma).tolist() == pytest.approx([1, 1, 1])


def test_edm_grid_is_the_published_one() -> None:
    sigma = Levels.of(edm(), 18).sigma
    want = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert rel(sigma, torch.tensor([*want, 0.0], dtype=torch.float64)) < 1e-12


@pytest.mark.parametrize("k", [1, 4, 10])
def test_tail_of_the_edm_grid_is_an_edm_grid(k: int) -> None:
    """Restarting at sigma_k with N - k steps visits the same levels: a sampler that skips k steps needs nothing new."""
    whole = Levels.of(edm(), 18)
    tail = Levels.of(edm(sigma_max=float(whole.sigma[k])), 18 - k)
    assert float((tail.sigma - whole.sigma[k:]).abs().max()) < 1e-13 * float(whole.sigma[k]) + 1e-13


@pytest.mark.parametrize(("n", "index"), [(20, 950), (51, 950), (50, 980), (10, 900), (1000, 999)])
def test_leading_spacing_starts_below_the_noisiest_level(n: int, index: int) -> None:
    alpha, sigma = vp_linear().table()
    levels = Levels.of(vp_linear(), n, spacing="leading")
    assert levels[0] == (float(alpha[index]), float(sigma[index]))
    assert levels[-2] == (float(alpha[0]), float(sigma[0]))
    assert Levels.of(vp_linear(), n)[0] == (float(alpha[999]), float(sigma[999]))


def test_spacings_between_the_ends() -> None:
    for spacing in ("karras", "logsnr", "linspace"):
        levels = Levels.of(vp_linear(), 12, spacing=spacing)
        alpha, sigma = vp_linear().table()
        assert float(levels.ratio[0]) == pytest.approx(float(sigma[-1] / alpha[-1]), rel=1e-9)
        assert float(levels.ratio[-2]) == pytest.approx(float(sigma[0] / alpha[0]), rel=1e-9)
    steps = Levels.of(vp_linear(), 12, spacing="logsnr").logsnr[:-1].diff()
    assert rel(steps, steps.mean().expand_as(steps)) < 1e-9
    steps = (Levels.of(vp_linear(), 12, spacing="karras").ratio[:-1] ** (1 / 7)).diff()
    assert rel(steps, steps.mean().expand_as(steps)) < 1e-9


# coordinates


@given(alpha=st.floats(1e-3, 10), sigma=st.floats(1e-3, 100), path=st.permutations(["vp", "ve", "flow"]))
def test_coordinates_can_be_changed_in_any_order(alpha: float, sigma: float, path) -> None:
    levels = Levels(torch.tensor([alpha, 1.0], dtype=torch.float64), torch.tensor([sigma, 0.0], dtype=torch.float64))
    direct = levels.to(path[-1])
    detour = levels.to(path[0]).to(path[1]).to(path[2])
    assert rel(detour.alpha, direct.alpha) < 1e-12 and rel(detour.sigma, direct.sigma) < 1e-12
    assert rel(direct.ratio, levels.ratio) < 1e-12
    c = rescale(levels.alpha, levels.sigma, path[0])
    assert rel(levels.to(path[0]).sigma, c * levels.sigma) < 1e-12


def test_pure_noise_has_no_place_in_ve_coordinates() -> None:
    levels = Levels.of(flow(), 4)
    with pytest.raises(ValueError, match="pure noise"):
        levels.to("ve")
    assert levels.to("vp")[0] == (0.0, 1.0)
    with pytest.raises(ValueError, match="vp, ve, flow"):
        levels.to("edm")  # type: ignore[arg-type]
    assert float(levels.ratio[0]) == math.inf and float(levels.logsnr[0]) == -math.inf


# the container


def test_slicing_reversing_and_iterating() -> None:
    levels = Levels.of(vp_linear(), 8)
    part, up = levels[2:6], levels[::-1]
    assert isinstance(part, Levels) and isinstance(up, Levels)
    assert list(part) == list(levels)[2:6] and list(up) == list(levels)[::-1]
    assert part.origin == levels.origin
    assert levels[0] == next(iter(levels)) and levels[-1] == (1.0, 0.0)
    twice = up[::-1]
    assert isinstance(twice, Levels) and torch.equal(twice.sigma, levels.sigma)


def test_repr_shows_both_ends_and_the_spacing() -> None:
    text = repr(Levels.of(vp_linear(), 20, spacing="leading"))
    assert "20 steps" in text and "leading" in text and "starts at sigma/alpha 97.1" in text
    assert "(alpha 0.0103, sigma 0.9999)" in text and "(alpha 1, sigma 0)" in text
    assert "sigma/alpha inf" in repr(Levels.of(flow(), 4))


def test_levels_are_float64_on_the_cpu_whatever_is_given() -> None:
    levels = Levels([0.5, 1.0], [0.5, 0.0])  # type: ignore[arg-type]
    assert levels.alpha.dtype == torch.float64 and levels[0] == (0.5, 0.5)
    levels = Levels(torch.tensor([0.5, 1.0], dtype=torch.float32), torch.tensor([0.5, 0.0]))
    assert levels.sigma.dtype == torch.float64


@pytest.mark.parametrize(
    ("alpha", "sigma", "message"),
    [
        ([0.5, 1.0], [0.5], "one length"),
        ([[0.5]], [[0.5]], "one length"),
        ([0.5, math.nan], [0.5, 0.0], "finite"),
        ([0.5, math.inf], [0.5, 0.0], "finite"),
        ([-0.5, 1.0], [0.5, 0.0], "not be negative"),
        ([0.0, 1.0], [0.0, 0.0], "both zero"),
        ([0.5, 0.5], [0.5, 0.5], "strictly"),
        ([0.5, 0.1, 1.0], [0.5, 0.9, 0.0], "strictly"),
    ],
)
def test_impossible_levels_are_refused(alpha, sigma, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Levels(torch.tensor(alpha), torch.tensor(sigma))


def test_impossible_runs_are_refused() -> None:
    for n in (0, -3, 1001):
        with pytest.raises(ValueError, match="allows 1 to 1000 steps"):
            Levels.of(vp_linear(), n)
    with pytest.raises(ValueError, match="spacing must be trailing"):
        Levels.of(vp_linear(), 5, spacing="uniform")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is continuous"):
        Levels.of(flow(), 5, spacing="leading")
    for schedule in (flow(), cosine()):
        with pytest.raises(ValueError, match="finite noise at both ends"):
            Levels.of(schedule, 5, spacing="karras")
    with pytest.raises(ValueError, match="has no table"):
        flow().table()
    with pytest.raises(ValueError, match="is defined at t"):
        vp_linear().at(torch.tensor(0.0))
    with pytest.raises(ValueError, match="decreasing"):
        discrete(torch.tensor([0.5, 0.9]))


# continuous processes and their own time


def test_even_is_even_in_log_snr_where_both_ends_are_finite_and_else_trailing() -> None:
    for schedule in (vp_linear(), scaled_linear(), edm(), ve_sde(), vp_sde(t_min=1e-3)):
        even, want = Levels.of(schedule, 9, spacing="even"), Levels.of(schedule, 9, spacing="logsnr")
        assert torch.equal(even.alpha, want.alpha) and torch.equal(even.sigma, want.sigma)
        assert even.origin == want.origin
    zero_snr = discrete(torch.tensor([0.9, 0.5, 0.1, 0.0]))
    for schedule in (flow(), cosine(), zero_snr, vp_sde()):
        even, want = Levels.of(schedule, 4, spacing="even"), Levels.of(schedule, 4, spacing="trailing")
        assert torch.equal(even.sigma, want.sigma) and even.origin == want.origin


@pytest.mark.parametrize("n", [2.5, 3.0, "4", None, [4]])
def test_a_number_of_steps_is_whole(n) -> None:
    """Fails before for 2.5: two steps and a half gave three levels, of which none was clean by its own step."""
    with pytest.raises(ValueError, match="the number of steps is a whole number, got"):
        Levels.of(vp_linear(), n)
    with pytest.raises(ValueError, match="the number of steps is a whole number, got"):
        Levels.from_scheduler(DDIMScheduler(), n)


def test_clean_and_noise_are_levels() -> None:
    assert CLEAN == (1.0, 0.0) and NOISE == (0.0, 1.0)
    assert Levels.of(flow(), 3)[0] == NOISE and Levels.of(flow(), 3)[-1] == CLEAN


def test_the_galaxies_process_is_exact() -> None:
    """beta = 1, t in [0, 10]: alpha = e^{-t/2}, called with t."""
    schedule, t = vp_sde(beta_0=1, beta_1=1, t_max=10), torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = schedule.at(t)
    assert rel(alpha, torch.exp(-5 * t)) < 1e-15 and rel(sigma, (1 - torch.exp(-10 * t)).sqrt()) < 1e-14
    assert rel(schedule.time(alpha, sigma), 10 * t) < 1e-12
    levels = Levels.of(schedule, 10)
    assert levels[0] == pytest.approx((math.exp(-5), math.sqrt(1 - math.exp(-10))), rel=1e-14)
    assert levels[5] == pytest.approx((math.exp(-2.5), math.sqrt(1 - math.exp(-5))), rel=1e-14)


@pytest.mark.parametrize(
    ("schedule", "time"),
    [
        (vp_sde(), lambda t: t),
        (vp_sde(beta_0=0.0, beta_1=5.0, t_max=3.0, time_scale=999.0), lambda t: 3 * 999 * t),
        (vp_sde(beta_0=8.0, beta_1=0.0), lambda t: t),
        (vp_sde(t_min=0.01), lambda t: 0.01 + 0.99 * t),
        (ve_sde(), lambda t: t),
        (ve_sde(time_scale=10.0), lambda t: 10 * t),
        (edm(), lambda t: edm().at(t)[1]),
        (cosine(), lambda t: t),
        (flow(), lambda t: 1000 * t),
        (flow(shift=3.0, time_scale=1.0), lambda t: 3 * t / (1 + 2 * t)),
    ],
)
@pytest.mark.parametrize("coordinates", ["vp", "ve", "flow"])
def test_a_level_becomes_the_time_of_its_process_in_any_coordinates(schedule: Schedule, time, coordinates) -> None:
    t = torch.linspace(0, 1, 41, dtype=torch.float64)[1:-1]
    alpha, sigma = schedule.at(t)
    c = rescale(alpha, sigma, coordinates)
    assert rel(schedule.time(c * alpha, c * sigma), time(t)) < 1e-7


def test_rounding_at_the_ends_of_the_process_is_forgiven_and_no_more() -> None:
    one, (high, low) = torch.ones(1, dtype=torch.float64), ve_sde().ends
    for ratio in (high * (1 + 9e-5), low * (1 - 9e-5)):
        assert bool(ve_sde().time(one, ratio * one).isfinite())
    for ratio in (high * (1 + 1.1e-4), low * (1 - 1.1e-4)):
        with pytest.raises(ValueError, match="was trained from"):
            ve_sde().time(one, ratio * one)


def test_a_level_outside_the_process_has_no_time() -> None:
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for schedule in (vp_sde(), ve_sde(), edm(), vp_linear()):
        with pytest.raises(ValueError, match=r"was trained from sigma/alpha .* and was asked at inf"):
            schedule.time(zero, one)
    for schedule in (ve_sde(), edm(), vp_linear()):
        with pytest.raises(ValueError, match="was asked at 0"):
            schedule.time(one, zero)
    with pytest.raises(ValueError, match="asked at nan"):
        flow().time(zero, zero)
    assert float(vp_sde().time(one, zero)) == 0.0 and float(flow().time(zero, one)) == 1000.0


def test_impossible_processes_are_refused() -> None:
    for options in ({"t_min": 1.0}, {"beta_0": 0.0, "beta_1": 0.0}, {"beta_0": -1.0}, {"t_max": math.nan}):
        with pytest.raises(ValueError, match="a VP process has betas > 0"):
            vp_sde(**options)
    for options in ({"sigma_min": 0.0}, {"sigma_min": 60.0}):
        with pytest.raises(ValueError, match="a VE process needs"):
            ve_sde(**options)
