"""The ruler of changes: known changes of drawn scenes are found where they were made, and nowhere else."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atelier.data import scenes
from atelier.data.images import to_unit
from atelier.networks.readers import READER_OF, load_reader
from atelier.scoring import DETAIL, OUTLINE, Ruler, distance, linearity, purity
from atelier.subject import Subject
from painters import Gaussian, Levels
from painters.levels import vp_linear


@cache
def ruler() -> Ruler:
    """The ruler of painted scenes of 32 pixels: their reader, and pixels that have the variance of scenes in all."""
    spread = float(to_unit(scenes.render(scenes.sample(300, scenes.TRAIN_SEEDS.start), 32)).var(0).mean())
    zero = torch.zeros(3 * 32 * 32, dtype=torch.float64)
    g = Gaussian(zero, zero[:, None][:, :0], zero[:0], spread)
    model = SimpleNamespace(
        card={"training": {"data": "scenes"}}, image_shape=(3, 32, 32), encode=lambda pictures: pictures * 2 - 1
    )
    reader = load_reader(READER_OF["scenes"], device="cpu")
    levels = lambda n, **_: Levels.of(vp_linear(), n)  # noqa: E731
    painted = Subject("scenes", g, g, (3, 32, 32), levels, lambda x: x / 2 + 0.5, reader, model)  # type: ignore[arg-type]
    found = Ruler.of(painted, 150)
    assert found is not None
    return found


def drawn(values: dict[str, object], n: int = 24) -> torch.Tensor:
    """Test scenes with some factors set."""
    base = scenes.sample(n, scenes.TEST_SEEDS.start + 5000)
    return to_unit(scenes.render(base.replace(values), 32))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("factor", "one", "other"), [("sky", "blue", "indigo"), ("orb side", "left", "right"), ("walls", "white", "brick")]
)
def test_a_factor_changed_on_purpose_is_the_one_that_changed(factor: str, one: str, other: str) -> None:
    r = ruler()
    before, after = (r.answers(drawn({factor: kind})) for kind in (one, other))
    change = r.change(before, after).mean(0)
    assert r.names[int(change.argmax())] == factor
    assert purity(change) > 0.5
    kept = r.kept(before, after).double().mean(0)
    at = r.names.index(factor)
    assert kept[at] < 0.2
    assert kept[torch.arange(len(kept)) != at].mean() > 0.85


def test_a_continuous_factor_counts_as_kept_within_half_a_standard_deviation() -> None:
    r = ruler()
    near, far = (
        (r.answers(drawn({"horizon": a})), r.answers(drawn({"horizon": b}))) for a, b in ((0.5, 0.55), (0.2, 0.8))
    )
    at = r.names.index("horizon")
    assert r.kept(*near)[:, at].double().mean() > 0.8
    assert r.kept(*far)[:, at].double().mean() < 0.1


def test_nothing_changed_scores_nothing_and_unrelated_pictures_score_one() -> None:
    r = ruler()
    states = r.subject.data(120)
    assert states is not None
    said = r.answers(states)
    assert r.kept(said, said).all()
    assert not r.change(said, said).any()
    assert torch.isnan(purity(r.change(said, said))).all()
    assert r.change(said, said.roll(7, 0)).mean() == pytest.approx(1, abs=0.1)
    assert distance(r.subject.gaussian, states, states.roll(7, 0)).square().mean() == pytest.approx(1, abs=0.1)
    assert (r.kept(said, said.roll(7, 0)).double().mean(0) - r.chance).abs().mean() < 0.1


def test_the_bands_part_the_factors() -> None:
    r = ruler()
    outline, detail = r.band(OUTLINE), r.band(DETAIL)
    assert (outline ^ detail).all()
    assert "sky" in np.array(r.names)[outline] and "walls" in np.array(r.names)[detail]


def test_answers_keep_the_order_of_the_factors() -> None:
    r = ruler()
    states = drawn({"sky": "pink"})
    said = r.answers(states)
    assert r.path(said, "sky").argmax(1).eq(2).double().mean() > 0.9
    assert r.path(said, "horizon").shape == (24, 1)


def test_linearity_of_a_line_a_step_and_a_parabola() -> None:
    t = torch.linspace(-1, 1, 41, dtype=torch.float64)
    assert linearity(torch.stack([2 * t, -t], 1), t) == pytest.approx(1)
    assert linearity((t > 0).double()[:, None], t) == pytest.approx(0.75, abs=0.02)
    assert linearity(t.square()[:, None], t) == pytest.approx(0, abs=1e-12)
    assert math.isnan(linearity(torch.zeros(41, 1).double(), t))


def test_purity_is_the_share_of_the_largest() -> None:
    assert purity(torch.tensor([[1.0, 3.0], [2.0, 2.0]])).tolist() == [0.75, 0.5]


def test_without_a_reader_there_is_no_ruler() -> None:
    assert Ruler.of(replace(ruler().subject, reader=None)) is None
