"""Solutions and inputs of the exercises of the page modes."""

import torch

from .task import Task


def product(f, x, v):
    x = x.detach().requires_grad_()
    y = f(x)
    u = torch.zeros_like(y, requires_grad=True)
    (pulled,) = torch.autograd.grad(y, x, u, create_graph=True)
    return torch.autograd.grad(pulled, u, v)[0].detach()


def a_map(generator):
    A, x, v = (torch.randn(n, generator=generator, dtype=torch.float64) for n in ((3, 5), 5, 5))
    return (lambda z: torch.tanh(A @ z)), x, v


TASKS = (Task("ex-modes-product", "the product", product, a_map),)
