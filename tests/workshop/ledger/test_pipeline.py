"""The ledger on a pipeline of diffusers that is no model of ours: what needs only trajectories."""

from __future__ import annotations

import pytest
from pipelines import embedded

import painters
from atelier.cli import main
from atelier.ledger.column import column
from atelier.ledger.records import read
from atelier.subject import pipeline
from painters.models.moments import save_moments

HOW = ["--prompt", "7", "--seeds", "0-3", "--steps", "4", "--profile", "ci", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny DiT, which takes classes, with the moments of class 7."""
    folder = tmp_path_factory.mktemp("made")
    pipe, _ = embedded("dit")
    pipe.save_pretrained(folder / "tiny-dit")
    gaussian = painters.moments_of(pipe, [7], 8, steps=4)[7]
    facts = {"source": "its own samples", "n": 8, "circular": True}
    save_moments(gaussian, folder / "moments.safetensors", facts=facts)
    return folder


def test_the_shape_of_its_trajectories_is_judged(folder, capsys):
    out, moments = folder / "found.json", str(folder / "moments.safetensors")
    options = ["claims", "--pipeline", str(folder / "tiny-dit"), "--moments", moments, "--out", str(out), *HOW]
    assert main(options) == 0 and "everything is in" in capsys.readouterr().out
    found = read(out)
    assert list(found.measurements) == ["geometry"] and found.model == "tiny-dit"
    assert found.moments["circular"] and found.moments["prompt"] == "7"
    made = found.made("geometry")
    # of four seeds, twice for guidance, Heun's 7 calls and the ancestral solver's 4; of one seed once, for the levels
    assert made.calls == 4 * 2 * (7 + 4) + 2 * 4 and made.weights
    judged = [cell for cell in column(found).cells if cell.measured is not None]
    assert judged and all(cell.claim.part == "i" for cell in judged)


def test_its_network_runs_under_both_solvers_from_the_noise_of_the_theory(folder):
    pipe, _ = embedded("dit")
    gaussian = painters.moments_of(pipe, [7], 8, steps=2)[7]
    who = pipeline(str(folder / "tiny-dit"), "7", device="cpu", gaussian=gaussian)
    mine, exact = who.run([3, 4], steps=4), who.theory().run([3, 4], steps=4)
    assert mine.x.shape == exact.x.shape and mine.meta["solver"] == "heun"
    assert mine.x[0].allclose(exact.x[0]) and mine.levels.alpha.equal(exact.levels.alpha)
    with pytest.raises(ValueError, match="measure --only geometry"):
        who.denoise(mine.x[0], 1.0, 1.0)


@pytest.mark.parametrize("more", [[], ["--prompt", "7", "--shuffled"], ["--model", "fashion-ddpm", "--prompt", "7"]])
def test_what_a_pipeline_needs_is_said(folder, more, capsys):
    assert main(["claims", "--pipeline", str(folder / "tiny-dit"), *more]) != 0
    assert "prompt" in capsys.readouterr().err
