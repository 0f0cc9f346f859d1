"""How much of the pictures each factor decides: its share of the pixel variance, by pick-freeze sampling.

Let f be the picture, a function of independent causes (the factors and the painter's hand), and V its variance, summed
over pixels and channels. Of two independent sets of scenes A and B, let A_i be A with cause i taken from B. Then

    2 V     = E |f(A) - f(B)|^2,
    2 V S_i = E |f(A) - f(B)|^2 - E |f(A_i) - f(B)|^2,    first order   S_i = Var E[f | i] / V,
    2 V T_i = E |f(A) - f(A_i)|^2,                        total effect  T_i = E Var[f | all but i] / V.

S_i is what cause i decides alone, T_i what it decides alone or together with others. Over all causes the first orders
sum to at most 1 and the total effects to at least 1; both sums are 1 if the causes add up. A cause that only sets how
strong a random texture is, like brush and grain, moves no mean but by clipping: its S_i is nearly 0. The share of a
band is that of its factors exchanged together. Estimators: Jansen (1999), with V from the same pairs, so that a small
S_i has a small error.

``python -m atelier.data.scenes.shares`` measures ``shares.json`` anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from atelier.data.images import to_unit
from atelier.data.scenes.drawing import render
from atelier.data.scenes.factors import BANDS, FACTORS, NAMES, TEST_SEEDS, Factors, sample
from painters.files import replacing

CAUSES = (*NAMES, "hand")
FILE = Path(__file__).with_name("shares.json")
_TOGETHER = {name: (name,) for name in CAUSES} | {
    band: tuple(factor.name for factor in FACTORS if factor.band == band) for band in BANDS
}
_BLOCK = 250


@dataclass(frozen=True)
class Share:
    """A cause's share of the variance, ``first`` order and ``total`` effect, each with its standard error."""

    first: float
    total: float
    first_error: float
    total_error: float

    @classmethod
    def of(cls, terms: Tensor) -> Share:
        """Return the ratios of the means of ``terms`` (n, 3), see :func:`pick_freeze`, with errors by linearisation."""
        mean = terms.mean(0)
        ratios = (mean[:2] / mean[2]).tolist()
        errors = [(terms[:, i] - ratios[i] * terms[:, 2]).std() / mean[2] / len(terms) ** 0.5 for i in (0, 1)]
        return cls(*ratios, *(float(error) for error in errors))


def pick_freeze(a: Tensor, b: Tensor, mixed: Tensor) -> Tensor:
    """Return what each of n draws says of V S_i, V T_i and V, float64 (n, 3).

    ``a``, ``b`` and ``mixed``, (n, ...), are f(A), f(B) and f(A_i). :meth:`Share.of` makes a share of the result.
    """
    a, b, mixed = (x.flatten(1).double() for x in (a, b, mixed))
    both, kept, changed = ((x - y).square().sum(1) / 2 for x, y in ((a, b), (mixed, b), (a, mixed)))
    return torch.stack([both - kept, changed, both], dim=1)


def shares(n: int = 10_000, seed: int = TEST_SEEDS.stop, size: int = 32) -> dict[str, Share]:
    """Measure the share of each of ``CAUSES`` and of each of ``BANDS`` in the variance of the pictures.

    Takes the 2 n scenes from ``seed`` on, at ``size`` pixels, and draws 27 n pictures. Raises ``ValueError`` for n
    below 2.
    """
    if n < 2:
        raise ValueError(f"a variance needs at least 2 scenes, got n = {n}")
    blocks = [(start, min(_BLOCK, n - start)) for start in range(0, n, _BLOCK)]
    terms = [_terms(sample(k, seed + start), sample(k, seed + n + start), size) for start, k in blocks]
    return {name: Share.of(part) for name, part in zip(_TOGETHER, torch.cat(terms, dim=1))}


def variance_shares() -> dict[str, Share]:
    """Return the committed shares of each of ``CAUSES`` and ``BANDS`` at 32 px, from ``shares.json``."""
    return {name: Share(**row) for name, row in json.loads(FILE.read_text())["shares"].items()}


def _terms(scenes: Factors, others: Factors, size: int) -> Tensor:
    """Return :func:`pick_freeze` for every cause and band, (25, n, 3)."""
    a, b = (to_unit(render(x, size)) for x in (scenes, others))
    mixed = (_exchange(scenes, others, causes) for causes in _TOGETHER.values())
    return torch.stack([pick_freeze(a, b, to_unit(render(x, size))) for x in mixed])


def _exchange(scenes: Factors, others: Factors, causes: Sequence[str]) -> Factors:
    """Return ``scenes`` with some causes taken from ``others``; the hand is the seed."""
    values = {name: (others if name in causes else scenes).values[name] for name in NAMES}
    return Factors(values, (others if "hand" in causes else scenes).seeds)


def _main() -> None:
    n, seed, size = 10_000, TEST_SEEDS.stop, 32
    measured = shares(n, seed, size)
    record = {
        "what": "share of the pixel variance of painted scenes: first order, total effect, standard errors",
        "command": "python -m atelier.data.scenes.shares",
        "n": n,
        "seeds": [seed, seed + 2 * n - 1],
        "size": size,
        "shares": {
            name: {key: float(f"{value:.4g}") for key, value in asdict(share).items()}
            for name, share in measured.items()
        },
    }
    with replacing(FILE) as file:
        file.write_text(json.dumps(record, indent=1) + "\n")
    for name, share in measured.items():
        print(
            f"{name:14s}first {100 * share.first:8.4f} +- {100 * share.first_error:.4f} %   "
            f"total {100 * share.total:8.4f} +- {100 * share.total_error:.4f} %"
        )


if __name__ == "__main__":
    _main()
