"""Bands of spatial frequency, and when one Gaussian lets each of them emerge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from painters.levels import Level, Levels
from painters.theory.gaussian import Gaussian, emergence

BANDS = 10


def radial_bands(height: int, width: int, n: int = BANDS) -> tuple[Tensor, Tensor]:
    """Return masks (m, height, width) of m <= n bands of spatial frequency, and the edges (m, 2) in cycles per pixel.

    The radius of the discrete Fourier frequency, 0 to 2^(1/2)/2, is cut in n parts of one width; empty ones are left
    out. A checkerboard, the factor (-1)^(i + j), moves each frequency by (1/2, 1/2): it exchanges low and high.
    """
    rows, columns = torch.fft.fftfreq(height).double(), torch.fft.fftfreq(width).double()
    radius = torch.hypot(rows[:, None], columns)
    edges = torch.linspace(0, 0.5**0.5, n + 1, dtype=torch.float64)
    index = (torch.bucketize(radius, edges, right=True) - 1).clamp(max=n - 1)
    kept = index.unique()
    return torch.stack([index == i for i in kept]), torch.stack([edges[kept], edges[kept + 1]], 1)


def band_energy(x: Tensor, masks: Tensor) -> Tensor:
    """Return the energy |P x|^2 of states x (B, C, H, W) in each band, (B, m), over all channels.

    P keeps the discrete Fourier frequencies of a band (orthonormal, so the bands' energies sum to |x|^2).
    """
    power = torch.fft.fft2(x.double(), norm="ortho").abs().square().sum(1)
    return power.flatten(1) @ masks.to(power).flatten(1).T


def band_law(gaussian: Gaussian, shape: Sequence[int], masks: Tensor, levels: Levels, start: Level) -> Tensor:
    """Return the emerged share of each band at each level under the Gaussian flow from unit noise, (N, m).

    sum_k w_k g_k s_k / sum_k w_k g_k, with w_k = |P u_k|^2, s_k = sigmoid(log-SNR + ln lam_k), and the variance g_k =
    lam_k (alpha_T^2 + sigma_T^2)/v_k(T) that the flow makes of the noise at ``start`` (T). The isotropic remainder
    counts as one more component, whose weight is what the others leave of the band.
    """
    parts = gaussian.U.T.split(256)
    weight = torch.cat([band_energy(u.reshape(len(u), *shape), masks).cpu() for u in parts])
    size = shape[0] * masks.flatten(1).sum(1).double()
    weight = torch.cat([weight, (size - weight.sum(0)).clamp(min=0)[None]])
    lam = torch.cat([gaussian.lam, gaussian.lam.new_full((1,), gaussian.rest)]).double().cpu()
    made = lam * (start[0] ** 2 + start[1] ** 2) / (start[0] ** 2 * lam + start[1] ** 2)
    shares = torch.stack([emergence(lam, level) for level in levels])
    return (shares * made) @ weight / (made @ weight)
