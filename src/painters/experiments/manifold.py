"""Searching for the image manifold near one image: three searches, at three prices, with one kind of result.

* :func:`endpoint_directions`: principal components of the path of the endpoint estimate. No further network call.
* :func:`one_step_directions`: singular directions of x_t -> x0_hat at one level.
* :func:`whole_directions`: singular directions of the whole map from noise to image, through the sampler.

For Gaussian data the three agree: the endpoint estimate moves in the span of the principal components (PCs), and the
maps have the PCs as singular vectors, with the values alpha lam / v and psi.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.linalg import gram_pca, jvp, singular, vjp
from painters.sampling.solvers import NEAR_PURE_NOISE
from painters.trajectory import Trajectory

Product = Callable[[Tensor], Tensor]
"""(m, ...) vectors -> (m, ...) their products with a matrix."""


@dataclass(frozen=True, eq=False)
class Directions:
    """k directions at one image, the strongest first.

    ``inputs`` (k, ...) and ``images`` (k, ...): unit vectors in the space that is mapped and in that of images, with
    J inputs_i = values_i images_i up to ``residuals_i``, the norm of J^T images_i - values_i inputs_i. For principal
    components of a path both are the component, the value is its singular value and the residual 0. ``nfe``: network
    calls, a product with a Jacobian counted as the passes it takes; ``seconds``: wall time.
    """

    inputs: Tensor
    images: Tensor
    values: Tensor
    residuals: Tensor
    nfe: int
    seconds: float

    def __len__(self) -> int:
        return len(self.values)


PUSH, PULL = 3, 2
"""Passes through the network of J v (one forward, two backward) and of J^T u (one forward, one backward)."""


def endpoint_directions(trajectory: Trajectory, k: int, *, sample: int = 0) -> Directions:
    """Return the first ``k`` principal components of the endpoint estimates of one sample, its mean removed.

    Values are singular values of the centred path (N, D), in units of the data. Raises ``ValueError`` for more
    components than the path has.
    """
    began = time.monotonic()
    path = trajectory.x0[:, sample : sample + 1]
    squares, scores = gram_pca(path)
    values = squares[0].sqrt()
    if not 1 <= k <= int((values > 1e-6 * values[0]).sum()):
        raise ValueError(f"this path has {int((values > 1e-6 * values[0]).sum())} components, asked for {k}")
    points = path.flatten(2)[:, 0].double()
    points = points - points.mean(0)
    rows = (scores[0, :, :k] / values[:k].square()).T.to(points) @ points
    vectors = torch.nn.functional.normalize(rows, dim=1).reshape(k, *path.shape[2:])
    seconds = time.monotonic() - began
    return Directions(vectors, vectors, values[:k].cpu(), torch.zeros(k).double(), 0, seconds)


def one_step_directions(denoise: Denoiser, x: Tensor, level: Level, *, start: Tensor, blocks: int = 4) -> Directions:
    """Return the leading singular directions of x -> x0_hat at one state ``x`` (...) and level.

    ``denoise`` keeps its graph, ``model.denoiser(grad=True)``. ``start`` (k, ...): guesses, such as the data's PCs;
    as many directions come back.
    """
    began = time.monotonic()

    def push(v: Tensor) -> Tensor:
        return jvp(lambda z: denoise(z, *level), x.expand_as(v), v)

    def pull(u: Tensor) -> Tensor:
        return vjp(lambda z: denoise(z, *level), x.expand_as(u), u)

    return _searched(push, pull, start, blocks, calls=1, began=began)


def whole_directions(denoise: Denoiser, x: Tensor, levels: Levels, *, start: Tensor, blocks: int = 4) -> Directions:
    """Return the leading singular directions of the map from the state ``x`` (...) at ``levels[0]`` to the image.

    The map is the DPM-Solver++(2M) run through ``levels``, see :class:`SamplerMap`. Otherwise as
    :func:`one_step_directions`; a value tells how far the image moves when the noise does by 1.
    """
    began = time.monotonic()
    run = SamplerMap(denoise, x, levels)
    return _searched(run.push, run.pull, start, blocks, calls=levels.steps, began=began)


class SamplerMap:
    """The map from a starting state to the image, with products by its Jacobian in memory that N does not change.

    A DPM-Solver++(2M) step is x' = c x + d (x0_hat + e (x0_hat - x0_hat_last)), linear in x, x0_hat and the last
    x0_hat. So J v goes through the steps forwards and J^T u backwards, one network graph at a time, at the states
    ``x`` (N + 1, ...) kept from one run. With ``order`` 1 the steps are DDIM's.
    """

    def __init__(self, denoise: Denoiser, x: Tensor, levels: Levels, *, order: int = 2) -> None:
        if order not in (1, 2):
            raise ValueError(f"the order of a sampler map is 1 (DDIM) or 2 (DPM-Solver++), got {order}")
        self.denoise, self.levels = denoise, list(levels)
        self.weights = _weights(self.levels, order)
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
        last = torch.zeros_like(v)
        for i, (c, d, e) in enumerate(self.weights):
            moved = jvp(self._step(i), self.x[i].expand_as(v), v)
            v, last = c * v + d * (moved + e * (moved - last)), moved
        return v

    def pull(self, u: Tensor) -> Tensor:
        """Return J^T u (m, ...) for directions ``u`` (m, ...) of the image."""
        owed = torch.zeros_like(u)  # what later steps ask of this step's endpoint estimate
        for i in reversed(range(len(self.weights))):
            c, d, e = self.weights[i]
            asked = d * (1 + e) * u + owed
            owed = -d * e * u
            u = c * u + vjp(self._step(i), self.x[i].expand_as(u), asked)
        return u

    def _step(self, i: int) -> Callable[[Tensor], Tensor]:
        return lambda z: self.denoise(z, *self.levels[i])


def _weights(levels: list[Level], order: int) -> list[tuple[float, float, float]]:
    """(c, d, e) of each step, see :class:`SamplerMap`; e as in :func:`painters.sampling.solvers.dpmpp2m`."""
    found, h_last = [], float("inf")
    logs = [torch.tensor(a / s).log().item() if a > NEAR_PURE_NOISE and s > 0 else None for a, s in levels]
    for i in range(len(levels) - 1):
        (alpha, sigma), (alpha_next, sigma_next) = levels[i], levels[i + 1]
        here, there = logs[i], logs[i + 1]
        h = float("inf") if here is None or there is None else there - here
        e = h / (2 * h_last) if order == 2 and h < float("inf") and h_last < float("inf") else 0.0
        c = sigma_next / sigma
        found.append((c, alpha_next - c * alpha, e))
        h_last = h
    return found


def _searched(push: Product, pull: Product, start: Tensor, blocks: int, *, calls: int, began: float) -> Directions:
    k, shape = len(start), start.shape[1:]
    found = singular(
        lambda v: push(v.reshape(-1, *shape)).flatten(1),
        lambda u: pull(u.reshape(-1, *shape)).flatten(1),
        start.flatten(1),
        blocks=blocks,
    )
    inputs, images = (part[:k].reshape(k, *shape) for part in (found.right, found.left))
    nfe = calls * (found.pushes * PUSH + found.pulls * PULL)
    return Directions(inputs, images, found.values[:k], found.residuals[:k], nfe, time.monotonic() - began)
