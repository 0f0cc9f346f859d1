"""The measurement as a whole: on the exact Gaussian it finds what the theory says, and walks are compared fairly."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from atelier import manifold
from atelier.data.scenes.factors import Factor
from atelier.ledger.records import rounded
from atelier.manifold import steering
from atelier.manifold.knobs import Knob
from atelier.manifold.walks import Score, dial, paint
from atelier.scoring import Ruler
from atelier.subject import Settings, Subject, subject
from painters.sampling import noise

CI = Settings(tuple(range(8)), 10, "ci", progress=False)


@cache
def scenes() -> Subject:
    return subject("scenes-ddpm", device="cpu")


@cache
def ruler() -> Ruler:
    found = Ruler.of(scenes(), 100)
    assert found is not None
    return found


@cache
def record() -> dict:
    found = manifold.measure(scenes().theory(), CI)
    assert found is not None
    return found


def test_the_exact_gaussian_is_aligned_with_itself() -> None:
    r = record()
    json.dumps(rounded(r), allow_nan=False)
    for part in (r["whole"], {key: value[0] for key, value in r["one_step"].items() if key != "reached"}):
        for key in ("inputs", "images", "sides", "between"):
            assert min(part[key]) > 0.99, key
    assert np.max(r["whole"]["residuals"]) < 1e-4
    assert r["chance"] == pytest.approx(r["k"] / r["dim"])
    gain = np.asarray(r["one_step"]["gain"])
    assert np.asarray(r["one_step"]["values"]) == pytest.approx(np.repeat(gain[:, None], 2, 1), rel=1e-3)
    assert r["endpoint"]["pooled"]["gaussian"] > 0.99


def test_on_the_exact_gaussian_found_directions_walk_like_the_pcs_and_every_walk_goes_equally_far() -> None:
    r = record()
    whole, pcs = (np.sort(np.asarray(r["walks"][name]["change"]), 1) for name in ("whole", "pcs"))
    assert whole == pytest.approx(pcs, rel=0.05, abs=0.02)
    for name in ("whole", "pcs", "random", "straight", "level"):
        assert np.asarray(r["walks"][name]["distance"]) == pytest.approx(r["target"], rel=0.05), name
    assert np.asarray(r["knobs"]["equal"]["distance"]) == pytest.approx(r["target"], rel=0.05)


def test_without_a_reader_there_are_directions_but_no_scores() -> None:
    g = scenes().theory()
    blind = manifold.measure(replace(g, reader=None), CI)
    assert blind is not None and "walks" not in blind and "knobs" not in blind
    assert blind["whole"] == record()["whole"]
    assert manifold.measure(scenes().mean_only(), CI) is None


def test_the_dial_sets_the_noise_before_the_run() -> None:
    g = scenes().theory()
    levels, eps = g.levels(5), noise([3], g.shape)[0]
    rows = g.gaussian.U[:, :2].T.reshape(2, *g.shape)
    found = steering.dialled(g, ruler(), eps, rows, levels, settings=CI)
    states = levels.start(dial(eps, rows, torch.tensor([-steering.RANGE, 0.0, steering.RANGE])))
    images = paint(g.denoise, states, levels)
    torch.testing.assert_close(found.answers, ruler().answers(images.flatten(0, 1)).reshape(found.answers.shape))
    assert (found.score.distance > 0.3).all()


def test_a_part_of_the_walks_is_that_part() -> None:
    g = scenes().theory()
    image, rows = noise([3], g.shape)[0], g.gaussian.U[:, :3].T.reshape(3, *g.shape)
    every = steering.push_along(ruler(), image, rows, settings=CI)
    one = steering.push_along(ruler(), image, rows[1:2], settings=CI)
    part = every.part(slice(1, 2))
    torch.testing.assert_close(part.answers, one.answers, rtol=0, atol=1e-5)
    torch.testing.assert_close(part.score.change, one.score.change, rtol=0, atol=1e-4)
    torch.testing.assert_close(every.score.distance, torch.full((3,), steering.TARGET).double(), rtol=1e-4, atol=0)


class Plain:
    """A ruler of two factors that reads its answers off the states."""

    factors = (Factor("size", "areas"), Factor("side", "masses", ("left", "right")))
    names = ("size", "side")

    def change(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        moved = (after - before).square()
        return torch.stack([moved[:, 0], moved[:, 1:].sum(1)], 1)


def walked(*ends: tuple[float, float]) -> steering.Walked:
    """Walks from nothing that change size and side by some amounts."""
    said = torch.zeros(len(ends), 3, 3).double()
    for i, (size, side) in enumerate(ends):
        for step in (1, 2):
            said[i, step] = step / 2 * torch.tensor([size, -side, side])
    change = Plain().change(said[:, 0], said[:, -1])
    one = torch.ones(len(ends)).double()
    score = Score(one, change, change.argmax(1), change.max(1).values / change.sum(1), one)
    return steering.Walked(one, said, score)


def test_the_record_of_knobs_counts_what_happened() -> None:
    made = [
        Knob("size", 0, slice(0, 1), torch.ones(2), torch.tensor([1.0]).double()),
        Knob("side", 1, slice(1, 3), torch.ones(2), torch.tensor([-1.0, 1.0]).double()),
    ]
    walks = {
        "dial": [walked((2.0, 0.0), (0.0, 1.0)), walked((-2.0, 0.5), (3.0, 1.0))],
        "knobs": [walked((1.0, 0.0), (0.0, 1.0)), walked((1.0, 0.0), (0.0, 1.0))],
        "random": [walked((0.5, 0.0)), walked((1.0, 0.5))],
        "whole": [walked((0.1, 1.0), (0.4, 0.0)), walked((0.2, 0.0), (0.3, 0.2))],
    }
    found = steering._knobs(Plain(), made, walks)  # type: ignore[arg-type]
    assert found["dial"]["hit"] == [[1, 1], [1, 0]]
    assert found["dial"]["right"] == [[1, 1], [0, 1]]
    assert found["dial"]["named"] == [[4, 2], [4, 2]]
    assert found["dial"]["summary"]["hit"]["value"] == 0.75
    assert found["dial"]["summary"]["right"]["value"] == 0.75
    assert found["dial"]["summary"]["named"]["value"] == 3
    assert found["equal"]["named"] == [[1, 2], [1, 2]]
    assert found["random"] == pytest.approx([(0.25 + 1) / 2, 0.25])
    assert found["best"] == pytest.approx([(0.16 + 0.09) / 2, (2 + 0.08) / 2])
    assert found["random_named"]["value"] == pytest.approx((0.625 + 0.25) / 2)
    assert found["chance"] == 0.5  # every random direction changes size most, one of two names
    assert found["factor"] == [0, 1]
