"""Judging a model: paint many pictures, measure them, and say how the numbers were made."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm.auto import tqdm

import painters
from atelier.data import scenes
from atelier.data.controls import undone
from atelier.data.known import KnownStates, known_pictures
from atelier.networks import bundled
from atelier.networks.generator import Generator, load_generator
from atelier.networks.readers import READER_OF, Reader, load_reader
from atelier.provenance import commit, hardware, provenance
from atelier.quality import frechet_report, obedience, seen, shares
from atelier.training import gan
from atelier.training.latents import digest_of
from atelier.training.loop import run_folder
from painters.files import replacing, save_tensors
from painters.models import Model, load
from painters.sampling import noise, solve
from painters.trajectory import Frames

TESTS = 10_000
"""Test pictures in each data set that models are judged by."""


@dataclass(frozen=True)
class Trial:
    """Everything that decides which pictures are judged.

    ``n`` pictures are painted from seeds 0 ... n - 1 without a prompt, and ``prompts`` more at each ``guidance`` if the
    model takes prompts.
    """

    n: int = 2000
    prompts: int = 500
    guidance: tuple[float, ...] = (1.0, 3.0, 7.5)
    steps: int = 50
    solver: str = "dpmpp2m"
    batch: int = 100

    def check(self, reader: Reader, tests: int = TESTS, *, listens: bool = True) -> None:
        """Raise ``ValueError`` for too few pictures, d features have a covariance only from d + 1 on, or too many."""
        least = reader.width + 1
        if not least <= self.n <= tests or not 0 <= self.prompts * listens <= tests:
            raise ValueError(
                f"judging takes {least} to {tests} pictures, more than the reader's {least - 1} features to fix their "
                f"covariance, no more than there are test pictures, and 0 to {tests} prompts: give --n and --prompts "
                f"in these ranges, got {self.n} and {self.prompts}"
            )


def data_of(model: Model | Generator, name: object) -> str:
    """Return the data set that a model's card names. Raises ``ValueError`` if it is not one that can be judged by."""
    if (data := model.card.get("training", {}).get("data")) not in READER_OF:
        raise ValueError(f"{name} cannot be judged: its card names no data set with a reader ({', '.join(READER_OF)})")
    return data


def judge(model: Model | Generator, reader: Reader, data: KnownStates, trial: Trial, *, keep: Path) -> dict[str, Any]:
    """Return the quality of a model beside what real pictures and a matched Gaussian reach, JSON-serialisable.

    ``witness``: whether its pictures are nearer to the data than those of the matched Gaussian are; if not, what the
    model does says nothing about data. ``kinds``: how often each is read in its pictures and in real ones.
    ``prompts``, of a model that takes them: see :func:`prompted`. ``data``: uint8 pictures of the model's size with
    known factors. Painted pictures are rounded to 8 bits like the data, and all pictures larger than the reader's are
    averaged down to its size. The last n test pictures are the reference. Finished batches are kept under ``keep``, so
    that an interrupted judgement continues.
    """
    n, listens = trial.n, isinstance(model, Model) and (model.text is not None or bool(model.classes))
    trial.check(reader, len(data.test), listens=listens)
    by = {"seeds": f"0-{n - 1}", "data": data.source, "reader": reader.card.get("name")}
    if isinstance(model, Generator):
        painted, settings = _bytes(gan.pictures(model, range(n)) / 2 + 0.5), {"n": n}
        made = {"weights": digest_of(model.network)[:12], "commit": commit(), "hardware": hardware(str(model.device))}
    else:
        painted, settings = pictures(model, range(n), trial, keep=keep), asdict(trial)
        made = provenance(model)
    samples = seen(painted, reader)
    apart = frechet_report(reader, samples, train=data.train, test=data.test)
    read = {"model": samples, "real": seen(data.test[-n:], reader)}
    report: dict[str, Any] = {
        "settings": settings | by,
        "provenance": made,
        "frechet": apart,
        "witness": apart["model"] < apart["gaussian"],
        "kinds": {name: shares(reader.values(states), reader.factors) for name, states in read.items()},
    }
    if trial.prompts and isinstance(model, Model) and listens:
        report["prompts"] = prompted(model, reader, data, trial, keep=keep)
    return json.loads(json.dumps(report), parse_float=lambda text: float(f"{float(text):.6g}"))


