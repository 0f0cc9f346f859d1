"""Searching for the image manifold near one image: three searches, at three prices, and what walks on it change."""

from atelier.manifold.record import measure
from atelier.manifold.search import Directions, SamplerMap, endpoint_directions, searched, step_map, whole_directions

__all__ = ["Directions", "SamplerMap", "endpoint_directions", "measure", "searched", "step_map", "whole_directions"]
