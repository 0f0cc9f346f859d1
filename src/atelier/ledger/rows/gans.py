"""Rows on what diffusion models share with a GAN; its numbers and those of its nulls stand beside the model's."""

from __future__ import annotations

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import interval
from atelier.statistics import Interval


def _map(r: Records, key: str) -> Interval:
    return interval(r["kinship"]["map"]["pixels"][key])


def _generators(r: Records, key: str) -> dict[str, float]:
    """The same number of the GAN and of its nulls, where one paints the model's data."""
    found = r["kinship"].get("generators", {})
    return {
        f"{name} {'GAN' if name != 'linear' else 'generator'}": float(one["pixels"][key]["value"])
        for name, one in found.items()
    }


READINGS = {
    "k-anisotropic": Reading(
        lambda r: _map(r, "participation"),
        predict=lambda r: float(r["kinship"]["theory_participation"]),
        nulls=lambda r: _generators(r, "participation"),
    ),
    "k-homogeneous": Reading(lambda r: _map(r, "log"), predict=lambda r: 1.0, nulls=lambda r: _generators(r, "log")),
    "k-shared": Reading(
        lambda r: interval(r["kinship"]["overlap"]["map trained"]),
        nulls=lambda r: {
            "differences of pictures": float(r["kinship"]["overlap"]["map pictures"]["value"]),
            "untrained GAN": float(r["kinship"]["overlap"]["map untrained"]["value"]),
            "random directions": float(r["kinship"]["overlap"]["random"]),
        },
    ),
}