def prompted(model: Model, reader: Reader, data: KnownStates, trial: Trial, *, keep: Path) -> dict[str, Any]:
    """Return which wishes are granted, see :func:`~atelier.quality.obedience`, at each ``guidance W``.

    The prompts are the captions, or names of the classes, of the first test pictures. These very ``real pictures`` are
    read as well, which is the reader's own ceiling, and of a latent model their ``reconstructions``: what its
    autoencoder lost no prompt brings back.
    """
    real = data.test[: trial.prompts]
    prompts, wanted = wishes(data, len(real))
    asked = {"real pictures": real}
    if model.codec is not None:
        parts = real.split(trial.batch)
        asked["reconstructions"] = torch.cat([_bytes(model.decode(model.encode(part / 255))) for part in parts])
    for w in trial.guidance:
        asked[f"guidance {w:g}"] = pictures(model, range(len(real)), trial, keep=keep, prompts=prompts, guidance=w)
    return {name: obedience(reader.values(seen(x, reader)), wanted, reader.factors) for name, x in asked.items()}


def wishes(data: KnownStates, n: int) -> tuple[list[str], list[dict[str, str]]]:
    """Return prompts that describe the first ``n`` test pictures, and what each asks for, factor -> kind."""
    if data.source == "scenes":
        captions = scenes.caption(scenes.sample(n, scenes.TEST_SEEDS.start))
        return captions, [scenes.parse(text) for text in captions]
    (factor,) = data.factors
    names = [factor.kinds[i] for i in data.test_factors[factor.name][:n].tolist()]
    return names, [{factor.name: name} for name in names]


def pictures(
    model: Model, seeds: range, trial: Trial, *, keep: Path, prompts: Sequence[str] | None = None, guidance: float = 1.0
) -> Tensor:
    """Return pictures of all seeds, uint8 (n, C, H, W); of a control with its change undone.

    Each finished batch is kept below ``keep``, in a folder named by a hash of everything that makes these pictures.
    """
    levels, parts = model.levels(trial.steps), []
    made_of = [model.weights, model.prediction, str(model.dtype), levels.alpha.tolist(), levels.sigma.tolist()]
    made_of += [trial.solver, prompts, guidance, painters.__version__]
    folder = keep / hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    label = "free" if prompts is None else f"guidance {guidance:g}"
    batches = [seeds[first : first + trial.batch] for first in range(0, len(seeds), trial.batch)]
    for part in tqdm(batches, desc=f"painting, {label}"):
        path = folder / f"{part.start:05d}-{part.stop:05d}.safetensors"
        if not path.is_file():
            asked = None if prompts is None else list(prompts[part.start : part.stop])
            x = levels.start(noise(part, model.shape))
            denoise, last = model.denoiser(asked, guidance=guidance), Frames(every=None)
            run = solve(denoise, x, levels, solver=trial.solver, seeds=part, save=last, progress=False)
            save_tensors(path, {"pictures": _bytes(model.decode(run.final))})
        parts.append(load_file(path)["pictures"])
    return undone(torch.cat(parts), model.card.get("training", {}).get("variant"))


def _bytes(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as uint8."""
    return (pictures * 255).round().to("cpu", torch.uint8).contiguous()


def command(options: argparse.Namespace) -> int:
    """Do what ``painters judge`` says, and report it."""
    trial = Trial(options.n, options.prompts, options.guidance, options.steps, options.solver, options.batch)
    name, device = options.name, options.device
    generates = name in bundled("generator") or (Path(name) / "generator.safetensors").is_file()
    model = load_generator(name, device=device) if generates else load(name, device=device)
    source = data_of(model, name)
    reader = load_reader(options.reader or READER_OF[source], device=device)
    # All that can be refused is, before the data are read or drawn, which takes a while.
    trial.check(reader)
    shape = model.shape if isinstance(model, Generator) else model.image_shape
    reader.look(torch.zeros(1, *shape))
    out = Path(options.out or f"{Path(name).name}-quality.json")
    data = known_pictures(source, shape[-1], options.data)
    report = judge(model, reader, data, trial, keep=run_folder("judged"))
    with replacing(out) as temporary:
        temporary.write_text(json.dumps({"model": name} | report, indent=1) + "\n")
    distances = ", ".join(f"{what} {report['frechet'][what]:.4g}" for what in ("model", "floor", "gaussian"))
    verdict = "a witness" if report["witness"] else "no witness: a Gaussian with the moments of the data comes nearer"
    print(f"Frechet distances: {distances}; {verdict}")
    for asked, found in report.get("prompts", {}).items():
        print(f"{asked}:", ", ".join(f"{group} {hit['share']:.1%}" for group, hit in found["groups"].items()))
    print(f"everything is in {out}")
    return 0
