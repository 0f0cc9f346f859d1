"""Training and measuring factor readers: states with known factors, any noise level, and the ceiling they reach."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from atelier.data import images as image_data
from atelier.data import scenes
from atelier.data.scenes.factors import Factor
from atelier.networks.readers import WEIGHTS, Read, Reader, ReaderNetwork, columns, describe, indicators
from atelier.training import recipes
from atelier.training.loop import Run, fit, generator
from atelier.training.packing import thinned
from atelier.training.recipes import ReaderRecipe
from painters.files import replacing
from painters.levels import Levels
from painters.theory.factors import FactorLaw
from painters.theory.moments import Moments

RANGE = 10.0
"""Noisy training states have a log-SNR between minus and plus this."""
MEASURED = 5000
SNAPSHOT = 512
FASHION_CLASS = Factor("class", "class", image_data.FASHION_CLASSES)


@dataclass(frozen=True, eq=False)
class KnownStates:
    """Clean states with known factors: training and test states (n, C, H, W), and their factors, kinds or values (n,).

    States are uint8 pixels, or floats in the units of the diffusion, such as scaled latents.
    """

    train: Tensor
    test: Tensor
    train_factors: Read
    test_factors: Read
    factors: tuple[Factor, ...]
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of one state."""
        return tuple(self.train.shape[1:])

    def digest(self) -> str:
        """Return a hash of the training states and their factors, rounded as machines may round them differently."""
        found = hashlib.sha256(repr([tuple(self.train.shape), self.factors]).encode())
        values = (self.train.float().mean((0, 2, 3)), *(v.double().mean() for v in self.train_factors.values()))
        found.update(repr([[round(float(x), 3) for x in value.reshape(-1)] for value in values]).encode())
        return found.hexdigest()[:32]


def clean(states: Tensor) -> Tensor:
    """Return states as float32 in the units of the diffusion: uint8 pixels in [-1, 1], others as they are."""
    return image_data.to_unit(states) if states.dtype == torch.uint8 else states.float()


def known_pictures(name: str, size: int, folder: str | Path | None = None) -> KnownStates:
    """Return the pictures of ``"scenes"`` at this size, or of ``"fashion"`` (from ``folder``), with their factors."""
    if name == "scenes":
        data = scenes.dataset(size)
        train, test = (_scene_factors(seeds) for seeds in (scenes.TRAIN_SEEDS, scenes.TEST_SEEDS))
        return KnownStates(data.train, data.test, train, test, scenes.FACTORS, name)
    data = image_data.fashion(folder)
    assert data.train_labels is not None and data.test_labels is not None
    train, test = {"class": data.train_labels}, {"class": data.test_labels}
    return KnownStates(data.train, data.test, train, test, (FASHION_CLASS,), name)


def known_latents(pictures: KnownStates, autoencoder: Any, *, seed: int = 0) -> KnownStates:
    """Return the scaled latents of pictures, drawn once from the posterior of a diffusers ``AutoencoderKL``."""
    from atelier.training.latents import encode

    draw = torch.Generator().manual_seed(seed)

    def latents(images: Tensor) -> Tensor:
        z = encode(autoencoder, images, scale=float(autoencoder.config.scaling_factor))
        return z.scale * (z.mean + z.std * torch.randn(z.mean.shape, generator=draw))

    train, test = latents(pictures.train), latents(pictures.test)
    return replace(pictures, train=train, test=test, source=f"{pictures.source}, latents")


def load_states(recipe: ReaderRecipe, folder: str | Path | None = None) -> KnownStates:
    """Return the states of a recipe.

    ``folder`` holds the data set, or for latents the model (with a ``vae/``) whose autoencoder makes them, by default
    the recipe's. Raises ``FileNotFoundError`` if there is no such model.
    """
    if recipe.states == "pixels":
        return known_pictures(recipe.data, recipe.size, folder)
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from painters.models.registry import BUNDLED

    source = Path(folder) if folder else BUNDLED / str(recipe.autoencoder)
    if not (source / "vae" / "config.json").is_file():
        raise FileNotFoundError(
            f"{recipe.name} reads latents of {recipe.autoencoder}, and there is no autoencoder in {source.name}/vae: "
            "train that model first, or name its folder with --data"
        )
    autoencoder = AutoencoderKL.from_pretrained(source / "vae", use_safetensors=True)
    return known_latents(known_pictures(recipe.data, recipe.size), autoencoder.eval())


def build(recipe: ReaderRecipe, states: KnownStates) -> ReaderNetwork:
    """Return the untrained network of a recipe, initialised from its seed."""
    torch.manual_seed(recipe.seed)
    return ReaderNetwork(states.shape, columns(states.factors), **recipe.network)


