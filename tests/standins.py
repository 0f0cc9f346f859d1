"""Small pipelines of random weights in the layout of large ones, so that their code runs without network or GPU.

Schedulers, state shapes and file names are those of the real model; the networks are tiny and untrained. Nothing that
is measured on a stand-in means anything, and its card says so.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch

from painters.models.folders import quiet
from painters.models.registry import BUNDLED

LABEL = "random weights: numbers mean nothing"
SMALL: dict[str, Any] = {"layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 8}


def stand_in(kind: Literal["pixel", "latent"], folder: str | Path | None = None) -> Path:
    """Write a stand-in to ``folder`` (a temporary one by default) and return its path, which ``painters.load`` takes.

    ``"pixel"``: 32 x 32 RGB with the scheduler of google/ddpm-cifar10-32. ``"latent"``: Stable Diffusion with
    4 x 64 x 64 latents, 512 x 512 pictures and the scheduler of version 1.5. Weights come from a fixed seed.
    """
    name = {"pixel": "random-ddpm-32", "latent": "random-stable-diffusion"}[kind]
    out = Path(tempfile.mkdtemp()) / name if folder is None else Path(folder)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        pipeline, parts = ("DDPMPipeline", _pixel()) if kind == "pixel" else ("StableDiffusionPipeline", _latent())
        for part, value in parts.items():
            value.save_pretrained(str(out / part))
    origin = {part: [type(value).__module__.split(".")[0], type(value).__name__] for part, value in parts.items()}
    (out / "model_index.json").write_text(json.dumps({"_class_name": pipeline} | origin))
    (out / "card.json").write_text(json.dumps({"name": name, "title": LABEL, "random": True}))
    return out


def small_unet(**options: Any) -> Any:
    """Return a diffusers ``UNet2DModel`` of a few thousand random weights, with the given ``options`` of its own."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    return UNet2DModel(
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        **SMALL | options,
    )


def _pixel() -> dict[str, Any]:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    # The real one clips, which load says and does not follow: no matter for a page that is built.
    scheduler = DDPMScheduler(1000, 1e-4, 0.02, "linear", variance_type="fixed_large", clip_sample=False)
    return {"unet": small_unet(sample_size=32), "scheduler": scheduler}


def _latent() -> dict[str, Any]:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_pndm import PNDMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    # words and the shape of their encoder are those of the bundled model, longer as in the real one
    words = CLIPTokenizer.from_pretrained(str(BUNDLED / "scenes-sd" / "tokenizer"), model_max_length=77)
    config = CLIPTextConfig.from_pretrained(str(BUNDLED / "scenes-sd" / "text_encoder"), max_position_embeddings=77)
    network = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(4, 4, 8),
        cross_attention_dim=config.hidden_size,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        **SMALL,
    )
    blocks: Any = {
        "block_out_channels": (4, 4, 4, 4),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    vae = AutoencoderKL(norm_num_groups=4, layers_per_block=1, sample_size=512, scaling_factor=0.18215, **blocks)
    scheduler = PNDMScheduler(1000, 0.00085, 0.012, "scaled_linear", skip_prk_steps=True, steps_offset=1)
    text = CLIPTextModel(config)
    return {"unet": network, "vae": vae, "text_encoder": text, "tokenizer": words, "scheduler": scheduler}
