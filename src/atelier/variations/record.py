"""The measurement of variations: what each way keeps of the outline, and what it changes of the rest.

Every way has one strength. Turning it draws a curve: outline kept against detail changed. Ways are compared by the most
detail they change before the outline goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.evidence.factors import READABLE
from atelier.manifold.knobs import Facts, instruments
from atelier.scoring import Ruler
from atelier.statistics import bootstrap, mean, short
from atelier.subject import Settings, Subject
from atelier.variations.states import round_trip, standing
from atelier.variations.ways import Way, changed_at, ways
from painters.sampling import noise, solve

STEPS = 20
"""Steps of every run that is compared; a variation resumes in the middle of one."""
LEAST = 0.9
"""The share of the outline that a variation promises to keep."""
INVERTED = ("ddim", "heun")
"""The solvers by which pictures are inverted."""


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Hold the ways of varying a picture against each other, and measure how well given pictures are inverted.

    An interval is {"value", "low", "high", "n"} over seeds. Where a reader tells factors of outline and of detail, what
    :func:`compared` returns. ``inversion``, where there are pictures of the data: ``steps``, and ``data``, the
    round-trip error of test pictures by solver (one interval for each number of steps). ``None`` if there is neither,
    and for a subject that only knows the mean.
    """
    if subject.kind == "mean":
        return None
    record = {}
    tools = instruments(subject, settings)
    if tools is not None and not tools[0].outline().all():
        record = compared(subject, *tools, settings)
    images = subject.data(settings.pick(ci=2, book=24, full=40))
    if images is not None:
        levels, mu = subject.levels(STEPS, spacing="even"), subject.gaussian.mu
        errors = {s: round_trip(subject.denoise, images.float(), levels, centre=mu, solver=s)[1] for s in INVERTED}
        record["inversion"] = {"steps": [STEPS], "data": {s: [mean(e).record()] for s, e in errors.items()}}
    return record or None


def compared(subject: Subject, ruler: Ruler, facts: Facts, settings: Settings) -> dict[str, Any]:
    """Return what every way does to a reader's factors, over seeds.

    ``seeds``, ``steps``. ``factors``: ``names``, ``chance`` (F,) of being kept between unrelated pictures, and
    ``outline`` (F,), 1 or 0. ``methods``, by name (see :func:`~atelier.variations.ways.ways`): see :func:`described`;
    ``state`` also says how many ``pcs`` (m,) it keeps, and which share of what is known of a factor they ``carry``
    (m, F), NaN for one with R_f^2 below .05. ``gain`` and ``gain_corrected``: for each way its ``most_detail`` less
    that of ``renoise``, paired over seeds.
    """
    seeds = settings.seeds[: settings.pick(ci=3, book=64, full=len(settings.seeds))]
    draws = settings.pick(ci=50, book=1000, full=2000)
    levels = subject.levels(settings.pick(ci=5, book=STEPS, full=STEPS), spacing="even")
    at = changed_at(levels, most=settings.pick(ci=1, book=6, full=6))
    outline = ruler.outline()
    details = facts.alone(*(f.name for f, large in zip(ruler.factors, outline) if not large))
    made: dict[str, Way] = {}
    parts: dict[str, list[Tensor]] = {}
    for some in subject.batches(seeds, settings.batch):
        start = levels.start(noise(some, subject.shape))
        run = solve(subject.denoise, start, levels, solver="dpmpp2m", seeds=some, progress=False)
        made, was = ways(subject, run, at, details, most=settings.pick(ci=2, book=4, full=4)), ruler.answers(run.final)
        for name, way in made.items():
            after = [ruler.answers(way.pictures(j)) for j in range(len(way.strength))]
            parts.setdefault(name, []).append(torch.stack([ruler.kept(was, said) for said in after], 1).double())
    kept = {name: torch.cat(part) for name, part in parts.items()}  # (n, m, F) each
    pcs = [standing(subject.gaussian, levels[i]) for i in at]
    methods = {name: described(way, kept[name], ruler, draws=draws) for name, way in made.items()}
    carry = torch.stack([facts.r2(k) for k in pcs]) / torch.where(facts.r2() >= READABLE, facts.r2(), torch.nan)
    methods["state"] |= {"pcs": pcs, "carry": short(carry)}
    curves = {name: shares(part, ruler) for name, part in kept.items()}
    return {
        "seeds": len(seeds),
        "steps": levels.steps,
        "factors": {"names": ruler.names, "chance": short(ruler.chance), "outline": outline.int().tolist()},
        "methods": methods,
    } | {
        f"gain{tail}": gains({name: curve[tail] for name, curve in curves.items()}, draws=draws)
        for tail in curves["renoise"]
    }


