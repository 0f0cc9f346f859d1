"""The claims: each row is a pure function of a model's records."""

from atelier.ledger.claim import Claim
from atelier.ledger.rows import carry, gans, kicks, manifold, modes, order, shape, trained, variations

CLAIMS: tuple[Claim, ...] = (
    *trained.CLAIMS,
    *shape.CLAIMS,
    *order.CLAIMS,
    *kicks.CLAIMS,
    *carry.GAUSSIAN,
    *modes.LANDSCAPE,
    *carry.RETRIEVAL,
    *modes.SAMPLERS,
    *manifold.MANIFOLD,
    *variations.VARIATIONS,
    *gans.CLAIMS,
)
"""Every row of the ledger, in the order of the page."""
