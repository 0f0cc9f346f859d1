"""How good a denoiser is, level by level, beside the theory's own error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from painters.denoiser import Denoiser
from painters.levels import Levels
from painters.schedules import Schedule
from painters.theory.gaussian import Gaussian

SNAPSHOT = (12, 512)
CARD = (24, 2000)
"""How many levels and test images: a snapshot interrupts the training, so it is measured on less than the model."""


def loss_beside(
    denoise: Denoiser,
    schedule: Schedule,
    x0: Tensor,
    gaussian: Gaussian,
    *,
    at: tuple[int, int] = CARD,
    batch: int = 256,
) -> dict[str, Any]:
    """Return :func:`denoising_loss` on ``at`` (levels, images) of test states, beside the Gaussian and the mean.

    The levels are even in log-SNR over the training range.
    """
    levels, images = Levels.of(schedule, at[0], spacing="logsnr")[:-1], x0[: at[1]]
    return denoising_loss(denoise, images, levels, references=references(gaussian), batch=batch)


def references(gaussian: Gaussian) -> dict[str, Denoiser]:
    """Return the two denoisers every network is measured beside: the Gaussian of its data, and the constant mean."""
    return {"gaussian": gaussian, "mean": Gaussian.of(gaussian.mu, 0.0)}


def denoising_loss(
    denoise: Denoiser,
    images: Tensor,
    levels: Levels,
    *,
    references: Mapping[str, Denoiser] | None = None,
    seed: int = 0,
    batch: int = 256,
) -> dict[str, Any]:
    """Measure E|x0_hat - x_0|^2 (summed over pixels) of a denoiser at each of ``levels`` on ``images`` (n, ...).

    The same noise, drawn from ``seed``, serves every denoiser and level. For each of ``references`` it also
    reports that denoiser's own loss and the distance E|D - D_ref|^2; ``norm`` is E|D - mean|^2.
    Returns lists of N + 1 numbers, JSON-serialisable, with the standard error of the loss.
    """
    references = references or {}
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    centre = images.mean(0)
    result: dict[str, Any] = {"alpha": levels.alpha.tolist(), "sigma": levels.sigma.tolist(), "n": len(images)}
    columns = ["loss", "loss_se", "norm", *(f"{name}_{what}" for name in references for what in ("loss", "apart"))]
    result |= {key: [] for key in columns}
    for alpha, sigma in levels:
        sums = {key: [] for key in columns if key != "loss_se"}
        for x0, eps in zip(images.split(batch), noise.split(batch)):
            x = alpha * x0 + sigma * eps
            estimate = denoise(x, alpha, sigma)
            sums["loss"].append(_squared(estimate - x0))
            sums["norm"].append(_squared(estimate - centre))
            for name, reference in references.items():
                other = reference(x, alpha, sigma)
                sums[f"{name}_loss"].append(_squared(other - x0))
                sums[f"{name}_apart"].append(_squared(estimate - other))
        per_image = {key: torch.cat(values) for key, values in sums.items()}
        for key, values in per_image.items():
            result[key].append(float(values.mean()))
        result["loss_se"].append(float(per_image["loss"].std() / len(images) ** 0.5))
    return result


def _squared(x: Tensor) -> Tensor:
    return x.double().flatten(1).pow(2).sum(1)
