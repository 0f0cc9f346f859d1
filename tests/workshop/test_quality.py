"""Quality: Fréchet distances against scipy and closed forms, a planted shift found, kinds and prompts counted."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from partners import gaussian, randn, rel
from scipy.linalg import sqrtm

import painters
from atelier import judging
from atelier.data import scenes
from atelier.data.controls import checkerboard
from atelier.data.images import FASHION_CLASSES
from atelier.data.known import FASHION_CLASS, KnownStates
from atelier.data.scenes.factors import Factor
from atelier.networks.generator import Generator, GeneratorNetwork
from atelier.networks.readers import Reader, ReaderNetwork, columns, load_reader
from atelier.quality import frechet, frechet_report, moment_matched, obedience, said, seen, shares
from painters.schedules import scaled_linear, vp_linear

SIDE, SIZE = Factor("side", "a", ("left", "right")), Factor("size", "b")


def untrained(factors: tuple[Factor, ...], shape: tuple[int, ...], features: int = 8) -> Reader:
    """A reader that was never trained: its features are as good as any to measure a distance in."""
    torch.manual_seed(0)
    network = ReaderNetwork(shape, columns(factors), channels=(8, 8), features=features)
    return Reader(network.eval(), factors, shape, torch.device("cpu"), {"name": "untrained"})


def by_sqrtm(a: torch.Tensor, b: torch.Tensor) -> float:
    """The textbook formula with scipy's root of the product, which is not symmetric."""
    x, y = a.numpy(), b.numpy()
    p, q = np.cov(x.T), np.cov(y.T)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(p + q - 2 * np.real(sqrtm(p @ q))))


@pytest.mark.parametrize(("n", "d"), [(40, 2), (300, 17), (2000, 64)])
def test_frechet_is_scipys(n: int, d: int) -> None:
    a = randn(n, d, seed=1) @ randn(d, d, seed=2)
    b = randn(n + 7, d, seed=3) @ randn(d, d, seed=4) + 0.3
    assert frechet(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-8)
    assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-10)


def with_moments(mean: list[float], variances: list[float], seed: int) -> torch.Tensor:
    """A hundred points whose sample mean and covariance are exactly these."""
    x = randn(100, len(mean), seed=seed)
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T
    return white * torch.tensor(variances).double().sqrt() + torch.tensor(mean).double()


def test_frechet_between_known_gaussians() -> None:
    a = with_moments([0.0, 1.0, 2.0], [1.0, 4.0, 0.01], 1)
    b = with_moments([1.0, 1.0, 0.0], [9.0, 1.0, 0.04], 2)
    assert frechet(a, b) == pytest.approx(1 + 4 + (1 - 3) ** 2 + (2 - 1) ** 2 + (0.1 - 0.2) ** 2, rel=1e-9)
    turn = torch.linalg.qr(randn(3, 3, seed=3))[0]
    assert frechet(a @ turn, b @ turn) == pytest.approx(frechet(a, b), rel=1e-9)
    assert frechet(a, a) == pytest.approx(0, abs=1e-12)


def test_dead_features_do_no_harm() -> None:
    a, b = (
        torch.cat([with_moments([0.0, m], [1.0, v], s), torch.zeros(100, 2)], 1) for m, v, s in ((0, 1, 1), (2, 9, 2))
    )
    assert frechet(a, b) == pytest.approx(4 + 4, rel=1e-9)


def test_refusals() -> None:
    for a, b in ((randn(80, 3), randn(80, 4)), (randn(80, 10), randn(10, 10)), (randn(80), randn(80))):
        with pytest.raises(ValueError, match="two sets of the same features, more samples than features"):
            frechet(a, b)
    reader, few = untrained((SIDE,), (3, 8, 8)), torch.zeros(20, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="only 20 pictures to compare 30 painted ones with"):
        frechet_report(reader, torch.zeros(30, 3, 8, 8), train=few.repeat(2, 1, 1, 1), test=few)
    with pytest.raises(ValueError, match="does not read colour"):
        obedience({"side": torch.zeros(1)}, [{"colour": "red"}], (SIDE,))
    with pytest.raises(ValueError, match="cannot see"):
        seen(torch.zeros(2, 3, 12, 12, dtype=torch.uint8), reader)


