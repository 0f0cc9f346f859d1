"""Solutions and inputs of the exercises of the page learning."""

import math

import torch

from .task import Task


def flattery(lam, alpha, sigma):
    v = alpha**2 * lam + sigma**2
    missed = (alpha**4 * lam**2 / v).sum() / sigma**4
    return missed / (1 / v).sum()


def variances_and_level(generator):
    draw = torch.rand(12, generator=generator, dtype=torch.float64)
    angle = float(draw[0]) * 1.4 + 0.1
    return 10 * draw[1:], math.cos(angle), math.sin(angle)


TASKS = (Task("ex-learning-flattery", "the score residual of the mean", flattery, variances_and_level, rtol=1e-9),)
