"""The command line of the project: the commands of the core, and the workshop's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painters import cli as core
from painters.cli import Commands, parse_seeds
from painters.levels import Levels
from painters.sampling import SOLVERS

if TYPE_CHECKING:
    from atelier.training.loop import Run
    from atelier.training.recipes import GanRecipe, LatentRecipe, ReaderRecipe, Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, see :func:`painters.cli.run`."""
    return core.run([core.add_commands, add_commands], arguments)


def _vary(options: argparse.Namespace) -> int:
    from atelier.variations import varying

    return varying.command(options)


def _train(options: argparse.Namespace) -> int:
    from atelier.training import recipes as known
    from atelier.training.recipes import GanRecipe, LatentRecipe, ReaderRecipe, Recipe
    from painters.models.loading import choose_device

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

    from atelier.training import pixels as training
    from atelier.training.packing import pack
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

    from atelier.training import latents as latent
    from atelier.training.latent_packing import pack
    from atelier.training.pixels import run_folder
    from painters.models.latent import Codec
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
    from atelier.data import images, scenes
    from atelier.training import gan as gan_training
    from atelier.training.pixels import run_folder
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
    print(f"the generator is in {out}/: load it with atelier.networks.generator.load_generator({str(out)!r})")
    return 0


def _train_reader(recipe: ReaderRecipe, options: argparse.Namespace, device: str) -> int:
    from atelier.training import readers as reader_training
    from atelier.training.pixels import run_folder

    folder = Path(options.run) if options.run else run_folder(options.name)
    states = reader_training.load_states(recipe, options.data)
    print(f"{recipe.title}: {len(states.train)} states, run in {folder}/")
    run = reader_training.train(recipe, states, folder=folder, steps=options.steps, device=device)
    print(f"measuring how well it reads after {run.step} steps ...")
    out = reader_training.pack_reader(run, recipe, states, options.out or folder / "reader")
    print(f"the reader is in {out}/: load it with atelier.networks.readers.load_reader({str(out)!r})")
    return 0


def _judge(options: argparse.Namespace) -> int:
    import json

    from atelier import judging
    from atelier.networks.readers import load_reader
    from atelier.training.pixels import run_folder
    from atelier.training.readers import known_pictures
    from painters.files import replacing
    from painters.models import load

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
    from atelier.ledger import command

    return command.claims(options, parse_seeds(options.seeds))


def add_commands(commands: Commands) -> None:
    """Add the workshop's commands to a command line."""
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


if __name__ == "__main__":
    sys.exit(main())
