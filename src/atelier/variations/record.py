"""The measurement of variations: what each way keeps of the outline, and what it changes of the rest.

Every way has one strength. Turning it draws a curve: outline kept against detail changed. Ways are compared by the most
detail they change before the outline goes, and held against their law in the exact Gaussian world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.manifold.knobs import Facts
from atelier.scoring import DETAIL, OUTLINE, Ruler, distance
from atelier.statistics import bootstrap, mean, short
from atelier.subject import Settings, Subject, levels_at
from atelier.variations.states import round_trip, standing
from atelier.variations.ways import Way, changed_at, ways
from painters.levels import Levels
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian

STEPS = 20
"""Steps of every run that is compared; a variation resumes in the middle of one."""
LEAST = 0.9
"""The share of the outline that a variation promises to keep."""
CUT = 1.0
"""The PCs that stand at this noise level sigma/alpha are the outline where the law of a way is tested."""


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Hold the ways of varying a picture against each other, and measure how well given pictures are inverted.

    An interval is {"value", "low", "high", "n"} over seeds; m strengths of a way stand in the order of growing change.
    ``seeds``, ``steps``; ``cut``: the PCs that stand at noise level ``cut_level``. ``factors``: ``names`` and
    ``chance`` (F,), or null. ``methods``, by name, see :func:`~atelier.variations.ways.ways` and :func:`described`.
    ``gain`` and ``gain_corrected``: for each way its ``most_detail`` less that of ``renoise``, paired over seeds.
    ``inversion``: ``steps``, and ``data``, the round-trip error of test pictures by solver (one interval for each
    number of steps). ``None`` for a subject that only knows the mean.
    """
    if subject.kind == "mean":
        return None
    many = 32 if subject.dim < 1000 else 20
    seeds = settings.seeds[: settings.pick(ci=3, book=many, full=len(settings.seeds))]
    draws = settings.pick(ci=50, book=1000, full=2000)
    levels = subject.levels(settings.pick(ci=5, book=STEPS, full=STEPS), spacing="even")
    ruler = Ruler.of(subject, settings.pick(ci=60, book=400, full=400))
    latent = 1 if subject.image_size == subject.shape[-1] else 2  # encoding is dear
    n = settings.pick(ci=100, book=6000, full=20_000) // latent
    facts = None if ruler is None else Facts.of(subject, ruler.factors, n)
    (middle,) = levels_at(levels, [CUT])
    cut = standing(subject.gaussian, levels[middle])
    made, scores = _compare(subject, ruler, levels, seeds, cut, settings)
    record: dict[str, Any] = {
        "seeds": len(seeds),
        "steps": levels.steps,
        "cut": cut,
        "cut_level": float(levels.ratio[middle]),
        "factors": None if ruler is None else {"names": ruler.names, "chance": short(ruler.chance)},
        "methods": {
            name: described(way, scores[name], subject.gaussian, cut, ruler=ruler, facts=facts, draws=draws)
            for name, way in made.items()
        },
        "inversion": _inversion(subject, settings),
    }
    curves = {name: {} if ruler is None else shares(found["kept"], ruler) for name, found in scores.items()}
    for tail in curves["renoise"]:
        record[f"gain{tail}"] = gains({name: curve[tail] for name, curve in curves.items()}, draws=draws)
    return record


def _compare(
    subject: Subject, ruler: Ruler | None, levels: Levels, seeds: Sequence[int], cut: int, settings: Settings
) -> tuple[dict[str, Way], dict[str, dict[str, Tensor]]]:
    """Paint and score every way on every seed; the ways and their scores."""
    at = changed_at(levels, most=settings.pick(ci=1, book=6, full=6))
    parts: dict[str, list[dict[str, Tensor]]] = {}
    made: dict[str, Way] = {}
    for some in subject.batches(seeds, settings.batch):
        start = levels.start(noise(some, subject.shape))
        run = solve(subject.denoise, start, levels, solver="dpmpp2m", seeds=some, progress=False)
        made = ways(subject, run, at, most=settings.pick(ci=2, book=4, full=4))
        for name, way in made.items():
            after = [way.pictures(j) for j in range(len(way.strength))]
            parts.setdefault(name, []).append(scored(subject.gaussian, ruler, run.final, after, cut))
    return made, {name: {key: torch.cat([p[key] for p in part]) for key in part[0]} for name, part in parts.items()}


def scored(
    gaussian: Gaussian, ruler: Ruler | None, before: Tensor, after: Sequence[Tensor], cut: int
) -> dict[str, Tensor]:
    """Return what a way did to pictures ``before`` (n, ...), made ``after`` (m times n, ...) at m strengths.

    ``distance`` (n, m): 1 for unrelated. ``low`` (n, m): squared change along the first ``cut`` PCs, 1 for unrelated.
    With a reader ``kept`` (n, m, F): 1 for a factor that is.
    """
    found = {
        "distance": torch.stack([distance(gaussian, before, x) for x in after], 1),
        "low": torch.stack([change_along(gaussian, before, x, cut) for x in after], 1),
    }
    if ruler is not None:
        said = ruler.answers(before)
        found["kept"] = torch.stack([ruler.kept(said, ruler.answers(x)) for x in after], 1).double()
    return found


