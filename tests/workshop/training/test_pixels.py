"""Training: resumed runs repeat uninterrupted ones, packed models load, numbers are what they say."""

import json
from dataclasses import replace

import pytest
import torch

import painters
from atelier.data.images import ImageData, folder, to_unit
from atelier.training import loop
from atelier.training import pixels as training
from atelier.training.evaluation import denoising_loss
from atelier.training.packing import pack
from atelier.training.recipes import RECIPES, Recipe
from painters.cli import main
from painters.levels import Levels, vp_linear
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
RECIPE = Recipe("tiny", "a tiny run", "fashion", NETWORK, classes=("a", "b"), batch=8, steps=20, warmup=5, moments=16)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(96, 1, 8, 8, generator=generator) * 255).to(torch.uint8)
    labels = torch.arange(96) % 2
    return ImageData(images[:64], images[64:], labels[:64], labels[64:], source="fashion")


def weights(run):
    return torch.cat([p.flatten() for p in run.average.parameters()])


def test_a_resumed_run_repeats_an_uninterrupted_one(data, tmp_path):
    whole = training.train(RECIPE, data, steps=12, folder=tmp_path / "whole", progress=False)
    training.train(RECIPE, data, steps=7, folder=tmp_path / "parts", progress=False)
    parts = training.train(RECIPE, data, steps=12, folder=tmp_path / "parts", progress=False)
    assert torch.equal(weights(whole), weights(parts))
    assert [s["step"] for s in parts.snapshots] == [8]
    assert parts.seconds > 0
    assert parts.hardware == loop.hardware("cpu")


def test_the_card_names_the_hardware_of_every_stretch_of_training(data, tmp_path, monkeypatch):
    training.train(RECIPE, data, steps=2, folder=tmp_path, progress=False)
    monkeypatch.setattr(loop, "hardware", lambda device: "another machine")
    for steps in (3, 4):
        run = training.train(RECIPE, data, steps=steps, folder=tmp_path, progress=False)
    assert run.hardware.endswith(", then another machine") and run.hardware.count("then") == 1


def test_ctrl_c_saves_the_state_and_the_run_goes_on(data, tmp_path, monkeypatch):
    real = loop._step

    def interrupted(run, *args):
        if run.step == 5:
            raise KeyboardInterrupt
        return real(run, *args)

    monkeypatch.setattr(loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(RECIPE, data, steps=9, folder=tmp_path, progress=False)
    monkeypatch.setattr(loop, "_step", real)
    resumed = training.train(RECIPE, data, steps=9, folder=tmp_path, progress=False)
    whole = training.train(RECIPE, data, steps=9, folder=tmp_path / "whole", progress=False)
    assert torch.equal(weights(resumed), weights(whole))


def test_a_damaged_state_is_named_and_left_alone(data, tmp_path):
    training.train(RECIPE, data, steps=1, folder=tmp_path, progress=False)
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cannot be resumed"):
        training.train(RECIPE, data, steps=2, folder=tmp_path, progress=False)
    assert path.stat().st_size == 5000


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(data, tmp_path):
    training.train(RECIPE, data, steps=2, folder=tmp_path, progress=False)
    good = (tmp_path / "state.pt").read_bytes()
    wild = replace(RECIPE, learning_rate=float("inf"))
    with pytest.raises(FloatingPointError, match="learning rate"):
        training.train(wild, data, steps=70, folder=tmp_path, progress=False, save_every=1e9)
    assert (tmp_path / "state.pt").read_bytes() == good


def test_the_average_weighs_step_i_by_its_power(data):
    run = loop.Run.new(lambda: training.build(RECIPE), "cpu", learning_rate=1e-3)
    parameters = list(run.network.parameters())
    mean = total = 0.0
    for step in range(1, 60):
        run.step = step
        parameters[0].data.fill_(float(step))
        loop._average(run, gamma=3.0)
        mean, total = mean + step**3.0 * step, total + step**3.0
    assert float(next(run.average.parameters()).flatten()[0]) == pytest.approx(mean / total, rel=0.05)


def test_labels_are_hidden_at_the_stated_rate_and_times_are_stratified():
    images, labels = torch.zeros(10, 1, 8, 8), torch.arange(10) % 2
    recipe = replace(RECIPE, batch=50, label_dropout=0.15)
    hidden = torch.stack([training._draw(recipe, images, labels, k)[3] for k in range(200)])
    assert float((hidden == 2).double().mean()) == pytest.approx(0.15, abs=0.02)
    t = training._draw(recipe, images, labels, 0)[2]
    assert torch.equal((t // 20).sort().values, torch.arange(50))


def test_training_lowers_the_test_loss(data, tmp_path):
    """On constant images there is something to learn at once."""
    flat = ImageData(
        torch.full((64, 1, 8, 8), 230, dtype=torch.uint8), torch.full((16, 1, 8, 8), 230, dtype=torch.uint8)
    )
    run = training.train(replace(RECIPE, learning_rate=3e-3), flat, steps=64, folder=tmp_path, progress=False)
    first, last = (sum(s["loss"][:6]) for s in (run.snapshots[0], run.snapshots[-1]))
    assert last < 0.5 * first


def test_a_packed_model_loads_and_its_card_says_what_it_measured(data, tmp_path):
    run = training.train(RECIPE, data, steps=8, folder=tmp_path / "run", progress=False)
    out = pack(run, RECIPE, data, tmp_path / "model", images=16)
    model = painters.load(out, device="cpu")
    assert model.classes == ("a", "b") and model.prediction == "v_prediction" and model.shape == (1, 8, 8)
    kept = torch.cat([p.flatten() for p in model.network.parameters()])
    torch.testing.assert_close(kept, weights(run), rtol=1e-3, atol=1e-4)
    loss = model.card["loss"]
    levels = Levels(torch.tensor(loss["alpha"]), torch.tensor(loss["sigma"]))
    again = denoising_loss(model.denoiser(), to_unit(data.test[:16]), levels)
    assert again["loss"] == pytest.approx(loss["loss"], rel=1e-3)
    assert model.card["training"]["steps"] == 8 and model.card["training"]["images"] == 64
    assert model.moments is not None and len(model.moments.lam) == 16
    assert not [key for key in json.loads((out / "unet" / "config.json").read_text()) if key == "_name_or_path"]


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


def test_a_reader_s_folder_of_pictures_trains_an_unconditional_model(tmp_path):
    from PIL import Image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(30):
        Image.new("RGB", (40, 30), (8 * i, 100, 200)).save(pictures / f"{i}.png")
    (pictures / "broken.png").write_bytes(b"not a picture")
    found = folder(pictures, size=8, channels=1)
    assert found.train.shape == (27, 1, 8, 8) and found.test.shape == (3, 1, 8, 8) and found.train_labels is None
    assert training.fitting(RECIPE, found).classes == ()
    (tmp_path / "few").mkdir()
    with pytest.raises(FileNotFoundError, match="at least 20"):
        folder(tmp_path / "few", size=8)


def test_the_train_command_writes_a_model(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "tiny", RECIPE)
    monkeypatch.setattr(training, "load_data", lambda recipe, folder=None: data)
    run, out = tmp_path / "run", tmp_path / "model"
    assert main(["train", "tiny", "--steps", "8", "--run", str(run), "--out", str(out)]) == 0
    assert painters.load(out, device="cpu").card["training"]["steps"] == 8
    assert (run / "sheet-8.png").is_file()


def test_missing_data_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PAINTERS_DATA", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(FileNotFoundError, match="PAINTERS_DATA"):
        training.load_data(RECIPES["fashion-ddpm"])
