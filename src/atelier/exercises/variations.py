"""Solutions and inputs of the exercises of the page variations."""

import math

import torch

from .task import Task


def keep_first(x, fresh, mu, U, lam, level, k):
    alpha, sigma = level
    spread = (alpha**2 * lam + sigma**2).sqrt()
    new = alpha * mu + ((fresh @ U) * spread) @ U.T
    first = U[:, :k]
    return new + (x - new) @ first @ first.T


def a_state(generator):
    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    U = torch.linalg.qr(draw(6, 6)).Q
    angle = float(torch.rand(1, generator=generator)) + 0.2
    lam = draw(6).exp().sort(descending=True).values
    level = (math.cos(angle), math.sin(angle))
    return draw(4, 6), draw(4, 6), draw(6), U, lam, level, 2


TASKS = (Task("ex-variations-keep", "keep the first k", keep_first, a_state),)
