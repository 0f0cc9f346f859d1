"""Quality: Fréchet distances against scipy and closed forms, planted shifts found, prompts counted exactly."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from partners import gaussian, randn, rel
from scipy.linalg import sqrtm

import painters
from atelier import judging
from atelier.data import scenes
from atelier.data.images import FASHION_CLASSES
from atelier.data.known import FASHION_CLASS, KnownStates
from atelier.data.scenes.factors import Factor
from atelier.networks.readers import Reader, ReaderNetwork, columns, load_reader
from atelier.quality import (
    factor_report,
    frechet,
    frechet_report,
    moment_matched,
    obedience,
    said,
    seen,
    statistics,
)
from painters.levels import scaled_linear, vp_linear

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
    for a, b, says in (
        (randn(80, 65), randn(80, 65), "1 to 64"),
        (randn(80, 3), randn(80, 4), "the same"),
        (randn(80, 10), randn(10, 10), "take more"),
        (randn(80, 2), torch.full((80, 2), float("nan")), "NaN"),
    ):
        with pytest.raises(ValueError, match=says):
            frechet(a, b)
    reader = untrained((SIDE,), (3, 8, 8))
    with pytest.raises(ValueError, match="as many"):
        frechet_report(reader, torch.zeros(20, 3, 8, 8), train=torch.zeros(30, 3, 8, 8), test=torch.zeros(30, 3, 8, 8))
    with pytest.raises(ValueError, match="does not read colour"):
        obedience({"side": torch.zeros(1)}, [{"colour": "red"}], (SIDE,))
    with pytest.raises(ValueError, match="not as many"):
        obedience({"side": torch.zeros(3)}, [{"side": "left"}], (SIDE,))
    with pytest.raises(ValueError, match="cannot see"):
        seen(torch.zeros(2, 3, 12, 12, dtype=torch.uint8), reader)


def test_the_matched_gaussian_has_the_moments_until_it_is_clamped() -> None:
    g = gaussian([0.5, 0.1, 0.02], seed=4, mean=0.2)
    free = moment_matched(g, 20_000, (3,), clamp=False).double()
    assert rel(free.mean(0), g.mu) < 0.02
    assert rel(torch.cov(free.T), g.U @ torch.diag(g.lam) @ g.U.T) < 0.03
    assert float(moment_matched(g, 500, (3,)).abs().max()) == 1


def test_a_planted_shift_of_the_pictures_stands_out_of_the_floor() -> None:
    """Scenes of other seeds are at the floor; with all doors green they are not, in no units of the features."""
    test, train, fair = (scenes.render(scenes.sample(400, seed)) for seed in (50_000, 0, 20_000))
    green = scenes.render(scenes.sample(400, 20_000).replace({"door": "green"}))
    reader = load_reader("scenes-reader", device="cpu")
    test, train, fair, green = (seen(pictures, reader) for pictures in (test, train, fair, green))
    honest = frechet_report(reader, fair, train=train, test=test)
    shifted = frechet_report(reader, green, train=train, test=test, gaussian=fair)
    assert honest["floor"] == shifted["floor"] > 0 and honest["n"] == 400 and honest["features"] == 64
    assert honest["of_floor"] < 1.3 < 3 < shifted["of_floor"]
    assert honest["whitened"]["of_floor"] < 1.1 < 1.3 < shifted["whitened"]["of_floor"]
    assert shifted["gaussian"] == honest["model"] and shifted["of_gaussian"] == shifted["model"] / honest["model"]


def test_whitened_distances_do_not_depend_on_the_scale_of_the_features() -> None:
    plain = untrained(scenes.FACTORS, (3, 32, 32))
    sets = [seen(scenes.render(scenes.sample(60, seed)), plain) for seed in (1000, 2000, 3000)]
    turn = torch.linalg.qr(randn(8, 8, seed=1))[0] @ torch.diag(torch.logspace(0, 1, 8).double())

    class Turned(Reader):
        def features(self, x):
            return plain.features(x).double() @ turn

    turned = Turned(plain.network, plain.factors, plain.shape, plain.device)
    one, other = (frechet_report(r, sets[0], train=sets[1], test=sets[2]) for r in (plain, turned))
    assert one["model"] != pytest.approx(other["model"], rel=0.1)
    for name in ("model", "floor", "of_floor"):
        assert one["whitened"][name] == pytest.approx(other["whitened"][name], rel=1e-6)


def table(side: list[int], size: list[float]) -> dict[str, torch.Tensor]:
    return {"side": torch.tensor(side), "size": torch.tensor(size)}


def test_statistics_are_numpys() -> None:
    side, size = [0, 1, 1, 1, 0], [0.1, 0.9, 0.7, 0.8, 0.3]
    found = statistics(table(side, size), (SIDE, SIZE))
    assert found.frequencies == {"side": {"left": pytest.approx(0.4), "right": pytest.approx(0.6)}}
    assert found.means["size"] == pytest.approx(np.mean(size)) and found.spreads["size"] == pytest.approx(
        np.std(size, ddof=1)
    )
    want = np.corrcoef(side, size)[0, 1]
    assert found.names == (("side", "left"), ("side", "right"), ("size", ""))
    assert float(found.correlations[1, 2]) == pytest.approx(want) and float(found.correlations[0, 2]) == pytest.approx(
        -want
    )
    assert float(found.correlations[0, 1]) == 0, "within a factor nothing is compared"


def test_a_planted_factor_shift_is_found_and_named() -> None:
    draw = np.random.default_rng(1)
    side, size = draw.integers(0, 2, 4000), draw.random(4000)
    fair = statistics({"side": torch.from_numpy(side), "size": torch.from_numpy(size)}, (SIDE, SIZE))
    assert fair.distance(fair)["frequencies"]["largest"] == 0
    more = np.where(draw.random(4000) < 0.4, 1, side)
    shifted = statistics({"side": torch.from_numpy(more), "size": torch.from_numpy(0.5 * size)}, (SIDE, SIZE))
    apart = shifted.distance(fair)
    assert apart["frequencies"]["largest"] == pytest.approx(0.2, abs=0.03) and apart["frequencies"]["where"].startswith(
        "side"
    )
    assert apart["means"] == {"largest": pytest.approx(0.25, abs=0.01), "where": "size"}
    assert apart["spreads"]["largest"] == pytest.approx(12**-0.5 / 2, abs=0.01)
    assert apart["correlations"]["largest"] < 0.06
    tied = np.where(size > 0.5, 1, 0)
    apart = statistics({"side": torch.from_numpy(tied), "size": torch.from_numpy(size)}, (SIDE, SIZE)).distance(fair)
    assert apart["correlations"]["largest"] > 0.8 and "side" in apart["correlations"]["where"]
    assert apart["correlations"]["pairs"] == 2


def test_one_factor_alone_has_no_correlations() -> None:
    one = statistics({"side": torch.tensor([0, 1, 1])}, (SIDE,))
    assert set(one.distance(one)) == {"frequencies"}
    with pytest.raises(ValueError, match="two pictures"):
        statistics({"side": torch.tensor([0])}, (SIDE,))


class Oracle(Reader):
    """Reads two numbers written into the first two pixels."""

    def values(self, x, alpha=1.0, sigma=0.0):
        return {"side": x[:, 0, 0, 0].long(), "size": x[:, 0, 0, 1]}


def test_the_factor_report_shows_the_model_beside_the_readers_own_error() -> None:
    oracle = Oracle(untrained((SIDE,), (1, 2, 2)).network, (SIDE, SIZE), (1, 2, 2), torch.device("cpu"))
    truth = {"side": torch.arange(1000) % 2, "size": torch.linspace(0, 1, 1000)[torch.randperm(1000)]}
    real = torch.zeros(1000, 1, 2, 2)
    real[:, 0, 0, 0], real[:, 0, 0, 1] = truth["side"], truth["size"]
    model = real.clone()
    model[:, 0, 0, 1] = 0.2 + 0.6 * real[:, 0, 0, 1]
    found = factor_report(oracle, model, real=real, truth=truth)
    assert found["real"]["means"]["largest"] == found["real"]["spreads"]["largest"] == 0
    assert found["model"]["spreads"]["largest"] == pytest.approx(0.4 * 12**-0.5, rel=0.01)
    assert found["n"] == {"model": 1000, "real": 1000}
    json.dumps(found)


def test_prompts_obeyed_are_counted_with_wilson_intervals() -> None:
    values = table([0, 0, 1, 1], [0.1, 0.5, 0.9, 0.2])
    wanted = [{"side": "left", "size": "low"}, {"side": "left"}, {"side": "left", "size": "high"}, {"size": "high"}]
    found = obedience(values, wanted, (SIDE, SIZE))
    assert [found["factors"][name]["share"] for name in ("side", "size")] == [2 / 3, 2 / 3]
    assert found["wishes"]["n"] == 6 and found["wishes"]["share"] == 4 / 6
    assert found["every"] == {"n": 4, "share": 0.5, **{k: pytest.approx(v, abs=1e-4) for k, v in wilson(2, 4).items()}}
    assert found["prompts"] == 4
    assert obedience(values, [{}] * 4, (SIDE, SIZE))["every"] == {"n": 0}


def wilson(k: int, n: int, z: float = 1.959964) -> dict[str, float]:
    p, q = k / n, z**2 / n
    middle, half = (p + q / 2) / (1 + q), z / (1 + q) * ((p * (1 - p) + q / 4) / n) ** 0.5
    return {"low": middle - half, "high": middle + half}


def test_words_are_those_of_the_captions() -> None:
    assert [said(v, SIZE) for v in (0.2, 0.5, 0.7)] == ["low", "", "high"]
    factors = scenes.sample(60, 7)
    values = {name: torch.from_numpy(value) for name, value in factors.values.items()}
    wanted = [scenes.parse(text) for text in scenes.caption(factors)]
    assert obedience(values, wanted, scenes.FACTORS)["wishes"]["share"] == 1, "a scene obeys its own caption"
    others = {name: value.roll(1) for name, value in values.items()}
    assert 0.2 < obedience(others, wanted, scenes.FACTORS)["wishes"]["share"] < 0.5


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
        judging.judge(painter(), brightness(), fashion_like(), TRIAL, keep=tmp_path, progress=False)
    report = judging.judge(painter(), brightness(), fashion_like(), TRIAL, keep=tmp_path, progress=False)
    assert calls[:3] == [list(range(8)), list(range(8, 16)), list(range(16, 24))] and calls[3] == calls[2]
    assert report == json.loads(json.dumps(report))
    assert report["frechet"]["model"] > report["frechet"]["floor"], "all of its pictures are alike"
    assert report["factors"]["model"]["frequencies"]["where"] in {f"class {name}" for name in FASHION_CLASSES}
    for guidance in ("guidance 1", "guidance 3"):
        assert report["prompts"][guidance]["obeyed"]["prompts"] == 20
    assert report["prompts"]["guidance 1"]["obeyed"]["wishes"]["share"] == 1
    assert report["prompts"]["guidance 3"]["obeyed"]["wishes"]["share"] < 1, "a guided painter overshoots"
    assert report["prompts"]["real pictures"]["obeyed"]["wishes"]["n"] == 20
    assert report["provenance"]["torch"] == torch.__version__ and len(report["provenance"]["weights"]) == 12
    assert report["settings"]["seeds"] == "0-29" and report["settings"]["reader"] == "brightness"


def test_judging_an_unknown_model_or_too_many_pictures_is_one_sentence(tmp_path) -> None:
    with pytest.raises(ValueError, match="cannot be judged"):
        judging.data_of(painter(), "mine")
    with pytest.raises(ValueError, match="only 40 test pictures"):
        judging.judge(painter(), brightness(), fashion_like(), judging.Trial(n=50), keep=tmp_path, progress=False)


def test_kept_pictures_are_used_only_if_everything_that_made_them_is_the_same(tmp_path):
    """Other weights, steps, prompts, guidance, solver or schedule: painted anew; the same: read."""

    def paint(model, trial=TRIAL, **options):
        before = set(tmp_path.rglob("*.safetensors"))
        found, seconds = judging.pictures(model, range(8), trial, keep=tmp_path, progress=False, **options)
        new = set(tmp_path.rglob("*.safetensors")) - before
        assert bool(new) == (seconds is not None)
        return found, bool(new)

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


def test_too_few_pictures_and_senseless_numbers_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "solve", None)
    for trial in (judging.Trial(n=4), judging.Trial(n=30, prompts=4)):
        with pytest.raises(ValueError, match="4 pictures cannot fix a covariance of 4 features: judge at least 5"):
            judging.judge(painter(), brightness(), fashion_like(), trial, keep=tmp_path, progress=False)
    for wrong in ({"n": 0}, {"prompts": -1}, {"batch": 0}, {"steps": 0}):
        with pytest.raises(ValueError, match="at least one picture"):
            judging.Trial(**wrong)
    for guidance in ((), (1.0, float("nan"))):
        with pytest.raises(ValueError, match="finite numbers"):
            judging.Trial(guidance=guidance)


def test_large_pictures_are_averaged_down() -> None:
    reader = untrained((SIDE,), (3, 8, 8))
    pictures = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    blocks = pictures.float().reshape(5, 3, 8, 2, 8, 2).mean((3, 5))
    torch.testing.assert_close(seen(pictures, reader), blocks / 127.5 - 1, atol=1e-5, rtol=0)
