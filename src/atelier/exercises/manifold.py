"""Solutions and inputs of the exercises of the page manifold."""

import torch

from .task import Task


def turn(U, lam, x, v):
    v = v - (v @ x) / (x @ x) * x
    v = v / v.norm()
    speed = ((v @ U) * lam.sqrt()).norm()
    apart = (2 * lam.sum()).sqrt() / 2
    return torch.asin(apart / (2 * x.norm() * speed))


def a_walk(generator):
    new = {"generator": generator, "dtype": torch.float64}
    U = torch.linalg.qr(torch.randn(40, 40, **new)).Q
    return U, torch.rand(40, **new) + 0.1, *torch.randn(2, 40, **new)


def knob(U, lam, x0, f):
    c = (x0 - x0.mean(0)).T @ (f - f.mean()) / len(f)
    w = U @ (U.T @ c / lam.sqrt())
    return w / w.norm()


def pictures_and_labels(generator):
    new = {"generator": generator, "dtype": torch.float64}
    U = torch.linalg.qr(torch.randn(8, 5, **new)).Q
    lam = torch.rand(5, **new) + 0.1
    x0 = torch.randn(50, 5, **new) * lam.sqrt() @ U.T
    return U, lam, x0, x0[:, 0].sign()


def push(f, x, v):
    x = x.detach().requires_grad_()
    y = f(x)
    u = torch.zeros_like(y, requires_grad=True)
    pulled = torch.autograd.grad(y, x, u, create_graph=True)[0]
    return torch.autograd.grad(pulled, u, v)[0]


def curved(x):
    """A map with many different singular values."""
    return torch.tanh(x).cumsum(1) * x.flip(1)


def a_direction(generator):
    x, v = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    return curved, x, v


TASKS = (
    Task("ex-manifold-turn", "the turn of a walk", turn, a_walk),
    Task("ex-manifold-knob", "a knob", knob, pictures_and_labels),
    Task("ex-manifold-jvp", "J v by two backward passes", push, a_direction),
)
