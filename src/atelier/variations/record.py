"""The measurement of variations: every way of varying a picture, held against the others and against the theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atelier.evidence.order import even
from atelier.networks.readers import columns
from atelier.scoring import DETAIL, OUTLINE, Ruler
from atelier.statistics import mean
from atelier.subject import Settings, Subject
from atelier.variations.holding import Prediction
from atelier.variations.knobs import facts
from atelier.variations.operations import invert, paint_on, round_trip
from atelier.variations.pareto import (
    Method,
    Scores,
    band_shares,
    describe,
    equal_change,
    factors,
    gains,
    held_against_law,
    sure,
    unrelated,
)
from atelier.variations.resampling import renoise, repaint, standing
from atelier.variations.ways import FRESH, Ways, changed_at
from painters.levels import Levels
from painters.sampling import noise, solve

STEPS = 20
"""Steps of every run that is compared; a variation resumes in the middle of one."""
STRAIN = 0.3
"""Noise level sigma/alpha at which pictures are denoised, to see whether the model takes them for its own."""
GIVEN = 1.0
"""Noise level sigma/alpha at which a given picture is varied in the measurement."""


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Hold the ways of varying a picture against each other, and measure how well given pictures are inverted.

    An interval is {"value", "low", "high", "n"} over seeds; m strengths of a way stand in the order of growing change.
    ``seeds``, ``steps``, ``solver``; ``cut``: the PCs called outline without a reader, those that stand at noise level
    ``cut_level``, with the share ``energy`` of the variance; ``sure``: the reader's certainty of the pictures before;
    ``unrelated``: ``distance``, ``low`` and ``rest`` of two pictures of the model, about 1 if they vary as the data do.
    ``factors``: ``names``, ``outline`` and ``detail`` (0 or 1), ``chance``, ``r2`` (R_f^2), (F,) each, or null.
    ``methods``, by name (:class:`~atelier.variations.ways.Ways`): ``knob`` (pcs, level or angle),
    ``strength``, ``level`` (sigma/alpha), ``pcs``, (m,) each; ``distance``, ``low``, ``rest`` (m intervals): change of
    the picture, and squared along the first ``cut`` PCs and in the rest, 1 for unrelated pictures; ``low_law``,
    ``rest_law`` (m,) of the exact Gaussian; ``strain`` (m intervals): the model's denoising error of the new pictures
    at noise level 0.3 over that of the old ones; ``most_rest``: the largest ``rest`` where ``low`` is at most 0.1. With
    a reader ``change``, ``kept`` and ``predicted`` (m, F), the last the share kept by the factor law, and ``sure``
    (m,). With factors of outline and detail ``outline_kept`` and ``detail_changed`` (m intervals); ``most_detail``: the
    largest ``detail_changed`` where ``outline_kept`` is at least 0.9, ``most_outline`` the reverse; all four also
    ``_corrected`` for chance, (kept - chance)/(1 - chance).
    ``equal``: ``distance`` (q,), and for each way the same columns, ``low`` and ``rest`` at these distances (q
    intervals, null where a way does not reach). ``gain``, ``gain_corrected`` and ``gain_rest``: for each way its most
    change less that of ``renoise``, paired over seeds. ``law``: for each way ``rank`` of predicted and measured share
    kept over factors and strengths, and ``bias``.
    ``inversion``: ``steps``, and the round-trip error of the model's ``own`` pictures and of ``data`` by solver (one
    interval for each number of steps). ``given``: data pictures varied by "state" after inversion, ``given_renoise``
    by plain noise at the same level: ``level``, ``pcs``, ``error``, ``distance``, ``low``, ``rest``, and with a
    reader ``outline_kept`` and ``detail_changed``. ``None`` for a subject that only knows the mean.
    """
    if subject.kind == "mean":
        return None
    many = 32 if subject.dim < 1000 else 20
    seeds = settings.seeds[: settings.pick(ci=3, book=many, full=len(settings.seeds))]
    draws = settings.pick(ci=50, book=1000, full=2000)
    levels = even(subject, settings.pick(ci=5, book=STEPS, full=STEPS))
    at = changed_at(levels, most=settings.pick(ci=1, book=6, full=6))
    ruler = Ruler.of(subject, settings.pick(ci=60, book=400, full=400))
    law, bands = _law(subject, ruler, settings.pick(ci=100, book=6000, full=20_000))
    cut_index = min(range(levels.steps), key=lambda i: abs(float(levels.ratio[i]) - GIVEN))
    cut = standing(subject.gaussian, levels[cut_index])
    methods, scores, before = _compare(
        subject, levels, seeds, at, bands, ruler, cut, settings.batch, settings.pick(ci=2, book=6, full=6)
    )
    record: dict[str, Any] = {
        "seeds": len(seeds),
        "steps": levels.steps,
        "solver": "dpmpp2m",
        "cut": cut,
        "cut_level": float(levels.ratio[cut_index]),
        "energy": float(subject.gaussian.lam[:cut].sum() / subject.gaussian.spectrum.sum()),
        "sure": None if ruler is None else float(sure(ruler, ruler.answers(before)).mean()),
        "unrelated": unrelated(subject.gaussian, before, cut),
        "factors": None if ruler is None else factors(ruler, law),
        "methods": {
            m.name: describe(m, scores[m.name], subject.gaussian, cut=cut, ruler=ruler, law=law, draws=draws)
            for m in methods
        },
    }
    record |= _held_together(scores, ruler, draws)
    if law is not None:
        record["law"] = {name: held_against_law(found) for name, found in record["methods"].items()}
    record["inversion"] = _inversion(subject, before, settings)
    return record | _given(subject, levels, cut_index, cut, ruler, settings.pick(ci=3, book=24, full=100))


