"""What a network is trained to return."""

from __future__ import annotations

from torch import Tensor

from painters.denoiser import PREDICTIONS, Prediction


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
