"""``painters sample``: many seeds painted into a folder, so that an interruption loses no finished image."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atelier.commands.options import DEALT, OTHERS, Commands, given, offer, whole
from atelier.pictures import LARGE, save, sheet, to_pil
from atelier.ranks import place, share
from painters.denoiser import PREDICTIONS, Prediction
from painters.files import claim
from painters.levels import Spacing
from painters.models import Model, load
from painters.sampling import batches, noise, solve
from painters.trajectory import Frames, Trajectory


@dataclass(frozen=True)
class Request:
    """Everything besides the weights that decides what is on disk; both are kept as ``run.json`` beside the images.

    ``every``: of the trajectories every so many frames are kept.
    """

    model: str
    steps: int = 50
    solver: str = "heun"
    spacing: Spacing | None = None
    prompt: str | None = None
    guidance: float = 1.0
    negative: str | None = None
    dtype: str = "auto"
    prediction: Prediction | None = None
    every: int = 1


def paint(
    model: Model, request: Request, seeds: Sequence[int], out: str | Path, *, batch: int = 16, progress: bool = True
) -> list[Path]:
    """Paint ``seeds`` into ``out`` and return the image paths: one PNG and one trajectory a seed, and a contact sheet.

    Seeds that are finished there are left alone, so the same call continues an interrupted run. Of several processes
    each paints its share and returns the images of all that are there by then; whichever finds all makes the sheet.
    Raises ``ValueError`` if the folder holds images made with other settings or weights, before anything is painted.
    """
    out = Path(out)
    denoise = model.denoiser(request.prompt, guidance=request.guidance, negative=request.negative)
    levels = model.levels(request.steps, spacing=request.spacing)
    frames = Frames(every=request.every)
    noise(seeds, ())  # draws next to nothing, and refuses what is no seed
    paths = {seed: out / f"seed-{seed:05d}.png" for seed in dict.fromkeys(seeds)}
    missing = list(batches((seed for seed in share(list(paths)) if not paths[seed].is_file()), batch))
    # The folder is claimed after all that a wrong argument can stop, so that the corrected call finds it free.
    claim(out, asdict(request) | {"weights": model.weights})
    for part in missing:
        x = levels.start(noise(part, model.shape))
        how = {"solver": request.solver, "surrogate": model.moments if request.solver == "expint" else None}
        run = solve(denoise, x, levels, **how, seeds=part, save=frames, progress=progress)
        for i, seed in enumerate(part):
            one = Trajectory(run.levels, run.x[:, i : i + 1], run.x0[:, i : i + 1], run.nfe, (seed,), run.meta)
            one.save(out / "trajectories" / f"seed-{seed:05d}.safetensors")
            save(to_pil(model.decode(run.final[i : i + 1])[0]), paths[seed])
    there = [path for path in paths.values() if path.is_file()]
    if len(there) == len(paths):
        save(sheet(there, side=LARGE), out / "sheet.png")
    return there


def command(options: argparse.Namespace) -> int:
    """Do what ``painters sample`` says, and report it."""
    out, asked = Path(options.out), vars(options)
    model = load(options.name, **{key: asked[key] for key in ("device", "dtype", "prediction", "pickled")})
    request = Request(options.name, **{key: asked[key] for key in Request.__dataclass_fields__ if key in asked})
    levels = model.levels(options.steps, spacing=options.spacing)
    print(f"{options.name} on {model.device.type}: {len(options.seeds)} seeds, {levels}")
    paths = paint(model, request, options.seeds, out, batch=options.batch, progress=place()[0] == 0)
    if left := len(set(options.seeds)) - len(paths):
        print(f"{left} images are not in {out}/ yet: {OTHERS}")
    else:
        print(f"{len(paths)} images, {out / 'sheet.png'} and {out / 'trajectories'}/ are in {out}/")
    return 0


def add(commands: Commands) -> None:
    """Add ``sample`` to a command line."""
    sample = commands.add_parser("sample", help="paint images with a model", description=f"Paint images. {DEALT}")
    offer(sample, "name", "--seeds", "--steps", "--solver", "--spacing", "--prompt")
    sample.add_argument("--negative", type=given, help="a text to guide away from, under guidance")
    offer(sample, "--guidance", "--batch")
    sample.add_argument("--every", type=whole, default=1, help="keep every so many frames (default: all)")
    sample.add_argument("--prediction", choices=PREDICTIONS, help="of a network whose scheduler does not say it")
    offer(sample, "--device", "--dtype", "--pickled")
    sample.add_argument("--out", default="out", help="folder for the images (default: %(default)s)")
    sample.set_defaults(command=command, kept=True)
