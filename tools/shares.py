"""Write `shares.json`: how much of the pictures each factor of a scene decides, its share of the pixel variance.

`python tools/shares.py`. Let f be the picture, a function of independent causes (the factors and the painter's hand),
and V its variance, over all pixels and channels. Of two independent sets of scenes A and B, let A_i be A with cause i
taken from B. Then

    2 V = E |f(A) - f(B)|^2,        2 V T_i = E |f(A) - f(A_i)|^2,

and the total effect T_i = E Var[f | all but i] / V is what cause i decides alone or together with others. Over all
causes they sum to at least 1, and to 1 if the causes add up. Estimator: Jansen (1999), with V from the same pairs, so
that a small T_i has a small error.
"""

import json
from dataclasses import asdict

import torch
from torch import Tensor

from atelier.data.images import to_unit
from atelier.data.scenes.drawing import render
from atelier.data.scenes.factors import NAMES, TEST_SEEDS, Factors, sample
from atelier.data.scenes.shares import FILE, Share
from painters.files import replacing

CAUSES = (*NAMES, "hand")
BLOCK = 250


def share_of(terms: Tensor) -> Share:
    """Return the ratio of the means of `terms` (n, 2), see `pick_freeze`, its error by linearisation."""
    mean = terms.mean(0)
    ratio = float(mean[0] / mean[1])
    return Share(ratio, float((terms[:, 0] - ratio * terms[:, 1]).std() / mean[1] / len(terms) ** 0.5))


def pick_freeze(a: Tensor, b: Tensor, mixed: Tensor) -> Tensor:
    """Return what each of n draws says of V T_i and V, float64 (n, 2).

    `a`, `b` and `mixed`, (n, ...), are f(A), f(B) and f(A_i). `share_of` makes a share of the result.
    """
    return torch.stack([(a - x).flatten(1).double().square().sum(1) / 2 for x in (mixed, b)], dim=1)


def shares(n: int, seed: int, size: int) -> dict[str, Share]:
    """Measure the share of each of `CAUSES` in the variance of the pictures.

    Takes the 2 n scenes from `seed` on, at `size` pixels, and draws 23 n pictures.
    """
    blocks = [(start, min(BLOCK, n - start)) for start in range(0, n, BLOCK)]
    terms = [_terms(sample(k, seed + start), sample(k, seed + n + start), size) for start, k in blocks]
    return {name: share_of(part) for name, part in zip(CAUSES, torch.cat(terms, dim=1))}


def _terms(scenes: Factors, others: Factors, size: int) -> Tensor:
    """Return `pick_freeze` for every cause, (21, n, 2); the hand is the seed."""
    a, b = (to_unit(render(x, size)) for x in (scenes, others))
    mixed = [Factors(scenes.values | {name: others.values[name]}, scenes.seeds) for name in NAMES]
    mixed.append(Factors(scenes.values, others.seeds))
    return torch.stack([pick_freeze(a, b, to_unit(render(x, size))) for x in mixed])


def main() -> None:
    """Measure them on 20,000 scenes at 32 pixels, and write the file."""
    n, seed, size = 10_000, TEST_SEEDS.stop, 32
    record = {
        "what": "share of the pixel variance of painted scenes: total effect, standard error",
        "command": "python tools/shares.py",
        "n": n,
        "seeds": [seed, seed + 2 * n - 1],
        "size": size,
        "shares": {
            name: {key: float(f"{value:.4g}") for key, value in asdict(share).items()}
            for name, share in shares(n, seed, size).items()
        },
    }
    with replacing(FILE) as file:
        file.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
