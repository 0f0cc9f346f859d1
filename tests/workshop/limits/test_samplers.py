"""Shape and order under every sampler against the exact flow, the law of guidance, and scenes drawn under a prompt."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from partners import dense, gaussian, rel

from atelier.data import scenes
from atelier.data.images import to_unit
from atelier.limits import samplers
from atelier.limits.samplers import Setting, emergence_order, measure, prompted, spreads
from atelier.subject import Settings, Subject
from painters import Gaussian, Levels, noise, solve
from painters.denoiser import guided
from painters.levels import vp_linear
from painters.theory.moments import Moments

SHAPE = (3, 16, 16)
LAM = [16.0, 9.0, 4.0, 2.0, 1.0, 0.5]


def exact(steps: int = 200):
    g = gaussian(LAM, dim=8, rest=0.01, seed=3)
    levels = Levels.of(vp_linear(), steps)
    return g, g.trajectory(levels.start(noise(range(12), (8,), dtype=torch.float64)), levels)


def test_the_exact_flow_has_slope_and_rank_one():
    g, run = exact()
    slope, rank = emergence_order(run, g, lowest=0.9)
    assert slope == pytest.approx(1, abs=0.01)
    assert rank == pytest.approx(1)
    assert all(map(math.isnan, emergence_order(run, g, lowest=2.5))), "two are too few"


def test_components_finer_than_the_last_level_are_left_out():
    g, run = exact(4)
    last = float(run.levels.ratio[-2])
    assert 3 <= int((g.lam.sqrt() > last).sum()) < len(g.lam)
    assert emergence_order(run, g, lowest=0.0) == emergence_order(run, g, lowest=last)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_guidance_narrows_by_the_law(guidance: float):
    u = gaussian([4.0, 2.0, 1.0], seed=5)
    c = Gaussian(u.mu + 0.5, u.U, torch.tensor([1.0, 2.0, 0.3], dtype=torch.float64))
    subject = Subject("two", u, u, (3,), lambda n: Levels.of(vp_linear(), n), abs)
    levels = subject.levels(300)
    x = levels.start(noise(range(3000), (3,), dtype=torch.float64))
    end = solve(guided(c, u, guidance), x, levels, solver="heun", progress=False).final
    found = spreads(u, c, end, Setting("heun", 300, guidance), subject)
    assert found["measured"] == pytest.approx(found["law"], rel=0.05)
    want = torch.tensor([1.0, 2.0, 0.3]).sqrt() * (torch.tensor([1.0, 2.0, 0.3]) / u.lam) ** ((guidance - 1) / 2)
    assert found["law"] == pytest.approx(want.tolist(), rel=0.01)
    assert found["prompted"] == pytest.approx([1.0, 2**0.5, 0.3**0.5])


def text_subject(monkeypatch, drawn: int = 60) -> Subject:
    """A text-to-image subject that is exactly the theory: its denoisers are the Gaussians of drawn scenes."""
    data = to_unit(scenes.render(scenes.sample(400), 16))
    u = Gaussian.from_moments(Moments.of(data))

    def denoiser(prompt, *, guidance=1.0):
        c = prompted(subject, prompt, drawn)
        return guided(c, u, guidance)

    model = SimpleNamespace(
        text=object(), card={"training": {"data": "scenes"}}, denoiser=denoiser, encode=lambda x: x * 2 - 1,
        image_shape=SHAPE, codec=None,
    )  # fmt: skip
    levels = lambda n: Levels.of(vp_linear(), n)  # noqa: E731
    subject = Subject("text", u, u, SHAPE, levels, lambda x: (x / 2 + 0.5).clamp(0, 1), None, model)  # type: ignore[arg-type]
    monkeypatch.setattr(samplers, "GUIDANCE", (1.0, 3.0))
    return subject


def test_a_prompt_has_the_moments_of_scenes_drawn_under_it(monkeypatch):
    subject = text_subject(monkeypatch)
    g = prompted(subject, "a moon", 300)
    asked = scenes.sample(300, 100_000).replace({"orb": "moon"})
    want = Moments.of(to_unit(scenes.render(asked, 16)))
    assert rel(g.mu, want.mean) < 1e-5
    assert rel(dense(g), want.covariance) < 1e-5


def test_a_model_that_is_the_theory_measures_as_the_theory(monkeypatch):
    subject = text_subject(monkeypatch, drawn=100)
    settings = Settings(seeds=tuple(range(6)), profile="ci")
    found = json.loads(json.dumps(measure(subject, settings)))
    assert [(r["solver"], r["guidance"], r["prompt"] is None) for r in found["runs"]] == [
        ("ddim", 1.0, True), ("dpmpp2m", 1.0, True), ("dpmpp2m", 1.0, False), ("dpmpp2m", 3.0, False)
    ]  # fmt: skip
    for run in found["runs"]:
        assert run["rank"] == pytest.approx(run["theory"]["rank"], abs=1e-3)
        assert run["slope"] == pytest.approx(run["theory"]["slope"], rel=1e-3)
        assert run["energy"] == pytest.approx(run["theory"]["energy"], rel=1e-4)
    one, three = found["runs"][2]["spread"], found["runs"][3]["spread"]
    assert one["measured"] == pytest.approx(one["affine"], rel=1e-4)
    assert three["measured"] == pytest.approx(three["affine"], rel=1e-4)
    for law, told, everything in zip(three["law"], three["prompted"], three["all"]):
        assert law == pytest.approx(told**3 / everything**2, rel=0.03)
    assert one["law"] == pytest.approx(one["prompted"], rel=0.03)
    assert three["circular"] != three["law"]


def test_a_model_without_text_is_measured_under_solvers_only():
    g, _ = exact(8)
    subject = Subject("plain", g, g, (8,), lambda n: Levels.of(vp_linear(), n), abs)
    found = measure(subject.theory(), Settings(seeds=(0, 1, 2), profile="ci"))
    assert found is not None
    assert [run["solver"] for run in found["runs"]] == ["ddim", "dpmpp2m"]
    ddim, second = (run["energy"] for run in found["runs"])
    assert ddim < second  # first order loses variance
    levels = subject.levels(8)
    end = solve(g, levels.start(noise((0, 1, 2), (8,))), levels, solver="ddim", progress=False).final
    assert ddim == pytest.approx(float((end - g.mu).square().sum(1).mean() / g.spectrum.sum()), rel=1e-5)
