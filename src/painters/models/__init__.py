"""Trained models: found, loaded, adapted to the one denoiser type, and trained."""

from painters.models.loading import Model, load
from painters.models.registry import bundled

__all__ = ["Model", "bundled", "load"]
