"""Peers: stepped by their own code, at the levels where they believe to be, with as many calls as were asked for."""

import importlib.util
import math

import pytest
import torch
from worlds import GAUSSIAN, MIXTURE, on_law, on_network

from atelier.faster.bench import painted, ways
from atelier.faster.ours import OURS
from atelier.faster.peers import FAMILIES, peers
from atelier.faster.references import grid_of, integrate
from painters.sampling import move
from painters.schedules import discrete, flow, vp_linear, vp_sde

AZULA = importlib.util.find_spec("azula") is not None
LAW = on_law(MIXTURE, vp_linear(), gaussian=GAUSSIAN)
FLOWS = on_law(MIXTURE, flow(), gaussian=GAUSSIAN)


def test_only_schedules_with_an_end_in_noise_and_in_pictures_have_the_levels_of_karras():
    assert [LAW.allows(spacing) for spacing in ("trailing", "even", "karras")] == [True, True, True]
    assert [FLOWS.allows(spacing) for spacing in ("trailing", "even", "karras")] == [True, True, False]


def test_ours_are_there_where_schedule_and_moments_allow_them():
    blind = on_law(MIXTURE, vp_linear())
    there = {
        name: [OURS[name](who, 5) is not None for who in (LAW, blind, FLOWS)] for name in OURS if "calib" not in name
    }
    grids = ("trailing", "even", "karras")
    on_grids = ("ddim", "heun", "dpmpp2m", "expint", "expint without a Gaussian")
    teleported = {"expint, teleported, even", "expint, teleported, karras"}
    assert there.keys() == {f"{name}, {grid}" for name in on_grids for grid in grids} | teleported
    for name, found in there.items():
        free = name.startswith(("ddim", "dpmpp2m", "expint without"))
        if "karras" in name:
            want = [True, free or name.startswith("heun"), False]
        elif name.startswith("heun"):
            want = [True, True, False]  # from pure noise the first step takes one call as well: an even number in all
        else:
            want = [True, free, True]
        assert found == want, name
    assert OURS["calibrated plan"](blind, 5) is None and OURS["calibrated plan"](LAW, 7) is None
    assert OURS["heun, even"](LAW, 6) is None and OURS["heun, even"](FLOWS, 6) is not None


@pytest.mark.parametrize("name", ["ddim, even", "heun, trailing", "expint, karras", "expint, teleported, even"])
def test_ours_paint_with_all_their_calls(name):
    run = OURS[name](LAW, 7)
    assert run is not None and run.levels.steps == (4 if name.startswith("heun") else 7) and not run.calibrated
    assert (run.start is not None) == ("teleported" in name)
    paint = ways(LAW, 7, [name])[name][0]
    assert painted(LAW, paint, 7, range(2)).shape == (2, 6)
    if run.start is not None:  # past levels at which the Gaussian is exact
        assert float(run.levels.ratio[0]) < float(LAW.range[0])


def test_peers_are_on_every_grid_that_they_know():
    names = set(peers())
    assert {"PNDM, leading", "DDIM, trailing", "DPM++ 3 singlestep, its own", "UniPC 2 bh2, Karras"} <= names
    assert "DDIM, its own" not in names and "UniPC 2 bh2, flow" not in names
    streaming = set(peers(flows=True))
    assert {"FlowMatchEuler, its own", "UniPC 2 bh2, flow"} <= streaming and "DDIM, trailing" not in streaming
    assert not [name for name in streaming if name.startswith("UniPC") and not name.endswith(", flow")]


@pytest.mark.slow
def test_every_sampler_that_takes_so_many_calls_is_there():
    five, six, twelve = (ways(LAW, nfe) for nfe in (5, 6, 12))
    assert "Heun, Karras" in five and "heun, karras" in five
    assert not [name for name in six if name.lower().startswith(("heun", "azula heun"))]
    assert "PNDM, leading" in six and "PNDM with Runge-Kutta, leading" not in six
    assert "PNDM with Runge-Kutta, leading" in ways(LAW, 13)
    families = {name for kind in ("vp", "ve", "multistep") for name in FAMILIES[kind]}
    assert families - {"Heun"} == {
        name.split(",")[0] for name in twelve if name not in OURS and "azula" not in name
    } | {"PNDM with Runge-Kutta"}
    assert "UniPC 3 bh2, Karras" in six and "SA 3, beta" in six and "DPM++ 3 singlestep, its own" in six
    assert any(name.startswith("azula") for name in six) == AZULA


