"""Rows on what diffusion models share with a GAN; its numbers and those of its nulls stand beside the model's."""

from __future__ import annotations

from atelier.ledger.claim import Claim, Records, Reported, above, at_least, near
from atelier.ledger.rows.reading import interval
from atelier.statistics import Interval

WHERE = "gans#sec-gans-networks"
TEST = "tests/workshop/gans/test_kinship.py"


def _map(r: Records, key: str) -> Interval:
    return interval(r["kinship"]["map"]["pixels"][key])


def _generators(r: Records, key: str) -> dict[str, float]:
    """The same number of the GAN and of its nulls, where one paints the model's data."""
    found = r["kinship"].get("generators", {})
    return {
        f"{name} {'GAN' if name != 'linear' else 'generator'}": float(one["pixels"][key]["value"])
        for name, one in found.items()
    }


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
        measure=lambda r: _map(r, "participation"),
        predict=lambda r: float(r["kinship"]["theory_participation"]),
        nulls=lambda r: _generators(r, "participation"),
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
        measure=lambda r: _map(r, "log"),
        predict=lambda r: 1.0,
        nulls=lambda r: _generators(r, "log"),
        rivals=("untrained GAN", "shuffled GAN"),
        reported=(Reported("DCGAN, 120 latents, features: 0.952 (0.739 without the logarithm)", "authors' notebook"),),
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
