"""The ruler of changes: known changes of drawn scenes are found where they were made, and nowhere else."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atelier import scoring
from atelier.data import scenes
from atelier.data.images import ImageData, to_unit
from atelier.data.scenes.factors import Factor
from atelier.data.scenes.shares import variance_shares
from atelier.networks.readers import READER_OF, indicators, load_reader
from atelier.scoring import OUTLINE, Ruler, distance, known
from atelier.subject import Subject
from painters import Gaussian, Levels
from painters.schedules import vp_linear


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
    change = r.score(r.change(before, after))
    assert r.names[int(change.argmax())] == factor and change.max() <= 1
    assert change.max() > change.sum() / 2
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
    unrelated = r.score(r.change(said, said.roll(7, 0)))
    assert unrelated.max() == 1 and unrelated.mean() == pytest.approx(0.95, abs=0.06)
    flips = torch.tensor([bool(f.kinds) for f in r.factors])
    assert torch.allclose(r.unrelated[flips], 1 - r.chance[flips])
    assert distance(r.subject.gaussian, states, states.roll(7, 0)).square().mean() == pytest.approx(1, abs=0.1)
    assert (r.kept(said, said.roll(7, 0)).double().mean(0) - r.chance).abs().mean() < 0.1


def test_no_factor_wins_by_its_scale() -> None:
    """Squares in units of unrelated pictures once called a golden sky that turns blue a change of clouds."""
    r = ruler()
    states = r.subject.data(120)
    assert states is not None
    change = r.change(r.answers(states), r.answers(states.flip(3)))
    assert change.min() >= 0 and change.max() == 1 and r.score(change).max() <= 1
    kinds = change[:, [bool(f.kinds) for f in r.factors]]
    assert ((kinds == 0) | (kinds == 1)).all()


def test_the_outline_holds_its_share_of_the_variance_and_no_factor_more() -> None:
    r = ruler()
    outline, shares = r.outline(), variance_shares()
    total = torch.tensor([shares[name].total for name in r.names])
    held = float(total[outline].sum() / total.sum())
    assert held >= OUTLINE > held - float(total[outline].min() / total.sum())
    assert total[outline].min() > total[~outline].max() and (~outline).sum() > outline.sum() > 1
    names = [name for name, big in zip(r.names, outline) if big]
    assert "sky" in names and "walls" not in names
    assert replace(r, factors=(replace(r.factors[0], name="class"),)).outline().all()


def test_changes_by_hand() -> None:
    """Two kinds, a value, three kinds: a change of the value counts in units of unrelated pictures, up to 1."""
    factors = (
        Factor("side", "masses", ("left", "right")),
        Factor("size", "areas"),
        Factor("hue", "areas", tuple("abc")),
    )
    r = Ruler(
        ruler().subject,
        factors,
        torch.tensor([0.5, 0.8, 0.4]).double(),
        torch.tensor([9.0, 0.2, 9.0]).double(),
        torch.ones(3),
    )
    before = torch.tensor([[0.9, 0.1, 0.5, 0.6, 0.3, 0.1], [0.9, 0.1, 0.5, 0.6, 0.3, 0.1]]).double()
    after = torch.tensor([[0.4, 0.6, 0.45, 0.5, 0.4, 0.1], [0.6, 0.4, 0.8, 0.1, 0.3, 0.6]]).double()
    assert r.kept(before, after).tolist() == [[False, True, True], [True, False, False]]
    torch.testing.assert_close(r.change(before, after), torch.tensor([[1, 0.25, 0], [0, 1, 1]]).double())
    torch.testing.assert_close(r.score(r.change(before, after)), torch.tensor([1, 0.625 / 0.8, 1]).double())
    assert r.names == ["side", "size", "hue"]
    edge = torch.zeros(2, 6).double()
    edge[:, 2] = torch.tensor([0.1443, 0.1444]).double()
    assert r.kept(torch.zeros(2, 6).double(), edge)[:, 1].tolist() == [True, False], "half of 1 / sqrt(12)"


def test_a_ruler_is_made_of_the_pictures_beside_each_other() -> None:
    def blurred(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x / 2 + 0.5, 4), scale_factor=4)

    r = Ruler.of(replace(ruler().subject, decode=blurred), 120)
    assert r is not None
    data = known(r.subject, 120, test=True)
    assert data is not None and r.subject.reader is not None
    said = indicators(r.subject.reader.read(r.subject.look(data.states.float()), 1.0, 0.0), data.factors)
    sizes = [len(f.kinds) or 1 for f in data.factors]
    missed, whole = ((said - data.facts).numpy() ** 2).mean(0), data.facts.numpy().var(0)
    ends = np.cumsum([0, *sizes])
    share = [1 - missed[a:b].sum() / whole[a:b].sum() for a, b in itertools.pairwise(ends)]
    assert r.names == [f.name for f, s in zip(data.factors, share) if s >= 0.5] and len(r.names) < len(share)
    own = r.answers(data.states)
    pairs = own, torch.cat([own[-1:], own[:-1]])
    torch.testing.assert_close(r.unrelated, r.change(*pairs).mean(0))
    torch.testing.assert_close(r.chance, r.kept(*pairs).double().mean(0))
    at = r.names.index("horizon")
    column = sum(len(f.kinds) or 1 for f in r.factors[:at])
    assert float(r.distance[at]) == pytest.approx(float((pairs[0] - pairs[1])[:, column].abs().mean()))


def test_clothes_are_known_by_the_labels_of_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ruler().subject
    images = torch.arange(8, dtype=torch.uint8).reshape(8, 1, 1, 1)
    data = ImageData(images[:5], images[5:], torch.tensor([0, 1, 2, 1, 0]), torch.tensor([2, 2, 1]), source="fashion")
    monkeypatch.setattr(scoring.image_data, "fashion", lambda: data)
    monkeypatch.setattr(Subject, "data", lambda self, n, *, test: (data.test if test else data.train)[:n].float())
    reader = SimpleNamespace(factors=(Factor("class", "class", tuple("abc")),))
    who = replace(plain, reader=reader, model=SimpleNamespace(card={"training": {"data": "fashion"}}))  # type: ignore[arg-type]
    for test, n, labels in ((False, 4, [0, 1, 2, 1]), (True, 9, [2, 2, 1])):
        found = known(who, n, test=test)
        assert found is not None and found.facts.argmax(1).tolist() == labels and bool((found.facts.sum(1) == 1).all())
        assert found.states.flatten().tolist() == list(range(5 * test, 5 * test + len(labels)))
    assert known(replace(who, model=None), 3, test=True) is None
    assert known(replace(who, reader=None), 3, test=True) is None


def test_distance_is_relative_to_that_of_unrelated_states() -> None:
    g = Gaussian(torch.ones(6).double(), torch.eye(6).double()[:, :2], torch.tensor([3.0, 1.0]).double(), 0.25)
    before, after = torch.zeros(2, 1, 2, 3), torch.zeros(2, 1, 2, 3)
    after[0, 0, 0, 0], after[0, 0, 1, 2] = 3.0, 4.0
    torch.testing.assert_close(distance(g, before, after), torch.tensor([5 / 10**0.5, 0]).double())


def test_answers_keep_the_order_of_the_factors() -> None:
    r = ruler()
    states = drawn({"sky": "pink"})
    said = r.answers(states)
    sky, ground = r.names.index("sky"), r.names.index("ground")
    assert (sky, ground) == (0, 1) and said[:, :4].argmax(1).eq(2).double().mean() > 0.9
    assert said.shape == (24, sum(len(f.kinds) or 1 for f in r.factors))


def test_without_a_reader_there_is_no_ruler() -> None:
    assert Ruler.of(replace(ruler().subject, reader=None)) is None
