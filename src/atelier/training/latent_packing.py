"""From a latent training run to a model folder in Stable Diffusion's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from atelier.data.images import ImageData, to_unit
from atelier.training.captions import save_tokenizer, tokenize
from atelier.training.evaluation import CARD, loss_beside
from atelier.training.latents import SCHEDULE, Studio, denoiser
from atelier.training.loop import Run
from atelier.training.packing import card, count, effort, in_half, publishing, thinned, write_json
from atelier.training.recipes import FILE, Recipe, TextToImage
from painters.models.moments import save_moments


def pack_latents(run: Run, recipe: Recipe[TextToImage], studio: Studio, data: ImageData, out: str | Path) -> Path:
    """Write averaged weights as a ``StableDiffusionPipeline`` folder in float16, with moments and card; returns it.

    ``moments.safetensors`` is the Gaussian of the training latents (scaled posterior means). The numbers of the card
    are those of the rounded weights.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    pair: Any = run.average
    coder: Any = studio.autoencoder.average
    prediction: Any = recipe.kind.prediction
    with publishing(out) as draft:
        with in_half(pair, coder):
            coder.save_pretrained(draft / "vae")
            pair.unet.save_pretrained(draft / "unet")
        pair.text_encoder.save_pretrained(draft / "text_encoder")  # in float32, as it is read in its file's dtype
        _prefix(draft / "text_encoder" / "model.safetensors")
        save_tokenizer(studio.tokenizer, draft / "tokenizer")
        DDIMScheduler(**FILE["scheduler"], prediction_type=prediction).save_pretrained(draft / "scheduler")
        write_json(FILE["stable-diffusion"], draft / "model_index.json")
        save_moments(studio.gaussian, draft / "moments.safetensors")
        write_json(card_of(run, recipe, studio, data), draft / "card.json")
    return Path(out)


def card_of(run: Run, recipe: Recipe[TextToImage], studio: Studio, data: ImageData) -> dict[str, Any]:
    """Return the card: what the model is, how it was trained, its losses with and without the captions."""
    n, pair, autoencoder = len(data.train), run.average, studio.autoencoder
    parts: dict[str, Any] = {"unet": pair.unet, "text_encoder": pair.text_encoder, "vae": autoencoder.average}
    z, texts = studio.test.clean(slice(CARD[1])), {"loss": [""], "loss_with_caption": data.test_captions[: CARD[1]]}
    losses = {
        name: loss_beside(
            denoiser(pair, recipe, tokenize(studio.tokenizer, said)), SCHEDULE, z, studio.gaussian, batch=len(z)
        )
        for name, said in texts.items()
    }
    facts: dict[str, Any] = {
        "prompts": data.test_captions[:8],
        "parameters": count(*parts.values()),
        "parts": {name: count(part) for name, part in parts.items()},
        "autoencoder": reconstruction(autoencoder.average, data, studio.train.scale)
        | effort(autoencoder, autoencoder.step * recipe.kind.autoencoder_batch, n)
        | {"curve": thinned(autoencoder.log)},
    }
    return card(run, recipe, n, facts | losses)


@torch.no_grad()
def reconstruction(autoencoder: Any, data: ImageData, scale: float, *, batch: int = 100) -> dict[str, Any]:
    """Measure what the autoencoder loses on test images: mean |x_hat - x| in [-1, 1] units, and the PSNR in dB."""
    absolute, squared = [], []
    images, device = data.test[: CARD[1]], next(autoencoder.parameters()).device
    for part in images.split(batch):
        x = to_unit(part).to(device)
        error = autoencoder.decode(autoencoder.encode(x).latent_dist.mean).sample.clamp(-1, 1) - x
        absolute.append(error.abs().flatten(1).mean(1))
        squared.append(error.square().flatten(1).mean(1))
    return {
        "scaling_factor": scale,
        "absolute_error": float(torch.cat(absolute).mean()),
        "psnr": float((10 * torch.log10(4 / torch.cat(squared))).mean()),
        "n": len(images),
    }


def _prefix(path: Path) -> None:
    """Name text weights as transformers 4 does, ``text_model.``...; version 5 reads these names as well."""
    weights = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
