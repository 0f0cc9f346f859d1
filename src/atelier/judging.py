"""Judging a model: paint many pictures, measure them, and say how the numbers were made."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
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
from atelier.data.images import FASHION_CLASSES
from atelier.data.known import KnownStates, known_pictures
from atelier.networks.readers import READER_OF, Reader, load_reader
from atelier.provenance import provenance
from atelier.quality import factor_report, frechet_report, gaussian_seen, moment_matched, obedience, seen
from atelier.training.loop import run_folder
from painters.files import replacing, save_tensors
from painters.models import Model, load
from painters.sampling import noise, solve
from painters.trajectory import Frames


@dataclass(frozen=True)
class Trial:
    """Everything that decides which pictures are judged.

    ``n`` pictures are painted from seeds 0 ... n - 1 without a prompt, and ``prompts`` more at each ``guidance`` if the
    model takes prompts. Raises ``ValueError`` for numbers that make no sense.
    """

    n: int = 2000
    prompts: int = 500
    guidance: tuple[float, ...] = (1.0, 3.0, 7.5)
    steps: int = 50
    solver: str = "dpmpp2m"
    batch: int = 100

    def __post_init__(self) -> None:
        if self.n < 1 or self.prompts < 0 or self.steps < 1 or self.batch < 1:
            raise ValueError(
                f"judging needs at least one picture, step and batch, and no negative number of prompts, got {self}"
            )
        if not self.guidance or not all(math.isfinite(w) for w in self.guidance):
            raise ValueError(f"guidance weights are finite numbers, such as 1,3,7.5, got {self.guidance}")

    def check(self, reader: Reader) -> None:
        """Raise ``ValueError`` if these are too few pictures: d features have a covariance only from d + 1 on."""
        few = [count for count in (self.n, self.prompts) if 0 < count <= reader.width]
        if few:
            raise ValueError(
                f"{few[0]} pictures cannot fix a covariance of {reader.width} features: judge at least "
                f"{reader.width + 1}, or give --prompts 0"
            )


def data_of(model: Model, name: object) -> str:
    """Return the data set that a model's card names. Raises ``ValueError`` if it is not one that can be judged by."""
    data = model.card.get("training", {}).get("data")
    if data not in READER_OF:
        raise ValueError(
            f"{name} cannot be judged: its card names none of the data sets with a reader, {', '.join(READER_OF)}"
        )
    return data


def judge(
    model: Model, reader: Reader, data: KnownStates, trial: Trial, *, keep: Path, progress: bool = True
) -> dict[str, Any]:
    """Return the quality of a model beside what real pictures and a matched Gaussian reach, JSON-serialisable.

    ``data``: uint8 pictures of the model's size with known factors. Painted pictures are rounded to 8 bits like the
    data, and all pictures larger than the reader's are averaged down to its size. The last n test pictures are the
    reference; the captions come from the first ones. Finished batches are kept under ``keep``, so that an
    interrupted judgement continues.
    """
    n, m = trial.n, trial.prompts
    trial.check(reader)
    if n > min(len(data.train), len(data.test)) or m > len(data.test):
        raise ValueError(f"there are only {len(data.test)} test pictures: judge fewer than {max(n, m)}")
    real, known = seen(data.test[-n:], reader), seen(data.train[:n], reader)
    matched = moment_matched(gaussian_seen(data.train, reader), n, reader.shape)
    painted, seconds = pictures(model, range(n), trial, keep=keep, progress=progress)
    samples = seen(painted, reader)
    report: dict[str, Any] = {
        "settings": asdict(trial) | {"seeds": f"0-{n - 1}", "data": data.source, "reader": reader.card.get("name")},
        "provenance": provenance(model) | {"seconds_per_picture": seconds},
        "frechet": frechet_report(reader, samples, train=known, test=real, gaussian=matched),
        "factors": factor_report(reader, samples, real=real, truth=data.train_factors),
    }
    if m and (model.classes or model.text is not None):
        prompts, wanted = wishes(data.source, m)
        # pictures of a class obey by showing it; the first test pictures show other classes than those asked for
        shown = wanted if data.source == "scenes" else _classes(data, m)
        ceiling = obedience(reader.values(seen(data.test[:m], reader)), shown, reader.factors)
        asked: dict[str, Any] = {"real pictures": {"obeyed": ceiling}}
        for w in trial.guidance:
            painted, seconds = pictures(
                model, range(m), trial, keep=keep, prompts=prompts, guidance=w, progress=progress
            )
            samples = seen(painted, reader)
            asked[f"guidance {w:g}"] = {
                "obeyed": obedience(reader.values(samples), wanted, reader.factors),
                "frechet": frechet_report(reader, samples, train=known[:m], test=real[-m:]),
                "seconds_per_picture": seconds,
            }
        report["prompts"] = asked
    return json.loads(json.dumps(report), parse_float=lambda text: float(f"{float(text):.6g}"))


