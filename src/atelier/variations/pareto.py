"""Ways of varying a picture, held against each other: what each keeps of the outline, and what it changes of the rest.

Every way has one knob, its strength. Turning it draws a curve: outline kept against detail changed. Ways are compared
by these curves, at equal change of the picture as a whole, and by the most detail they change before the outline goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.networks.readers import columns
from atelier.scoring import DETAIL, OUTLINE, Ruler, distance
from atelier.statistics import bootstrap, rank_correlation, short
from atelier.variations.holding import Prediction
from painters.theory.gaussian import Gaussian

LEAST = 0.9
"""The share of the outline that a variation promises to keep."""
SMALL = 0.1
"""The largest change along the first PCs that counts as the same outline, for subjects without a reader."""


def most(kept: np.ndarray, changed: np.ndarray, *, least: float = LEAST) -> float:
    """Return the largest ``changed`` along a method's curve where ``kept`` is at least ``least``.

    The curve is the polyline from (1, 0), nothing done, through the points (kept_j, changed_j), (m,) each, in the order
    of strength. 0 if the outline is lost at once.
    """
    k, c = np.append(1.0, kept), np.append(0.0, changed)
    above = k >= least
    crosses = above[1:] != above[:-1]
    step = np.where(crosses, k[:-1] - k[1:], 1.0)
    at = c[:-1] + (k[:-1] - least) / step * (c[1:] - c[:-1])
    return float(max(c[above].max(), at[crosses].max(initial=0.0)))


def at_distance(moved: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return ``values`` (m,) of a method's points at distances ``wanted`` (q,), from their curve over ``moved`` (m,).

    Linear between neighbouring points by distance; NaN beyond the farthest and below the nearest.
    """
    order = np.argsort(moved)
    return np.interp(wanted, moved[order], values[order], left=np.nan, right=np.nan)


@dataclass(frozen=True, eq=False)
class Method:
    """One way of varying at m strengths, in the order of growing change.

    ``paint(j)`` returns the pictures (n, ...) of the current batch at strength j. ``knob``: what ``strength`` (m,)
    is. ``level`` (m,): noise level sigma/alpha at which the state is changed. ``pcs`` (m,): how many PCs are kept or
    redrawn. ``rho`` (m, r + 1): the law, see :func:`atelier.variations.holding.held`, with the remainder
    outside the PCs last. ``responses``: for each strength the matrix (r, r) of which rho is the
    diagonal, if it is no diagonal one.
    """

    name: str
    knob: str
    strength: Sequence[float]
    level: Sequence[float]
    paint: Callable[[int], Tensor] = field(repr=False)
    rho: Tensor = field(repr=False)
    pcs: Sequence[int] | None = None
    responses: Sequence[Tensor] | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Scores:
    """What a method did to n pictures at m strengths.

    ``moved`` (n, m): distance, 1 for unrelated. ``low`` and ``rest`` (n, m): squared change along the first ``cut`` PCs
    and in all other directions, 1 for unrelated. ``strain`` (n, m): how badly the pictures are denoised, 1 for those
    before. With a reader ``change`` and ``kept`` (n, m, F) and ``sure`` (n, m),
    else ``None``.
    """

    moved: Tensor
    low: Tensor
    rest: Tensor
    strain: Tensor | None = None
    change: Tensor | None = None
    kept: Tensor | None = None
    sure: Tensor | None = None

    @classmethod
    def of(
        cls,
        gaussian: Gaussian,
        ruler: Ruler | None,
        before: Tensor,
        after: Sequence[Tensor],
        cut: int,
        *,
        missed: Callable[[Tensor], Tensor] | None = None,
    ) -> Scores:
        """Score pictures ``after``, one batch (n, ...) for each strength, against ``before`` (n, ...).

        ``missed`` gives the denoising error (n,) of pictures.
        """
        low, rest = zip(*(split_change(gaussian, before, x, cut) for x in after))
        moved = torch.stack([distance(gaussian, before, x) for x in after], 1)
        plain = cls(moved, torch.stack(low, 1), torch.stack(rest, 1))
        if missed is not None:
            plain = replace(plain, strain=torch.stack([missed(x) for x in after], 1) / missed(before).mean())
        if ruler is None:
            return plain
        said, first = [ruler.answers(x) for x in after], ruler.answers(before)
        change = torch.stack([ruler.change(first, a) for a in said], 1)
        kept = torch.stack([ruler.kept(first, a) for a in said], 1)
        certain = torch.stack([sure(ruler, a) for a in said], 1)
        return replace(plain, change=change, kept=kept.double(), sure=certain)

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """Return the scores of several batches as one."""
        names = [name for name in cls.__dataclass_fields__ if getattr(parts[0], name) is not None]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def split_change(gaussian: Gaussian, before: Tensor, after: Tensor, cut: int) -> tuple[Tensor, Tensor]:
    """Return the squared change of states (n, ...) along the first ``cut`` PCs and in the rest, (n,) each.

    |P(after - before)|^2 / (2 tr P Sigma): 1 as for unrelated pictures, NaN for an empty part.
    """
    moved = (after - before).flatten(1).to(gaussian.mu)
    inside = (moved @ gaussian.U[:, :cut]).square().sum(1)
    top = float(gaussian.lam[:cut].sum())
    rest = float(gaussian.spectrum.sum()) - top
    outside = (moved.square().sum(1) - inside).clamp(min=0)
    return tuple(
        (part / (2 * whole) if whole > 1e-12 else torch.full_like(part, math.nan)).cpu()
        for part, whole in ((inside, top), (outside, rest))
    )  # type: ignore[return-value]