@pytest.mark.parametrize(
    "name", ["DDIM, leading", "PNDM, trailing", "Euler, Karras", "UniPC 2 bh1, exponential", "SA 2, linspace"]
)
def test_the_calls_are_counted(name):
    paint = peers()[name](LAW, 7)
    assert paint is not None and painted(LAW, paint, 7, range(2)).shape == (2, 6)
    with pytest.raises(ValueError, match="took 7 network calls and was to take 8"):
        painted(LAW, paint, 8, range(2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "calls", "within"),
    [
        ("DDIM, leading", 40, 0.03), ("PNDM, leading", 41, 0.04), ("Euler, linspace", 40, 0.04),
        ("Heun, trailing", 41, 0.02), ("LMS, Karras", 40, 0.003),
        ("DEIS 3, exponential", 40, 0.002), ("DPM++ 3 midpoint, exponential", 40, 0.003),
        ("DPM++ 2 heun, exponential", 40, 0.005), ("DPM++ 3 singlestep, Karras", 40, 0.004),
        ("UniPC 3 bh2, exponential", 40, 0.002), ("UniPC 2 bh1, exponential", 40, 0.003),
        ("SA 3, exponential", 40, 0.003),
    ],
)  # fmt: skip
def test_each_family_comes_near_the_reference(name, calls, within):
    """It would not if it were asked at another level than its own, or in other units."""
    reference = integrate(LAW, range(4), grid_of(LAW))
    paint = peers()[name](LAW, calls)
    assert paint is not None
    found = painted(LAW, paint, calls, range(4))
    assert float((found - reference).norm() / reference.norm()) < within


@pytest.mark.slow
def test_those_of_flow_models_come_near_the_reference():
    reference = integrate(FLOWS, range(3), grid_of(FLOWS))
    errors = {}
    for name in ("FlowMatchEuler, its own", "FlowMatchHeun, its own", "UniPC 2 bh2, flow", "DPM++ 2 midpoint, flow"):
        paint = peers(flows=True)[name](FLOWS, 31)
        assert paint is not None
        errors[name] = float((painted(FLOWS, paint, 31, range(3)) - reference).norm() / reference.norm())
    assert all(error < 0.05 for error in errors.values()) and min(errors.values()) < 0.003, errors
    assert not {name for name in peers(flows=True) if name.startswith(("DDIM", "Euler"))}


def test_our_ddim_on_trailing_levels_is_that_of_diffusers():
    target = on_network()
    for nfe in (5, 10):
        found = ways(target, nfe, ["DDIM, trailing", "ddim, trailing"])
        ours, theirs = (painted(target, found[name][0], nfe, range(3)) for name in ("ddim, trailing", "DDIM, trailing"))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_a_run_leaves_its_scheduler_as_it_was():
    paint = peers()["UniPC 3 bh2, Karras"](LAW, 6)
    assert paint is not None
    first, second = (painted(LAW, paint, 6, range(2)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["DPM++ 2 midpoint, beta", "DEIS 3, beta", "UniPC 3 bh2, beta"])
def test_where_the_first_time_comes_twice_the_first_step_is_still_the_first(name):
    """A table of 50 times is coarse beside such grids; a first step is DDIM's, from the first level to the second."""
    coarse = on_law(MIXTURE, discrete((1 - torch.linspace(1e-3, 0.3, 50, dtype=torch.float64)).cumprod(0)))
    paint, asked = peers()[name](coarse, 7), []
    assert paint is not None

    def denoise(x, alpha, sigma):
        asked.append((x, (alpha, sigma), MIXTURE(x, alpha, sigma)))
        return asked[-1][2]

    paint(denoise, coarse.noise([0, 1]))
    (x, first, x0), (reached, second, _) = asked[:2]
    times = paint.args[2].timesteps  # type: ignore[attr-defined]
    assert times[0] == times[1] and first[1] / first[0] > second[1] / second[0]
    torch.testing.assert_close(reached, move(x, x0, first, second), rtol=1e-5, atol=1e-5)


def test_a_continuous_schedule_is_a_table_from_end_to_end():
    target = on_law(GAUSSIAN, vp_sde(beta_0=1, beta_1=1, t_max=10, t_min=1e-3))
    assert len(target.table) == 1000
    assert target.table[[-1, 0]].tolist() == pytest.approx(target.schedule.ends)
    start = ways(target, 5, ["DDIM, trailing"])["DDIM, trailing"][0]
    asked = []

    def denoise(x, alpha, sigma):
        asked.append(sigma / alpha)
        return GAUSSIAN(x, alpha, sigma)

    start(denoise, target.noise([0]))
    assert asked[0] == pytest.approx(math.exp(5), rel=1e-3) and asked == sorted(asked, reverse=True)


@pytest.mark.skipif(not AZULA, reason="azula is not installed")
def test_those_of_azula_come_near_the_reference():
    reference = integrate(LAW, range(3), grid_of(LAW))
    for name, within in (
        ("zAB 2, even", 0.03),
        ("Heun, trailing", 0.03),
        ("zEAB 3, karras", 0.003),
        ("xEAB 3, even", 0.01),
    ):
        paint = peers()[f"azula {name}"](LAW, 31)
        assert paint is not None
        found = painted(LAW, paint, 31, range(3))
        assert float((found - reference).norm() / reference.norm()) < within, name
