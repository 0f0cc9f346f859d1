"""Solutions and inputs of the exercises of the page steps."""

import math

import torch

from .task import Task


def step(lam, frm, to):
    (a, s), (b, q) = frm, to
    v, v2 = a**2 * lam + s**2, b**2 * lam + q**2
    return (a * b * lam + s * q) / math.sqrt(v * v2)


def two_levels(generator):
    u = torch.rand(3, generator=generator, dtype=torch.float64)
    frm, to = ((math.cos(t), math.sin(t)) for t in (1.5 * u[:2]).tolist())
    return float(10 ** (4 * u[2] - 2)), frm, to


TASKS = (Task("ex-steps-step", "what one step keeps", step, two_levels),)
