"""Training a small Stable Diffusion: both stages resume, the folder is one that diffusers itself reads."""

from dataclasses import replace

import pytest
import torch

import painters
from atelier.data import scenes
from atelier.data.images import ImageData, folder
from atelier.training import latents as latent
from atelier.training import recipes
from atelier.training.latent_packing import pack, reconstruction
from painters.cli import main
from painters.levels import Levels, scaled_linear
from painters.pictures import save, to_pil
from painters.theory import Gaussian, Moments

RECIPE = replace(
    recipes.SCENES_SD,
    name="tiny-sd",
    autoencoder=recipes.SMALL_AUTOENCODER
    | {
        "sample_size": 16,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    },
    network=recipes.SMALL_CONDITIONAL_UNET
    | {"block_out_channels": (16, 16), "norm_num_groups": 4, "cross_attention_dim": 16, "attention_head_dim": 2},
    text_encoder=recipes.SMALL_TEXT_ENCODER
    | {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 16, "num_attention_heads": 2},
    batch=4,
    autoencoder_batch=2,
    warmup=2,
)


@pytest.fixture(scope="module")
def data() -> ImageData:
    f = scenes.sample(48)
    pictures = scenes.render(f, 16)
    said = tuple(scenes.caption(f[:32], version=v) for v in range(2))
    return ImageData(pictures[:32], pictures[32:], captions=said, test_captions=scenes.caption(f[32:]), source="scenes")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    autoencoder = latent.train_autoencoder(RECIPE, data, folder=place / "autoencoder", steps=9, progress=False)
    studio = latent.prepare(RECIPE, data, autoencoder, folder=place)
    run = latent.train(RECIPE, studio, folder=place, steps=8, progress=False)
    return autoencoder, studio, run


@pytest.fixture(scope="module")
def model(trained, data, tmp_path_factory):
    _, studio, run = trained
    return pack(run, studio, RECIPE, data, tmp_path_factory.mktemp("model"), images=16)


def test_both_stages_repeat_when_resumed(trained, data, tmp_path):
    autoencoder, studio, run = trained
    for steps in (4, 9):
        again = latent.train_autoencoder(RECIPE, data, folder=tmp_path / "autoencoder", steps=steps, progress=False)
    for steps in (3, 8):
        parts = latent.train(RECIPE, studio, folder=tmp_path, steps=steps, progress=False)
    for one, other in ((autoencoder, again), (run, parts)):
        assert all(torch.equal(a, b) for a, b in zip(one.average.parameters(), other.average.parameters()))


def test_the_pull_of_the_prior_only_falls():
    weights = [RECIPE.kl(k) for k in range(0, 9000, 100)]
    assert weights[0] == RECIPE.kl_weight
    assert weights == sorted(weights, reverse=True)
    assert RECIPE.kl(2 * RECIPE.decay_after) == pytest.approx(RECIPE.kl_weight / 16)


def test_latents_have_unit_variance_and_are_kept(trained, data, tmp_path):
    autoencoder, studio, _ = trained
    assert float(studio.train.clean().std()) == pytest.approx(1, rel=1e-4)
    first = latent.latents_of(autoencoder.average, data, tmp_path)
    kept = latent.latents_of(None, data, tmp_path)  # no autoencoder is needed the second time
    for a, b in zip(first, kept):
        assert torch.equal(a.mean, b.mean) and a.scale == pytest.approx(b.scale)


def test_every_word_of_the_captions_is_one_token_and_other_words_are_read():
    said = scenes.caption(scenes.sample(300))
    tokenizer = latent.build_tokenizer(said, length=56)
    for text in said[:50]:
        assert len(tokenizer.tokenize(text)) == len(text.replace(",", " ,").split())
    pieces = tokenizer.tokenize("under a castle, naïvely 42!")
    assert len(pieces) > 5 and tokenizer.unk_token not in pieces
    tokens = latent.tokenize(tokenizer, ["", said[0]])
    assert tokens.shape == (2, 56)
    assert tokens[0, 0] == tokenizer.bos_token_id and (tokens[0, 1:] == tokenizer.eos_token_id).all()


