"""Solutions and inputs of the exercises of the page intro."""

import torch

from .task import Task


def difference(x, x0, here, there):
    (alpha, sigma), (alpha_next, sigma_next) = here, there
    shrink = sigma_next / sigma
    return (alpha_next - shrink * alpha) * x0 - (1 - shrink) * x


def a_step(generator):
    x, x0 = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    angles = torch.rand(2, generator=generator, dtype=torch.float64).mul(1.5).sort(descending=True).values
    here, there = ((float(a.cos()), float(a.sin())) for a in angles)
    return x, x0, here, there


def own_is_nearest(first, second):
    apart = torch.cdist(first.flatten(1), second.flatten(1))
    own = apart.argmin(1) == torch.arange(len(first))
    return float(own.double().mean())


def two_batches(generator):
    first = torch.randn(12, 2, 4, generator=generator, dtype=torch.float64)
    return first, first + torch.randn(first.shape, generator=generator, dtype=torch.float64)


TASKS = (
    Task("ex-intro-difference", "the difference between two states", difference, a_step),
    Task("ex-intro-own", "own is nearest", own_is_nearest, two_batches),
)
