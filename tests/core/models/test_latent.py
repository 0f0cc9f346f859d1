"""Latent text-to-image models against diffusers' own pipelines: same noise, same latents, same images."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pipelines
import pytest
import torch
from partners import rel
from safetensors.torch import load_file, save_file

import painters
from painters import Levels, solve
from painters.models import bundled, latent
from painters.models.latent import TextConditioner
from painters.models.registry import BUNDLED

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")

PROMPT, NEGATIVE = "a red house under the sun", "ugly blue tree"
STEPS = 10


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A saved pipeline like Stable Diffusion 1.x (noise) and one like 2.x at 768 (v, zero terminal SNR)."""
    root = tmp_path_factory.mktemp("sd")
    for version in (1, 2):
        pipeline = pipelines.stable_diffusion(root / f"make-{version}", version=version)
        pipeline.save_pretrained(str(root / f"sd-{version}"))
    return {version: root / f"sd-{version}" for version in (1, 2)}


@pytest.fixture
def copy(folders: dict[int, Path], tmp_path: Path) -> Path:
    """A copy of the first pipeline, to be damaged."""
    shutil.copytree(folders[1], tmp_path / "sd")
    return tmp_path / "sd"


def reference(folder: Path) -> Any:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(str(folder))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ddim(folder: Path) -> Any:
    """The pipeline's training, stepped as DDIM steps it."""
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    return diffusers.DDIMScheduler.from_config(config, clip_sample=False)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# the pipelines of diffusers


@pytest.mark.parametrize(("guidance", "negative"), [(1.0, None), (7.5, None), (7.5, NEGATIVE)])
@pytest.mark.parametrize("version", [1, 2])
def test_latents_and_images_are_those_of_the_pipeline(folders, version, guidance, negative):
    folder = folders[version]
    model = painters.load(folder, device="cpu")
    noise = painters.noise([3, 4], model.shape)
    theirs = reference(folder)
    theirs.scheduler = ddim(folder)
    options = {"guidance_scale": guidance, "num_inference_steps": STEPS, "latents": noise}
    words = {"prompt": [PROMPT, "a hill"], "negative_prompt": negative and [negative] * 2}
    latents = theirs(**words, **options, output_type="latent").images
    images = theirs(**words, **options, output_type="pt").images
    denoise = model.denoiser(words["prompt"], guidance=guidance, negative=negative)
    levels = Levels.from_scheduler(ddim(folder), STEPS)
    run = solve(denoise, levels.start(noise), levels, solver="ddim", progress=False)
    assert rel(run.final, latents) < 1e-4
    assert rel(model.decode(run.final), images) < 1e-4
    assert run.nfe == levels.steps * (1 if guidance == 1.0 else 2)


@pytest.mark.parametrize("name", [name for name in bundled() if (BUNDLED / name / "vae").is_dir()])
def test_bundled_latent_models_paint_what_the_pipeline_paints(name):
    folder, model = BUNDLED / name, painters.load(name, device="cpu")
    theirs = reference(folder)
    theirs.scheduler = ddim(folder)
    prompt, noise = model.card["prompts"][0], painters.noise([0], model.shape)
    options = {"guidance_scale": 3.0, "num_inference_steps": STEPS, "latents": noise}
    levels = Levels.from_scheduler(ddim(folder), STEPS)
    ours = solve(model.denoiser(prompt, guidance=3.0), levels.start(noise), levels, solver="ddim", progress=False).final
    assert rel(ours, theirs(prompt, **options, output_type="latent").images) < 1e-4
    assert rel(model.decode(ours), theirs(prompt, **options, output_type="pt").images) < 1e-4


@pytest.mark.parametrize("version", [1, 2])
def test_words_and_guidance_matter_in_the_comparison(folders, version):
    """The agreement above is worth something only if each of its ingredients changes the picture by much more."""
    model = painters.load(folders[version], device="cpu")
    levels = Levels.from_scheduler(ddim(folders[version]), STEPS)
    x = levels.start(painters.noise([3], model.shape))

    def final(*prompt: str, **options: Any) -> torch.Tensor:
        return solve(model.denoiser(*prompt, **options), x, levels, solver="ddim", progress=False).final

    plain = final(PROMPT)
    guided, negative = final(PROMPT, guidance=7.5), final(PROMPT, guidance=7.5, negative=NEGATIVE)
    assert all(rel(other, plain) > 1e-2 for other in (final(), final("a hill"), guided, negative))
    assert rel(negative, guided) > 1e-2


