"""Solutions and inputs of the exercises of the page factors."""

import torch

from .task import Task


def decided(given, final):
    missed = (final - given).square().mean(0).sum()
    return 1 - missed / final.var(0, correction=0).sum()


def some_answers(generator):
    final = torch.rand(30, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    return final + 0.1 * noise, final


TASKS = (Task("ex-factors-decided", "decided", decided, some_answers),)
