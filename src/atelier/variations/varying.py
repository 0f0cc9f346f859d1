"""Varying one picture into a folder: its outline kept and its details drawn anew, or the reverse."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.scoring import distance
from atelier.variations import Keep, invert, paint_on, repaint, standing
from atelier.variations.ways import FRESH
from painters.denoiser import Denoiser
from painters.files import replacing
from painters.levels import Levels
from painters.models import Model, load
from painters.models.moments import load_moments
from painters.painting import claim
from painters.pictures import read, save, sheet, to_pil
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

OUTLINE_SHARE = 0.8
"""Without a level, the noisiest is taken at which the PCs that stand hold this share of the data's variance."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the variations look like; kept as ``run.json`` beside them.

    ``keep`` what stays. ``level``: noise level sigma/alpha at which the state is changed, ``None`` for
    :func:`default_level`. ``pcs``: how many PCs are the outline, ``None`` for those that stand at the level. ``image``:
    a picture of the reader's, in the place of the one that ``seed`` paints. ``moments``: where the theory comes from.
    """

    model: str
    seed: int = 0
    keep: Keep = "outline"
    level: float | None = None
    n: int = 8
    pcs: int | None = None
    image: str | None = None
    steps: int = 50
    solver: str = "heun"
    prompt: str | None = None
    guidance: float = 1.0
    dtype: str = "auto"
    moments: str | None = None


def vary(
    model: Model, settings: Settings, out: str | Path, *, gaussian: Gaussian | None = None, batch: int = 8
) -> dict[str, Any]:
    """Write a picture, its variations, a sheet of all and ``vary.json`` into ``out``; return what that file says.

    The state of the picture at a noise level keeps its coordinates along the first PCs (or all others) and gets new
    noise in the rest, :func:`~atelier.variations.resampling.repaint`; variation j gets the same new noise
    whatever the picture. A given picture is inverted up to that level first, by Heun's method. ``vary.json``: the
    settings; ``level`` used (the nearest of the run) beside ``level_asked``; ``pcs``; ``variance_kept``, the share of
    the data's variance that stays; ``distance`` of each variation from the picture, 1 as for unrelated ones;
    ``round_trip``, for a given picture |repainted - picture| / |picture - mean|, else null. ``gaussian``: the moments
    of the data, by default those of the model. Raises ``ValueError`` or ``OSError`` with one sentence for whatever
    cannot be done.
    """
    out = Path(out)
    g = gaussian or model.moments
    if g is None:
        raise ValueError(
            f"{settings.model} comes without the moments of its data, which say what an outline is: make them with "
            "painters moments and pass --moments FILE"
        )
    if g.dim != int(np.prod(model.shape)):
        raise ValueError(f"the moments have {g.dim} dimensions and a state of this model {int(np.prod(model.shape))}")
    if settings.n < 1 or batch < 1:
        raise ValueError(f"at least one variation is needed, and one at once, got --n {settings.n} --batch {batch}")
    levels = _levels(model, settings.steps)
    at = default_level(g, levels) if settings.level is None else nearest(levels, settings.level)
    pcs = standing(g, levels[at]) if settings.pcs is None else settings.pcs
    if not 0 <= pcs <= len(g.lam):
        raise ValueError(f"these moments know {len(g.lam)} components, so --pcs lies between 0 and that, got {pcs}")
    given = None if settings.image is None else picture(settings.image, model)
    begin = levels.start(noise([settings.seed], model.shape))
    denoise = model.denoiser(settings.prompt, guidance=settings.guidance)
    claim(out, asdict(settings) | {"weights": model.weights})  # after all that a wrong setting can stop, so that it leaves no folder behind
    state, original, error = _origin(denoise, begin, settings, levels, at, given, g)
    save(to_pil(model.decode(original)[0]), out / "original.png")
    moved: list[float] = []
    for first, painted in _variations(denoise, settings, levels, at, state, g, pcs, batch):
        moved += distance(g, original.expand_as(painted).cpu(), painted.cpu()).tolist()
        for j, image in enumerate(model.decode(painted), first):
            save(to_pil(image), out / f"variation-{j:02d}.png")
    names = ["original.png", *(f"variation-{j:02d}.png" for j in range(settings.n))]
    save(sheet([out / name for name in names]), out / "sheet.png")
    inside = float(g.lam[:pcs].sum() / g.spectrum.sum())
    found = asdict(settings) | {
        "level_asked": settings.level,
        "level": float(levels.ratio[at]),
        "pcs": pcs,
        "variance_kept": inside if settings.keep == "outline" else 1 - inside,
        "distance": moved,
        "round_trip": error,
    }
    with replacing(out / "vary.json") as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n")
    return found


def default_level(gaussian: Gaussian, levels: Levels) -> int:
    """Return the index of the noisiest level at which the PCs that stand hold ``OUTLINE_SHARE`` of the variance.

    So the kept outline is most of the picture whatever the data's spectrum, and what is drawn anew can be seen: on the
    scenes about nine in ten factors of the outline stay, at much lower noise hardly anything changes. The last noisy
    level if the known PCs never hold so much.
    """
    whole = float(gaussian.spectrum.sum())
    for i in range(1, levels.steps):
        if float(gaussian.lam[: standing(gaussian, levels[i])].sum()) >= OUTLINE_SHARE * whole:
            return i
    return levels.steps - 1


def nearest(levels: Levels, level: float) -> int:
    """Return the index of the level nearest to a noise level sigma/alpha, by its logarithm.

    Raises ``ValueError`` for one beyond the noisy levels of the run.
    """
    ratio = levels.ratio[:-1]
    low, high = float(ratio.min()), float(ratio[ratio.isfinite()].max())
    if not low <= level <= high:
        raise ValueError(
            f"the level is a noise level sigma/alpha between {low:.3g} and {high:.3g} for this model and number of "
            f"steps, got {level:g}"
        )
    return int((ratio.clamp(max=1e30).log() - np.log(level)).abs().argmin())


def picture(path: str | Path, model: Model) -> Tensor:
    """Return a picture as a clean state (1, *shape), read as :func:`painters.pictures.read` does, and encoded."""
    channels, _, size = model.image_shape
    pixels = torch.from_numpy(read(path, size=size, channels=channels)).float() / 255
    return model.encode(pixels[None]).float()


def _levels(model: Model, steps: int) -> Levels:
    """Even in log-SNR, so that every component has as many levels; the model's own from pure noise."""
    try:
        return model.levels(steps, spacing="logsnr")
    except ValueError:
        return model.levels(steps)


