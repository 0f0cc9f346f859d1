"""Varying an image on purpose: kicks on a grid, noise and back, and new noise for a part of the state only."""

from painters.experiments.variations.operations import grid, invert, paint_on, round_trip
from painters.experiments.variations.record import measure
from painters.experiments.variations.resampling import (
    Keep,
    informative,
    mix,
    renoise,
    repaint,
    resample,
    standing,
    whiten,
    without,
)

__all__ = [
    "Keep",
    "grid",
    "informative",
    "invert",
    "measure",
    "mix",
    "paint_on",
    "renoise",
    "repaint",
    "resample",
    "round_trip",
    "standing",
    "whiten",
    "without",
]
