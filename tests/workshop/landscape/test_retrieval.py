"""Retrieval and memorisation against brute force, copies, fresh draws and blurred fresh draws."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch
from partners import gaussian, randn, rel
from torch import Tensor

from atelier.landscape import retrieval
from atelier.landscape.retrieval import copying, measure, nearest
from atelier.subject import Settings, Subject
from painters import Gaussian, Levels, noise, solve
from painters.schedules import vp_linear
from painters.theory.cloud import PointCloud
from painters.theory.moments import Moments

SHAPE = (1, 4, 4)


@pytest.mark.parametrize("chunk", [2000, 13])
def test_the_nearest_are_found_and_copies_are_at_zero(chunk: int, monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK", chunk)
    x, y = randn(7, *SHAPE, seed=1) + 50, randn(40, *SHAPE, seed=2) + 50
    x[2] = y[33]
    distance, index = nearest(x, y, k=3)
    want = torch.cdist(x.flatten(1), y.flatten(1)).topk(3, largest=False)
    assert rel(distance, want.values) < 1e-5
    assert torch.equal(index, want.indices)
    assert float(distance[2, 0]) == 0


def test_the_flow_of_a_cloud_ends_on_one_of_its_points():
    points = randn(20, *SHAPE, seed=5)
    levels = Levels.of(vp_linear(), 40)
    run = solve(PointCloud(points), levels.start(noise(range(6), SHAPE, dtype=torch.float64)), levels, progress=False)
    distance, _ = nearest(run.final, points)
    assert float(distance.max()) < 1e-3 * float(torch.cdist(points.flatten(1), points.flatten(1)).max())


def draw(n: int, seed: int) -> Tensor:
    return gaussian([1.0, 0.5, 0.2, 0.1], dim=6, rest=0.05, seed=8).sample(randn(n, 6, seed=seed))


def test_copies_are_caught_and_fresh_or_blurred_draws_are_not():
    train, fresh = draw(800, 1), draw(800, 2)

    def share(paintings: Tensor) -> float:
        return float(copying(paintings, train, fresh).double().mean())

    assert share(train[::4] + 1e-3 * randn(200, 6, seed=4)) == 1
    assert share(fresh[::4] + 1e-3 * randn(200, 6, seed=4)) == 0
    mean, n = train.mean(0), 600
    chance = 3 * 0.5 / n**0.5
    assert share(draw(n, 5)) == pytest.approx(0.5, abs=chance)
    assert share(mean + 0.5 * (draw(n, 6) - mean)) == pytest.approx(0.5, abs=chance)  # near to everything
    with pytest.raises(ValueError, match="equally large"):
        copying(fresh, train[:100], fresh)


def test_the_nearer_gallery_is_that_of_brute_force():
    train, fresh, paintings = draw(300, 1), draw(300, 2), draw(50, 3)
    want = torch.cdist(paintings, train).amin(1) < torch.cdist(paintings, fresh).amin(1)
    assert torch.equal(copying(paintings, train, fresh), want)


@dataclass(frozen=True, eq=False)
class Toy(Subject):
    """A subject whose pictures are 4 x 4 grey levels around a few prototypes."""

    train: Tensor = field(default_factory=lambda: torch.zeros(0))
    test: Tensor = field(default_factory=lambda: torch.zeros(0))

    def pictures(self, n, *, test=True):
        return (self.test if test else self.train)[:n]

    def data(self, n, *, test=True):
        return self.pictures(n, test=test) / 127.5 - 1


def toy() -> Toy:
    train, test = (
        (120 + 160 * gaussian([2.0, 1.0], dim=16, rest=0.3, mean=0, seed=1).sample(randn(n, 16, seed=n)))
        .clamp(0, 255).to(torch.uint8).reshape(n, *SHAPE)
        for n in (700, 500)
    )  # fmt: skip
    g = Gaussian.from_moments(Moments.of(train / 127.5 - 1))
    options = {"levels": lambda n: Levels.of(vp_linear(), 5 * n), "decode": lambda x: (x / 2 + 0.5).clamp(0, 1)}
    reader = SimpleNamespace(shape=SHAPE, look=lambda pictures: pictures)
    return Toy("toy", g, g, SHAPE, **options, reader=reader, train=train, test=test)  # type: ignore[arg-type]


SETTINGS = Settings(seeds=tuple(range(40)), steps=12, profile="ci", batch=16)


def test_measuring_catches_the_control_and_acquits_the_gaussian():
    found = measure(toy(), SETTINGS)
    assert found is not None
    found = json.loads(json.dumps(found))
    assert found["gallery"] == 300
    assert found["control"]["share"]["value"] == 1
    assert found["paintings"]["share"]["value"] < 1
    assert set(found) == {"gallery", "paintings", "gaussian", "control"}


def test_shares_are_those_of_brute_force_for_every_painter(monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK", 90)
    who, settings = replace(toy(), shape=SHAPE), replace(SETTINGS, seeds=tuple(range(5, 30)), batch=3)
    found = measure(who, settings)
    assert found is not None
    train, test = (part[:300].flatten(1) / 127.5 - 1 for part in (toy().train, toy().test))
    cloud = replace(who, denoise=PointCloud((who.train[:300] / 127.5 - 1).double()))
    for name, painter, n in (("paintings", who, 4), ("gaussian", who.theory(), 4), ("control", cloud, 2)):
        images = painter.decode(painter.run(range(5, 5 + n), steps=12, solver="dpmpp2m").final) * 2 - 1
        near, far = (torch.cdist(images.flatten(1).float(), part).amin(1) for part in (train, test))
        share = found[name]["share"]
        assert (share["value"], share["n"]) == (float((near < far).double().mean()), n), name


def test_without_data_or_a_reader_there_is_nothing_to_measure():
    subject = toy()
    plain = Subject("plain", subject.denoise, subject.gaussian, SHAPE, subject.levels, subject.decode)
    assert measure(plain, SETTINGS) is None
    theory = measure(subject.theory(), SETTINGS)
    assert theory is not None
    assert set(theory) == {"gallery", "paintings"}
