"""The command line: ``painters sample``, ``vary``, ``train``, ``judge``, ``claims`` and ``moments``."""

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
    from painters.models.recipes import GanRecipe, LatentRecipe, ReaderRecipe, Recipe


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


def _vary(options: argparse.Namespace) -> int:
    from painters import varying

    return varying.command(options)


def _train(options: argparse.Namespace) -> int:
    from painters.models import recipes as known
    from painters.models.loading import choose_device
    from painters.models.recipes import GanRecipe, LatentRecipe, ReaderRecipe, Recipe

    recipes = known.RECIPES | known.LATENT_RECIPES | known.READERS | known.GANS
    recipe = recipes.get(options.name)
    if recipe is None:
        raise ValueError(f"there is no recipe {options.name!r}: choose one of {', '.join(recipes)}")
    trainers = {
        Recipe: _train_pixels,
        LatentRecipe: _train_latents,
        ReaderRecipe: _train_reader,
        GanRecipe: _train_gan,
    }
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


def _train_gan(recipe: GanRecipe, options: argparse.Namespace, device: str) -> int:
    from painters.data import images, scenes
    from painters.models import gan_training
    from painters.models.training import run_folder
    from painters.pictures import save, sheet, to_pil

    if options.data is not None and not (Path(options.data) / "fashion_mnist.npz").is_file():
        data = images.folder(options.data, size=recipe.size, channels=recipe.network["colours"])
    else:
        data = scenes.dataset(recipe.size) if recipe.data == "scenes" else images.fashion(options.data)
    folder = Path(options.run) if options.run else run_folder(options.name)
    print(f"{recipe.title}: {len(data.train)} images, state in {folder}/")

    def paint_sheet(run: Run) -> None:
        pictures = gan_training.paint(gan_training.generator_of(run, data), range(16))
        save(sheet([to_pil(picture / 2 + 0.5) for picture in pictures]), folder / f"sheet-{run.step}.png")

    run = gan_training.train(recipe, data, folder=folder, steps=options.steps, device=device, on_snapshot=paint_sheet)
    out = gan_training.pack(run, recipe, data, options.out or folder / "model")
    print(f"the generator is in {out}/: load it with painters.models.gan.load_generator({str(out)!r})")
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


def _claims(options: argparse.Namespace) -> int:
    from painters.experiments.claims import command

    return command.claims(options, parse_seeds(options.seeds))


def _moments(options: argparse.Namespace) -> int:
    from painters.experiments.claims import command

    return command.moments(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="painters", description="How diffusion models paint, and why.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _making(commands)
    _measuring(commands)
    return parser


def _making(commands: Any) -> None:
    """The commands that make pictures and models."""
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

    _varying(commands)

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


def _varying(commands: Any) -> None:
    vary = commands.add_parser(
        "vary",
        help="vary a picture on purpose",
        description="Keep the outline of a picture and paint other details, or the reverse.",
    )
    vary.add_argument("name", help="a bundled model, a local diffusers folder, or a hub id")
    vary.add_argument("--seed", type=int, default=0, help="whose picture is varied (default: %(default)s)")
    vary.add_argument("--image", default=None, metavar="FILE", help="a picture of your own, instead of a seed's")
    vary.add_argument("--keep", choices=["outline", "details"], default="outline", help="default: %(default)s")
    vary.add_argument(
        "--level",
        type=float,
        default=None,
        help="noise level sigma/alpha at which the state is changed (default: where the outline holds 80%% of the "
        "data's variance)",
    )
    vary.add_argument("--pcs", type=int, default=None, help="PCs of the outline (default: those that stand there)")
    vary.add_argument("--n", type=int, default=8, help="variations (default: %(default)s)")
    vary.add_argument("--steps", type=int, default=50, help="solver steps (default: %(default)s)")
    vary.add_argument("--solver", choices=list(SOLVERS), default="heun", help="default: %(default)s")
    vary.add_argument("--prompt", default=None, help="a text, or the name or index of a class")
    vary.add_argument("--guidance", type=float, default=1.0, help="classifier-free guidance (default: %(default)s)")
    vary.add_argument("--moments", default=None, metavar="FILE", help="its data's, made by painters moments")
    vary.add_argument("--batch", type=int, default=8, help="variations painted at once (default: %(default)s)")
    vary.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    vary.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    vary.add_argument("--out", default="variations", help="folder for the images (default: %(default)s)")
    vary.set_defaults(command=_vary)


def _measuring(commands: Any) -> None:
    """The commands that hold a model against the theory."""
    claims = commands.add_parser(
        "claims",
        help="measure the claims of the ledger on a model",
        description="Measure the claims of the ledger on a model; resumable. Or print the table of results.",
    )
    claims.add_argument("--model", default=None, help="a bundled model, a local diffusers folder, or a hub id")
    claims.add_argument("--gaussian", action="store_true", help="measure the exact Gaussian of its data instead")
    claims.add_argument("--table", nargs="*", default=None, metavar="FILE", help="print results (default: committed)")
    claims.add_argument("--seeds", default="0-199", help="such as 0-15 or 3,7,20-29 (default: %(default)s)")
    claims.add_argument("--steps", type=int, default=50, help="solver steps (default: %(default)s)")
    claims.add_argument("--profile", choices=["ci", "book", "full"], default="book", help="default: %(default)s")
    claims.add_argument("--only", default=None, metavar="NAMES", help="experiments, e.g. geometry,emergence")
    claims.add_argument("--moments", default=None, metavar="FILE", help="its data's, made by painters moments")
    claims.add_argument("--prompt", default=None, help="a text or class; needs --moments of the data it describes")
    claims.add_argument("--run", default=None, help="folder of its training run, for the claims on learning")
    claims.add_argument("--batch", type=int, default=50, help="seeds at once (default: %(default)s)")
    claims.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    claims.add_argument("--out", default=None, help="file for the results (default: NAME.json)")
    claims.set_defaults(command=_claims)

    moments = commands.add_parser(
        "moments",
        help="mean and covariance of data, which the theory needs",
        description="Write mean and covariance of pictures, or of what a model paints (then the theory is circular).",
    )
    moments.add_argument("source", nargs="?", default=None, help="a folder of pictures, or a data set of the hub")
    moments.add_argument("--out", required=True, help="file for the moments, e.g. cifar10.safetensors")
    moments.add_argument("--size", type=int, default=None, help="pixels a side (default: 32, or those of --encode)")
    moments.add_argument("--channels", type=int, choices=[1, 3], default=3, help="default: %(default)s")
    moments.add_argument("--encode", default=None, metavar="NAME", help="a latent model, whose latents are taken")
    moments.add_argument("--samples", default=None, metavar="NAME", help="a model, whose own samples are taken")
    moments.add_argument("--prompt", default=None, help="for --samples: a text, or a class")
    moments.add_argument("--guidance", type=float, default=1.0, help="for --samples (default: %(default)s)")
    moments.add_argument("--steps", type=int, default=50, help="for --samples: solver steps (default: %(default)s)")
    moments.add_argument("--n", type=int, default=None, help="samples (default: all pictures, or 2000 of --samples)")
    moments.add_argument("--rank", type=int, default=512, help="PCs that are kept (default: %(default)s)")
    moments.add_argument("--batch", type=int, default=16, help="for --samples: seeds at once (default: %(default)s)")
    moments.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    moments.set_defaults(command=_moments)


if __name__ == "__main__":
    sys.exit(main())
