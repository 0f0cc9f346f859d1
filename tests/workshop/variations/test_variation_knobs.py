"""Knobs for named factors, in a Gaussian world where what can be read of a factor is a linear form."""

import math
from dataclasses import replace

import pytest
import torch
from partners import dense, randn

from atelier.subject import Settings, subject
from atelier.variations import knobs
from atelier.variations.resampling import whiten
from painters import Gaussian

DIM = 12


def gaussian() -> Gaussian:
    U = torch.linalg.qr(randn(DIM, DIM, seed=3)).Q
    return Gaussian(randn(DIM, seed=4), U, torch.logspace(1, 0, DIM).double())


@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi])
@pytest.mark.parametrize("level", [(0.01, 1.0), (0.8, 0.6)])
def test_a_knob_turns_its_own_factor_and_no_other(angle, level):
    g = gaussian()
    readings = randn(DIM, 4, seed=9)  # factors f = r . (x_0 - mu): two facts of one factor, then two more factors
    covariance = dense(g) @ readings
    which = torch.tensor([True, True, False, False])
    Q = knobs.telling(g, covariance, which)
    assert Q.shape == (DIM, 2)
    x, fresh = g.sample(randn(200, DIM), level=level), randn(200, DIM, seed=1)
    before, after = (
        (g.flow(state, frm=level) - g.mu) @ readings for state in (x, knobs.turn(g, x, fresh, level, Q, angle))
    )
    # the blur that regularises the weights leaks a little
    assert float((after - before)[:, 2:].norm() / before[:, 2:].norm()) < 0.02
    own = float((after - before)[:, :2].norm() / before[:, :2].norm())
    assert own < 1e-9 if angle == 0 else own > 0.3


def test_turning_keeps_the_law_and_all_other_coordinates():
    g, level = gaussian(), (0.8, 0.6)
    Q = knobs.telling(g, randn(DIM, 3, seed=5), torch.tensor([True, False, False]))
    x = g.sample(randn(40_000, DIM), level=level)
    y = knobs.turn(g, x, randn(40_000, DIM, seed=1), level, Q, 2.0)
    old, new = whiten(g, x, level), whiten(g, y, level)
    other = torch.eye(DIM).double() - Q @ Q.T
    torch.testing.assert_close(new @ other, old @ other)
    assert float((new @ Q).var()) == pytest.approx(1, abs=0.03)
    assert float(((new @ Q) * (old @ Q)).mean()) == pytest.approx(math.cos(2.0), abs=0.03)


def test_with_one_factor_its_knob_is_all_that_tells_it():
    g = gaussian()
    covariance = dense(g) @ randn(DIM, 2, seed=9)
    weights = torch.linalg.solve(torch.linalg.cholesky(dense(g)), covariance)  # any root of Sigma: compare the spans
    Q = knobs.telling(g, covariance, torch.tensor([True, True]))
    assert Q.shape == weights.shape


def test_measure_finds_that_knobs_turn_their_factor():
    who = subject("scenes-ddpm", device="cpu")
    record = knobs.measure(who.theory(), Settings(seeds=tuple(range(6)), profile="ci"))
    assert record is not None
    F = len(record["factors"])
    assert len(record["change"]) == F and all(len(row) == F for row in record["change"])
    own, others = (sum(v["value"] for v in record[who]) / F for who in ("own", "others"))
    assert own > 3 * others
    assert all(0 <= value["value"] <= 1 for value in record["own_kept"] + record["others_kept"])
    table = torch.tensor(record["change"])
    assert record["purity"][0] == pytest.approx(float(table[0, 0] / table[0].sum()), rel=1e-2)
    assert record["others"][0]["value"] == pytest.approx(float((table[0].sum() - table[0, 0]) / (F - 1)), rel=1e-2)
    assert knobs.measure(replace(who, reader=None), Settings(profile="ci")) is None
