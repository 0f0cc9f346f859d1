"""The row of guidance: a slope through zero over the runs of one weight, each beside its prompt without guidance."""

import numpy as np
import pytest

from atelier.ledger.rows.modes import _guided


def test_the_slope_is_that_of_the_runs_of_its_weight():
    """Log spreads are half the law's at weight 3 and twice the law's at 7.5, whatever a prompt begins with."""
    law, runs = np.linspace(-2, 1, 12), []
    for prompt, base in (("a moon", 0.3), ("a hill", 5.0)):
        for weight, slope in ((1.0, 0.0), (3.0, 0.5), (7.5, 2.0)):
            step = law * (weight - 1)
            spreads = {"law": base * np.exp(step), "measured": 7 * base * np.exp(slope * step)}
            runs.append({"prompt": prompt, "guidance": weight, **{k: v.tolist() for k, v in spreads.items()}})
    record = {"guidance": {"runs": runs}}
    assert _guided(record, 3.0).value == pytest.approx(0.5) and _guided(record, 7.5).value == pytest.approx(2.0)
    assert _guided(record, 3.0, "law").value == pytest.approx(1.0)
