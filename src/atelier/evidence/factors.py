"""When each named factor of a picture can be read from the states, and when it is decided.

A reader r(x, alpha, sigma) reports E[f | x], an indicator for each kind of a categorical factor. Along a run it answers
at every level, and once more on the final picture. Two numbers compare the answers over seeds:

    r2_i     = 1 - E|r(final) - r(x_i)|^2 / Var r(final),     spread_i = Var r(x_i) / Var r(final).

Under the reverse SDE an exact denoiser couples x_i and x_0 as the forward process does. Then E[r(final) | x_i] = r(x_i)
for an exact reader, the two numbers are equal, and both are the share of what the picture shows that state i has
decided: what is left is noise still to come. Under the PF-ODE the noise decides everything at once, so that r2 is not a
matter of deciding; the spread is the same as under the SDE, because the states have the same distribution. Neither can
lie below the share that the best affine estimate knows, R_f^2 (:class:`~atelier.data.law.FactorLaw`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.data.controls import undone
from atelier.data.law import FactorLaw
from atelier.evidence.order import crossing
from atelier.networks import BUNDLED, bundled
from atelier.networks.readers import Reader, columns, indicators, load_reader
from atelier.scoring import LEGIBLE, Known, known, per_factor
from atelier.statistics import bootstrap, rank_correlation, short
from atelier.subject import Settings, Subject
from painters.levels import CLEAN, Level, Levels
from painters.models.registry import read_card
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

SOLVERS = {"sde": "ancestral", "ode": "dpmpp2m"}
READABLE = 0.05
"""A factor of which the affine estimate knows less than this share in clean states has no linear prediction."""

Instrument = Callable[[Tensor, Tensor, float, float], Tensor]
"""(states x (B, ...), endpoint estimates x0_hat, alpha, sigma) -> answers (B, m)."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What an instrument said of n seeds: ``given`` (n, N, m) at N levels, ``final`` (n, m) of the picture.

    ``sizes`` are the numbers of columns of each factor, F of them, with sum m.
    """

    given: Tensor
    final: Tensor
    sizes: Sequence[int]

    def scores(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return r2 and spread, (N, F) each, every seed ``weights`` (n,) times. NaN where no picture differs."""
        w = torch.ones(len(self.final)) if weights is None else weights
        w = w.to(self.final) / float(w.sum())
        missed = torch.tensordot(w, (self.given - self.final[:, None]).square(), 1)
        spread = torch.tensordot(w, self.given.square(), 1) - torch.tensordot(w, self.given, 1).square()
        whole = per_factor(w @ self.final.square() - (w @ self.final).square(), self.sizes)
        whole = torch.where(whole > 1e-12, whole, torch.nan)
        return 1 - per_factor(missed, self.sizes) / whole, per_factor(spread, self.sizes) / whole


def law(gaussian: Gaussian, data: Known, *, crossed: bool = True) -> tuple[FactorLaw, Tensor]:
    """Return the best affine estimate of all facts, and a second covariance c' (D, m) to measure it by.

    c = Cov(x_0, f) and c' come from the two halves of ``data``. Their errors are independent, so alpha^2 c'^T V^{-1} c
    is an unbiased estimate of the explained variance (see :func:`explained`); with one c it is too high by up to D/n.
    Not ``crossed``, both are c from all data, within the components: the law of a world in which that c is the truth.
    """
    x, f = data.states.flatten(1).double().cpu(), data.facts

    def covariance(part: slice) -> Tensor:
        return (x[part] - x[part].mean(0)).T @ (f[part] - f[part].mean(0)) / (len(f[part]) - 1)

    g = gaussian.to("cpu", torch.float64)
    if crossed:
        one, other = covariance(slice(0, None, 2)), covariance(slice(1, None, 2))
    else:
        one = other = g.U @ (g.U.T @ covariance(slice(None)))
    return FactorLaw(g, one, f.mean(0), f.var(0)), other


