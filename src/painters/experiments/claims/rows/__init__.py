"""The claims: each row is a pure function of a model's records."""

from painters.experiments.claims.claim import Claim
from painters.experiments.claims.rows import carry, kicks, modes, order, shape, trained

CLAIMS: tuple[Claim, ...] = (
    *trained.CLAIMS,
    *shape.CLAIMS,
    *order.CLAIMS,
    *kicks.CLAIMS,
    *carry.GAUSSIAN,
    *modes.LANDSCAPE,
    *carry.RETRIEVAL,
    *modes.SAMPLERS,
)
"""Every row of the ledger, in the order of the page."""
