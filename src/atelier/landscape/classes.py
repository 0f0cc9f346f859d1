"""The classes of Fashion-MNIST as modes: at which noise level do they part?

An image is noised again to some level and painted anew. If it comes back as the same class, the level lies below the
fork of the classes. Beside the network stands the exact mixture of one Gaussian per class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from atelier.data import images as image_data
from atelier.subject import Settings, Subject, levels_at
from painters.denoiser import Denoiser
from painters.levels import Level, Levels
from painters.sampling import noise, paint_on, renoise
from painters.sampling.noise import NOISED_AGAIN
from painters.theory.mixture import Mixture

RANK = 60
"""PCs kept of each class; the rest of its variance is spread evenly: 6,000 images do not fix 784 variances."""

RATIOS = (17.0, 9.5, 5.5, 3.4, 1.5)
"""Noise levels sigma/alpha to which images are noised again, around that at which the mixture's classes part."""

MANY = 10
"""The mixture repaints so many times as many images: its share is a prediction, and should be the better known."""

CLEAN_ENOUGH: Level = (1.0, 0.1)
"""The level at which a mixture's own samples are told apart: noise far below the distance of any two classes."""


def applies(subject: Subject) -> bool:
    """Return whether ``subject`` is a class-conditional network of Fashion-MNIST with a reader."""
    facts = {} if subject.model is None else subject.model.card.get("training", {})
    known = subject.model is not None and bool(subject.model.classes) and subject.reader is not None
    return subject.kind == "network" and known and facts.get("data") == "fashion" and not facts.get("variant")


def mixture(settings: Settings) -> Mixture | None:
    """Return one Gaussian per class of the training data, ``None`` if these are not at hand."""
    n = settings.pick(ci=4000, book=60_000, full=60_000)
    try:
        data = image_data.fashion()
    except FileNotFoundError:
        return None
    return Mixture.of_classes(
        image_data.to_unit(data.train[:n]), torch.as_tensor(data.train_labels)[:n].long(), rank=RANK
    )


def repaint(denoise: Denoiser, x0: Tensor, levels: Levels, start: int, seeds: Sequence[int]) -> Tensor:
    """Return clean states ``x0`` (B, ...) noised to level ``start`` with fresh noise, and painted anew by the PF-ODE.

    DPM-Solver++(2M) on the levels that remain. The noise is not that of the images' own start.
    """
    x = renoise(x0, levels[start], seeds, stream=NOISED_AGAIN)
    return paint_on(denoise, x, levels, start=start, solver="dpmpp2m")


def speciation(parts: Mixture) -> float:
    """Return the noise level sigma/alpha at which the two heaviest groups of a mixture part.

    (m^2 - c)^(1/2), the fork of two equal modes at +-m with variance c within: m^2 is the largest eigenvalue of
    sum_i pi_i (mu_i - mu)(mu_i - mu)^T, and c = sum_i pi_i u^T Sigma_i u the variance within along its eigenvector u.
    0 if c > m^2. A statement about many unequal classes only as far as they look like two from afar.
    """
    offsets = torch.stack([g.mu - parts.mean for g in parts.components]) * parts.weights[:, None].sqrt()
    _, spread, axes = torch.linalg.svd(offsets, full_matrices=False)
    within = float(parts.weights @ torch.stack([g.along(axes[0]) for g in parts.components]))
    return math.sqrt(max(float(spread[0] ** 2) - within, 0.0))


def parting(subject: Subject, parts: Mixture | None, settings: Settings) -> dict[str, Any]:
    """Measure how often an image noised again keeps its class, for the network and for the class mixture.

    Keys: ``ratio`` (L,); ``n`` images, equally many of each class, painted by the class-conditional network; ``told``,
    the share that the reader gives the class asked for; ``kept`` (L, n), 1 where the image painted anew by the
    unconditional network is read as the class that the first was read as. With the data at hand ``mixture``: ``kept``
    (L, 10 n) in the same way for samples of the mixture under its own PF-ODE; ``resampled`` (L,), E sum w^2, how often
    a draw from the posterior keeps the class; ``speciation``, sigma/alpha. Else ``None``.
    """
    n, levels = settings.pick(ci=10, book=100, full=1000), subject.levels(settings.pick(ci=8, book=12, full=50))
    picks = levels_at(levels, settings.pick(ci=(10.0, 1.2), book=RATIOS, full=RATIOS))
    found = [_network(subject, levels, picks, seeds) for seeds in subject.batches(range(n), settings.batch)]
    told, kept = (torch.cat(columns, -1) for columns in zip(*found))
    record: dict[str, Any] = {"ratio": levels.ratio[picks].tolist(), "n": n}
    record |= {"told": float(told.double().mean()), "kept": kept.int().tolist()}
    return record | {"mixture": None if parts is None else _exact(parts, levels, picks, MANY * n, settings.batch)}


def _network(subject: Subject, levels: Levels, picks: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Whether the reader tells the class asked for (B,), and whether images painted anew keep their class (L, B)."""
    assert subject.model is not None and subject.reader is not None
    name = subject.reader.factors[0].name
    asked = torch.tensor([seed % len(subject.model.classes) for seed in seeds])
    start = levels.start(noise(seeds, subject.shape))
    first = paint_on(subject.model.denoiser(asked.tolist()), start, levels, solver="dpmpp2m")
    before = subject.read(first)[name].cpu()
    again = (repaint(subject.denoise, first, levels, i, seeds) for i in picks)
    return before == asked, torch.stack([subject.read(x)[name].cpu() == before for x in again])


def _exact(parts: Mixture, levels: Levels, picks: Sequence[int], n: int, batch: int) -> dict[str, Any]:
    """The same for the exact mixture, whose samples are told apart by their responsibilities."""
    x0 = parts.sample(n, seed=0)
    before = parts.responsibilities(x0, *CLEAN_ENOUGH).argmax(1)
    kept, resampled = [], []
    for i in picks:
        groups = zip(x0.split(batch), torch.arange(n).split(batch))
        after = torch.cat([repaint(parts, part, levels, i, seeds.tolist()) for part, seeds in groups])
        kept.append((parts.responsibilities(after, *CLEAN_ENOUGH).argmax(1) == before).int().tolist())
        w = parts.responsibilities(parts.sample(n, seed=1, level=levels[i]), *levels[i])
        resampled.append(float(w.square().sum(1).mean()))
    return {"kept": kept, "resampled": resampled, "speciation": speciation(parts)}