@pytest.mark.parametrize(
    ("name", "solver"), [("EulerDiscreteScheduler", "ddim"), ("DPMSolverMultistepScheduler", "dpmpp2m")]
)
def test_other_solvers_agree_with_the_pipeline(folders, name, solver):
    model, theirs = painters.load(folders[1], device="cpu"), reference(folders[1])
    theirs.scheduler = getattr(diffusers, name).from_config(theirs.scheduler.config, timestep_spacing="trailing")
    levels = Levels.from_scheduler(theirs.scheduler, STEPS)
    noise = painters.noise([5], model.shape)
    latents = theirs(PROMPT, guidance_scale=7.5, num_inference_steps=STEPS, latents=noise, output_type="latent").images
    start = levels.start(noise)
    if name == "EulerDiscreteScheduler":  # with this spacing it starts at sigma noise
        start = start * float(levels.sigma[0])
    ours = solve(model.denoiser(PROMPT, guidance=7.5), start, levels, solver=solver, progress=False)
    assert rel(ours.final, latents) < 1e-4


def test_the_unconditional_denoiser_is_that_of_the_empty_prompt(folders):
    model = painters.load(folders[1], device="cpu")
    x = painters.noise([1], model.shape)
    network, text = model.network, model.text
    t = torch.tensor([500.0])
    alpha, sigma = (float(v[500]) for v in model.schedule.table())
    eps = network(x, t, encoder_hidden_states=text("")).sample
    assert rel(model.denoiser()(x, alpha, sigma), (x - sigma * eps) / alpha) < 1e-5
    assert torch.equal(model.denoiser()(x, alpha, sigma), model.denoiser("")(x, alpha, sigma))


def test_guidance_is_the_stated_law_and_one_forward(folders, monkeypatch):
    model = painters.load(folders[1], device="cpu")
    x = painters.noise([1, 2], model.shape)
    sizes, real, level = [], model.network.forward, model.levels(4)[1]
    monkeypatch.setattr(model.network, "forward", lambda x, *rest: sizes.append(len(x)) or real(x, *rest))
    guided = model.denoiser(PROMPT, guidance=3.0, negative=NEGATIVE)(x, *level)
    with_, without = model.denoiser(PROMPT)(x, *level), model.denoiser(NEGATIVE)(x, *level)
    assert sizes == [4, 2, 2]
    assert rel(guided, without + 3.0 * (with_ - without)) < 1e-5


def test_a_negative_prompt_alone_guides_away_from_it(folders):
    model = painters.load(folders[1], device="cpu")
    x, level = painters.noise([1], model.shape), model.levels(4)[1]
    nothing, ugly = model.denoiser()(x, *level), model.denoiser(NEGATIVE)(x, *level)
    assert rel(model.denoiser(guidance=2.0, negative=NEGATIVE)(x, *level), 2.0 * nothing - ugly) < 1e-5


def test_gradients_pass_through_network_and_vae_on_request(folders):
    model = painters.load(folders[1], device="cpu")
    x = painters.noise([1], model.shape).requires_grad_()
    estimate = model.denoiser(PROMPT, grad=True)(x, *model.levels(4)[1])
    (gradient,) = torch.autograd.grad(model.codec.vae.decode(estimate).sample.sum(), x)
    assert bool(torch.isfinite(gradient).all()) and float(gradient.norm()) > 0
    (gradient,) = torch.autograd.grad(model.decode(x).sum(), x)
    assert float(gradient.norm()) > 0
    assert not model.denoiser(PROMPT)(x, *model.levels(4)[1]).requires_grad


# zero terminal SNR


