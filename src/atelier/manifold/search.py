"""Searching for the image manifold near one image: three searches, at three prices, with one kind of result.

* :func:`endpoint_directions`: principal components of the path of the endpoint estimate. No further network call.
* :func:`searched` on a :func:`step_map`: singular directions of x_t -> x0_hat at one level.
* :func:`whole_directions`: singular directions of the whole map from noise to image, through the sampler.

For Gaussian data the three agree: the endpoint estimate moves in the span of the principal components (PCs), and the
maps have the PCs as singular vectors, with the values alpha lam / v and psi.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from atelier.linalg import singular
from atelier.manifold.alignment import components
from painters.denoiser import Denoiser
from painters.levels import CLEAN, Level, Levels
from painters.linalg import Map, jvp, vjp
from painters.sampling.solvers import NEAR_PURE_NOISE
from painters.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Directions:
    """k directions at one image, the strongest first.

    ``inputs`` (k, ...) and ``images`` (k, ...): unit vectors in the space that is mapped and in that of images, with
    J inputs_i = values_i images_i up to ``residuals_i``, the norm of J^T images_i - values_i inputs_i. For principal
    components of a path both are the component, the value is its singular value and the residual 0. ``nfe``: network
    calls, a product with a Jacobian counted as the passes it takes.
    """

    inputs: Tensor
    images: Tensor
    values: Tensor
    residuals: Tensor
    nfe: int

    def __len__(self) -> int:
        return len(self.values)


PUSH, PULL = 3, 2
"""Passes through the network of J v (one forward, two backward) and of J^T u (one forward, one backward)."""


def endpoint_directions(trajectory: Trajectory, k: int, *, sample: int = 0) -> Directions:
    """Return the first ``k`` principal components of the endpoint estimates of one sample, its mean removed.

    Values are singular values of the centred path (N, D), in units of the data. Raises ``ValueError`` for more
    components than the path has.
    """
    path = trajectory.x0[:, sample : sample + 1]
    vectors, values = (part[0] for part in components(path, len(path)))
    there = int((values > 1e-6 * values[0]).sum())
    if not 1 <= k <= there:
        raise ValueError(f"this path has {there} components, asked for {k}")
    return Directions(vectors[:k], vectors[:k], values[:k].cpu(), torch.zeros(k).double(), 0)


def whole_directions(
    denoise: Denoiser, x: Tensor, levels: Levels, *, start: Tensor, blocks: int = 4, width: int | None = None
) -> Directions:
    """Return the leading singular directions of the map from the state ``x`` (...) at ``levels[0]`` to the image.

    The map is the run of :class:`SamplerMap`. A value tells how far the image moves when the noise does by 1.
    """
    return searched(SamplerMap(denoise, x, levels), start, blocks=blocks, width=width)


class SamplerMap:
    """The map from a starting state to the image, with products by its Jacobian in memory that N does not change.

    A DPM-Solver++(2M) step is x' = c x + d (x0_hat + e (x0_hat - x0_hat_last)), linear in x, x0_hat and the last
    x0_hat. So J v goes through the steps forwards and J^T u backwards, one network graph at a time, at the states
    ``x`` (N + 1, ...) kept from one run.
    """

    def __init__(self, denoise: Denoiser, x: Tensor, levels: Levels) -> None:
        self.denoise, self.levels, self.calls = denoise, list(levels), levels.steps
        self.weights = _weights(self.levels)
        states, last = [x.detach()[None]], None
        for (c, d, e), level in zip(self.weights, self.levels):
            x0 = denoise(states[-1], *level).detach()
            states.append(c * states[-1] + d * (x0 if last is None else x0 + e * (x0 - last)))
            last = x0
        self.x = torch.cat(states)

    @property
    def image(self) -> Tensor:
        """The image (...) that the run ends at."""
        return self.x[-1]

    def push(self, v: Tensor) -> Tensor:
        """Return J v (m, ...) for directions ``v`` (m, ...) of the start."""
        return self._forwards(v, lambda i, v: jvp(self._step(i), self.x[i].expand_as(v), v))

    def columns(self, v: Tensor, *, chunk: int = 64) -> Tensor:
        """Return J v (m, ...) as :meth:`push` does, faster where m is large, in the memory of ``chunk`` states.

        All directions share the run's states, so one graph a step serves them all: J v is the derivative of u -> J^T u,
        taken for ``chunk`` directions at a time.
        """
        return self._forwards(v, lambda i, v: _columns(self._step(i), self.x[i], v, chunk)).detach()

    def pull(self, u: Tensor) -> Tensor:
        """Return J^T u (m, ...) for directions ``u`` (m, ...) of the image."""
        owed = torch.zeros_like(u)  # what later steps ask of this step's endpoint estimate
        for i in reversed(range(len(self.weights))):
            c, d, e = self.weights[i]
            asked = d * (1 + e) * u + owed
            owed = -d * e * u
            u = c * u + vjp(self._step(i), self.x[i].expand_as(u), asked)
        return u

    def _step(self, i: int) -> Map:
        return lambda z: self.denoise(z, *self.levels[i])

    def _forwards(self, v: Tensor, moved_by: Callable[[int, Tensor], Tensor]) -> Tensor:
        last = torch.zeros_like(v)
        for i, (c, d, e) in enumerate(self.weights):
            moved = moved_by(i, v)
            v, last = c * v + d * (moved + e * (moved - last)), moved
        return v


def step_map(denoise: Denoiser, x: Tensor, level: Level) -> SamplerMap:
    """Return the map x -> x0_hat at one state ``x`` (...) and level: that of a run of one step, which ends there."""
    alpha, sigma = torch.tensor([level, CLEAN], dtype=torch.float64).T
    return SamplerMap(denoise, x, Levels(alpha, sigma))


def _columns(f: Map, x: Tensor, v: Tensor, chunk: int) -> Tensor:
    """J v (m, ...) for directions ``v`` (m, ...) at one state ``x`` (...), from one graph of f."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x = x.detach()[None].requires_grad_()
        y = f(x)
        u = torch.zeros_like(y).requires_grad_()
        (pulled,) = torch.autograd.grad(y, x, u, create_graph=True, materialize_grads=True)
        if pulled.grad_fn is None:  # f does not depend on x
            return torch.zeros_like(v)
        parts = v.to(pulled)[:, None].split(chunk)
        found = [torch.autograd.grad(pulled, u, p, retain_graph=True, is_grads_batched=True)[0] for p in parts]
        return torch.cat(found)[:, 0].to(v)


