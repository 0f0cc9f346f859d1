"""The command line: what it makes, how it resumes, how it fails."""

import json

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image

import painters
from atelier.pages.standins import LABEL, stand_in
from painters import cli, painting
from painters.cli import main, parse_seeds
from painters.models import moments as moment_sources
from painters.trajectory import Trajectory

FAST = ["--steps", "3", "--solver", "ddim", "--device", "cpu"]


def test_sample_writes_images_trajectories_and_a_sheet(tmp_path, capsys):
    assert main(["sample", "fashion-ddpm", "--seeds", "0-2", *FAST, "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.glob("seed-*.png")) == [f"seed-0000{i}.png" for i in range(3)]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (58, 58)
    run = Trajectory.load(tmp_path / "trajectories" / "seed-00001.safetensors")
    assert run.seeds == (1,) and run.x.shape == (4, 1, 1, 28, 28) and run.nfe == 3
    pixels = np.asarray(Image.open(tmp_path / "seed-00001.png"))
    want = (painters.load("fashion-ddpm", device="cpu").decode(run.final)[0, 0] * 255).round().numpy()
    np.testing.assert_allclose(pixels, want, atol=1)
    assert "3 seeds" in capsys.readouterr().out


def test_a_latent_model_paints_a_prompt(tmp_path):
    pipelines.stable_diffusion(tmp_path / "make").save_pretrained(str(tmp_path / "sd"))
    words = ["--prompt", "a red house", "--guidance", "7.5", "--negative", "ugly"]
    base = ["sample", str(tmp_path / "sd"), "--seeds", "3-4", *FAST, *words]
    assert main([*base, "--out", str(tmp_path / "out")]) == 0
    run = Trajectory.load(tmp_path / "out" / "trajectories" / "seed-00003.safetensors")
    assert run.x.shape == (4, 1, 4, 8, 8) and run.nfe == 6
    model = painters.load(tmp_path / "sd", device="cpu")
    denoise = model.denoiser("a red house", guidance=7.5, negative="ugly")
    levels = model.levels(3)
    x = levels.start(painters.noise([3], model.shape))
    ours = painters.solve(denoise, x, levels, solver="ddim", progress=False)
    np.testing.assert_allclose(run.final, ours.final, atol=1e-4)
    pixels = np.asarray(Image.open(tmp_path / "out" / "seed-00003.png"))
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_allclose(pixels, (model.decode(run.final)[0] * 255).round().permute(1, 2, 0).numpy(), atol=1)
    settings = json.loads((tmp_path / "out" / "run.json").read_text())
    assert settings["negative"] == "ugly" and settings["guidance"] == 7.5


def test_a_class_is_named_by_its_index_and_a_text_may_be_a_number(tmp_path):
    model = painters.load("fashion-ddpm", device="cpu")
    assert model.denoiser("8").condition.tolist() == model.denoiser("Bag").condition.tolist() == [8]
    pipelines.stable_diffusion(tmp_path / "make").save_pretrained(str(tmp_path / "sd"))
    options = ["--seeds", "0", *FAST, "--prompt", "7", "--out", str(tmp_path / "out")]
    assert main(["sample", str(tmp_path / "sd"), *options]) == 0


def test_an_interrupted_run_continues_without_painting_finished_seeds_again(tmp_path, monkeypatch):
    arguments = ["sample", "fashion-ddpm", "--seeds", "0-5", *FAST, "--batch", "2", "--out", str(tmp_path)]
    real, calls = painting.solve, []

    def interrupted(*args, **kwargs):
        calls.append(kwargs["seeds"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(painting, "solve", interrupted)
    assert main(arguments) == 130
    assert len(list(tmp_path.glob("seed-*.png"))) == 2
    before = (tmp_path / "seed-00000.png").stat().st_mtime_ns
    assert main(arguments) == 0
    assert calls[2:] == [[2, 3], [4, 5]]
    assert (tmp_path / "seed-00000.png").stat().st_mtime_ns == before
    assert len(list(tmp_path.glob("seed-*.png"))) == 6


def test_a_folder_of_another_run_is_refused(tmp_path, capsys):
    base = ["sample", "fashion-ddpm", "--seeds", "0", "--device", "cpu", "--out", str(tmp_path), "--solver", "ddim"]
    assert main([*base, "--steps", "2"]) == 0
    assert main([*base, "--steps", "3"]) == 1
    assert "another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "no-such-model"], "bundled name"),
        (["sample", "fashion-ddpm", "--seeds", "a"], "seeds are numbers"),
        (["sample", "fashion-ddpm", "--prompt", "hat"], "no class"),
        (["sample", "fashion-ddpm", "--guidance", "3"], "needs a prompt"),
        (["sample", "fashion-ddpm", "--prompt", "Bag", "--guidance", "3", "--negative", "a"], "text-to-image"),
        (["sample", "stabilityai/stable-diffusion-xl-base-1.0"], "not served yet"),
        (["sample", "fashion-ddpm", "--steps", "0"], "1 to 1000 steps"),
        (["train", "no-such-recipe"], "no recipe"),
    ],
)
def test_mistakes_are_one_sentence(arguments, says, tmp_path, capsys):
    if arguments[0] == "sample":
        arguments = [*arguments, "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip()
    assert says in error and error.startswith("painters: ") and "\n" not in error


def test_an_unwritable_folder_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["sample", "fashion-ddpm", "--seeds", "0", *FAST, "--out", str(tmp_path / "file" / "out")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_nan_from_a_network_saves_nothing(tmp_path, monkeypatch, capsys):
    model = painters.load("fashion-ddpm", device="cpu")
    next(model.network.parameters()).data.fill_(float("nan"))
    monkeypatch.setattr("painters.models.load", lambda *_, **__: model)
    assert main(["sample", "fashion-ddpm", "--seeds", "0", *FAST, "--out", str(tmp_path)]) == 1
    assert "step 0" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_seed_lists():
    assert parse_seeds("0-3,7, 9-10") == [0, 1, 2, 3, 7, 9, 10]
    for bad in ("", "x", "3-", "-3", "1..4"):
        with pytest.raises(ValueError, match="seeds"):
            parse_seeds(bad)
    with pytest.raises(ValueError, match="no seeds"):
        parse_seeds("5-3")


def test_the_same_seed_gives_the_same_picture_in_any_batch(tmp_path):
    for batch, name in (("1", "a"), ("3", "b")):
        out = str(tmp_path / name)
        assert main(["sample", "fashion-ddpm", "--seeds", "4-6", *FAST, "--batch", batch, "--out", out]) == 0
    for seed in (4, 5, 6):
        one, other = (np.asarray(Image.open(tmp_path / n / f"seed-0000{seed}.png")).astype(int) for n in "ab")
        assert np.abs(one - other).max() <= 1


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    assert "sample" in (text := capsys.readouterr().out) and "train" in text


def test_run_json_says_how_the_images_were_made(tmp_path):
    assert main(["sample", "fashion-ddpm", "--seeds", "0", *FAST, "--prompt", "Bag", "--out", str(tmp_path)]) == 0
    settings = json.loads((tmp_path / "run.json").read_text())
    assert settings["prompt"] == "Bag" and settings["steps"] == 3
    assert torch.isfinite(Trajectory.load(tmp_path / "trajectories" / "seed-00000.safetensors").x).all()


# Claims and moments


def test_claims_measures_prints_and_continues(tmp_path, capsys):
    out = tmp_path / "gaussian.json"
    arguments = ["claims", "--model", "fashion-ddpm", "--gaussian", "--seeds", "0-3", "--steps", "5", "--profile", "ci"]
    arguments += ["--only", "geometry", "--device", "cpu", "--out", str(out)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "exact Gaussian of fashion-ddpm" in said and "i-x0hat-two-pcs" in said and str(out) in said
    found = json.loads(out.read_text())
    assert found["kind"] == "gaussian" and set(found["measurements"]) == {"geometry"}
    made = found["measurements"]["geometry"]["provenance"]
    assert made["seeds"] == "0-3" and made["steps"] == 5 and made["profile"] == "ci"
    before = out.stat().st_mtime_ns
    assert main(arguments) == 0 and out.stat().st_mtime_ns == before
    capsys.readouterr()
    assert main(["claims", "--table", str(out)]) == 0
    assert "| `i-x0hat-two-pcs` " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["claims"], "--model NAME"),
        (["claims", "--model", "fashion-ddpm", "--only", "magic"], "no experiment magic"),
        (["claims", "--model", "fashion-twin-v"], "painters moments"),
        (["claims", "--model", "fashion-ddpm", "--moments", "nowhere.safetensors"], "no moments file"),
        (["claims", "--model", "scenes-sd", "--prompt", "a moon"], "pass the Gaussian"),
        (["claims", "--table", "nowhere.json"], "nowhere.json"),
        (["moments", "--out", "m.safetensors"], "one of them"),
        (["moments", "a", "--samples", "b", "--out", "m.safetensors"], "one of them"),
        (["moments", "nowhere", "--out", "m.safetensors"], "no folder nowhere"),
    ],
)
def test_mistakes_in_measuring_are_one_sentence(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("painters: ")]
    assert len(error) == 1 and says in error[0]
    assert not list(tmp_path.iterdir())


def test_moments_of_a_folder_are_those_of_its_pictures(tmp_path, capsys):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{i:02d}.png")
    (tmp_path / "pictures" / "broken.png").write_text("no picture")
    out = tmp_path / "m.safetensors"
    base = ["moments", str(tmp_path / "pictures"), "--size", "4", "--out", str(out)]
    assert main(base) == 0
    gaussian, facts = moment_sources.load_moments(out)
    assert facts["n"] == 30 and facts["circular"] is False and "30 samples: D = 48" in capsys.readouterr().out
    data = torch.from_numpy(pixels).permute(0, 3, 1, 2).flatten(1).double() / 127.5 - 1
    covariance = torch.cov(data.T, correction=0)
    np.testing.assert_allclose(gaussian.mu, data.mean(0), atol=1e-6)
    np.testing.assert_allclose(gaussian.lam, torch.linalg.eigvalsh(covariance).flip(0)[:15], rtol=1e-4)
    assert float(gaussian.spectrum.sum()) == pytest.approx(float(covariance.trace()), rel=1e-4)
    np.testing.assert_allclose((gaussian.U.T @ covariance @ gaussian.U).diagonal(), gaussian.lam, rtol=1e-2)
    assert main([*base, "--n", "7", "--channels", "1"]) == 0
    gaussian, facts = moment_sources.load_moments(out)
    assert facts["n"] == 7 and gaussian.dim == 16 and len(gaussian.lam) == 3


@pytest.mark.parametrize("n", [40, 200])
def test_few_and_many_samples_give_the_same_gaussian(n):
    """Below and above D samples, in batches: mean, spectrum and PCs of the dense covariance."""
    x = torch.randn(n, 3, 20, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.1, 20) + 5
    gaussian, count = moment_sources.gaussian_of(x.split(15), rank=10)
    flat = x.flatten(1).double()
    covariance = torch.cov(flat.T, correction=0)
    values = torch.linalg.eigvalsh(covariance).flip(0)
    assert count == n and len(gaussian.lam) == 10
    np.testing.assert_allclose(gaussian.mu, flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(gaussian.lam, values[:10], rtol=1e-5)
    assert gaussian.rest == pytest.approx(float(values[10:].sum() / 50), rel=1e-5)
    np.testing.assert_allclose(gaussian.U.T @ covariance @ gaussian.U, values[:10].diag(), atol=1e-4)


def test_samples_that_cannot_be_held_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="at least 4 samples"):
        moment_sources.gaussian_of([torch.zeros(2, 5)])
    monkeypatch.setattr(moment_sources, "MAX_NUMBERS", 100)
    with pytest.raises(ValueError, match="at most 1 of them"):
        moment_sources.gaussian_of([torch.zeros(2, 60)] * 3)


def test_moments_of_a_models_own_samples_say_that_they_are_circular(tmp_path, capsys):
    pipelines.stable_diffusion(tmp_path / "make").save_pretrained(str(tmp_path / "sd"))
    out = tmp_path / "own.safetensors"
    options = ["--prompt", "a red house", "--n", "6", "--steps", "2", "--device", "cpu", "--out", str(out)]
    assert main(["moments", "--samples", str(tmp_path / "sd"), *options]) == 0
    assert "circular" in capsys.readouterr().out
    gaussian, facts = moment_sources.load_moments(out)
    assert facts["circular"] and facts["source"] == "sd itself" and facts["prompt"] == "a red house"
    model = painters.load(tmp_path / "sd", device="cpu")
    levels = model.levels(2)
    x = levels.start(painters.noise(range(6), model.shape))
    want = painters.solve(model.denoiser("a red house"), x, levels, solver="dpmpp2m", progress=False).final
    np.testing.assert_allclose(gaussian.mu, want.flatten(1).mean(0), atol=1e-4)
    measured = tmp_path / "sd.json"
    arguments = ["claims", "--model", str(tmp_path / "sd"), "--prompt", "a red house", "--moments", str(out)]
    arguments += ["--only", "geometry", "--seeds", "0-3", "--steps", "3", "--profile", "ci", "--device", "cpu"]
    assert main([*arguments, "--out", str(measured)]) == 0
    assert "circular" in capsys.readouterr().out
    found = json.loads(measured.read_text())
    assert found["model"] == "sd" and found["moments"]["circular"] and found["moments"]["prompt"] == "a red house"


def test_pictures_are_encoded_for_a_latent_model(tmp_path):
    pipelines.stable_diffusion(tmp_path / "make").save_pretrained(str(tmp_path / "sd"))
    (tmp_path / "pictures").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    out = tmp_path / "m.safetensors"
    options = ["--encode", str(tmp_path / "sd"), "--device", "cpu", "--out", str(out)]
    assert main(["moments", str(tmp_path / "pictures"), *options]) == 0
    model = painters.load(tmp_path / "sd", device="cpu")
    (pictures,) = moment_sources.pictures(str(tmp_path / "pictures"), size=16)
    gaussian, facts = moment_sources.load_moments(out)
    np.testing.assert_allclose(gaussian.mu, model.encode(pictures / 2 + 0.5).flatten(1).mean(0), atol=1e-5)
    assert facts["size"] == 16


@pytest.mark.parametrize(("kind", "shape", "levels"), [("pixel", (3, 32, 32), 157.4), ("latent", (4, 64, 64), 14.61)])
def test_a_stand_in_has_the_shape_and_the_schedule_of_the_real_model(kind, shape, levels, tmp_path):
    state = torch.random.get_rng_state()
    model = painters.load(stand_in(kind, tmp_path / "model"), device="cpu")
    assert torch.equal(state, torch.random.get_rng_state())
    assert (
        model.shape == shape and model.prediction == "epsilon" and model.card["random"] and LABEL in model.card["title"]
    )
    assert float(model.levels(10).ratio[0]) == pytest.approx(levels, rel=1e-3)
    assert model.image_shape == ((3, 32, 32) if kind == "pixel" else (3, 512, 512))
    if kind == "latent":
        assert model.text is not None and model.text("a portrait of an aristocrat").shape[1] == 77
