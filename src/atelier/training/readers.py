"""Training and measuring factor readers: states with known factors, any noise level, and the ceiling they reach."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from atelier.data.known import KnownStates, clean, known_pictures
from atelier.data.law import FactorLaw
from atelier.data.scenes.factors import Factor
from atelier.networks.readers import LOGSNR, Read, Reader, ReaderNetwork, columns, describe, indicators
from atelier.training.latents import encode
from atelier.training.loop import Run, Session, Training, fit, generator
from atelier.training.packing import pack_network
from atelier.training.recipes import Reading, Recipe
from painters.levels import Levels
from painters.models.registry import BUNDLED
from painters.theory.moments import Moments

RANGE = 10.0
"""Noisy training states have a log-SNR between minus and plus this: beyond, they show everything or nothing."""
MEASURED = 5000


def known_latents(pictures: KnownStates, autoencoder: Any, *, seed: int = 0) -> KnownStates:
    """Return the scaled latents of pictures, drawn once from the posterior of a diffusers ``AutoencoderKL``."""
    draw = torch.Generator().manual_seed(seed)

    def latents(images: Tensor) -> Tensor:
        z = encode(autoencoder, images, scale=float(autoencoder.config.scaling_factor))
        return z.scale * (z.mean + z.std * torch.randn(z.mean.shape, generator=draw))

    train, test = latents(pictures.train), latents(pictures.test)
    return replace(pictures, train=train, test=test, source=f"{pictures.source}, latents")


def load_states(recipe: Recipe[Reading], folder: str | None = None) -> KnownStates:
    """Return the states of a recipe.

    ``folder`` holds the data set, or for latents the model (with a ``vae/``) whose autoencoder makes them, by default
    the recipe's. Raises ``FileNotFoundError`` if there is no such model.
    """
    kind = recipe.kind
    if kind.states == "pixels":
        return known_pictures(recipe.data, kind.size, folder)
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    source = Path(folder) if folder else BUNDLED / str(kind.autoencoder)
    if not (source / "vae" / "config.json").is_file():
        raise FileNotFoundError(
            f"{recipe.name} reads latents of {kind.autoencoder}, and there is no autoencoder in {source.name}/vae: "
            "train that model first, or name its folder with --data"
        )
    autoencoder = AutoencoderKL.from_pretrained(source / "vae", use_safetensors=True)
    return known_latents(known_pictures(recipe.data, kind.size), autoencoder.eval())


def build(recipe: Recipe[Reading], states: KnownStates) -> ReaderNetwork:
    """Return the untrained network of a recipe, initialised from its seed."""
    torch.manual_seed(recipe.pace.seed)
    return ReaderNetwork(states.shape, columns(states.factors), **recipe.network)


def train_reader(recipe: Recipe[Reading], states: KnownStates, session: Session) -> Run:
    """Train (or continue) a reader, as :func:`atelier.training.loop.fit` says.

    A batch is stratified: ``clean_share`` of its states are clean, the others have log-SNRs uniform in [-10, 10]. The
    loss is the mean over factors of cross-entropy / ln K and squared error / variance, each 1 for a reader that knows
    nothing.
    """
    device, pace, share = torch.device(session.device), recipe.pace, recipe.kind.clean_share
    targets = {name: value.to(device) for name, value in states.train_factors.items()}

    def loss(network: Any, k: int) -> Tensor:
        draw = generator(pace.seed, k)
        n = pace.batch
        index = torch.randint(len(states.train), (n,), generator=draw)
        eps = torch.randn((n, *states.shape), generator=draw)
        place = (torch.randperm(n, generator=draw) + torch.rand(n, generator=draw)) / n
        noisy = (place - share) / (1 - share)
        logsnr = torch.where(noisy < 0, math.inf, RANGE * (1 - 2 * noisy))
        a, s = (v.sqrt().view(-1, 1, 1, 1) for v in (logsnr.sigmoid(), (-logsnr).sigmoid()))
        x = (a * clean(states.train[index]) + s * eps).to(device).contiguous(memory_format=torch.channels_last)
        outputs = network(x, logsnr.clamp(-LOGSNR, LOGSNR).to(device))
        return reading_loss(outputs, {name: value[index] for name, value in targets.items()}, states.factors)

    made_of = recipe.fingerprint(data=states.digest())
    return fit(Training(recipe.name, pace, lambda: build(recipe, states), loss, made_of), session)


def _reader(run: Run, states: KnownStates) -> Reader:
    """The averaged network of a run as a reader."""
    network: Any = run.average
    return Reader(network, states.factors, states.shape, next(network.parameters()).device)


def reading_loss(outputs: Tensor, truth: Read, factors: tuple[Factor, ...]) -> Tensor:
    """Return the losses (B,) of a network's outputs (B, m), averaged over factors, 1 where nothing is known."""
    losses = []
    for f, part in zip(factors, outputs.split(columns(factors), dim=1)):
        value = truth[f.name]
        if f.kinds:
            losses.append(F.cross_entropy(part, value.long(), reduction="none") / math.log(len(f.kinds)))
        else:
            losses.append((part[:, 0] - (value - 0.5) * math.sqrt(12)).pow(2))
    return torch.stack(losses).mean(0)


