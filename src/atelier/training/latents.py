"""Training a small Stable Diffusion: first the autoencoder, then text encoder and denoiser together on its latents."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from atelier.data import images as image_data
from atelier.data import scenes
from atelier.data.images import ImageData, to_unit
from atelier.training.captions import build_tokenizer, tokenize, training_tokens, vocabulary_of
from atelier.training.evaluation import SNAPSHOT, loss_beside
from atelier.training.loop import Run, Session, Training, fit, generator, stratified_times
from atelier.training.recipes import Recipe, TextToImage
from atelier.training.targets import missed
from painters.files import locked, replacing
from painters.models.adapters import NetworkDenoiser
from painters.models.moments import gaussian_of
from painters.schedules import scaled_linear
from painters.theory.gaussian import Gaussian

SCHEDULE = scaled_linear()
"""Stable Diffusion's noise schedule."""


class TextToLatent(torch.nn.Module):
    """A text encoder and the denoiser it conditions, trained as one: (z_t, t, token ids) -> output."""

    def __init__(self, unet: torch.nn.Module, text_encoder: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, z: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Return the network's output (B, C, H, W) for latents z, times t (B,) and ``tokens`` (B, L)."""
        return self.unet(z, t, encoder_hidden_states=self.text_encoder(tokens)[0]).sample


@dataclass(frozen=True, eq=False)
class Latents:
    """Encoded pictures: posterior ``mean`` and ``std`` (n, C, H, W), and the factor that gives them unit variance."""

    mean: Tensor
    std: Tensor
    scale: float

    def clean(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Return scaled posterior means, the latents that the theory calls x_0."""
        return self.scale * self.mean[index]


def load_data(recipe: Recipe[TextToImage], folder: str | None = None) -> tuple[Recipe[TextToImage], ImageData]:
    """Return the recipe's scenes with their captions, or the reader's pictures in ``folder`` with theirs.

    Beside it the recipe as it applies to them.
    """
    size, channels = (recipe.kind.autoencoder[key] for key in ("sample_size", "in_channels"))
    if folder is None:
        return recipe, scenes.dataset(size, captions=recipe.kind.caption_versions)
    title = f"a small Stable Diffusion of a reader's own pictures, {size} x {size} RGB"
    own = replace(recipe, title=title, data="folder", data_licence="the reader's own")
    return own, image_data.folder(folder, size=size, channels=channels)


def build_autoencoder(recipe: Recipe[TextToImage]) -> torch.nn.Module:
    """Return the untrained autoencoder of a recipe, initialised from its seed."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(recipe.pace.seed)
    return AutoencoderKL(**recipe.kind.autoencoder)


def train_autoencoder(recipe: Recipe[TextToImage], data: ImageData, session: Session) -> Run:
    """Train (or continue) the autoencoder on |decode(z) - x| plus a weak pull of z ~ q(z | x) towards N(0, I).

    Minimises, per image, with z sampled from q and e = decode(z) - x,

        mean |e| + c mean e^2 + w (sum of the largest |e|) / (how many they are) + k KL(q || N(0, I)) / dim z

    with c = ``square_weight``, w = ``worst_weight`` over the ``worst_share`` of values with the largest error, and
    k = ``kl_weight``. The mean |e| alone forgets what is small and rare: a door is one part in two hundred of a scene.
    """
    kind, device = recipe.kind, session.device
    pace = replace(recipe.pace, steps=kind.autoencoder_steps, batch=kind.autoencoder_batch)

    def loss(network: Any, k: int) -> Tensor:
        draw = generator(pace.seed, k)
        index = torch.randint(len(data.train), (pace.batch,), generator=draw)
        x = to_unit(data.train[index]).to(device).contiguous(memory_format=torch.channels_last)
        posterior = network.encode(x).latent_dist
        eps = torch.randn(posterior.mean.shape, generator=draw).to(device)
        z = posterior.mean + posterior.std * eps
        error = (network.decode(z).sample - x).abs().flatten(1)
        worst = error.topk(round(kind.worst_share * error.shape[1]), dim=1, sorted=False).values
        loss = error.mean(1) + kind.square_weight * error.square().mean(1) + kind.worst_weight * worst.mean(1)
        return loss + kind.kl_weight * posterior.kl() / z[0].numel()

    # what shapes the second stage alone is left out, so that the autoencoder need not be trained again for it
    keys = ("autoencoder", "autoencoder_batch", "kl_weight", "square_weight", "worst_weight", "worst_share",
            "learning_rate", "warmup", "decay_after", "ema_gamma", "seed", "data")  # fmt: skip
    made_of = recipe.fingerprint(data=data.digest())
    training = Training(
        f"{recipe.name}, autoencoder",
        pace,
        lambda: build_autoencoder(recipe),
        loss,
        {key: made_of[key] for key in keys},
    )
    return fit(training, session)


def digest_of(network: torch.nn.Module) -> str:
    """Return a hash of a network's weights."""
    found = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        found.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


def latents_of(autoencoder: Any, data: ImageData, folder: Path) -> tuple[Latents, Latents]:
    """Return the latents of training and test images, kept in ``folder/latents.safetensors`` for the next start.

    They are encoded anew if the autoencoder or the data is another.
    """
    path = folder / "latents.safetensors"
    made_of = {"autoencoder": digest_of(autoencoder), "data": data.digest()}
    if not path.is_file() or _header(path) != made_of:
        train = encode(autoencoder, data.train, progress=True)
        test = encode(autoencoder, data.test, scale=train.scale)
        parts = {"train": train.mean, "train_std": train.std, "test": test.mean, "test_std": test.std}
        with replacing(path) as temporary:
            save_file(parts | {"scale": torch.tensor(train.scale)}, temporary, metadata=made_of)
    parts = load_file(path)
    scale = float(parts["scale"])
    return Latents(parts["train"], parts["train_std"], scale), Latents(parts["test"], parts["test_std"], scale)


def _header(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


@torch.no_grad()
def encode(
    autoencoder: Any, images: Tensor, *, scale: float | None = None, batch: int = 64, progress: bool = False
) -> Latents:
    """Return the latents of uint8 ``images`` (n, C, H, W); ``scale`` defaults to one over their standard deviation."""
    device = next(autoencoder.parameters()).device
    means, stds = [], []
    for part in tqdm(images.split(batch), desc="encoding", disable=not progress):
        posterior = autoencoder.encode(to_unit(part).to(device, memory_format=torch.channels_last)).latent_dist
        means.append(posterior.mean.cpu().contiguous())
        stds.append(posterior.std.cpu().contiguous())
    mean = torch.cat(means)
    return Latents(mean, torch.cat(stds), float(1 / mean.std()) if scale is None else scale)


def build(recipe: Recipe[TextToImage], tokenizer: Any) -> TextToLatent:
    """Return the untrained text encoder and denoiser of a recipe, initialised from its seed."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(recipe.pace.seed)
    config = CLIPTextConfig(
        **recipe.kind.text_encoder,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return TextToLatent(UNet2DConditionModel(**recipe.network), CLIPTextModel(config))


@dataclass(frozen=True, eq=False)
class Studio:
    """What the second stage works with: the trained autoencoder, its latents and their Gaussian, and the captions.

    ``tokens`` (V, n, L) are the training captions, ``made_of`` the digests of what the latents are made of.
    """

    autoencoder: Run
    train: Latents
    test: Latents
    gaussian: Gaussian
    tokenizer: Any
    tokens: Tensor
    made_of: dict[str, str]


def prepare(recipe: Recipe[TextToImage], data: ImageData, session: Session) -> Studio:
    """Return everything that training on latents needs: the autoencoder, trained first, and what follows from it."""
    own = replace(session, folder=session.folder / "autoencoder", steps=None)
    autoencoder = train_autoencoder(recipe, data, own)
    with locked(session.folder, wait=False):
        train, test = latents_of(autoencoder.average, data, session.folder)
    coder: Any = autoencoder.average
    coder.register_to_config(scaling_factor=train.scale)
    length = recipe.kind.text_encoder["max_position_embeddings"]
    tokenizer = build_tokenizer([text for version in data.captions for text in version], length=length)
    tokens = training_tokens(tokenizer, data.captions, seed=recipe.pace.seed)
    made_of = {"autoencoder_weights": digest_of(coder), "data": data.digest()}
    made_of |= {"vocabulary": vocabulary_of(tokenizer)}  # else the embeddings would stand for other words
    gaussian, _ = gaussian_of(train.clean().split(4096), rank=train.mean[0].numel())
    return Studio(autoencoder, train, test, gaussian, tokenizer, tokens, made_of)


def train_latents(recipe: Recipe[TextToImage], studio: Studio, session: Session) -> Run:
    """Train (or continue) text encoder and denoiser on latents and their captions.

    Minimises E|network(z_t, t, tokens) - target|^2 over uniform t, stratified over each batch, with a share of the
    captions replaced by the empty one. Resumable, and random draws per step, as in :func:`atelier.training.loop.fit`.
    """
    kind, pace, device = recipe.kind, recipe.pace, torch.device(session.device)
    train, tokens, empty = studio.train, studio.tokens, tokenize(studio.tokenizer, [""])

    def loss(network: Any, k: int) -> Tensor:
        draw = generator(pace.seed, k)
        n = pace.batch
        index = torch.randint(len(train.mean), (n,), generator=draw)
        version = torch.randint(len(tokens), (n,), generator=draw)
        posterior = train.mean[index] + train.std[index] * torch.randn((n, *train.mean.shape[1:]), generator=draw)
        eps = torch.randn(posterior.shape, generator=draw).to(device)
        t = stratified_times(n, draw).to(device)
        hidden = torch.rand(n, generator=draw) < kind.caption_dropout
        prompt = torch.where(hidden[:, None], empty, tokens[version, index]).to(device).long()
        z0 = (train.scale * posterior).to(device)
        call = lambda z, t: network(z, t, prompt)  # noqa: E731
        return missed(call, z0, eps, t, schedule=SCHEDULE, prediction=kind.prediction)

    def snapshot(run: Run) -> dict[str, Any]:
        return loss_beside(
            denoiser(run.average, recipe, empty), SCHEDULE, studio.test.clean(), studio.gaussian, at=SNAPSHOT
        )

    training = Training(
        recipe.name, pace, lambda: build(recipe, studio.tokenizer), loss, recipe.fingerprint(**studio.made_of), snapshot
    )
    return fit(training, session)


@torch.no_grad()
def denoiser(network: torch.nn.Module, recipe: Recipe[TextToImage], tokens: Tensor) -> NetworkDenoiser:
    """Return a network in training as a denoiser for prompts given as ``tokens`` (1 or B, L)."""
    pair: Any = network
    device = next(pair.parameters()).device
    condition = pair.text_encoder(tokens.to(device).long())[0]
    return NetworkDenoiser(
        lambda x, t, text: pair.unet(x, t, encoder_hidden_states=text).sample,
        SCHEDULE,
        recipe.kind.prediction,
        device,
        condition=condition,
        channels_last=True,
    )
