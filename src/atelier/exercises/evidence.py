"""Solutions and inputs of the exercises of the page evidence."""

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


def fall(first, last):
    down = torch.hypot(first[0] - first[1], last[2] - last[0])
    up = torch.hypot(first[2] - first[0], last[0] - last[1])
    gap = first[0] - last[0]
    return torch.stack([gap, gap - down, gap + up])


def two_shares(generator):
    value, down, up = torch.rand(3, 2, generator=generator, dtype=torch.float64)
    return tuple(torch.stack([value, value - down / 9, value + up / 9]).T)


TASKS = (
    Task("ex-evidence-half", "half-time", half_time, a_curve),
    Task("ex-evidence-fall", "the fall", fall, two_shares),
)
