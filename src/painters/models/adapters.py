"""From a trained network to a denoiser: scale of the input, time, prediction type, condition, guidance."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from painters.denoiser import Prediction, Scalar, column, endpoint, floating
from painters.schedules import Schedule, rescale

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A bare network call: (x, t, condition) -> output, with ``t`` (B,) in the network's own units."""


def call_unet(network: Callable[..., Any]) -> Network:
    """Return a module or function as a bare function (x, t, condition) -> output.

    The condition, where there is one, is its third argument: the class labels of a diffusers ``UNet2DModel``, the text
    embedding of a ``UNet2DConditionModel``, or what a plain module takes there. The output may be a tensor, carry one
    as ``.sample``, be a tuple that starts with it, or a dict that holds it alone or as "sample". ``ValueError`` else.
    """

    def call(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        output = network(x, t) if condition is None else network(x, t, condition)
        if isinstance(output, Tensor):
            return output
        found = getattr(output, "sample", None)
        if isinstance(output, Mapping):
            found = output.get("sample", next(iter(output.values())) if len(output) == 1 else None)
        elif isinstance(output, (tuple, list)) and output:
            found = output[0]
        if not isinstance(found, Tensor):
            keys = f" of {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
            raise ValueError(
                f"no prediction is found in the {type(output).__name__}{keys} that the network returned: wrap it in a "
                "function that returns one tensor"
            )
        return found

    return call


@dataclass(frozen=True, eq=False)
class NetworkDenoiser:
    """A trained network as a :class:`~painters.denoiser.Denoiser`.

    ``schedule`` is the one it was trained with: a state at any level is rescaled to the network's coordinates, and its
    time is ``schedule.time``. ``prediction`` says what it predicts; of an output with twice the channels of x (a
    learned variance) the first half is used. ``condition`` and ``unconditional``, (1 or B, ...), are passed to the
    network; with ``guidance`` w other than 1 both are evaluated in one batch of 2B and combined as
    out_u + w (out_c - out_u) (classifier-free guidance). ``shape`` is that of one state, checked where given.
    ``times`` are the dtypes of time that the network takes: training indices go in as integers where they are whole and
    an integer is among ``times``. Arithmetic outside the network stays in the dtype of x (for the combination, at least
    float32), inside it runs in ``dtype``. ``grad=True`` keeps the graph, for Jacobians.
    """

    network: Network = field(repr=False)
    schedule: Schedule
    prediction: Prediction
    device: torch.device
    dtype: torch.dtype = torch.float32
    condition: Tensor | None = field(default=None, repr=False)
    unconditional: Tensor | None = field(default=None, repr=False)
    guidance: float = 1.0
    shape: tuple[int, ...] | None = None
    channels_last: bool = field(default=False, repr=False)
    grad: bool = False
    times: tuple[torch.dtype, ...] = field(default=(torch.int64, torch.float32), repr=False)

    def __post_init__(self) -> None:
        if self.guidance != 1.0 and (self.condition is None or self.unconditional is None):
            raise ValueError("guidance needs a condition and an unconditional one to guide away from")

    @property
    def calls(self) -> int:
        """Network evaluations per sample and call: 2 under guidance, else 1."""
        return 1 if self.guidance == 1.0 else 2

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return x0_hat for ``x`` (B, ...) at the given level.

        Raises ``ValueError`` outside the training range, and for states of another shape or not in floating point.
        """
        shape = tuple(floating(x, "a state").shape[1:])
        if self.shape not in (None, shape):
            raise ValueError(
                f"a state of this model has shape {self.shape}, got {shape}: model.encode makes states of images"
            )
        x = x if self.grad else x.detach()  # else x_0 = alpha x - sigma v would keep half of its graph
        a, s = column(alpha, x).cpu(), column(sigma, x).cpu()
        t = self._timed(self.schedule.time(a, s))
        c = rescale(a, s, self.schedule.coordinates)
        scaled = x * c.to(x)
        with contextlib.nullcontext() if self.grad else torch.no_grad():
            output = self._evaluate(scaled, t.expand(len(x)) if len(t) == 1 else t).to(x.device)
        exact = torch.promote_types(x.dtype, torch.float32)
        a, s = (c * a).to(x.device, exact), (c * s).to(x.device, exact)
        return endpoint(scaled, output, a, s, prediction=self.prediction).to(x.dtype)

    def _timed(self, t: Tensor) -> Tensor:
        """Times as the network takes them: whole ones as integers, which index a table; none is rounded to be one."""
        if self.schedule.steps is not None and torch.int64 in self.times and torch.equal(t, t.round()):
            return t.long().to(self.device)
        real = next((dtype for dtype in self.times if dtype.is_floating_point), None)
        if real is None:
            raise ValueError(
                f"this network takes whole times only and was asked at {t.tolist()[0]:.4g}: take training levels, as "
                "model.levels(n, spacing='trailing') does, and a solver that stays on them"
            )
        return t.to(real).to(self.device)  # in this order: some devices have no float64

    def _evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        x = x.to(self.device, self.dtype)
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        condition, without = (self._batch(c, len(x)) for c in (self.condition, self.unconditional))
        if self.guidance == 1.0 or condition is None or without is None:
            return kept(self.network(x, t, condition), x)
        x = torch.cat([x, x])
        output = kept(self.network(x, torch.cat([t, t]), torch.cat([without, condition])), x)
        without, with_ = output.to(torch.promote_types(output.dtype, torch.float32)).chunk(2)
        return without + self.guidance * (with_ - without)

    def _batch(self, condition: Tensor | None, n: int) -> Tensor | None:
        if condition is None:
            return None
        if len(condition) not in (1, n):
            raise ValueError(f"{len(condition)} conditions for a batch of {n}: give one, or one per image")
        return condition.to(self.device).expand(n, *condition.shape[1:])


def kept(output: Tensor, x: Tensor) -> Tensor:
    """Return the part of an output that predicts something of x. Raises ``ValueError`` as :func:`doubled` does."""
    return output[:, : x.shape[1]] if doubled(output.shape[1:], x.shape[1:]) else output


def doubled(made: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Return whether a network makes twice the channels of a state, the second half being a learned variance.

    Raises ``ValueError`` unless it makes these or the shape itself, so also for what would broadcast against it.
    """
    if tuple(made) not in (tuple(shape), (2 * shape[0], *shape[1:])):
        raise ValueError(
            f"the network turns states of shape {tuple(shape)} into {tuple(made)}: a denoiser returns their shape, or "
            "twice the channels if it learned a variance"
        )
    return tuple(made) != tuple(shape)
