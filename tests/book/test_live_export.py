"""What tools/live.py writes: numbers that are the moments, weights that are the weights, and nothing twice."""

from functools import partial

import live
import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

import painters
from atelier.data.scenes.factors import Factor
from atelier.manifold.knobs import Facts
from atelier.variations.asking import Affine


@pytest.mark.parametrize("name", live.MODELS)
def test_packed_numbers_are_the_moments(name):
    moments = live.shortened(painters.load(name, device="cpu").moments, live.PCS)
    data, D, r = live.packed(moments), moments.dim, live.PCS
    mu, lam, rows = np.split(np.frombuffer(data, "<f4"), [D, D + r])
    for got, want in ((mu, moments.mu), (lam, moments.lam), (rows.reshape(r, D).T, moments.U)):
        assert np.allclose(got, want, rtol=1e-6, atol=1e-7)
    assert len(data) < 500_000


def test_what_is_left_out_is_spread_evenly():
    whole = painters.load("fashion-ddpm", device="cpu").moments
    for rank in (0, 7, live.PCS):
        part = live.shortened(whole, rank)
        assert len(part.lam) == rank
        assert float(part.spectrum.sum()) == pytest.approx(float(whole.spectrum.sum()))


@pytest.mark.parametrize("half", [True, False])
def test_an_exported_network_is_the_network(tmp_path, half):
    """Weights that half precision holds are stored in it, others as they are; the outputs are those of torch."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(40, 50), torch.nn.SiLU(), torch.nn.Linear(50, 3))
    net = net.half().float() if half else net
    x = torch.randn(5, 40)
    live.export(live.Bare(net, lambda part, x: part(x)), {"x": x[:2]}, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    kinds = {weight.data_type for weight in model.graph.initializer if np.prod(weight.dims) > 64}
    assert kinds == {onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT}
    got = ReferenceEvaluator(model).run(None, {"x": x.numpy()})[0]
    assert np.allclose(got, net(x).detach().numpy(), atol=1e-6)


def test_files_are_made_once_and_again_when_a_weight_changes(tmp_path, monkeypatch):
    made = []

    def make(name, folder):
        made.append(name)
        (folder / f"{name}.json").write_text("{}")

    for name in ("one", "two"):
        (tmp_path / "bundled" / name).mkdir(parents=True)
        (tmp_path / "bundled" / name / "weights").write_bytes(b"1")
    monkeypatch.setattr(live, "make", make)
    monkeypatch.setattr(live, "make_knobs", partial(make, "knobs"))
    monkeypatch.setattr(live, "MODELS", ("one", "two"))
    monkeypatch.setattr(live, "BUNDLED", tmp_path / "bundled")
    for _ in range(2):
        live.write(tmp_path / "site", cache=tmp_path / "cache")
    assert made == ["one", "two", "knobs"] and (tmp_path / "site" / "one.json").exists()
    (tmp_path / "bundled" / "one" / "weights").write_bytes(b"2")
    live.write(tmp_path / "site", cache=tmp_path / "cache")
    assert made == ["one", "two", "knobs", "one"] and len(list((tmp_path / "cache").iterdir())) == 3


def test_readings_of_the_shortened_gaussian_are_those_of_the_chapter():
    """With as many PCs as there are the readings are the chapter's; what is packed makes the same step."""
    g = painters.load("scenes-sd", device="cpu").moments
    factors = (Factor("sky", "masses", ("blue", "golden")), Factor("size", "masses"))
    covariance = torch.zeros(len(g.lam), 3, dtype=torch.float64)
    covariance[:20] = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    spread = (covariance.square() / g.lam[:, None]).sum(0)
    facts = Facts(g, factors, covariance, covariance, spread)
    short, whole = live.readings(facts), Affine.of(facts)
    assert torch.allclose(short.weights, whole.weights, atol=1e-9) and short.factors == whole.factors
    states, embedding = torch.ones(2, g.dim), torch.zeros(4, 3)
    data = torch.from_numpy(np.frombuffer(live.packed_knobs(short, states, embedding), "<f4").copy()).double()
    m, D = 3, g.dim
    mean, weights, inverse, rest = data.split([m, m * live.PCS, m * m, 2 * D + 12])
    assert torch.allclose(mean, short.mean) and rest[: 2 * D].eq(1).all() and rest[2 * D :].eq(0).all()
    z = torch.randn(1, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    orders = {"sky": "golden"}
    delta = (short.wanted(z, orders) - short.read(z))[0]
    step = weights.reshape(m, -1).T @ (inverse.reshape(m, m) @ delta) @ g.U[:, : live.PCS].T
    assert torch.allclose(step, short.step(z, orders)[0], atol=1e-5)


def test_the_linear_decoder_is_worth_what_it_says():
    """On samples that it was not fitted to, by a matrix product of its own."""
    model = painters.load("scenes-sd", device="cpu", dtype=torch.float32)
    data, facts = live.linear(model, n=80)
    weights = torch.from_numpy(np.frombuffer(data, "<f4").copy()).reshape(-1, 3, 8, 8, 8 * 9 + 1)
    z = model.moments.sample(painters.noise(range(500, 510), model.shape)).reshape(10, *model.shape).float()
    pictures = model.decode(z)
    edged = torch.nn.functional.pad(z, (1, 1, 1, 1), mode="replicate")
    y, x = 5, 7
    seen = edged[:, :, y : y + 3, x : x + 3].flatten(1)
    got = torch.einsum("cijk,bk->bcij", weights[0, ..., :-1], seen) + weights[0, ..., -1]
    want = pictures[:, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
    left = float((got - want).square().mean() / (want - want.mean(0)).square().mean())
    assert left < 0.5 < facts["explains"] < 1 and facts["factor"] == 8
