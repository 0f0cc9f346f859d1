"""Solutions and inputs of the exercises of the page gaussian."""

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


def share(m, r):
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    weight = torch.softmax(-(z**2) / 2, 0)  # the noise, on a grid
    return float(weight @ torch.tanh(m * (m + r * z) / r**2) ** 2)


def two_values(generator):
    u = torch.rand(2, generator=generator, dtype=torch.float64)
    m = float(10 ** (2 * u[0] - 1))
    return m, m * float(0.3 + 4 * u[1])


TASKS = (
    Task("ex-gaussian-flow", "the exact flow", flow, a_gaussian, rtol=1e-8),
    Task("ex-gaussian-share", "two values", share, two_values, rtol=5e-4),
)
