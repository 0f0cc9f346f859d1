"""Solutions and inputs of the exercises of the page derivation."""

import torch

from .task import Task


def level(betas):
    alpha = (1 - betas).prod().sqrt()
    return float(alpha), float((1 - alpha**2).sqrt())


def some_betas(generator):
    return (0.3 * torch.rand(8, generator=generator, dtype=torch.float64),)


def heun(denoise, x, here, there):
    def noise(x, alpha, sigma):
        return (x - alpha * denoise(x, alpha, sigma)) / sigma

    (alpha, sigma), (a, s) = here, there
    eps = noise(x, alpha, sigma)
    arrived = a * (x - sigma * eps) / alpha + s * eps
    return arrived + a * (s / a - sigma / alpha) / 2 * (noise(arrived, a, s) - eps)


def two_levels(generator):
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    turn = torch.rand(2, generator=generator).sort().values * 1.3 + 0.1
    pairs = list(zip(turn.cos().tolist(), turn.sin().tolist()))
    return (lambda x, alpha, sigma: torch.tanh(3 * alpha * x / sigma**2)), x, pairs[1], pairs[0]


TASKS = (
    Task("ex-derivation-chain", "from a chain to a level", level, some_betas, rtol=1e-9),
    Task("ex-derivation-heun", "one step of Heun's method", heun, two_levels, rtol=1e-9),
)
