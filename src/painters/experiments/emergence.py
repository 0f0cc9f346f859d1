"""When each principal component of the image stands in the endpoint estimate, beside the theory's sigmoid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from painters.theory.gaussian import Gaussian, emergence
from painters.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Emergence:
    """Emergence curves of K principal components over N levels.

    ``lam`` (K,): variance of each component in the data. ``logsnr`` (N,): ln(alpha^2/sigma^2), noisy to clean.
    ``emerged`` (N, K): share of the component's final energy that the endpoint estimate holds at each level.
    ``theory`` (N, K): sigmoid(logsnr + ln lam), what it is for one Gaussian.
    """

    lam: Tensor
    logsnr: Tensor
    emerged: Tensor
    theory: Tensor

    @property
    def shifted(self) -> Tensor:
        """logsnr + ln lam, (N, K): the coordinate in which the curves of all components of a Gaussian collapse."""
        return self.logsnr[:, None] + self.lam.log()

    def half(self, share: float = 0.5) -> Tensor:
        """Return the log-SNR at which each component first reaches ``share``, (K,), interpolated linearly.

        Theory: logit(share) - ln lam. NaN for a component that starts above ``share`` or never reaches it.
        """
        return torch.tensor([_crossing(self.logsnr, curve, share) for curve in self.emerged.T], dtype=torch.float64)

    def half_sigma(self, share: float = 0.5) -> Tensor:
        """Return the same as a noise level sigma/alpha, (K,); theory for ``share`` 1/2: the square root of lam."""
        return torch.exp(-self.half(share) / 2)


def emerge(trajectory: Trajectory, gaussian: Gaussian, *, pcs: int | None = None) -> Emergence:
    """Measure how each of the first ``pcs`` components of ``gaussian`` emerges along a trajectory.

    emerged_ik = mean_b (u_k . (x0hat_ib - mu))^2 / mean_b (u_k . (x_0b - mu))^2, means over the B samples; x0hat_i
    belongs to level i and x_0 is the final state. Dividing by the run's own energy makes it exact for the Gaussian
    flow at any B. Levels of pure noise are dropped. Raises ``ValueError`` if a component of the data has no variance
    or of the images no energy.
    """
    K = len(gaussian.lam) if pcs is None else pcs
    if not 1 <= K <= len(gaussian.lam) or bool((gaussian.lam[:K] <= 0).any()):
        raise ValueError(f"need 1 to {int((gaussian.lam > 0).sum())} components with variance, got {K}")
    final = gaussian.project(trajectory.final)[:, :K].square().mean(0)
    if bool((final <= 0).any()):
        raise ValueError("the final images have no energy along some component: nothing can emerge there")
    seen = trajectory.levels.alpha[:-1] > 0
    energy = torch.stack([gaussian.project(x0)[:, :K].square().mean(0) for x0 in trajectory.x0[seen]])
    lam = gaussian.lam[:K].double().cpu()
    levels = [level for level, keep in zip(trajectory.levels, seen.tolist()) if keep]
    theory = torch.stack([emergence(lam, level) for level in levels])
    logsnr = trajectory.levels.logsnr[:-1][seen]
    return Emergence(lam, logsnr, (energy / final).double().cpu(), theory)


def _crossing(logsnr: Tensor, curve: Tensor, share: float) -> float:
    above = (curve >= share).nonzero()
    if len(above) == 0 or (i := int(above[0])) == 0:
        return math.nan
    weight = (share - float(curve[i - 1])) / float(curve[i] - curve[i - 1])
    return float(logsnr[i - 1] + weight * (logsnr[i] - logsnr[i - 1]))
