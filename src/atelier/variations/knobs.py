"""A knob for each named factor: directions of a noisy state that tell this factor and no other, turned on purpose.

On one Gaussian the PF-ODE carries whitened coordinates z = (alpha^2 Sigma + sigma^2 I)^(-1/2) (x - alpha mu) unchanged
from any level to the picture, and the best affine estimate of a factor f reads them with the weights w_f = Sigma^(-1/2)
Cov(x_0, f). The part of w_f orthogonal to all other factors' weights is a knob: turning z along it changes what can be
read of f, and nothing that can be read of the others.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from atelier.evidence import factors as readings
from atelier.evidence.order import even
from atelier.networks.readers import columns
from atelier.scoring import Ruler, distance
from atelier.statistics import mean, short
from atelier.subject import Settings, Subject
from atelier.variations.holding import Prediction
from atelier.variations.resampling import informative, whiten
from atelier.variations.ways import FRESH
from painters.levels import Level
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames

LEVEL = 0.75
"""Noise level sigma/alpha near which the knobs are turned: late enough to know the outline, early enough to repaint."""


def telling(gaussian: Gaussian, covariance: Tensor, which: Tensor) -> Tensor:
    """Return whitened directions (D, b) that tell the facts ``which`` (m,) bool, and none of the others.

    ``covariance``: Cov(x_0, f) (D, m) of all m facts.
    """
    if bool(which.all()):
        return informative(gaussian, covariance)
    return informative(gaussian, covariance[:, which], besides=informative(gaussian, covariance[:, ~which]))


def turn(gaussian: Gaussian, x: Tensor, fresh: Tensor, level: Level, basis: Tensor, angle: float) -> Tensor:
    """Return states (B, ...) whose whitened coordinates along ``basis`` (D, b) are turned, all others kept.

    z' = z + Q Q^T ((cos(angle) - 1) z + sin(angle) fresh), Q = ``basis``: nothing happens at 0, the coordinates are
    drawn anew at pi/2 and mirrored at pi. ``fresh`` (B, ...) is unit noise. The law of the level is kept.
    """
    z, Q = whiten(gaussian, x, level), basis.to(gaussian.mu)
    moved = (((math.cos(angle) - 1) * z + math.sin(angle) * fresh.flatten(1).to(z)) @ Q) @ Q.T
    return gaussian.sample(z + moved, level=level).reshape(x.shape).to(x)


def facts(subject: Subject, ruler: Ruler, n: int) -> tuple[Prediction, Tensor]:
    """Return the factor law of the ruler's factors, and Cov(x_0, f) (D, m), from ``n`` training states.

    Raises ``ValueError`` if there are no data.
    """
    data = readings.known(subject, n, test=False)
    if data is None:
        raise ValueError(f"the data of {subject.name} are not at hand")
    used = torch.tensor([f in ruler.factors for f in data.factors]).repeat_interleave(
        torch.tensor(columns(data.factors))
    )
    law, other = readings.law(subject.gaussian, readings.Known(data.states, data.facts[:, used], ruler.factors))
    return Prediction.of(law, other, columns(ruler.factors)), (law.covariance + other) / 2


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Turn the knob of each factor by pi at one noise level, and measure what becomes of every factor.

    Keys. ``seeds``, ``level`` (sigma/alpha), ``factors`` (F,); ``directions`` (F,): how many each knob has; ``change``
    and ``kept`` (F, F): row = knob, column = factor, means over seeds, changes in units of unrelated pictures;
    ``own``, ``others`` (F intervals): change of the knob's own factor, and the mean of all others'; ``own_kept``,
    ``others_kept`` (F intervals); ``purity`` (F,): own share of all change; ``right`` (F,): 1 where the knob's own
    factor changed most; ``distance`` (F,) of the pictures; ``predicted`` (F, F): the change of each factor's affine
    part by the factor law; ``null`` (F,): change of each factor when two random directions of the first PCs are turned
    instead. ``None`` without a reader, data, or with a single factor.
    """
    ruler = Ruler.of(subject, settings.pick(ci=60, book=400, full=400))
    if ruler is None or len(ruler.factors) < 2 or subject.kind == "mean":
        return None
    latent = 1 if subject.image_size == subject.shape[-1] else 2  # encoding is dear
    law, covariance = facts(subject, ruler, settings.pick(ci=400, book=6000, full=20_000) // latent)
    seeds = settings.seeds[: settings.pick(ci=2, book=24, full=len(settings.seeds))]
    levels, g = even(subject, settings.pick(ci=5, book=20, full=20)), subject.gaussian
    start = min(range(1, levels.steps), key=lambda i: abs(float(levels.ratio[i]) - LEVEL))
    x = solve(
        subject.denoise, levels.start(noise(seeds, subject.shape)), levels, stop=start, save=Frames(None),
        solver="dpmpp2m", progress=False,
    ).final  # fmt: skip

    def finish(state: Tensor) -> Tensor:
        run = solve(subject.denoise, state, levels, start=start, save=Frames(None), solver="dpmpp2m", progress=False)
        return run.final

    fresh = noise([seed + FRESH for seed in seeds], subject.shape)
    before = finish(x)
    said = ruler.answers(before)
    sizes = torch.tensor(columns(ruler.factors))
    rows: dict[str, list[Tensor]] = {"change": [], "kept": [], "predicted": [], "distance": [], "directions": []}
    for f in range(len(sizes)):
        Q = telling(g, covariance, (torch.arange(len(sizes)) == f).repeat_interleave(sizes))
        after = finish(turn(g, x, fresh, levels[start], Q, math.pi))
        answers, along = ruler.answers(after), g.U.T @ Q
        response = torch.eye(len(g.lam)).to(along) - 2 * along @ along.T
        rows["change"].append(ruler.change(said, answers))
        rows["kept"].append(ruler.kept(said, answers).double())
        rows["predicted"].append(1 - law.keeps(response.double().cpu()))
        rows["distance"].append(distance(g, before, after))
        rows["directions"].append(torch.tensor(Q.shape[1]))
    null = ruler.change(said, ruler.answers(finish(turn(g, x, fresh, levels[start], _random(g), math.pi))))
    return _record(rows, null, ruler, len(seeds), float(levels.ratio[start]))


def _random(gaussian: Gaussian, b: int = 2, first: int = 40) -> Tensor:
    """Random orthonormal directions (D, b) among the first PCs."""
    k = min(first, len(gaussian.lam))
    mixed = torch.randn(k, b, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(gaussian.U[:, :k] @ mixed.to(gaussian.U)).Q


def _record(rows: dict[str, list[Tensor]], null: Tensor, ruler: Ruler, n: int, level: float) -> dict[str, Any]:
    change, kept = torch.stack(rows["change"]), torch.stack(rows["kept"])  # (knob, n, factor)
    F = len(change)
    own = torch.eye(F, dtype=torch.bool)[:, None].expand_as(change)

    def parts(values: Tensor) -> tuple[Tensor, Tensor]:
        """The knob's own factor, and the mean of the others: (F, n) each."""
        mine = values.diagonal(dim1=0, dim2=2).T
        return mine, torch.where(own, 0.0, values).sum(-1) / (F - 1)

    found: dict[str, Any] = {
        "seeds": n,
        "level": level,
        "factors": ruler.names,
        "directions": [int(v) for v in rows["directions"]],
        "change": short(change.mean(1)),
        "kept": short(kept.mean(1)),
        "predicted": short(torch.stack(rows["predicted"])),
        "distance": short(torch.stack(rows["distance"]).mean(1)),
        "null": short(null.mean(0)),
        "right": (change.mean(1).argmax(1) == torch.arange(F)).int().tolist(),
        "purity": short(change.mean(1).diagonal() / change.mean(1).sum(1)),
    }
    for name, values in (("", change), ("_kept", kept)):
        for who, part in zip(("own", "others"), parts(values)):
            found[f"{who}{name}"] = [mean(row).record() for row in part]
    return found
