"""``painters vary``: what it writes, that what it keeps is kept, and how it fails."""

import errno
import json
import math
from dataclasses import replace

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image

import painters
from atelier.cli import main
from atelier.data import scenes
from atelier.variations import varying
from painters import Gaussian
from painters.models import moments

FAST = ["--steps", "6", "--solver", "ddim", "--device", "cpu"]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def latent(tmp_path_factory):
    """A latent stand-in of random weights, and moments for its latents."""
    folder = tmp_path_factory.mktemp("latent")
    pipelines.stable_diffusion(folder / "make").save_pretrained(str(folder / "sd"))
    U = torch.linalg.qr(random(256, 256)).Q[:, :60].contiguous()
    gaussian = Gaussian(torch.zeros(256, dtype=torch.float64), U, torch.logspace(1, -2, 60).double(), 0.005)
    moments.save_moments(gaussian, folder / "m.safetensors", facts={"source": "made up"})
    return folder


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_vary_writes_the_picture_its_variations_a_sheet_and_what_was_done(tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--seed", "7", "--keep", "outline", "--level", "0.6", "--n", "3", "--out", str(out)]
    assert main(["vary", "fashion-ddpm", *options, *FAST]) == 0
    names = ["original.png", "run.json", "sheet.png", *(f"variation-{j:02d}.png" for j in range(3)), "vary.json"]
    assert sorted(p.name for p in out.iterdir()) == names
    found = json.loads((out / "vary.json").read_text())
    model = painters.load("fashion-ddpm", device="cpu")
    levels = model.levels(6, spacing="logsnr")
    i = int((levels.ratio[:-1].log() - math.log(0.6)).abs().argmin())
    assert found["level_asked"] == 0.6 and found["level"] == pytest.approx(float(levels.ratio[i]))
    lam = model.moments.lam
    assert found["pcs"] == int((lam >= levels.ratio[i] ** 2).sum()) > 0
    assert found["variance_kept"] == pytest.approx(float(lam[: found["pcs"]].sum() / model.moments.spectrum.sum()))
    assert (
        found["n"] == len(found["distance"]) == 3
        and all(0 < d < 1 for d in found["distance"])
        and found["round_trip"] is None
    )
    run = painters.solve(
        model.denoiser(), levels.start(painters.noise([7], model.shape)), levels, solver="ddim", progress=False
    )
    np.testing.assert_allclose(pixels(out / "original.png"), model.decode(run.final)[0, 0] * 255, atol=1)
    assert len({pixels(out / f"variation-{j:02d}.png").tobytes() for j in range(3)}) == 3
    said = capsys.readouterr().out
    assert "nearest to 0.6" in said and f"first {found['pcs']} PCs" in said
    assert "the variations lie at" in said and "original.png, 3 variations, sheet.png" in said
    assert main(["vary", "fashion-ddpm", *options, *FAST]) == 0  # the same again is no other run


def test_what_is_kept_and_what_changes(tmp_path):
    """All PCs kept, or none of the details: nothing changes. None kept: everything may."""
    model = painters.load("fashion-ddpm", device="cpu")
    base = {"model": "fashion-ddpm", "seed": 3, "level": 1.0, "n": 2, "steps": 6, "solver": "ddim"}
    full = Gaussian(model.moments.mu, torch.eye(784).double(), torch.full((784,), 0.1).double())
    everything = varying.vary(model, varying.Plan(**base, pcs=784), tmp_path / "a", gaussian=full)
    assert max(everything["distance"]) < 1e-4 and everything["variance_kept"] == pytest.approx(1)
    nothing = varying.vary(model, varying.Plan(**base, pcs=0), tmp_path / "b", gaussian=full)
    assert min(nothing["distance"]) > 0.2 and nothing["variance_kept"] == 0
    details = varying.vary(model, varying.Plan(**base, keep="details", pcs=0), tmp_path / "c", gaussian=full)
    assert max(details["distance"]) < 1e-4 and details["variance_kept"] == 1
    np.testing.assert_allclose(pixels(tmp_path / "a" / "variation-00.png"), pixels(tmp_path / "a" / "original.png"))


def test_the_batch_does_not_matter(tmp_path):
    model = painters.load("fashion-ddpm", device="cpu")
    plan = varying.Plan("fashion-ddpm", 1, n=3, steps=4, solver="ancestral")
    one, other = (varying.vary(model, plan, tmp_path / str(b), batch=b)["distance"] for b in (1, 3))
    np.testing.assert_allclose(one, other, rtol=1e-3)


def test_the_default_level_keeps_an_outline_that_is_most_of_the_picture():
    lam = torch.tensor([10.0, 4.0, 1.0, 0.05], dtype=torch.float64)
    g = Gaussian(torch.zeros(4).double(), torch.eye(4).double(), lam)
    ratio = torch.tensor([50.0, 5.0, 2.5, 1.9, 0.9, 0.1], dtype=torch.float64)
    alpha = torch.cat([1 / (1 + ratio**2).sqrt(), torch.ones(1).double()])
    levels = painters.Levels(alpha, torch.cat([ratio * alpha[:-1], torch.zeros(1).double()]))
    assert varying.default_level(g, levels) == 3  # 14 of 15.05 stand at 1.9, 10 at 2.5
    few = Gaussian(torch.zeros(4).double(), torch.eye(4)[:, :1].double().contiguous(), lam[:1], 5.0)
    assert varying.default_level(few, levels) == 5
    exactly = Gaussian(torch.zeros(2).double(), torch.eye(2).double(), torch.tensor([4.0, 1.0]).double())
    assert varying.default_level(exactly, levels) == 3, "80 % are enough"
    assert varying.default_level(replace(exactly, lam=torch.tensor([3.99, 1.0]).double()), levels) == 4


def test_the_level_is_the_nearest_by_its_logarithm_and_none_beyond_the_noisy_ones():
    alpha = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0]).double()
    levels = painters.Levels(alpha, torch.tensor([1.0, 50.0, 5.0, 0.5, 0.1, 0.0], dtype=torch.float64))
    assert [varying.nearest(levels, level) for level in (50.0, 0.1, 1.6, 1.5, 16.0, 15.7)] == [1, 4, 2, 3, 1, 2]
    for level in (50.01, 0.0999, math.nan):
        with pytest.raises(ValueError, match=r"between 0\.1 and 50 for this model"):
            varying.nearest(levels, level)


