"""The measurement as a whole: on the exact Gaussian it finds what the theory says, and walks are compared fairly."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from partners import randn as random

from atelier import manifold
from atelier.data.scenes.factors import Factor
from atelier.manifold import SamplerMap, alignment, knobs, record, searched, step_map, walks
from atelier.manifold.knobs import Knob
from atelier.subject import Settings, Subject, subject
from painters import Gaussian, Levels
from painters.sampling import noise
from painters.schedules import vp_linear
from painters.theory.gaussian import ode_gain

CI = Settings(tuple(range(8)), 10, "ci", progress=False)


@cache
def scenes() -> Subject:
    return subject("scenes-sd", device="cpu").theory()


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
        assert min(part["images"]) > 0.99
    assert np.max(r["whole"]["residuals"]) < 1e-4
    assert r["chance"] == pytest.approx(r["k"] / r["dim"])
    gain = np.asarray(r["one_step"]["gain"])
    assert np.asarray(r["one_step"]["values"]) == pytest.approx(np.repeat(gain[:, None], 2, 1), rel=1e-3)
    assert r["endpoint"]["inside"]["image"][0]["value"] > 0.8


def walked_far(world: Gaussian) -> tuple[dict, torch.Tensor]:
    """The record of walks in a ``world`` whose PCs may be others, and how walks along PCs move the image, in PCs."""
    g, levels = gaussian(), Levels.of(vp_linear(), 30, spacing="logsnr")
    who = Subject("a Gaussian", world, g, (1, 4, 6), lambda n, **_: levels, lambda x: x, kind="gaussian")
    begin = levels.start(noise(range(3), who.shape))
    found = [searched(SamplerMap(world, x, levels), random(3, *who.shape, seed=7), blocks=6) for x in begin]
    pcs = g.U[:, :3].T.reshape(3, *who.shape)
    # the tangent of a walk is not quite the PC: it has no part along the noise, of 24 dimensions here
    tangents = torch.stack([walks.tangent(x, pcs).flatten(1) @ world.U for x in begin])
    moved = (tangents * ode_gain(world.lam, frm=levels[0])) @ world.U.T @ g.U
    sines = walks.TARGET * (g.lam.sum() / 2).sqrt() / moved.norm(dim=2) / begin.flatten(1).norm(dim=1)[:, None]
    told = record.far(who, begin, found, levels, rounds=6)
    np.testing.assert_allclose(np.sin(told["angles"]["pcs"]), sines, rtol=1e-2)
    for kind in ("whole", "pcs"):
        np.testing.assert_allclose(told["distance"][kind], told["target"], rtol=1e-3)
    return told, moved / moved.norm(dim=2, keepdim=True)


def test_on_the_exact_gaussian_walks_along_pcs_move_the_image_along_them() -> None:
    told, moved = walked_far(gaussian())
    assert told["pcs"] == pytest.approx(moved[:, range(3), range(3)].square().mean(1).tolist(), abs=1e-3)
    span = torch.linalg.qr(moved.mT).Q[:, :3].square().sum((1, 2)) / 3
    assert told["whole"] == pytest.approx(span.tolist(), abs=1e-3)
    assert min(told["pcs"] + told["whole"]) > 0.9
    np.testing.assert_allclose(told["angles"]["whole"], told["angles"]["pcs"], rtol=2e-2)


def test_walks_that_move_the_image_elsewhere_are_seen() -> None:
    """The PCs of another world are moved along others, and what a search finds there is not them."""
    g = gaussian()
    world = replace(g, U=torch.linalg.qr(random(24, 24, seed=8)).Q)
    told, moved = walked_far(world)
    assert told["pcs"] == pytest.approx(moved[:, range(3), range(3)].square().mean(1).tolist(), abs=1e-3)
    assert max(told["pcs"]) < 0.5
    assert told["whole"] == pytest.approx([float((g.U[:, :3].T @ world.U[:, :3]).square().sum() / 3)] * 3, abs=0.1)


def test_at_a_walks_length_the_record_is_that_of_the_theory() -> None:
    far = measured()["far"]
    assert min(far["pcs"] + far["whole"]) > 0.97
    for kind in ("whole", "pcs"):
        assert np.asarray(far["distance"][kind]) == pytest.approx(far["target"], rel=0.05), kind
        assert np.shape(far["angles"][kind]) == (measured()["seeds"]["whole"], measured()["k"])


def test_without_a_reader_there_are_directions_but_no_knobs() -> None:
    blind = manifold.measure(replace(scenes(), reader=None), CI)
    assert blind is not None and "knobs" not in blind
    assert blind["whole"] == measured()["whole"] and blind["far"] == measured()["far"]
    assert manifold.measure(scenes().mean_only(), CI) is None


# Searches beside the PCs


def test_on_a_gaussian_everything_agrees():
    g, levels = gaussian(), Levels.of(vp_linear(), 20)
    starts = levels.start(random(3, 24))
    for maps, gain in (
        ([SamplerMap(g, x, levels) for x in starts], ode_gain(g.lam[:2], frm=levels[0])),
        ([step_map(g, x, (0.1, 1.0)) for x in starts], 0.1 * g.lam[:2] / (0.01 * g.lam[:2] + 1)),
    ):
        found = [searched(run, random(2, 24, seed=7), blocks=6) for run in maps]
        told = record.compared(found, g, found)
        assert min(told["images"] + told["agree"]) > 0.999
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


def test_the_image_directions_of_maps_that_are_not_symmetric():
    g, k = gaussian(12), 2
    Js = [random(12, 12, seed=i) * torch.logspace(0, -2, 12).double() for i in (1, 2, 3)]
    found = [searched(Linear(J), random(k, 12, seed=7), blocks=6) for J in Js]  # type: ignore[arg-type]
    told = record.compared(found, g, found[:1])
    pcs = g.U[:, :k]

    for i, J in enumerate(Js):
        left = torch.linalg.svd(J).U[:, :k].T
        assert told["images"][i] == pytest.approx(float((left @ pcs).square().sum()) / k, rel=1e-4)
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


def test_endpoint_paths_of_many_batches_are_those_of_one():
    g = gaussian()
    who = Subject("a Gaussian", g, g, (1, 4, 6), lambda n, **_: Levels.of(vp_linear(), n), lambda x: x, kind="gaussian")
    whole, parts = (record._endpoint(who, range(5), who.levels(9), batch) for batch in (50, 2))
    for name, shares in whole["inside"].items():
        assert [v["value"] for v in parts["inside"][name]] == pytest.approx([v["value"] for v in shares], rel=1e-3)
        assert [v["n"] for v in parts["inside"][name]] == [5] * 4
    assert "frequency" in whole["inside"]
    latents = replace(who, model=SimpleNamespace(image_shape=(3, 8, 12)))  # type: ignore[arg-type]
    assert "frequency" not in record._endpoint(latents, range(2), who.levels(9), 50)["inside"]


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


# Knobs


class Plain:
    """A ruler of two factors that reads its answers off the states: x_1 and (-x_2, x_2)."""

    factors = (Factor("size", "areas"), Factor("side", "masses", ("left", "right")))
    unrelated = torch.tensor([1.0, 0.5]).double()

    def __init__(self, denoise):
        self.subject = replace(scenes(), denoise=denoise)

    def answers(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0], -x[:, 1], x[:, 1]], 1).double()

    def change(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        flips = before[:, 1:].argmax(1) != after[:, 1:].argmax(1)
        return torch.stack([((after - before)[:, 0].abs() / 4).clamp(max=1), flips.double()], 1)

    def score(self, change: torch.Tensor) -> torch.Tensor:
        return (change.mean(0) / self.unrelated).clamp(max=1)


def test_the_record_of_knobs_counts_what_happened() -> None:
    dim, first = 24, torch.eye(24).double()
    g = gaussian()
    U = replace(g, U=first, mu=torch.zeros(dim).double(), lam=torch.ones(dim).double())
    levels = Levels.of(vp_linear(), 60, spacing="logsnr")
    covariance = torch.zeros(dim, 3).double()
    facts = knobs.Facts(U, Plain.factors, covariance, covariance, torch.ones(3).double())
    made = [
        Knob("size", 0, slice(0, 1), first[0], torch.tensor([1.0]).double()),
        Knob("side", 1, slice(1, 3), first[1], torch.tensor([-1.0, 1.0]).double()),
        Knob("not size", 0, slice(0, 1), first[0], torch.tensor([-1.0]).double()),
        Knob("nothing", 1, slice(1, 3), first[5], torch.tensor([-1.0, 1.0]).double()),
    ]
    # a world of unit variance paints its noise, so that a knob from -2 to 2 moves a coordinate by 4
    free = random(5, dim, seed=2)
    found = knobs.dialled(Plain(U), facts, made, free, levels)  # type: ignore[arg-type]
    right = np.array(found["dial"]["right"])
    assert right.shape == (5, 4) and right[:, :2].all() and not right[:, 2].any()
    assert found["dial"]["own"] == pytest.approx([1, 1, 1, 0], abs=0.02)
    assert found["dial"]["others"] == pytest.approx([0, 0, 0, 0], abs=0.02)
    assert found["names"] == ["size", "side", "not size", "nothing"] and found["known"] == found["explained"] == [0] * 4
    again = knobs.in_noise(U, torch.tensor(found["coordinates"]), (dim,))
    torch.testing.assert_close(again, torch.stack([knob.direction for knob in made]))


def test_the_knobs_of_a_measurement_turn() -> None:
    part = measured()["knobs"]
    turned = np.array(part["dial"]["right"])
    assert turned.shape == (measured()["seeds"]["dial"], len(part["names"])) and turned.mean() > 0.6
    assert all(0 <= v <= 1 for key in ("own", "others") for v in part["dial"][key])
