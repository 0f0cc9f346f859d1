"""What tools/live.py writes: numbers that are the moments, weights that are the weights, and nothing twice."""

import live
import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

import painters


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

    weights = tmp_path / "bundled" / "one" / "weights"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"1")
    monkeypatch.setattr(live, "make", make)
    monkeypatch.setattr(live, "MODELS", ("one",))
    monkeypatch.setattr(live, "BUNDLED", tmp_path / "bundled")
    for _ in range(2):
        live.write(tmp_path / "site", cache=tmp_path / "cache")
    assert made == ["one"] and (tmp_path / "site" / "one.json").exists()
    weights.write_bytes(b"2")
    live.write(tmp_path / "site", cache=tmp_path / "cache")
    assert made == ["one", "one"] and len(list((tmp_path / "cache").iterdir())) == 1