def train(
    recipe: ReaderRecipe,
    states: KnownStates,
    *,
    folder: Path,
    steps: int | None = None,
    device: str = "cpu",
    save_every: float = 120.0,
    progress: bool = True,
    on_snapshot: Callable[[Run], None] | None = None,
) -> Run:
    """Train (or continue) a reader; resumable, with a scale-free average, as :func:`atelier.training.loop.fit` says.

    A batch is stratified: ``clean_share`` of its states are clean, the others have log-SNRs uniform in [-10, 10]. The
    loss is the mean over factors of cross-entropy / ln K and squared error / variance, each 1 for a reader that knows
    nothing. In the log, time runs from the clean states (0) to log-SNR -10 (999).
    """
    targets = {name: value.to(device) for name, value in states.train_factors.items()}

    def loss(network: Any, k: int) -> tuple[Tensor, Tensor]:
        draw = generator(recipe.seed, k)
        n = recipe.batch
        index = torch.randint(len(states.train), (n,), generator=draw)
        eps = torch.randn((n, *states.shape), generator=draw)
        place = (torch.randperm(n, generator=draw) + torch.rand(n, generator=draw)) / n
        noisy = (place - recipe.clean_share) / (1 - recipe.clean_share)
        logsnr = torch.where(noisy < 0, math.inf, RANGE * (1 - 2 * noisy))
        a, s = (v.sqrt().view(-1, 1, 1, 1) for v in (logsnr.sigmoid(), (-logsnr).sigmoid()))
        x = (a * clean(states.train[index]) + s * eps).to(device).contiguous(memory_format=torch.channels_last)
        outputs = network(x, logsnr.clamp(-12, 12).to(device))
        losses = reading_loss(outputs, {name: value[index] for name, value in targets.items()}, states.factors)
        return losses, (1000 * place).long().clamp(max=999)

    def snapshot(run: Run) -> None:
        reader = Reader(run.average, states.factors, states.shape, torch.device(device))  # type: ignore[arg-type]
        found = measure(reader, states, levels=Levels(torch.ones(1), torch.zeros(1)), n=SNAPSHOT)
        at_clean = {name: (what.get("accuracy") or what["r2"])[0] for name, what in found["factors"].items()}
        run.snapshots.append({"step": run.step, "images": run.step * recipe.batch, "clean": at_clean})
        if on_snapshot:
            on_snapshot(run)

    return fit(
        Run.new(lambda: build(recipe, states), device, fingerprint=recipes.fingerprint(recipe, states.digest())),
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


def measured_levels() -> Levels:
    """Return the twelve levels at which a reader is measured: log-SNR -10, -8, ... 10, and clean."""
    logsnr = torch.cat([torch.arange(-10, 11, 2, dtype=torch.float64), torch.tensor([math.inf], dtype=torch.float64)])
    return Levels(logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt(), "log-SNR -10 to 10, and clean")


def factor_law(states: KnownStates) -> FactorLaw:
    """Return the affine estimate of all factors (categorical ones as indicators) with the training states' moments."""
    facts = indicators(states.train_factors, states.factors)
    parts = zip(states.train.split(4096), facts.split(4096))
    joint = Moments.stream(torch.cat([clean(x).flatten(1).double(), f], dim=1) for x, f in parts)
    return FactorLaw.from_moments(joint, facts.shape[1])


def measure(
    reader: Reader,
    states: KnownStates,
    *,
    law: FactorLaw | None = None,
    levels: Levels | None = None,
    n: int = MEASURED,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure how well a reader reads the first ``n`` test states at each level; one noise serves all levels.

    For each factor: ``r2``, the explained share of the variance, 1 - E|f - f_hat|^2 / Var f, where a categorical factor
    is the vector of its kinds' indicators and f_hat their probabilities; and its ``accuracy``. With a ``law``:
    ``linear``, the R^2 of the affine estimate on the same states, which E[f | x] cannot fall below, and ``law``, the
    formula R_f^2 with the training moments, too high by up to D/n where little is known. JSON-serialisable.
    """
    levels = levels or measured_levels()
    x0 = clean(states.test[:n])
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
            explained = law.explained((alpha, sigma)).split(sizes)
            note("law", [float(e.sum() / v.sum()) for e, v in zip(explained, law.variance.split(sizes))])
    return {"alpha": levels.alpha.tolist(), "sigma": levels.sigma.tolist(), "n": len(x0), "factors": rows}


def pack_reader(run: Run, recipe: ReaderRecipe, states: KnownStates, out: str | Path, *, n: int = MEASURED) -> Path:
    """Write the averaged weights of ``run`` as a folder that :func:`load_reader` reads, and return its path.

    The folder holds ``reader.safetensors`` (float16) and ``card.json``, whose numbers are those of the rounded weights.
    Nothing is left behind if it fails.
    """
    out = Path(out)
    device = next(run.average.parameters()).device
    network: Any = run.average.half()
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    reader = Reader(network.float().eval(), states.factors, states.shape, device)
    facts = {k: v for k, v in asdict(recipe).items() if k not in ("network", "name", "title")}
    card = {
        "kind": "reader",
        "name": recipe.name,
        "title": recipe.title,
        "command": f"painters train {recipe.name} --steps {run.step}",
        "parameters": sum(p.numel() for p in network.parameters()),
        "shape": list(states.shape),
        "network": recipe.network,
        "factors": describe(states.factors),
        "training": facts
        | {
            "steps": run.step,
            "images": run.step * recipe.batch,
            "epochs": round(run.step * recipe.batch / len(states.train), 2),
            "hours": round(run.seconds / 3600, 2),
            "hardware": run.hardware,
            "first_states": fingerprint(states.train[:64]),
        },
        "ceiling": measure(reader, states, law=factor_law(states), n=n),
        "curve": thinned(run.log),
        "snapshots": run.snapshots,
    }
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary)
        save_file(weights, draft / WEIGHTS)
        (draft / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        for name in (WEIGHTS, "card.json"):
            with replacing(out / name) as target:
                shutil.copyfile(draft / name, target)
    return out


def fingerprint(tensor: Tensor) -> str:
    """Return twelve hexadecimal digits that change when the numbers of a tensor do."""
    return hashlib.sha256(tensor.contiguous().cpu().numpy().tobytes()).hexdigest()[:12]


def _scene_factors(seeds: range) -> Read:
    values = scenes.sample(len(seeds), seeds.start).values
    return {
        name: torch.from_numpy(value).to(torch.int64 if value.dtype.kind == "i" else torch.float32)
        for name, value in values.items()
    }
