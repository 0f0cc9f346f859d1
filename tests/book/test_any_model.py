"""The core cells of two pages on a pipeline in the layout of Stable Diffusion: only the subject is replaced.

A cell tagged ``any-model`` asks nothing of the model it is done on; the cell tagged ``any-model-subject`` loads one.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from myst import read_page
from standins import stand_in

from atelier.pages import profile
from atelier.subject import subject
from painters import Gaussian

BOOK = Path(__file__).resolve().parents[2] / "book"
NAMES = {  # what a page's cells must have made at their end
    "manifold": {"found", "spans", "walked"},
    "variations": {"again", "resampled"},
}


def sources(page, tag):
    """The code of a page's cells with a tag, in order."""
    cells = [block for block in read_page(BOOK / f"{page}.md").blocks if block.name == "code-cell"]
    assert cells, f"{page} has no code"
    return [
        "\n".join(c.lines) for c in (cells if tag is None else [c for c in cells if tag in c.options.get("tags", [])])
    ]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A small random Stable Diffusion with the Gaussian of a few random moments."""
    folder = stand_in("latent", tmp_path_factory.mktemp("standin") / "model")
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(4 * 64 * 64, 6, generator=generator, dtype=torch.float64)
    lam = torch.tensor([400.0, 100.0, 25.0, 9.0, 4.0, 1.0], dtype=torch.float64)
    world = Gaussian(torch.zeros(len(axes)).double(), torch.linalg.qr(axes).Q, lam, rest=0.01)
    return subject(str(folder), device="cpu", gaussian=world)


@pytest.mark.slow
@pytest.mark.parametrize("page", NAMES)
def test_the_core_cells_of_a_page_run_on_another_model(page, pipeline, monkeypatch):
    monkeypatch.setattr("atelier.pages.run", profile.PROFILES["ci"])
    assert len(sources(page, "any-model-subject")) == 1 and "painter = " in sources(page, "any-model-subject")[0]
    core = sources(page, "any-model")
    assert len(core) >= 3
    names: dict[str, Any] = {"__name__": page}
    exec(sources(page, None)[0], names)  # the page's imports
    names["painter"] = pipeline
    before = {name: value for name, value in names.items() if isinstance(value, torch.Tensor)}
    for number, source in enumerate(core):
        exec(compile(source, f"{page}, any-model cell {number + 1}", "exec"), names)
        plt.close("all")
    assert names["painter"] is pipeline and NAMES[page] <= set(names)
    tensors = [v for n, v in names.items() if isinstance(v, torch.Tensor) and n not in before and v.is_floating_point()]
    assert any(pipeline.shape == tuple(t.shape[-3:]) for t in tensors), "no cell made a state of this model"
    assert all(bool(t.isfinite().all()) for t in tensors)


@pytest.mark.slow
def test_the_search_on_it_is_certified(pipeline, monkeypatch):
    """The page's own search at its own seed: unit directions, falling values, J v = s u, small in no trivial way."""
    monkeypatch.setattr("atelier.pages.run", profile.PROFILES["ci"])
    names: dict[str, Any] = {"__name__": "manifold"}
    exec(sources("manifold", None)[0], names)
    names["painter"] = pipeline
    for source in sources("manifold", "any-model")[:2]:
        exec(source, names)
    one, sampler = names["found"]["whole map"], names["sampler"]
    pushed = sampler.push(one.inputs.float())
    torch.testing.assert_close(
        pushed.flatten(1).double(), one.values[:, None] * one.images.flatten(1), rtol=1e-3, atol=1e-3
    )
    left = (sampler.pull(one.images.float()).flatten(1).double() - one.values[:, None] * one.inputs.flatten(1)).norm(
        dim=1
    )
    torch.testing.assert_close(left, one.residuals, rtol=0.05, atol=1e-3)
    torch.testing.assert_close(one.inputs.flatten(1).norm(dim=1), torch.ones(len(one)).double())
    assert bool((one.values.diff() <= 0).all()) and float(one.values[-1]) > 0
