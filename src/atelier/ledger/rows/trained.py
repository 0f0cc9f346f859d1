"""Rows that come first: is the network more than a Gaussian, and has it come to rest?"""

from __future__ import annotations

from functools import partial

import numpy as np

from atelier.evidence.order import TOLERANCE
from atelier.ledger.claim import Claim, Records, Reported, at_least, at_most
from atelier.ledger.rows.reading import exact, normal
from atelier.statistics import Interval

WHERE = "evidence#sec-evidence-rules"
TEST = "tests/workshop/ledger/test_claims.py"
TABLES = "authors' tables"
row = partial(Claim, part="trained", where=WHERE, unit="")


def _least_ratio(r: Records) -> Interval:
    found = r["trained"]
    i = int(np.argmin(found["ratio"]))
    return normal(found["ratio"][i], found["ratio_se"][i], found["images"])


def _sound(r: Records) -> Interval:
    ratio = np.array(r["trained"]["ratio"])
    return exact((ratio <= TOLERANCE).mean(), len(ratio))


CLAIMS = (
    row(
        id="t-loss",
        origin="ours",
        statement="The network knows more than one Gaussian: at some level its test loss is at least 10 % lower.",
        metric="least ratio, over noise levels, of test losses E|x0_hat - x_0|^2: the network's over the Gaussian's; "
        "from the model's card, interval from the spread over test images",
        rule=at_most(0.9, 0.95),
        measure=_least_ratio,
        test=f"{TEST}::test_preconditions_read_the_card",
    ),
    row(
        id="t-rest",
        origin="ours",
        statement="Training has come to rest: its distance from the Gaussian hardly changed at the end.",
        metric="change of E|D - D_gauss|^2 over the last doubling of training steps, absolute values summed over "
        "levels, over their sum; one training, so no interval",
        unit="%",
        rule=at_most(0.1, 0.25),
        measure=lambda r: exact(r["trained"]["moved"]),
        where="limits#sec-limits-learning",
        test=f"{TEST}::test_preconditions_read_the_card",
    ),
    row(
        id="t-levels",
        origin="ours",
        statement="The network is at least as good as the best linear denoiser at every level.",
        metric=f"share of the levels on the card at which the test loss is at most {TOLERANCE:g} times the "
        "Gaussian's; results at the other levels are hatched",
        unit="%",
        rule=at_least(1.0, 0.95),
        measure=_sound,
        test=f"{TEST}::test_preconditions_read_the_card",
    ),
    row(
        id="t-passes-through",
        origin="2412.09726",
        statement="In training the network came nearest to the Gaussian early, and left it for something better.",
        metric="E|D - D_gauss|^2 at sigma/alpha nearest 1 at the last training snapshot, over the least of all "
        "snapshots; one training, so no interval",
        rule=at_least(1.1, 1.02),
        measure=lambda r: exact(r["trained"]["left"]),
        nulls=lambda r: {"never left": 1.0},
        reported=(
            Reported("EDM on CIFAR-10, score residual at sigma 1: 0.0083 after a while, 0.0117 in the end", TABLES),
        ),
        rivals=("never left",),
        where="limits#sec-limits-learning",
        test=f"{TEST}::test_preconditions_read_the_card",
    ),
)
