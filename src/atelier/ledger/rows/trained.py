"""Rows that come first: is the network more than a Gaussian, and has it come to rest?"""

from __future__ import annotations

import numpy as np

from atelier.ledger.claim import Reading, Records
from atelier.ledger.rows.reading import exact, normal
from atelier.statistics import Interval


def _least_ratio(r: Records) -> Interval:
    found = r["trained"]
    i = int(np.argmin(found["ratio"]))
    return normal(found["ratio"][i], found["ratio_se"][i], found["images"])


READINGS = {
    "t-loss": Reading(_least_ratio, nulls=lambda r: {"one Gaussian": 1.0}),
    "t-levels": Reading(
        lambda r: exact(np.mean(r["trained"]["counted"]), len(r["trained"]["counted"])),
        # of the Gaussian's gain over the mean, the mean has no share
        nulls=lambda r: {"knows only the mean": 0.0},
    ),
    "t-rest": Reading(lambda r: exact(r["trained"]["moved"])),
}
