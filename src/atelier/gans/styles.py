"""What a GAN and a diffusion map are asked alike: what stands when, where an axis leads, and what mixing keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from atelier.gans.pullback import readout
from atelier.networks.generator import Generator
from atelier.scoring import DETAIL, OUTLINE, Ruler, distance, linearity, purity
from atelier.statistics import mean, rank_correlation
from atelier.variations import repaint
from painters.levels import Level
from painters.sampling import noise
from painters.theory.gaussian import Gaussian

Paint = Callable[[Tensor], Tensor]
"""Unit normal numbers (B, ...) -> images (B, ...)."""

PCS = 32
"""Components that depth is read in."""
STOPS = torch.linspace(-2, 2, 7)
"""Coordinates along an axis, in standard deviations, at which a walk stops."""
WALKED = 4
"""Axes that are walked at each point, beside a random direction."""
OTHER, ASTRAY = 2**27, 2**26
"""Added to a seed for the picture it is mixed with, and for its random direction."""
KEPT = (4, 16, 64, 256)
"""How many PCs of the noise are kept in PC-selective resampling."""
ANGLES = (0.25, 0.5, 0.75)
"""How far two latents are mixed, in right angles."""

ROLLS = 11
"""Pictures are compared with so many others of their set, less one, for what chance keeps."""


def depth(stages: Sequence[Tensor], pictures: Sequence[Tensor], final: Tensor, gaussian: Gaussian) -> dict[str, Any]:
    """Return how much of the final images' PCs (n, ...) is known at each stage, in two ways.

    ``painted`` [stages][PCs]: 1 - Var(c - c_final) / Var(c_final) of the coordinates c of the ``pictures`` as they
    stand there; ``readout``: R^2 of ridge regression from ``stages`` on held-out images. ``early``: rank correlation,
    over PCs, of their variance in the data with how early they stand, the mean over stages of ``painted``, at least 0.
    """
    basis = gaussian.U[:, :PCS].double().cpu()

    def coordinates(x: Tensor) -> Tensor:
        return x.flatten(1).double().cpu() @ basis

    target = coordinates(final)
    painted = [1 - (coordinates(p) - target).var(0) / target.var(0) for p in pictures]
    known = readout([stage.cpu() for stage in stages], target).r2
    area = torch.stack(painted).clamp(min=0).mean(0)
    return {
        "painted": torch.stack(painted).tolist(),
        "readout": known.tolist(),
        "early": rank_correlation(gaussian.lam[: basis.shape[1]].cpu(), area).record(),
    }


def line(z: Tensor, axis: Tensor, stops: Tensor = STOPS) -> Tensor:
    """Return ``z`` (...) with its coordinate along a unit ``axis`` (...) set to each of ``stops`` (T,), (T, ...).

    That coordinate is unit normal for unit normal z, so the walk does not leave what is typical, whatever the axis.
    """
    here = (z * axis).sum()
    return z + (stops.to(z) - here).reshape(-1, *(1,) * z.ndim) * axis


def walks(ruler: Ruler, paint: Paint, z: Tensor, axes: Tensor) -> dict[str, Any]:
    """Return what walks along the first ``axes`` (n, d, ...) at latents ``z`` (n, ...) change, and random directions.

    ``axis 1`` to ``axis 4`` and ``random`` (in the span of the axes): ``factor`` [n], the name of the one that changed
    most between the ends; intervals over points of ``purity``, the share of all change that falls on it, ``linearity``
    in the coordinate, ``change``, the mean over factors, 1 as for unrelated pictures, and ``distance`` of the ends.
    """
    weights = noise([ASTRAY + i for i in range(len(z))], (axes.shape[1],)).to(axes)
    astray = torch.einsum("nd,nd...->n...", weights / weights.norm(dim=1, keepdim=True), axes)
    kinds = {f"axis {k + 1}": axes[:, k] for k in range(min(WALKED, axes.shape[1]))} | {"random": astray}
    found = {}
    for name, directions in kinds.items():
        steps = torch.stack([line(a, b.to(a)) for a, b in zip(z, directions)])
        with torch.no_grad():
            images = paint(steps.flatten(0, 1))
        said = ruler.answers(images).reshape(len(z), len(STOPS), -1)
        change = ruler.change(said[:, 0], said[:, -1])
        most = [ruler.names[int(i)] for i in change.argmax(1)]
        ends = images.reshape(len(z), len(STOPS), *images.shape[1:])[:, [0, -1]]
        found[name] = {
            "factor": most,
            "purity": mean(purity(change)).record(),
            "linearity": mean(torch.tensor([linearity(ruler.path(p, f), STOPS) for p, f in zip(said, most)])).record(),
            "change": mean(change.mean(1)).record(),
            "distance": mean(distance(ruler.subject.gaussian, ends[:, 0], ends[:, 1])).record(),
        }
    return found


def mixing(ruler: Ruler, generator: Generator, paint: Any, n: int) -> dict[str, list[dict[str, Any]]]:
    """Return what mixing two pictures keeps of the first one's outline, and what it changes of its details.

    ``styles``: the first ``at`` blocks of the GAN take the style of the first picture, the others of the second; 0 is
    another picture. ``pcs``: of the noise, the coordinates along the first ``at`` PCs are kept and the others drawn
    anew. ``gan angle`` and ``map angle``: z cos a + z' sin a, ``at`` in right angles, as plain mixing. Each entry has
    intervals over pictures, see :func:`scored`.
    """
    g = ruler.subject.gaussian
    seeds = range(n)
    z, other = (noise([s + shift for s in seeds], (generator.latent,)) for shift in (0, OTHER))
    x, fresh = (noise([s + shift for s in seeds], ruler.subject.shape) for shift in (0, OTHER))
    level: Level = (0.0, 1.0)
    with torch.no_grad():
        first, source = generator(z), paint(x)
        makers = {
            "styles": [(c, generator.mix(z, other, cut=c)) for c in range(generator.blocks)],
            "gan angle": [(a, generator(turned(z, other, a))) for a in ANGLES],
            "pcs": [(k, paint(repaint(g, x, fresh, level, keep="outline", pcs=k))) for k in KEPT if k <= len(g.lam)],
            "map angle": [(a, paint(turned(x, fresh, a))) for a in (*ANGLES, 1.0)],
        }
    before = {"styles": first, "gan angle": first, "pcs": source, "map angle": source}
    return {
        name: [{"at": at} | scored(ruler, before[name], after) for at, after in made] for name, made in makers.items()
    }


def turned(z: Tensor, other: Tensor, share: float) -> Tensor:
    """Return z cos a + z' sin a with a = ``share`` of a right angle: unit normal if both are, and independent."""
    return z * math.cos(share * math.pi / 2) + other * math.sin(share * math.pi / 2)