def _law(subject: Subject, ruler: Ruler | None, n: int) -> tuple[Prediction | None, tuple[Tensor, Tensor] | None]:
    """The factor law of the ruler's factors from ``n`` training states, and their covariance with each band's factors.

    The pair is ``None`` without factors of both bands.
    """
    if ruler is None:
        return None, None
    n = n if subject.image_size == subject.shape[-1] else n // 2  # encoding is dear
    law, covariance = facts(subject, ruler, n)
    sizes = torch.tensor(columns(ruler.factors))
    outline, detail = (covariance[:, ruler.band(band).repeat_interleave(sizes)] for band in (OUTLINE, DETAIL))
    return law, (outline, detail) if outline.shape[1] and detail.shape[1] else None


def _compare(
    subject: Subject,
    levels: Levels,
    seeds: Sequence[int],
    at: Sequence[int],
    bands: tuple[Tensor, Tensor] | None,
    ruler: Ruler | None,
    cut: int,
    batch: int,
    strengths: int,
) -> tuple[list[Method], dict[str, Scores], Tensor]:
    """Paint and score every way on every seed; the methods, their scores, and the unchanged pictures."""
    parts: dict[str, list[Scores]] = {}
    before, methods = [], []
    for some in subject.batches(seeds, batch):
        start = levels.start(noise(some, subject.shape))
        run = solve(subject.denoise, start, levels, solver="dpmpp2m", seeds=some, progress=False)
        methods = Ways(subject, run, at, *(bands or (None, None)), strengths=strengths).every()
        before.append(run.final)
        missed = partial(_missed, subject, seeds=some)
        for m in methods:
            after = [m.paint(j) for j in range(len(m.strength))]
            scores = Scores.of(subject.gaussian, ruler, run.final, after, cut, missed=missed)
            parts.setdefault(m.name, []).append(scores)
    return methods, {name: Scores.join(part) for name, part in parts.items()}, torch.cat(before)


