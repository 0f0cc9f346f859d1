"""Training the bundled models: one resumable loop, a scale-free weight average, numbers at every snapshot."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from painters.data import images as image_data
from painters.denoiser import target
from painters.files import replacing
from painters.levels import Levels, Schedule, vp_linear
from painters.models.adapters import NetworkDenoiser, call_unet
from painters.models.evaluation import denoising_loss
from painters.models.recipes import Recipe
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments

SNAPSHOT_IMAGES = 512
SNAPSHOT_LEVELS = 12


@dataclass
class Run:
    """The state of one training run, saved whole so that an interrupted run continues bit for bit."""

    network: torch.nn.Module
    average: torch.nn.Module
    optimiser: torch.optim.Optimizer
    hardware: str
    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the state to ``path``, whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "hardware": self.hardware,
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
            "snapshots": self.snapshots,
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Restore a state written by :meth:`save`; ``ValueError`` if it is damaged or of another network."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except Exception as error:
            raise ValueError(f"{path} cannot be resumed ({error}); move it away to start afresh") from error
        same = state["hardware"].endswith(self.hardware)
        self.hardware = state["hardware"] if same else f"{state['hardware']}, then {self.hardware}"
        self.step, self.seconds = state["step"], state["seconds"]
        self.log, self.snapshots = state["log"], state["snapshots"]


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
    if folder is not None and not (Path(folder) / "fashion_mnist.npz").is_file():
        return image_data.folder(folder, size=recipe.network["sample_size"], channels=recipe.network["in_channels"])
    return image_data.fashion(folder)


def fitting(recipe: Recipe, data: image_data.ImageData) -> Recipe:
    """Return the recipe as it applies to ``data``: without labels the network is unconditional."""
    if data.train_labels is not None:
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
    steps = steps or recipe.steps
    folder = Path(folder) if folder else run_folder(recipe.name)
    recipe = fitting(recipe, data)
    run = _new_run(recipe, device)
    state = folder / "state.pt"
    if state.is_file():
        run.load(state)
    images = image_data.to_unit(data.train).to(device)
    labels = data.train_labels.to(device) if recipe.classes and data.train_labels is not None else None
    alpha, sigma = (v.float().to(device) for v in schedule_of(recipe).table())
    theory = references(data)
    window: list[tuple[Tensor, Tensor]] = []
    saved = time.monotonic()
    with tqdm(total=steps, initial=run.step, desc=recipe.name, disable=not progress, mininterval=5) as bar:
        try:
            while run.step < steps:
                began = time.monotonic()
                window.append(_step(run, recipe, _draw(recipe, images, labels, run.step), alpha, sigma))
                bar.update()
                if run.step % 64 == 0:
                    bar.set_postfix(loss=f"{_log(run, window):.4f}")
                if run.step >= 8 and run.step & (run.step - 1) == 0:
                    _snapshot(run, recipe, data, theory)
                    with replacing(folder / f"average-{run.step}.pt") as path:
                        torch.save(run.average.state_dict(), path)
                    if on_snapshot:
                        on_snapshot(run)
                run.seconds += time.monotonic() - began
                if time.monotonic() - saved > save_every:
                    saved = time.monotonic()
                    run.save(state)
        except KeyboardInterrupt:
            run.save(state)
            raise
    run.save(state)
    return run


def _step(
    run: Run, recipe: Recipe, batch: tuple[Tensor, Tensor, Tensor, Tensor | None], alpha: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """One gradient step and one step of the average; returns the times and losses of the batch."""
    x0, eps, t, labels = batch
    a, s = alpha[t].view(-1, 1, 1, 1), sigma[t].view(-1, 1, 1, 1)
    goal = target(x0, eps, a, s, prediction=recipe.prediction)
    x = (a * x0 + s * eps).contiguous(memory_format=torch.channels_last)
    loss = (call_unet(run.network)(x, t, labels) - goal).pow(2).flatten(1).mean(1)
    run.optimiser.param_groups[0]["lr"] = _learning_rate(recipe, run.step)
    run.optimiser.zero_grad(set_to_none=True)
    loss.mean().backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
    run.optimiser.step()
    run.step += 1
    _average(run, recipe.ema_gamma)
    return t, loss.detach()


def hardware(device: str) -> str:
    """Return one line about what the run was made on."""
    if device.startswith("cuda"):
        return f"1 x {torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def _new_run(recipe: Recipe, device: str) -> Run:
    network = build(recipe).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = build(recipe).to(device, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99))
    return Run(network, average, optimiser, hardware(device))


def _draw(
    recipe: Recipe, images: Tensor, labels: Tensor | None, k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Images, noise, times and labels of step k, from a generator of its own."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + k)
    n, device = recipe.batch, images.device
    index = torch.randint(len(images), (n,), generator=generator)
    eps = torch.randn((n, *images.shape[1:]), generator=generator).to(device)
    strata = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
    t = (strata * 1000).long().clamp(max=999).to(device)
    hidden = torch.rand(n, generator=generator) < recipe.label_dropout
    y = None
    if labels is not None and recipe.null_label is not None:
        y = torch.where(hidden.to(device), recipe.null_label, labels[index])
    return images[index], eps, t, y


def _learning_rate(recipe: Recipe, k: int) -> float:
    return recipe.learning_rate * min(1.0, (k + 1) / recipe.warmup) / max(1.0, k / recipe.decay_after) ** 0.5


@torch.no_grad()
def _average(run: Run, gamma: float) -> None:
    """Power-function average: after k steps the weights of step i count as i^gamma."""
    weight = 1 - (1 - 1 / run.step) ** (gamma + 1)
    for mean, value in zip(run.average.parameters(), run.network.parameters()):
        mean.lerp_(value, weight)


def _log(run: Run, window: list[tuple[Tensor, Tensor]]) -> float:
    """Add the mean loss since the last entry, in all and in ten bands of t, to the log; returns it."""
    t, loss = (torch.cat(values).cpu() for values in zip(*window))
    window.clear()
    mean = float(loss.mean())
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"the loss became {mean} before step {run.step}: lower the learning rate, or use float32"
        )
    band = torch.div(t, 100, rounding_mode="floor")
    by_time = [round(float(loss[band == b].mean()), 5) if bool((band == b).any()) else None for b in range(10)]
    run.log.append({"step": run.step, "loss": round(mean, 5), "by_time": by_time})
    return mean


def gaussian_of(data: image_data.ImageData, *, rank: int | None = None) -> Gaussian:
    """Return the Gaussian with the training images' mean and covariance, in [-1, 1] units."""
    moments = Moments.stream(image_data.to_unit(part) for part in data.train.split(4096))
    return Gaussian.from_moments(moments, rank=rank)


def references(data: image_data.ImageData) -> dict[str, Gaussian]:
    """Return the two denoisers every network is measured beside: the exact Gaussian, and the constant mean."""
    gaussian = gaussian_of(data)
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