def scored(ruler: Ruler, before: Tensor, after: Tensor) -> dict[str, Any]:
    """Compare pictures (n, ...): intervals over them of what a change left of the outline and did to the details.

    ``outline``: share of outline factors kept; ``details``: share of detail factors changed; ``distance`` of the
    pictures, 1 for unrelated ones; ``selective``: outline kept + details changed - 1 after both are put on the scale
    from chance, what two others of the pictures ``before`` score, to perfect. It is 0 for no change and for another
    picture, and 1 for the same outline with all details new.
    """
    said = ruler.answers(before)
    kept = ruler.kept(said, ruler.answers(after)).double()
    chance = torch.stack([ruler.kept(said, said.roll(k, 0)) for k in range(1, min(ROLLS, len(said)))]).double()
    bands = {name: ruler.band(band) for name, band in (("outline", OUTLINE), ("details", DETAIL))}
    share = {name: kept[:, band].mean(1) for name, band in bands.items()}
    above = {name: (share[name] - (c := float(chance[..., band].mean()))) / (1 - c) for name, band in bands.items()}
    return {
        "outline": mean(share["outline"]).record(),
        "details": mean(1 - share["details"]).record(),
        "selective": mean(above["outline"] - above["details"]).record(),
        "distance": mean(distance(ruler.subject.gaussian, before, after)).record(),
    }
