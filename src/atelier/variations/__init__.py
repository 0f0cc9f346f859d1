"""Varying an image on purpose: kicks on a grid, noise and back, and new noise for a part of the state only."""

from atelier.variations.record import measure
from atelier.variations.states import Keep, grid, invert, mix, renoise, repaint, round_trip, standing

__all__ = ["Keep", "grid", "invert", "measure", "mix", "renoise", "repaint", "round_trip", "standing"]
