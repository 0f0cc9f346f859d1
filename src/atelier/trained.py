"""Preconditions: a network counts as evidence only where it knows what a Gaussian knows, and once it has come to rest.

At high noise the loss of any denoiser is nearly that of the constant mean, and a ratio of losses passes whoever knows
nothing. What counts there is the share of the Gaussian's own gain over the mean that the network has,

    (L_mean - L) / (L_mean - L_gauss),

and at low noise, where the mean is far off, the ratio L / L_gauss.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atelier.subject import Settings, Subject
from atelier.training.evaluation import CARD, denoising_loss, references
from painters.levels import Levels
from painters.models.moments import painted

SHARE = 0.9
"""A network counts at a level if it has so much of the Gaussian's gain over the constant mean,"""
RATIO = 1.02
"""and its loss is at most so many times the Gaussian's."""
WINDOW = 4
"""At rest is judged over the last so-many-folding of the training steps."""
OWN = 2_000_000
"""The first seed of the pictures that stand for data where none are at hand: nothing else is painted from them."""


def counts(loss: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return share of the Gaussian's gain, ratio of losses, and whether both suffice, (N,) each.

    ``loss``: a record of :func:`~atelier.training.evaluation.denoising_loss` beside the Gaussian and the mean.
    """
    own, gaussian, mean = (np.array(loss[key]) for key in ("loss", "gaussian_loss", "mean_loss"))
    share, ratio = (mean - own) / (mean - gaussian), own / gaussian
    return share, ratio, (share >= SHARE) & (ratio <= RATIO)


def counted(subject: Subject, levels: Levels) -> Tensor:
    """Return at which of ``levels`` a subject counts as evidence, bool (N,).

    By the levels of its card, the nearest in log-SNR. A theory counts everywhere, and so does a network whose card says
    nothing of its loss.
    """
    loss = {} if subject.model is None else subject.model.card.get("loss", {})
    if subject.kind != "network" or not loss:
        return torch.ones(len(levels), dtype=torch.bool)
    known = Levels(torch.tensor(loss["alpha"]), torch.tensor(loss["sigma"]))
    nearest = (levels.logsnr[:, None] - known.logsnr).abs().argmin(1)
    return torch.from_numpy(counts(loss)[2])[nearest]


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Return how a model's loss compares with the Gaussian's and the mean's, and how far its training came to rest.

    ``sigma``: noise levels sigma/alpha (N,); ``share``, ``ratio``, ``counted`` (N,), see :func:`counts`; ``ratio_se``
    (N,): its standard error; ``images``: how many pictures, ``own`` if the model's. They stand on the card; else they
    are :func:`measured_loss`. See :func:`rest` for the others. ``None`` for a theory.
    """
    model = subject.model
    if subject.kind not in ("network", "shuffled") or model is None:
        return None
    card = model.card if subject.kind == "network" else {}
    at = settings.pick(ci=(4, 8), book=(12, 200), full=CARD)
    loss = card.get("loss") or measured_loss(subject, at, steps=settings.steps, batch=settings.batch)
    share, ratio, enough = counts(loss)
    record = {
        "sigma": [s / a for a, s in zip(loss["alpha"], loss["sigma"])],
        "share": share.tolist(),
        "ratio": ratio.tolist(),
        "ratio_se": [se / other for se, other in zip(loss["loss_se"], loss["gaussian_loss"])],
        "counted": enough.astype(int).tolist(),
        "images": loss["n"],
        "own": loss.get("own", False),
    }
    return record | rest(card.get("snapshots") or [])


def measured_loss(subject: Subject, at: tuple[int, int], *, steps: int = 50, batch: int = 50) -> dict[str, Any]:
    """Return the loss of a model beside the Gaussian's and the mean's, ``at`` (levels, pictures), as a card has it.

    On test pictures; where none are at hand on the model's ``own`` (true), of other seeds than anything else. Raises
    ``ValueError`` for a subject without a model.
    """
    if (model := subject.model) is None:
        raise ValueError(f"{subject.name} is a theory, whose loss is known")
    clean = subject.data(at[1])
    if own := clean is None:
        how: Any = {"prompt": subject.moments.get("prompt"), "steps": steps, "batch": batch}
        clean = torch.cat([*painted(model, range(OWN, OWN + at[1]), spacing="even", **how)])
    levels, beside = Levels.of(model.schedule, at[0], spacing="logsnr")[:-1], references(subject.gaussian)
    return denoising_loss(subject.denoise, clean, levels, references=beside, batch=batch) | {"own": own}


def rest(snapshots: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how much the distance from the Gaussian, E|D - D_gauss|^2, still changed at the end of training.

    ``moved``: slopes of straight lines in log2(steps) through the snapshots of the last quadrupling of the steps,
    ``moved_over`` [first, last], absolute values summed over levels, over the sum of the distances at the end: a share
    for each doubling. Empty with fewer than three snapshots there.
    """
    ordered = sorted(snapshots, key=lambda s: s["step"])
    last = [s for s in ordered if s["step"] * WINDOW >= ordered[-1]["step"]]
    if len(last) < 3:
        return {}
    slopes = np.polyfit([math.log2(s["step"]) for s in last], [s["gaussian_apart"] for s in last], 1)[0]
    moved = float(np.abs(slopes).sum() / sum(last[-1]["gaussian_apart"]))
    return {"moved": moved, "moved_over": [last[0]["step"], last[-1]["step"]]}