def _weights(levels: list[Level]) -> list[tuple[float, float, float]]:
    """(c, d, e) of each step, see :class:`SamplerMap`; e as in :func:`painters.sampling.solvers.dpmpp2m`."""
    found, h_last = [], float("inf")
    logs = [torch.tensor(a / s).log().item() if a > NEAR_PURE_NOISE and s > 0 else None for a, s in levels]
    for i in range(len(levels) - 1):
        (alpha, sigma), (alpha_next, sigma_next) = levels[i], levels[i + 1]
        here, there = logs[i], logs[i + 1]
        h = float("inf") if here is None or there is None else there - here
        e = h / (2 * h_last) if h < float("inf") and h_last < float("inf") else 0.0  # else DDIM's step
        c = sigma_next / sigma
        found.append((c, alpha_next - c * alpha, e))
        h_last = h
    return found


def searched(run: SamplerMap, start: Tensor, *, blocks: int, width: int | None = None) -> Directions:
    """Return k leading singular directions of a map by block Krylov, as many as ``start`` (k, ...) has.

    ``start``: guesses, such as the data's PCs, of which the first ``width`` (default: all) begin the search; it takes
    width * blocks products J v, and as many J^T u. Narrow blocks reach an accuracy by fewer products, but multiply less
    at once, and may miss a value that more directions share. ``ValueError`` for fewer products than directions.
    """
    k, shape = len(start), start.shape[1:]
    width = width or k
    if not width <= k <= width * blocks:
        raise ValueError(f"{blocks} blocks of {width} cannot give {k} directions")
    found = singular(
        lambda v: run.push(v.reshape(-1, *shape)).flatten(1),
        lambda u: run.pull(u.reshape(-1, *shape)).flatten(1),
        start[:width].flatten(1),
        blocks=blocks,
    )
    inputs, images = (part[:k].reshape(k, *shape) for part in (found.right, found.left))
    nfe = run.calls * found.products * (PUSH + PULL)
    return Directions(inputs, images, found.values[:k], found.residuals[:k], nfe)
