"""When each principal component, and each band of spatial frequency, stands in the endpoint estimate.

For one Gaussian the emerged share of a component is sigmoid(log-SNR + ln lambda), and that of any band is the mean of
these sigmoids, weighted by what each component puts into the band. For other data, both are lower bounds of what an
exact denoiser shows on states of the forward process: the best estimate varies no less than the best affine one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.statistics import bootstrap, short, spearman
from atelier.subject import Settings, Subject
from atelier.trained import counted
from painters.levels import Level, Levels
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian, emergence
from painters.trajectory import Frames, Trajectory

SPARE = 1.5
"""A component is timed if its level sqrt(lam) lies inside the run with this factor to spare: one beyond the last level
crosses one half in the last step, whatever its variance."""
VISIBLE = (0.01, 0.99)
"""The bound is tested where theory lies between these: elsewhere there is nothing to see."""
BANDS = 10
"""So many bands of frequency: with more, the lowest of a picture of 28 pixels has too few frequencies to be one."""
SOLVER = "dpmpp2m"
"""Second order with one call a step: at 50 steps as exact as Heun with half the calls."""
SOLVER_ERROR = 0.01
"""By so much a run of 50 steps may misplace a share: a pair within it of theory is not below."""


@dataclass(frozen=True, eq=False)
class Emergence:
    """Emergence curves of K principal components over N levels.

    ``lam`` (K,): variance of each component in the data. ``logsnr`` (N,): ln(alpha^2/sigma^2), noisy to clean.
    ``emerged`` (N, K): share of the component's final energy that the endpoint estimate holds at each level.
    """

    lam: Tensor
    logsnr: Tensor
    emerged: Tensor

    @property
    def shifted(self) -> Tensor:
        """logsnr + ln lam, (N, K): the coordinate in which the curves of all components of a Gaussian collapse."""
        return self.logsnr[:, None] + self.lam.log()

    @property
    def theory(self) -> Tensor:
        """sigmoid(logsnr + ln lam), (N, K): what emerges for one Gaussian."""
        return self.shifted.sigmoid()

    def half_sigma(self) -> Tensor:
        """Return the noise level sigma/alpha at which half of each component stands, (K,); theory: lam^(1/2).

        NaN for a component that starts above one half or never reaches it.
        """
        return torch.exp(-crossing(self.logsnr, self.emerged) / 2)


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
    logsnr = trajectory.levels.logsnr[:-1][seen]
    return Emergence(gaussian.lam[:K].double().cpu(), logsnr, (energy / final).double().cpu())


def crossing(logsnr: Tensor, curves: Tensor, share: float = 0.5) -> Tensor:
    """Return the log-SNR at which each of K curves (N, K) first reaches ``share``, (K,), interpolated linearly.

    NaN for a curve that starts at or above ``share``, or never reaches it.
    """
    above = curves >= share
    i = above.int().argmax(0).clamp(min=1)[None]
    before, after = curves.gather(0, i - 1)[0], curves.gather(0, i)[0]
    weight = (share - before) / (after - before)
    found = logsnr[i[0] - 1] + weight * (logsnr[i[0]] - logsnr[i[0] - 1])
    return torch.where(above.any(0) & ~above[0], found, torch.nan)


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


@dataclass(frozen=True, eq=False)
class Paths:
    """Energies of n seeds over N levels and K components: ``shown`` (n, N, K) of x0_hat - mu, ``final`` (n, K).

    ``final`` is u . (x/alpha - mu) u . (x0_hat - mu) at the last noisy level. Its mean is the variance of the images:
    for any data E[x_0 | x] has the covariance with x that x_0 has. What the run ends on lacks the part of a small
    component that its last step, one jump onto x0_hat, takes for noise. For one Gaussian any number of seeds is exact.
    """

    shown: Tensor
    final: Tensor

    def curves(self, weights: Tensor | None = None) -> Tensor:
        """Return the emerged share, (N, K): ratio of the mean energies over seeds, each seed ``weights`` (n,) times."""
        w = (torch.ones(len(self.final)) if weights is None else weights).to(self.final)
        return torch.tensordot(w, self.shown, 1) / (w @ self.final)

    def errors(self) -> Tensor:
        """Return the standard error of the emerged share, (N, K), by linearising the ratio."""
        n, ratio = len(self.final), self.curves()
        residual = (self.shown - ratio * self.final[:, None]) / self.final.mean(0)
        return residual.std(0) / n**0.5


def follow(
    subject: Subject, settings: Settings, seeds: Sequence[int], grid: Levels, masks: Tensor
) -> tuple[Paths, Levels]:
    """Paint the seeds along ``grid`` and keep, of each estimate, its energy along every component and in every band.

    The columns of the :class:`Paths` are the components with variance, then the bands. Levels of pure noise are left
    out: there the log-SNR is not finite.
    """
    g = subject.gaussian
    U, mu = g.U[:, : int((g.lam > 0).sum())].double(), g.mu.double()

    def energies(x: Tensor) -> Tensor:
        return torch.cat([(x @ U).square(), band_energy(x.reshape(-1, *subject.shape), masks)], 1).cpu()

    seen = grid.alpha[:-1] > 0
    shown, final = [], []
    for batch in subject.batches(seeds, settings.batch):
        rows: list[Tensor] = []

        def note(i: int, level: Level, x: Tensor, x0: Tensor, rows: list[Tensor] = rows) -> None:
            estimate = x0.flatten(1).to(mu) - mu
            if seen[i]:
                rows.append(energies(estimate))
            if i == grid.steps - 1:
                state = x.flatten(1).to(mu) / level[0] - mu
                final.append((energies(state + estimate) - energies(state - estimate)) / 4)

        x = grid.start(noise(batch, subject.shape))
        solve(subject.denoise, x, grid, solver=SOLVER, save=Frames(None), seeds=batch, progress=False, on_step=note)
        shown.append(torch.stack(rows, 1))
    levels = Levels(grid.alpha[:-1][seen], grid.sigma[:-1][seen], grid.origin)
    return Paths(torch.cat(shown), torch.cat(final)), levels


def bound(curves: Tensor, errors: Tensor, theory: Tensor, use: Tensor) -> dict[str, float | int]:
    """Return how often curves (N, K) lie on or above ``theory`` at the levels ``use`` (N,), where there is something.

    ``pairs`` of component and level; the share of them ``not_below``: no more than two standard errors, and the
    solver's, under theory; ``mean_not_below``: the same of a denoiser that knows only the mean, in which nothing ever
    emerges. Of curves that equal theory 2.3 % lie beyond two standard errors.
    """
    seen = (theory > VISIBLE[0]) & (theory < VISIBLE[1]) & use[:, None]
    if not bool(seen.any()):
        return {"pairs": 0}
    gap, error = (curves - theory)[seen], errors[seen]
    held = {"not_below": gap >= -2 * error - SOLVER_ERROR, "mean_not_below": theory[seen] <= SOLVER_ERROR}
    return {"pairs": len(gap)} | {key: float(value.double().mean()) for key, value in held.items()}


def order(logsnr: Tensor, curves: Tensor, sizes: Tensor, use: Tensor) -> np.ndarray:
    """Return slope and rank correlation of ln sigma* with ln ``sizes``^(1/2), of the components in ``use`` (K,).

    Theory: 1 and 1. Components that do not cross one half are left out; NaN for fewer than 3.
    """
    half = -crossing(logsnr, curves) / 2
    keep = use & half.isfinite()
    x, y = (sizes[keep].log() / 2).numpy(), half[keep].numpy()
    return np.array([np.polyfit(x, y, 1)[0] if len(x) > 2 else np.nan, spearman(x, y)])


def over_seeds(paths: Paths, logsnr: Tensor, lam: Tensor, use: Tensor, *, draws: int) -> dict[str, dict[str, Any]]:
    """Return slope and rank of :func:`order`, of the components in ``use`` (K,), with intervals over seeds.

    ``lam`` (K,) of the components, which are the first columns of ``paths``.
    """
    n = len(paths.final)

    def statistics(rows: np.ndarray) -> np.ndarray:
        drawn = paths.curves(torch.from_numpy(np.bincount(rows.astype(int), minlength=n)))
        return order(logsnr, drawn[:, : len(lam)], lam, use)

    slope, rank = bootstrap(np.arange(n), statistics, draws=draws, normal=True)
    # An interval of value and standard deviation knows nothing of the end of the scale; a slope has no end.
    return {"slope_counted": slope.record(), "rank_counted": rank.record() | {"high": min(rank.high, 1.0)}}


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Measure when every component and every frequency band emerges, over all seeds.

    Returns ``lam`` (K,), ``half`` (K,) = sigma*, ``half_counted`` (K,) 1 where sigma* lies at a level that counts and
    the component's own level inside the run (``SPARE``); ``slope_counted``, ``rank_counted``: see :func:`over_seeds`;
    ``bound_counted``: see :func:`bound`, at levels that count; ``bands``: ``edges`` in cycles per pixel, and sigma* as
    measured, ``half``, and by their law, ``half_law``; ``seeds``.
    """
    seeds = settings.seeds[: settings.pick(ci=16, book=200, full=len(settings.seeds))]
    masks, edges = radial_bands(*subject.shape[-2:])
    grid = subject.levels(settings.steps, spacing="even")
    paths, levels = follow(subject, settings, seeds, grid, masks)
    use = counted(subject, levels)
    first = int(use.int().argmax())  # where the first levels do not count, estimates may be large and wrong there
    paths, levels, use = Paths(paths.shown[:, first:], paths.final), levels[first:], use[first:]
    lam = subject.gaussian.lam[subject.gaussian.lam > 0].double().cpu()
    K, ratio, logsnr = len(lam), levels.ratio, levels.logsnr
    half_law = crossing(logsnr, band_law(subject.gaussian, subject.shape, masks, levels, grid[0]))
    curves, errors = paths.curves(), paths.errors()
    half = crossing(logsnr, curves)
    timed = torch.from_numpy(np.interp(half[:K].numpy(), logsnr.numpy(), use.double().numpy()) > 0.5)
    timed &= (lam.sqrt() >= SPARE * ratio.min()) & (lam.sqrt() <= ratio.max() / SPARE)
    return {
        "lam": short(lam),
        "half": short(torch.exp(-half[:K] / 2)),
        "half_counted": timed.int().tolist(),
        **over_seeds(paths, logsnr, lam, timed, draws=settings.pick(ci=30, book=300, full=1000)),
        "bound_counted": bound(curves[:, :K], errors[:, :K], (logsnr[:, None] + lam.log()).sigmoid(), use),
        "bands": {
            "edges": short(edges),
            "half": short(torch.exp(-half[K:] / 2)),
            "half_law": short(torch.exp(-half_law / 2)),
        },
        "seeds": len(seeds),
    }
