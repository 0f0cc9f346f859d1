"""The workshop's commands beside those of the core, and the networks that stand in where a model cannot be fetched."""

import json

import pytest
import torch

import painters
from atelier.cli import main
from atelier.pages.standins import LABEL, stand_in


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "sample" in (text := capsys.readouterr().out) and "train" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "no-such-recipe"], "no recipe"),
        (["claims"], "--model NAME"),
        (["claims", "--model", "fashion-ddpm", "--only", "magic"], "no experiment magic"),
        (["claims", "--model", "fashion-ddpm", "--moments", "nowhere.safetensors"], "no moments file"),
        (["claims", "--model", "scenes-sd", "--prompt", "a moon"], "pass the Gaussian"),
        (["claims", "--table", "nowhere.json"], "nowhere.json"),
    ],
)
def test_mistakes_are_one_sentence(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("painters: ")]
    assert len(error) == 1 and says in error[0]
    assert not list(tmp_path.iterdir())


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
