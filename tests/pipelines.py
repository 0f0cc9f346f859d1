"""Small random pipelines in every layout that is served, built and saved by diffusers itself; no network needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PNDMScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from standins import SMALL, small_unet
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

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


SMALL_TRANSFORMER: dict[str, Any] = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}


def ddim(**options: Any) -> DDIMScheduler:
    """The scheduler of Stable Diffusion, without what it clips."""
    return DDIMScheduler(**(SCALED | {"clip_sample": False, "steps_offset": 1} | options))


def words(*names: str, length: int = 3, width: int = 16) -> dict[str, torch.Tensor]:
    """Random embeddings of a text, and their masks and pooled vectors, by the names of a pipeline's options."""
    torch.manual_seed(4)
    made = {}
    for name in names:
        shape = (1, width) if "pooled" in name else (1, length) if "mask" in name else (1, length, width)
        made[name] = torch.ones(shape) if "mask" in name else torch.randn(shape)
    return made


def embedded(kind: str) -> tuple[Any, dict[str, Any]]:
    """A pipeline of today's without its text encoders, and the options that its call needs instead of a prompt.

    Its weights are random, and large enough that the state, the time and the text matter.
    """
    size: dict[str, Any] = {"height": 16, "width": 16, "output_type": "latent"}
    none = {name: None for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")}
    masked = words("prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask", "negative_prompt_attention_mask")
    torch.manual_seed(5)
    if kind == "sd15":
        pipe = StableDiffusionPipeline(
            vae=vae(), unet=text_unet(), scheduler=ddim(), text_encoder=None, tokenizer=None, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        options = words("prompt_embeds", "negative_prompt_embeds")
    elif kind == "sdxl":
        added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 2, "class_embed_type": None}
        network = text_unet(projection_class_embeddings_input_dim=16 + 6 * 2, **added)
        pipe = StableDiffusionXLPipeline(vae=vae(), unet=network, scheduler=ddim(), **none)
        names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
        options = words(*names)
    elif kind == "sd3":
        network = SD3Transformer2DModel(
            **SMALL_TRANSFORMER, sample_size=8, in_channels=4, out_channels=4, joint_attention_dim=16,
            caption_projection_dim=16, pooled_projection_dim=16, pos_embed_max_size=8,
        )  # fmt: skip
        more = {"text_encoder_3": None, "tokenizer_3": None}
        pipe = StableDiffusion3Pipeline(
            network, FlowMatchEulerDiscreteScheduler(shift=3.0), vae(shift_factor=0.1), **none, **more
        )
        names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
        options = words(*names)
    elif kind == "flux":
        network = FluxTransformer2DModel(
            **SMALL_TRANSFORMER, in_channels=16, num_single_layers=1, joint_attention_dim=16, pooled_projection_dim=16,
            axes_dims_rope=(2, 2, 4), guidance_embeds=True,
        )  # fmt: skip
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
        pipe = FluxPipeline(scheduler=scheduler, vae=vae(), transformer=network, **none)
        options = words("prompt_embeds", "pooled_prompt_embeds")
    elif kind == "dit":
        network = DiTTransformer2DModel(
            **SMALL_TRANSFORMER, in_channels=4, out_channels=8, sample_size=8, num_embeds_ada_norm=1000
        )
        pipe, options, size = DiTPipeline(network, vae(), ddim()), {}, {}
    elif kind == "pixart":
        network = PixArtTransformer2DModel(
            **SMALL_TRANSFORMER, in_channels=4, out_channels=8, sample_size=8, cross_attention_dim=16,
            caption_channels=16, use_additional_conditions=False,
        )  # fmt: skip
        pipe = PixArtSigmaPipeline(None, None, vae(), network, ddim())
        options = {**masked, "negative_prompt": None, "use_resolution_binning": False}
    else:
        network = SanaTransformer2DModel(
            **SMALL_TRANSFORMER, in_channels=4, out_channels=4, num_cross_attention_heads=2, cross_attention_head_dim=8,
            cross_attention_dim=16, caption_channels=16, sample_size=8,
        )  # fmt: skip
        scheduler = DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=1
        )
        pipe = SanaPipeline(None, None, None, network, scheduler)
        options = {**masked, "negative_prompt": None, "use_resolution_binning": False}
        size |= {"height": 256, "width": 256}  # as without a VAE it takes 32 pixels for each number along a side
    for name, part in pipe.components.items():
        if name in ("unet", "transformer"):
            part.eval()
            torch.manual_seed(6)
            for weight in part.parameters():  # transformers begin as the identity, their last layers at zero
                weight.data.add_(0.1 * torch.randn(weight.shape))
    pipe.set_progress_bar_config(disable=True)
    return pipe, {**options, **size}