def wishes(data: str, n: int) -> tuple[list[str], list[dict[str, str]]]:
    """Return ``n`` prompts and what each asks for, factor -> kind: captions of held-out scenes, or names of classes."""
    if data == "scenes":
        captions = scenes.caption(scenes.sample(n, scenes.TEST_SEEDS.start))
        return captions, [scenes.parse(text) for text in captions]
    names = [FASHION_CLASSES[i % len(FASHION_CLASSES)] for i in range(n)]
    return names, [{"class": name} for name in names]


def _classes(data: KnownStates, n: int) -> list[dict[str, str]]:
    """What the first test pictures show, said as wishes."""
    return [{"class": FASHION_CLASSES[i]} for i in data.test_factors["class"][:n].tolist()]


def pictures(
    model: Model,
    seeds: range,
    trial: Trial,
    *,
    keep: Path,
    prompts: Sequence[str] | None = None,
    guidance: float = 1.0,
    progress: bool = True,
) -> tuple[Tensor, float | None]:
    """Return pictures of all seeds, uint8 (n, C, H, W), and the seconds per newly painted one, if there were any.

    Each finished batch is kept below ``keep``, in a folder named by a hash of everything that makes these pictures.
    """
    levels, parts, made, began = model.levels(trial.steps), [], 0, time.monotonic()
    made_of = {
        "weights": model.weights,
        "prediction": model.prediction,
        "dtype": str(model.dtype),
        "levels": [levels.alpha.tolist(), levels.sigma.tolist()],
        "solver": trial.solver,
        "prompts": prompts,
        "guidance": guidance,
        "painters": painters.__version__,
    }
    folder = keep / hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    label = "free" if prompts is None else f"guidance {guidance:g}"
    with tqdm(total=len(seeds), desc=f"painting, {label}", disable=not progress) as bar:
        for first in range(0, len(seeds), trial.batch):
            part = seeds[first : first + trial.batch]
            path = folder / f"{part.start:05d}-{part.stop:05d}.safetensors"
            if not path.is_file():
                asked = None if prompts is None else list(prompts[first : first + len(part)])
                denoise = model.denoiser(asked, guidance=guidance)
                x = levels.start(noise(part, model.shape))
                run = solve(
                    denoise, x, levels, solver=trial.solver, seeds=part, save=Frames(every=None), progress=False
                )
                painted = (model.decode(run.final) * 255).round().to("cpu", torch.uint8).contiguous()
                save_tensors(path, {"pictures": painted})
                made += len(part)
            parts.append(load_file(path)["pictures"])
            bar.update(len(part))
    return torch.cat(parts), round((time.monotonic() - began) / made, 4) if made else None


def command(options: argparse.Namespace) -> int:
    """Do what ``painters judge`` says, and report it."""
    trial = Trial(options.n, options.prompts, options.guidance, options.steps, options.solver, options.batch)
    model = load(options.name, device=options.device)
    source = data_of(model, options.name)
    reader = load_reader(options.reader or READER_OF[source], device=options.device)
    trial.check(reader)  # before the data are read or drawn, which takes a while
    out = Path(options.out or f"{Path(options.name).name}-quality.json")
    data = known_pictures(source, model.image_shape[-1], options.data)
    report = judge(model, reader, data, trial, keep=run_folder("judged"))
    with replacing(out) as temporary:
        temporary.write_text(json.dumps({"model": options.name} | report, indent=1) + "\n")
    apart = report["frechet"]
    print(f"Frechet distance {apart['model']:.4g}, floor {apart['floor']:.4g}, Gaussian {apart['gaussian']:.4g}")
    for name, found in report.get("prompts", {}).items():
        kept = found["obeyed"]["wishes"]
        print(f"{name}: {kept['share']:.1%} of {kept['n']} wishes granted")
    print(f"everything is in {out}")
    return 0