def explained(affine: FactorLaw, other: Tensor, level: Level) -> Tensor:
    """Return alpha^2 c'^T V^{-1} c (m,), the variance of each fact that the affine estimate explains."""
    return level[0] * (other * affine.weights(level)).sum(0)


def latent_reader(subject: Subject) -> Reader | None:
    """Return the bundled reader of the very latents that a subject paints, ``None`` if there is none."""
    for name in bundled("reader"):
        training = read_card(BUNDLED / name).get("training", {})
        if training.get("states") == "latents" and training.get("autoencoder") == subject.name:
            return load_reader(name)
    return None


def instrument(subject: Subject, affine: FactorLaw) -> tuple[str, Instrument]:
    """Return how factors are read along a run, in a word, and the function that reads them.

    ``"states"``: a reader, on noisy states of its own shape, be they pixels or latents (:func:`latent_reader`).
    ``"endpoints"``: the reader of pictures, on the decoded endpoint estimate as if it were one, for other latents.
    ``"affine"``: the best affine estimate, for a Gaussian world, where it is the exact posterior mean. States under a
    checkerboard are turned back first.
    """
    if subject.kind == "gaussian":
        return "affine", lambda x, x0, alpha, sigma: affine.estimate(x.cpu(), alpha, sigma)
    reader = subject.reader
    assert reader is not None
    if reader.shape != tuple(subject.shape):
        if (latents := latent_reader(subject)) is None:
            return "endpoints", lambda x, x0, *_: indicators(reader.read(subject.look(x0), *CLEAN), reader.factors)
        reader = latents
    return "states", lambda x, x0, alpha, sigma: indicators(
        reader.read(undone(x, subject.variant), alpha, sigma), reader.factors
    )


def answer(
    subject: Subject, read: Instrument, seeds: Sequence[int], levels: Levels, every: int, *, solver: str, batch: int
) -> tuple[Tensor, Tensor]:
    """Return the answers (n, N, m) at every ``every``-th level of a run and (n, m) of the pictures."""
    given, final = [], []
    for part in subject.batches(seeds, batch):
        x = levels.start(noise(part, subject.shape))
        run = solve(subject.denoise, x, levels, solver=solver, save=Frames(every=every), seeds=part, progress=False)
        rows = [read(x, x0, *level) for x, x0, level in zip(run.x, run.x0, run.levels)]
        given.append(torch.stack(rows, 1))
        final.append(read(run.final, run.final, *CLEAN))
    return torch.cat(given), torch.cat(final)


def legibility(read: Instrument, data: Known, *, batch: int = 250) -> Tensor:
    """Return the share of each factor that the instrument knows of clean data, 1 - E|f - r(x)|^2 / Var f, (F,)."""
    sizes, missed = columns(data.factors), torch.zeros(data.facts.shape[1], dtype=torch.float64)
    for x, f in zip(data.states.split(batch), data.facts.split(batch)):
        missed += (read(x, x, *CLEAN) - f).square().sum(0)
    return 1 - per_factor(missed / len(data.facts), sizes) / per_factor(data.facts.var(0, correction=0), sizes)


