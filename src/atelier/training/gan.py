"""Training the small GAN: critic and generator in turn, with numbers beside real pictures' at every snapshot."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from atelier.data.images import ImageData, to_unit
from atelier.networks.generator import WEIGHTS, CriticNetwork, Generator, GeneratorNetwork
from atelier.networks.readers import load_reader
from atelier.quality import frechet_report
from atelier.training.loop import Run, fit, generator
from atelier.training.packing import publish, thinned
from atelier.training.recipes import GanRecipe, fingerprint

EVERY = 16
"""The critic's gradient is penalised in every so many of its steps, with so many times the weight."""
SNAPSHOT = 1000
MEASURED = 2000


class Pair(torch.nn.Module):
    """Generator and critic, trained in turn."""

    def __init__(self, recipe: GanRecipe, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.generator = GeneratorNetwork(**recipe.network)
        self.critic = CriticNetwork(size=shape[-1], colours=shape[0])


def train(
    recipe: GanRecipe,
    data: ImageData,
    *,
    folder: Path,
    steps: int | None = None,
    device: str = "cpu",
    save_every: float = 120.0,
    progress: bool = True,
    on_snapshot: Callable[[Run], None] | None = None,
) -> Run:
    """Train (or continue) a GAN until ``steps`` and return the run; ``run.average.generator`` is the one to use.

    Even steps train the critic f to lessen E softplus(f(G z)) + E softplus(-f(x)) + (gamma/2) E|grad f(x)|^2, odd ones
    the generator to lessen E softplus(-f(G z)). The penalty is taken every 16th critic step. Step k draws its pictures
    and latents from the seed (recipe.seed, k). Source: Goodfellow et al. (2014), Mescheder et al. (2018).
    """
    images = to_unit(data.train).to(device)

    def loss(network: torch.nn.Module, k: int) -> tuple[Tensor, None]:
        pair: Any = network
        draw = generator(recipe.seed, k)
        z = torch.randn(recipe.batch, pair.generator.latent, generator=draw).to(device)
        train_critic = k % 2 == 0
        pair.critic.requires_grad_(train_critic)
        pair.generator.requires_grad_(not train_critic)
        painted = pair.generator(z)
        if not train_critic:
            return F.softplus(-pair.critic(painted)), None
        real = images[torch.randint(len(images), (recipe.batch,), generator=draw)]
        penalised = k // 2 % EVERY == 0
        real.requires_grad_(penalised)
        score = pair.critic(real)
        losses = F.softplus(pair.critic(painted)) + F.softplus(-score)
        if penalised:
            (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
            losses = losses + recipe.penalty / 2 * EVERY * slope.square().flatten(1).sum(1)
        return losses, None

    def snapshot(run: Run) -> None:
        run.snapshots.append({"step": run.step, "frechet": _frechet(run, data, SNAPSHOT)})
        if on_snapshot:
            on_snapshot(run)

    def build() -> Pair:
        torch.manual_seed(recipe.seed)
        return Pair(recipe, tuple(data.train.shape[1:]))

    return fit(
        Run.new(build, device, fingerprint=fingerprint(recipe, data.digest()), betas=(0.0, 0.99)),
        loss,
        steps=steps or recipe.steps,
        folder=folder,
        learning_rate=recipe.rate,
        gamma=recipe.ema_gamma,
        name=recipe.name,
        save_every=save_every,
        progress=progress,
        on_snapshot=snapshot,
    )


def generator_of(run: Run, data: ImageData, *, card: dict[str, Any] | None = None) -> Generator:
    """Return the averaged generator of a run in training."""
    pair: Any = run.average
    device = next(pair.parameters()).device
    return Generator(pair.generator, tuple(data.train.shape[1:]), device, card or {})


def paint(generator_: Generator, seeds: range, *, batch: int = 250) -> Tensor:
    """Return pictures (n, C, H, W) in [-1, 1], clamped; latent i is drawn from the seed i."""
    z = torch.stack([torch.randn(generator_.latent, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    with torch.no_grad():
        return torch.cat([generator_(part).cpu() for part in z.split(batch)]).clamp(-1, 1)


def pack(run: Run, recipe: GanRecipe, data: ImageData, out: str | Path) -> Path:
    """Write the averaged generator as a folder that
    :func:`~atelier.networks.generator.load_generator` reads; returns its path.

    The folder holds ``generator.safetensors`` (float16) and ``card.json``, whose Fréchet distances are those of the
    rounded weights. Nothing is left behind if it fails.
    """
    pair: Any = run.average
    pair.generator.half()
    weights = {key: value.cpu().contiguous() for key, value in pair.generator.state_dict().items()}
    pair.generator.float()
    facts = {k: v for k, v in asdict(recipe).items() if k not in ("network", "name", "title")}
    card = {
        "kind": "generator",
        "name": recipe.name,
        "title": recipe.title,
        "command": f"painters train {recipe.name} --steps {run.step}",
        "parameters": sum(value.numel() for value in weights.values()),
        "shape": list(data.train.shape[1:]),
        "network": recipe.network,
        "training": facts
        | {
            "steps": run.step,
            "images": run.step // 2 * recipe.batch,
            "hours": round(run.seconds / 3600, 2),
            "hardware": run.hardware,
        },
        "frechet": _frechet(run, data, MEASURED),
        "curve": thinned(run.log),
        "snapshots": run.snapshots,
    }
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary)
        save_file(weights, draft / WEIGHTS)
        (draft / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        return publish(draft, Path(out))


def _frechet(run: Run, data: ImageData, n: int) -> dict[str, Any] | None:
    """Fréchet distances in the features of the bundled reader of these pictures; None for a reader's own."""
    if data.source == "folder" or len(data.test) < n:
        return None
    samples = paint(generator_of(run, data), range(n))
    reader = load_reader(f"{data.source}-reader", device="cpu")
    return frechet_report(reader, samples, train=to_unit(data.train[:n]), test=to_unit(data.test[-n:]))
