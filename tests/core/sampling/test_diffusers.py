"""``solve`` against the schedulers of diffusers, stepped as their pipelines step them, on a small random network.

Here, and only here, a scheduler is stepped. Levels and prediction type are read from it, the network goes through the
adapter, and the two images must agree. Which spacings can agree at all in diffusers 0.42:

* DDIM, leading: any number of steps. DDIM, trailing: only a number that divides the 1,000 training steps, because
  ``step`` takes the next level to be 1000 // n below instead of reading it from the list. DDIM, linspace: never, for
  the same reason; a test below, judged by the exact solution, shows that it is the scheduler that errs.
* Euler, Heun, DPM-Solver++ and flow matching read both levels from the list and agree in every spacing.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from partners import randn, rel
from pipelines import unet as small

from painters import Gaussian, Levels, solve
from painters.models.adapters import NetworkDenoiser, call_unet
from painters.schedules import Schedule, cosine, discrete, edm, flow, scaled_linear, vp_linear

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")

LINEAR: dict[str, Any] = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000}


@pytest.fixture(scope="module")
def unet() -> torch.nn.Module:
    """A random network of 15 thousand weights for 8 x 8 images of two channels, float64."""
    return small().double().requires_grad_(False)


def adapted(unet: torch.nn.Module, schedule: Schedule, prediction: str, **options: Any) -> NetworkDenoiser:
    weight = next(unet.parameters())
    return NetworkDenoiser(call_unet(unet), schedule, prediction, weight.device, weight.dtype, **options)  # type: ignore[arg-type]


def reference(scheduler: Any, unet: torch.nn.Module, x: torch.Tensor, n: int) -> tuple[torch.Tensor, int]:
    """The loop of a diffusers pipeline: return the image and the number of network calls."""
    scheduler.set_timesteps(n)
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = unet(seen, t.reshape(1).expand(len(x))).sample
        x = scheduler.step(output, t, x).prev_sample
    return x, len(scheduler.timesteps)


def both(scheduler: Any, unet: torch.nn.Module, schedule: Schedule, solver: str, n: int) -> None:
    """Run the scheduler and ``solve`` from the same noise and compare images and network calls."""
    levels = Levels.from_scheduler(scheduler, n)
    prediction = scheduler.config.get("prediction_type", "flow_prediction")
    noise = randn(2, 2, 8, 8, seed=1)
    unit = levels.to("flow").start(noise) if schedule.coordinates == "flow" else levels.start(noise)
    in_ve = type(scheduler).__name__ in ("EulerDiscreteScheduler", "HeunDiscreteScheduler")
    theirs, calls = reference(scheduler, unet, unit / levels.alpha[0] if in_ve else unit, n)
    ours = solve(adapted(unet, schedule, prediction), unit, levels, solver=solver, progress=False)
    assert rel(ours.final, theirs) < 1e-5
    assert ours.nfe == calls


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("spacing", "n"), [("leading", 10), ("leading", 51), ("trailing", 10), ("trailing", 20)])
def test_ddim(unet: torch.nn.Module, prediction: str, spacing: str, n: int) -> None:
    scheduler = diffusers.DDIMScheduler(
        **LINEAR, clip_sample=False, prediction_type=prediction, timestep_spacing=spacing
    )
    both(scheduler, unet, discrete(scheduler.alphas_cumprod), "ddim", n)


def test_ddim_that_ends_at_the_first_training_level(unet: torch.nn.Module) -> None:
    """With ``set_alpha_to_one=False`` (Stable Diffusion) the last step goes nowhere: one level, and one call, fewer."""
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False
    )
    levels = Levels.from_scheduler(scheduler, 10)
    assert levels.steps == 9
    noise = randn(2, 2, 8, 8, seed=2)
    theirs, _ = reference(scheduler, unet, noise, 10)
    denoise = adapted(unet, discrete(scheduler.alphas_cumprod), "epsilon")
    assert rel(solve(denoise, noise, levels, solver="ddim", progress=False).final, theirs) < 1e-5


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize(
    ("name", "solver"),
    [("EulerDiscreteScheduler", "ddim"), ("HeunDiscreteScheduler", "heun"), ("DPMSolverMultistepScheduler", "dpmpp2m")],
)
def test_euler_heun_and_dpm(unet: torch.nn.Module, name: str, solver: str, spacing: str, prediction: str) -> None:
    scheduler = getattr(diffusers, name)(**LINEAR, prediction_type=prediction, timestep_spacing=spacing)
    both(scheduler, unet, discrete(scheduler.alphas_cumprod), solver, 12)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching(unet: torch.nn.Module, shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    both(scheduler, unet, flow(shift=shift), "ddim", 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ddim_in_low_precision_on_the_device(unet: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """The same comparison in the network's own precision; only the network runs in it, never the levels."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    scheduler = diffusers.DDIMScheduler(**LINEAR, clip_sample=False, prediction_type="v_prediction")
    network = diffusers.UNet2DModel.from_config(unet.config)
    network.load_state_dict(unet.state_dict())
    network = network.to(device, dtype).eval().requires_grad_(False)
    noise = randn(2, 2, 8, 8, seed=3).float()
    theirs, _ = reference(scheduler, lambda x, t: network(x.to(dtype), t.to(device)), noise.to(device), 10)
    denoise = adapted(network, discrete(scheduler.alphas_cumprod), "v_prediction")
    run = solve(denoise, noise, Levels.from_scheduler(scheduler, 10), solver="ddim", progress=False)
    assert run.final.dtype == torch.float32
    assert rel(run.final.cpu(), theirs.float().cpu()) < (1e-5 if dtype == torch.float32 else 2e-2)
    exact = solve(
        adapted(unet, discrete(scheduler.alphas_cumprod), "v_prediction"),
        noise.double(),
        Levels.from_scheduler(scheduler, 10),
        solver="ddim",
        progress=False,
    )
    assert rel(run.final.cpu(), exact.final.cpu()) < (1e-5 if dtype == torch.float32 else 5e-2)


