"""The page on any model, on small random pipelines in the layout of the hub's: only its one line differs."""

import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from myst import read_page
from pipelines import embedded
from standins import stand_in

from atelier.pages import profile

PAGE = Path(__file__).resolve().parents[2] / "book" / "pretrained.md"
LINES = "MODEL = OTHERS", "PROMPT = None"


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


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "sd3", "flux"])
def test_its_cell_on_pipelines_runs_in_every_layout(kind, monkeypatch):
    """The page's own cell, after its own imports: states of the pipeline's form, moments of as many numbers."""
    monkeypatch.setattr("atelier.pages.run", profile.PROFILES["ci"])
    cells = [block for block in read_page(PAGE).blocks if block.name == "code-cell"]
    (cell,) = (c for c in cells if "any-pipeline" in c.options.get("tags", []))
    pipe, options = embedded(kind)
    names: dict[str, Any] = {"__name__": "pretrained"}
    exec("\n".join(cells[0].lines), names)
    names |= {"pipe": pipe, "asked": None, "options": options}
    exec(compile("\n".join(cell.lines), f"{PAGE}, on {kind}", "exec"), names)
    recorded, its = names["recorded"], names["its"]
    assert recorded.meta["pipeline"] == type(pipe).__name__ and recorded.x.isfinite().all()
    assert its.dim == recorded.final[0].numel() and names["exact_run"].x.shape == recorded.x.shape
    assert recorded.x.shape[2:] == ((16, 16) if kind == "flux" else (4, 8, 8))
    assert all(0 < share <= 1 + 1e-9 for share in names["in_two"])
    torch.testing.assert_close(names["exact_run"].x[0].flatten(), recorded.x[0].flatten().to(names["exact_run"].x))
