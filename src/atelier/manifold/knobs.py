"""Named knobs: the direction of the noise that, by the theory, moves a named factor of the image most.

For Gaussian data the image is mu + Sigma^{1/2} x_T, and the best affine estimate of a factor f from the noise is
f_hat = E f + c^T Sigma^{-1/2} x_T with c = Cov(x_0, f). So a unit step of the noise moves f_hat most along

    u = Sigma^{-1/2} c / |Sigma^{-1/2} c|,   by |Sigma^{-1/2} c|,

and it moves the image along c itself, by which the mean image differs where f does. Only leading principal components
(PCs) enter: along the others c is an estimate's error, which Sigma^{-1/2} would magnify. A factor of several kinds has
a column of c for each; its knob is the unit u that moves the estimates of all kinds most, the sum of squares counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atelier.data.scenes.factors import Factor
from atelier.evidence.answers import per_factor
from atelier.evidence.factors import Known
from atelier.evidence.order import short
from atelier.networks.readers import columns
from atelier.scoring import Ruler, linearity
from painters.theory.gaussian import Gaussian

PCS = 64
"""How many principal components the knobs are made of."""


@dataclass(frozen=True, eq=False)
class Knob:
    """A named direction of the noise, ``direction`` (...), of unit length.

    ``columns``: which answers of the ruler it is about, and ``pattern`` (kinds,): how far each moves per unit of noise,
    for Gaussian data. ``factor``: the index of the factor.
    """

    name: str
    factor: int
    columns: slice
    direction: Tensor
    pattern: Tensor

    def right(self, before: Tensor, after: Tensor) -> Tensor:
        """Return whether answers (n, m) moved the way the knob says, (n,) bool."""
        return (after - before)[:, self.columns] @ self.pattern > 0


def covariances(gaussian: Gaussian, data: Known, pcs: int = PCS) -> tuple[Tensor, Tensor]:
    """Return the covariances of the first ``pcs`` coordinates of the data with each fact, (m, pcs), and R^2 (F,).

    R^2 is the share of a factor's variance that the best affine estimate knows by these coordinates, with the two
    halves of the data crossed, so that it is unbiased (and may come out below 0). float64.
    """
    pcs = min(pcs, len(gaussian.lam))
    x = gaussian.project(data.states)[:, :pcs].double().cpu()
    lam = gaussian.lam[:pcs].double().cpu()

    def covariance(part: slice) -> Tensor:
        f = data.facts[part]
        return (f - f.mean(0)).T @ (x[part] - x[part].mean(0)) / (len(f) - 1)

    one, other = covariance(slice(0, None, 2)), covariance(slice(1, None, 2))
    sizes = columns(data.factors)
    explained = per_factor((one * other / lam).sum(1), sizes) / per_factor(data.facts.var(0), sizes)
    return (one + other) / 2, explained


def knob(gaussian: Gaussian, coordinates: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the unit direction (*shape) of the noise that moves a factor most, and the pattern (kinds,) it moves by.

    ``coordinates`` (kinds, pcs): covariances of the leading PCs with each of its columns, C^T U. The direction is the
    first right singular vector of C^T Sigma^{-1/2}, and the pattern is that matrix times it. The last kind, or the
    value, grows along it.
    """
    pcs = coordinates.shape[1]
    lam = gaussian.lam[:pcs].double().cpu()
    weights = coordinates.double() / lam.sqrt()
    direction = torch.linalg.svd(weights, full_matrices=False)[2][0]
    pattern = weights @ direction
    sign = -1.0 if float(pattern[-1]) < 0 else 1.0
    return sign * (gaussian.U[:, :pcs].double().cpu() @ direction).reshape(*shape), sign * pattern


def knobs(gaussian: Gaussian, coordinates: Tensor, factors: Sequence[Factor], shape: Sequence[int]) -> list[Knob]:
    """Return the knob of each factor; of one factor alone, the knob of each of its kinds.

    ``coordinates`` (m, pcs): those of :func:`covariances`, for the columns of these factors.
    """
    if len(factors) == 1 and factors[0].kinds:
        names, sizes = list(factors[0].kinds), [1] * len(factors[0].kinds)
    else:
        names, sizes = [f.name for f in factors], columns(factors)
    found, first = [], 0
    for i, (name, size) in enumerate(zip(names, sizes)):
        part = slice(first, first + size)
        found.append(Knob(name, i if len(factors) > 1 else 0, part, *knob(gaussian, coordinates[part], shape)))
        first += size
    return found


def stored(record: Mapping[str, Any], gaussian: Gaussian, shape: Sequence[int]) -> dict[str, Tensor]:
    """Return name -> direction (*shape) of the knobs of a results file, without the data they were made of.

    ``record``: its ``knobs``, see :func:`atelier.manifold.record.measure`.
    """
    rows, sizes = torch.tensor(record["coordinates"], dtype=torch.float64), record["sizes"]
    return {name: knob(gaussian, part, shape)[0] for name, part in zip(record["names"], rows.split(sizes))}


def judge(ruler: Ruler, made: Sequence[Knob], answers: Tensor) -> dict[str, Tensor]:
    """Return what n knobs did to what they name, from the ruler's ``answers`` (n, steps, m) along their walks.

    ``named`` (n,): change of the named factor, or kind; ``others`` (n,): mean change of each other one; ``hit`` (n,):
    whether nothing else changed as much; ``right`` (n,): whether it moved the way the theory says; ``linear`` (n,): how
    evenly, see :func:`atelier.scoring.linearity`. A kind is compared with the other kinds of its factor.
    """
    before, after = answers[:, 0], answers[:, -1]
    if len(ruler.factors) == 1 and len(made) > 1:
        change, at = after - before, torch.tensor([k.columns.start for k in made])
    else:
        change, at = ruler.change(before, after), torch.tensor([k.factor for k in made])
    named = change.gather(1, at[:, None])[:, 0]
    right = torch.cat([k.right(a[None], b[None]) for k, a, b in zip(made, before, after)])
    steps = torch.linspace(-1, 1, answers.shape[1], dtype=torch.float64)
    linear = [linearity(said[:, k.columns], steps) for k, said in zip(made, answers)]
    return {
        "named": named,
        "others": (change.abs().sum(1) - named.abs()) / max(change.shape[1] - 1, 1),
        "hit": change.argmax(1) == at,
        "right": right,
        "linear": torch.tensor(linear, dtype=torch.float64),
    }


def coordinates_record(coordinates: Tensor, explained: Tensor, made: Sequence[Knob]) -> dict[str, Any]:
    """Return what :func:`stored` needs, with the R^2 of each factor."""
    sizes = [len(k.pattern) for k in made]
    return {
        "names": [k.name for k in made],
        "sizes": sizes,
        "pcs": coordinates.shape[1],
        "coordinates": short(coordinates),
        "explained": short(explained[[k.factor for k in made]]),
    }
