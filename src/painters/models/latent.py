"""What a latent text-to-image model has besides its network: a VAE between images and latents, and a text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

CHUNK_PIXELS = 2**18
"""Images go through the VAE in chunks of at most so many pixels, or one by one: 64 of 64 x 64, one of 512 x 512."""


@dataclass(frozen=True, eq=False)
class Codec:
    """The VAE of a latent model, a diffusers ``AutoencoderKL``: deterministic, and in its own dtype.

    That is float32 wherever ``load`` reads it, since half precision overflows in some. Latents are
    z = (E[z | image] - ``shift``) ``scale``, with the mean of the encoder's posterior, in the units the network was
    trained in. ``factor``: pixels of an image for one of its latent, along a side. Gradients pass through both
    directions where the input asks for them.
    """

    vae: Any = field(repr=False)
    device: torch.device

    @property
    def scale(self) -> float:
        """The factor that brings the posterior's mean to the network's units."""
        return float(self.vae.config.scaling_factor)

    @property
    def shift(self) -> float:
        """What is taken from the posterior's mean before scaling; 0 in Stable Diffusion."""
        return float(self.vae.config.shift_factor or 0.0)

    @property
    def factor(self) -> int:
        """Pixels along a side of an image for one along a side of its latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def image_shape(self, latent_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape (C, H, W) of the images whose latents have ``latent_shape``."""
        return (self.vae.config.out_channels, *(n * self.factor for n in latent_shape[1:]))

    def decode(self, z: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1], clamped, for latents (B, c, h, w); at least float32, where z lives."""
        pixels = z.shape[-2] * z.shape[-1] * self.factor**2
        chunks = z.to(self.device, self.vae.dtype).split(max(1, CHUNK_PIXELS // pixels))
        images = torch.cat([self.vae.decode(part / self.scale + self.shift).sample for part in chunks])
        return (images / 2 + 0.5).clamp(0, 1).to(z.device, torch.promote_types(z.dtype, torch.float32))

    def encode(self, images: Tensor) -> Tensor:
        """Return latents (B, c, h, w) for images (B, C, H, W) in [0, 1]; at least float32, where the images live."""
        pixels = images.shape[-2] * images.shape[-1]
        chunks = (images * 2 - 1).to(self.device, self.vae.dtype).split(max(1, CHUNK_PIXELS // pixels))
        mean = torch.cat([self.vae.encode(part).latent_dist.mean for part in chunks])
        z = (mean - self.shift) * self.scale
        return z.to(images.device, torch.promote_types(images.dtype, torch.float32))


@dataclass(frozen=True, eq=False)
class TextConditioner:
    """The tokenizer and text encoder of a latent model: a prompt becomes the sequence its network attends to."""

    tokenizer: Any = field(repr=False)
    encoder: Any = field(repr=False)
    device: torch.device

    @property
    def limit(self) -> int:
        """Tokens that the encoder reads of a prompt, its start and end marks included."""
        return min(self.tokenizer.model_max_length, self.encoder.config.max_position_embeddings)

    def __call__(self, prompt: str | Sequence[str]) -> Tensor:
        """Return the embedding (B, tokens, width) of one prompt or of several, in the encoder's dtype.

        The empty prompt stands for "any image". Raises ``ValueError`` for a prompt that is not a text, or longer than
        the encoder reads: nothing is cut off silently.
        """
        texts = [prompt] if isinstance(prompt, str) or not isinstance(prompt, Sequence) else list(prompt)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"a prompt is a text, or one text per image, got {prompt!r}")
        for text, ids in zip(texts, self.tokenizer(texts, verbose=False).input_ids):
            if len(ids) > self.limit:
                shown = text if len(text) <= 40 else f"{text[:37]}..."
                raise ValueError(
                    f"the prompt {shown!r} has {len(ids)} tokens with its start and end marks and this model reads "
                    f"{self.limit}: shorten it"
                )
        tokens = self.tokenizer(texts, padding="max_length", max_length=self.limit, return_tensors="pt")
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self.device) if masked else None
        with torch.no_grad():
            return self.encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]
