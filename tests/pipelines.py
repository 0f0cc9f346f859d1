"""Small random pipelines in every layout that is served, built and saved by diffusers itself; no network needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from atelier.pages.standins import SMALL, small_unet

WORDS = ("a", "red", "blue", "house", "tree", "hill", "under", "the", "sun", "ugly")
START, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 12
SCALED: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def unet(*, classes: int | None = None, **options: Any) -> UNet2DModel:
    """A pixel network of a few thousand weights for 8 x 8 images of two channels."""
    torch.manual_seed(0)
    return small_unet(
        num_class_embeds=classes, **{"sample_size": 8, "in_channels": 2, "out_channels": 2} | options
    ).eval()


def text_unet(**options: Any) -> UNet2DConditionModel:
    """A network that attends to text of width 16, for 4 x 8 x 8 latents, strongly enough that words matter."""
    torch.manual_seed(1)
    options = {"sample_size": 8, "in_channels": 4, "out_channels": 4} | options
    network = UNet2DConditionModel(
        block_out_channels=(8, 16),
        cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **SMALL,
        **options,
    )
    for name, weight in network.named_parameters():
        if "attn2" in name:
            weight.data.mul_(3.0)
    return network.eval()


def vae(**options: Any) -> AutoencoderKL:
    """A VAE with 4 x 8 x 8 latents for 3 x 16 x 16 images."""
    torch.manual_seed(2)
    network = AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        **({"scaling_factor": 0.7} | options),
    )
    return network.eval()


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer that knows ten words and every letter in them, from its own vocabulary and merges."""
    letters = sorted(set("".join(WORDS)))
    vocabulary = {token: i for i, token in enumerate([*letters, *(letter + "</w>" for letter in letters)])}
    merges: list[str] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            if (merge := f"{parts[0]} {parts[1]}") not in merges:
                merges.append(merge)
            parts = [parts[0] + parts[1], *parts[2:]]
            vocabulary.setdefault(parts[0], len(vocabulary))
    for mark in (START, END):
        vocabulary[mark] = len(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    marks = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS} | marks
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(str(folder))


def text_encoder(words: CLIPTokenizer, **options: Any) -> CLIPTextModel:
    """A CLIP text encoder of width 16; embeddings made large, so that words matter."""
    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **options,
    )
    network = CLIPTextModel(config)
    for name, weight in network.named_parameters():
        if "token_embedding" in name:
            weight.data.mul_(50.0)
    return network.eval()


def stable_diffusion(folder: Path, *, version: int = 1) -> StableDiffusionPipeline:
    """A Stable Diffusion pipeline: version 1 predicts noise (PNDM), version 2 predicts v down to pure noise (DDIM)."""
    words = tokenizer(folder / "tokenizer-source")
    if version == 1:
        scheduler: Any = PNDMScheduler(**SCALED, steps_offset=1, skip_prk_steps=True)
    else:
        scheduler = DDIMScheduler(
            **SCALED,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        )
    pipeline = StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(words),
        tokenizer=words,
        unet=text_unet(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
