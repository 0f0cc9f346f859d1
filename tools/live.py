"""Write what pages compute with in the browser into the built site: moments as numbers, networks as ONNX.

    python tools/live.py FOLDER    write the files of both models, and of the knobs, into FOLDER

All is made from the bundled models and kept in `.cache/live`, under a hash of what it is made of and of this file. A
network is exported with a free batch size; weights that are exact in half precision, as the bundled ones are, are
stored so, and the graph turns them back into float32, in which it computes. `NAME.json` says what lies where and how
large it is.
"""

import hashlib
import json
import shutil
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from imports import graph, modules, reached
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

import painters
from atelier.manifold.knobs import LEVEL, Facts
from atelier.subject import subject
from atelier.variations.asking import Affine, states_at
from painters.models.model import Model
from painters.theory.gaussian import Gaussian

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "src" / "painters" / "models" / "bundled"
MODELS = ("fashion-ddpm", "scenes-sd")
KNOBS = "knobs"
PAINTINGS = (21, 3, 5, 7, 12, 33)
"""The seeds whose paintings can be given orders."""
RUNTIME = ROOT / "book" / "_static" / "ort"
LOADED = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
SCHEDULES = {"linear": "vp-linear", "scaled_linear": "scaled-linear"}
"""The names of diffusers and of `theory.js`."""
PCS = 150
OPSET = 17


def shortened(moments: Gaussian, rank: int) -> Gaussian:
    """Return the Gaussian with the first ``rank`` PCs, the variance of the others spread evenly."""
    rest = float(moments.spectrum[rank:].mean())
    return Gaussian(moments.mu, moments.U[:, :rank], moments.lam[:rank], rest)


def packed(moments: Gaussian) -> bytes:
    """Return mean, variances and PCs, one after the other, in float32."""
    parts = (moments.mu, moments.lam, moments.U.T)
    return b"".join(part.contiguous().numpy().astype("<f4").tobytes() for part in parts)


