"""Solutions and inputs of the exercises of the page guidance."""

import torch

from .task import Task


def gain(lam_u, lam_c, w, frm, to):
    def psi(lam):
        there = to[0] ** 2 * lam + to[1] ** 2
        here = frm[0] ** 2 * lam + frm[1] ** 2
        return torch.sqrt(there / here)

    return psi(lam_u) ** (1 - w) * psi(lam_c) ** w


def a_wish(generator):
    lam_u, lam_c = torch.rand(2, 5, generator=generator).double() * 4 + 0.1
    angles = torch.rand(2, generator=generator).double() * 1.4 + 0.1
    frm, to = [(float(t.cos()), float(t.sin())) for t in angles]
    w = float(torch.rand(1, generator=generator)) * 8
    return lam_u, lam_c, w, frm, to


TASKS = (Task("ex-guidance-gain", "the guided gain", gain, a_wish, rtol=1e-8),)
