"""Recording any pipeline: its own images, aligned trajectories, kicks, starts, and the Gaussian of what it paints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline
from pipelines import embedded, stable_diffusion, unet
from torch import Tensor

import painters
from painters import Frames, Levels
from painters.models.moments import FIRST
from painters.sampling import move

KINDS = ("sd15", "sdxl", "sd3", "flux", "dit", "pixart", "sana")
SEEDS = (3, 4)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


def record(kind: str, **more: Any) -> tuple[painters.Trajectory, Any, Any]:
    """A trajectory, what the call returned, and the pipeline."""
    pipe, options = embedded(kind)
    options |= more.pop("options", {})
    prompt = more.pop("prompt", 7 if kind == "dit" else None)
    return *painters.record(pipe, prompt, **{"steps": 10, "seeds": SEEDS, "options": options} | more), pipe


def apart(a: Tensor, b: Tensor) -> float:
    """The relative distance of two tensors."""
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_pipeline_paints_what_it_paints_under_its_own_scheduler(kind):
    run, made, pipe = record(kind)
    _, options = embedded(kind)
    if kind == "dit":
        theirs = pipe([7, 7], generator=generators(), num_inference_steps=10, output_type="np").images
        assert apart(torch.from_numpy(_decoded(pipe, run.final)), torch.from_numpy(theirs)) < 1e-5
    else:
        both = {key: v.repeat_interleave(2, 0) if isinstance(v, Tensor) else v for key, v in options.items()}
        theirs = pipe(**both, generator=generators(), num_inference_steps=10).images
        assert apart(run.final, theirs) < 1e-5 and torch.equal(made.images, run.final)
    assert not isinstance(pipe.scheduler, painters.PaintersScheduler)
    assert run.nfe == (10 if kind == "flux" else 20) and run.seeds == SEEDS and len(run.levels) == 11
    assert run.meta["pipeline"] == type(pipe).__name__ and run.meta["kept"] == list(range(11))


@pytest.mark.parametrize("cls", [DDIMPipeline, DDPMPipeline])
def test_pixel_pipelines_without_a_text_are_recorded(cls):
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    pipe = cls(unet(in_channels=3, out_channels=3), scheduler)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(batch_size=2, generator=generators(), num_inference_steps=10, output_type="np").images
    run, made = painters.record(pipe, seeds=SEEDS, steps=10, options={"output_type": "np"})
    assert apart(torch.from_numpy(made.images), torch.from_numpy(theirs)) < 1e-5 and run.nfe == 10
    if cls is DDIMPipeline:
        with pytest.raises(ValueError, match=r'eta = 0.5 adds noise, which solver="ddim" does not: take "ancestral"'):
            painters.record(pipe, steps=4, options={"eta": 0.5})


def _decoded(pipe: Any, z: Tensor) -> Any:
    with torch.no_grad():
        images = pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample
    return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_the_same_noise_in_every_pipeline_and_estimates_are_those_of_their_states(kind):
    run, _, pipe = record(kind)
    noise = painters.noise(SEEDS, (4, 8, 8))
    if kind == "flux":
        noise = pipe._pack_latents(noise, 2, 4, 8, 8)
    assert torch.equal(run.x[0], noise)
    for i, (here, there) in enumerate(zip(run.levels, list(run.levels)[1:])):
        assert apart(move(run.x[i], run.x0[i], here, there), run.x[i + 1]) < 1e-5


def test_half_precision_starts_from_the_same_noise():
    pipe, options = embedded("sd15")
    half = {key: v.bfloat16() if isinstance(v, Tensor) else v for key, v in options.items()}
    run, made = painters.record(pipe.to(dtype=torch.bfloat16), steps=2, seeds=SEEDS, options=half)
    assert torch.equal(run.x[0], painters.noise(SEEDS, (4, 8, 8)).bfloat16().float())
    assert made.images.dtype == torch.bfloat16


def test_a_prompt_is_painted_once_for_each_seed_alone_or_in_a_batch(tmp_path):
    pipe = stable_diffusion(tmp_path)
    options = {"guidance_scale": 3.0, "negative_prompt": "ugly", "output_type": "pt", "height": 16, "width": 16}
    how = {"steps": 3, "solver": "heun", "options": options}
    run, made = painters.record(pipe, "a red house", seeds=SEEDS, **how)
    alone, _ = painters.record(pipe, "a red house", seeds=SEEDS[1:], **how)
    two, _ = painters.record(pipe, ["a blue house", "a red house"], seeds=SEEDS, **how)
    assert made.images.shape == (2, 3, 16, 16)
    assert run.meta["prompt"] == "a red house" and run.meta["guidance_scale"] == 3.0
    assert apart(alone.final, run.final[1:]) < 1e-4 and apart(two.final[1:], run.final[1:]) < 1e-4
    assert apart(two.final[:1], run.final[:1]) > 1e-3
    listed, _ = painters.record(pipe, ["a red house"], seeds=SEEDS, **how)
    assert torch.equal(listed.final, run.final)
    assert painters.Trajectory.load(run.save(tmp_path / "run.safetensors")).meta == run.meta


@pytest.mark.parametrize(("kind", "level"), [("sd15", 0), ("sd15", 10), ("flux", 0), ("flux", 4), ("dit", 4)])
def test_a_kick_moves_the_state_at_its_level_and_changes_only_what_follows(kind, level):
    plain, _, _ = record(kind)
    direction = torch.ones(plain.x.shape[2:])
    run, _, _ = record(kind, kick=(level, direction, 0.5))
    assert torch.equal(run.x[:level], plain.x[:level]) and torch.equal(run.x0[:level], plain.x0[:level])
    assert apart(run.x[level] - plain.x[level], 0.5 * direction.expand_as(run.x[level])) < 1e-5
    assert apart(run.final, plain.final) > 1e-4 and run.meta["kick"] == [level, 0.5]
    each, _, _ = record(kind, kick=(level, torch.stack([direction, 0 * direction]), 0.5))
    assert apart(each.final[:1], run.final[:1]) < 1e-5 and apart(each.final[1:], plain.final[1:]) < 1e-5


@pytest.mark.parametrize("kind", ["sd15", "sd3", "flux"])
def test_a_run_goes_on_from_a_state_it_is_given(kind):
    run, _, _ = record(kind)
    rest, _, _ = record(kind, start=(6, run.x[6]))
    assert torch.equal(rest.x[0], run.x[6]) and apart(rest.final, run.final) < 1e-6
    assert rest.meta["kept"] == [6, 7, 8, 9, 10] and rest.nfe == run.nfe * 4 // 10
    kicked, _, _ = record(kind, start=(6, run.x[6]), kick=(6, run.x[6], 0.1))
    assert apart(kicked.x[0], 1.1 * run.x[6]) < 1e-6


def test_frames_save_memory_and_may_project():
    full, _, _ = record("sd15")
    run, _, _ = record("sd15", save=Frames(every=4))
    kept = [0, 4, 8, 10]
    assert run.meta["kept"] == kept and torch.equal(run.x, full.x[kept]) and torch.equal(run.x0, full.x0[kept[:-1]])
    ends, _, _ = record("sd15", save=Frames(every=None, fn=lambda x: x.mean((1, 2, 3), keepdim=True)))
    assert ends.x.shape == (2, 2, 1, 1, 1) and ends.meta["projected"]


def test_what_cannot_be_recorded_is_said_and_the_scheduler_is_put_back():
    pipe, options = embedded("dit")
    own, x = pipe.scheduler, torch.zeros(1, 4, 8, 8)
    with pytest.raises(ValueError, match="takes no state to start from"):
        painters.record(pipe, 7, start=(1, x))
    with pytest.raises(ValueError, match="states from level 1 to 2"):
        painters.record(pipe, 7, steps=2, kick=(0, x, 1.0))
    with pytest.raises(ValueError, match="states from level 1 to 2"):
        painters.record(pipe, 7, steps=2, kick=(3, x, 1.0))
    with pytest.raises(ValueError, match="latents is no option"):
        painters.record(pipe, 7, options={"latents": x})
    with pytest.raises(ValueError, match="a function is no pipeline"):
        painters.record(lambda x: x)
    assert pipe.scheduler is own
    pipe, options = embedded("sd15")
    own = pipe.scheduler
    with pytest.raises(RuntimeError):
        painters.record(pipe, start=(1, torch.zeros(1, 3, 8, 8)), options=options)
    assert pipe.scheduler is own and "prepare_latents" not in vars(pipe) and not pipe.unet._forward_hooks


def test_prompts_and_embeddings_are_one_for_all_seeds_or_as_many(tmp_path):
    pipe, options = embedded("sd15")
    options |= {"guidance_scale": 1.0}
    one = options["prompt_embeds"]
    both = options | {"prompt_embeds": torch.cat([one, -one])}
    run, _ = painters.record(pipe, steps=2, seeds=SEEDS, options=both)
    for i, sign in enumerate((1, -1)):
        alone, _ = painters.record(
            pipe, steps=2, seeds=SEEDS[i : i + 1], options=options | {"prompt_embeds": sign * one}
        )
        assert apart(run.final[i : i + 1], alone.final) < 1e-5
    for seeds in ((0,), (0, 1, 2)):
        with pytest.raises(ValueError, match=rf"prompt_embeds has 2 rows for {len(seeds)} seeds: give one for all"):
            painters.record(pipe, steps=2, seeds=seeds, options=both)
    texts, more = stable_diffusion(tmp_path), {"output_type": "latent"}
    for prompt, options in ((["a", "b"], {}), ([], {}), ("a", {"negative_prompt": ["b", "c"]})):
        with pytest.raises(ValueError, match=r"prompt has [02] rows for 3 seeds: give one for all"):
            painters.record(texts, prompt, steps=2, seeds=range(3), options=more | options)


def test_a_class_out_of_a_data_set_is_a_class():
    run, _, _ = record("dit", steps=2)
    assert torch.equal(record("dit", steps=2, prompt=np.int64(7))[0].final, run.final)
    assert apart(record("dit", steps=2, prompt=np.int64(6))[0].final, run.final) > 1e-3


def test_a_compiled_network_is_counted_as_it_is(tmp_path):
    pipe = stable_diffusion(tmp_path)
    how: dict[str, Any] = {"steps": 2, "options": {"output_type": "latent", "height": 16, "width": 16}}
    run, _ = painters.record(pipe, "a red house", **how)
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    compiled, _ = painters.record(pipe, "a red house", **how)
    assert compiled.nfe == run.nfe == 4 and apart(compiled.final, run.final) < 1e-5


def test_one_prompt_is_one_whatever_it_is(tmp_path):
    pipe = stable_diffusion(tmp_path)
    how: dict[str, Any] = {"steps": 2, "rank": 2, "options": {"height": 16, "width": 16}}
    found = painters.moments_of(pipe, "red", 4, **how)
    assert list(found) == ["red"] and torch.equal(
        found["red"].mu, painters.moments_of(pipe, ["red"], 4, **how)["red"].mu
    )
    bare, options = embedded("sd15")
    assert list(painters.moments_of(bare, None, 4, steps=2, options=options)) == [None]
    dit, _ = embedded("dit")
    assert list(painters.moments_of(dit, 7, 4, steps=2)) == [7]


def test_moments_are_those_of_the_images_of_a_prompt_and_a_folder_goes_on(tmp_path):
    pipe, _ = embedded("dit")
    how: dict[str, Any] = {"steps": 2, "batch": 4, "options": {"guidance_scale": 2.0}}
    found = painters.moments_of(pipe, [3, 7], 10, rank=2, **how)
    seeds = range(FIRST, FIRST + 10)
    run, _ = painters.record(pipe, 7, solver="dpmpp2m", steps=2, seeds=seeds, options={"guidance_scale": 2.0})
    states = run.final.flatten(1).double()
    assert list(found) == [3, 7] and apart(found[7].mu, states.mean(0)) < 1e-5
    assert float(found[7].lam[0]) == pytest.approx(
        float(torch.linalg.eigvalsh(states.T.cov(correction=0))[-1]), rel=1e-4
    )
    assert apart(found[3].mu, found[7].mu) > 1e-3

    calls: list[int] = []
    hook = pipe.transformer.register_forward_hook(lambda module, args, out: calls.append(1))
    painters.moments_of(pipe, [7], 8, rank=2, folder=tmp_path, **how)
    made = len(calls)
    kept = painters.moments_of(pipe, [7], 10, rank=2, folder=tmp_path, **how)
    assert made == 4 and len(calls) == 6 and apart(kept[7].mu, found[7].mu) < 1e-5
    hook.remove()
    with pytest.raises(ValueError, match="holds another run"):
        painters.moments_of(pipe, [7], 8, folder=tmp_path, **how | {"steps": 3})
    pipe.transformer.proj_out_2.weight.data.mul_(2.0)
    with pytest.raises(ValueError, match="weights"):
        painters.moments_of(pipe, [7], 8, folder=tmp_path, **how)


def test_a_run_with_moments_is_nearer_to_a_fine_one():
    """On a pipeline whose data are Gaussian: its network is the exact denoiser of one."""
    pipe, options = embedded("sd15")
    spread = torch.linspace(2.0, 0.1, 256, dtype=torch.float64)
    gaussian = painters.Gaussian(torch.zeros(256, dtype=torch.float64), torch.eye(256, dtype=torch.float64), spread**2)
    alphas = pipe.scheduler.alphas_cumprod.double()

    def epsilon(module: Any, args: Any, kwargs: Any, output: Any) -> tuple[Tensor]:
        a = alphas[int(args[1])]
        return ((args[0] - a.sqrt() * gaussian(args[0], float(a.sqrt()), float((1 - a).sqrt()))) / (1 - a).sqrt(),)

    hook = pipe.unet.register_forward_hook(epsilon, with_kwargs=True)
    how: dict[str, Any] = {"seeds": SEEDS, "options": options | {"guidance_scale": 1.0}}
    run, _ = painters.record(pipe, steps=5, solver="expint", moments=gaussian, **how)
    plain, _ = painters.record(pipe, steps=5, solver="dpmpp2m", **how)
    hook.remove()
    levels = Levels.from_scheduler(pipe.scheduler, 5)
    last = float(alphas[0].sqrt()), float((1 - alphas[0]).sqrt())  # where training ended, and an image is read
    exact = gaussian(gaussian.flow(run.x[0], frm=levels[0], to=last), *last)
    assert apart(run.final, exact) < 1e-4 < 1e-2 < apart(plain.final, exact)
