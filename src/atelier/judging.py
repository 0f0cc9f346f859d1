"""Judging a model: paint many pictures, measure them, and say how the numbers were made."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from atelier.data import scenes
from atelier.data.images import FASHION_CLASSES
from atelier.networks.readers import Reader
from atelier.quality import factor_report, frechet_report, moment_matched, obedience
from atelier.training.loop import hardware
from atelier.training.readers import KnownStates, clean
from painters.files import replacing
from painters.models.model import Model
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments
from painters.trajectory import Frames

READER_OF = {"scenes": "scenes-reader", "fashion": "fashion-reader"}
"""Which bundled reader judges the models of a data set."""


@dataclass(frozen=True)
class Settings:
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


def data_of(model: Model, name: object) -> str:
    """Return the data set that a model's card names. Raises ``ValueError`` if it is not one that can be judged by."""
    data = model.card.get("training", {}).get("data")
    if data not in READER_OF:
        raise ValueError(
            f"{name} cannot be judged: its card names none of the data sets with a reader, {', '.join(READER_OF)}"
        )
    return data


def judge(
    model: Model, reader: Reader, data: KnownStates, settings: Settings, *, keep: Path, progress: bool = True
) -> dict[str, Any]:
    """Return the quality of a model beside what real pictures and a matched Gaussian reach, JSON-serialisable.

    ``data``: uint8 pictures of the model's size with known factors. Painted pictures are rounded to 8 bits like the
    data, and all pictures larger than the reader's are averaged down to its size. The last n test pictures are the
    reference; the captions come from the first ones. Finished batches are kept under ``keep``, so that an
    interrupted judgement continues.
    """
    n, m = settings.n, settings.prompts
    if n > min(len(data.train), len(data.test)) or m > len(data.test):
        raise ValueError(f"there are only {len(data.test)} test pictures: judge fewer than {max(n, m)}")
    keep = keep / f"{_fingerprint(model)}-{settings.solver}-{settings.steps}"
    real, known = seen(data.test[-n:], reader), seen(data.train[:n], reader)
    matched = moment_matched(_gaussian(data.train, reader), noise(range(n), reader.shape))
    painted, seconds = _paint(model, range(n), None, 1.0, settings, keep, progress)
    samples = seen(painted, reader)
    report: dict[str, Any] = {
        "settings": asdict(settings) | {"seeds": f"0-{n - 1}", "data": data.source, "reader": reader.card.get("name")},
        "provenance": provenance(model) | {"seconds_per_picture": seconds},
        "frechet": frechet_report(reader, samples, train=known, test=real, gaussian=matched),
        "factors": factor_report(reader, samples, real=real, truth=data.train_factors),
    }
    if m and (model.classes or model.text is not None):
        prompts, wanted = wishes(data.source, m)
        shown = wanted if data.source == "scenes" else _classes(data, m)
        ceiling = obedience(reader.values(seen(data.test[:m], reader)), shown, reader.factors)
        asked: dict[str, Any] = {"real pictures": {"obeyed": ceiling}}
        for w in settings.guidance:
            painted, seconds = _paint(model, range(m), prompts, w, settings, keep, progress)
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


def seen(pictures: Tensor, reader: Reader, *, batch: int = 4096) -> Tensor:
    """Return uint8 pictures (n, C, H, W) as the reader sees them: in [-1, 1], averaged down to its size.

    Raises ``ValueError`` if its size does not divide theirs.
    """
    (c, h, w), (channels, height, width) = reader.shape, pictures.shape[1:]
    if c != channels or height % h or width % w or height // h != width // w:
        raise ValueError(f"a reader of {reader.shape} cannot see pictures of {tuple(pictures.shape[1:])}")
    return torch.cat([F.avg_pool2d(clean(part), height // h) for part in pictures.split(batch)])


def provenance(model: Model) -> dict[str, Any]:
    """Return what made the numbers: weights, code, versions and hardware."""
    import diffusers

    import painters

    return {
        "weights": _fingerprint(model),
        "painters": painters.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "hardware": hardware(str(model.device)),
    }


def _paint(
    model: Model,
    seeds: range,
    prompts: Sequence[str] | None,
    guidance: float,
    settings: Settings,
    keep: Path,
    progress: bool,
) -> tuple[Tensor, float | None]:
    """Pictures of all seeds, uint8 (n, C, H, W), and seconds per newly painted one, if there were any."""
    levels, parts, made, began = model.levels(settings.steps), [], 0, time.monotonic()
    label = "free" if prompts is None else f"guidance-{guidance:g}"
    with tqdm(total=len(seeds), desc=f"painting, {label}", disable=not progress) as bar:
        for first in range(0, len(seeds), settings.batch):
            part = seeds[first : first + settings.batch]
            path = keep / f"{label}-{part.start:05d}-{part.stop:05d}.safetensors"
            if not path.is_file():
                asked = None if prompts is None else list(prompts[first : first + len(part)])
                denoise = model.denoiser(asked, guidance=guidance)
                x = levels.start(noise(part, model.shape))
                run = solve(
                    denoise, x, levels, solver=settings.solver, seeds=part, save=Frames(every=None), progress=False
                )
                pictures = (model.decode(run.final) * 255).round().to("cpu", torch.uint8).contiguous()
                with replacing(path) as temporary:
                    save_file({"pictures": pictures}, temporary)
                made += len(part)
            parts.append(load_file(path)["pictures"])
            bar.update(len(part))
    return torch.cat(parts), round((time.monotonic() - began) / made, 4) if made else None


def _gaussian(pictures: Tensor, reader: Reader) -> Gaussian:
    """The Gaussian with the moments of the pictures as the reader sees them."""
    return Gaussian.from_moments(Moments.stream(seen(part, reader) for part in pictures.split(4096)))


def _fingerprint(model: Model) -> str:
    """Twelve hexadecimal digits of all weights of a model, its autoencoder's and text encoder's included."""
    parts = [model.network, *([model.codec.vae] if model.codec else []), *([model.text.encoder] if model.text else [])]
    digest = hashlib.sha256()
    for part in parts:
        for value in part.state_dict().values():
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _commit() -> str | None:
    """The commit of the package's code, with a note if it was modified since; ``None`` outside a checkout."""
    here = str(Path(__file__).parents[1])
    asked = (["log", "-1", "--format=%h", "--", "."], ["status", "--porcelain", "--", "*.py"])
    try:
        commit, changes = (
            subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True, timeout=20).stdout
            for words in asked
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit.strip()}{', modified' if changes.strip() else ''}" if commit.strip() else None
