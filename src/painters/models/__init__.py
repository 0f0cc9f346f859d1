"""Trained models: found, loaded, adapted to the one denoiser type, and trained."""

from painters.models.loading import load
from painters.models.model import Model
from painters.models.registry import Card, bundled, cards, published

__all__ = ["Card", "Model", "bundled", "cards", "load", "published"]