def sure(ruler: Ruler, answers: Tensor) -> Tensor:
    """Return how sure the reader is of kinds in answers (n, m): its largest probability, a mean over factors, (n,)."""
    parts = answers.split(columns(ruler.factors), 1)
    kinds = [part.max(1).values for f, part in zip(ruler.factors, parts) if f.kinds]
    return torch.stack(kinds, 1).mean(1) if kinds else answers.new_full((len(answers),), math.nan)


def describe(
    method: Method,
    scores: Scores,
    gaussian: Gaussian,
    *,
    cut: int,
    ruler: Ruler | None = None,
    law: Prediction | None = None,
    draws: int = 1000,
) -> dict[str, Any]:
    """Return one method's record, see :func:`atelier.variations.record.measure`."""
    lam = torch.cat([gaussian.lam, gaussian.lam.new_full((1,), gaussian.rest * (gaussian.dim - len(gaussian.lam)))])
    moved = (1 - method.rho.to(lam)) * lam
    found: dict[str, Any] = {
        "knob": method.knob,
        "strength": [float(f"{s:.4g}") for s in method.strength],
        "level": [float(f"{s:.4g}") for s in method.level],
        "pcs": None if method.pcs is None else list(method.pcs),
        "distance": records(scores.moved, draws),
        "low": records(scores.low, draws),
        "rest": records(scores.rest, draws),
        "low_law": short(moved[:, :cut].sum(1) / lam[:cut].sum()),
        "rest_law": short(moved[:, cut:].sum(1) / lam[cut:].sum()),
        "most_rest": bootstrap(torch.stack([1 - scores.low, scores.rest], 1), _most, draws=draws)[0].record(),
    }
    if scores.strain is not None:
        found["strain"] = records(scores.strain, draws)
    if ruler is None or scores.change is None or scores.kept is None or scores.sure is None:
        return found
    found |= {"change": short(scores.change.mean(0)), "kept": short(scores.kept.mean(0))}
    found["sure"] = short(scores.sure.mean(0))
    if law is not None:
        responses = method.responses or [rho[:-1] for rho in method.rho]
        found["predicted"] = short(torch.stack([law.keeps(response) for response in responses]))
    shares = band_shares(scores.kept, ruler)
    if shares is None:
        return found
    for tail, (outline, detail) in shares.items():
        found[f"outline_kept{tail}"] = records(outline, draws)
        found[f"detail_changed{tail}"] = records(1 - detail, draws)
        for name, pair in (("most_detail", (outline, 1 - detail)), ("most_outline", (detail, 1 - outline))):
            found[f"{name}{tail}"] = bootstrap(torch.stack(pair, 1), _most, draws=draws)[0].record()
    return found


