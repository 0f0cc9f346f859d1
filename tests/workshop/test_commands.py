"""The workshop's commands beside those of the core, and the networks that stand in where a model cannot be fetched."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from standins import LABEL, stand_in

import painters
from atelier import judging
from atelier.cli import main
from atelier.commands import doctor, listing
from atelier.data.images import ImageData
from atelier.data.known import FASHION_CLASS, KnownStates
from atelier.networks import bundled
from atelier.training import pixels
from painters.models import registry


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "sample" in (text := capsys.readouterr().out) and "train" in text
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"painters {painters.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "no-such-recipe"], "no recipe"),
        (["train", "fashion-ddpm", "--steps", "0"], "whole number of at least 1"),
        (["train", "fashion-ddpm", "--size", "32"], "--size and --channels are for the recipe pixels"),
        (["train", "fashion-ddpm", "--data", "."], "train the recipe pixels"),
        (["train", "fashion-ddpm", "--device", "foo"], "foo"),
        (["train", "pixels"], "name their folder with --data"),
        (["train", "pixels", "--data", "nowhere"], "no folder nowhere"),
        (["train", "pixels", "--data", ".", "--size", "30"], "a multiple of 4 from 8 pixels on, got 30"),
        (["train", "scenes-sd", "--data", "nowhere"], "no folder nowhere"),
        (["train", "scenes-reader", "--data", "."], "scenes are drawn by the package"),
        (["judge", "fashion-twin-v", "--n", "0"], "whole number of at least 1"),
        (["judge", "fashion-twin-v", "--n", "64"], "judging takes 65 to 10000 pictures"),
        (["judge", "fashion-twin-v", "--prompts", "-1"], "whole number of at least 0"),
        (["judge", "fashion-twin-v", "--guidance", "a,b"], "give a number, got 'a'"),
        (["claims"], "--model NAME"),
        (["claims", "--model", "fashion-ddpm", "--only", "magic"], "no experiment magic"),
        (["claims", "--model", "fashion-ddpm", "--moments", "nowhere.safetensors"], "no moments file"),
        (["claims", "--model", "scenes-sd", "--prompt", "a moon"], "pass the Gaussian"),
        (["claims", "--table", "nowhere.json"], "nowhere.json"),
        (["claims", "--table", "--model", "nobody"], "no measured model nobody: choose from fashion-"),
        (["claims", "--table", "--claim", "iv"], "no claim or part iv"),
        (["claims", "--model", "fashion-ddpm", "--gaussian", "--shuffled"], "--gaussian or --shuffled, not both"),
    ],
)
def test_mistakes_are_one_sentence(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAINTERS_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("PAINTERS_DATA", raising=False)  # where data are found, training would begin
    assert main(arguments) == 1
    error = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("painters: ")]
    assert len(error) == 1 and says in error[0]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def few_clothes(tmp_path, monkeypatch):
    """Random pictures in the place of Fashion-MNIST, and a place for what is kept."""
    draw = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (160, 1, 28, 28), generator=draw, dtype=torch.uint8)
    labels = {"class": torch.arange(80) % 10}
    states = KnownStates(pictures[:80], pictures[80:], labels, labels, (FASHION_CLASS,), "fashion")
    monkeypatch.setattr(judging, "known_pictures", lambda *_: states)
    monkeypatch.setenv("PAINTERS_RUNS", str(tmp_path / "runs"))


def test_an_interrupted_judgement_continues(few_clothes, tmp_path, capsys, monkeypatch):
    """What the message says: the first batch is kept, and the same command paints only the second."""
    real, calls = judging.solve, []

    def stops(*args, **options):
        calls.append(options["seeds"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(judging, "solve", stops)
    out = tmp_path / "quality.json"
    arguments = ["judge", "fashion-twin-v", "--n", "70", "--prompts", "0", "--steps", "1", "--batch", "35"]
    arguments += ["--device", "cpu", "--out", str(out)]
    assert main(arguments) == 130
    assert "what was finished is kept, the same command continues" in capsys.readouterr().err
    assert not out.exists() and len(list((tmp_path / "runs").rglob("*.safetensors"))) == 1
    assert main(arguments) == 0
    assert [list(seeds) for seeds in calls] == [list(range(35)), *[list(range(35, 70))] * 2]
    assert json.loads(out.read_text())["frechet"]["n"] == 70 and "everything is in" in capsys.readouterr().out


@pytest.mark.parametrize("name", bundled("generator"))
def test_a_bundled_gan_is_judged(few_clothes, name, tmp_path, capsys):
    out = tmp_path / "quality.json"
    assert main(["judge", name, "--n", "70", "--device", "cpu", "--out", str(out)]) == 0
    report, said = json.loads(out.read_text()), capsys.readouterr().out
    assert report["settings"] == {"n": 70, "seeds": "0-69", "data": "fashion", "reader": "fashion-reader"}
    assert not report["witness"] and "no witness: a Gaussian" in said, "static is no clothes, and a Gaussian knows it"


def test_an_interrupted_training_continues(tmp_path, monkeypatch, capsys):
    """Ctrl-C inside a step, by the command: status 130, and the state of the whole step is there."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 28, 28), generator=draw, dtype=torch.uint8)
    data = ImageData(images[:40], images[40:], source="fashion")
    monkeypatch.setattr(pixels, "load_data", lambda recipe, *_, **__: (recipe, data))
    real = pixels._draw

    def interrupted(*args):
        if args[-1] == 1:
            signal.raise_signal(signal.SIGINT)
        return real(*args)

    arguments = ["train", "fashion-twin-v", "--run", str(tmp_path / "run"), "--steps", "3", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(pixels, "_draw", interrupted)
        assert main(arguments) == 130
    assert "what was finished is kept, the same command continues" in capsys.readouterr().err
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 2
    assert main(arguments) == 0
    assert painters.load(tmp_path / "run" / "model", device="cpu").card["training"]["steps"] == 3


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
    said = {}
    for form in ("text", "md", "csv", "json"):
        assert main(["claims", "--table", str(out), "--claim", "i", "--format", form]) == 0
        said[form] = capsys.readouterr().out
    assert said["text"].startswith("exact Gaussian of fashion-ddpm\n") and "| `i-x0hat-two-pcs` " in said["md"]
    rows = json.loads(said["json"])
    assert [row["claim"] for row in csv.DictReader(said["csv"].splitlines())] == [row["claim"] for row in rows]
    assert rows[0]["kind"] == "gaussian" and {row["part"] for row in rows} == {"i"}


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


def test_doctor_says_what_is_missing_and_what_to_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PAINTERS_DATA", str(tmp_path))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for what in ("python ", f"painters {painters.__version__}", torch.__version__, "bundled models whole", "cpu"):
        assert " ".join(what.split()) in " ".join(said.split())
    assert f"optional: there is no fashion_mnist.npz in PAINTERS_DATA, {tmp_path}: set PAINTERS_DATA to" in said
    asked = ["torch>=2.6", "absent-package>=1.0", 'numpy>=99; extra == "book"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: asked)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert 'NEEDED: absent-package is not installed, which everything needs: pip install --upgrade "absent' in said
    assert f"optional: numpy {doctor.metadata.version('numpy')} is older than 99, which the notebooks" in said


def test_doctor_speaks_where_torch_cannot_be_imported(tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    run = [sys.executable, "-m", "atelier.cli"]
    path = os.pathsep.join([str(tmp_path), str(Path(painters.__file__).parents[1])])
    runs = [
        subprocess.run([*run, *what], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
        for what in (["doctor"], ["list"])
    ]
    assert [one.returncode for one in runs] == [1, 1]
    assert "NEEDED: torch cannot be imported (No module named 'torch')" in runs[0].stdout
    assert runs[1].stderr == "painters: torch is not installed: painters doctor says what to do\n"


def test_a_damaged_model_is_named(monkeypatch, tmp_path, capsys):
    shutil.copytree(listing.BUNDLED / "fashion-twin-v", tmp_path / "fashion-twin-v")
    weights = next((tmp_path / "fashion-twin-v").rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    monkeypatch.setattr(listing, "BUNDLED", tmp_path)
    monkeypatch.setattr(listing, "bundled", lambda: ("fashion-twin-v",))
    monkeypatch.setattr(listing, "published", tuple)
    assert main(["doctor"]) == 1
    assert "NEEDED: the files of fashion-twin-v are damaged: pip install --force-reinstall" in capsys.readouterr().out


def test_list_knows_every_model_that_can_be_loaded(capsys):
    assert main(["list", "--format", "json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    for name in registry.bundled():
        model = painters.load(name, device="cpu")
        assert tuple(rows[name]["shape"]) == model.image_shape and rows[name]["here"]
        assert rows[name]["parameters"] == model.card["parameters"]
    assert rows["galaxies-hsc32"]["shape"] == [1, 32, 32] and rows["fashion-gan"]["kind"] == "generator"
    assert set(rows) >= {card.id for card in registry.cards()} | {*registry.published(), *bundled("reader")}
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in rows) and max(map(len, text.splitlines()[1:10])) <= 120