def test_settings_that_make_nothing_are_refused_before_a_folder_is_there(tmp_path):
    model = painters.load("fashion-ddpm", device="cpu")
    for plan, says in (
        (varying.Plan("fashion-ddpm", n=0), "at least one variation is needed, got --n 0"),
        (varying.Plan("fashion-ddpm", n=1, pcs=-1), "--pcs lies between 0 and that, got -1"),
        (varying.Plan("fashion-ddpm", n=1, pcs=10_000), "--pcs lies between 0 and that, got 10000"),
    ):
        with pytest.raises(ValueError, match=says):
            varying.vary(model, plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_own_picture_is_inverted_and_varied(tmp_path, capsys):
    states = painters.load("scenes-sd", device="cpu")
    drawn = scenes.render(scenes.sample(1, scenes.TEST_SEEDS.start), 64)[0].permute(1, 2, 0).numpy()
    Image.fromarray(drawn).save(tmp_path / "mine.png")
    options = ["--image", str(tmp_path / "mine.png"), "--level", "0.5", "--n", "2", "--out", str(tmp_path / "out")]
    assert main(["vary", "scenes-sd", *options, "--steps", "12", "--device", "cpu"]) == 0
    found = json.loads((tmp_path / "out" / "vary.json").read_text())
    assert 0 < found["round_trip"] < 0.1 and "inverted" in capsys.readouterr().out
    want = (states.decode(varying.picture(tmp_path / "mine.png", states))[0] * 255).permute(1, 2, 0)
    np.testing.assert_allclose(pixels(tmp_path / "out" / "original.png"), want, atol=1)


def test_a_latent_model_takes_a_prompt_moments_and_a_picture(latent, tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    base = ["vary", str(latent / "sd"), "--moments", str(latent / "m.safetensors"), "--n", "2", "--level", "0.7", *FAST]
    words = ["--prompt", "a red house", "--guidance", "3"]
    assert main([*base, *words, "--out", str(tmp_path / "a")]) == 0
    assert main([*base, "--image", str(tmp_path / "red.png"), "--out", str(tmp_path / "b")]) == 0
    assert pixels(tmp_path / "a" / "original.png").shape == (16, 16, 3)
    found = json.loads((tmp_path / "a" / "vary.json").read_text())
    assert found["prompt"] == "a red house" and found["guidance"] == 3 and found["pcs"] > 0
    assert json.loads((tmp_path / "b" / "vary.json").read_text())["round_trip"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-model"], "bundled name"),
        (["fashion-ddpm", "--n", "0"], "--n: give a whole number of at least 1"),
        (["fashion-ddpm", "--level", "500"], "noise level sigma/alpha between"),
        (["fashion-ddpm", "--level", "-1"], "noise level sigma/alpha between"),
        (["fashion-ddpm", "--level", "nan"], "--level: give a number"),
        (["fashion-ddpm", "--pcs", "513"], "512 components"),
        (["fashion-ddpm", "--pcs", "-1"], "--pcs: give a whole number of at least 0"),
        (["fashion-ddpm", "--seed", "-1"], "--seed: give a whole number of at least 0"),
        (["fashion-ddpm", "--steps", "0"], "--steps: give a whole number of at least 1"),
        (["fashion-ddpm", "--steps", "1001"], "1 to 1000 steps"),
        (["fashion-ddpm", "--batch", "0"], "--batch: give a whole number of at least 1"),
        (["fashion-ddpm", "--guidance", "a,b"], "--guidance: give a number"),
        (["fashion-ddpm", "--device", "foo"], "foo"),
        (["fashion-ddpm", "--image", "nowhere.png"], "no picture nowhere.png"),
        (["fashion-ddpm", "--guidance", "3"], "needs a prompt"),
        (["fashion-ddpm", "--moments", "nowhere.safetensors"], "no moments file"),
    ],
)
def test_mistakes_are_one_sentence(arguments, says, tmp_path, capsys):
    assert main(["vary", *FAST, *arguments, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.strip()
    assert says in error and error.startswith("painters: ") and "\n" not in error
    assert not list(tmp_path.rglob("*.png"))


def test_a_model_without_moments_and_broken_pictures_are_one_sentence(latent, tmp_path, capsys):
    assert main(["vary", str(latent / "sd"), *FAST, "--out", str(tmp_path / "out")]) == 1
    assert "painters moments" in capsys.readouterr().err
    wrong = ["--moments", str(latent / "m.safetensors")]
    assert main(["vary", "fashion-ddpm", *wrong, *FAST, "--out", str(tmp_path / "out")]) == 1
    assert "256 dimensions" in capsys.readouterr().err
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    for name in ("text.png", "half.png"):
        options = ["--image", str(tmp_path / name), *FAST, "--out", str(tmp_path / "out")]
        assert main(["vary", "fashion-ddpm", *options]) == 1
        error = capsys.readouterr().err.strip()
        assert f"{name} cannot be read" in error and "\n" not in error


def test_a_folder_of_another_run_and_a_full_disk(tmp_path, monkeypatch, capsys):
    base = ["vary", "fashion-ddpm", "--n", "1", *FAST, "--out", str(tmp_path)]
    assert main([*base, "--seed", "1"]) == 0
    said = capsys.readouterr().out
    assert "the variation lies at" in said and "original.png, 1 variation, sheet.png" in said
    assert main([*base, "--seed", "2"]) == 1
    assert "another run" in capsys.readouterr().err
    before = pixels(tmp_path / "original.png")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert main([*base, "--seed", "1"]) == 1
    error = capsys.readouterr().err.strip()
    assert "No space left" in error and "\n" not in error
    monkeypatch.undo()
    np.testing.assert_array_equal(pixels(tmp_path / "original.png"), before)
    assert not list(tmp_path.glob(".*"))


def test_an_interrupted_call_keeps_what_was_finished_and_continues(tmp_path, monkeypatch, capsys):
    base = ["vary", "fashion-ddpm", "--n", "5", "--batch", "2", *FAST]
    assert main([*base, "--out", str(tmp_path / "whole")]) == 0
    real, calls = varying.paint_on, []

    def interrupted(*args, **kwargs):
        calls.append(kwargs["seeds"])
        if len(calls) == 3:  # the original, the first two variations, and then
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(varying, "paint_on", interrupted)
    out = tmp_path / "out"
    assert main([*base, "--out", str(out)]) == 130
    assert "what was finished is kept, the same command continues" in capsys.readouterr().err
    assert len(json.loads((out / "vary.json").read_text())["distance"]) == 2
    before = [(out / f"variation-{j:02d}.png").stat().st_mtime_ns for j in range(2)]
    assert main([*base, "--out", str(out)]) == 0
    assert before == [(out / f"variation-{j:02d}.png").stat().st_mtime_ns for j in range(2)]
    assert [len(seeds) for seeds in calls] == [1, 2, 2, 1, 2, 1]  # of the variations only the missing ones
    for name in ("original.png", "sheet.png", *(f"variation-{j:02d}.png" for j in range(5))):
        np.testing.assert_allclose(pixels(out / name), pixels(tmp_path / "whole" / name), atol=1, err_msg=name)
    found, whole = (json.loads((folder / "vary.json").read_text()) for folder in (out, tmp_path / "whole"))
    np.testing.assert_allclose(found.pop("distance"), whole.pop("distance"), rtol=1e-3)
    assert found == whole


def test_more_variations_are_added_and_fewer_take_none_away(tmp_path):
    model = painters.load("fashion-ddpm", device="cpu")
    plan = varying.Plan("fashion-ddpm", steps=4, solver="ddim", n=2)
    first = varying.vary(model, plan, tmp_path)["distance"]
    more = varying.vary(model, replace(plan, n=3), tmp_path)
    assert more["distance"][:2] == first and more["n"] == 3
    assert varying.vary(model, plan, tmp_path)["distance"] == more["distance"]


def test_what_was_made_of_something_else_is_refused(tmp_path):
    model = painters.load("fashion-ddpm", device="cpu")
    plan = varying.Plan("fashion-ddpm", steps=4, solver="ddim", n=1, image=str(tmp_path / "mine.png"))
    Image.new("L", (28, 28), 90).save(tmp_path / "mine.png")
    varying.vary(model, plan, tmp_path / "out")
    other = painters.load("fashion-twin-v", device="cpu")
    with pytest.raises(ValueError, match="weights"):
        varying.vary(other, plan, tmp_path / "out", gaussian=model.moments)
    with pytest.raises(ValueError, match="theory"):
        varying.vary(model, plan, tmp_path / "out", gaussian=replace(model.moments, rest=0.5))
    with pytest.raises(ValueError, match="keep"):
        varying.vary(model, replace(plan, keep="details"), tmp_path / "out")
    Image.new("L", (28, 28), 91).save(tmp_path / "mine.png")
    with pytest.raises(ValueError, match="picture"):
        varying.vary(model, plan, tmp_path / "out")


def test_a_wrong_seed_leaves_no_folder(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["vary", "scenes-sd", "--seed", "4294967296", "--n", "1", "--out", str(out), *FAST]) == 1
    assert "a seed lies between" in capsys.readouterr().err and not out.exists()