def test_the_matched_gaussian_has_the_moments_until_it_is_clamped() -> None:
    g = gaussian([0.05, 0.01, 0.002], seed=4, mean=0.1)
    free = moment_matched(g, 20_000, (3,)).double()
    assert rel(free.mean(0), g.mu) < 0.02
    assert rel(torch.cov(free.T), g.U @ torch.diag(g.lam) @ g.U.T) < 0.03
    assert float(moment_matched(gaussian([5.0, 0.1, 0.02]), 500, (3,)).abs().max()) == 1


def test_a_planted_shift_of_the_pictures_stands_out_of_the_floor() -> None:
    """Scenes of other seeds are at the floor; with all doors green they are not."""
    test, train, fair = (scenes.render(scenes.sample(400, seed)) for seed in (50_000, 0, 20_000))
    green = scenes.render(scenes.sample(400, 20_000).replace({"door": "green"}))
    reader = load_reader("scenes-reader", device="cpu")
    real, *others = (reader.features(seen(pictures, reader)) for pictures in (test, train, fair, green))
    floor, honest, shifted = (frechet(features, real) for features in others)
    assert real.shape == (400, 64) and honest < 1.3 * floor < 3 * floor < shifted


def test_a_model_stands_beside_the_floor_and_the_matched_gaussian() -> None:
    """Scenes of other seeds are nearer to the test scenes than a Gaussian is, and static is not."""
    reader = untrained((SIDE,), (3, 16, 16))
    train, test, fair = (scenes.render(scenes.sample(400, seed), 16) for seed in (0, 50_000, 20_000))
    static = torch.randint(0, 256, fair.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    honest, noisy = (frechet_report(reader, seen(x, reader), train=train, test=test) for x in (fair, static))
    looked = [reader.features(seen(pictures, reader)) for pictures in (fair, train, test)]
    assert (honest["model"], honest["floor"]) == (frechet(looked[0], looked[2]), frechet(looked[1], looked[2]))
    assert (honest["n"], honest["features"]) == (400, 8) and honest["gaussian"] == noisy["gaussian"]
    assert honest["of_gaussian"] == honest["model"] / honest["gaussian"] < 1 < noisy["of_gaussian"]


def table(side: list[int], size: list[float]) -> dict[str, torch.Tensor]:
    return {"side": torch.tensor(side), "size": torch.tensor(size)}


def test_shares_count_the_kinds() -> None:
    found = shares(table([0, 1, 1, 1, 0], [0.1, 0.9, 0.7, 0.8, 0.3]), (SIDE, SIZE))
    assert found == {"side": {"left": pytest.approx(0.4), "right": pytest.approx(0.6)}}


def test_prompts_obeyed_are_counted_with_wilson_intervals() -> None:
    """Ten times four pictures: of side, a kind of its own group here, and size, which has none."""
    values = table([0, 0, 1, 1] * 10, [0.1, 0.5, 0.9, 0.2] * 10)
    wanted = [{"side": "left", "size": "low"}, {"side": "left"}, {"side": "left", "size": "high"}, {"size": "high"}]
    found = obedience(values, wanted * 10, (SIDE, SIZE))
    assert [found["factors"][name]["share"] for name in ("side", "size")] == [2 / 3, 2 / 3]
    ends = {k: pytest.approx(v, abs=1e-4) for k, v in wilson(20, 40).items()}
    assert found["every"] == {"n": 40, "share": 0.5, **ends}
    assert found["groups"] == {"kinds": found["factors"]["side"]}


def test_wishes_are_grouped_into_colours_sides_and_kinds() -> None:
    n = 50
    factors = scenes.sample(n, 7)
    values = {name: torch.from_numpy(value) for name, value in factors.values.items()}
    wanted = [{f.name: f.kinds[int(values[f.name][i])] for f in scenes.FACTORS if f.kinds} for i in range(n)]
    wrong = values | {"door": (values["door"] + 1) % 3, "tree side": 1 - values["tree side"]}
    found = obedience(wrong, wanted, scenes.FACTORS)["groups"]
    assert {name: hit["n"] / n for name, hit in found.items()} == {"colours": 6, "sides": 3, "kinds": 4}
    assert {name: hit["share"] for name, hit in found.items()} == {"colours": 5 / 6, "sides": 2 / 3, "kinds": 1}


def wilson(k: int, n: int, z: float = 1.959964) -> dict[str, float]:
    p, q = k / n, z**2 / n
    middle, half = (p + q / 2) / (1 + q), z / (1 + q) * ((p * (1 - p) + q / 4) / n) ** 0.5
    return {"low": middle - half, "high": middle + half}


def test_words_are_those_of_the_captions() -> None:
    assert [said(v, SIZE) for v in (0.2, 0.5, 0.7)] == ["low", "", "high"]
    factors = scenes.sample(60, 7)
    values = {name: torch.from_numpy(value) for name, value in factors.values.items()}
    wanted = [scenes.parse(text) for text in scenes.caption(factors)]
    found = obedience(values, wanted, scenes.FACTORS)
    assert found["every"]["share"] == 1 and all(hit["share"] == 1 for hit in found["factors"].values())
    others = {name: value.roll(1) for name, value in values.items()}
    assert obedience(others, wanted, scenes.FACTORS)["every"]["share"] < 0.1


class Painter(torch.nn.Module):
    """Predicts a picture as bright as its class: (x, t, labels) -> x0."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t, labels):
        return torch.zeros_like(x) + (labels / 5 - 1).view(-1, 1, 1, 1) + self.shift


def painter(network=None, schedule=None) -> painters.models.Model:
    return painters.load(
        network or Painter(),
        prediction="sample",
        schedule=schedule or vp_linear(),
        shape=(1, 8, 8),
        classes=FASHION_CLASSES,
        null_label=10,
    )


def fashion_like() -> KnownStates:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 10
    pictures = (labels.view(-1, 1, 1, 1) * 25 + torch.randint(0, 20, (80, 1, 8, 8), generator=draw)).to(torch.uint8)
    return KnownStates(
        pictures[:40], pictures[40:], {"class": labels[:40]}, {"class": labels[40:]}, (FASHION_CLASS,), "fashion"
    )


TRIAL = judging.Trial(n=30, prompts=20, guidance=(1.0, 3.0), steps=3, batch=8)


class Brightness(Reader):
    """Reads the class from the mean brightness."""

    def values(self, x, alpha=1.0, sigma=0.0):
        return {"class": ((x.mean((1, 2, 3)) + 1) * 5).round().long().clamp(0, 9)}


def brightness() -> Brightness:
    reader = untrained((FASHION_CLASS,), (1, 8, 8), features=4)
    return Brightness(reader.network, reader.factors, reader.shape, reader.device, {"name": "brightness"})


def test_judging_paints_measures_and_continues_where_it_stopped(tmp_path, monkeypatch) -> None:
    real, calls = judging.solve, []

    def stops(*args, **kwargs):
        calls.append(list(kwargs["seeds"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(judging, "solve", stops)
    with pytest.raises(KeyboardInterrupt):
        judging.judge(painter(), brightness(), fashion_like(), TRIAL, keep=tmp_path)
    report = judging.judge(painter(), brightness(), fashion_like(), TRIAL, keep=tmp_path)
    assert calls[:3] == [list(range(8)), list(range(8, 16)), list(range(16, 24))] and calls[3] == calls[2]
    assert report == json.loads(json.dumps(report))
    assert report["frechet"]["model"] > report["frechet"]["floor"], "all of its pictures are alike"
    assert not report["witness"] and report["frechet"]["of_gaussian"] > 1, "which a Gaussian's are not"
    assert report["kinds"]["model"]["class"] == {name: float(name == "Ankle boot") for name in FASHION_CLASSES}
    assert report["kinds"]["real"]["class"] == {name: 0.1 for name in FASHION_CLASSES}
    found = report["prompts"]
    assert list(found) == ["real pictures", "guidance 1", "guidance 3"] and found["real pictures"]["every"]["n"] == 20
    assert found["guidance 1"]["groups"]["kinds"]["share"] == 1
    assert found["guidance 3"]["groups"]["kinds"]["share"] < 1, "a guided painter overshoots"
    assert report["provenance"]["torch"] == torch.__version__ and len(report["provenance"]["weights"]) == 12
    assert report["settings"]["seeds"] == "0-29" and report["settings"]["reader"] == "brightness"


def test_a_gan_is_judged_by_its_pictures_alone(tmp_path) -> None:
    torch.manual_seed(0)
    network = GeneratorNetwork(latent=4, channels=(4, 4), colours=1).eval().requires_grad_(False)
    generator = Generator(network, (1, 8, 8), torch.device("cpu"), {"training": {"data": "fashion"}})
    assert judging.data_of(generator, "mine") == "fashion"
    report = judging.judge(generator, brightness(), fashion_like(), TRIAL, keep=tmp_path)
    assert not report["witness"] and "prompts" not in report and "steps" not in report["settings"]
    assert len(report["provenance"]["weights"]) == 12 and report["frechet"]["n"] == 30
    assert sum(report["kinds"]["model"]["class"].values()) == pytest.approx(1)


def test_what_an_autoencoder_loses_is_read_from_its_reconstructions(tmp_path, monkeypatch) -> None:
    """A stand-in for a latent model whose decoder paints every picture one class brighter."""
    model = painter()
    brighter = SimpleNamespace(
        encode=lambda x: x, decode=lambda z: (z + 0.1).clamp(0, 1), codec=object(), levels=model.levels
    )
    monkeypatch.setattr(judging, "pictures", lambda model, seeds, *_, **__: fashion_like().test[: len(seeds)])
    found = judging.prompted(brighter, brightness(), fashion_like(), TRIAL, keep=tmp_path)  # type: ignore[arg-type]
    assert [found[name]["every"]["share"] for name in ("real pictures", "guidance 1")] == [1, 1]
    assert found["reconstructions"]["every"]["share"] <= 0.2


def test_judging_an_unknown_model_or_too_many_pictures_is_one_sentence(tmp_path) -> None:
    with pytest.raises(ValueError, match="cannot be judged"):
        judging.data_of(painter(), "mine")
    with pytest.raises(ValueError, match="judging takes 5 to 40 pictures"):
        judging.judge(painter(), brightness(), fashion_like(), judging.Trial(n=50), keep=tmp_path)


def test_kept_pictures_are_used_only_if_everything_that_made_them_is_the_same(tmp_path):
    """Other weights, steps, prompts, guidance, solver or schedule: painted anew; the same: read."""

    def paint(model, trial=TRIAL, **options):
        before = set(tmp_path.rglob("*.safetensors"))
        found = judging.pictures(model, range(8), trial, keep=tmp_path, **options)
        return found, set(tmp_path.rglob("*.safetensors")) != before

    one, other = Painter(), Painter()
    other.shift.data += 0.1
    first, new = paint(painter(one))
    again, anew = paint(painter(one))
    assert new and not anew and torch.equal(first, again)
    for model, trial, options in (
        (painter(other), TRIAL, {}),
        (painter(one), replace(TRIAL, steps=4), {}),
        (painter(one), replace(TRIAL, solver="ddim"), {}),
        (painter(one), TRIAL, {"prompts": ["Bag"] * 8}),
        (painter(one), TRIAL, {"prompts": ["Coat"] * 8}),
        (painter(one), TRIAL, {"prompts": ["Coat"] * 8, "guidance": 2.0}),
        (painter(one, scaled_linear()), TRIAL, {}),
    ):
        assert paint(model, trial, **options)[1], (trial, options)


def test_a_control_is_judged_by_its_pictures_turned_back(tmp_path):
    """A reader of clothes knows no checkerboard: what is judged has the change of the data undone."""
    plain = painter()
    control = replace(plain, card=plain.card | {"training": {"variant": "checkerboard"}})
    first, turned = (judging.pictures(one, range(3), TRIAL, keep=tmp_path) for one in (plain, control))
    assert torch.equal(turned, checkerboard(first)) and not torch.equal(turned, first)


def test_too_few_pictures_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "solve", None)
    for trial in (judging.Trial(n=4), judging.Trial(n=30, prompts=-1)):
        with pytest.raises(ValueError, match="judging takes 5 to 40 pictures, more than the reader's 4 features"):
            judging.judge(painter(), brightness(), fashion_like(), trial, keep=tmp_path)


def test_large_pictures_are_averaged_down() -> None:
    reader = untrained((SIDE,), (3, 8, 8))
    pictures = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    blocks = pictures.float().reshape(5, 3, 8, 2, 8, 2).mean((3, 5))
    torch.testing.assert_close(seen(pictures, reader), blocks / 127.5 - 1, atol=1e-5, rtol=0)