def test_the_last_training_level_is_pure_noise(folders):
    """There x is noise, the network says v, and the endpoint estimate is -v."""
    model = painters.load(folders[2], device="cpu")
    assert model.prediction == "v_prediction"
    levels = model.levels(5)
    assert levels[0] == (0.0, 1.0) and float(levels.alpha[1]) > 0
    noise = painters.noise([6], model.shape)
    assert torch.equal(levels.start(noise), noise)
    v = model.network(noise, torch.tensor([999.0]), encoder_hidden_states=model.text(PROMPT)).sample
    assert rel(model.denoiser(PROMPT)(noise, 0.0, 1.0), -v) < 1e-6
    for solver in ("ddim", "heun", "dpmpp2m", "ancestral"):
        run = solve(model.denoiser(PROMPT), noise, levels, solver=solver, progress=False)
        assert bool(torch.isfinite(run.x).all())


def test_times_of_a_zero_snr_schedule(folders):
    model = painters.load(folders[2], device="cpu")
    time, (alpha, sigma) = model.schedule.time, model.schedule.table()
    assert torch.equal(time(alpha, sigma), torch.arange(1000, dtype=torch.float64))
    assert torch.equal(time(3 * alpha, 3 * sigma), torch.arange(1000, dtype=torch.float64))
    near = alpha[-2] * torch.tensor([0.75, 0.5, 0.25], dtype=torch.float64)
    times = time(near, (1 - near**2).sqrt())
    assert times.tolist() == pytest.approx([998.25, 998.5, 998.75], abs=1e-9)


def test_pure_noise_is_read_also_from_schedulers_that_avoid_it(folders, tmp_path):
    """Euler and others put alpha^2 = 2^-24 at the last level, because they divide by alpha."""
    shutil.copytree(folders[2], tmp_path / "sd")
    scheduler = diffusers.EulerDiscreteScheduler.from_config(ddim(folders[2]).config)
    assert float(scheduler.alphas_cumprod[-1]) > 0
    shutil.rmtree(tmp_path / "sd" / "scheduler")
    scheduler.save_pretrained(str(tmp_path / "sd" / "scheduler"))
    ours, theirs = (painters.load(f, device="cpu").schedule.table()[0] for f in (tmp_path / "sd", folders[2]))
    assert torch.equal(ours, theirs) and float(ours[-1]) == 0


def test_noise_prediction_from_pure_noise_is_refused(folders, tmp_path):
    shutil.copytree(folders[2], tmp_path / "sd")
    edit(tmp_path / "sd" / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    with pytest.raises(ValueError, match="ends in pure noise"):
        painters.load(tmp_path / "sd")


# the VAE


def test_decode_and_encode_are_the_vaes(folders):
    model, vae = painters.load(folders[1], device="cpu"), reference(folders[1]).vae
    assert model.shape == (4, 8, 8) and model.image_shape == (3, 16, 16)
    z = painters.noise([1, 2, 3], model.shape)
    with torch.no_grad():
        images = (vae.decode(z / 0.7).sample / 2 + 0.5).clamp(0, 1)
        assert rel(model.decode(z), images) < 1e-6
        means = vae.encode(images * 2 - 1).latent_dist.mean * 0.7
    assert rel(model.encode(images), means) < 1e-6
    assert torch.equal(model.encode(images), model.encode(images))
    assert not model.decode(z).requires_grad


def test_a_shift_of_the_latents_is_undone(copy):
    plain = painters.load(copy, device="cpu")
    edit(copy / "vae" / "config.json", shift_factor=0.4)
    shifted = painters.load(copy, device="cpu")
    z = painters.noise([1], plain.shape)
    assert rel(shifted.decode(z), plain.decode(z + 0.4 * 0.7)) < 1e-6
    images = plain.decode(z)
    assert rel(shifted.encode(images), plain.encode(images) - 0.4 * 0.7) < 1e-6


def test_the_vae_works_in_chunks(folders, monkeypatch):
    model = painters.load(folders[1], device="cpu")
    z = painters.noise(range(5), model.shape)
    whole, sizes = model.decode(z), []
    real = model.codec.vae.decode
    monkeypatch.setattr(latent, "CHUNK_PIXELS", 2 * 16 * 16 + 1)
    monkeypatch.setattr(model.codec.vae, "decode", lambda part: sizes.append(len(part)) or real(part))
    assert rel(model.decode(z), whole) < 1e-6 and sizes == [2, 2, 1]
    monkeypatch.setattr(latent, "CHUNK_PIXELS", 1)
    images = model.decode(z)
    assert sizes[3:] == [1] * 5
    assert rel(model.encode(images), torch.cat([model.encode(image[None]) for image in images])) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_images_are_at_least_float32(folders, dtype):
    """Half-precision latents are decoded in float32; the result does not depend on the network's dtype."""
    model = painters.load(folders[1], device="cpu")
    z = painters.noise([1], model.shape).to(dtype)
    images = model.decode(z)
    assert images.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert rel(images, model.decode(z.float())) < 1e-6


def test_wrong_shapes_are_one_sentence(folders):
    model = painters.load(folders[1], device="cpu")
    with pytest.raises(ValueError, match=r"states of this model have shape \(4, 8, 8\), got \(3, 16, 16\)"):
        model.decode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match=r"images of shape \(3, 16, 16\), got \(4, 8, 8\)"):
        model.encode(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"a state of this model has shape \(4, 8, 8\), got \(3, 16, 16\)"):
        model.denoiser()(torch.zeros(1, 3, 16, 16), *model.levels(4)[0])


