"""Varying one picture into a folder: its outline kept and its details drawn anew, or the reverse."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.pictures import LARGE, read, save, sheet, to_pil
from atelier.scoring import distance
from atelier.subject import levels_at
from atelier.variations.states import Keep, repaint, round_trip, standing
from painters.denoiser import Denoiser
from painters.files import claim, replacing
from painters.levels import Levels
from painters.models import Model, load
from painters.models.moments import load_moments
from painters.sampling import batches, noise, paint_on, solve
from painters.sampling.noise import FRESH
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

OUTLINE_SHARE = 0.8
"""Without a level, the noisiest is taken at which the PCs that stand hold this share of the data's variance."""


@dataclass(frozen=True)
class Plan:
    """What is asked for. All but ``n``, how many variations there are, decides what they look like.

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
    model: Model, plan: Plan, out: str | Path, *, gaussian: Gaussian | None = None, batch: int = 8
) -> dict[str, Any]:
    """Write a picture, its variations, a sheet of all and ``vary.json`` into ``out``; return what that file says.

    The state of the picture at a noise level keeps its coordinates along the first PCs (or all others) and gets new
    noise in the rest, :func:`~atelier.variations.states.repaint`; variation j gets the same new noise whatever the
    picture. A given picture is inverted up to that level first, by Heun's method. ``vary.json``: the plan; ``level``
    used (the nearest of the run) beside ``level_asked``; ``pcs``; ``variance_kept``, the share of the data's variance
    that stays; ``distance`` of each variation from the picture, 1 as for unrelated ones; ``round_trip``, for a given
    picture |repainted - picture| / |picture - mean|, else null. ``gaussian``: the moments of the data, by default those
    of the model.

    Variations that are finished there are left alone, so the same call continues an interrupted one, and one with a
    larger ``n`` adds to it. Raises ``ValueError`` if the folder holds those of another plan, of other weights, moments
    or another picture, and ``ValueError`` or ``OSError`` with one sentence for whatever else cannot be done.
    """
    out = Path(out)
    g = gaussian or model.moments
    if g is None:
        raise ValueError(
            f"{plan.model} comes without the moments of its data, which say what an outline is: make them with "
            "painters moments and pass --moments FILE"
        )
    if g.dim != int(np.prod(model.shape)):
        raise ValueError(f"the moments have {g.dim} dimensions and a state of this model {int(np.prod(model.shape))}")
    if plan.n < 1:
        raise ValueError(f"at least one variation is needed, got --n {plan.n}")
    levels = model.levels(plan.steps, spacing="even")
    at = default_level(g, levels) if plan.level is None else nearest(levels, plan.level)
    pcs = standing(g, levels[at]) if plan.pcs is None else plan.pcs
    if not 0 <= pcs <= len(g.lam):
        raise ValueError(f"these moments know {len(g.lam)} components, so --pcs lies between 0 and that, got {pcs}")
    given = None if plan.image is None else picture(plan.image, model)
    begin = levels.start(noise([plan.seed], model.shape))
    denoise = model.denoiser(plan.prompt, guidance=plan.guidance)
    moved = _finished(out)
    missing = list(batches(range(len(moved), plan.n), batch))
    inside = float(g.lam[:pcs].sum() / g.spectrum.sum())
    found = asdict(plan) | {
        "level_asked": plan.level,
        "level": float(levels.ratio[at]),
        "pcs": pcs,
        "variance_kept": inside if plan.keep == "outline" else 1 - inside,
    }
    made_of = {key: value for key, value in asdict(plan).items() if key != "n"}
    theory = (value.cpu().numpy().tobytes() for value in (g.mu, g.U, g.lam, torch.tensor(g.rest)))
    made_of |= {"weights": model.weights, "theory": _digest(*theory)}
    made_of |= {"picture": None if plan.image is None else _digest(Path(plan.image).read_bytes())}
    claim(out, made_of)  # after all that a wrong setting can stop, so that it leaves no folder behind
    state, original, found["round_trip"] = _origin(denoise, begin, plan, levels, at, given, g)
    save(to_pil(model.decode(original)[0]), out / "original.png")
    for part in missing:
        x = state.expand(len(part), *state.shape[1:])
        x = repaint(g, x, noise(part, state.shape[1:], stream=FRESH), levels[at], keep=plan.keep, pcs=pcs)
        seeds = [FRESH + j for j in part]
        painted = paint_on(denoise, x, levels, start=at, solver=plan.solver, seeds=seeds)
        for j, image in zip(part, model.decode(painted)):
            save(to_pil(image), out / _name(j))
        moved += distance(g, original.expand_as(painted).cpu(), painted.cpu()).tolist()
        _write(found | {"distance": moved}, out)  # now these are finished, whatever happens to the next
    save(sheet([out / "original.png", *(out / _name(j) for j in range(len(moved)))], side=LARGE), out / "sheet.png")
    found |= {"n": len(moved), "distance": moved}  # more than asked for, where an earlier call asked for more
    _write(found, out)
    return found


def _name(j: int) -> str:
    return f"variation-{j:02d}.png"


def _finished(out: Path) -> list[float]:
    """The distances of the variations that are finished in a folder, from the first on."""
    try:
        moved = json.loads((out / "vary.json").read_text())["distance"]
    except (FileNotFoundError, ValueError, KeyError):
        return []
    there = (j for j in range(len(moved)) if not (out / _name(j)).is_file())
    return moved[: next(there, len(moved))]


def _write(found: dict[str, Any], out: Path) -> None:
    with replacing(out / "vary.json") as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n")


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def default_level(gaussian: Gaussian, levels: Levels) -> int:
    """Return the index of the noisiest level at which the PCs that stand hold ``OUTLINE_SHARE`` of the variance.

    So the kept outline is most of the picture whatever the data's spectrum, and what is drawn anew can be seen: at much
    lower noise hardly anything changes. The last noisy level if the known PCs never hold so much.
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
    if not low <= level <= high:  # so that NaN is refused as well
        raise ValueError(
            f"the level is a noise level sigma/alpha between {low:.3g} and {high:.3g} for this model and number of "
            f"steps, got {level:g}"
        )
    return levels_at(levels, [level])[0]


