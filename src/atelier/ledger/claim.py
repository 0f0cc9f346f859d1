"""One row of the ledger: a statement, how it is measured, what the theory says, and the rule by which it is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from atelier.statistics import Interval

Part = Literal["trained", "i", "ii", "iii", "gaussian", "landscape", "guidance", "manifold", "variations", "gans"]
Origin = Literal["v1", "v2", "2412.09726", "ours"]
Verdict = Literal["holds", "holds within limits", "undecided", "fails", "not measured"]
Range = tuple[float, float]
Bounds = Callable[[float | None, Mapping[str, float]], Range]
"""(prediction, nulls) -> the range in which a number must lie; raises ``TypeError`` or ``KeyError`` without them."""

PARTS: dict[Part, str] = {
    "trained": "Training: is the network more than a Gaussian, and at rest?",
    "i": "(i) Trajectories are low-dimensional and turn",
    "ii": "(ii) What varies more emerges earlier",
    "iii": "(iii) Early kicks change content more often",
    "gaussian": "How far one Gaussian carries",
    "landscape": "The landscape of modes, and memory",
    "guidance": "Guidance",
    "manifold": "The image manifold",
    "variations": "Variations on purpose",
    "gans": "Kinship with GANs",
}
"""The parts of the ledger, in the order of the page."""

VERDICTS: tuple[Verdict, ...] = ("holds", "holds within limits", "undecided", "fails", "not measured")

NULL_PASSES = "the null passes too"
"""The note of a cell whose rule is met by a null as well: its verdict says nothing for the claim."""


@dataclass(frozen=True)
class Records:
    """The measurements of a model, ``records["geometry"]`` and so on, each beside the theory and the nulls it needs.

    ``kind`` is ``"network"``, or says what stands in its place, see :data:`~atelier.ledger.records.KINDS`.
    """

    model: Mapping[str, Any]
    kind: str = "network"

    def __getitem__(self, name: str) -> Any:
        return self.model[name]


@dataclass(frozen=True)
class Reported:
    """A number published for a comparable model: ``text`` with the model it belongs to, and where it stands."""

    text: str
    source: Literal["abstract", "authors' notebook", "authors' tables", "third-party replication"]


@dataclass(frozen=True)
class Rule:
    """What a measurement must satisfy, said in words and computed by the same object.

    ``holds`` and ``limits`` map (prediction, nulls) to a range: a claim holds if its whole interval lies in the first,
    holds within limits if its value lies in the second, and fails otherwise. A rule that compares with one number, such
    as no effect, has no ``limits``: a claim is undecided if its interval contains that number.
    """

    text: str
    holds: Bounds
    limits: Bounds | None = None

    def judge(
        self, measured: Interval | None, predicted: float | None = None, nulls: Mapping[str, float] | None = None
    ) -> Verdict:
        """Return the verdict; "not measured" without a measurement, or without a prediction or null it needs."""
        if measured is None or not math.isfinite(measured.value):
            return "not measured"
        try:
            holds = self.holds(predicted, nulls or {})
            limits = self.limits and self.limits(predicted, nulls or {})
        except (KeyError, TypeError):
            return "not measured"
        if limits is None:
            # Strictly: an interval that touches the number it is compared with contains it.
            if holds[0] < measured.low and measured.high < holds[1]:
                return "holds"
            return "fails" if measured.high < holds[0] or measured.low > holds[1] else "undecided"
        # The value too: an interval from a bootstrap need not contain it.
        if all(holds[0] <= end <= holds[1] for end in (measured.low, measured.value, measured.high)):
            return "holds"
        return "holds within limits" if limits[0] <= measured.value <= limits[1] else "fails"


def _around(share: float, distance: float = 0.0) -> Bounds:
    """The range of a ``share`` of the prediction on either side of it, or of a fixed ``distance``."""

    def bounds(predicted: float | None, _: Mapping[str, float]) -> Range:
        if predicted is None or not math.isfinite(predicted):
            raise TypeError("there is no prediction")
        width = share * abs(predicted) + distance
        return predicted - width, predicted + width

    return bounds


def _between(low: float, high: float) -> Bounds:
    return lambda predicted, nulls: (low, high)


def near(share: float, limits: float) -> Rule:
    """The interval lies within ``share`` of the prediction; within limits: the value within ``limits`` of it."""
    text = f"the interval lies within {share:.0%} of the prediction; within limits: the value within {limits:.0%} of it"
    return Rule(text, _around(share), _around(limits))


def within(distance: float, limits: float, unit: str = "") -> Rule:
    """The interval lies within a fixed ``distance`` of the prediction; within limits: the value within ``limits``."""
    unit = f" {unit}" if unit else ""
    text = f"the interval lies within {distance:g}{unit} of the prediction; within limits: the value within {limits:g}"
    return Rule(f"{text}{unit}", _around(0, distance), _around(0, limits))


def at_most(bound: float, limits: float) -> Rule:
    """The interval lies at or below ``bound``; within limits: the value at or below ``limits``."""
    text = f"the interval lies at or below {bound:g}; within limits: the value at or below {limits:g}"
    return Rule(text, _between(-math.inf, bound), _between(-math.inf, limits))


def at_least(bound: float, limits: float) -> Rule:
    """The interval lies at or above ``bound``; within limits: the value at or above ``limits``."""
    text = f"the interval lies at or above {bound:g}; within limits: the value at or above {limits:g}"
    return Rule(text, _between(bound, math.inf), _between(limits, math.inf))


def positive() -> Rule:
    """The interval lies above 0, which is no effect; undecided if it contains 0."""
    return Rule("the interval lies above 0; undecided if it contains 0, no effect", _between(0.0, math.inf))


def above(null: str, factor: float = 1.0) -> Rule:
    """The interval lies above a null, times ``factor``; undecided if it contains that number."""
    return Rule(_beyond("above", null, factor), lambda predicted, nulls: (factor * nulls[null], math.inf))


def below(null: str, factor: float = 1.0) -> Rule:
    """The interval lies below a null, times ``factor``; undecided if it contains that number."""
    return Rule(_beyond("below", null, factor), lambda predicted, nulls: (-math.inf, factor * nulls[null]))


def _beyond(side: str, null: str, factor: float) -> str:
    times = "" if factor == 1 else f"{factor:g} times "
    return f"the interval lies {side} {times}the null '{null}'; undecided if it contains that number"


RULES: dict[str, Callable[..., Rule]] = {
    "near": near,
    "within": within,
    "at most": at_most,
    "at least": at_least,
    "positive": positive,
    "above": above,
    "below": below,
}
"""The rules by the names that ``claims.toml`` uses."""


@dataclass(frozen=True)
class Reading:
    """How a row reads its numbers: the measured one, the theory's, and those of its nulls.

    Pure functions of a model's records.
    """

    measure: Callable[[Records], Interval | None]
    predict: Callable[[Records], float | None] = lambda records: None
    nulls: Callable[[Records], dict[str, float]] = lambda records: {}


@dataclass(frozen=True)
class Claim:
    """One row of ``claims.toml``, whose head says what its fields mean, with the functions that read its numbers.

    ``id`` is stable.
    """

    id: str
    part: Part
    origin: Origin
    statement: str
    metric: str
    rule: Rule
    reading: Reading
    where: str
    test: str
    unit: str = ""
    reported: tuple[Reported, ...] = ()
    agreement: bool = False
    rivals: tuple[str, ...] = ()
    first: bool = False
    changed: str = ""


@dataclass(frozen=True)
class Cell:
    """One claim on one model: what was measured beside what was predicted, and the verdict.

    ``note`` says why it does not count or says little, empty if there is nothing to say.
    """

    claim: Claim
    measured: Interval | None
    predicted: float | None
    nulls: Mapping[str, float]
    verdict: Verdict
    note: str = ""


def evaluate(claim: Claim, records: Records) -> Cell:
    """Return the cell of a claim; a record that is not there reads "not measured"."""
    measured, predicted = _found(claim.reading.measure, records), _found(claim.reading.predict, records)
    nulls = {name: value for name, value in (_found(claim.reading.nulls, records) or {}).items() if value is not None}
    if measured is not None and not math.isfinite(measured.value):
        measured = None
    verdict = claim.rule.judge(measured, predicted, nulls)
    return Cell(claim, measured, predicted, nulls, verdict, _passed(claim, predicted, nulls, verdict, records.kind))


def _passed(claim: Claim, predicted: float | None, nulls: Mapping[str, float], verdict: Verdict, kind: str) -> str:
    """Say whether a null meets the rule as well as the network does, its value taken as an interval of no width."""
    if kind != "network" or not verdict.startswith("holds"):
        return ""
    points = (Interval(nulls[name], nulls[name], nulls[name], 0) for name in claim.rivals if name in nulls)
    verdicts = (claim.rule.judge(point, predicted, nulls) for point in points)
    return NULL_PASSES if any(VERDICTS.index(v) <= VERDICTS.index(verdict) for v in verdicts) else ""


def _found(function: Callable[[Records], Any], records: Records) -> Any:
    """What a function of records gives, ``None`` where a key is missing, a number is null, or too few are left."""
    try:
        return function(records)
    except (LookupError, TypeError, ValueError, ArithmeticError, StopIteration):
        return None
