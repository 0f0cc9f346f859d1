"""The command line: ``painters sample``, ``painters train`` and ``painters judge``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from painters.levels import Levels, Spacing
from painters.sampling import SOLVERS

if TYPE_CHECKING:
    from painters.models.loop import Run
    from painters.models.recipes import LatentRecipe, ReaderRecipe, Recipe


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
        negative=options.negative,
        dtype=options.dtype,
    )
    levels = model.levels(options.steps, spacing=options.spacing)
    print(f"{options.name} on {model.device.type}: {len(seeds)} seeds, {levels}")
    paths = paint(model, settings, seeds, out, batch=options.batch, frames=Frames(every=options.every))
    print(f"{len(paths)} images, {out / 'sheet.png'} and {out / 'trajectories'}/ are in {out}/")
    return 0


def _train(options: argparse.Namespace) -> int:
    from painters.models.loading import choose_device
    from painters.models.recipes import LATENT_RECIPES, READERS, RECIPES, LatentRecipe, ReaderRecipe, Recipe

    recipes = RECIPES | LATENT_RECIPES | READERS
    recipe = recipes.get(options.name)
    if recipe is None:
        raise ValueError(f"there is no recipe {options.name!r}: choose one of {', '.join(recipes)}")
    trainers = {Recipe: _train_pixels, LatentRecipe: _train_latents, ReaderRecipe: _train_reader}
    return trainers[type(recipe)](recipe, options, str(choose_device(options.device)))


def _train_pixels(recipe: Recipe, options: argparse.Namespace, device: str) -> int:
    import torch

    from painters.models import training
    from painters.models.packing import pack
    from painters.pictures import save, sheet, to_pil
    from painters.sampling import noise, solve
    from painters.trajectory import Frames

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


def _train_latents(recipe: LatentRecipe, options: argparse.Namespace, device: str) -> int:
    import torch

    from painters.models import latent_training as latent
    from painters.models.latent import Codec
    from painters.models.latent_packing import pack
    from painters.models.training import run_folder
    from painters.pictures import save, sheet, to_pil
    from painters.sampling import noise, solve
    from painters.trajectory import Frames

    data = latent.load_data(recipe, options.data)
    folder = Path(options.run) if options.run else run_folder(options.name)
    print(f"{recipe.title}: {len(data.train)} images, state in {folder}/")
    autoencoder = latent.train_autoencoder(recipe, data, folder=folder / "autoencoder", device=device)
    print("encoding the images ...")
    studio = latent.prepare(recipe, data, autoencoder, folder=folder)
    coder: Any = autoencoder.average
    coder.register_to_config(scaling_factor=studio.train.scale)

    def paint_sheet(run: Run) -> None:
        tokens = latent.tokenize(studio.tokenizer, data.test_captions[:16])
        denoise = latent.denoiser(run.average, recipe, tokens, torch.device(device))
        levels = Levels.of(latent.schedule_of(recipe), 25)
        z = levels.start(noise(range(16), studio.train.mean.shape[1:]))
        final = solve(denoise, z, levels, solver="dpmpp2m", save=Frames(every=None), progress=False).final
        images = Codec(coder, torch.device(device)).decode(final)
        save(sheet([to_pil(image) for image in images.cpu()]), folder / f"sheet-{run.step}.png")

    run = latent.train(recipe, studio, folder=folder, steps=options.steps, device=device, on_snapshot=paint_sheet)
    print(f"measuring the test loss after {run.step} steps ...")
    out = pack(run, studio, recipe, data, options.out or folder / "model")
    print(f"the model is in {out}/: load it with painters.load({str(out)!r})")
    return 0


def _train_reader(recipe: ReaderRecipe, options: argparse.Namespace, device: str) -> int:
    from painters.models import reader_training
    from painters.models.training import run_folder

    folder = Path(options.run) if options.run else run_folder(options.name)
    states = reader_training.load_states(recipe, options.data)
    print(f"{recipe.title}: {len(states.train)} states, run in {folder}/")
    run = reader_training.train(recipe, states, folder=folder, steps=options.steps, device=device)
    print(f"measuring how well it reads after {run.step} steps ...")
    out = reader_training.pack_reader(run, recipe, states, options.out or folder / "reader")
    print(f"the reader is in {out}/: load it with painters.models.readers.load_reader({str(out)!r})")
    return 0


def _judge(options: argparse.Namespace) -> int:
    import json

    from painters.files import replacing
    from painters.models import judging, load
    from painters.models.reader_training import known_pictures
    from painters.models.readers import load_reader
    from painters.models.training import run_folder

    model = load(options.name, device=options.device)
    source = judging.data_of(model, options.name)
    reader = load_reader(options.reader or judging.READER_OF[source], device=options.device)
    weights = tuple(float(w) for w in options.guidance.split(","))
    settings = judging.Settings(options.n, options.prompts, weights, options.steps, options.solver, options.batch)
    out = Path(options.out or f"{Path(options.name).name}-quality.json")
    data = known_pictures(source, model.image_shape[-1], options.data)
    report = judging.judge(model, reader, data, settings, keep=run_folder("judged"))
    with replacing(out) as temporary:
        temporary.write_text(json.dumps({"model": options.name} | report, indent=1) + "\n")
    apart = report["frechet"]
    print(f"Frechet distance {apart['model']:.4g}, floor {apart['floor']:.4g}, Gaussian {apart['gaussian']:.4g}")
    for name, found in report.get("prompts", {}).items():
        kept = found["obeyed"]["wishes"]
        print(f"{name}: {kept['share']:.1%} of {kept['n']} wishes granted")
    print(f"everything is in {out}")
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
    sample.add_argument("--prompt", default=None, help="a text, or the name or index of a class")
    sample.add_argument("--negative", default=None, help="a text to guide away from, for a text-to-image model")
    sample.add_argument("--guidance", type=float, default=1.0, help="classifier-free guidance (default: %(default)s)")
    sample.add_argument("--every", type=int, default=1, help="keep every so many frames (default: all)")
    sample.add_argument("--batch", type=int, default=16, help="seeds painted at once (default: %(default)s)")
    sample.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    sample.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    sample.add_argument("--out", default="out", help="folder for the images (default: %(default)s)")
    sample.set_defaults(command=_sample)

    train = commands.add_parser("train", help="train a model", description="Train one of the recipes; resumable.")
    train.add_argument("name", help="a recipe, e.g. fashion-ddpm or scenes-reader")
    train.add_argument("--data", default=None, help="folder with the recipe's data set, or with your own pictures")
    train.add_argument("--steps", type=int, default=None, help="stop after so many steps (default: the recipe's)")
    train.add_argument("--run", default=None, help="folder for the run's state (default: ~/.cache/painters/runs/NAME)")
    train.add_argument("--out", default=None, help="folder for the model (default: RUN/model)")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    train.set_defaults(command=_train)

    judge = commands.add_parser(
        "judge", help="measure how good a model's pictures are", description="Paint many pictures and measure them."
    )
    judge.add_argument("name", help="a model of a data set with a reader, e.g. fashion-ddpm")
    judge.add_argument("--n", type=int, default=2000, help="pictures without a prompt (default: %(default)s)")
    judge.add_argument("--prompts", type=int, default=500, help="pictures at each guidance (default: %(default)s)")
    judge.add_argument("--guidance", default="1,3,7.5", help="guidance weights (default: %(default)s)")
    judge.add_argument("--steps", type=int, default=50, help="solver steps (default: %(default)s)")
    judge.add_argument("--solver", choices=list(SOLVERS), default="dpmpp2m", help="default: %(default)s")
    judge.add_argument("--batch", type=int, default=100, help="pictures painted at once (default: %(default)s)")
    judge.add_argument("--reader", default=None, help="a reader's folder (default: the bundled one of the data)")
    judge.add_argument("--data", default=None, help="folder with the data set")
    judge.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    judge.add_argument("--out", default=None, help="file for the results (default: NAME-quality.json)")
    judge.set_defaults(command=_judge)
    return parser


if __name__ == "__main__":
    sys.exit(main())
