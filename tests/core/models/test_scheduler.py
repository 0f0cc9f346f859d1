"""The scheduler in the place of others: the same solvers as everywhere, and every setting that pipelines pass."""

from __future__ import annotations

import copy
import inspect
import math
import os
import pickle
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
)
from pipelines import SCALED, embedded, stable_diffusion
from torch import Tensor

import painters
from painters import Gaussian, Levels, PaintersScheduler
from painters.denoiser import column, endpoint
from painters.models.folders import training_of
from painters.sampling import paint_on, solve

SOLVERS = ("ddim", "heun", "dpmpp2m", "ancestral", "expint")
SEEDS = (3, 4)
SHAPE = (4, 8, 8)


def apart(a: Tensor, b: Tensor) -> float:
    """The relative distance of two tensors."""
    return float((a - b).norm() / b.norm())


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds or SEEDS]


def both(options: dict[str, Any]) -> dict[str, Any]:
    """Options with an embedding for each of two images."""
    return {key: v.repeat_interleave(2, 0) if isinstance(v, Tensor) else v for key, v in options.items()}


def gaussian() -> Gaussian:
    torch.manual_seed(0)
    return Gaussian.of(0.1 * torch.randn(256), torch.diag(torch.linspace(0.1, 2.0, 256)), rank=20)


def denoiser(pipe: Any, options: dict[str, Any], guidance: float) -> Any:
    """The network of a tiny Stable Diffusion 1.5 or 3 as a denoiser, written apart from the scheduler."""
    known = training_of(pipe.scheduler)

    def out(x: Tensor, t: Tensor, which: str) -> Tensor:
        text = options[f"{which}prompt_embeds"].expand(len(x), -1, -1)
        if hasattr(pipe, "unet"):
            return pipe.unet(x, t, encoder_hidden_states=text).sample
        pooled = options[f"{which}pooled_prompt_embeds"].expand(len(x), -1)
        return pipe.transformer(x, timestep=t, encoder_hidden_states=text, pooled_projections=pooled).sample

    @torch.no_grad()
    def denoise(x: Tensor, alpha: Any, sigma: Any) -> Tensor:
        t = known.schedule.time(column(alpha, x), column(sigma, x)).expand(len(x))
        a, s = (column(v, x).to(x) for v in (alpha, sigma))
        t = t.long() if hasattr(pipe, "unet") else t.float()
        guided = out(x, t, "")
        if guidance != 1.0:
            without = out(x, t, "negative_")
            guided = without + guidance * (guided - without)
        return endpoint(x, guided, a, s, prediction=known.prediction)

    denoise.schedule = known.schedule  # pyright: ignore[reportFunctionMemberAccess]
    return denoise


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("kind", "guidance"), [("sd15", 3.0), ("sd3", 1.0)])
def test_a_solver_in_a_pipeline_is_the_solver_of_solve(kind, guidance, solver):
    pipe, options = embedded(kind)
    moments = gaussian() if solver == "expint" else None
    how: dict[str, Any] = {"solver": solver, "seeds": SEEDS}
    options |= {"guidance_scale": guidance}
    run, _ = painters.record(pipe, steps=5, moments=moments, options=options, **how)
    levels = Levels.from_scheduler(pipe.scheduler, 5)
    exact = solve(denoiser(pipe, options, guidance), run.x[0], levels, surrogate=moments, progress=False, **how)
    assert apart(run.final, exact.final) < 1e-5 and apart(run.x0, exact.x0) < 1e-5 and apart(run.x, exact.x) < 1e-5
    assert torch.equal(run.levels.alpha, exact.levels.alpha)
    # from pure noise Heun's first step asks once, and the pipeline's second call at its end is in vain
    unused = solver == "heun" and kind == "sd3"
    assert run.nfe == (exact.nfe + unused) * (2 if guidance > 1 else 1)


