"""Training a small Stable Diffusion: first the autoencoder, then text encoder and denoiser together on its latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from painters.data.images import ImageData, to_unit
from painters.models.loop import Run, fit, generator
from painters.models.recipes import LatentRecipe


def build_autoencoder(recipe: LatentRecipe) -> torch.nn.Module:
    """Return the untrained autoencoder of a recipe, initialised from its seed."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(recipe.seed)
    return AutoencoderKL(**recipe.autoencoder)


def train_autoencoder(
    recipe: LatentRecipe,
    data: ImageData,
    *,
    steps: int | None = None,
    folder: Path,
    device: str = "cpu",
    save_every: float = 120.0,
    progress: bool = True,
) -> Run:
    """Train (or continue) the autoencoder on |decode(z) - x| plus a weak pull of z ~ q(z | x) towards N(0, I).

    Minimises, per image, mean |x_hat - x| + ``kl_weight`` KL(q || N(0, I)) / dim z, with z sampled from q.
    """

    def loss(network: Any, k: int) -> tuple[Tensor, None]:
        draw = generator(recipe.seed, k)
        index = torch.randint(len(data.train), (recipe.autoencoder_batch,), generator=draw)
        x = to_unit(data.train[index]).to(device).contiguous(memory_format=torch.channels_last)
        posterior = network.encode(x).latent_dist
        eps = torch.randn(posterior.mean.shape, generator=draw).to(device)
        z = posterior.mean + posterior.std * eps
        error = (network.decode(z).sample - x).abs().flatten(1).mean(1)
        return error + recipe.kl_weight * posterior.kl() / z[0].numel(), None

    return fit(
        Run.new(lambda: build_autoencoder(recipe), device, learning_rate=recipe.learning_rate),
        loss,
        steps=steps or recipe.autoencoder_steps,
        folder=folder,
        learning_rate=recipe.rate,
        gamma=recipe.ema_gamma,
        name=f"{recipe.name}, autoencoder",
        save_every=save_every,
        progress=progress,
    )