def reading_levels() -> Levels:
    """Return the twelve levels at which a reader is measured: log-SNR -10, -8, ... 10, and clean."""
    logsnr = torch.cat([torch.arange(-10, 11, 2, dtype=torch.float64), torch.tensor([math.inf], dtype=torch.float64)])
    return Levels(logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt(), "log-SNR -10 to 10, and clean")


def factor_law(states: KnownStates) -> FactorLaw:
    """Return the affine estimate of all factors (categorical ones as indicators) with the training states' moments."""
    facts = indicators(states.train_factors, states.factors)
    parts = zip(states.train.split(4096), facts.split(4096))
    joint = Moments.stream(torch.cat([clean(x).flatten(1).double(), f], dim=1) for x, f in parts)
    return FactorLaw.from_moments(joint, facts.shape[1])


def read_at(
    reader: Reader, states: KnownStates, *, law: FactorLaw | None = None, n: int = MEASURED, seed: int = 0
) -> dict[str, Any]:
    """Measure how well a reader reads the first ``n`` test states at twelve levels; one noise serves all levels.

    For each factor: ``r2``, the explained share of the variance, 1 - E|f - f_hat|^2 / Var f, where a categorical factor
    is the vector of its kinds' indicators and f_hat their probabilities; and its ``accuracy``. With a ``law``:
    ``linear``, the R^2 of the affine estimate on the same states, which E[f | x] cannot fall below. JSON-serialisable.
    """
    levels, x0 = reading_levels(), clean(states.test[:n])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    truth = indicators({name: value[:n] for name, value in states.test_factors.items()}, states.factors)
    sizes = columns(states.factors)
    rows: dict[str, dict[str, list[float]]] = {f.name: {} for f in states.factors}

    def note(what: str, numbers: list[float]) -> None:
        for f, number in zip(states.factors, numbers):
            rows[f.name].setdefault(what, []).append(round(number, 5))

    def r2(estimate: Tensor) -> list[float]:
        missed = (truth - estimate).pow(2).mean(0).split(sizes)
        return [float(1 - m.sum() / v.sum()) for m, v in zip(missed, truth.var(0, correction=0).split(sizes))]

    for alpha, sigma in levels:
        x = alpha * x0 + sigma * eps
        estimate = indicators(reader.read(x, alpha, sigma), states.factors)
        note("r2", r2(estimate))
        for f, said, true in zip(states.factors, estimate.split(sizes, 1), truth.split(sizes, 1)):
            if f.kinds:
                right = float((said.argmax(1) == true.argmax(1)).double().mean())
                rows[f.name].setdefault("accuracy", []).append(round(right, 5))
        if law is not None:
            note("linear", r2(law.estimate(x, alpha, sigma)))
    return {"alpha": levels.alpha.tolist(), "sigma": levels.sigma.tolist(), "n": len(x0), "factors": rows}


def pack_reader(run: Run, recipe: Recipe[Reading], states: KnownStates, out: str | Path) -> Path:
    """Write the averaged weights as a folder that :func:`~atelier.networks.readers.load_reader` reads."""

    def facts() -> dict[str, Any]:
        return {
            "kind": "reader",
            "shape": list(states.shape),
            "factors": describe(states.factors),
            "ceiling": read_at(_reader(run, states), states, law=factor_law(states)),
        }

    return pack_network(run, recipe, len(states.train), out, run.average, facts)