def _missed(subject: Subject, images: Tensor, *, seeds: Sequence[int]) -> Tensor:
    """The denoising error |D(x + sigma eps) - x|^2 (n,) of pictures at the noise level ``STRAIN``."""
    alpha = 1 / math.sqrt(1 + STRAIN**2)
    noisy = alpha * (images + STRAIN * noise([seed + 2 * FRESH for seed in seeds], subject.shape))
    return (subject.denoise(noisy, alpha, alpha * STRAIN).cpu() - images).flatten(1).square().sum(1)


def _held_together(scores: dict[str, Scores], ruler: Ruler | None, draws: int) -> dict[str, Any]:
    """Every way at equal change of the picture, and its most change beside that of plain noise."""
    wanted = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    table: dict[str, Any] = {"distance": wanted}
    pairs: dict[str, dict[str, tuple[Tensor, Tensor]]] = {"gain_rest": {}}
    for name, found in scores.items():
        named = {"low": found.low, "rest": found.rest}
        pairs["gain_rest"][name] = (1 - found.low, found.rest)
        shares = None if ruler is None or found.kept is None else band_shares(found.kept, ruler)
        for tail, (outline, detail) in (shares or {}).items():
            named |= {f"outline_kept{tail}": outline, f"detail_changed{tail}": 1 - detail}
            pairs.setdefault(f"gain{tail}", {})[name] = (outline, 1 - detail)
        table[name] = equal_change(wanted, found.moved, named, draws=draws)
    return {"equal": table} | {key: gains(pair, draws=draws) for key, pair in pairs.items()}


def _inversion(subject: Subject, own: Tensor, settings: Settings) -> dict[str, Any]:
    """The round-trip error of the model's own pictures, and of data where they are at hand."""
    n, steps = settings.pick(ci=2, book=6, full=40), settings.pick(ci=[4], book=[10, 20, 40], full=[10, 20, 40, 80])
    given = {"own": own[:n], "data": subject.data(n)}
    found: dict[str, Any] = {"steps": steps}

    def error(images: Tensor, steps: int, solver: str) -> dict[str, float | int]:
        levels, centre = even(subject, steps), subject.gaussian.mu
        return mean(round_trip(subject.denoise, images, levels, centre=centre, solver=solver)[1]).record()

    for name, images in given.items():
        found[name] = None
        if images is not None:
            found[name] = {how: [error(images.float(), k, how) for k in steps] for how in ("ddim", "heun")}
    return found


def _given(
    subject: Subject, levels: Levels, start: int, pcs: int, ruler: Ruler | None, n: int
) -> dict[str, dict[str, Any] | None]:
    """Data pictures varied at a level, their state there found by inversion, or made by plain noise."""
    images = subject.data(n)
    if images is None:
        return {"given": None, "given_renoise": None}
    images, level, g = images.float(), levels[start], subject.gaussian
    state = invert(subject.denoise, images, levels[start:]).final
    again = paint_on(subject.denoise, state, levels, start=start, solver="heun")
    error = (again - images).flatten(1).norm(dim=1) / (images.flatten(1) - g.mu.to(images)).norm(dim=1)
    fresh = noise(range(FRESH, FRESH + len(images)), subject.shape)
    states = {
        "given": repaint(g, state, fresh, level, keep="outline", pcs=pcs),
        "given_renoise": renoise(images, fresh, level),
    }
    found: dict[str, dict[str, Any] | None] = {}
    for name, x in states.items():
        scores = Scores.of(g, ruler, images, [paint_on(subject.denoise, x, levels, start=start)], pcs)
        table: dict[str, Any] = {"level": float(levels.ratio[start]), "pcs": pcs}
        named = {"distance": scores.moved, "low": scores.low, "rest": scores.rest}
        shares = None if ruler is None or scores.kept is None else band_shares(scores.kept, ruler)
        for tail, (outline, detail) in (shares or {}).items():
            named |= {f"outline_kept{tail}": outline, f"detail_changed{tail}": 1 - detail}
        found[name] = table | {key: mean(value).record() for key, value in named.items()}
    assert found["given"] is not None
    found["given"]["error"] = mean(error).record()
    return found