def described(way: Way, kept: Tensor, ruler: Ruler, *, draws: int = 1000) -> dict[str, Any]:
    """Return one way's record, from ``kept`` (n, m, F), 1 for a factor that is.

    ``level`` or ``angle`` (m,), in the order of growing change; ``kept`` (m, F), the mean; ``outline_kept`` and
    ``detail_changed`` (m intervals), and ``most_detail``, the largest ``detail_changed`` where ``outline_kept`` is at
    least 0.9; all three also ``_corrected`` for chance, see :func:`shares`.
    """
    found: dict[str, Any] = {way.knob: [float(f"{s:.4g}") for s in way.strength], "kept": short(kept.mean(0))}
    for tail, pair in shares(kept, ruler).items():
        for key, values in zip(("outline_kept", "detail_changed"), pair.unbind(1)):
            found[key + tail] = [v.record() for v in bootstrap(values, draws=draws)]
        found[f"most_detail{tail}"] = bootstrap(pair, _most, draws=draws)[0].record()
    return found


def shares(kept: Tensor, ruler: Ruler) -> dict[str, Tensor]:
    """Return what is kept of the outline and what changes of the detail, (n, 2, m), raw and ``_corrected`` for chance.

    ``kept`` (n, m, F). Corrected: kept less chance over 1 less chance, and changed over 1 less chance, factor by factor
    before the mean: 0 of the outline is kept and 1 of the detail changes as for unrelated pictures.
    """
    outline, corrected = ruler.outline(), (kept - ruler.chance) / (1 - ruler.chance)
    return {
        tail: torch.stack([part[..., outline].mean(-1), 1 - part[..., ~outline].mean(-1)], 1)
        for tail, part in (("", kept), ("_corrected", corrected))
    }


def most(kept: np.ndarray, changed: np.ndarray, *, least: float = LEAST) -> float:
    """Return the largest ``changed`` along a way's curve where ``kept`` is at least ``least``.

    The curve is the polyline from (1, 0), nothing done, through the points (kept_j, changed_j), (m,) each, in the order
    of strength. 0 if the outline is lost at once.
    """
    k, c = np.append(1.0, kept), np.append(0.0, changed)
    above = k >= least
    crosses = above[1:] != above[:-1]
    step = np.where(crosses, k[:-1] - k[1:], 1.0)  # 1 where it is not used: no division by zero
    at = c[:-1] + (k[:-1] - least) / step * (c[1:] - c[:-1])
    return float(max(c[above].max(), at[crosses].max(initial=0.0)))


def _most(part: np.ndarray) -> float:
    """The most change along the mean curve of rows (n, 2, m): what is kept, and what changed."""
    return most(*part.mean(0))


def gains(pairs: Mapping[str, Tensor], *, draws: int = 1000) -> dict[str, dict[str, float | int]]:
    """Return by how much each way's most change exceeds that of noise and back, paired over seeds, as intervals.

    ``pairs``: for each way what is kept of the outline and what changes of the detail, (n, 2, m).
    """
    rows = {name: pair.numpy() for name, pair in pairs.items()}

    def difference(name: str) -> Callable[[np.ndarray], float]:
        def of(picks: np.ndarray) -> float:
            i = picks.astype(int)
            return _most(rows[name][i]) - _most(rows["renoise"][i])

        return of

    seeds = np.arange(len(rows["renoise"]))
    return {name: bootstrap(seeds, difference(name), draws=draws)[0].record() for name in rows if name != "renoise"}