# levels


@pytest.mark.parametrize("n", [10, 20, 51])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_ddim_levels_are_ours(spacing: str, n: int) -> None:
    theirs = Levels.from_scheduler(diffusers.DDIMScheduler(**LINEAR, timestep_spacing=spacing), n)
    ours = Levels.of(vp_linear(), n, spacing=spacing)  # type: ignore[arg-type]
    assert len(theirs) == len(ours) == n + 1
    assert rel(theirs.alpha, ours.alpha) < 1e-5 and rel(theirs.sigma, ours.sigma) < 1e-5
    assert spacing in repr(theirs) and spacing in repr(ours)


def test_offset_of_leading_levels() -> None:
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
    theirs = Levels.from_scheduler(diffusers.DDIMScheduler(**config, timestep_spacing="leading"), 50)
    ours = Levels.of(scaled_linear(), 50, spacing="leading", offset=1)
    assert rel(theirs.alpha, ours.alpha) < 1e-5


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_euler_and_heun_levels_are_ours(spacing: str) -> None:
    ours = Levels.of(vp_linear(), 25, spacing=spacing)  # type: ignore[arg-type]
    for name in ("EulerDiscreteScheduler", "HeunDiscreteScheduler"):
        theirs = Levels.from_scheduler(getattr(diffusers, name)(**LINEAR, timestep_spacing=spacing), 25)
        assert rel(theirs.sigma, ours.sigma) < 1e-5 and rel(theirs.alpha, ours.alpha) < 1e-5


def test_edm_levels_are_ours() -> None:
    """The EDM scheduler's grid is Karras', with the published ends."""
    theirs = Levels.from_scheduler(diffusers.EDMEulerScheduler(), 18).to("ve")
    ours = Levels.of(edm(), 18)
    assert rel(theirs.sigma, ours.sigma) < 1e-5
    karras = Levels.of(edm(), 18, spacing="karras")
    assert rel(karras.sigma, ours.sigma) < 1e-12