def test_heun_asks_where_the_last_level_is_not_clean():
    pipe, options = embedded("sd15")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, set_alpha_to_one=False)
    options |= {"guidance_scale": 1.0}
    run, _ = painters.record(pipe, steps=4, seeds=SEEDS, solver="heun", options=options)
    levels = Levels.from_scheduler(pipe.scheduler, 4)
    exact = solve(denoiser(pipe, options, 1.0), run.x[0], levels, solver="heun", progress=False)
    assert levels.sigma[-1] > 0 and run.nfe == exact.nfe == 8 and apart(run.final, exact.final) < 1e-5


@pytest.mark.parametrize(
    "cls", [EulerDiscreteScheduler, HeunDiscreteScheduler, diffusers.KDPM2DiscreteScheduler, PNDMScheduler]
)
def test_states_mean_the_same_whichever_scheduler_was_there(cls):
    """Euler, Heun and KDPM2 hold states in other units, with another size of their noise, and list other times."""
    pipe, options = embedded("sd15")
    options = both(options)
    leading = {"timestep_spacing": "leading"}
    more = {"skip_prk_steps": True} if cls is PNDMScheduler else leading
    pipe.scheduler = cls(**SCALED, steps_offset=1, **more)
    run, _ = painters.record(pipe, steps=10, seeds=SEEDS, options=options)
    theirs = cls if cls is EulerDiscreteScheduler else DDIMScheduler
    pipe.scheduler = theirs.from_config(pipe.scheduler.config, clip_sample=False, timestep_spacing="leading")
    images = pipe(**options, num_inference_steps=10, generator=generators()).images
    # PNDM ends at the level of its first time
    assert apart(run.final, images) < (0.05 if cls is PNDMScheduler else 1e-5)


@pytest.mark.parametrize("given", [{"sigmas": [10.0, 3.0, 1.0, 0.3, 0.0]}, {"timesteps": [900, 500, 200, 10]}])
def test_sigmas_and_timesteps_of_the_call_are_followed(given):
    pipe, options = embedded("sd15")
    pipe.scheduler = EulerDiscreteScheduler(**SCALED, timestep_spacing="leading")
    run, _ = painters.record(pipe, seeds=SEEDS, options=options | given)
    images = pipe(**both(options), **given, generator=generators()).images
    assert torch.allclose(run.levels.ratio, pipe.scheduler.sigmas.double(), rtol=1e-6)
    assert run.levels.steps == 4 and apart(run.final, images) < 1e-5


def test_sigmas_and_shifts_of_flow_matching_are_followed():
    pipe, options = embedded("flux")
    sigmas = [1.0, 0.7, 0.2]
    run, _ = painters.record(pipe, seeds=SEEDS, options=options | {"sigmas": sigmas})
    images = pipe(**both(options), sigmas=sigmas, generator=generators()).images
    assert apart(run.final, images) < 1e-5 and run.levels.steps == 3 and float(run.levels.sigma[1]) != 0.7
    pipe, options = embedded("sd3")
    before, _ = painters.record(pipe, steps=4, seeds=SEEDS, options=options)
    pipe.scheduler.set_shift(7.0)
    run, _ = painters.record(pipe, steps=4, seeds=SEEDS, options=options)
    assert apart(run.final, pipe(**both(options), num_inference_steps=4, generator=generators()).images) < 1e-5
    assert apart(run.final, before.final) > 1e-3


