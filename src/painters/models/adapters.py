"""From a trained network to a denoiser: scale of the input, time, prediction type, condition, guidance."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from painters.denoiser import Prediction, Scalar, column, endpoint
from painters.levels import Schedule, rescale

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A bare network call: (x, t, condition) -> output, with ``t`` (B,) in the network's own units."""


def call_unet(network: torch.nn.Module) -> Network:
    """Return a network as a bare function (x, t, condition) -> output.

    The condition, where there is one, is its third argument: the class labels of a diffusers ``UNet2DModel``, the text
    embedding of a ``UNet2DConditionModel``, or what a plain module takes there. The output may be a tensor, or carry
    one as ``.sample``.
    """

    def call(x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        output = network(x, t) if condition is None else network(x, t, condition)
        return getattr(output, "sample", output)

    return call


@dataclass(frozen=True, eq=False)
class NetworkDenoiser:
    """A trained network as a :class:`~painters.denoiser.Denoiser`.

    ``schedule`` is the one it was trained with: a state at any level is rescaled to the network's coordinates, and
    its time is found by interpolating the training times in log-SNR. ``prediction`` says what it predicts.
    ``condition`` and ``unconditional``, (1 or B, ...), are passed to the network; with ``guidance`` w other than 1
    both are evaluated in one batch of 2B and combined as out_u + w (out_c - out_u) (classifier-free guidance).
    ``shape`` is that of one state, checked where given. Arithmetic outside the network stays in the dtype of x (for
    the combination, at least float32), inside it runs in ``dtype``. ``grad=True`` keeps the graph, for Jacobians.
    """

    network: Network
    schedule: Schedule
    prediction: Prediction
    device: torch.device
    dtype: torch.dtype = torch.float32
    condition: Tensor | None = None
    unconditional: Tensor | None = None
    guidance: float = 1.0
    shape: tuple[int, ...] | None = None
    channels_last: bool = False
    grad: bool = False

    def __post_init__(self) -> None:
        if self.guidance != 1.0 and (self.condition is None or self.unconditional is None):
            raise ValueError("guidance needs a condition and an unconditional one to guide away from")

    @property
    def calls(self) -> int:
        """Network evaluations per sample and call: 2 under guidance, else 1."""
        return 1 if self.guidance == 1.0 else 2

    def __call__(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Return x0_hat for ``x`` (B, ...) at the given level.

        Raises ``ValueError`` outside the training range, and for states of another shape.
        """
        if self.shape is not None and tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"a state of this model has shape {self.shape}, got {tuple(x.shape[1:])}: model.encode makes states of "
                "images"
            )
        x = x if self.grad else x.detach()  # else x_0 = alpha x - sigma v would keep half of its graph
        a, s = column(alpha, x).cpu(), column(sigma, x).cpu()
        t = self.time(a, s).to(self.device)
        c = rescale(a, s, self.schedule.coordinates)
        scaled = x * c.to(x)
        with contextlib.nullcontext() if self.grad else torch.no_grad():
            output = self._evaluate(scaled, t.expand(len(x)) if len(t) == 1 else t).to(x.device)
        return endpoint(scaled, output, *_known(c * a, c * s, x), prediction=self.prediction).to(x.dtype)

    def time(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the network's time for levels of any shape, float64 (n,), interpolated in log-SNR.

        Discrete schedules count training indices from 0; flow matching uses 1000 sigma / (alpha + sigma). Where the
        last training level is pure noise, whose log-SNR is infinite, the last interval is linear in alpha instead.
        """
        alpha, sigma = alpha.flatten().double().cpu(), sigma.flatten().double().cpu()
        if self.schedule.steps is None:
            if self.schedule.coordinates != "flow":
                raise ValueError(f"no network time is known for the continuous schedule {self.schedule.name!r}")
            return 1000 * sigma / (alpha + sigma)
        table_alpha, table_sigma = self.schedule.table()
        tiny, size = 1e-12, torch.hypot(alpha, sigma)
        alpha, sigma = alpha / size, sigma / size
        table = torch.log(table_sigma / table_alpha.clamp(min=tiny)).numpy()
        ratio = torch.log(sigma.clamp(min=tiny) / alpha.clamp(min=tiny)).numpy()
        if ratio.min() < table[0] - 1e-4 or ratio.max() > table[-1] + 1e-4:
            raise ValueError(
                f"the network was trained from sigma/alpha {np.exp(table[0]):.4g} to {np.exp(table[-1]):.4g} and was "
                f"asked at {np.exp(ratio.min()):.4g} ... {np.exp(ratio.max()):.4g}: take levels inside its range, "
                "e.g. model.levels(n)"
            )
        t = np.interp(ratio, table, np.arange(len(table), dtype=np.float64))
        if table_alpha[-1] == 0:
            t = np.where(ratio > table[-2], len(table) - 1 - (alpha / table_alpha[-2]).numpy(), t)
        nearest = np.round(t)
        return torch.from_numpy(np.where(np.abs(t - nearest) < 1e-4, nearest, t))

    def _evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        x = x.to(self.device, self.dtype)
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        t = t.to(self.device, torch.float32)
        if self.condition is None:
            return self.network(x, t, None)
        condition = self._batch(self.condition, len(x))
        if self.guidance == 1.0:
            return self.network(x, t, condition)
        assert self.unconditional is not None
        both = torch.cat([self._batch(self.unconditional, len(x)), condition])
        output = self.network(torch.cat([x, x]), torch.cat([t, t]), both)
        without, with_ = output.to(torch.promote_types(output.dtype, torch.float32)).chunk(2)
        return without + self.guidance * (with_ - without)

    def _batch(self, condition: Tensor, n: int) -> Tensor:
        if len(condition) not in (1, n):
            raise ValueError(f"{len(condition)} conditions for a batch of {n}: give one, or one per image")
        return condition.to(self.device).expand(n, *condition.shape[1:])


def _known(a: Tensor, s: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Levels in the precision the combination is done in: float64 on the CPU for a float64 x, else float32."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return a.to(x.device, dtype), s.to(x.device, dtype)
