"""Training pixel-space denoisers, with numbers beside the theory's at every snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from atelier.data import images as image_data
from atelier.data import scenes
from atelier.data.controls import varied
from atelier.training.evaluation import denoising_loss
from atelier.training.loop import Run, fit, generator, stratified_times
from atelier.training.recipes import Recipe, fingerprint
from painters.denoiser import target
from painters.levels import Levels, Schedule, vp_linear
from painters.models.adapters import NetworkDenoiser, call_unet
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments

SNAPSHOT_IMAGES = 512
SNAPSHOT_LEVELS = 12
REFERENCE_RANK = 784
"""PCs of the reference Gaussian, the remainder isotropic: exact for 28 x 28 grey, and quick for larger images."""


def run_folder(name: str) -> Path:
    """Return where the state of a run is kept: ``$PAINTERS_RUNS/NAME``, or ``~/.cache/painters/runs/NAME``."""
    root = os.environ.get("PAINTERS_RUNS") or Path.home() / ".cache" / "painters" / "runs"
    return Path(root) / name


def schedule_of(recipe: Recipe) -> Schedule:
    """Return the noise schedule a recipe trains with."""
    return vp_linear()


def build(recipe: Recipe) -> torch.nn.Module:
    """Return the untrained network of a recipe, initialised from its seed."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    torch.manual_seed(recipe.seed)
    embeddings = None if recipe.null_label is None else recipe.null_label + 1
    return UNet2DModel(**recipe.network, num_class_embeds=embeddings)


def load_data(recipe: Recipe, folder: str | Path | None = None) -> image_data.ImageData:
    """Return the data of a recipe: its own, or the reader's pictures in ``folder`` if that holds no such data set."""
    data = _load_data(recipe, folder)
    return data if recipe.variant is None else varied(data, recipe.variant)


def _load_data(recipe: Recipe, folder: str | Path | None) -> image_data.ImageData:
    if recipe.data == "scenes" and folder is None:
        return scenes.dataset(recipe.network["sample_size"])
    if folder is not None and not (Path(folder) / "fashion_mnist.npz").is_file():
        return image_data.folder(folder, size=recipe.network["sample_size"], channels=recipe.network["in_channels"])
    return image_data.fashion(folder)


def fitting(recipe: Recipe, data: image_data.ImageData) -> Recipe:
    """Return the recipe as it applies to ``data``: on a reader's pictures the network is unconditional."""
    if data.source == recipe.data:
        return recipe
    return replace(recipe, title=f"{recipe.name} on a reader's pictures", classes=(), data_licence="the reader's own")


def train(
    recipe: Recipe,
    data: image_data.ImageData,
    *,
    steps: int | None = None,
    folder: str | Path | None = None,
    device: str = "cpu",
    save_every: float = 120.0,
    progress: bool = True,
    on_snapshot: Callable[[Run], None] | None = None,
) -> Run:
    """Train (or continue) a recipe until ``steps`` and return the run; ``run.average`` holds the weights to use.

    Minimises E|network(x, t) - target|^2 over uniform t, with t stratified over each batch. Step k draws its images,
    times, noise and label dropout from the seed (recipe.seed, k), so a resumed run repeats exactly what an
    uninterrupted one does. State is saved every ``save_every`` seconds, at the end, and on Ctrl-C. At powers of two
    the averaged weights are measured on test images beside the Gaussian and the mean, and kept as
    ``average-STEP.pt``; numbers go to ``run.snapshots``. Raises ``FloatingPointError`` if the loss is not finite; the
    saved state is then the last good one.
    """
    recipe = fitting(recipe, data)
    images = image_data.to_unit(data.train).to(device)
    labels = data.train_labels.to(device) if recipe.classes and data.train_labels is not None else None
    alpha, sigma = (v.float().to(device) for v in schedule_of(recipe).table())
    theory = references(data)

    def loss(network: torch.nn.Module, k: int) -> tuple[Tensor, Tensor]:
        x0, eps, t, y = _draw(recipe, images, labels, k)
        a, s = alpha[t].view(-1, 1, 1, 1), sigma[t].view(-1, 1, 1, 1)
        goal = target(x0, eps, a, s, prediction=recipe.prediction)
        x = (a * x0 + s * eps).contiguous(memory_format=torch.channels_last)
        return (call_unet(network)(x, t, y) - goal).pow(2).flatten(1).mean(1), t

    def snapshot(run: Run) -> None:
        _snapshot(run, recipe, data, theory)
        if on_snapshot:
            on_snapshot(run)

    return fit(
        Run.new(lambda: build(recipe), device, fingerprint=fingerprint(recipe, data.digest())),
        loss,
        steps=steps or recipe.steps,
        folder=Path(folder) if folder else run_folder(recipe.name),
        learning_rate=recipe.rate,
        gamma=recipe.ema_gamma,
        name=recipe.name,
        save_every=save_every,
        progress=progress,
        on_snapshot=snapshot,
    )


def _draw(
    recipe: Recipe, images: Tensor, labels: Tensor | None, k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Images, noise, times and labels of step k, from a generator of its own."""
    draw = generator(recipe.seed, k)
    n, device = recipe.batch, images.device
    index = torch.randint(len(images), (n,), generator=draw)
    eps = torch.randn((n, *images.shape[1:]), generator=draw).to(device)
    t = stratified_times(n, draw).to(device)
    hidden = torch.rand(n, generator=draw) < recipe.label_dropout
    y = None
    if labels is not None and recipe.null_label is not None:
        y = torch.where(hidden.to(device), recipe.null_label, labels[index])
    return images[index], eps, t, y


def gaussian_of(data: image_data.ImageData, *, rank: int | None = None) -> Gaussian:
    """Return the Gaussian with the training images' mean and covariance, in [-1, 1] units."""
    moments = Moments.stream(image_data.to_unit(part) for part in data.train.split(4096))
    return Gaussian.from_moments(moments, rank=rank)


def references(data: image_data.ImageData) -> dict[str, Gaussian]:
    """Return the two denoisers every network is measured beside: the Gaussian (of 784 PCs), and the mean."""
    gaussian = gaussian_of(data, rank=min(REFERENCE_RANK, data.train[0].numel()))
    return {"gaussian": gaussian, "mean": Gaussian(gaussian.mu, gaussian.U[:, :0], gaussian.lam[:0], 0.0)}


def evaluation_levels(recipe: Recipe, n: int) -> Levels:
    """Return the ``n`` levels at which a loss is measured, even in log-SNR over the training range."""
    return Levels.of(schedule_of(recipe), n, spacing="logsnr")[:-1]


def _snapshot(run: Run, recipe: Recipe, data: image_data.ImageData, theory: dict[str, Gaussian]) -> None:
    images = image_data.to_unit(data.test[:SNAPSHOT_IMAGES])
    device = next(run.average.parameters()).device
    denoise = unconditional(run.average, recipe, device)
    measured = denoising_loss(denoise, images, evaluation_levels(recipe, SNAPSHOT_LEVELS), references=theory)
    run.snapshots.append({"step": run.step, "images": run.step * recipe.batch} | measured)


def unconditional(network: torch.nn.Module, recipe: Recipe, device: torch.device) -> NetworkDenoiser:
    """Return a network in training as a denoiser without a label."""
    label = None if recipe.null_label is None else torch.tensor([recipe.null_label])
    return NetworkDenoiser(
        call_unet(network), schedule_of(recipe), recipe.prediction, device, condition=label, channels_last=True
    )
