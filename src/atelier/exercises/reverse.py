"""Solutions and inputs of the exercises of the page reverse."""

import torch

from .task import Task


def endpoints(x, v, u, alpha, sigma):
    from_v = (alpha * x - sigma * v) / (alpha**2 + sigma**2)
    return from_v, (x - sigma * u) / (alpha + sigma)


def any_scale(generator):
    x, v, u = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    alpha, sigma = (0.05 + 2 * torch.rand(2, generator=generator)).tolist()
    return x, v, u, alpha, sigma


TASKS = (Task("ex-reverse-endpoint", "endpoint estimates", endpoints, any_scale, rtol=1e-9),)
