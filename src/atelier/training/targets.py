"""What a network is trained to return."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from painters.denoiser import Prediction
from painters.schedules import Schedule


def missed(
    network: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    eps: Tensor,
    t: Tensor,
    *,
    schedule: Schedule,
    prediction: Prediction,
) -> Tensor:
    """Return mean |network(x_t, t) - target|^2 for each of B clean states at training times ``t`` (B,), (B,).

    The target at x = alpha x_0 + sigma eps is eps for the prediction "epsilon", and alpha eps - sigma x_0, the
    v-prediction, for all other recipes.
    """
    a, s = (v.float().to(x0.device)[t].view(-1, 1, 1, 1) for v in schedule.table())
    x = (a * x0 + s * eps).contiguous(memory_format=torch.channels_last)
    target = eps if prediction == "epsilon" else a * eps - s * x0
    return (network(x, t) - target).square().flatten(1).mean(1)
