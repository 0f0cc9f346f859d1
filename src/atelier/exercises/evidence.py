"""Solutions and inputs of the exercises of the page evidence."""

import math

import torch

from .task import Task


def half_time(logsnr, curve):
    i = int((curve >= 0.5).int().argmax())
    weight = (0.5 - curve[i - 1]) / (curve[i] - curve[i - 1])
    return torch.exp(-torch.lerp(logsnr[i - 1], logsnr[i], weight) / 2)


def a_curve(generator):
    logsnr = torch.linspace(-9, 7, 40, dtype=torch.float64)
    lam = torch.exp(4 * torch.rand(1, generator=generator, dtype=torch.float64) - 2)
    return logsnr, torch.sigmoid(logsnr + lam.log())


def moves(alpha, sigma, lam):
    v = alpha**2 * lam + sigma**2
    return 2 * torch.tensor([1.0, alpha, v**0.5]) * (lam / v) ** 0.5


def a_level(generator):
    angle, lam = torch.rand(2, generator=generator).tolist()
    return math.sin(1.5 * angle), math.cos(1.5 * angle), math.exp(6 * lam - 1)


TASKS = (
    Task("ex-evidence-half", "half-time", half_time, a_curve),
    Task("ex-evidence-kick", "kicks", moves, a_level),
)