def test_training_captions_are_roughened_in_part_and_never_lose_a_known_word():
    versions = [scenes.caption(scenes.sample(400), version=v) for v in range(2)]
    tokenizer = latent.build_tokenizer(versions[0] + versions[1], length=64)
    plain = torch.stack([latent.tokenize(tokenizer, version) for version in versions])
    rough = latent.training_tokens(tokenizer, versions)
    same = (plain == rough).all(-1).float().mean()
    assert 0.3 < float(same) < 0.6
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    for before, after in zip(plain[0].tolist(), rough[0].tolist()):
        left = iter(after)
        assert all(token in left for token in before if token not in (comma, tokenizer.eos_token_id))


def test_the_packed_folder_is_a_stable_diffusion_pipeline(model, trained):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red sun", num_inference_steps=2, guidance_scale=3.0, height=16, width=16).images[0]
    assert image.size == (16, 16)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    alpha, _ = scaled_linear().table()
    assert torch.allclose(pipeline.scheduler.alphas_cumprod.double().sqrt(), alpha, atol=1e-6)


def test_painters_load_reads_it_with_the_training_moments(model, trained, data):
    _, studio, run = trained
    loaded = painters.load(model, device="cpu")
    z = studio.train.clean()
    moments = Moments.of(z)
    assert isinstance(loaded.moments, Gaussian)
    assert torch.allclose(loaded.moments.mu, moments.mean, atol=1e-5)
    assert torch.allclose(loaded.moments.lam, moments.eigh()[1][: len(loaded.moments.lam)], rtol=1e-4, atol=1e-5)
    assert torch.allclose(loaded.encode(data.train[:4] / 255), z[:4], atol=2e-2)
    x = torch.randn(2, *loaded.shape)
    a, s = 0.6, 0.8
    tokens = latent.tokenize(studio.tokenizer, ["a red sun", "a pine"])
    expected = latent.denoiser(run.average, RECIPE, tokens, torch.device("cpu"))(x, a, s)
    assert torch.allclose(loaded.denoiser(["a red sun", "a pine"])(x, a, s), expected, atol=5e-3)


def test_the_card_measures_with_and_without_captions_and_the_autoencoder(model, trained, data):
    card = painters.load(model, device="cpu").card
    assert len(card["loss"]["loss"]) == len(card["loss_with_caption"]["loss"]) == 24
    assert card["loss"]["loss"] != card["loss_with_caption"]["loss"]
    assert card["parts"].keys() == {"unet", "text_encoder", "vae"} and sum(card["parts"].values()) == card["parameters"]
    autoencoder, studio, _ = trained
    measured = reconstruction(autoencoder.average, data, studio.train.scale, images=16)
    assert card["autoencoder"]["psnr"] == pytest.approx(measured["psnr"], abs=0.2)


def test_a_readers_folder_with_captions_trains(tmp_path, data, monkeypatch, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(24):
        save(to_pil(data.train[i] / 255), pictures / f"{i:02d}.png")
        if i % 2:
            (pictures / f"{i:02d}.txt").write_text("a blue castle\n")
    found = folder(pictures, size=16)
    assert len(found.captions[0]) == len(found.train) and set(found.captions[0]) == {"", "a blue castle"}
    assert len(found.test_captions) == len(found.test)
    tiny = replace(RECIPE, autoencoder_steps=2, steps=2)
    monkeypatch.setitem(recipes.LATENT_RECIPES, "tiny-sd", tiny)
    status = main(["train", "tiny-sd", "--data", str(pictures), "--run", str(tmp_path / "run"), "--device", "cpu"])
    assert status == 0, capsys.readouterr().err
    loaded = painters.load(tmp_path / "run" / "model", device="cpu")
    assert loaded.levels(4).alpha[0] == pytest.approx(Levels.of(scaled_linear(), 4).alpha[0])
