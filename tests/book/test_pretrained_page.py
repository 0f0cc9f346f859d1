"""The page on any model, on small random pipelines in the layout of the hub's: only its one line differs."""

import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from myst import read_page
from standins import stand_in

from atelier.pages import profile

PAGE = Path(__file__).resolve().parents[2] / "book" / "pretrained.md"
LINES = 'MODEL = "galaxies-hsc32"', "PROMPT = None"


@pytest.mark.parametrize(("kind", "prompt"), [("pixel", None), ("latent", "a lake under a pink sky")])
def test_one_line_swaps_the_model(kind, prompt, tmp_path, monkeypatch):
    monkeypatch.setattr("atelier.pages.run", profile.PROFILES["ci"])
    monkeypatch.chdir(tmp_path)
    code = "\n\n".join("\n".join(b.lines) for b in read_page(PAGE).blocks if b.name == "code-cell")
    for line, value in zip(LINES, (str(stand_in(kind, tmp_path / "model")), prompt)):
        assert code.count(line) == 1
        code = code.replace(line, f"{line.split(' = ')[0]} = {value!r}")
    names: dict[str, Any] = {"__name__": "pretrained"}
    exec(compile(code, str(PAGE), "exec"), names)
    plt.close("all")
    assert names["who"].moments["circular"] and names["result"].model == names["who"].name
    assert set(names["result"].measurements) == {"geometry", "emergence"}
    assert (tmp_path / "model").exists() and not [f for f in os.listdir(tmp_path) if f.endswith(".json")]
