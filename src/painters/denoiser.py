"""The one type everything shares: a denoiser is a function ``x0_hat = D(x, alpha, sigma)``.

The exact theory and a trained network both have it, so every experiment runs on both by changing one argument.
This module also holds the conversions between the things a network may predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample", "flow_prediction", "score"]
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v_prediction", "sample", "flow_prediction", "score")
Scalar = float | Tensor


class Denoiser(Protocol):
    """Maps a noisy state to an estimate of the clean data, E[x_0 | x] if it is exact.

    ``x``: (B, ...) in the coordinates of the given level, x = alpha x_0 + sigma eps. ``alpha``, ``sigma``: floats
    or tensors broadcastable to (B, 1, ...). Returns x0_hat with the shape and dtype of ``x``, finite at alpha = 0.
    """

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar, /) -> Tensor: ...


def floating(x: object, what: str) -> Tensor:
    """Return ``x`` if it is a tensor in floating point, the rule for whatever enters a denoiser or a theory.

    Anything else raises ``ValueError``: results have the dtype of a state, and bytes are in other units than the data.
    """
    if isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 0:
        return x
    got = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    raise ValueError(
        f"{what} must be a tensor in floating point and in the units of the data, got {got}: use .float(), and scale "
        "bytes first, as model.encode(images / 255) does"
    )


def column(value: Scalar, x: Tensor) -> Tensor:
    """Return a level's alpha or sigma in float64, on its own device, shaped (1 or B, 1, ...) to broadcast on ``x``.

    Raises ``ValueError`` if ``value`` is neither one number nor one per sample, or is negative or not finite.
    """
    value = torch.as_tensor(value, dtype=torch.float64)
    if value.numel() not in (1, x.shape[0]):
        raise ValueError(f"a level takes one alpha and sigma, or one per sample ({x.shape[0]}), got {value.numel()}")
    if value.device.type == "cpu" and not bool((torch.isfinite(value) & (value >= 0)).all()):
        raise ValueError(f"alpha and sigma must be finite and not negative, got {value.flatten().tolist()}")
    return value.reshape(-1, *(1,) * (x.ndim - 1))


def endpoint(x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor, *, prediction: Prediction) -> Tensor:
    """Return the endpoint estimate x0_hat that a network's output stands for.

    ``epsilon``: (x - sigma eps)/alpha; ``v_prediction`` (v = alpha eps - sigma x_0, alpha^2 + sigma^2 = 1):
    alpha x - sigma v; ``sample``: the output itself; ``flow_prediction`` (u = eps - x_0, alpha + sigma = 1):
    x - sigma u; ``score`` (s = grad log p(x) = -E[eps | x]/sigma): (x + sigma^2 s)/alpha. All tensors broadcast against
    ``x``. Raises ``ValueError`` for ``epsilon`` and ``score`` at alpha = 0, where the noise says nothing about the
    image; near it both lose digits, an error of the network counting sigma/alpha times.
    """
    if prediction == "v_prediction":
        return alpha * x - sigma * output
    if prediction == "sample":
        return output
    if prediction == "flow_prediction":
        return x - sigma * output
    if prediction in ("epsilon", "score"):
        if alpha.device.type == "cpu" and bool((alpha < 1e-8).any()):
            raise ValueError(
                f"a network that predicts {prediction} gives no endpoint estimate at alpha = 0: start below pure noise"
            )
        noise = output if prediction == "epsilon" else -sigma * output
        return (x - sigma * noise) / alpha
    raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")


@dataclass(frozen=True, eq=False)
class _Guided:
    conditional: Denoiser
    unconditional: Denoiser
    weight: float
    calls: int
    device: torch.device | None

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar, /) -> Tensor:
        without = self.unconditional(x, alpha, sigma)
        return without + self.weight * (self.conditional(x, alpha, sigma) - without)


def guided(conditional: Denoiser, unconditional: Denoiser, weight: float) -> Denoiser:
    """Return the denoiser x0_u + w (x0_c - x0_u): classifier-free guidance between any two, networks or theory.

    The endpoint estimate is linear in what a network predicts, so this equals guiding the outputs. ``weight`` 1 is the
    conditional denoiser itself. NFE count both: ``calls``. Source: Ho and Salimans (2022).
    """
    if weight == 1:
        return conditional
    calls = getattr(conditional, "calls", 1) + getattr(unconditional, "calls", 1)
    return _Guided(conditional, unconditional, weight, calls, getattr(conditional, "device", None))
