"""The comparison of ways to vary, against a Gaussian world where each way's law is known."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from partners import randn

from atelier import variations
from atelier.data.scenes.factors import Factor
from atelier.manifold.knobs import Facts
from atelier.subject import Settings, Subject, subject
from atelier.variations import record
from atelier.variations.ways import ANGLES, changed_at, ways
from painters import Gaussian, Levels, noise, solve
from painters.schedules import vp_linear
from painters.theory.gaussian import variance

DIM = 16
NAMES = ["state", "named", "renoise", "ancestral", "mix"]
SHAPE = (1, 4, 4)


def gaussian() -> Gaussian:
    U = torch.linalg.qr(randn(DIM, DIM, seed=3)).Q[:, :12].contiguous()
    return Gaussian(randn(DIM, seed=4) / 3, U, torch.logspace(1, -1.5, 12).double(), 0.02)


def world() -> Subject:
    g = gaussian()
    return Subject(
        "a Gaussian", g, g, SHAPE, lambda n, **_: Levels.of(vp_linear(), n, **_), lambda x: x, kind="gaussian"
    )


def details() -> torch.Tensor:
    """Three whitened directions within the PCs."""
    return torch.linalg.qr(gaussian().U @ randn(12, 3, seed=5)).Q


@cache
def compared():
    """Every way on 500 seeds, with the correlation of each PC of its pictures with the old ones that theory gives."""
    subject = world()
    g, levels = subject.gaussian, Levels.of(vp_linear(), 60, spacing="logsnr")
    run = solve(g, levels.start(noise(range(500), SHAPE).double()), levels, solver="dpmpp2m", progress=False)
    at = [min(range(60), key=lambda i: abs(float(levels.ratio[i]) - r)) for r in (0.3, 1.5)]
    made = ways(subject, run, at, details(), most=3)
    painted = {name: [way.pictures(j) for j in range(len(way.strength))] for name, way in made.items()}
    back = torch.stack([levels[i][0] * (g.lam / variance(g.lam, levels[i])).sqrt() for i in at])
    told = (g.U.T @ details()).square().sum(1)
    laws = {
        "state": torch.stack([(g.lam >= levels.ratio[i] ** 2).double() for i in at]),
        "named": torch.stack([1 - told] * 2),  # all but what tells the details stays
        "renoise": back,
        "ancestral": back,  # the path of an exact model may be walked either way
        "mix": torch.tensor(ANGLES[-3:]).double().cos()[:, None].expand(-1, 12),
    }
    return subject, run.final, made, painted, laws


def test_every_way_is_there():
    made = compared()[2]
    assert list(made) == NAMES and {way.knob for way in made.values()} == {"level", "angle"}
    assert made["named"].strength == made["state"].strength == pytest.approx([0.3, 1.5], rel=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_each_way_follows_its_law(name):
    """The correlation of each PC of the new pictures with the old ones is rho, and their variance stays."""
    subject, before, _, painted, laws = compared()
    g = subject.gaussian
    old = g.project(before.double())
    for rho, after in zip(laws[name], painted[name]):
        new = g.project(after.double())
        torch.testing.assert_close(new.var(0) / old.var(0), torch.ones(12).double(), rtol=0, atol=0.35)
        measured = (new * old).mean(0) / old.square().mean(0)
        torch.testing.assert_close(measured, rho, rtol=0, atol=0.16)


def test_naming_the_details_keeps_all_else_at_every_level():
    subject, before, _, painted, _ = compared()
    g = subject.gaussian
    told = g.U.T @ details()
    old, *new = (g.project(x.double()) / g.lam.sqrt() for x in (before, *painted["named"]))
    rest = torch.eye(12).double() - told @ told.T
    for z in new:
        assert float(((z - old) @ rest).norm() / (old @ rest).norm()) < 0.05
        correlation = ((z @ told) * (old @ told)).mean(0) / (old @ told).square().mean(0)
        assert float(correlation.abs().max()) < 0.2


# Curves


def test_the_most_change_is_read_where_the_curve_crosses():
    kept, changed = np.array([0.95, 0.85, 0.4]), np.array([0.1, 0.3, 0.9])
    assert record.most(kept, changed) == pytest.approx(0.2)
    assert record.most(np.array([0.5]), np.array([0.5])) == pytest.approx(0.1)
    assert record.most(np.array([0.99, 0.95]), np.array([0.6, 0.4])) == 0.6
    assert record.most(np.array([0.8, 0.95]), np.array([0.2, 0.5])) == pytest.approx(0.5)
    assert record.most(kept, changed, least=0.4) == pytest.approx(0.9)


def test_gains_are_paired_over_seeds():
    changed = torch.rand(30, 1, generator=torch.Generator().manual_seed(0)).double() / 2
    outline = torch.full((30, 1), 0.95).double()
    pair = torch.stack([outline, changed], 1)
    found = record.gains({"renoise": pair, "better": pair + torch.tensor([[0.0], [0.2]])}, draws=50)
    assert found["better"]["value"] == pytest.approx(0.2) and found["better"]["low"] == pytest.approx(0.2)


class Counted:
    """A ruler of two factors of the outline and two of detail, kept by chance so often."""

    chance = torch.tensor([0.5, 0.2, 0.25, 0.4]).double()

    def outline(self):
        return torch.tensor([True, True, False, False])


def test_both_scorings_by_hand():
    kept = torch.tensor([[[1.0, 0.6, 0.5, 0.4]], [[0.9, 0.2, 1.0, 0.7]]]).double()  # two seeds, one strength
    found = record.shares(kept, Counted())  # type: ignore[arg-type]
    assert found[""][:, 0, 0].tolist() == pytest.approx([0.8, 0.55])
    assert found[""][:, 1, 0].tolist() == pytest.approx([0.55, 0.15])
    assert found["_corrected"][0, :, 0].tolist() == pytest.approx([(1 + 0.5) / 2, (0.5 / 0.75 + 1) / 2])
    unrelated = record.shares(Counted.chance.expand(3, 2, 4), Counted())["_corrected"]  # type: ignore[arg-type]
    torch.testing.assert_close(unrelated, torch.tensor([0.0, 1.0]).double()[:, None].expand(3, 2, 2))


def test_levels_of_change_lie_in_range_and_are_clean_first():
    levels = Levels.of(vp_linear(), 20, spacing="logsnr")
    at = changed_at(levels, most=4)
    ratio = [float(levels.ratio[i]) for i in at]
    assert len(at) == 4 and ratio == sorted(ratio) and ratio[0] >= 0.2 and ratio[-1] <= 8
    levels = Levels(torch.ones(7).double(), torch.tensor([9.0, 8.0, 2.0, 1.0, 0.5, 0.2, 0.0]).double())
    assert changed_at(levels) == [5, 4, 3, 2, 1], "both ends count"
    assert changed_at(levels, most=3) == [5, 3, 1] and changed_at(levels, most=1) == [5]
    assert changed_at(levels, low=0.1, high=100.0) == [5, 4, 3, 2, 1], "never where the run begins: that is other noise"
    assert changed_at(Levels(torch.ones(20).double(), torch.linspace(7, 0, 20).double())) == [18, 15, 12, 10, 7, 4, 1]


# The measurement


class Affine:
    """A ruler of sizes that are linear forms of the states: the first two are the outline."""

    def __init__(self, g, weights):
        self.g, self.weights = g, weights
        self.factors = tuple(Factor(name, "areas") for name in "abcd")
        self.names, self.chance = list("abcd"), torch.full((4,), 0.2).double()

    def outline(self):
        return torch.tensor([True, True, False, False])

    def answers(self, x):
        return (self.g.project(x.double()) / self.g.lam.sqrt()) @ self.weights

    def kept(self, before, after):
        return (after - before).abs() < 0.25


def test_in_the_exact_world_named_coordinates_change_the_details_and_nothing_of_the_outline():
    subject = world()
    g = subject.gaussian
    weights = torch.nn.functional.normalize(randn(12, 4, seed=8), dim=0)
    covariance = g.lam.sqrt()[:, None] * weights
    ruler = Affine(g, weights)
    facts = Facts(g, ruler.factors, covariance, covariance, torch.ones(4).double())
    found = record.compared(subject, ruler, facts, Settings(tuple(range(60)), profile="full"))  # type: ignore[arg-type]
    named, state = found["methods"]["named"], found["methods"]["state"]
    for level in range(len(named["level"])):
        assert named["outline_kept_corrected"][level]["value"] > 0.99
        assert named["detail_changed"][level]["value"] > 0.4
    assert named["most_detail"]["value"] == max(v["value"] for v in named["detail_changed"])
    assert found["gain_corrected"]["named"]["low"] > 0.1 and set(found["gain"]) == set(NAMES) - {"renoise"}
    standing = [int((g.lam >= level**2).sum()) for level in state["level"]]
    assert state["pcs"] == standing
    assert np.degrees(found["methods"]["mix"]["angle"]) == pytest.approx([9, 22.5, 45, 67.5], rel=1e-3)
    np.testing.assert_allclose(state["carry"], [weights[:k].square().sum(0).tolist() for k in standing], atol=1e-3)


def test_no_turn_goes_past_the_other_noise():
    assert list(ANGLES) == sorted(ANGLES) and ANGLES[0] > 0 and ANGLES[-1] < np.pi / 2


def test_measure_without_a_reader_or_details():
    assert variations.measure(world(), Settings(seeds=tuple(range(40)), profile="ci")) is None
    assert variations.measure(world().mean_only(), Settings()) is None
    known = subject("scenes-sd", device="cpu")  # with a reader and pictures: all else that a measurement needs
    assert variations.measure(known.mean_only(), Settings(profile="ci")) is None


def test_measure_with_a_reader_adds_up():
    found = variations.measure(subject("scenes-sd", device="cpu").theory(), Settings(profile="ci"))
    assert found is not None
    json.dumps(found)
    outline, chance = torch.tensor(found["factors"]["outline"]) > 0, torch.tensor(found["factors"]["chance"])
    assert list(found["methods"]) == NAMES and 0 < outline.sum() < len(outline) / 2
    for one in found["methods"].values():
        kept = torch.tensor(one["kept"])
        for tail, table in (("", kept), ("_corrected", (kept - chance) / (1 - chance))):
            values = [v["value"] for v in one[f"outline_kept{tail}"]]
            assert values == pytest.approx(table[:, outline].mean(1).tolist(), abs=1e-2)
            values = [v["value"] for v in one[f"detail_changed{tail}"]]
            assert values == pytest.approx((1 - table[:, ~outline]).mean(1).tolist(), abs=1e-2)
            most = record.most(
                *(np.array([v["value"] for v in one[key + tail]]) for key in ("outline_kept", "detail_changed"))
            )
            assert one[f"most_detail{tail}"]["value"] == pytest.approx(most)
    assert set(found["gain"]) == set(found["gain_corrected"]) == set(NAMES) - {"renoise"}
    assert all(v["value"] > 0 for v in found["inversion"]["data"]["heun"])
