"""Rows that come first: is the network more than a Gaussian, and has it come to rest?"""

from __future__ import annotations

import numpy as np

from atelier.evidence.order import TOLERANCE
from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import exact, normal
from atelier.statistics import Interval


def _least_ratio(r: Records) -> Interval:
    found = r["trained"]
    i = int(np.argmin(found["ratio"]))
    return normal(found["ratio"][i], found["ratio_se"][i], found["images"])


def _sound(r: Records) -> Interval:
    ratio = np.array(r["trained"]["ratio"])
    return exact((ratio <= TOLERANCE).mean(), len(ratio))


READINGS = {
    "t-loss": Reading(_least_ratio),
    "t-rest": Reading(lambda r: exact(r["trained"]["moved"])),
    "t-levels": Reading(_sound),
    "t-passes-through": Reading(lambda r: exact(r["trained"]["left"]), nulls=lambda r: {"never left": 1.0}),
}
