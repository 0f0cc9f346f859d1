"""Solutions and inputs of the exercises of the page gans."""

from itertools import permutations

import torch

from .task import Task


def homogeneity(H):
    values, V = torch.linalg.eigh(H)
    found = []
    for i, j in permutations(range(len(H)), 2):
        seen = (V[i].T @ H[j] @ V[i]).diagonal()
        pair = torch.stack([seen, values[j]]).log()
        found.append(torch.corrcoef(pair)[0, 1])
    return torch.stack(found).mean()


def some_metrics(generator):
    J = torch.randn(5, 9, 4, generator=generator, dtype=torch.float64)
    J = J * torch.tensor([3.0, 1, 0.5, 0.2])
    return (J.mT @ J,)


def turn(z):
    angle = z[:, :2].norm(dim=1)
    c, s = angle.cos(), angle.sin()
    x, y = z[:, 0], z[:, 1]
    first = torch.stack([c * x - s * y, s * x + c * y], 1)
    return torch.cat([first, z[:, 2:]], 1)


def some_rows(generator):
    return (torch.randn(7, 4, generator=generator, dtype=torch.float64),)


TASKS = (
    Task("ex-gans-homogeneity", "the homogeneity of metrics", homogeneity, some_metrics),
    Task("ex-gans-turn", "a turn that keeps the normal law", turn, some_rows, rtol=1e-9),
)
