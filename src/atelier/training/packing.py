"""From a training run to a model folder: diffusers layout, float16 weights, moments, and a card with numbers."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atelier.data.images import ImageData, to_unit
from atelier.training.evaluation import denoising_loss
from atelier.training.pixels import Run, evaluation_levels, gaussian_of, references, unconditional
from atelier.training.recipes import Recipe
from painters.files import replacing
from painters.models.moments import save_moments

LOSS_LEVELS = 24
LOSS_IMAGES = 2000


def pack(run: Run, recipe: Recipe, data: ImageData, out: str | Path, *, images: int = LOSS_IMAGES) -> Path:
    """Write the averaged weights of ``run`` as a model folder that :func:`painters.load` reads, and return its path.

    The folder holds ``unet/`` and ``scheduler/`` as diffusers writes them (weights in float16), ``model_index.json``,
    ``moments.safetensors`` and ``card.json``, whose test losses (first ``images`` test images) are those of the rounded
    weights. Nothing is left behind if it fails.
    """
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    out = Path(out)
    network: Any = run.average.half()
    prediction: Any = recipe.prediction
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary)
        network.save_pretrained(draft / "unet")
        DDPMScheduler(
            beta_schedule="linear", prediction_type=prediction, clip_sample=False, timestep_spacing="trailing"
        ).save_pretrained(draft / "scheduler")
        index = {
            "_class_name": "DDPMPipeline",
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        }
        (draft / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        if recipe.moments is not None:
            save_moments(gaussian_of(data, rank=recipe.moments), draft / "moments.safetensors")
        network.float()
        (draft / "card.json").write_text(json.dumps(card(run, recipe, data, images=images), indent=1) + "\n")
        return publish(draft, out)


def publish(draft: Path, out: Path) -> Path:
    """Copy every file of ``draft`` to ``out``, each whole or not at all, and return ``out``."""
    for file in sorted(path for path in draft.rglob("*") if path.is_file()):
        with replacing(out / file.relative_to(draft)) as target:
            shutil.copyfile(file, target)
    return out


def card(run: Run, recipe: Recipe, data: ImageData, *, images: int = LOSS_IMAGES) -> dict[str, Any]:
    """Return the card of a run: what it is, how it was trained, and its test losses beside the Gaussian's.

    ``loss`` is measured at many levels, ``snapshots`` at the fewer of the learning-dynamics figures, both as
    :func:`atelier.training.evaluation.denoising_loss` returns them.
    """
    device = next(run.average.parameters()).device
    test = to_unit(data.test[:images])
    recipe_facts = {
        k: v for k, v in asdict(recipe).items() if k not in ("network", "name", "title", "classes", "moments")
    }
    return {
        "name": recipe.name,
        "title": recipe.title,
        "classes": list(recipe.classes),
        "null_label": recipe.null_label,
        "command": f"painters train {recipe.name} --steps {run.step}",
        "parameters": sum(p.numel() for p in run.average.parameters()),
        "training": recipe_facts
        | {
            "steps": run.step,
            "images": run.step * recipe.batch,
            "epochs": round(run.step * recipe.batch / len(data.train), 2),
            "hours": round(run.seconds / 3600, 2),
            "hardware": run.hardware,
        },
        "loss": denoising_loss(
            unconditional(run.average, recipe, device),
            test,
            evaluation_levels(recipe, LOSS_LEVELS),
            references=references(data),
        ),
        "curve": thinned(run.log),
        "snapshots": run.snapshots,
    }


def thinned(log: list[dict[str, Any]], points: int = 120) -> list[dict[str, Any]]:
    """Average a long training log over stretches, so that at most ``points`` remain."""
    size = -(-len(log) // points) if log else 1
    return [
        {"step": part[-1]["step"], "loss": round(sum(entry["loss"] for entry in part) / len(part), 5)}
        for part in (log[i : i + size] for i in range(0, len(log), size))
    ]
