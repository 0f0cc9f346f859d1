"""Solutions and inputs of the exercises of the page faster."""

import torch

from .task import Task


def weight(lam, s0, s1):
    return 1 - ((lam + s1**2) / (lam + s0**2)).sqrt()


def a_stretch(generator):
    draw = torch.rand(8, generator=generator, dtype=torch.float64)
    return 10 * draw[2:], 2 + float(draw[0]), float(draw[1])


TASKS = (Task("ex-faster-one", "the weight of one value", weight, a_stretch, rtol=1e-9),)