def band_shares(kept: Tensor, ruler: Ruler) -> dict[str, tuple[Tensor, Tensor]] | None:
    """Return the shares of outline and of detail factors kept, (n, m) each, raw and corrected for chance.

    ``kept`` (n, m, F). Corrected: (kept - chance)/(1 - chance), 0 for unrelated pictures. ``None`` unless the ruler has
    factors of both bands.
    """
    outline, detail = ruler.band(OUTLINE), ruler.band(DETAIL)
    if not (outline.any() and detail.any()):
        return None
    corrected = (kept - ruler.chance) / (1 - ruler.chance)
    return {
        tail: (part[..., outline].mean(-1), part[..., detail].mean(-1))
        for tail, part in (("", kept), ("_corrected", corrected))
    }


def unrelated(gaussian: Gaussian, before: Tensor, cut: int) -> dict[str, float]:
    """Return ``distance``, ``low`` and ``rest`` of pictures (n, ...) of unrelated seeds, 1 if they vary as data do."""
    apart = Scores.of(gaussian, None, before, [before.roll(1, 0)], cut)
    return {"distance": float(apart.moved.mean()), "low": float(apart.low.mean()), "rest": float(apart.rest.mean())}


def factors(ruler: Ruler, law: Prediction | None) -> dict[str, Any]:
    """Return what is known of the ruler's factors beforehand, as JSON stores it."""
    return {
        "names": ruler.names,
        "outline": ruler.band(OUTLINE).int().tolist(),
        "detail": ruler.band(DETAIL).int().tolist(),
        "chance": short(ruler.chance),
        "r2": None if law is None else short(law.r2),
    }


def records(values: Tensor, draws: int) -> list[dict[str, float | int]]:
    """Return the means of numbers (n, m) over n with their intervals, as JSON stores them."""
    return [v.record() for v in bootstrap(values, draws=draws)]


def _most(part: np.ndarray) -> float:
    """The most change along the mean curve of rows (n, 2, m): what is kept, and what changed."""
    kept, changed = part.mean(0)
    return most(kept, changed)


def gains(
    pairs: Mapping[str, tuple[Tensor, Tensor]], *, against: str = "renoise", draws: int = 1000
) -> dict[str, dict[str, float | int]]:
    """Return by how much each method's most change exceeds that of ``against``, paired over seeds, as intervals.

    ``pairs``: for each method what is kept and what changed, (n, m) each.
    """
    rows = {name: torch.stack(pair, 1).numpy() for name, pair in pairs.items()}

    def difference(name: str) -> Callable[[np.ndarray], float]:
        def of(picks: np.ndarray) -> float:
            i = picks.astype(int)
            return _most(rows[name][i]) - _most(rows[against][i])

        return of

    seeds = np.arange(len(rows[against]))
    return {name: bootstrap(seeds, difference(name), draws=draws)[0].record() for name in rows if name != against}


def equal_change(
    wanted: Sequence[float], moved: Tensor, table: Mapping[str, Tensor], *, draws: int = 1000
) -> dict[str, list[dict[str, float | int]]]:
    """Return numbers of a method, (n, m) each in ``table``, at equal pixel change ``wanted`` (q,), with intervals."""

    def read(part: np.ndarray) -> np.ndarray:
        return at_distance(part[:, 0].mean(0), part[:, 1].mean(0), np.asarray(wanted))

    return {
        name: [v.record() for v in bootstrap(torch.stack([moved, values], 1), read, draws=draws)]
        for name, values in table.items()
    }


def held_against_law(record: Mapping[str, Any], draws: int = 500) -> dict[str, Any]:
    """Return how well the factor law orders what a method kept, over pairs of factor and strength.

    ``rank``: Spearman's correlation of predicted and measured 1 - change, with its interval over pairs, null for less
    than three. ``bias``: the mean of measured minus predicted.
    """
    predicted = np.array(record["predicted"], dtype=float).ravel()
    measured = 1 - np.array(record["change"]).ravel()
    known = np.isfinite(predicted)
    rank = rank_correlation(predicted, measured, draws=draws).record() if known.sum() > 2 else None
    return {"rank": rank, "bias": float((measured - predicted)[known].mean())}
