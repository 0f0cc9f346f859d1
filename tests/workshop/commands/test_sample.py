"""The command line: what it makes, how it resumes, how it fails."""

import json
from argparse import ArgumentTypeError
from dataclasses import asdict

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image

import painters
from atelier.cli import main, run
from atelier.commands import sample
from atelier.commands.options import numbers, seeds
from atelier.pictures import save
from painters.files import claim
from painters.trajectory import Trajectory

FAST = ["--steps", "3", "--solver", "ddim", "--device", "cpu"]


def test_sample_writes_images_trajectories_and_a_sheet(tmp_path, capsys):
    assert main(["sample", "fashion-ddpm", "--seeds", "0-2", *FAST, "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.glob("seed-*.png")) == [f"seed-0000{i}.png" for i in range(3)]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (282, 282)  # 28 pixels a side are shown as 140
        first = np.asarray(sheet)[:140, :140]
        assert (
            first.reshape(28, 5, 28, 5) == np.asarray(Image.open(tmp_path / "seed-00000.png"))[:, None, :, None]
        ).all()
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
    real, calls = sample.solve, []

    def interrupted(*args, **kwargs):
        calls.append(kwargs["seeds"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(sample, "solve", interrupted)
    assert main(arguments) == 130
    assert len(list(tmp_path.glob("seed-*.png"))) == 2
    before = (tmp_path / "seed-00000.png").stat().st_mtime_ns
    assert main(arguments) == 0
    assert calls[2:] == [(2, 3), (4, 5)]
    assert (tmp_path / "seed-00000.png").stat().st_mtime_ns == before
    assert len(list(tmp_path.glob("seed-*.png"))) == 6


def test_a_folder_of_another_run_is_refused(tmp_path, capsys):
    base = ["sample", "fashion-ddpm", "--seeds", "0", "--device", "cpu", "--out", str(tmp_path), "--solver", "ddim"]
    assert main([*base, "--steps", "2"]) == 0
    for other in (["--steps", "3"], ["--steps", "2", "--every", "2"], ["--steps", "2", "--dtype", "bfloat16"]):
        assert main([*base, *other]) == 1
        error = capsys.readouterr().err.strip()
        assert f"holds another run ({other[-2][2:]} " in error and "\n" not in error


def test_other_weights_under_the_same_name_are_another_run(tmp_path, monkeypatch, capsys):
    model = painters.load("fashion-ddpm", device="cpu")
    monkeypatch.setattr(sample, "load", lambda *_, **__: model)
    arguments = ["sample", "fashion-ddpm", "--seeds", "0", *FAST, "--out", str(tmp_path)]
    assert main(arguments) == 0 and main(arguments) == 0
    capsys.readouterr()
    next(model.network.parameters()).data.mul_(1.01)
    assert main(arguments) == 1
    assert "holds another run (weights '" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "no-such-model"], "bundled name"),
        (["sample", "fashion-ddpm", "--seeds", "a"], "seeds are numbers"),
        (["sample", "fashion-ddpm", "--prompt", "hat"], "no class"),
        (["sample", "fashion-ddpm", "--guidance", "3"], "needs a prompt"),
        (["sample", "fashion-ddpm", "--prompt", "Bag", "--guidance", "3", "--negative", "a"], "text-to-image"),
        (["sample", "stabilityai/stable-diffusion-xl-base-1.0"], "not served yet"),
        (["sample", "fashion-ddpm", "--steps", "1001"], "1 to 1000 steps"),
        (["sample", "fashion-ddpm", "--steps", "0"], "--steps: give a whole number of at least 1, got '0'"),
        (["sample", "fashion-ddpm", "--steps=-1"], "--steps: give a whole number of at least 1, got '-1'"),
        (["sample", "fashion-ddpm", "--batch", "0"], "--batch: give a whole number of at least 1, got '0'"),
        (["sample", "fashion-ddpm", "--every", "x"], "--every: give a whole number of at least 1, got 'x'"),
        (["sample", "fashion-ddpm", "--guidance", "a,b"], "--guidance: give a number, got 'a,b'"),
        (["sample", "fashion-ddpm", "--guidance", "nan"], "--guidance: give a number, got 'nan'"),
        (["sample", "fashion-ddpm", "--solver", "euler"], "invalid choice: 'euler'"),
        (["sample", "fashion-ddpm", "--device", "foo"], "there is no device 'foo' here"),
        (["sample", "fashion-ddpm", "--seeds", "4294967296"], "a seed lies between 0 and"),
        (["moments", "x", "--out", "y", "--rank", "-1"], "--rank: give a whole number of at least 1, got '-1'"),
        (["moments", "x", "--out", "y", "--n", "1.5"], "--n: give a whole number of at least 1, got '1.5'"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing_behind(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "sample":
        arguments = [*arguments[:2], "--device", "cpu", *arguments[2:]]
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip()
    assert says in error and error.startswith("painters: ") and "\n" not in error
    assert not list(tmp_path.iterdir())  # so that the corrected call finds the folder free


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there(tmp_path, capsys):
    assert main(["sample", "fashion-ddpm", "--device", "cuda", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.strip()
    assert "there is no device 'cuda' here" in error and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["sample", "fashion-ddpm", "--seeds", "0", *FAST, "--out", str(tmp_path / "file" / "out")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_nan_from_a_network_saves_nothing(tmp_path, monkeypatch, capsys):
    model = painters.load("fashion-ddpm", device="cpu")
    next(model.network.parameters()).data.fill_(float("nan"))
    monkeypatch.setattr(sample, "load", lambda *_, **__: model)
    assert main(["sample", "fashion-ddpm", "--seeds", "0", *FAST, "--out", str(tmp_path)]) == 1
    assert "step 0" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_seed_lists():
    assert seeds("0-3,7, 9-10") == [0, 1, 2, 3, 7, 9, 10]
    for bad in ("", "x", "3-", "-3", "1..4"):
        with pytest.raises(ArgumentTypeError, match="seeds"):
            seeds(bad)
    with pytest.raises(ArgumentTypeError, match="5-3 runs backwards: give 3-5"):
        seeds("5-3")


def test_the_same_seed_gives_the_same_picture_in_any_batch(tmp_path):
    for batch, name in (("1", "a"), ("3", "b")):
        out = str(tmp_path / name)
        assert main(["sample", "fashion-ddpm", "--seeds", "4-6", *FAST, "--batch", batch, "--out", out]) == 0
    for seed in (4, 5, 6):
        one, other = (np.asarray(Image.open(tmp_path / n / f"seed-0000{seed}.png")).astype(int) for n in "ab")
        assert np.abs(one - other).max() <= 1


def test_run_json_says_how_the_images_were_made(tmp_path):
    assert main(["sample", "fashion-ddpm", "--seeds", "0", *FAST, "--prompt", "Bag", "--out", str(tmp_path)]) == 0
    settings = json.loads((tmp_path / "run.json").read_text())
    assert settings["prompt"] == "Bag" and settings["steps"] == 3
    assert torch.isfinite(Trajectory.load(tmp_path / "trajectories" / "seed-00000.safetensors").x).all()


def test_many_seeds_need_few_open_files(tmp_path, monkeypatch):
    """300 finished seeds and 64 file handles: the sheet is made of files that are closed as they are read."""
    resource = pytest.importorskip("resource")
    model = painters.load("fashion-ddpm", device="cpu")
    claim(tmp_path, asdict(sample.Request("m")) | {"weights": model.weights})
    for seed in range(300):
        save(Image.new("L", (4, 4), seed % 256), tmp_path / f"seed-{seed:05d}.png")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        assert len(sample.paint(model, sample.Request("m"), range(300), tmp_path)) == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (18 * 142 - 2, 17 * 142 - 2)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch, capsys):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))  # room for run.json, not for a trajectory
    try:
        assert main(["sample", "fashion-ddpm", "--seeds", "0", *FAST, "--out", str(tmp_path)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "painters: " in line]
    assert "could not write" in error and "nothing was changed there" in error
    assert not list(tmp_path.glob("*.png")) and not list((tmp_path / "trajectories").iterdir())


def test_lists_of_numbers():
    assert numbers("1,3,7.5") == (1.0, 3.0, 7.5)
    with pytest.raises(ArgumentTypeError, match="give a number, got 'b'"):
        numbers("1,b")


def test_an_interrupted_command_says_what_is_true(capsys):
    def stopped(options):
        raise KeyboardInterrupt

    def add(commands):
        commands.add_parser("keeps").set_defaults(command=stopped, kept=True)
        commands.add_parser("forgets").set_defaults(command=stopped)

    assert run([add], ["keeps"]) == 130 and "what was finished is kept" in capsys.readouterr().err
    assert run([add], ["forgets"]) == 130 and "nothing was kept" in capsys.readouterr().err
