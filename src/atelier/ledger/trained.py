"""Preconditions: a network counts as evidence only where it is more than a Gaussian, and once it has come to rest."""

from __future__ import annotations

import math
from typing import Any

from atelier.subject import Settings, Subject


def measure(subject: Subject, settings: Settings) -> dict[str, Any] | None:
    """Return what a model's card says of its test loss and of its last training snapshots; ``None`` without a card.

    ``sigma``: noise levels sigma/alpha (N,), ``ratio`` (N,): test loss over the Gaussian's, ``ratio_se`` (N,): its
    standard error, ``images``: test images. ``moved``: how far the network's distance from the Gaussian,
    E|D - D_gauss|^2, changed over the last doubling of training steps, summed over levels and divided by its sum;
    ``moved_at`` the steps compared; ``nearest``: the step at which it was least at sigma/alpha nearest 1, and
    ``left``: the distance at the end over that least one. These are left out with fewer than two snapshots.
    """
    card = {} if subject.model is None else subject.model.card
    loss = card.get("loss")
    if subject.kind != "network" or not loss:
        return None
    record: dict[str, Any] = {
        "sigma": [s / a for a, s in zip(loss["alpha"], loss["sigma"])],
        "ratio": [own / other for own, other in zip(loss["loss"], loss["gaussian_loss"])],
        "ratio_se": [se / other for se, other in zip(loss["loss_se"], loss["gaussian_loss"])],
        "images": loss["n"],
    }
    return record | _rest(card.get("snapshots") or [])


def _rest(snapshots: list[dict[str, Any]]) -> dict[str, Any]:
    """How much the last two snapshots differ, per doubling of steps."""
    if len(snapshots) < 2:
        return {}
    ordered = sorted(snapshots, key=lambda s: s["step"])
    before, after = ordered[-2:]
    moved = sum(abs(a - b) for a, b in zip(after["gaussian_apart"], before["gaussian_apart"]))
    doublings = math.log2(after["step"] / before["step"])
    ratios = [math.log(s / a) for a, s in zip(after["alpha"], after["sigma"])]
    i = min(range(len(ratios)), key=lambda k: abs(ratios[k]))
    nearest = min(ordered, key=lambda s: s["gaussian_apart"][i])
    return {
        "moved": moved / sum(after["gaussian_apart"]) / doublings,
        "moved_at": [before["step"], after["step"]],
        "nearest": nearest["step"],
        "left": after["gaussian_apart"][i] / nearest["gaussian_apart"][i],
    }
