"""How good painted pictures are: Fréchet distances, shares of kinds, prompts obeyed. Everything takes samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from atelier.data.known import clean
from atelier.data.scenes.factors import Factor
from atelier.networks.readers import Read, Reader
from atelier.statistics import proportion
from painters.sampling import noise
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments

COLOURS = ("sky", "ground", "orb", "walls", "roof", "door")


def seen(states: Tensor, reader: Reader, *, batch: int = 4096) -> Tensor:
    """Return uint8 pictures (n, C, H, W) as the reader sees them: in [-1, 1], averaged down to its size."""
    return torch.cat([reader.look(clean(part)) for part in states.split(batch)])


def moment_matched(gaussian: Gaussian, n: int, shape: Sequence[int]) -> Tensor:
    """Return ``n`` states (n, *shape) of a Gaussian, seeds 0 ... n - 1, clamped to [-1, 1] as decoded pictures are."""
    return gaussian.sample(noise(range(n), shape).double()).float().clamp(-1, 1)


def frechet(a: Tensor, b: Tensor) -> float:
    """Return the Fréchet distance between the Gaussians fitted to two sets of features (n, d) and (m, d).

        |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2}),

    with unbiased covariances, in float64. The last trace is the sum of the singular values of S_a^{1/2} S_b^{1/2}, with
    roots from symmetric eigenvalue problems. Finite sets are apart even if their sources agree: read a distance beside
    that of two real sets of the same sizes. Raises ``ValueError`` for other shapes, or no more samples than features.
    Source: Dowson and Landau (1982).
    """
    a, b = (x.detach().to("cpu", torch.float64) for x in (a, b))
    if a.ndim != 2 or a.shape[1:] != b.shape[1:] or min(len(a), len(b)) <= a.shape[1]:
        raise ValueError(
            f"need two sets of the same features, more samples than features, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    covariances = [torch.cov(x.T).reshape(x.shape[1], x.shape[1]) for x in (a, b)]
    shared = torch.linalg.svdvals(_root(covariances[0]) @ _root(covariances[1])).sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(apart + sum(c.trace() for c in covariances) - 2 * shared))


def frechet_report(reader: Reader, samples: Tensor, *, train: Tensor, test: Tensor) -> dict[str, Any]:
    """Return how far ``samples`` (n, C, H, W), as the reader sees them, are from the last n of ``test`` pictures.

    ``model`` is their distance in the reader's features; beside it that of the first n ``train`` pictures, the
    ``floor``, which a perfect model would have, and that of n samples of a ``gaussian`` with the moments of all of
    them; ``of_floor`` and ``of_gaussian`` are the ratios. ``train`` and ``test`` are uint8. Raises ``ValueError`` for
    fewer than n pictures.
    """
    n = len(samples)
    if n > min(len(train), len(test)):
        raise ValueError(f"there are only {min(len(train), len(test))} pictures to compare {n} painted ones with")
    gaussian = Gaussian.from_moments(Moments.stream(seen(part, reader) for part in train.split(4096)))
    sets = {
        "model": samples,
        "floor": seen(train[:n], reader),
        "gaussian": moment_matched(gaussian, n, reader.shape),
        "real": seen(test[-n:], reader),
    }
    found = {name: reader.features(states).double() for name, states in sets.items()}
    real = found.pop("real")
    apart = {name: frechet(features, real) for name, features in found.items()}
    ratios = {f"of_{name}": apart["model"] / apart[name] for name in ("floor", "gaussian")}
    return {"n": n, "features": real.shape[1], **apart, **ratios}


def shares(values: Read, factors: Sequence[Factor]) -> dict[str, dict[str, float]]:
    """Return how often each kind of each categorical factor was read: its name -> kind -> share."""
    return {
        f.name: {kind: float((values[f.name] == i).double().mean()) for i, kind in enumerate(f.kinds)}
        for f in factors
        if f.kinds
    }


def said(value: float, factor: Factor) -> str:
    """Return the word for one factor as captions use it: the kind, or "low" (below 1/3), "high" (above 2/3) or ""."""
    if factor.kinds:
        return factor.kinds[int(value)]
    return "low" if value < 1 / 3 else "high" if value > 2 / 3 else ""


def obedience(values: Read, wanted: Sequence[Mapping[str, str]], factors: Sequence[Factor]) -> dict[str, Any]:
    """Return how many wishes were granted, with 95 % (Wilson) intervals: by factor, by group of factors, by prompt.

    ``values``: factors read in n pictures. ``wanted``: what each of the n prompts asks for, name -> kind, or "low" or
    "high". ``every``: prompts whose every wish was granted. ``groups``: "colours", "sides" and other "kinds", whose
    intervals ignore that wishes of one prompt stand and fall together; sizes and places have no group.
    Raises ``ValueError`` for a factor that is not read.
    """
    known = {f.name: f for f in factors}
    if strange := {name for wish in wanted for name in wish} - known.keys():
        raise ValueError(f"the reader does not read {', '.join(sorted(strange))}")
    granted = [
        {name: said(float(values[name][i]), known[name]) == word for name, word in wish.items()}
        for i, wish in enumerate(wanted)
    ]
    by_factor = {name: hits for name in known if (hits := [g[name] for g in granted if name in g])}
    groups: dict[str, list[bool]] = {}
    for name, hits in by_factor.items():
        if known[name].kinds:
            group = "colours" if name in COLOURS else "sides" if name.endswith(" side") else "kinds"
            groups.setdefault(group, []).extend(hits)
    return {
        "every": _share([all(g.values()) for g in granted if g]),
        "groups": {group: _share(hits) for group, hits in groups.items()},
        "factors": {name: _share(hits) for name, hits in by_factor.items()},
    }


def _share(hits: list[bool]) -> dict[str, Any]:
    found = proportion(sum(hits), len(hits))
    return {"n": found.n, "share": found.value, "low": found.low, "high": found.high}


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance."""
    lam, U = torch.linalg.eigh(covariance)
    return (U * lam.clamp(min=0).sqrt()) @ U.T
