"""Classifier-free guidance between two Gaussians, solved exactly along each shared eigenvector."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from painters.levels import CLEAN, Level
from painters.theory.gaussian import ode_gain

NODES = 256
"""Gauss-Legendre nodes of the quadrature for the mean; the integrand is smooth, and 64 already give ten digits."""


def guided_gain(lam_u: Tensor, lam_c: Tensor, guidance: float, *, frm: Level, to: Level = CLEAN) -> Tensor:
    """Return how much the guided PF-ODE stretches a deviation: psi_u^(1 - w) psi_c^w, with psi of :func:`ode_gain`.

    ``lam_u``, ``lam_c``: variances of all data and of the class along the same directions, any shape. The guided
    denoiser D_u + w (D_c - D_u) is affine, so the PF-ODE multiplies deviations. From pure noise to the image,
    psi = sqrt(lam), and the guided standard deviation is

        sqrt(lam_c) (lam_c / lam_u)^((w - 1)/2):

    guidance narrows whatever the class narrows already. Raises ``ValueError`` where a variance is 0 and no noise is
    left at ``frm``. Source: derived here.
    """
    return ode_gain(lam_u, frm=frm, to=to) ** (1 - guidance) * ode_gain(lam_c, frm=frm, to=to) ** guidance


def guided_offset(
    mu_u: Tensor, lam_u: Tensor, mu_c: Tensor, lam_c: Tensor, guidance: float, *, frm: Level, to: Level = CLEAN
) -> Tensor:
    """Return the other half of the guided flow x(to) = gain x(frm) + offset, elementwise along shared eigenvectors.

    ``mu_u``, ``mu_c``: means along the directions, same shape as the positive variances. With s = sigma/alpha,

        offset = alpha(to) int gain(s -> s_to) s [(1 - w) mu_u / (lam_u + s^2) + w mu_c / (lam_c + s^2)] ds,

    from s(to) to s(frm), by Gauss-Legendre quadrature in arctan(s / (lam_u lam_c)^(1/4)). Between equal variances it
    is mu_u + w (mu_c - mu_u) from pure noise; otherwise guidance moves the mean far less than that. Raises
    ``ValueError`` for variances that are not positive. Source: derived here.
    """
    if bool((lam_u <= 0).any()) or bool((lam_c <= 0).any()):
        raise ValueError("the guided mean needs positive variances along every direction")
    points, weights = (torch.from_numpy(v).to(lam_u)[:, None] for v in _nodes())
    mu_u, lam_u, mu_c, lam_c = (v.reshape(1, -1) for v in torch.broadcast_tensors(mu_u, lam_u, mu_c, lam_c))
    unit = (lam_u * lam_c) ** 0.25
    low, high = (torch.atan2(unit.new_full((), level[1]), level[0] * unit) for level in (to, frm))
    theta = (high - low) / 2 * points + (high + low) / 2
    s = unit * torch.tan(theta)
    w = guidance
    pull = s * ((1 - w) * mu_u / (lam_u + s**2) + w * mu_c / (lam_c + s**2))
    end = math.inf if to[0] == 0 else to[1] / to[0]
    if math.isinf(end):
        return torch.zeros_like(unit).reshape(-1)
    gain = ((lam_u + end**2) / (lam_u + s**2)) ** ((1 - w) / 2) * ((lam_c + end**2) / (lam_c + s**2)) ** (w / 2)
    integrand = gain * pull * unit / torch.cos(theta) ** 2
    return to[0] * ((high - low) / 2 * weights * integrand).sum(0)


@cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the quadrature on [-1, 1]: an eigenvalue problem, solved once."""
    return np.polynomial.legendre.leggauss(NODES)
