"""How good painted pictures are: Fréchet distances, factor statistics, prompts obeyed. Everything takes samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atelier.data.known import clean
from atelier.data.scenes.factors import Factor
from atelier.networks.readers import Read, Reader, columns, indicators
from atelier.statistics import proportion
from painters.sampling import noise
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments

MOST_FEATURES = 64
"""More features would need more samples, to fix their covariance, than a CPU paints in an hour."""


def seen(states: Tensor, reader: Reader, *, batch: int = 4096) -> Tensor:
    """Return uint8 pictures (n, C, H, W) as the reader sees them: in [-1, 1], averaged down to its size."""
    return torch.cat([reader.look(clean(part)) for part in states.split(batch)])


def gaussian_seen(states: Tensor, reader: Reader) -> Gaussian:
    """Return the Gaussian with the moments of uint8 pictures (n, C, H, W) as the reader sees them."""
    return Gaussian.from_moments(Moments.stream(seen(part, reader) for part in states.split(4096)))


def moment_matched(gaussian: Gaussian, n: int, shape: Sequence[int], *, clamp: bool = True) -> Tensor:
    """Return the ``n`` states (n, *shape) of a Gaussian from the noise of seeds 0 ... n - 1, float32.

    They are clamped to [-1, 1] as decoded pictures are.
    """
    states = gaussian.sample(noise(range(n), shape).double()).float()
    return states.clamp(-1, 1) if clamp else states


def frechet(a: Tensor, b: Tensor) -> float:
    """Return the Fréchet distance between the Gaussians fitted to two sets of features (n, d) and (m, d), d <= 64.

        |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2}),

    with unbiased covariances, in float64. The last trace is the sum of the singular values of S_a^{1/2} S_b^{1/2}, with
    roots from symmetric eigenvalue problems. Finite sets are apart even if their sources agree: read a distance beside
    that of two real sets of the same sizes. Raises ``ValueError`` for other shapes, or no more samples than features.
    Source: Dowson and Landau (1982).
    """
    a, b = (x.detach().to("cpu", torch.float64) for x in (a, b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not 1 <= a.shape[1] <= MOST_FEATURES:
        raise ValueError(
            f"need two sets of the same 1 to {MOST_FEATURES} features, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if min(len(a), len(b)) <= a.shape[1]:
        raise ValueError(f"{min(len(a), len(b))} samples cannot fix a covariance of {a.shape[1]} features: take more")
    if not bool(torch.isfinite(a).all() & torch.isfinite(b).all()):
        raise ValueError("the features hold NaN or infinite values")
    covariances = [torch.cov(x.T).reshape(x.shape[1], x.shape[1]) for x in (a, b)]
    shared = torch.linalg.svdvals(_root(covariances[0]) @ _root(covariances[1])).sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(apart + sum(c.trace() for c in covariances) - 2 * shared))


def frechet_report(
    reader: Reader, samples: Tensor, *, train: Tensor, test: Tensor, gaussian: Tensor | None = None
) -> dict[str, Any]:
    """Return the distances to ``test`` of painted ``samples``, of real ``train`` states and of a matched ``gaussian``.

    All are clean states (n, C, H, W) in the reader's units, real and painted ones equally many, and the distance is
    taken between the reader's features. ``floor`` is what a perfect model would have at this n. ``of_floor`` and
    ``of_gaussian`` are the model's distance in units of the other two. The features' own scales are accidents of
    training and give most weight to what was hardest to read, fine detail; ``whitened`` holds the same numbers in units
    of the test features' covariance, where every direction counts alike. Raises ``ValueError`` for unequal numbers.
    """
    sets = {"model": samples, "floor": train} | ({} if gaussian is None else {"gaussian": gaussian})
    if any(len(states) != len(test) for states in sets.values()):
        counts = {name: len(states) for name, states in sets.items()} | {"test": len(test)}
        raise ValueError(f"a distance depends on the number of samples, so all must have as many; got {counts}")
    real = reader.features(test).double()
    found = {name: reader.features(states).double() for name, states in sets.items()}
    lam, U = torch.linalg.eigh(torch.cov(real.T).reshape(real.shape[1], real.shape[1]))
    # a feature that hardly varies on real pictures would decide the whitened distance alone
    white = U / lam.clamp(min=1e-6 * float(lam.max())).sqrt()
    return {
        "n": len(test),
        "features": real.shape[1],
        **_distances(found, real),
        "whitened": _distances({name: features @ white for name, features in found.items()}, real @ white),
    }


@dataclass(frozen=True, eq=False)
class Statistics:
    """How the factors of a set of pictures are distributed.

    ``frequencies`` of the kinds of each categorical factor; ``means`` and ``spreads`` (standard deviations) of the
    continuous ones; ``correlations`` (m, m) between indicators of kinds and values, zero within one factor, in the
    order of ``names`` (factor, kind), with an empty kind for a continuous factor.
    """

    frequencies: dict[str, dict[str, float]]
    means: dict[str, float]
    spreads: dict[str, float]
    correlations: Tensor
    names: tuple[tuple[str, str], ...]

    def distance(self, other: Statistics) -> dict[str, Any]:
        """Return the largest absolute differences to ``other``, where they are, and the rms over correlations."""
        found = {
            "frequencies": _largest(_flat(self.frequencies), _flat(other.frequencies)),
            "means": _largest(self.means, other.means),
            "spreads": _largest(self.spreads, other.spreads),
        }
        found = {what: where for what, where in found.items() if where}
        pairs = _between(self.names)
        if bool(pairs.any()):
            apart = (self.correlations - other.correlations).abs()
            i, j = divmod(int(torch.where(pairs, apart, -1.0).argmax()), len(self.names))
            found["correlations"] = {
                "largest": float(apart[i, j]),
                "where": ", ".join(" ".join(self.names[k]).strip() for k in (i, j)),
                "rms": float(apart[pairs].square().mean().sqrt()),
                "pairs": int(pairs.sum()) // 2,
            }
        return found


def statistics(values: Read, factors: Sequence[Factor]) -> Statistics:
    """Return the statistics of factors, true ones or read ones: kinds (n,) and values (n,), n >= 2."""
    table = indicators(values, factors)
    if len(table) < 2:
        raise ValueError(f"statistics need at least two pictures, got {len(table)}")
    parts = dict(zip([f.name for f in factors], table.split(columns(factors), dim=1)))
    names = tuple((f.name, kind) for f in factors for kind in f.kinds or ("",))
    centred = table - table.mean(0)
    scale = centred.norm(dim=0)
    unit = centred / torch.where(scale > 0, scale, torch.ones_like(scale))
    return Statistics(
        {f.name: dict(zip(f.kinds, parts[f.name].mean(0).tolist())) for f in factors if f.kinds},
        {f.name: float(parts[f.name].mean()) for f in factors if not f.kinds},
        {f.name: float(parts[f.name].std()) for f in factors if not f.kinds},
        torch.where(_between(names), unit.T @ unit, 0.0),
        names,
    )


def factor_report(reader: Reader, samples: Tensor, *, real: Tensor, truth: Read) -> dict[str, Any]:
    """Compare the factors read in ``samples`` with the data's true ones, beside the reader's own error.

    ``samples`` and ``real`` are clean states, ``real`` held-out ones; ``truth`` holds the true factors of much data.
    ``model`` and ``real`` are the distances to the truth of what is read in the two: the second contains only
    the reader's mistakes and the chance of n pictures, so that the first cannot be expected to be smaller.
    """
    data = statistics(truth, reader.factors)
    found = {name: statistics(reader.values(x), reader.factors) for name, x in (("model", samples), ("real", real))}
    return {"n": {"model": len(samples), "real": len(real)}} | {name: s.distance(data) for name, s in found.items()}


def said(value: float, factor: Factor) -> str:
    """Return the word for one factor as captions use it: the kind, or "low" (below 1/3), "high" (above 2/3) or ""."""
    if factor.kinds:
        return factor.kinds[int(value)]
    return "low" if value < 1 / 3 else "high" if value > 2 / 3 else ""


def obedience(values: Read, wanted: Sequence[Mapping[str, str]], factors: Sequence[Factor]) -> dict[str, Any]:
    """Return how many prompts were obeyed, factor by factor, with 95 % (Wilson) intervals.

    ``values``: factors read in n pictures. ``wanted``: what each of the n prompts asks for, name -> kind, or "low" or
    "high". ``every``: prompts whose every wish was granted; ``wishes``: all wishes together, whose interval ignores
    that wishes of one prompt stand and fall together. Raises ``ValueError`` for a factor that is not read.
    """
    known = {f.name: f for f in factors}
    if strange := {name for wish in wanted for name in wish} - known.keys():
        raise ValueError(f"the reader does not read {', '.join(sorted(strange))}")
    if any(len(values[name]) != len(wanted) for name in known):
        raise ValueError(f"{len(wanted)} prompts, but not as many pictures")
    granted = [
        {name: said(float(values[name][i]), known[name]) == word for name, word in wish.items()}
        for i, wish in enumerate(wanted)
    ]
    by_factor = {name: [g[name] for g in granted if name in g] for name in known}
    return {
        "prompts": len(wanted),
        "every": _share([all(g.values()) for g in granted if g]),
        "wishes": _share([ok for g in granted for ok in g.values()]),
        "factors": {name: _share(found) for name, found in by_factor.items() if found},
    }


def _distances(sets: Mapping[str, Tensor], real: Tensor) -> dict[str, float]:
    apart = {name: frechet(features, real) for name, features in sets.items()}
    return apart | {f"of_{name}": apart["model"] / apart[name] for name in apart if name != "model"}


def _share(hits: list[bool]) -> dict[str, Any]:
    if not hits:
        return {"n": 0}
    found = proportion(sum(hits), len(hits))
    return {"n": found.n, "share": found.value, "low": found.low, "high": found.high}


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance."""
    lam, U = torch.linalg.eigh(covariance)
    return (U * lam.clamp(min=0).sqrt()) @ U.T


def _between(names: Sequence[tuple[str, str]]) -> Tensor:
    """Which pairs of columns belong to different factors."""
    return torch.tensor([[a != b for b, _ in names] for a, _ in names], dtype=torch.bool)


def _flat(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{name} {kind}": value for name, row in table.items() for kind, value in row.items()}


def _largest(mine: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, Any]:
    """The largest absolute difference and where it is; nothing if there is nothing to compare."""
    apart = {name: abs(value - theirs[name]) for name, value in mine.items()}
    worst = max(apart, key=lambda name: apart[name], default=None)
    return {} if worst is None else {"largest": apart[worst], "where": worst}
