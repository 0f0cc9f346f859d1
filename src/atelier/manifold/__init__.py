"""Searching for the image manifold near one image: three searches, at three prices, and what walks on it change."""

from atelier.manifold.record import measure
from atelier.manifold.search import (
    Directions,
    SamplerMap,
    StepMap,
    endpoint_directions,
    one_step_directions,
    searched,
    whole_directions,
)

__all__ = [
    "Directions",
    "SamplerMap",
    "StepMap",
    "endpoint_directions",
    "measure",
    "one_step_directions",
    "searched",
    "whole_directions",
]
