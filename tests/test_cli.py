"""The command line: what it makes, how it resumes, how it fails."""

import json

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image

import painters
from painters import cli, painting
from painters.cli import main, parse_seeds
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