def picture(path: str | Path, model: Model) -> Tensor:
    """Return a picture as a clean state (1, *shape), read as :func:`atelier.pictures.read` does, and encoded."""
    channels, _, size = model.image_shape
    pixels = torch.from_numpy(read(path, size=size, channels=channels)).float() / 255
    return model.encode(pixels[None]).float()


def _origin(
    denoise: Denoiser, begin: Tensor, plan: Plan, levels: Levels, at: int, given: Tensor | None, g: Gaussian
) -> tuple[Tensor, Tensor, float | None]:
    """The state at the level, the clean state it belongs to, and for a given picture the error of its round trip."""
    if given is not None:
        x, error = round_trip(denoise, given, levels[at:], centre=g.mu)
        return x, given, float(error)
    x, solver, seeds = begin, plan.solver, [plan.seed]
    if at > 0:
        x = solve(denoise, x, levels, solver=solver, stop=at, save=Frames(None), seeds=seeds).final
    return x, paint_on(denoise, x, levels, start=at, solver=solver, seeds=seeds), None


def command(options: argparse.Namespace) -> int:
    """Do what ``painters vary`` says, and report it."""
    model = load(options.name, device=options.device, dtype=options.dtype)
    plan = Plan(options.name, **{name: getattr(options, name) for name in Plan.__dataclass_fields__ if name != "model"})
    gaussian = None if plan.moments is None else load_moments(plan.moments)[0]
    found = vary(model, plan, options.out, gaussian=gaussian, batch=options.batch)
    asked = "" if plan.level is None else f", the nearest to {plan.level:g}"
    print(f"changed at noise level {found['level']:.3g}{asked}: {plan.keep} kept, that is ", end="")
    part = f"the first {found['pcs']} PCs" if plan.keep == "outline" else f"all but the first {found['pcs']} PCs"
    print(f"{part} with {found['variance_kept']:.1%} of the data's variance")
    if found["round_trip"] is not None:
        print(f"the picture is inverted and painted again with an error of {found['round_trip']:.1%}")
    low, high = min(found["distance"]), max(found["distance"])
    n = found["n"]
    far = f"variations lie at {low:.2f} to {high:.2f}" if n > 1 else f"variation lies at {low:.2f}"
    print(f"the {far} from it (1: unrelated pictures)")
    count = f"{n} variations" if n > 1 else "1 variation"
    print(f"original.png, {count}, sheet.png and vary.json are in {options.out}/")
    return 0
