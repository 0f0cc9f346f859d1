"""Solutions and inputs of the exercises of the page gans."""

import torch

from .task import Task


def metric(generate, z):
    J = torch.func.jacfwd(lambda v: generate(v[None]).flatten())(z)
    return J.T @ J


def a_generator(generator):
    A, B = torch.randn(2, 5, 9, generator=generator, dtype=torch.float64)
    z = torch.randn(5, generator=generator, dtype=torch.float64)
    return lambda v: (v @ A).tanh() + (v @ B) ** 2, z


def turn(z):
    angle = z[:, :2].norm(dim=1)
    c, s = angle.cos(), angle.sin()
    x, y = z[:, 0], z[:, 1]
    first = torch.stack([c * x - s * y, s * x + c * y], 1)
    return torch.cat([first, z[:, 2:]], 1)


def some_rows(generator):
    return (torch.randn(7, 4, generator=generator, dtype=torch.float64),)


TASKS = (
    Task("ex-gans-metric", "the metric of a generator", metric, a_generator, trials=10),
    Task("ex-gans-turn", "a turn that keeps the normal law", turn, some_rows, rtol=1e-9),
)