@pytest.mark.parametrize("kind", ["sd15", "sd3"])
@pytest.mark.parametrize("solver", ["ddim", "heun"])
def test_image_to_image_begins_where_its_strength_says(kind, solver):
    pipe, options = embedded(kind)
    cls = StableDiffusionImg2ImgPipeline if kind == "sd15" else StableDiffusion3Img2ImgPipeline
    parts = {key: part for key, part in pipe.components.items() if key != "image_encoder" or kind == "sd15"}
    pipe = cls(**parts, **({"requires_safety_checker": False} if kind == "sd15" else {}))
    pipe.set_progress_bar_config(disable=True)
    size = {"height", "width"} if kind == "sd15" else set()
    options = {key: v for key, v in options.items() if key not in size}
    options |= {"image": torch.rand(2, 3, 16, 16), "strength": 0.6, "guidance_scale": 1.0}
    run, _ = painters.record(pipe, steps=10, seeds=SEEDS, solver=solver, options=options)
    levels = Levels.from_scheduler(pipe.scheduler, 10)
    assert run.meta["kept"] == [4, 5, 6, 7, 8, 9, 10] and torch.equal(run.levels.sigma, levels.sigma[4:])
    if solver == "ddim":
        images = pipe(**both(options) | {"image": options["image"]}, num_inference_steps=10, generator=generators())
        assert apart(run.final, images.images) < 1e-5
    exact = paint_on(denoiser(pipe, options, 1.0), run.x[0], levels, start=4, solver=solver)
    assert apart(run.final, exact) < 1e-5 and run.nfe == (6 if solver == "ddim" else 11)


