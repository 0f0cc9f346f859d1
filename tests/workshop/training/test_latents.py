"""Training a small Stable Diffusion: both stages resume, the folder is one that diffusers itself reads."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

import painters
from atelier.cli import main
from atelier.data import scenes
from atelier.data.images import ImageData, folder, to_unit
from atelier.pictures import save, to_pil
from atelier.training import captions, latents
from atelier.training.latent_packing import pack_latents, reconstruction
from atelier.training.loop import Session
from atelier.training.recipes import RECIPES
from painters.levels import Levels
from painters.schedules import scaled_linear
from painters.theory import Gaussian, Moments

WHOLE = RECIPES["scenes-sd"]
RECIPE = replace(
    WHOLE,
    name="tiny-sd",
    network=WHOLE.network
    | {"block_out_channels": (16, 16), "norm_num_groups": 4, "cross_attention_dim": 16, "attention_head_dim": 2},
    kind=replace(
        WHOLE.kind,
        autoencoder=WHOLE.kind.autoencoder
        | {
            "sample_size": 16,
            "block_out_channels": (8, 8),
            "norm_num_groups": 4,
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        },
        text_encoder=WHOLE.kind.text_encoder
        | {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 16, "num_attention_heads": 2},
        autoencoder_steps=9,
        autoencoder_batch=2,
    ),
    pace=replace(WHOLE.pace, batch=4, warmup=2, steps=8),
)


@pytest.fixture(scope="module")
def data() -> ImageData:
    f = scenes.sample(48)
    pictures = scenes.render(f, 16)
    said = tuple(scenes.caption(f[:32], version=v) for v in range(2))
    return ImageData(pictures[:32], pictures[32:], captions=said, test_captions=scenes.caption(f[32:]), source="scenes")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    place = Session(tmp_path_factory.mktemp("run"), progress=False)
    studio = latents.prepare(RECIPE, data, place)
    return studio, latents.train_latents(RECIPE, studio, place)


@pytest.fixture(scope="module")
def model(trained, data, tmp_path_factory):
    studio, run = trained
    return pack_latents(run, RECIPE, studio, data, tmp_path_factory.mktemp("model"))


def test_both_stages_repeat_when_resumed(trained, data, tmp_path):
    studio, run = trained
    for steps in (4, 9):
        again = latents.train_autoencoder(RECIPE, data, Session(tmp_path / "autoencoder", steps, progress=False))
    for steps in (3, 8):
        parts = latents.train_latents(RECIPE, studio, Session(tmp_path, steps, progress=False))
    for one, other in ((studio.autoencoder, again), (run, parts)):
        assert all(
            torch.equal(a.half(), b.half()) for a, b in zip(one.average.parameters(), other.average.parameters())
        )


def test_the_state_of_the_autoencoder_does_not_depend_on_the_second_stage(trained):
    studio, run = trained
    assert set(studio.autoencoder.fingerprint) == {
        "autoencoder", "autoencoder_batch", "kl_weight", "square_weight", "worst_weight", "worst_share",
        "learning_rate", "warmup", "decay_after", "ema_gamma", "seed", "data",
    }  # fmt: skip
    assert run.fingerprint["autoencoder_weights"] == studio.made_of["autoencoder_weights"]


def test_the_loss_of_the_autoencoder_is_the_stated_one(data, tmp_path, monkeypatch):
    """|e|, its square, the largest twentieth and the pull of the prior, from the picture and the draws of step 0."""
    seen = {}
    monkeypatch.setattr(latents, "fit", lambda training, session: seen.update(it=training))
    latents.train_autoencoder(RECIPE, data, Session(tmp_path))
    training, kind = seen["it"], RECIPE.kind
    network = training.build()
    draw = latents.generator(0, 0)
    x = to_unit(data.train[torch.randint(32, (2,), generator=draw)])
    with torch.no_grad():
        posterior = network.encode(x).latent_dist
        z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=draw)
        error = (network.decode(z).sample - x).abs().flatten(1)
        losses = training.loss(network, 0)
    kl = (posterior.mean**2 + posterior.var - 1 - posterior.logvar).flatten(1).mean(1) / 2
    worst = error.sort(1).values[:, -round(error.shape[1] / 20) :].mean(1)
    wanted = error.mean(1) + 4 * error.square().mean(1) + 0.25 * worst + kind.kl_weight * kl
    torch.testing.assert_close(losses, wanted)


def test_latents_have_unit_variance_and_are_kept(trained, data, tmp_path, monkeypatch):
    studio, _ = trained
    assert float(studio.train.clean().std()) == pytest.approx(1, rel=1e-4)
    first = latents.latents_of(studio.autoencoder.average, data, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(latents, "encode", None)  # nothing is encoded the second time
        kept = latents.latents_of(studio.autoencoder.average, data, tmp_path)
    for a, b in zip(first, kept):
        assert torch.equal(a.mean, b.mean) and a.scale == pytest.approx(b.scale)
    with safe_open(tmp_path / "latents.safetensors", "pt") as file:
        made_of = {"autoencoder": latents.digest_of(studio.autoencoder.average), "data": data.digest()}
        assert file.metadata() == made_of
        assert set(file.keys()) == {"train", "train_std", "test", "test_std", "scale"}


def test_latents_of_other_pictures_or_another_autoencoder_are_made_anew(trained, data, tmp_path):
    studio, _ = trained
    latents.latents_of(studio.autoencoder.average, data, tmp_path)
    other = replace(data, train=255 - data.train)
    found, _ = latents.latents_of(studio.autoencoder.average, other, tmp_path)
    torch.testing.assert_close(found.mean, latents.encode(studio.autoencoder.average, other.train).mean)
    fresh = latents.build_autoencoder(RECIPE)
    found, _ = latents.latents_of(fresh, other, tmp_path)
    torch.testing.assert_close(found.mean, latents.encode(fresh, other.train).mean)


def test_every_word_of_the_captions_is_one_token_and_other_words_are_read():
    said = scenes.caption(scenes.sample(300))
    tokenizer = captions.build_tokenizer(said, length=56)
    for text in said[:50]:
        assert len(tokenizer.tokenize(text)) == len(text.replace(",", " ,").split())
    pieces = tokenizer.tokenize("under a castle, naïvely 42!")
    assert len(pieces) > 5 and tokenizer.unk_token not in pieces
    tokens = captions.tokenize(tokenizer, ["", said[0]])
    assert tokens.shape == (2, 56)
    assert tokens[0, 0] == tokenizer.bos_token_id and (tokens[0, 1:] == tokenizer.eos_token_id).all()


@pytest.mark.slow
def test_the_same_captions_give_the_same_tokens_in_every_process():
    """A run that goes on after an interruption would otherwise read other words than it learnt."""
    code = (
        "from atelier.data import scenes; from atelier.training import captions as c\n"
        "said = [scenes.caption(scenes.sample(40), version=v) for v in range(2)]\n"
        "t = c.build_tokenizer(said[0] + said[1], length=56)\n"
        "print(c.vocabulary_of(t), c.training_tokens(t, said).double().flatten().cumsum(0).sum().item())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    }
    assert len(runs) == 1 and len(runs.pop().split()) == 2


def test_words_of_any_script_are_one_token_however_they_repeat():
    said = ["ababab banana, grüne Bäume", "abab anan über 7 Häuser", "дом и дерево"]
    tokenizer = captions.build_tokenizer(said, length=56)
    assert [len(tokenizer.tokenize(text)) for text in said] == [5, 5, 3]


def test_training_captions_are_roughened_in_part_and_never_lose_a_known_word():
    versions = [scenes.caption(scenes.sample(400), version=v) for v in range(2)]
    tokenizer = captions.build_tokenizer(versions[0] + versions[1], length=64)
    plain = torch.stack([captions.tokenize(tokenizer, version) for version in versions])
    rough = captions.training_tokens(tokenizer, versions)
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
    studio, run = trained
    loaded = painters.load(model, device="cpu")
    z = studio.train.clean()
    moments = Moments.of(z)
    assert isinstance(loaded.moments, Gaussian)
    assert torch.allclose(loaded.moments.mu, moments.mean, atol=1e-5)
    assert torch.allclose(loaded.moments.lam, moments.eigh()[1][: len(loaded.moments.lam)], rtol=1e-4, atol=1e-5)
    assert torch.allclose(loaded.encode(data.train[:4] / 255), z[:4], atol=2e-2)
    x = torch.randn(2, *loaded.shape)
    a, s = 0.6, 0.8
    tokens = captions.tokenize(studio.tokenizer, ["a red sun", "a pine"])
    expected = latents.denoiser(run.average, RECIPE, tokens)(x, a, s)
    assert torch.allclose(loaded.denoiser(["a red sun", "a pine"])(x, a, s), expected, atol=5e-3)


def test_the_card_measures_with_and_without_captions_and_the_autoencoder(model, trained, data):
    card = painters.load(model, device="cpu").card
    assert len(card["loss"]["loss"]) == len(card["loss_with_caption"]["loss"]) == 24
    assert card["loss"]["loss"] != card["loss_with_caption"]["loss"]
    assert card["parts"].keys() == {"unet", "text_encoder", "vae"} and sum(card["parts"].values()) == card["parameters"]
    studio, _ = trained
    measured = reconstruction(studio.autoencoder.average, data, studio.train.scale)
    assert card["autoencoder"]["steps"] == 9 and card["training"]["steps"] == 8 and card["autoencoder"]["n"] == 16
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
    tiny = replace(RECIPE, kind=replace(RECIPE.kind, autoencoder_steps=2), pace=replace(RECIPE.pace, steps=2))
    monkeypatch.setitem(RECIPES, "scenes-sd", replace(tiny, name="scenes-sd"))
    arguments = ["train", "scenes-sd", "--run", str(tmp_path / "run"), "--device", "cpu"]
    status = main([*arguments, "--data", str(pictures)])
    assert status == 0, capsys.readouterr().err
    loaded = painters.load(tmp_path / "run" / "model", device="cpu")
    card = loaded.card
    assert card["training"]["data"] == "folder" and "scenes" not in card["title"]
    assert card["prompts"] == found.test_captions and card["loss"]["n"] == 3 and loaded.moments is not None
    (pictures / "01.txt").write_text("a red castle\n")
    assert main([*arguments, "--data", str(pictures)]) == 1
    assert "is the state of another training (data was" in capsys.readouterr().err
    assert loaded.levels(4).alpha[0] == pytest.approx(Levels.of(scaled_linear(), 4).alpha[0])
