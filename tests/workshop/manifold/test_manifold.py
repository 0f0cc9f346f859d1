"""The measurement as a whole: on the exact Gaussian it finds what the theory says, and walks are compared fairly."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from partners import randn as random

from atelier import manifold
from atelier.data.scenes.factors import Factor
from atelier.manifold import SamplerMap, alignment, record, searched, walks
from atelier.manifold.knobs import Knob
from atelier.manifold.search import StepMap
from atelier.manifold.walks import Score
from atelier.scoring import Ruler
from atelier.subject import Settings, Subject, subject
from painters import Gaussian, Levels
from painters.levels import vp_linear
from painters.sampling import noise
from painters.theory.gaussian import ode_gain

CI = Settings(tuple(range(8)), 10, "ci", progress=False)


@cache
def scenes() -> Subject:
    return subject("scenes-sd", device="cpu").theory()


@cache
def ruler() -> Ruler:
    found = Ruler.of(scenes(), 100)
    assert found is not None
    return found


@cache
def measured() -> dict:
    found = manifold.measure(scenes(), CI)
    assert found is not None
    return found


def gaussian(dim=24):
    U = torch.linalg.qr(random(dim, dim, seed=3)).Q
    return Gaussian(random(dim, seed=4), U, torch.logspace(2, -2, dim, dtype=torch.float64))


def test_the_exact_gaussian_is_aligned_with_itself() -> None:
    r = measured()
    for part in (r["whole"], {key: value[0] for key, value in r["one_step"].items()}):
        for key in ("inputs", "images", "sides"):
            assert min(part[key]) > 0.99, key
    assert np.max(r["whole"]["residuals"]) < 1e-4
    assert r["chance"] == pytest.approx(r["k"] / r["dim"])
    gain = np.asarray(r["one_step"]["gain"])
    assert np.asarray(r["one_step"]["values"]) == pytest.approx(np.repeat(gain[:, None], 2, 1), rel=1e-3)
    assert r["endpoint"]["inside"]["image"][0]["value"] > 0.8


def test_on_the_exact_gaussian_found_directions_walk_like_the_pcs_and_every_walk_goes_equally_far() -> None:
    r = measured()
    whole, pcs = (np.sort(np.asarray(r["walks"][name]["change"]), 1) for name in ("whole", "pcs"))
    assert whole == pytest.approx(pcs, rel=0.05, abs=0.02)
    for name in ("whole", "pcs", "random", "straight", "level"):
        assert np.asarray(r["walks"][name]["distance"]) == pytest.approx(r["target"], rel=0.05), name
    assert np.asarray(r["knobs"]["equal"]["distance"]) == pytest.approx(r["target"], rel=0.05)


def test_without_a_reader_there_are_directions_but_no_scores() -> None:
    blind = manifold.measure(replace(scenes(), reader=None), CI)
    assert blind is not None and "walks" not in blind and "knobs" not in blind
    assert blind["whole"] == measured()["whole"]
    assert manifold.measure(scenes().mean_only(), CI) is None


# Searches beside the PCs


def test_on_a_gaussian_everything_agrees():
    g, levels = gaussian(), Levels.of(vp_linear(), 20)
    starts = levels.start(random(3, 24))
    for maps, gain in (
        ([SamplerMap(g, x, levels) for x in starts], ode_gain(g.lam[:2], frm=levels[0])),
        ([StepMap(g, x, (0.1, 1.0)) for x in starts], 0.1 * g.lam[:2] / (0.01 * g.lam[:2] + 1)),
    ):
        found = [searched(run, random(2, 24, seed=7), blocks=6) for run in maps]
        told = record.compared(found, g, found)
        for key in ("inputs", "images", "sides", "cold", "agree"):
            assert min(told[key]) > 0.999, key
        assert np.min(told["image_cosines"]) > 0.999
        assert np.max(told["residuals"]) < 0.05
        assert np.asarray(told["values"]) == pytest.approx(np.tile(gain, (3, 1)), rel=0.05)


class Linear:
    """The map v -> J v as a map to search."""

    calls = 7

    def __init__(self, J):
        self.J = J

    def push(self, v):
        return v @ self.J.T

    def pull(self, u):
        return u @ self.J


def test_left_and_right_of_maps_that_are_not_symmetric():
    g, k = gaussian(12), 2
    Js = [random(12, 12, seed=i) * torch.logspace(0, -2, 12).double() for i in (1, 2, 3)]
    found = [searched(Linear(J), random(k, 12, seed=7), blocks=6) for J in Js]  # type: ignore[arg-type]
    told = record.compared(found, g, found[:1])
    pcs = g.U[:, :k]

    def shared(a, b):
        return float((a @ b).square().sum()) / k

    for i, J in enumerate(Js):
        U, _, V = torch.linalg.svd(J)
        left, right = U[:, :k].T, V[:k]
        assert told["inputs"][i] == pytest.approx(shared(right, pcs), rel=1e-4)
        assert told["images"][i] == pytest.approx(shared(left, pcs), rel=1e-4)
        assert told["sides"][i] == pytest.approx(shared(left, right.T), rel=1e-4)
        assert told["image_cosines"][i] == pytest.approx(torch.linalg.svdvals(left @ pcs).tolist(), rel=1e-3)
    assert told["cold"] == told["inputs"][:1]
    assert told["agree"] == pytest.approx([1.0])
    assert [one.nfe for one in found] == [7 * 12 * 5] * 3


def test_a_residual_is_stated_relative_to_its_value():
    J = random(20, 20) * torch.logspace(1, 0, 20, dtype=torch.float64)
    found = searched(Linear(J), random(2, 20, seed=7), blocks=2)  # type: ignore[arg-type]
    told = record.compared([found], gaussian(20), [found])
    direct = (found.images @ J - found.values[:, None] * found.inputs).norm(dim=1) / found.values
    assert told["residuals"][0] == pytest.approx(direct.tolist(), rel=1e-3)


def test_endpoint_paths_of_a_gaussian_are_copies_of_the_image_and_unrelated_ones_are_not():
    g, levels = gaussian(48), Levels.of(vp_linear(), 20, spacing="logsnr")
    run = g.trajectory(levels.start(random(12, 3, 4, 4)), levels)
    inside = record.endpoints(g, run.x0, run.final, frequency=True)["inside"]
    assert inside["image"][0]["value"] > 0.8
    assert inside["pcs"][1]["value"] > 0.8
    assert inside["other"][1]["value"] < 0.5
    strange = record.endpoints(g, run.x0, run.final.roll(1, 0), frequency=True)["inside"]
    assert strange["image"][0]["value"] < 0.5


def test_the_record_of_endpoint_paths_against_a_plain_svd():
    g = gaussian(48)
    paths, images = random(9, 2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    inside = record.endpoints(g, paths, images, frequency=True)["inside"]
    image, other = [], []
    for b in range(2):
        V = torch.linalg.svd((paths[:, b] - paths[:, b].mean(0)).flatten(1), full_matrices=False)[2]
        deviation = images[b].flatten() - g.mu
        image.append((V[:4] @ deviation).square() / deviation.square().sum())
        span = alignment.copies(g, images[1 - b] - g.mu.reshape(3, 4, 4))["all"]
        other.append((V[:4] @ torch.linalg.qr(span.flatten(1).T).Q).square().sum(1))
    for name, want in (("image", image), ("other", other)):
        assert [v["value"] for v in inside[name]] == pytest.approx(torch.stack(want).mean(0).tolist())


# Walks


def test_the_dial_sets_the_noise_before_the_run() -> None:
    g = scenes()
    levels, eps = g.levels(5), noise([3], g.shape)[0]
    rows = g.gaussian.U[:, :2].T.reshape(2, *g.shape)
    found = walks.dialled(ruler(), eps, rows, levels, settings=CI)
    states = levels.start(walks.dial(eps, rows, torch.tensor([-walks.RANGE, 0.0, walks.RANGE])))
    images = walks.painted(g.denoise, states, levels)
    torch.testing.assert_close(found.answers, ruler().answers(images.flatten(0, 1)).reshape(found.answers.shape))
    assert (found.distance > 0.3).all()


def test_a_part_of_the_walks_is_that_part() -> None:
    g = scenes()
    image, rows = noise([3], g.shape)[0], g.gaussian.U[:, :3].T.reshape(3, *g.shape)
    every = walks.stepped(ruler(), image, rows, settings=CI)
    one = walks.stepped(ruler(), image, rows[1:2], settings=CI)
    part = every.part(slice(1, 2))
    torch.testing.assert_close(part.answers, one.answers, rtol=0, atol=1e-5)
    torch.testing.assert_close(part.change, one.change, rtol=0, atol=1e-4)
    torch.testing.assert_close(every.distance, torch.full((3,), walks.TARGET).double(), rtol=1e-4, atol=0)


class Plain:
    """A ruler of two factors that reads its answers off the states."""

    factors = (Factor("size", "areas"), Factor("side", "masses", ("left", "right")))
    names = ("size", "side")

    def change(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        moved = (after - before).square()
        return torch.stack([moved[:, 0], moved[:, 1:].sum(1)], 1)


def walked(*ends: tuple[float, float]) -> Score:
    """Walks from nothing that change size and side by some amounts."""
    said = torch.zeros(len(ends), 3, 3).double()
    for i, (size, side) in enumerate(ends):
        for step in (1, 2):
            said[i, step] = step / 2 * torch.tensor([size, -side, side])
    change = Plain().change(said[:, 0], said[:, -1])
    one = torch.ones(len(ends)).double()
    return Score(said, one, change, change.argmax(1), change.max(1).values / change.sum(1), one)


def test_the_record_of_knobs_counts_what_happened() -> None:
    made = [
        Knob("size", 0, slice(0, 1), torch.ones(2), torch.tensor([1.0]).double()),
        Knob("side", 1, slice(1, 3), torch.ones(2), torch.tensor([-1.0, 1.0]).double()),
    ]
    seen = {
        "dial": [walked((2.0, 0.0), (0.0, 1.0)), walked((-2.0, 0.5), (3.0, 1.0))],
        "knobs": [walked((1.0, 0.0), (0.0, 1.0)), walked((1.0, 0.0), (0.0, 1.0))],
        "random": [walked((0.5, 0.0)), walked((1.0, 0.5))],
        "whole": [walked((0.1, 1.0), (0.4, 0.0)), walked((0.2, 0.0), (0.3, 0.2))],
    }
    found = record.knobs_record(Plain(), made, seen)  # type: ignore[arg-type]
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
