"""Training the small GAN: critic and generator in turn, with numbers beside real pictures' at every snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from atelier.data.images import ImageData, to_unit
from atelier.networks.generator import CriticNetwork, Generator, GeneratorNetwork
from atelier.networks.readers import READER_OF, load_reader
from atelier.quality import frechet_report
from atelier.training.loop import Run, Session, Training, fit, generator
from atelier.training.packing import pack_network
from atelier.training.recipes import Gan, Recipe

EVERY = 16
"""The critic's gradient is penalised in every so many of its steps, with so many times the weight.

The penalty costs a second backward pass and changes slowly, so it need not be paid at each step: Karras et al. (2020).
"""
SNAPSHOT = 1000
MEASURED = 2000


class Pair(torch.nn.Module):
    """Generator and critic, trained in turn."""

    def __init__(self, recipe: Recipe[Gan], shape: Sequence[int]) -> None:
        super().__init__()
        self.generator = GeneratorNetwork(**recipe.network)
        self.critic = CriticNetwork(size=shape[-1], colours=shape[0])


def train_gan(recipe: Recipe[Gan], data: ImageData, session: Session) -> Run:
    """Train (or continue) a GAN, as :func:`atelier.training.loop.fit` says; use ``run.average.generator``.

    Even steps train the critic f to lessen E softplus(f(G z)) + E softplus(-f(x)) + (gamma/2) E|grad f(x)|^2, odd ones
    the generator to lessen E softplus(-f(G z)). The penalty is taken every 16th critic step. Step k draws its pictures
    and latents from the seed (recipe.pace.seed, k). Source: Goodfellow et al. (2014), Mescheder et al. (2018).
    """
    pace, images, shape = recipe.pace, to_unit(data.train).to(session.device), data.train.shape[1:]

    def loss(pair: Any, k: int) -> Tensor:
        draw = generator(pace.seed, k)
        z = torch.randn(pace.batch, pair.generator.latent, generator=draw).to(session.device)
        train_critic = k % 2 == 0
        # the other of the two gets no gradient, so that Adam leaves its weights and its moments alone
        pair.critic.requires_grad_(train_critic)
        pair.generator.requires_grad_(not train_critic)
        painted = pair.generator(z)
        if not train_critic:
            return F.softplus(-pair.critic(painted))
        real = images[torch.randint(len(images), (pace.batch,), generator=draw)]
        penalised = k // 2 % EVERY == 0
        real.requires_grad_(penalised)
        score = pair.critic(real)
        losses = F.softplus(pair.critic(painted)) + F.softplus(-score)
        if penalised:
            (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
            losses = losses + recipe.kind.penalty / 2 * EVERY * slope.square().flatten(1).sum(1)
        return losses

    def build() -> Pair:
        torch.manual_seed(pace.seed)
        return Pair(recipe, shape)

    training = Training(
        recipe.name,
        pace,
        build,
        loss,
        recipe.fingerprint(data=data.digest()),
        snapshot=lambda run: {"frechet": distances(run, data, SNAPSHOT)},
        betas=(0.0, 0.99),  # no momentum: the other's next step changes what was downhill
    )
    return fit(training, session)


def generator_of(run: Run, shape: Sequence[int]) -> Generator:
    """Return the averaged generator of a run in training; ``shape`` (C, H, W) of its pictures."""
    pair: Any = run.average
    return Generator(pair.generator, tuple(shape), next(pair.parameters()).device)


def pictures(generate: Generator, seeds: range, *, batch: int = 250) -> Tensor:
    """Return pictures (n, C, H, W) in [-1, 1], clamped; latent i is drawn from the seed i."""
    z = torch.stack([torch.randn(generate.latent, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    with torch.no_grad():
        return torch.cat([generate(part).cpu() for part in z.split(batch)]).clamp(-1, 1)


def distances(run: Run, data: ImageData, n: int) -> dict[str, Any] | None:
    """Return the distances of ``n`` pictures and of a moment-matched Gaussian in the features of the data's reader.

    See :func:`~atelier.quality.frechet_report`; ``None`` for fewer test pictures.
    """
    if len(data.test) < n:
        return None
    reader = load_reader(READER_OF[data.source], device="cpu")
    painted = pictures(generator_of(run, data.train.shape[1:]), range(n))
    return frechet_report(reader, reader.look(painted), train=data.train, test=data.test)


def pack_gan(run: Run, recipe: Recipe[Gan], data: ImageData, out: str | Path) -> Path:
    """Write the averaged generator as a folder that :func:`~atelier.networks.generator.load_generator` reads."""
    pair: Any = run.average

    def facts() -> dict[str, Any]:
        return {"kind": "generator", "shape": list(data.train.shape[1:]), "frechet": distances(run, data, MEASURED)}

    images = run.step // 2 * recipe.pace.batch
    return pack_network(run, recipe, len(data.train), out, pair.generator, facts, images=images)