def test_another_size_is_painted_on_request(folders):
    model = painters.load(folders[1], device="cpu", shape=(4, 12, 4))
    assert model.image_shape == (3, 24, 8)
    levels = model.levels(2)
    run = solve(model.denoiser(), levels.start(painters.noise([0], model.shape)), levels, progress=False)
    assert model.decode(run.final).shape == (1, 3, 24, 8)


# prompts


def test_prompts_are_one_or_one_per_image(folders):
    model = painters.load(folders[1], device="cpu")
    x, level = painters.noise([1, 2], model.shape), model.levels(4)[1]
    together = model.denoiser([PROMPT, "a hill"], guidance=2.0, negative=["", NEGATIVE])(x, *level)
    one = model.denoiser(PROMPT, guidance=2.0)(x[:1], *level)
    other = model.denoiser("a hill", guidance=2.0, negative=NEGATIVE)(x[1:], *level)
    assert rel(together, torch.cat([one, other])) < 1e-5
    with pytest.raises(ValueError, match="3 conditions for a batch of 2"):
        model.denoiser(["a hill"] * 3)(x, *level)


@pytest.mark.parametrize("sizes", [(77, 9), (9, 77)])
def test_the_encoder_reads_no_more_than_it_has_places_for_nor_than_the_tokenizer_makes(sizes):
    tokenizer = SimpleNamespace(model_max_length=sizes[0])
    encoder = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=sizes[1]))
    assert TextConditioner(tokenizer, encoder, torch.device("cpu")).limit == 9


def test_a_prompt_that_is_too_long_is_an_error_not_a_cut(folders):
    model = painters.load(folders[1], device="cpu")
    assert model.text.limit == pipelines.TOKENS
    model.denoiser("a " * (pipelines.TOKENS - 2))
    with pytest.raises(ValueError, match=r"has 13 tokens .* this model reads 12: shorten it") as caught:
        model.denoiser(["a hill", "a " * (pipelines.TOKENS - 1)])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="shorten it"):
        model.denoiser("a hill", guidance=2.0, negative="ugly " * 30)


@pytest.mark.parametrize(
    ("prompt", "options", "says"),
    [
        (3, {}, "a prompt is a text"),
        ([], {}, "a prompt is a text"),
        (["a hill", 3], {}, "a prompt is a text"),
        (None, {"guidance": 3.0}, "needs a prompt"),
        ("a hill", {"negative": NEGATIVE}, "a guidance other than 1"),
    ],
)
def test_prompts_that_cannot_be_taken(folders, prompt, options, says):
    model = painters.load(folders[1], device="cpu")
    with pytest.raises(ValueError, match=says):
        model.denoiser(prompt, **options)


def test_an_encoder_that_reads_the_mask_is_given_it(copy):
    """Padding is hidden where the encoder's configuration says so, as the pipeline does."""
    edit(copy / "text_encoder" / "config.json", use_attention_mask=True)
    theirs = reference(copy).encode_prompt("a hill", torch.device("cpu"), 1, False)[0].detach()
    model = painters.load(copy, device="cpu")
    assert rel(model.text("a hill"), theirs) < 1e-5
    object.__setattr__(model.text.encoder.config, "use_attention_mask", False)
    assert rel(model.text("a hill"), theirs) > 1e-3