def _origin(
    denoise: Denoiser, begin: Tensor, settings: Settings, levels: Levels, at: int, given: Tensor | None, g: Gaussian
) -> tuple[Tensor, Tensor, float | None]:
    """The state at the level, the clean state it belongs to, and for a given picture the error of its round trip."""
    if given is None:
        x, solver, seeds = begin, settings.solver, [settings.seed]
        if at > 0:
            x = solve(denoise, x, levels, solver=solver, stop=at, save=Frames(None), seeds=seeds).final
        return x, paint_on(denoise, x, levels, start=at, solver=solver, seeds=seeds), None
    x = invert(denoise, given, levels[at:]).final
    again = paint_on(denoise, x, levels, start=at, solver="heun")
    away = (given.cpu() - g.mu.cpu().reshape(given.shape)).norm()
    return x, given, float((again.cpu() - given.cpu()).norm() / away)


def _variations(
    denoise: Denoiser, settings: Settings, levels: Levels, at: int, state: Tensor, g: Gaussian, pcs: int, batch: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield (index of the first, clean states) of each batch of variations."""
    for first in range(0, settings.n, batch):
        seeds = range(FRESH + first, FRESH + min(first + batch, settings.n))
        x = state.expand(len(seeds), *state.shape[1:])
        x = repaint(g, x, noise(seeds, state.shape[1:]), levels[at], keep=settings.keep, pcs=pcs)
        yield first, paint_on(denoise, x, levels, start=at, solver=settings.solver, seeds=seeds)


def command(options: argparse.Namespace) -> int:
    """Do what ``painters vary`` says, and report it."""
    model = load(options.name, device=options.device, dtype=options.dtype)
    settings = Settings(
        **{name: getattr(options, name) for name in Settings.__dataclass_fields__ if name != "model"},
        model=options.name,
    )
    gaussian = None if options.moments is None else load_moments(options.moments)[0]
    found = vary(model, settings, options.out, gaussian=gaussian, batch=options.batch)
    asked = "" if options.level is None else f", the nearest to {options.level:g}"
    print(f"changed at noise level {found['level']:.3g}{asked}: {settings.keep} kept, that is ", end="")
    part = f"the first {found['pcs']} PCs" if settings.keep == "outline" else f"all but the first {found['pcs']} PCs"
    print(f"{part} with {found['variance_kept']:.1%} of the data's variance")
    if found["round_trip"] is not None:
        print(f"the picture is inverted and painted again with an error of {found['round_trip']:.1%}")
    low, high = min(found["distance"]), max(found["distance"])
    far = f"variations lie at {low:.2f} to {high:.2f}" if settings.n > 1 else f"variation lies at {low:.2f}"
    print(f"the {far} from it (1: unrelated pictures)")
    count = f"{settings.n} variations" if settings.n > 1 else "1 variation"
    print(f"original.png, {count}, sheet.png and vary.json are in {options.out}/")
    return 0
