"""The command line: ``painters sample`` and ``painters train``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from painters.levels import Levels, Spacing
from painters.sampling import SOLVERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 a mistake said in one sentence, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("painters: interrupted; what was finished is kept, the same command continues", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"painters: {error}", file=sys.stderr)
        return 1


def parse_seeds(text: str) -> list[int]:
    """Return the seeds in a text such as ``0-15`` or ``3,7,20-29``. Raises ``ValueError`` for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"seeds are numbers and ranges such as 0-15 or 3,7,20-29, got {text!r}")
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds:
        raise ValueError(f"there are no seeds in {text!r}")
    return seeds


def _sample(options: argparse.Namespace) -> int:
    from painters.models import load
    from painters.painting import Settings, paint
    from painters.trajectory import Frames

    seeds = parse_seeds(options.seeds)
    out = Path(options.out)
    model = load(options.name, device=options.device, dtype=options.dtype)
    settings = Settings(
        model=options.name,
        steps=options.steps,
        solver=options.solver,
        spacing=options.spacing,
        prompt=options.prompt,
        guidance=options.guidance,
        dtype=options.dtype,
    )
    levels = model.levels(options.steps, spacing=options.spacing)
    print(f"{options.name} on {model.device.type}: {len(seeds)} seeds, {levels}")
    paths = paint(model, settings, seeds, out, batch=options.batch, frames=Frames(every=options.every))
    print(f"{len(paths)} images, {out / 'sheet.png'} and {out / 'trajectories'}/ are in {out}/")
    return 0


def _train(options: argparse.Namespace) -> int:
    import torch

    from painters.models import training
    from painters.models.loading import choose_device
    from painters.models.packing import pack
    from painters.models.recipes import RECIPES
    from painters.pictures import save, sheet, to_pil
    from painters.sampling import noise, solve
    from painters.trajectory import Frames

    if options.name not in RECIPES:
        raise ValueError(f"there is no recipe {options.name!r}: choose one of {', '.join(RECIPES)}")
    recipe, device = RECIPES[options.name], str(choose_device(options.device))
    data = training.load_data(recipe, options.data)
    folder = Path(options.run) if options.run else training.run_folder(options.name)
    print(f"{recipe.title}: {len(data.train)} images, state in {folder}/")

    def paint_sheet(run: training.Run) -> None:
        denoise = training.unconditional(run.average, training.fitting(recipe, data), torch.device(device))
        levels = Levels.of(training.schedule_of(recipe), 25)
        x = levels.start(noise(range(16), data.train.shape[1:]))
        images = solve(denoise, x, levels, solver="dpmpp2m", save=Frames(every=None), progress=False).final.cpu()
        save(sheet([to_pil(image / 2 + 0.5) for image in images]), folder / f"sheet-{run.step}.png")

    run = training.train(recipe, data, steps=options.steps, folder=folder, device=device, on_snapshot=paint_sheet)
    print(f"measuring the test loss after {run.step} steps ...")
    out = pack(run, training.fitting(recipe, data), data, options.out or folder / "model")
    print(f"the model is in {out}/: load it with painters.load({str(out)!r})")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="painters", description="How diffusion models paint, and why.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    sample = commands.add_parser("sample", help="paint images with a model", description="Paint images with a model.")
    sample.add_argument("name", help="a bundled model, a local diffusers folder, or a hub id")
    sample.add_argument("--seeds", default="0-15", help="such as 0-15 or 3,7,20-29 (default: %(default)s)")
    sample.add_argument("--steps", type=int, default=50, help="solver steps (default: %(default)s)")
    sample.add_argument("--solver", choices=list(SOLVERS), default="heun", help="default: %(default)s")
    sample.add_argument("--spacing", choices=get_args(Spacing), default=None, help="default: trailing")
    sample.add_argument("--prompt", default=None, help="a class name or index, for a class-conditional model")
    sample.add_argument("--guidance", type=float, default=1.0, help="classifier-free guidance (default: %(default)s)")
    sample.add_argument("--every", type=int, default=1, help="keep every so many frames (default: all)")
    sample.add_argument("--batch", type=int, default=16, help="seeds painted at once (default: %(default)s)")
    sample.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    sample.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    sample.add_argument("--out", default="out", help="folder for the images (default: %(default)s)")
    sample.set_defaults(command=_sample)

    train = commands.add_parser("train", help="train a model", description="Train one of the recipes; resumable.")
    train.add_argument("name", help="a recipe, e.g. fashion-ddpm")
    train.add_argument("--data", default=None, help="folder with the recipe's data set, or with your own pictures")
    train.add_argument("--steps", type=int, default=None, help="stop after so many steps (default: the recipe's)")
    train.add_argument("--run", default=None, help="folder for the run's state (default: ~/.cache/painters/runs/NAME)")
    train.add_argument("--out", default=None, help="folder for the model (default: RUN/model)")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    train.set_defaults(command=_train)
    return parser


if __name__ == "__main__":
    sys.exit(main())