def change_along(gaussian: Gaussian, before: Tensor, after: Tensor, cut: int) -> Tensor:
    """Return |P(after - before)|^2 / (2 tr P Sigma) of states (n, ...), P the first ``cut`` PCs, (n,).

    1 as for unrelated pictures, NaN without a PC.
    """
    moved = (after - before).flatten(1).to(gaussian.mu) @ gaussian.U[:, :cut]
    return (moved.square().sum(1) / (2 * gaussian.lam[:cut].sum())).cpu()


def described(
    way: Way,
    scores: Mapping[str, Tensor],
    gaussian: Gaussian,
    cut: int,
    *,
    ruler: Ruler | None = None,
    facts: Facts | None = None,
    draws: int = 1000,
) -> dict[str, Any]:
    """Return one way's record.

    ``level`` or ``angle``, and ``pcs``, (m,) each; ``distance`` and ``low`` (m intervals), see :func:`scored`, and
    ``low_law`` (m,) of the exact Gaussian. With a reader ``kept`` and, by the factor law, ``predicted`` (m, F), the
    share kept of a factor's affine estimate. With factors of outline and detail ``outline_kept`` and
    ``detail_changed`` (m intervals), and ``most_detail``, the largest ``detail_changed`` where ``outline_kept`` is at
    least 0.9; all three also ``_corrected`` for chance, see :func:`shares`.
    """
    lam = gaussian.lam[:cut].double().cpu()
    found: dict[str, Any] = {
        way.knob: [float(f"{s:.4g}") for s in way.strength],
        "pcs": None if way.pcs is None else list(way.pcs),
        "distance": _intervals(scores["distance"], draws),
        "low": _intervals(scores["low"], draws),
        "low_law": short(((1 - way.rho[:, :cut]) * lam).sum(1) / lam.sum()),
    }
    if ruler is None:
        return found
    found["kept"] = short(scores["kept"].mean(0))
    if facts is not None:
        found["predicted"] = short(torch.stack([facts.keeps(rho[:-1]) for rho in way.rho]))
    for tail, (outline, detail) in shares(scores["kept"], ruler).items():
        found[f"outline_kept{tail}"] = _intervals(outline, draws)
        found[f"detail_changed{tail}"] = _intervals(1 - detail, draws)
        pair = torch.stack([outline, 1 - detail], 1)
        found[f"most_detail{tail}"] = bootstrap(pair, _most, draws=draws)[0].record()
    return found


def _intervals(values: Tensor, draws: int) -> list[dict[str, float | int]]:
    return [v.record() for v in bootstrap(values, draws=draws)]


def shares(kept: Tensor, ruler: Ruler) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the shares of outline and of detail factors kept, (n, m) each, raw and ``_corrected`` for chance.

    ``kept`` (n, m, F). Corrected: (kept - chance)/(1 - chance), 0 for unrelated pictures. Empty unless the ruler has
    factors of both bands.
    """
    outline, detail = ruler.band(OUTLINE), ruler.band(DETAIL)
    if not (outline.any() and detail.any()):
        return {}
    corrected = (kept - ruler.chance) / (1 - ruler.chance)
    return {
        tail: (part[..., outline].mean(-1), part[..., detail].mean(-1))
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


def gains(pairs: Mapping[str, tuple[Tensor, Tensor]], *, draws: int = 1000) -> dict[str, dict[str, float | int]]:
    """Return by how much each way's most change exceeds that of noise and back, paired over seeds, as intervals.

    ``pairs``: for each way what is kept of outline and of detail, (n, m) each.
    """
    rows = {name: torch.stack([outline, 1 - detail], 1).numpy() for name, (outline, detail) in pairs.items()}

    def difference(name: str) -> Callable[[np.ndarray], float]:
        def of(picks: np.ndarray) -> float:
            i = picks.astype(int)
            return _most(rows[name][i]) - _most(rows["renoise"][i])

        return of

    seeds = np.arange(len(rows["renoise"]))
    return {name: bootstrap(seeds, difference(name), draws=draws)[0].record() for name in rows if name != "renoise"}


def _inversion(subject: Subject, settings: Settings) -> dict[str, Any]:
    """The round-trip error of pictures of the data, where they are at hand."""
    steps = settings.pick(ci=[4], book=[10, 20, 40], full=[10, 20, 40, 80])
    images = subject.data(settings.pick(ci=2, book=6, full=40))
    if images is None:
        return {"steps": steps, "data": None}

    def error(steps: int, solver: str) -> dict[str, float | int]:
        levels, centre = subject.levels(steps, spacing="even"), subject.gaussian.mu
        return mean(round_trip(subject.denoise, images.float(), levels, centre=centre, solver=solver)[1]).record()

    return {"steps": steps, "data": {how: [error(k, how) for k in steps] for how in ("ddim", "heun")}}