def nested(subject: Subject, steps: int) -> tuple[Levels, Levels]:
    """Return the levels of about ``steps``/2 and of ``steps`` steps, the former every second one of the latter."""
    fine = subject.levels(2 * ((steps + 1) // 2) - 1, spacing="even")
    kept = Frames(every=2).kept(fine.steps)
    return Levels(fine.alpha[kept], fine.sigma[kept], fine.origin), fine


def half_levels(
    said: dict[str, Answers], logsnr: Tensor, linear: Tensor, *, use: Tensor | None = None, draws: int
) -> dict[str, Any]:
    """Return the half-levels and their rank correlations, as :func:`measure` says.

    ``said``: answers under ``"ode"`` and ``"sde"``. ``linear`` (N + 1, F): the law at the N levels of ``logsnr`` and in
    clean states. Only factors in ``use`` (F,) are measured.
    """
    law = torch.exp(-crossing(logsnr, linear[:-1] / torch.where(linear[-1] > READABLE, linear[-1], torch.nan)) / 2)

    def halves(answers: Answers, which: int, rows: np.ndarray) -> np.ndarray:
        weights = torch.from_numpy(np.bincount(rows.astype(int), minlength=len(answers.final)))
        found = torch.exp(-crossing(logsnr, answers.scores(weights)[which]) / 2)
        return (found if use is None else torch.where(use, found, torch.nan)).numpy()

    record: dict[str, Any] = {"half_law": short(law)}
    # Along the ODE the spread, along the SDE r2: r2 along the ODE counts what the noise has decided long before.
    for key, which, half, rank in (("ode", 1, "half", "rank"), ("sde", 0, "half_sde", "rank_sde")):
        found = bootstrap(np.arange(len(said[key].final)), partial(halves, said[key], which), draws=draws)
        record[half] = [one.record() for one in found]
        measured = np.array([one.value for one in found])
        if np.isfinite(measured * law.numpy()).sum() > 2:
            record[rank] = rank_correlation(measured, law).record()
    return record


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Measure when every named factor is readable and decided, beside the affine law.

    Returns ``factors``: names; ``read``: the instrument; for each factor, ``legible``: what the instrument explains of
    it on clean test states (below ``LEGIBLE`` its measured half-levels are NaN), and as noise levels sigma/alpha or
    NaN, ``half_law``: where the law R_f^2 reaches half of its clean value, ``half`` and ``half_sde`` (intervals over
    seeds): where the spread (ODE) and r2 (SDE) reach 1/2; ``rank`` and ``rank_sde``, rank correlations over factors of
    these two with ``half_law``, with permutation p; ``seeds`` of ODE and SDE. ``None`` without reader or data.

    An endpoint estimate is no picture: of a blurred one the reader is sure too soon, and its answers spread too early.
    For a subject whose ``read`` is ``"endpoints"`` only the numbers of the SDE's r2 (``half_sde``, ``rank_sde``) count.

    The SDE takes twice the steps and half the seeds of the ODE: it is a first-order method, and a check.
    """
    fewer = 1 if subject.image_size == subject.shape[-1] else 4  # encoding and decoding are dear
    train = known(subject, settings.pick(ci=400, book=10_000, full=20_000) // fewer, test=False)
    test = known(subject, settings.pick(ci=50, book=500, full=2000) // fewer, test=True)
    if train is None or test is None or subject.kind == "mean":
        return None
    affine, other = law(subject.gaussian, train, crossed=subject.kind != "gaussian")
    how, read = instrument(subject, affine)
    seeds = settings.seeds[: settings.pick(ci=16, book=160, full=len(settings.seeds))]
    seeds = seeds[: max(len(seeds) // 2, 2)] if how == "endpoints" else seeds
    sizes, (levels, fine) = columns(train.factors), nested(subject, settings.steps)
    whole = per_factor(train.facts.var(0), sizes)
    linear = torch.stack([per_factor(explained(affine, other, level), sizes) / whole for level in levels])
    legible = torch.ones(len(sizes), dtype=torch.float64) if how == "affine" else legibility(read, test)
    runs = {"ode": (seeds, levels, 1), "sde": (seeds[: max(len(seeds) // 2, 2)], fine, 2)}
    said = {
        key: Answers(*answer(subject, read, *run, solver=SOLVERS[key], batch=settings.batch), sizes)
        for key, run in runs.items()
    }
    draws = settings.pick(ci=50, book=1000, full=2000)
    return {
        "factors": [f.name for f in train.factors],
        "read": how,
        "legible": short(legible),
        "seeds": {key: len(run[0]) for key, run in runs.items()},
    } | half_levels(said, levels.logsnr[:-1], linear, use=legible >= LEGIBLE, draws=draws)