# layouts


def test_a_safety_checker_is_neither_needed_nor_read(copy):
    plain = painters.load(copy, device="cpu")
    edit(
        copy / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    (copy / "safety_checker").mkdir()
    (copy / "safety_checker" / "model.safetensors").write_bytes(b"not read")
    checked = painters.load(copy, device="cpu")
    x, level = painters.noise([1], plain.shape), plain.levels(4)[1]
    assert torch.equal(checked.denoiser(PROMPT)(x, *level), plain.denoiser(PROMPT)(x, *level))


def test_half_precision_files_are_cast_to_float32_on_the_cpu(copy):
    plain = painters.load(copy, device="cpu")
    for path in copy.rglob("*.safetensors"):
        save_file({key: value.half() for key, value in load_file(path).items()}, path, metadata={"format": "pt"})
    half = painters.load(copy, device="cpu")
    parts = (half.network, half.codec.vae, half.text.encoder)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32} and half.dtype == torch.float32
    x, level = painters.noise([1], plain.shape), plain.levels(4)[1]
    error = rel(half.denoiser(PROMPT)(x, *level), plain.denoiser(PROMPT)(x, *level))
    assert 0 < error < 1e-2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_network_and_text_encoder_run_in_the_dtype_and_the_vae_in_float32(folders, dtype):
    model = painters.load(folders[1], device="cpu", dtype=dtype)
    kind = getattr(torch, dtype)
    assert model.dtype == model.network.dtype == model.text.encoder.dtype == kind
    assert model.codec.vae.dtype == torch.float32
    exact = painters.load(folders[1], device="cpu")
    x, level = painters.noise([1], model.shape), model.levels(4)[1]
    ours = model.denoiser(PROMPT, guidance=2.0)(x, *level)
    assert ours.dtype == torch.float32
    assert 0 < rel(ours, exact.denoiser(PROMPT, guidance=2.0)(x, *level)) < 0.1


def test_on_the_device_it_is_the_model_of_the_cpu(folders, device):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    cpu, model = painters.load(folders[2], device="cpu"), painters.load(folders[2], device=str(device))
    assert model.dtype == torch.float32
    levels = model.levels(4)
    x = levels.start(painters.noise([1, 2], model.shape))
    runs = [solve(m.denoiser(PROMPT, guidance=3.0, negative=NEGATIVE), x, levels, progress=False) for m in (cpu, model)]
    assert rel(runs[1].final.cpu(), runs[0].final) < 1e-4
    images = model.decode(runs[1].final)
    assert images.device == runs[1].final.device
    assert rel(images.cpu(), cpu.decode(runs[0].final)) < 1e-4
    assert rel(model.encode(images).cpu(), cpu.encode(images.cpu())) < 1e-4
    half = painters.load(folders[2], device=str(device), dtype="bfloat16")
    assert rel(half.denoiser(PROMPT)(x, *levels[1]).cpu(), cpu.denoiser(PROMPT)(x, *levels[1])) < 0.1


