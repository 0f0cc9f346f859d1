"""The comparison of ways to vary, against a Gaussian world where each way's law is known."""

import json
import math
from functools import cache

import numpy as np
import pytest
import torch
from partners import randn

from atelier import variations
from atelier.subject import Settings, Subject, subject
from atelier.variations import record
from atelier.variations.ways import changed_at, noised_back, ways
from painters import Gaussian, Levels, noise, solve
from painters.levels import vp_linear

DIM = 16
NAMES = ["state", "renoise", "ancestral", "mix"]


def gaussian() -> Gaussian:
    U = torch.linalg.qr(randn(DIM, DIM, seed=3)).Q[:, :12].contiguous()
    return Gaussian(randn(DIM, seed=4) / 3, U, torch.logspace(1, -1.5, 12).double(), 0.02)


def world() -> Subject:
    g = gaussian()
    return Subject(
        "a Gaussian", g, g, (1, 4, 4), lambda n, **_: Levels.of(vp_linear(), n, **_), lambda x: x, kind="gaussian"
    )


@cache
def compared():
    """Every way on 500 seeds."""
    subject = world()
    g, levels = subject.gaussian, Levels.of(vp_linear(), 60, spacing="logsnr")
    run = solve(g, levels.start(noise(range(500), (1, 4, 4)).double()), levels, solver="dpmpp2m", progress=False)
    at = [min(range(60), key=lambda i: abs(float(levels.ratio[i]) - r)) for r in (0.3, 1.5)]
    made = ways(subject, run, at, most=3)
    painted = {name: [way.pictures(j) for j in range(len(way.rho))] for name, way in made.items()}
    return subject, run.final, made, painted


def test_every_way_is_there():
    assert list(compared()[2]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_way_follows_its_law(name):
    """The correlation of each PC of the new pictures with the old ones is rho, and their variance stays."""
    subject, before, made, painted = compared()
    g = subject.gaussian
    old = g.project(before.double())
    for rho, after in zip(made[name].rho, painted[name]):
        new = g.project(after.double())
        torch.testing.assert_close(new.var(0) / old.var(0), torch.ones(12).double(), rtol=0, atol=0.35)
        measured = (new * old).mean(0) / old.square().mean(0)
        torch.testing.assert_close(measured, rho[:-1], rtol=0, atol=0.16)


def test_the_record_has_the_laws_numbers():
    subject, before, made, painted = compared()
    for name, way in made.items():
        scores = record.scored(subject.gaussian, None, before.double(), painted[name], 4)
        found = record.described(way, scores, subject.gaussian, 4, draws=20)
        measured = np.array([v["value"] for v in found["low"]])
        np.testing.assert_allclose(measured, found["low_law"], atol=0.13, err_msg=name)


def test_the_laws_by_hand():
    lam = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
    want = [0.8 * math.sqrt(v / (0.64 * v + 0.36)) for v in lam.tolist()]
    assert noised_back(lam, (0.8, 0.6)).tolist() == pytest.approx(want)
    assert noised_back(lam, (1.6, 1.2)).tolist() == pytest.approx(want)  # whatever the coordinates
    made = compared()[2]
    assert made["state"].rho.sum(1).tolist() == made["state"].pcs
    assert made["mix"].rho[:, 0].tolist() == pytest.approx([math.cos(a) for a in made["mix"].strength])


# Curves


def test_the_most_change_is_read_where_the_curve_crosses():
    kept, changed = np.array([0.95, 0.85, 0.4]), np.array([0.1, 0.3, 0.9])
    assert record.most(kept, changed) == pytest.approx(0.2)
    assert record.most(np.array([0.5]), np.array([0.5])) == pytest.approx(0.1)
    assert record.most(np.array([0.99, 0.95]), np.array([0.6, 0.4])) == 0.6
    assert record.most(np.array([0.8, 0.95]), np.array([0.2, 0.5])) == pytest.approx(0.5)
    assert record.most(kept, changed, least=0.4) == pytest.approx(0.9)


def test_gains_are_paired_over_seeds():
    own = torch.rand(30, 1, generator=torch.Generator().manual_seed(0)).double()
    outline = torch.full((30, 1), 0.95).double()
    found = record.gains({"renoise": (outline, own), "better": (outline, own - 0.2)}, draws=50)
    assert found["better"]["value"] == pytest.approx(0.2) and found["better"]["low"] == pytest.approx(0.2)


def test_unrelated_pictures_change_by_one():
    g = gaussian()
    a, b = g.sample(randn(4000, DIM)), g.sample(randn(4000, DIM, seed=1))
    for cut in (2, 8):
        assert float(record.change_along(g, a, b, cut).mean()) == pytest.approx(1, abs=0.05)


def test_levels_of_change_lie_in_range_and_are_clean_first():
    levels = Levels.of(vp_linear(), 20, spacing="logsnr")
    at = changed_at(levels, most=4)
    ratio = [float(levels.ratio[i]) for i in at]
    assert len(at) == 4 and ratio == sorted(ratio) and ratio[0] >= 0.2 and ratio[-1] <= 8


# The measurement


def test_measure_without_a_reader():
    found = variations.measure(world(), Settings(seeds=tuple(range(40)), profile="ci"))
    assert found is not None and found["factors"] is None and found["inversion"]["data"] is None
    json.dumps(found)
    assert list(found["methods"]) == NAMES and "gain" not in found
    for one in found["methods"].values():
        assert len(one["low"]) == len(one["low_law"]) == len(one["distance"]) and "outline_kept" not in one
    assert variations.measure(world().mean_only(), Settings()) is None


def test_measure_with_a_reader_adds_up():
    found = variations.measure(subject("scenes-sd", device="cpu").theory(), Settings(profile="ci"))
    assert found is not None
    bands = {f.name: f.band for f in subject("scenes-sd", device="cpu").reader.factors}
    outline = torch.tensor([bands[name] in ("areas", "masses") for name in found["factors"]["names"]])
    for one in found["methods"].values():
        kept, chance = torch.tensor(one["kept"]), torch.tensor(found["factors"]["chance"])
        assert np.shape(one["predicted"]) == kept.shape
        corrected = (kept - chance) / (1 - chance)
        for tail, table in (("", kept), ("_corrected", corrected)):
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
