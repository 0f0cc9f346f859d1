"""What ``painters train`` does: the data of a recipe, the training, the model."""

from __future__ import annotations

import argparse
from pathlib import Path

from atelier.data.images import fashion
from atelier.training import gan, latent_packing, latents, pixels, readers
from atelier.training.loop import Session, run_folder
from atelier.training.recipes import RECIPES, Gan, Pixels, Reading
from painters.models.precision import choose_device


def command(options: argparse.Namespace) -> int:
    """Do what ``painters train`` says, and report it."""
    recipe = RECIPES.get(options.name)
    if recipe is None:
        raise ValueError(f"there is no recipe {options.name!r}: choose one of {', '.join(RECIPES)}")
    if recipe.name != "pixels" and (options.size, options.channels) != (None, None):
        raise ValueError(f"{recipe.name} has a size of its own: --size and --channels are for the recipe pixels")
    folder = Path(options.run) if options.run else run_folder(recipe.name)
    session = Session(folder, options.steps, str(choose_device(options.device)))
    out = Path(options.out) if options.out else folder / "model"

    def begin(title: str, n: int) -> None:
        print(f"{title}: {n} images, state in {folder}/")

    loader = "painters.load"
    if isinstance(recipe.kind, Pixels):
        data = pixels.load_data(recipe, options.data, size=options.size, channels=options.channels)
        recipe = pixels.fitted(recipe, data)
        begin(recipe.title, len(data.train))
        run = pixels.train_pixels(recipe, data, session)
        print(f"measuring the test loss after {run.step} steps ...")
        pixels.pack_pixels(run, recipe, data, out)
    elif isinstance(recipe.kind, Reading):
        states = readers.load_states(recipe, options.data)
        begin(recipe.title, len(states.train))
        run = readers.train_reader(recipe, states, session)
        print(f"measuring how well it reads after {run.step} steps ...")
        readers.pack_reader(run, recipe, states, out)
        loader = "atelier.networks.readers.load_reader"
    elif isinstance(recipe.kind, Gan):
        data = fashion(options.data)
        begin(recipe.title, len(data.train))
        run = gan.train_gan(recipe, data, session)
        gan.pack_gan(run, recipe, data, out)
        loader = "atelier.networks.generator.load_generator"
    else:
        recipe, data = latents.load_data(recipe, options.data)
        begin(recipe.title, len(data.train))
        studio = latents.prepare(recipe, data, session)
        run = latents.train_latents(recipe, studio, session)
        print(f"measuring the test loss after {run.step} steps ...")
        latent_packing.pack_latents(run, recipe, studio, data, out)
    print(f"the result is in {out}/: load it with {loader}({str(out)!r})")
    return 0
