"""Rows on what diffusion models share with a GAN; its numbers and those of its nulls stand beside the model's."""

from __future__ import annotations

from collections.abc import Callable

from atelier.ledger.claim import Claim, Records, Reported, above, at_least, near, positive
from atelier.ledger.rows.reading import interval
from atelier.statistics import Interval

WHERE = "gans#sec-gans-metric"
TEST = "tests/experiments/test_kinship.py"
NOTEBOOK = "authors' notebook"
KEPT = 16
"""PCs of the noise that are kept where two ways of mixing are compared."""
CUT = 2
"""Blocks of the GAN that are kept in the same place."""


def _map(key: str, part: str | None = None) -> Callable[[Records], Interval]:
    def read(r: Records) -> Interval:
        found = r["kinship"]["map"]
        return interval(found[key] if part is None else found[part][key])

    return read


def _generators(key: str, part: str | None = None) -> Callable[[Records], dict[str, float]]:
    def read(r: Records) -> dict[str, float]:
        found = r["kinship"].get("generators", {})
        return {
            f"{name} {'GAN' if name != 'linear' else 'generator'}": float((one[part] if part else one)[key]["value"])
            for name, one in found.items()
        }

    return read


def _mixed(way: str, at: float) -> Callable[[Records], Interval]:
    return lambda r: interval(next(one for one in r["kinship"]["mixing"][way] if one["at"] == at)["selective"])


def _plain(r: Records) -> float:
    """The best that mixing two noises at an angle does."""
    return max(float(one["selective"]["value"]) for one in r["kinship"]["mixing"]["map angle"])


CLAIMS = (
    Claim(
        id="k-anisotropic",
        part="gans",
        origin="v1",
        statement="Like a GAN, the map from noise to image has few strong axes, about as many as the data's Gaussian "
        "has.",
        metric="participation ratio of J^T J in the span of the data's first PCs, pixel (or latent) metric; mean and "
        "interval over points; prediction: of the exact Gaussian's psi^2",
        unit="",
        rule=near(0.25, 0.5),
        measure=_map("participation", "pixels"),
        predict=lambda r: float(r["kinship"]["theory_participation"]),
        nulls=_generators("participation", "pixels"),
        rivals=("untrained GAN", "shuffled GAN"),
        where=WHERE,
        test=f"{TEST}::test_the_map_of_a_gaussian_has_its_metric",
        agreement=True,
    ),
    Claim(
        id="k-homogeneous",
        part="gans",
        origin="v1",
        statement="Like a GAN's, the metric has nearly the same axes at every point.",
        metric="correlation of ln diag(V_i^T H_j V_i) with ln eig H_j, mean over pairs of different points, interval "
        "over points, in the span of the data's first PCs; 1 for one Gaussian",
        unit="",
        rule=at_least(0.9, 0.7),
        measure=_map("log", "pixels"),
        predict=lambda r: 1.0,
        nulls=_generators("log", "pixels"),
        rivals=("untrained GAN", "shuffled GAN"),
        reported=(Reported("DCGAN, 120 latents, features: 0.952 (0.739 without the logarithm)", NOTEBOOK),),
        where=WHERE,
        test=f"{TEST}::test_the_map_of_a_gaussian_has_its_metric",
        agreement=True,
    ),
    Claim(
        id="k-shared",
        part="gans",
        origin="v1",
        statement="A GAN and the diffusion model of the same pictures move images in the same directions.",
        metric="overlap of the first 8 image directions of both at different images; interval over points of both",
        unit="",
        rule=above("differences of pictures"),
        measure=lambda r: interval(r["kinship"]["overlap"]["map trained"]),
        nulls=lambda r: {
            "differences of pictures": float(r["kinship"]["overlap"]["map pictures"]["value"]),
            "untrained GAN": float(r["kinship"]["overlap"]["map untrained"]["value"]),
            "random directions": float(r["kinship"]["overlap"]["random"]),
        },
        rivals=("untrained GAN",),
        where=WHERE,
        test=f"{TEST}::test_overlaps_between_models",
    ),
)


def _less_one(found: Interval) -> Interval:
    return Interval(found.value - 1, found.low - 1, found.high - 1, found.n)