def linear(model: Model, *, n: int = 400) -> tuple[bytes, dict[str, float]]:
    """Return a linear decoder of latents, and what it is worth, fitted to pictures of the Gaussian's samples.

    Each cell with its eight neighbours gives a square of the picture: weights (outputs, inputs) in float32, the last
    input 1. ``explains``: which share of the variance of other samples' pictures it gives.
    """
    assert model.moments is not None
    z = model.moments.sample(painters.noise(range(n), model.shape)).reshape(n, *model.shape).float()
    with torch.no_grad():
        pictures = torch.cat([model.decode(part) for part in z.split(50)])
    factor = pictures.shape[-1] // model.shape[-1]
    cells = F.unfold(F.pad(z, (1, 1, 1, 1), mode="replicate"), 3).transpose(1, 2)
    cells = torch.cat([cells, torch.ones_like(cells[..., :1])], 2).double()
    squares = F.unfold(pictures, factor, stride=factor).transpose(1, 2).double()
    fit, other = slice(0, n * 3 // 4), slice(n * 3 // 4, n)
    weights = torch.linalg.lstsq(cells[fit].flatten(0, 1), squares[fit].flatten(0, 1)).solution
    missed = (cells[other] @ weights - squares[other]).square().mean()
    spread = (squares[other] - squares[fit].mean(0)).square().mean()
    facts = {"factor": factor, "explains": round(1 - float(missed / spread), 3)}
    return weights.T.contiguous().numpy().astype("<f4").tobytes(), facts


class Bare(nn.Module):
    """A network whose output is one tensor, taking its arguments in order."""

    def __init__(self, parts: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.parts, self.call = parts, call

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the tensor."""
        return self.call(self.parts, *inputs)


def export(network: Bare, inputs: dict[str, Tensor], path: Path) -> None:
    """Write a network to an ONNX file; the first axis of everything is free."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of every Python number; agreement is tested instead
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["y"],
            dynamic_axes={name: {0: "batch"} for name in (*inputs, "y")},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    halve(model)
    onnx.save(model, path)


def halve(model: onnx.ModelProto) -> None:
    """Store float32 weights that half precision holds exactly in it, with a cast back before their use."""
    casts = []
    for weight in model.graph.initializer:
        value = numpy_helper.to_array(weight)
        half = value.astype(np.float16)
        if value.dtype != np.float32 or value.size < 64 or not np.array_equal(half, value):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)


def networks(model: Model) -> dict[str, tuple[Bare, dict[str, Tensor]]]:
    """Return the networks of a model by name, each with inputs of batch 2 to trace it with."""
    x, t = torch.randn(2, *model.shape), torch.tensor([500.0, 20.0])
    net: Any = model.network
    if model.text is None or model.codec is None:
        unet = Bare(net, lambda part, x, t, label: part(x, t, label).sample)
        return {"unet": (unet, {"x": x, "t": t, "label": torch.tensor([0, 1])})}
    text, codec = model.text, model.codec
    unet = Bare(net, lambda part, x, t, text: part(x, t, text).sample)
    encoder = Bare(text.encoder, lambda part, tokens: part(tokens)[0])
    decoder = Bare(codec.vae, lambda part, z: part.decode(z / codec.scale + codec.shift).sample / 2 + 0.5)
    tokens = text.tokenizer(["a house", ""], padding="max_length", max_length=text.limit, return_tensors="pt").input_ids
    return {
        "unet": (unet, {"x": x, "t": t, "text": text(["a house", ""])}),
        "text": (encoder, {"tokens": tokens}),
        "decoder": (decoder, {"z": x}),
    }


def about(model: Model, name: str) -> dict[str, Any]:
    """Return what the page must know of a model besides its numbers and networks."""
    facts: dict[str, Any] = {"shape": model.shape, "dim": int(np.prod(model.shape)), "title": model.card["title"]}
    scheduler = json.loads((BUNDLED / name / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    facts["schedule"] = SCHEDULES[scheduler["beta_schedule"]]
    facts["runtime"] = sum((RUNTIME / part).stat().st_size for part in LOADED)
    if model.classes:
        facts |= {"classes": model.classes, "nothing": model.null_label}
    if model.text is not None:
        tokenizer = BUNDLED / name / "tokenizer"
        merges = (tokenizer / "merges.txt").read_text(encoding="utf-8").splitlines()
        facts["tokens"] = {
            "vocabulary": json.loads((tokenizer / "vocab.json").read_text(encoding="utf-8")),
            "merges": [line for line in merges if line and not line.startswith("#version")],
            "limit": model.text.limit,
        }
        facts["prompts"] = model.card["prompts"][:6]
    return facts


def make(name: str, folder: Path) -> None:
    """Write the files of one model into a folder."""
    model = painters.load(name, device="cpu", dtype=torch.float32)
    assert model.moments is not None
    moments = shortened(model.moments, PCS)
    numbers = packed(moments)
    facts = about(model, name) | {"pcs": PCS, "rest": moments.rest, "numbers": f"{name}.bin", "networks": {}}
    if model.codec is not None:
        weights, worth = linear(model)
        facts["linear"] = worth | {"from": len(numbers) // 4}
        numbers += weights
    (folder / f"{name}.bin").write_bytes(numbers)
    for part, (network, inputs) in networks(model).items():
        path = folder / f"{name}-{part}.onnx"
        export(network, inputs, path)
        facts["networks"][part] = {"file": path.name, "bytes": path.stat().st_size}
    (folder / f"{name}.json").write_text(json.dumps(facts), encoding="utf-8")


def packed_knobs(affine: Affine, states: Tensor, embedding: Tensor) -> bytes:
    """Return readings, states and an embedding in float32: E f, the weights along the PCs, (W'W)^+, one by one."""
    weights = affine.weights.T @ affine.gaussian.U
    inverse = torch.linalg.pinv(affine.weights.T @ affine.weights, rtol=1e-6, hermitian=True)
    parts = (affine.mean, weights, inverse, states, embedding)
    return b"".join(part.contiguous().double().numpy().astype("<f4").tobytes() for part in parts)


def readings(facts: Facts) -> Affine:
    """Return the readings of some factors from states whose Gaussian is :func:`shortened`."""
    gaussian = shortened(facts.gaussian, PCS)
    return Affine.of(Facts(gaussian, facts.factors, facts.one[:PCS], facts.other[:PCS], facts.spread))


def make_knobs(folder: Path, *, facts: int = 1200) -> None:
    """Write the files of the knobs of `scenes-sd`, learned from so many scenes as in the chapter."""
    painter = subject("scenes-sd", device="cpu")
    assert painter.reader is not None and painter.model is not None and painter.model.text is not None
    said = Facts.of(painter, painter.reader.factors, facts)
    assert said is not None
    affine = readings(said)
    levels, start, states = states_at(painter, PAINTINGS, LEVEL, 20)
    embedding = painter.model.text([""])[0]
    (folder / f"{KNOBS}.bin").write_bytes(packed_knobs(affine, states.flatten(1), embedding))
    told = {
        "factors": [{"name": factor.name, "kinds": factor.kinds} for factor in affine.factors],
        "seeds": PAINTINGS,
        "levels": [{"alpha": float(a), "sigma": float(s)} for a, s in levels[start:]],
        "embedding": embedding.numel(),
        "limit": len(embedding),
        "numbers": f"{KNOBS}.bin",
    }
    (folder / f"{KNOBS}.json").write_text(json.dumps(told), encoding="utf-8")


def key(*sources: Path) -> str:
    """Return a hash of files and folders that something depends on, and of this one."""
    files = [path for source in sources for path in ([source] if source.is_file() else sorted(source.rglob("*")))]
    digest = hashlib.sha256(f"{version('torch')} {version('onnx')} {version('diffusers')}".encode())
    for path in (Path(__file__), *files):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def keep(name: str, kept: Path, output: Path, make: Callable[[Path], None]) -> None:
    """Copy a kept folder into the output, after making it if it is not there, in place of older ones of its name."""
    if not kept.exists():
        for old in kept.parent.glob(f"{name}-*"):
            shutil.rmtree(old)
        part = kept.parent / f".{kept.name}"
        part.mkdir(parents=True, exist_ok=True)
        make(part)
        part.rename(kept)
    shutil.copytree(kept, output, dirs_exist_ok=True)


def write(output: Path, *, cache: Path = ROOT / ".cache" / "live") -> None:
    """Write the files of all models and of the knobs into a folder, out of the cache where they are known there."""
    output.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        keep(name, cache / f"{name}-{key(BUNDLED / name)}", output, partial(make, name))
    paths, edges = modules(ROOT / "src"), graph(ROOT / "src")
    code = [paths[name] for name in sorted(reached({"atelier.variations.asking"}, edges))]
    keep(KNOBS, cache / f"{KNOBS}-{key(BUNDLED / MODELS[1], *code)}", output, make_knobs)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