def test_weights_named_as_older_transformers_names_them_are_read(copy):
    """Stable Diffusion's own files say text_model. before every key, and carry a table of positions."""
    plain = painters.load(copy, device="cpu").text(PROMPT)
    path = copy / "text_encoder" / "model.safetensors"
    bare = {key.removeprefix("text_model."): value for key, value in load_file(path).items()}
    positions = {"embeddings.position_ids": torch.arange(pipelines.TOKENS)[None]}
    save_file({f"text_model.{k}": v for k, v in (bare | positions).items()}, path, metadata={"format": "pt"})
    assert torch.equal(painters.load(copy, device="cpu").text(PROMPT), plain)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_says_nothing(folders, capfd, dtype):
    """A chapter fails on anything written to stderr: no progress bar, no report, no warning of a library."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    libraries = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    for library in libraries:
        library.addHandler(handler)
    try:
        painters.load(folders[1], device="cpu", dtype=dtype)
    finally:
        for library in libraries:
            library.removeHandler(handler)
    assert capfd.readouterr() == ("", "") and said == []


def test_moments_and_card_of_a_latent_model_are_read(copy):
    mu = torch.zeros(4 * 8 * 8)
    U = torch.eye(4 * 8 * 8)[:, :3].contiguous()
    tensors = {"mu": mu, "U": U, "lam": torch.tensor([3.0, 2.0, 1.0]), "rest": torch.tensor(0.1)}
    save_file(tensors, copy / "moments.safetensors")
    (copy / "card.json").write_text(json.dumps({"name": "small", "prompts": [PROMPT]}))
    model = painters.load(copy, device="cpu")
    assert model.card["prompts"] == [PROMPT]
    assert model.moments is not None and model.moments.dim == 4 * 8 * 8
    assert model.moments(painters.noise([0], model.shape), 0.8, 0.6).shape == (1, 4, 8, 8)


# what is refused


@pytest.mark.parametrize(
    ("part", "says"),
    [("text_encoder", "no text encoder"), ("tokenizer", "no tokenizer"), ("vae", "no vae"), ("unet", "config.json")],
)
def test_a_missing_part_is_named(copy, part, says):
    shutil.rmtree(copy / part)
    with pytest.raises(FileNotFoundError, match=says) as caught:
        painters.load(copy)
    assert "bundled model instead" in str(caught.value) and "\n" not in str(caught.value)


def test_a_bare_text_to_image_unet_lacks_its_text_encoder(copy):
    with pytest.raises(FileNotFoundError, match="no text encoder"):
        painters.load(copy / "unet", prediction="epsilon", schedule=painters.schedules.scaled_linear())


@pytest.mark.parametrize(
    ("path", "values", "says"),
    [
        ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "XL"),
        ("model_index.json", {"transformer": ["diffusers", "FluxTransformer2DModel"]}, "flow pipelines"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "more than a text"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "more than a text"),
        ("unet/config.json", {"in_channels": 9}, "inpainting"),
        ("unet/config.json", {"_class_name": "UNet3DConditionModel"}, "UNet3DConditionModel"),
        ("unet/config.json", {"_class_name": "UNet2DModel"}, "UNet2DModel"),
        ("unet/config.json", {"cross_attention_dim": 32}, "do not fit|cannot be read"),
        ("text_encoder/config.json", {"model_type": "t5"}, "not CLIP"),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "AutoencoderTiny"),
        ("vae/config.json", {"layers_per_block": 2}, "do not fit|cannot be read"),
        ("text_encoder/config.json", {"num_hidden_layers": 3}, "do not fit|cannot be read"),
    ],
)
def test_other_pipelines_are_refused_in_one_sentence(copy, path, values, says):
    edit(copy / path, **values)
    with pytest.raises(ValueError, match=says) as caught:
        painters.load(copy)
    assert "bundled model instead" in str(caught.value) and "\n" not in str(caught.value)


def test_parts_of_different_models_are_refused(copy):
    words = pipelines.tokenizer(copy / "tokenizer-source")
    other = pipelines.text_encoder(words)
    wide = type(other)(type(other.config)(**(other.config.to_dict() | {"hidden_size": 32})))
    wide.save_pretrained(str(copy / "text_encoder"))
    with pytest.raises(ValueError, match="parts of different models"):
        painters.load(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_parts_are_refused_and_read_on_request(copy, part):
    plain = painters.load(copy, device="cpu")
    (path,) = (copy / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save(load_file(path), copy / part / name)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no safetensors weights.* pickled=True .* bundled model instead"):
        painters.load(copy)
    model = painters.load(copy, device="cpu", pickled=True)
    x, level = painters.noise([1], plain.shape), plain.levels(4)[1]
    assert torch.equal(model.denoiser(PROMPT)(x, *level), plain.denoiser(PROMPT)(x, *level))
    assert torch.equal(model.decode(x), plain.decode(x))


def test_a_damaged_tokenizer_is_named(copy):
    shutil.rmtree(copy / "tokenizer")
    (copy / "tokenizer").mkdir()
    (copy / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer of .* cannot be read"):
        painters.load(copy)
