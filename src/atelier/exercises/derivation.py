"""Solutions and inputs of the exercises of the page derivation."""

import math

import torch

from .task import Task


def level(betas):
    alpha = (1 - betas).prod().sqrt()
    return float(alpha), float((1 - alpha**2).sqrt())


def some_betas(generator):
    return (0.3 * torch.rand(8, generator=generator, dtype=torch.float64),)


def reading(x, x_next, here, there):
    (alpha, sigma), (a, s) = here, there
    return (sigma * x_next - s * x) / (sigma * a - s * alpha)


def two_states(generator):
    x, x_next = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    turn = torch.rand(2, generator=generator).sort().values * math.pi / 2
    pairs = list(zip(turn.cos().tolist(), turn.sin().tolist()))
    return x, x_next, pairs[1], pairs[0]


TASKS = (
    Task("ex-derivation-chain", "from a chain to a level", level, some_betas, rtol=1e-9),
    Task("ex-derivation-read", "the estimate of a finished run", reading, two_states),
)
