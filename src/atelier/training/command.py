"""What ``painters train`` does: the data of a recipe, the training, the model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from atelier.data.images import ImageData, fashion
from atelier.data.known import KnownStates
from atelier.training import gan, latent_packing, latents, pixels, readers
from atelier.training.loop import Run, Session, run_folder
from atelier.training.recipes import RECIPES, Gan, Pixels, Recipe, TextToImage
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

    def begin(recipe: Recipe[Any], data: ImageData | KnownStates) -> None:
        print(f"{recipe.title}: {len(data.train)} images, state in {folder}/")

    def done(run: Run) -> Run:
        print(f"measuring what {run.step} steps have taught ...")
        return run

    loader = "painters.load"
    if isinstance(recipe.kind, Pixels):
        recipe, data = pixels.load_data(recipe, options.data, size=options.size, channels=options.channels)
        begin(recipe, data)
        pixels.pack_pixels(done(pixels.train_pixels(recipe, data, session)), recipe, data, out)
    elif isinstance(recipe.kind, TextToImage):
        recipe, data = latents.load_data(recipe, options.data)
        begin(recipe, data)
        studio = latents.prepare(recipe, data, session)
        latent_packing.pack_latents(done(latents.train_latents(recipe, studio, session)), recipe, studio, data, out)
    elif isinstance(recipe.kind, Gan):
        begin(recipe, data := fashion(options.data))
        gan.pack_gan(done(gan.train_gan(recipe, data, session)), recipe, data, out)
        loader = "atelier.networks.generator.load_generator"
    else:
        begin(recipe, states := readers.load_states(recipe, options.data))
        readers.pack_reader(done(readers.train_reader(recipe, states, session)), recipe, states, out)
        loader = "atelier.networks.readers.load_reader"
    print(f"the result is in {out}/: load it with {loader}({str(out)!r})")
    return 0
