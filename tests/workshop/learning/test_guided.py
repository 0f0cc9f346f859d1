"""Spreads under guidance against the law of two Gaussians, and scenes drawn under a prompt."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from partners import dense, gaussian, rel

from atelier.data import scenes
from atelier.data.images import to_unit
from atelier.learning import guided as room
from atelier.learning.guided import law, measure, prompted, spread
from atelier.ledger.claim import Records
from atelier.ledger.rows.modes import READINGS
from atelier.subject import Settings, Subject
from painters import Gaussian, Levels, noise, solve
from painters.denoiser import guided
from painters.schedules import vp_linear
from painters.theory.moments import Moments

SHAPE = (3, 16, 16)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_guidance_narrows_by_the_law(guidance: float):
    u = gaussian([4.0, 2.0, 1.0], seed=5)
    c = Gaussian(u.mu + 0.5, u.U, torch.tensor([1.0, 2.0, 0.3], dtype=torch.float64))
    subject = Subject("two", u, u, (3,), lambda n: Levels.of(vp_linear(), n, spacing="logsnr"), abs)
    told = law(subject, c, guidance, steps=200)
    seen = spread(subject, guided(c, u, guidance), tuple(range(3000)), steps=200, batch=1000)
    assert seen.tolist() == pytest.approx(told.tolist(), rel=0.05)
    want = torch.tensor([1.0, 2.0, 0.3]).sqrt() * (torch.tensor([1.0, 2.0, 0.3]) / u.lam) ** ((guidance - 1) / 2)
    assert told.tolist() == pytest.approx(want.tolist(), rel=0.01)


def test_the_spread_is_that_of_the_pictures_along_the_components():
    u = gaussian([4.0, 2.0, 1.0], dim=5, rest=0.1, seed=5)
    subject = Subject("one", u, u, (5,), lambda n: Levels.of(vp_linear(), n), abs)
    levels = subject.levels(6)
    end = solve(u, levels.start(noise(range(7), (5,))), levels, solver="dpmpp2m", progress=False).final
    want = ((end.double() - u.mu) @ u.U).std(0)
    assert rel(spread(subject, u, tuple(range(7)), steps=6, batch=3), want) < 1e-5


def text_subject(drawn: int = 60, **changes) -> Subject:
    """A text-to-image subject that is exactly the theory: its denoisers are the Gaussians of drawn scenes."""
    data = to_unit(scenes.render(scenes.sample(400), 16))
    u = Gaussian.from_moments(Moments.of(data))

    def denoiser(prompt, *, guidance=1.0):
        return guided(prompted(subject, prompt, drawn), u, guidance)

    model = SimpleNamespace(
        text=object(), card={"training": {"data": "scenes"}}, denoiser=denoiser, encode=lambda x: x * 2 - 1,
        image_shape=SHAPE, codec=None,
    )  # fmt: skip
    model.__dict__.update(changes)
    levels = lambda n: Levels.of(vp_linear(), 10 * n)  # noqa: E731
    subject = Subject("text", u, u, SHAPE, levels, lambda x: (x / 2 + 0.5).clamp(0, 1), None, model)  # type: ignore[arg-type]
    return subject


def test_a_prompt_has_the_moments_of_scenes_drawn_under_it():
    subject = text_subject()
    g = prompted(subject, "a moon", 300)
    asked = scenes.sample(300, 100_000).replace({"orb": "moon"})
    want = Moments.of(to_unit(scenes.render(asked, 16)))
    assert rel(g.mu, want.mean) < 1e-5
    assert rel(dense(g), want.covariance) < 1e-5


def test_a_model_that_is_the_theory_measures_as_the_theory(monkeypatch):
    monkeypatch.setattr(room, "GUIDANCE", (1.0, 3.0))
    found = json.loads(json.dumps(measure(text_subject(drawn=100), Settings(seeds=tuple(range(9)), profile="ci"))))
    runs = found["runs"]
    assert [(r["prompt"], r["guidance"]) for r in runs] == [(p, w) for p in room.PROMPTS for w in (1.0, 3.0)]
    assert {(r["steps"], r["seeds"]) for r in runs} == {(8, 6)}
    for run in runs:
        assert run["measured"] == pytest.approx(run["affine"], rel=1e-4)
        assert len(run["law"]) == len(run["measured"]) == room.PCS
    for one, three in zip(runs[::2], runs[1::2]):
        everything = text_subject().gaussian.lam[: room.PCS].sqrt()
        for told, narrow, wide in zip(three["law"], one["law"], everything.tolist()):
            assert told == pytest.approx(narrow**3 / wide**2, rel=0.03)
        x, y, free = (torch.tensor(three[k]).log() - torch.tensor(one[k]).log() for k in ("law", "aligned", "affine"))
        assert float(x @ y / (x @ x)) == pytest.approx(1, abs=0.02), "common axes: the law"
        assert float(x @ free / (x @ x)) < 0.9, "the drawn scenes have axes of their own"


def test_the_row_is_one_where_the_law_holds_and_zero_where_guidance_does_nothing():
    runs = []
    for prompt, scale in (("a", 0.5), ("b", 2.0)):
        told = [scale * v for v in (0.4, 0.9, 1.3)]
        runs += [{"prompt": prompt, "guidance": 1.0, "law": [1.0] * 3, "measured": [2.0] * 3}]
        runs += [{"prompt": prompt, "guidance": 3.0, "law": told, "measured": [2 * v for v in told]}]
    read = READINGS["s-guidance"].measure
    found = read(Records({"guidance": {"runs": runs}}))
    assert found is not None and found.value == pytest.approx(1) and found.n == 6
    still = [run | {"measured": [2.0] * 3} for run in runs]
    none = read(Records({"guidance": {"runs": still}}))
    assert none is not None and none.value == pytest.approx(0)


@pytest.mark.parametrize("changes", [{"text": None}, {"card": {"training": {"data": "fashion"}}}])
def test_a_model_without_prompts_for_scenes_is_not_measured(changes):
    assert measure(text_subject(**changes), Settings(profile="ci")) is None


def test_the_theory_is_not_measured_against_itself():
    assert measure(text_subject().theory(), Settings(profile="ci")) is None
