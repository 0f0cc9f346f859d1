"""How much of the pictures each factor decides: its share of the pixel variance, measured by ``tools/shares.py``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("shares.json")


@dataclass(frozen=True)
class Share:
    """A cause's share of the variance, its ``total`` effect, with its standard error."""

    total: float
    total_error: float


def variance_shares() -> dict[str, Share]:
    """Return the committed shares of all factors and of the painter's hand, at 32 px, from ``shares.json``."""
    return {name: Share(**row) for name, row in json.loads(FILE.read_text())["shares"].items()}