def test_inpainting_keeps_what_it_is_told_to_keep():
    """It changes the state after every step, and noises the image again at every level."""
    pipe, options = embedded("sd15")
    pipe = StableDiffusionInpaintPipeline(**pipe.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1.0
    options |= {"image": torch.rand(1, 3, 16, 16), "mask_image": mask, "guidance_scale": 1.0}
    run, _ = painters.record(pipe, steps=5, seeds=SEEDS, options=options)
    images = pipe(**both(options) | {"image": options["image"]}, num_inference_steps=5, generator=generators()).images
    assert apart(run.final[..., :4], images[..., :4]) < 1e-5  # the other half is the image, put back after the run


@pytest.mark.parametrize("name", ["KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"])
@pytest.mark.parametrize("how", [{}, {"timestep_spacing": "leading"}, {"use_karras_sigmas": True}])
def test_of_times_between_the_levels_none_is_asked(name, how):
    """KDPM2 lists a time between any two of its levels, at which its own steps ask and ours do not."""
    scheduler = PaintersScheduler.like(getattr(diffusers, name)(**SCALED, **how))
    scheduler.set_timesteps(6)
    theirs = scheduler.base.timesteps  # those between are at odd places; the ancestral one's come close to the next
    assert scheduler.levels.steps == 6 and torch.allclose(scheduler.timesteps, theirs[::2], atol=0.6)
    euler = EulerDiscreteScheduler(**SCALED, **how)
    euler.set_timesteps(6)
    assert torch.allclose(scheduler.timesteps.double(), euler.timesteps.double(), atol=0.6)
    assert torch.allclose(scheduler.levels.ratio, euler.sigmas.double(), rtol=1e-5)


def test_levels_that_go_down_by_less_than_a_time_share_it():
    """Of 999 levels in the spacing of Karras many lie between two times, and a scheduler that rounds repeats these."""
    base = diffusers.DPMSolverMultistepScheduler(**SCALED, use_karras_sigmas=True)
    scheduler = PaintersScheduler.like(base)
    scheduler.set_timesteps(999)
    exact = training_of(base).schedule.time(*(part[:-1] for part in (scheduler.levels.alpha, scheduler.levels.sigma)))
    assert len(scheduler.timesteps) == 999 and float((scheduler.timesteps - exact).abs().max()) < 0.6


def test_times_that_are_not_those_of_the_levels_are_refused():
    """Flow matching shifts the levels of given times, and asks at the times as given."""
    scheduler = PaintersScheduler.like(FlowMatchEulerDiscreteScheduler(shift=3.0))
    with pytest.raises(ValueError, match="lists no time for level 1") as error:
        scheduler.set_timesteps(timesteps=[1000.0, 250.0])
    assert "\n" not in str(error.value)
    scheduler.set_timesteps(sigmas=[1.0, 0.25])
    assert scheduler.timesteps.tolist() == pytest.approx([1000.0, 500.0])
    scheduler = PaintersScheduler.like(FlowMatchEulerDiscreteScheduler())
    scheduler.set_timesteps(timesteps=[1000.0, 250.0])
    assert scheduler.timesteps.tolist() == [1000.0, 250.0] and scheduler.levels.sigma.tolist() == [1.0, 0.25, 0.0]


def test_euler_trained_on_the_logarithm_of_the_noise_is_asked_there():
    """As of Stable Video Diffusion: its times are ln(sigma) / 4 and no index of training."""
    how: dict[str, Any] = {"prediction_type": "v_prediction", "timestep_type": "continuous", "use_karras_sigmas": True}
    base = EulerDiscreteScheduler(**SCALED, **how)
    scheduler = PaintersScheduler.like(base, solver="heun")
    scheduler.set_timesteps(sigmas=[12.0, 3.0, 0.5, 0.2])
    assert scheduler.timesteps.tolist() == pytest.approx([math.log(s) / 4 for s in (12, 3, 3, 0.5, 0.5, 0.2)])
    schedule = training_of(base).schedule
    assert float(schedule.time(*(torch.tensor([v]) for v in (1.0, 3.0)))) == pytest.approx(math.log(3) / 4)
    indexed = PaintersScheduler.like(EulerDiscreteScheduler(**SCALED), solver="heun")
    indexed.set_timesteps(sigmas=[12.0, 3.0, 0.5, 0.2])
    alpha, sigma = indexed.levels.alpha, indexed.levels.sigma
    asked = indexed.timesteps[[0, 1, 3, 5]].double()
    assert torch.allclose(asked, training_of(indexed.base).schedule.time(alpha, sigma), atol=0.01) and asked[-1] > 40


def test_its_levels_are_those_of_the_scheduler_it_replaces():
    base = FlowMatchEulerDiscreteScheduler(shift=3.0)
    want = Levels.from_scheduler(base, 5)
    for how in ({}, {"solver": "heun"}, {"start": 3}):
        scheduler = PaintersScheduler.like(base, **how)
        for _ in range(2):
            found = Levels.from_scheduler(scheduler, 5)
            assert torch.equal(found.sigma, want.sigma) and torch.equal(found.alpha, want.alpha)
            scheduler.set_timesteps(4)
            x = torch.randn(1, *SHAPE)
            scheduler.step(x, scheduler.timesteps[0], x)
        assert torch.equal(Levels.visited_by(scheduler).sigma, Levels.from_scheduler(base, 4).sigma)


def test_noise_is_added_at_the_level_of_a_time():
    scheduler = PaintersScheduler.like(EulerDiscreteScheduler(**SCALED), solver="heun")
    scheduler.set_timesteps(10)
    x, noise = torch.randn(2, *SHAPE), torch.randn(2, *SHAPE)
    times = scheduler.timesteps[[1, 7]]
    noisy = scheduler.add_noise(x, noise, times)
    for i, k in enumerate((1, 4)):
        alpha, sigma = scheduler.levels[k]
        assert torch.allclose(noisy[i], alpha * x[i] + sigma * noise[i])
    assert torch.equal(scheduler.scale_noise(x, times, noise), noisy) and scheduler.init_noise_sigma == 1.0
    halved = times.bfloat16()
    assert not torch.equal(halved, times), "a pipeline in half precision rounds its times"
    assert torch.equal(scheduler.add_noise(x, noise, halved), noisy)
    assert torch.equal(scheduler.scale_model_input(x, times[0]), x)
    with pytest.raises(ValueError, match="none of this run's"):
        scheduler.add_noise(x, noise, torch.tensor([5000.0, 1.0]))


@pytest.mark.parametrize("solver", ["ddim", "heun"])
def test_a_pipeline_that_does_not_say_where_it_begins_is_read_by_its_times(solver):
    made = []
    for begin in (4, None):
        scheduler = PaintersScheduler.like(FlowMatchEulerDiscreteScheduler(shift=3.0), solver=solver)
        scheduler.set_timesteps(8)
        first = 4 * scheduler.order
        if begin is not None:
            scheduler.set_begin_index(first)
        x = painters.noise(SEEDS, SHAPE)
        for t in scheduler.timesteps[first:]:
            x = scheduler.step(torch.tanh(x) * t / 1000, t, x).prev_sample
        made.append(x)
    assert torch.equal(*made)


def test_a_run_takes_its_times_once_and_in_order():
    x = torch.linspace(-1, 1, 256).reshape(1, *SHAPE)
    for solver in ("ddim", "heun"):
        scheduler = PaintersScheduler.like(FlowMatchEulerDiscreteScheduler(shift=3.0), solver=solver)
        for call in (lambda s: s.step(x, 900.0, x), lambda s: s.add_noise(x, x, torch.tensor([900.0]))):
            with pytest.raises(ValueError, match="after set_timesteps"):
                call(scheduler)
        scheduler.set_timesteps(4)
        t = scheduler.timesteps
        scheduler.step(x, t[0], x)
        for wrong in (t[0], t[-1], float(t[0])):
            with pytest.raises(ValueError, match="is not the next of this run"):
                scheduler.step(x, wrong, x)
        for each in t[1:]:  # as pipelines may say them: in half precision, as a number, one for each image
            said = scheduler.step(x, each.bfloat16() if each == t[1] else float(each), x)
        assert torch.isfinite(said.prev_sample).all()
        with pytest.raises(ValueError, match="is not the next of this run"):
            scheduler.step(x, t[-1], x)
        scheduler.set_timesteps(4)
        scheduler.set_begin_index(2)
        with pytest.raises(ValueError, match="is not the next of this run"):
            scheduler.step(x, t[0], x)
        scheduler.step(x, t[2], x)


def test_what_its_base_or_its_steps_do_not_take_is_said():
    pipe, options = embedded("sd15")
    pipe.scheduler = PaintersScheduler.like(pipe.scheduler)
    for name, value in {"timesteps": [900, 500], "sigmas": [9.0, 1.0]}.items():
        with pytest.raises(ValueError, match=f"a DDIMScheduler does not support custom {name}"):
            pipe(**options, **{name: value})
    scheduler = PaintersScheduler.like(FlowMatchEulerDiscreteScheduler())
    scheduler.set_timesteps(3)
    x = torch.zeros(1, *SHAPE)
    with pytest.raises(ValueError, match="per_token_timesteps is not followed here"):
        scheduler.step(x, scheduler.timesteps[0], x, per_token_timesteps=x)
    with pytest.raises(AttributeError, match="a PaintersScheduler has no 'levels', nor has the scheduler"):
        _ = PaintersScheduler.like(scheduler).levels
    assert not hasattr(scheduler, "alphas_cumprod") and hasattr(pipe.scheduler, "alphas_cumprod")


@pytest.mark.parametrize("base", [FlowMatchEulerDiscreteScheduler(shift=3.0), EulerDiscreteScheduler(**SCALED)])
def test_its_sigmas_are_those_of_its_times(base):
    """Pipelines read the sigma of the i-th call, and the next."""
    base.set_timesteps(4)
    every, times = base.sigmas, base.timesteps
    for solver, start, at in (
        ("ddim", 0, [0, 1, 2, 3, 4]),
        ("ddim", 2, [2, 3, 4]),
        ("heun", 0, [0, 1, 1, 2, 2, 3, 3, 4]),
        ("heun", 2, [2, 3, 3, 4]),
    ):
        scheduler = PaintersScheduler.like(base, solver=solver, start=start)
        scheduler.set_timesteps(4)
        assert torch.allclose(scheduler.sigmas, every[at]) and scheduler.sigmas.dtype == every.dtype
        assert torch.allclose(scheduler.timesteps, times[at[:-1]])
    assert not hasattr(PaintersScheduler.like(DDIMScheduler(clip_sample=False)), "sigmas")


def test_of_a_learned_variance_the_first_half_is_the_prediction():
    made = []
    for channels in (4, 8):
        scheduler = PaintersScheduler.like(DDIMScheduler(clip_sample=False))
        scheduler.set_timesteps(5)
        torch.manual_seed(0)
        x, output = torch.randn(2, *SHAPE), torch.randn(2, 8, 8, 8)
        made += [scheduler.step(output[:, :channels], t, x, return_dict=False) for t in scheduler.timesteps[:1]]
    assert torch.equal(made[0][0], made[1][0]) and torch.equal(made[0][1], made[1][1])


def test_generators_of_the_call_drive_the_ancestral_solver():
    pipe, options = embedded("sd15")
    run, _ = painters.record(pipe, steps=4, seeds=SEEDS, solver="ancestral", options=options)
    pipe.scheduler = PaintersScheduler.like(pipe.scheduler, solver="ancestral")
    how: dict[str, Any] = both(options) | {"num_inference_steps": 4}
    listed = pipe(**how, generator=generators()).images
    one, again, other = (pipe(**how, generator=torch.Generator().manual_seed(s)).images for s in (3, 3, 4))
    assert apart(listed, run.final) < 1e-5 and torch.equal(one, again) and apart(one, other) > 0.1
    free = [pipe(**how, latents=run.x[0]).images for _ in range(2)]
    assert apart(*free) > 0.01
    before = torch.get_rng_state()
    pipe.scheduler = PaintersScheduler.like(pipe.scheduler, solver="ddim")
    pipe(**how, latents=run.x[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_start_is_the_level_of_the_latents():
    pipe, options = embedded("flux")
    run, _ = painters.record(pipe, steps=6, seeds=SEEDS, options=options)
    pipe.scheduler = PaintersScheduler.like(pipe.scheduler, start=2)
    images = pipe(**both(options), num_inference_steps=6, latents=run.x[2]).images
    assert apart(images, run.final) < 1e-6
    with pytest.raises(ValueError, match="cannot start at level 2"):
        pipe(**both(options), num_inference_steps=2, latents=run.x[2])


@pytest.mark.parametrize("solver", ["heun", "ancestral", "expint"])
@pytest.mark.parametrize("kind", ["sd15", "flux"])
def test_a_seed_paints_the_same_on_every_device(device, kind, solver):
    made = []
    for where in (torch.device("cpu"), device):
        pipe, options = embedded(kind)
        options = {key: v.to(where) if isinstance(v, Tensor) else v for key, v in options.items()}
        how: dict[str, Any] = {"solver": solver, "moments": gaussian() if solver == "expint" else None}
        run, _ = painters.record(pipe.to(where), steps=4, seeds=SEEDS, options=options, **how)
        assert run.x.device.type == "cpu"
        made.append(run)
    assert torch.equal(made[0].x[0], made[1].x[0]) and apart(made[1].final, made[0].final) < 1e-4


@pytest.mark.parametrize("base", [DDIMScheduler(clip_sample=False), FlowMatchEulerDiscreteScheduler(shift=3.0)])
def test_its_configuration_is_saved_and_loaded_with_its_moments(base, tmp_path):
    scheduler = PaintersScheduler.like(base, solver="expint", moments=gaussian(), start=1)
    scheduler.save_pretrained(tmp_path)
    again = PaintersScheduler.from_pretrained(tmp_path)
    assert dict(again.config)["base"] == dict(scheduler.config)["base"] and type(again.base) is type(base)
    assert (again.config.solver, again.config.start, again.order) == ("expint", 1, 1)
    assert again.config.num_train_timesteps == 1000
    assert apart(again.moments.mu, gaussian().mu) < 1e-6 and apart(again.moments.lam, gaussian().lam) < 1e-6
    for one in (scheduler, again):
        one.set_timesteps(4)
    assert torch.equal(again.timesteps, scheduler.timesteps) and len(again.timesteps) == 3


def test_moments_that_were_left_behind_are_asked_for(tmp_path):
    """The hub is read through a cache as its client lays it out; diffusers fetches the configuration alone."""
    kept = tmp_path / "models--me--painter"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc")
    folder = kept / "snapshots" / "abc"
    base = DDIMScheduler(clip_sample=False)
    scheduler = PaintersScheduler.like(base, solver="expint", moments=gaussian(), start=1)
    scheduler.save_pretrained(folder / "scheduler")
    assert PaintersScheduler.from_pretrained(folder, subfolder="scheduler").moments is not None
    left = [PaintersScheduler.from_config(scheduler.config)]
    left += [PaintersScheduler.from_pretrained("me/painter", "scheduler", cache_dir=tmp_path, local_files_only=True)]
    (folder / "scheduler" / "moments.safetensors").unlink()
    left += [PaintersScheduler.from_pretrained(folder, subfolder="scheduler")]
    for one in [*left, copy.deepcopy(left[0])]:
        assert (one.config.solver, one.start) == ("expint", 1)
        with pytest.raises(ValueError, match="moments of this scheduler are missing"):
            one.set_timesteps(4)
        PaintersScheduler.like(one, solver="expint", moments=gaussian()).set_timesteps(4)
    PaintersScheduler.from_config(scheduler.config, solver="ddim").set_timesteps(4)
    PaintersScheduler.like(base, solver="expint").set_timesteps(4)


def test_a_scheduler_without_moments_leaves_none_behind(tmp_path):
    base = DDIMScheduler(clip_sample=False)
    for moments in (gaussian(), None):
        PaintersScheduler.like(base, solver="expint", moments=moments).save_pretrained(tmp_path)
        again = PaintersScheduler.from_pretrained(tmp_path)
        assert (again.moments is None) == (moments is None)
        assert (tmp_path / "moments.safetensors").is_file() == (moments is not None)
    again.set_timesteps(3)
    assert again.solver.keywords == PaintersScheduler.like(base, solver="expint").solver.keywords != {}


def test_what_is_sent_to_the_hub_has_its_moments(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr("diffusers.configuration_utils.create_repo", lambda name, **how: SimpleNamespace(repo_id=name))
    monkeypatch.setattr(PaintersScheduler, "_upload_folder", lambda self, at, *a, **how: sent.extend(os.listdir(at)))
    scheduler = PaintersScheduler.like(DDIMScheduler(clip_sample=False), solver="expint", moments=gaussian())
    scheduler.save_pretrained(str(tmp_path / "sent"), push_to_hub=True, repo_id="me/painter")
    assert sorted(sent) == ["moments.safetensors", "scheduler_config.json"]


def test_schedulers_are_made_of_its_configuration_as_of_its_base():
    """What was never said is not handed on: another class has defaults of its own."""
    base = PNDMScheduler(**SCALED, skip_prk_steps=True)
    scheduler = PaintersScheduler.like(base, solver="heun", start=2)
    again = PaintersScheduler.from_config(scheduler.config)
    assert type(again.base) is PNDMScheduler and dict(again.config) == dict(scheduler.config)
    assert (again.order, again.start, again.config.solver) == (2, 2, "heun")
    unsaid = scheduler.config["base"]["_use_default_values"]
    assert unsaid == sorted(unsaid) != [], "what a scheduler says of itself is the same in every process"
    other = PaintersScheduler.from_config(scheduler.config, solver="dpmpp2m", start=0)
    assert (other.order, other.start, other.config.solver) == (1, 0, "dpmpp2m")
    for cls in (diffusers.DPMSolverMultistepScheduler, DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler):
        want = cls.from_config(base.config)
        for ours in (scheduler, again, PaintersScheduler.like(scheduler)):
            found = cls.from_config(ours.config)
            names = set(inspect.signature(cls.__init__).parameters) - {"self"}
            assert {name: found.config[name] for name in names} == {name: want.config[name] for name in names}
    assert want.config.skip_prk_steps and cls is PNDMScheduler
    # what came of ours, and goes back: the settings are those of the scheduler that it was
    euler = EulerDiscreteScheduler.from_config(scheduler.config, timestep_spacing="trailing")
    for back in (PaintersScheduler.from_config(euler.config), PaintersScheduler.like(euler)):
        assert type(back.base) is EulerDiscreteScheduler and back.config.timestep_spacing == "trailing"
        assert back.config.solver == "ddim" and not set(back.config.base) & {"base", "solver", "start"}
    with pytest.raises(ValueError, match="None, which diffusers does not know"):
        PaintersScheduler.from_config(base.config)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_copy_has_the_settings_and_begins_a_run_of_its_own(solver):
    """Pipelines that paint sound beside pictures copy their scheduler, before its times are set or after."""
    moments = gaussian() if solver == "expint" else None
    scheduler = PaintersScheduler.like(FlowMatchEulerDiscreteScheduler(shift=3.0), solver=solver, moments=moments)
    scheduler.base.set_shift(5.0)
    scheduler.seeds, seen = SEEDS, []

    def run(one: PaintersScheduler, stop: int | None = None) -> Tensor:
        x = painters.noise(SEEDS, SHAPE)
        for t in one.timesteps[:stop]:
            x = one.step(torch.tanh(x), t, x).prev_sample
        return x

    fresh = [copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))]
    scheduler.set_timesteps(4)
    want = run(scheduler)
    scheduler.watch = lambda i, x, step: (seen.append(i), step.x)[1]
    for one in fresh:
        one.set_timesteps(4)
    half = copy.deepcopy(scheduler)
    scheduler.set_timesteps(4)
    run(scheduler, 3)
    assert seen
    made = [*fresh, half, copy.deepcopy(scheduler), copy.copy(scheduler), pickle.loads(pickle.dumps(scheduler))]
    before = list(seen)
    for one in made:
        assert dict(one.config) == dict(scheduler.config) and torch.equal(one.timesteps, scheduler.timesteps)
        assert torch.equal(run(one), want)
    assert seen == before, "a copy is not watched"
    assert len({id(one.base) for one in made}) == len(made)


def test_a_pipeline_is_saved_and_loaded_with_it(tmp_path):
    pipe = stable_diffusion(tmp_path / "parts", version=2)
    pipe.scheduler = PaintersScheduler.like(pipe.scheduler, solver="heun")
    pipe.save_pretrained(tmp_path / "pipe")
    again = DiffusionPipeline.from_pretrained(tmp_path / "pipe")
    again.set_progress_bar_config(disable=True)
    assert isinstance(again.scheduler, PaintersScheduler) and again.scheduler.order == 2
    how: dict[str, Any] = {"num_inference_steps": 3, "output_type": "latent", "height": 16, "width": 16}
    a, b = (p("a red house", generator=generators(3), **how).images for p in (pipe, again))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("scheduler", "how", "message"),
    [
        (diffusers.EDMEulerScheduler(), {}, "levels of a EDMEulerScheduler are not known"),
        (diffusers.HeliosScheduler(), {}, "levels of a HeliosScheduler are not known"),
        (FlowMatchEulerDiscreteScheduler(invert_sigmas=True), {}, "are not known here"),
        (DDIMScheduler(), {"solver": "unipc"}, "there is no solver 'unipc'"),
        (DDIMScheduler(), {"moments": gaussian()}, "surrogate = .* is an option of the expint solver"),
    ],
)
def test_what_fits_no_pipeline_is_said_in_one_sentence(scheduler, how, message):
    with pytest.raises(ValueError, match=message) as error:
        PaintersScheduler.like(scheduler, **how)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="which diffusers does not know"):
        PaintersScheduler(base={"_class_name": "OfMine"})


def test_clipping_is_left_out_and_said():
    with pytest.warns(UserWarning, match="asks for clip_sample"):
        PaintersScheduler.like(DDIMScheduler())
