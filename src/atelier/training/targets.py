"""What a network is trained to return."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from painters.denoiser import PREDICTIONS, Prediction
from painters.levels import Schedule


def target(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, *, prediction: Prediction) -> Tensor:
    """Return the training target of a network with this prediction type, at x = alpha x_0 + sigma eps."""
    if prediction == "epsilon":
        return eps
    if prediction == "v_prediction":
        return alpha * eps - sigma * x0
    if prediction == "sample":
        return x0
    if prediction == "flow_prediction":
        return eps - x0
    if prediction == "score":
        return -eps / sigma
    raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")


def missed(
    network: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    eps: Tensor,
    t: Tensor,
    *,
    schedule: Schedule,
    prediction: Prediction,
) -> Tensor:
    """Return mean |network(x_t, t) - target|^2 for each of B clean states at training times ``t`` (B,), (B,)."""
    a, s = (v.float().to(x0.device)[t].view(-1, 1, 1, 1) for v in schedule.table())
    x = (a * x0 + s * eps).contiguous(memory_format=torch.channels_last)
    return (network(x, t) - target(x0, eps, a, s, prediction=prediction)).square().flatten(1).mean(1)