def test_flow_levels_may_be_shifted_twice() -> None:
    """At shift 1 the scheduler's levels are linspace(1, 1/1000, n). With a shift it shifts sigma_min a second time."""
    plain = Levels.from_scheduler(diffusers.FlowMatchEulerDiscreteScheduler(), 10)
    want = torch.cat([torch.linspace(1, 1e-3, 10, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    assert rel(plain.sigma, want) < 1e-6 and rel(plain.alpha, 1 - want) < 1e-6
    shifted = Levels.from_scheduler(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), 10)

    def once(s: torch.Tensor) -> torch.Tensor:
        return 3 * s / (1 + 2 * s)

    last = once(torch.tensor(1e-3, dtype=torch.float64))
    again = once(torch.linspace(1, float(last), 10, dtype=torch.float64))
    assert rel(shifted.sigma[:-1], again) < 1e-6
    assert rel(shifted.sigma[:-1], once(want[:-1])) > 1e-3


@pytest.mark.parametrize("name", ["PNDMScheduler", "UniPCMultistepScheduler", "DDPMScheduler", "LMSDiscreteScheduler"])
def test_levels_of_other_schedulers_run_from_noisy_to_clean(name: str) -> None:
    scheduler = getattr(diffusers, name)(**LINEAR)
    before = scheduler.num_inference_steps
    levels = Levels.from_scheduler(scheduler, 20)
    assert levels.steps >= 20 and name in repr(levels)
    assert float(levels.ratio[0]) > 90 and float(levels.ratio[-1]) < 0.0101
    assert scheduler.num_inference_steps == before  # it was only read


def test_what_is_no_scheduler_is_refused() -> None:
    with pytest.raises(ValueError, match="not a diffusers scheduler"):
        Levels.from_scheduler(object(), 10)


# the exact solution as judge

D = 32
LAM = torch.logspace(-3, 1, D, dtype=torch.float64)
GAUSSIAN = Gaussian(torch.zeros(D).double(), torch.eye(D).double(), LAM)


def error_of(scheduler: Any, n: int = 20) -> tuple[float, int]:
    """Relative error of a scheduler against the exact flow of the Gaussian, and its network calls."""
    alpha, sigma = vp_linear().table()
    x = randn(64, D, seed=4)
    exact = GAUSSIAN.flow(x, frm=Levels.from_scheduler(scheduler, n)[0])
    scheduler.set_timesteps(n)
    for t in scheduler.timesteps:
        a, s = float(alpha[int(t)]), float(sigma[int(t)])
        x = scheduler.step((x - a * GAUSSIAN(x, a, s)) / s, t, x).prev_sample
    return rel(x, exact), len(scheduler.timesteps)


def our_error(levels: Levels, solver: str) -> float:
    x = randn(64, D, seed=4)
    run = solve(GAUSSIAN, x, levels, solver=solver, progress=False)
    return rel(run.final, GAUSSIAN.flow(x, frm=levels[0]))


def test_leaderboard_on_the_exact_gaussian() -> None:
    """20 steps, leading spacing: the order of the solvers, and the numbers."""
    ours = Levels.from_scheduler(diffusers.DPMSolverMultistepScheduler(**LINEAR, timestep_spacing="leading"), 20)
    peers = {
        name: error_of(getattr(diffusers, f"{name}Scheduler")(**LINEAR, timestep_spacing="leading"))
        for name in ("UniPCMultistep", "DEISMultistep", "PNDM")
    }
    board = {
        "ddim": (our_error(ours, "ddim"), 0.081),
        "dpm++": (our_error(ours, "dpmpp2m"), 0.030),
        "unipc": (peers["UniPCMultistep"][0], 0.029),
        "heun": (our_error(ours, "heun"), 0.028),
        "deis": (peers["DEISMultistep"][0], 0.013),
        "pndm": (peers["PNDM"][0], 0.012),
    }
    for name, (error, reported) in board.items():
        assert error == pytest.approx(reported, rel=0.12), name
    errors = [error for error, _ in board.values()]
    assert errors == sorted(errors, reverse=True)
    assert peers["PNDM"][1] == 29  # 20 steps asked for, 29 network calls made


def test_ddim_of_diffusers_errs_with_linspace() -> None:
    scheduler = diffusers.DDIMScheduler(**LINEAR, clip_sample=False, timestep_spacing="linspace")
    theirs, _ = error_of(scheduler)
    ours = our_error(Levels.from_scheduler(scheduler, 20), "ddim")
    assert theirs > 1.15 * ours
    assert ours == pytest.approx(0.085, abs=4e-3) and theirs == pytest.approx(0.105, abs=4e-3)


# the network in other coordinates


def test_vp_ve_and_flow_coordinates_make_one_image_of_one_network(unet: torch.nn.Module) -> None:
    levels, noise = Levels.of(vp_linear(), 12), randn(2, 2, 8, 8, seed=5)
    denoise = adapted(unet, vp_linear(), "v_prediction")
    for solver in ("ddim", "heun", "dpmpp2m", "ancestral"):
        images = []
        for coordinates in ("vp", "ve", "flow"):
            moved = levels.to(coordinates)
            start = noise * float(moved.alpha[0] / levels.alpha[0])
            images.append(solve(denoise, start, moved, solver=solver, progress=False).final)
        assert rel(images[1], images[0]) < 1e-10 and rel(images[2], images[0]) < 1e-10


def test_pure_noise_is_a_legal_start_for_a_network(unet: torch.nn.Module) -> None:
    """A flow-matching network is asked at alpha = 0, where sigma/alpha is infinite; every solver starts there."""
    levels = Levels.of(flow(), 8)
    assert levels[0] == (0.0, 1.0)
    denoise = adapted(unet, flow(), "flow_prediction")
    for solver in ("ddim", "heun", "dpmpp2m", "ancestral"):
        run = solve(denoise, randn(2, 2, 8, 8, seed=6), levels, solver=solver, progress=False)
        assert bool(torch.isfinite(run.x).all())
    x = randn(1, 2, 8, 8, seed=7)
    u = unet(x, torch.tensor([1000.0])).sample
    assert rel(denoise(x, 0.0, 1.0), x - u) < 1e-12


def test_a_discrete_network_is_not_asked_beyond_its_training_range(unet: torch.nn.Module) -> None:
    denoise = adapted(unet, vp_linear(), "epsilon")
    with pytest.raises(ValueError, match=r"was trained from sigma/alpha 0\.01"):
        solve(denoise, randn(1, 2, 8, 8), Levels.of(cosine(), 5), progress=False)
    with pytest.raises(ValueError, match="take levels inside its range"):
        denoise(randn(1, 2, 8, 8), 1.0, math.sqrt(2) * 300)
