"""From a latent training run to a model folder in Stable Diffusion's layout."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from atelier.data.images import ImageData, to_unit
from atelier.training import latents as latent
from atelier.training.evaluation import denoising_loss
from atelier.training.loop import Run
from atelier.training.packing import publish, thinned
from atelier.training.recipes import LatentRecipe
from painters.levels import Levels
from painters.models.moments import save_moments

LOSS_LEVELS = 24
LOSS_IMAGES = 2000


def pack(
    run: Run,
    studio: latent.Studio,
    recipe: LatentRecipe,
    data: ImageData,
    out: str | Path,
    *,
    images: int = LOSS_IMAGES,
) -> Path:
    """Write averaged weights as a ``StableDiffusionPipeline`` folder in float16, with moments and card; returns it.

    ``moments.safetensors`` is the Gaussian of the training latents (scaled posterior means). The numbers of the card
    are those of the rounded weights. Nothing is left behind if it fails.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    pair: Any = run.average.half()
    coder: Any = studio.autoencoder.average.half()
    coder.register_to_config(scaling_factor=studio.train.scale)
    prediction: Any = recipe.prediction
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary)
        coder.save_pretrained(draft / "vae")
        pair.unet.save_pretrained(draft / "unet")
        pair.text_encoder.float().save_pretrained(draft / "text_encoder")  # read in its file's dtype
        _prefix(draft / "text_encoder" / "model.safetensors")
        _save_tokenizer(studio.tokenizer, draft / "tokenizer")
        DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            timestep_spacing="trailing",
        ).save_pretrained(draft / "scheduler")
        index = {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }
        (draft / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        save_moments(latent.references(studio.train)["gaussian"], draft / "moments.safetensors")
        pair.float()
        coder.float()
        facts = card(run, studio, recipe, data, images=images)
        (draft / "card.json").write_text(json.dumps(facts, indent=1) + "\n")
        return publish(draft, Path(out))


def card(
    run: Run, studio: latent.Studio, recipe: LatentRecipe, data: ImageData, *, images: int = LOSS_IMAGES
) -> dict[str, Any]:
    """Return the card: what the model is, how it was trained, its losses with and without the captions."""
    device = next(run.average.parameters()).device
    levels = Levels.of(latent.schedule_of(recipe), LOSS_LEVELS, spacing="logsnr")[:-1]
    z = studio.test.clean(slice(images))
    theory = latent.references(studio.train)
    tokens = latent.tokenize(studio.tokenizer, data.test_captions[: len(z)])
    free = denoising_loss(
        latent.unconditional(run.average, recipe, studio.tokenizer, device), z, levels, references=theory
    )
    told = denoising_loss(
        latent.denoiser(run.average, recipe, tokens, device), z, levels, references=theory, batch=len(z)
    )
    facts = {
        k: v for k, v in asdict(recipe).items() if k not in ("network", "text_encoder", "autoencoder", "name", "title")
    }
    pair: Any = run.average
    autoencoder = studio.autoencoder
    return {
        "name": recipe.name,
        "title": recipe.title,
        "prompts": data.test_captions[:8],
        "command": f"painters train {recipe.name} --steps {run.step}",
        "parameters": sum(p.numel() for m in (run.average, autoencoder.average) for p in m.parameters()),
        "parts": {
            "unet": sum(p.numel() for p in pair.unet.parameters()),
            "text_encoder": sum(p.numel() for p in pair.text_encoder.parameters()),
            "vae": sum(p.numel() for p in autoencoder.average.parameters()),
        },
        "training": facts
        | {
            "steps": run.step,
            "images": run.step * recipe.batch,
            "epochs": round(run.step * recipe.batch / len(data.train), 2),
            "hours": round(run.seconds / 3600, 2),
            "hardware": run.hardware,
        },
        "autoencoder": reconstruction(autoencoder.average, data, studio.train.scale, images=images)
        | {
            "steps": autoencoder.step,
            "images": autoencoder.step * recipe.autoencoder_batch,
            "hours": round(autoencoder.seconds / 3600, 2),
            "hardware": autoencoder.hardware,
            "curve": thinned(autoencoder.log),
        },
        "loss": free,
        "loss_with_caption": {k: told[k] for k in ("alpha", "sigma", "n", "loss", "loss_se")},
        "curve": thinned(run.log),
        "snapshots": run.snapshots,
    }


@torch.no_grad()
def reconstruction(autoencoder: Any, data: ImageData, scale: float, *, images: int, batch: int = 100) -> dict[str, Any]:
    """Measure what the autoencoder loses on test images: mean |x_hat - x| in [-1, 1] units, and the PSNR in dB."""
    absolute, squared = [], []
    for part in data.test[:images].split(batch):
        x = to_unit(part)
        error = autoencoder.decode(autoencoder.encode(x).latent_dist.mean).sample.clamp(-1, 1) - x
        absolute.append(error.abs().flatten(1).mean(1))
        squared.append(error.square().flatten(1).mean(1))
    mean_square = torch.cat(squared)
    return {
        "scaling_factor": scale,
        "absolute_error": float(torch.cat(absolute).mean()),
        "psnr": float((10 * torch.log10(4 / mean_square)).mean()),
        "n": images,
    }


def _prefix(path: Path) -> None:
    """Name text weights as transformers 4 does, ``text_model.``...; version 5 reads these names as well."""
    weights = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer as every version of transformers reads it: tokenizer.json, and vocab.json with merges.txt."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n")
    lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
