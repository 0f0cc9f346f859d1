"""Solutions and inputs of the exercises of the page gaussian."""

import math

import torch

from .task import Task


def flow(x, mu, U, lam, frm, to):
    (a, s), (b, q) = frm, to
    y = x - a * mu
    off = q / s
    psi = torch.sqrt((b**2 * lam + q**2) / (a**2 * lam + s**2))
    return b * mu + off * y + ((y @ U) * (psi - off)) @ U.T


def a_gaussian(generator):
    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    angles = torch.rand(2, generator=generator, dtype=torch.float64) * 1.4 + 0.1
    frm, to = [(float(t.cos()), float(t.sin())) for t in angles]
    U = torch.linalg.qr(draw(6, 3)).Q
    return draw(4, 6), draw(6), U, draw(3).exp(), frm, to


def level(lam, share):
    return math.sqrt(lam * (1 - share) / share)


def a_share(generator):
    u = torch.rand(2, generator=generator, dtype=torch.float64)
    return float(10 ** (4 * u[0] - 2)), float(0.05 + 0.9 * u[1])


TASKS = (
    Task("ex-gaussian-flow", "the exact flow", flow, a_gaussian, rtol=1e-8),
    Task("ex-gaussian-level", "when does it stand", level, a_share),
)
