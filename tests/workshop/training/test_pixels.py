"""Training denoisers of pictures: packed models load, numbers are what they say, own pictures are taken as they are."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from partners import target
from PIL import Image

import painters
from atelier.cli import main
from atelier.data import images as image_data
from atelier.data.images import ImageData, to_unit
from atelier.training import pixels
from atelier.training.evaluation import denoising_loss
from atelier.training.loop import Session
from atelier.training.recipes import RECIPES, Pace, Pixels, Recipe
from atelier.training.targets import missed
from painters.levels import Levels
from painters.schedules import vp_linear
from painters.theory import Gaussian

NETWORK = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
}
RECIPE = Recipe(
    "tiny", "a tiny run", "fashion", NETWORK, Pixels(classes=("a", "b"), moments=16), Pace(batch=8, steps=20, warmup=5)
)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(96, 1, 8, 8, generator=generator) * 255).to(torch.uint8)
    labels = torch.arange(96) % 2
    return ImageData(images[:64], images[64:], labels[:64], labels[64:], source="fashion")


def session(folder, steps):
    return Session(folder, steps, progress=False)


def weights(run):
    return torch.cat([p.flatten() for p in run.average.parameters()])


def test_a_resumed_run_repeats_an_uninterrupted_one(data, tmp_path):
    whole = pixels.train_pixels(RECIPE, data, session(tmp_path / "whole", 12))
    pixels.train_pixels(RECIPE, data, session(tmp_path / "parts", 7))
    parts = pixels.train_pixels(RECIPE, data, session(tmp_path / "parts", 12))
    assert torch.equal(weights(whole), weights(parts))
    assert [(s["step"], s["images"], len(s["gaussian_loss"])) for s in parts.snapshots] == [(8, 64, 12)]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_what_is_missed_is_the_distance_to_the_target_at_each_state_s_own_time(prediction):
    """A network that knows the noise misses nothing; one that returns zero, the whole target."""
    draw = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 5, 1, 4, 4, generator=draw)
    t = torch.tensor([0, 100, 500, 900, 999])
    alpha, sigma = (v.float()[t].view(-1, 1, 1, 1) for v in vp_linear().table())
    wanted = target(x0, eps, alpha, sigma, prediction=prediction)
    asked = []

    def knows(x, t):
        asked.append((x, t))
        return wanted

    loss = missed(knows, x0, eps, t, schedule=vp_linear(), prediction=prediction)
    assert loss.shape == (5,) and not loss.any() and torch.equal(asked[0][1], t)
    torch.testing.assert_close(asked[0][0], alpha * x0 + sigma * eps)
    loss = missed(lambda x, t: torch.zeros_like(x), x0, eps, t, schedule=vp_linear(), prediction=prediction)
    torch.testing.assert_close(loss, wanted.square().mean((1, 2, 3)))


def test_labels_are_hidden_at_the_stated_rate_and_times_are_stratified():
    images, labels = torch.zeros(10, 1, 8, 8), torch.arange(10) % 2
    recipe = replace(RECIPE, pace=replace(RECIPE.pace, batch=50))
    hidden = torch.stack([pixels._draw(recipe, images, labels, k)[3] for k in range(200)])
    assert float((hidden == 2).double().mean()) == pytest.approx(0.15, abs=0.02)
    t = pixels._draw(recipe, images, labels, 0)[2]
    assert torch.equal((t // 20).sort().values, torch.arange(50))


def test_training_lowers_the_test_loss(tmp_path):
    """On nearly constant images there is something to learn at once."""
    nearly = torch.randint(229, 232, (80, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    flat = ImageData(nearly[:64], nearly[64:])
    fast = replace(RECIPE, kind=Pixels(), pace=replace(RECIPE.pace, learning_rate=3e-3))
    run = pixels.train_pixels(fast, flat, session(tmp_path, 64))
    first, last = (sum(s["loss"][:6]) for s in (run.snapshots[0], run.snapshots[-1]))
    assert last < 0.5 * first


def test_a_packed_model_loads_and_its_card_says_what_it_measured(data, tmp_path):
    run = pixels.train_pixels(RECIPE, data, session(tmp_path / "run", 8))
    out = pixels.pack_pixels(run, RECIPE, data, tmp_path / "model")
    model = painters.load(out, device="cpu")
    assert model.classes == ("a", "b") and model.prediction == "v_prediction" and model.shape == (1, 8, 8)
    kept = torch.cat([p.flatten() for p in model.network.parameters()])
    torch.testing.assert_close(kept, weights(run), rtol=0, atol=0)  # the card's numbers are those of rounded weights
    loss = model.card["loss"]
    levels = Levels(torch.tensor(loss["alpha"]), torch.tensor(loss["sigma"]))
    again = denoising_loss(model.denoiser(), to_unit(data.test), levels)
    assert again["loss"] == pytest.approx(loss["loss"], rel=1e-3)
    made = model.card["training"]
    assert (made["steps"], made["images"], made["epochs"], made["batch"]) == (8, 64, 1.0, 8)
    assert made["data"] == "fashion" and made["seed"] == 0 and "network" not in made
    assert model.moments is not None and len(model.moments.lam) == 16
    assert not [key for key in json.loads((out / "unet" / "config.json").read_text()) if key == "_name_or_path"]


def test_nothing_is_left_of_a_model_whose_card_cannot_be_written(data, tmp_path, monkeypatch):
    run = pixels.train_pixels(RECIPE, data, session(tmp_path / "run", 1))
    monkeypatch.setattr(pixels, "loss_beside", lambda *_, **__: {"loss": [float("nan")]})
    with pytest.raises(ValueError, match="not finite, so nothing was written"):
        pixels.pack_pixels(run, RECIPE, data, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_loss_of_the_exact_denoiser_is_its_mmse():
    generator = torch.Generator().manual_seed(1)
    lam = torch.tensor([4.0, 1.0, 0.1], dtype=torch.float64)
    g = Gaussian(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64), lam)
    x0 = torch.randn(40_000, 3, generator=generator, dtype=torch.float64) * lam.sqrt()
    levels = Levels.of(vp_linear(), 6)[:-1]
    measured = denoising_loss(g, x0, levels, references={"mean": Gaussian(g.mu, g.U[:, :0], g.lam[:0])})
    for (alpha, sigma), loss, error in zip(levels, measured["loss"], measured["loss_se"]):
        assert loss == pytest.approx(g.mmse((alpha, sigma)), abs=5 * error)
    assert measured["mean_loss"][0] == pytest.approx(float(lam.sum()), rel=0.03)


# A reader's own pictures


def draw(folder, *, mode="RGB", shift=0, n=30):
    """Pictures of a gradient, each a little brighter than the last."""
    folder.mkdir()
    ramp = np.linspace(0, 100, 40 * 30).reshape(30, 40)
    for i in range(n):
        grey = (ramp + 4 * i + shift).astype(np.uint8)
        pixels_ = grey if mode == "L" else np.stack([grey, 0 * grey + 100, 255 - grey], -1)
        Image.fromarray(pixels_).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture
def small(monkeypatch):
    """The recipe for own pictures, with the tiny network."""
    keys = ("block_out_channels", "norm_num_groups", "down_block_types", "up_block_types")
    tiny = {key: NETWORK[key] for key in keys} | {"attention_head_dim": 4}
    recipe = RECIPES["pixels"]
    recipe = replace(recipe, network=recipe.network | tiny, pace=replace(recipe.pace, batch=4, steps=2))
    monkeypatch.setitem(RECIPES, "pixels", recipe)
    return recipe


@pytest.mark.parametrize(("mode", "size", "options", "channels"), [
    ("RGB", 16, [], 3), ("L", 8, [], 1), ("L", 8, ["--channels", "3"], 3), ("RGB", 8, ["--channels", "1"], 1),
])  # fmt: skip
def test_own_pictures_train_a_model_of_their_size_and_colours(tmp_path, small, capsys, mode, size, options, channels):
    pictures = draw(tmp_path / "pictures", mode=mode)
    (pictures / "broken.png").write_bytes(b"not a picture")
    out = tmp_path / "model"
    arguments = ["train", "pixels", "--data", str(pictures), "--size", str(size), "--run", str(tmp_path / "run")]
    assert main([*arguments, *options, "--device", "cpu", "--out", str(out)]) == 0
    assert "broken.png" in capsys.readouterr().out
    model = painters.load(out, device="cpu")
    assert model.shape == (channels, size, size) and model.classes == ()
    found = image_data.folder(pictures, size=size, channels=channels)
    assert (len(found.train), len(found.test)) == (27, 3)
    assert model.moments is not None
    torch.testing.assert_close(model.moments.mu, to_unit(found.train).double().mean(0).flatten(), atol=1e-6, rtol=0)
    card = model.card
    assert card["training"]["data"] == "folder" and card["training"]["epochs"] > 0 and card["loss"]["n"] == 3
    assert card["command"] == f"painters train pixels --data FOLDER --size {size} --steps 2"
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["fingerprint"]["data"] == found.digest()
    assert state["fingerprint"]["network"]["sample_size"] == size


def test_other_pictures_in_the_same_run_folder_are_refused(tmp_path, small, capsys):
    """Also pictures of another size, though their network is another."""
    one, other = draw(tmp_path / "one"), draw(tmp_path / "other", shift=1)
    run = ["--run", str(tmp_path / "run"), "--device", "cpu"]
    assert main(["train", "pixels", "--data", str(one), "--size", "8", *run]) == 0
    before = (tmp_path / "run" / "state.pt").read_bytes()
    for arguments in (["--data", str(other), "--size", "8"], ["--data", str(one), "--size", "16"]):
        assert main(["train", "pixels", *arguments, *run]) == 1
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("painters: ")]
        assert "is the state of another training" in error and "name another folder" in error
    assert (tmp_path / "run" / "state.pt").read_bytes() == before


def test_missing_data_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PAINTERS_DATA", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(FileNotFoundError, match="PAINTERS_DATA"):
        pixels.load_data(RECIPES["fashion-ddpm"])
    with pytest.raises(FileNotFoundError, match="train the recipe pixels"):
        pixels.load_data(RECIPES["fashion-ddpm"], str(tmp_path))
