"""Varying an image on purpose: kicks on a grid, noise and back, and new noise for a part of the state only."""

from atelier.variations.operations import grid, invert, paint_on, round_trip
from atelier.variations.record import measure
from atelier.variations.resampling import (
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
