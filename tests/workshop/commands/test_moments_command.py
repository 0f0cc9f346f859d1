"""``painters moments``: the mean and covariance of pictures and of samples, what is kept, and what is refused."""

import sys
from types import SimpleNamespace

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import painters
from atelier.cli import main
from atelier.pictures import read
from painters.models import moments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["moments", "--out", "m.safetensors"], "one of them"),
        (["moments", "a", "--samples", "b", "--out", "m.safetensors"], "one of them"),
        (["moments", "nowhere", "--out", "m.safetensors"], "no folder nowhere"),
        (["moments", "--samples", "fashion-ddpm", "--prompt", "hat", "--out", "m.safetensors"], "no class 'hat'"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing_behind(arguments, says, tmp_path, capsys, monkeypatch):
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
    gaussian, facts = moments.load_moments(out)
    said = capsys.readouterr().out
    assert "30 samples: D = 48" in said and "broken.png (damaged, cut short, or no picture)" in said
    assert facts["n"] == 30 and facts["circular"] is False and facts["rank"] == 512 and facts["weights"] is None
    data = facts["data"]
    assert main(base) == 0 and moments.load_moments(out)[1]["data"] == data
    Image.fromarray(255 - pixels[0]).save(tmp_path / "pictures" / "00.png")
    assert main(base) == 0 and moments.load_moments(out)[1]["data"] != data
    Image.fromarray(pixels[0]).save(tmp_path / "pictures" / "00.png")
    assert main(base) == 0
    gaussian, _ = moments.load_moments(out)
    data = torch.from_numpy(pixels).permute(0, 3, 1, 2).flatten(1).double() / 127.5 - 1
    covariance = torch.cov(data.T, correction=0)
    np.testing.assert_allclose(gaussian.mu, data.mean(0), atol=1e-6)
    np.testing.assert_allclose(gaussian.lam, torch.linalg.eigvalsh(covariance).flip(0)[:15], rtol=1e-4)
    assert float(gaussian.spectrum.sum()) == pytest.approx(float(covariance.trace()), rel=1e-4)
    np.testing.assert_allclose((gaussian.U.T @ covariance @ gaussian.U).diagonal(), gaussian.lam, rtol=1e-2)
    assert main([*base, "--n", "7", "--channels", "1"]) == 0
    gaussian, facts = moments.load_moments(out)
    assert facts["n"] == 7 and gaussian.dim == 16 and len(gaussian.lam) == 3


def test_moments_of_a_models_own_samples_say_that_they_are_circular(tmp_path, capsys):
    pipelines.stable_diffusion(tmp_path / "make").save_pretrained(str(tmp_path / "sd"))
    out = tmp_path / "own.safetensors"
    options = ["--prompt", "a red house", "--n", "6", "--steps", "2", "--device", "cpu", "--out", str(out)]
    assert main(["moments", "--samples", str(tmp_path / "sd"), *options]) == 0
    assert "circular" in capsys.readouterr().out
    gaussian, facts = moments.load_moments(out)
    assert facts["circular"] and facts["source"] == "own samples of sd" and facts["prompt"] == "a red house"
    assert facts["seeds"] == "1000000-1000005"
    model = painters.load(tmp_path / "sd", device="cpu")
    levels = model.levels(2)
    x = levels.start(painters.noise(range(10**6, 10**6 + 6), model.shape))
    want = painters.solve(model.denoiser("a red house"), x, levels, solver="dpmpp2m", progress=False).final
    np.testing.assert_allclose(gaussian.mu, want.flatten(1).mean(0), atol=1e-4)
    assert not out.with_name("own.safetensors.parts").exists()


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
    pictures = torch.stack([torch.from_numpy(read(tmp_path / "pictures" / f"{i}.png", size=16)) for i in range(5)])
    gaussian, facts = moments.load_moments(out)
    np.testing.assert_allclose(gaussian.mu, model.encode(pictures / 255).flatten(1).mean(0), atol=1e-5)
    assert facts["size"] == 16


def test_an_interruption_keeps_the_samples_that_are_painted(tmp_path, capsys, monkeypatch):
    out, real, calls = tmp_path / "m.safetensors", moments.solve, []
    arguments = ["moments", "--samples", "fashion-ddpm", "--prompt", "Bag", "--steps", "2", "--device", "cpu"]
    arguments += ["--out", str(out)]
    seeds = range(10**6, 10**6 + 12)

    def interrupted(*args, **kwargs):
        calls.append(kwargs["seeds"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(moments, "solve", interrupted)
    assert main([*arguments, "--n", "12", "--batch", "3"]) == 130
    assert "what was finished is kept" in capsys.readouterr().err and not out.exists()
    shards = sorted((tmp_path / "m.safetensors.parts").glob("*.safetensors"))
    assert [load_file(shard)["seeds"].tolist() for shard in shards] == [
        [1000000, 1000001, 1000002],
        [1000003, 1000004, 1000005],
    ]
    for other, says in ((["--guidance", "2"], "guidance 1.0"), (["--spacing", "even"], "spacing None")):
        assert main([*arguments, "--n", "12", *other]) == 1  # another run
        assert f"holds another run ({says})" in capsys.readouterr().err
    assert main([*arguments, "--n", "12", "--batch", "4"]) == 0
    assert calls[3:] == [(1000006, 1000007, 1000008, 1000009), (1000010, 1000011)] and sorted(tmp_path.iterdir()) == [
        out
    ]
    gaussian, facts = moments.load_moments(out)
    model = painters.load("fashion-ddpm", device="cpu")
    whole, _ = moments.gaussian_of(moments.painted(model, seeds, prompt="Bag", steps=2))
    assert facts["n"] == 12
    np.testing.assert_allclose(gaussian.mu, whole.mu, atol=1e-4)
    np.testing.assert_allclose(gaussian.lam, whole.lam, rtol=1e-3)


def test_identical_pictures_are_refused(tmp_path, capsys):
    for i in range(6):
        Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / f"{i}.png")
    out = tmp_path / "m.safetensors"
    for options in ([], ["--channels", "1", "--size", "2"]):  # fewer pictures than dimensions, and more
        assert main(["moments", str(tmp_path), "--size", "4", *options, "--out", str(out)]) == 1
        assert "all 6 samples are the same" in capsys.readouterr().err and not out.exists()


def test_a_sample_folder_is_read_without_its_sheet(tmp_path, capsys):
    made, out = tmp_path / "out", tmp_path / "m.safetensors"
    fast = ["--steps", "2", "--solver", "ddim", "--device", "cpu"]
    assert main(["sample", "fashion-ddpm", "--seeds", "0-4", *fast, "--out", str(made)]) == 0
    assert main(["moments", str(made), "--size", "28", "--channels", "1", "--out", str(out)]) == 0
    assert "sheet.png (the contact sheet of a run)" in capsys.readouterr().out
    assert moments.load_moments(out)[1]["n"] == 5


def test_a_folder_without_pictures_names_what_is_there(tmp_path, capsys):
    (tmp_path / "a.heic").write_text("")
    assert main(["moments", str(tmp_path), "--out", str(tmp_path / "m.safetensors")]) == 1
    assert (
        f"holds no picture; 1 file skipped: {tmp_path / 'a.heic'} (no kind of picture that is read)"
        in capsys.readouterr().err
    )


def test_what_was_skipped_is_said_also_where_too_little_is_left(tmp_path, capsys):
    for i in range(3):
        Image.new("L", (4, 4), i).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_text("")
    assert main(["moments", str(tmp_path), "--size", "4", "--out", str(tmp_path / "m.safetensors")]) == 1
    said = capsys.readouterr()
    assert "at least 4 samples, got 3" in said.err and "broken.png (damaged" in said.out


def test_a_batch_of_which_nothing_can_be_read_is_passed_over(tmp_path, capsys):
    """Pictures are read 250 at a time; here the first so many are damaged."""
    for i in range(250):
        (tmp_path / f"a{i:03d}.png").write_text("")
    for i in range(4):
        Image.new("L", (4, 4), 40 * i).save(tmp_path / f"b{i}.png")
    out = tmp_path / "m.safetensors"
    assert main(["moments", str(tmp_path), "--size", "4", "--out", str(out)]) == 0
    assert "250 files skipped" in capsys.readouterr().out and moments.load_moments(out)[1]["n"] == 4


def test_a_data_set_of_the_hub_is_streamed(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    asked = []

    def load_dataset(*name, **options):
        asked.append((name, options))
        return ({"label": i, "image": Image.fromarray(picture)} for i, picture in enumerate(pixels))

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    out = tmp_path / "m.safetensors"
    assert main(["moments", "owner/data", "--size", "4", "--n", "7", "--out", str(out)]) == 0
    assert asked == [(("owner/data",), {"split": "train", "streaming": True})]
    gaussian, facts = moments.load_moments(out)
    assert facts["n"] == 7 and facts["source"] == "owner/data"
    mean = pixels[:7].transpose(0, 3, 1, 2).reshape(7, -1).mean(0) / 127.5 - 1
    np.testing.assert_allclose(gaussian.mu, mean, atol=1e-6)
