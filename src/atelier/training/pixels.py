"""Training pixel-space denoisers, with numbers beside the theory's at every snapshot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.data import images as image_data
from atelier.data.controls import varied
from atelier.data.images import ImageData, to_unit
from atelier.training.evaluation import CARD, SNAPSHOT, loss_beside
from atelier.training.loop import Run, Session, Training, fit, generator, stratified_times
from atelier.training.packing import card, count, in_half, publishing, write_json
from atelier.training.recipes import Pixels, Recipe
from atelier.training.targets import missed
from painters.models.adapters import NetworkDenoiser, call_unet
from painters.models.moments import gaussian_of, save_moments
from painters.schedules import vp_linear
from painters.theory.gaussian import Gaussian

SCHEDULE = vp_linear()
"""All pixel models are trained on DDPM's noise schedule."""
REFERENCE_RANK = 784
"""PCs of the reference Gaussian, the remainder isotropic: exact for 28 x 28 grey, and quick for larger images."""


def load_data(
    recipe: Recipe[Pixels], folder: str | None = None, *, size: int | None = None, channels: int | None = None
) -> tuple[Recipe[Pixels], ImageData]:
    """Return the data of a recipe: its data set (from ``folder``), or the reader's pictures in ``folder``.

    These are brought to ``size`` pixels (default: 32) and 1 or 3 ``channels``, by default those the pictures have.
    Beside it the recipe, with a network for the pictures there are. Raises ``ValueError`` in one sentence for a size
    that the network cannot halve, or options without pictures.
    """
    if recipe.data != "folder":
        return recipe, varied(image_data.fashion(folder), recipe.kind.variant)
    if folder is None:
        raise ValueError(f"{recipe.name} is trained on your own pictures: name their folder with --data")
    size, halvings = 32 if size is None else size, 2 ** (len(recipe.network["block_out_channels"]) - 1)
    if size < 8 or size % halvings:
        raise ValueError(f"--size is a multiple of {halvings} from 8 pixels on, got {size}")
    data = image_data.folder(folder, size=size, channels=channels)
    channels = data.train.shape[1]
    shape = {"sample_size": size, "in_channels": channels, "out_channels": channels}
    title = f"{recipe.title}, {size} x {size} {'grey' if channels == 1 else 'RGB'}"
    return replace(recipe, title=title, network=recipe.network | shape), data


def build(recipe: Recipe[Pixels]) -> torch.nn.Module:
    """Return the untrained network of a recipe, initialised from its seed."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    torch.manual_seed(recipe.pace.seed)
    null = recipe.kind.null_label
    return UNet2DModel(**recipe.network, num_class_embeds=None if null is None else null + 1)


def train_pixels(recipe: Recipe[Pixels], data: ImageData, session: Session) -> Run:
    """Train (or continue) a denoiser of pictures, as :func:`atelier.training.loop.fit` says.

    Minimises E|network(x, t) - target|^2 over uniform t, with t stratified over each batch. Step k draws its images,
    times, noise and label dropout from the seed (recipe.pace.seed, k), so a resumed run repeats exactly what an
    uninterrupted one does. Its snapshots hold the loss on test images beside the Gaussian's and the mean's.
    """
    device, kind = torch.device(session.device), recipe.kind
    images = to_unit(data.train).to(device)
    labels = data.train_labels.to(device) if kind.classes and data.train_labels is not None else None
    test, theory = to_unit(data.test[: SNAPSHOT[1]]), moments_of(data)

    def loss(network: torch.nn.Module, k: int) -> Tensor:
        x0, eps, t, y = _draw(recipe, images, labels, k)
        call = call_unet(network)
        return missed(lambda x, t: call(x, t, y), x0, eps, t, schedule=SCHEDULE, prediction=kind.prediction)

    def snapshot(run: Run) -> dict[str, Any]:
        return loss_beside(denoiser(run.average, recipe), SCHEDULE, test, theory, at=SNAPSHOT)

    made_of = recipe.fingerprint(data=data.digest())
    return fit(Training(recipe.name, recipe.pace, lambda: build(recipe), loss, made_of, snapshot), session)


def _draw(
    recipe: Recipe[Pixels], images: Tensor, labels: Tensor | None, k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Images, noise, times and labels of step k, from a generator of its own."""
    draw = generator(recipe.pace.seed, k)
    n, device = recipe.pace.batch, images.device
    index = torch.randint(len(images), (n,), generator=draw)
    eps = torch.randn((n, *images.shape[1:]), generator=draw).to(device)
    t = stratified_times(n, draw).to(device)
    hidden = torch.rand(n, generator=draw) < recipe.kind.label_dropout
    y = None
    if labels is not None and recipe.kind.null_label is not None:
        y = torch.where(hidden.to(device), recipe.kind.null_label, labels[index])
    return images[index], eps, t, y


def moments_of(data: ImageData, *, rank: int = REFERENCE_RANK) -> Gaussian:
    """Return the Gaussian with the training images' mean and covariance, in [-1, 1] units."""
    return gaussian_of((to_unit(part) for part in data.train.split(4096)), rank=min(rank, data.train[0].numel()))[0]


def denoiser(network: torch.nn.Module, recipe: Recipe[Pixels]) -> NetworkDenoiser:
    """Return a network in training as a denoiser without a label."""
    null, device = recipe.kind.null_label, next(network.parameters()).device
    label = None if null is None else torch.tensor([null])
    return NetworkDenoiser(
        call_unet(network), SCHEDULE, recipe.kind.prediction, device, condition=label, channels_last=True
    )


def pack_pixels(run: Run, recipe: Recipe[Pixels], data: ImageData, out: str | Path) -> Path:
    """Write the averaged weights as a ``DDPMPipeline`` folder that :func:`painters.load` reads; returns its path.

    The folder holds ``unet/`` and ``scheduler/`` as diffusers writes them (weights in float16), ``model_index.json``,
    ``moments.safetensors`` and ``card.json``, whose test losses are those of the rounded weights.
    """
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    network: Any = run.average
    prediction: Any = recipe.kind.prediction
    with publishing(out) as draft:
        with in_half(network):
            network.save_pretrained(draft / "unet")
        DDPMScheduler(
            beta_schedule="linear", prediction_type=prediction, clip_sample=False, timestep_spacing="trailing"
        ).save_pretrained(draft / "scheduler")
        index = {
            "_class_name": "DDPMPipeline",
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        }
        write_json(index, draft / "model_index.json")
        if recipe.kind.moments is not None:
            save_moments(moments_of(data, rank=recipe.kind.moments), draft / "moments.safetensors")
        facts = {
            "classes": list(recipe.kind.classes),
            "null_label": recipe.kind.null_label,
            "parameters": count(network),
            "loss": loss_beside(denoiser(network, recipe), SCHEDULE, to_unit(data.test[: CARD[1]]), moments_of(data)),
        }
        write_json(card(run, recipe, len(data.train), facts), draft / "card.json")
    return Path(out)
