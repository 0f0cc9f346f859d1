"""One row of the ledger: a statement, how it is measured, what the theory says, and the rule by which it is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from painters.experiments.intervals import Interval

Part = Literal["trained", "i", "ii", "iii", "gaussian", "landscape", "retrieval", "samplers"]
Origin = Literal["v1", "v2", "2412.09726", "ours"]
Verdict = Literal["holds", "holds within limits", "fails", "not measured"]
Range = tuple[float, float]

PARTS: dict[Part, str] = {
    "trained": "Preconditions: is the network more than a Gaussian, and at rest?",
    "i": "(i) Trajectories are low-dimensional and turn",
    "ii": "(ii) What varies more emerges earlier",
    "iii": "(iii) Early kicks change content more often",
    "gaussian": "How far one Gaussian carries",
    "landscape": "The landscape of modes",
    "retrieval": "Retrieval and memory",
    "samplers": "Samplers and guidance",
}
"""The parts of the ledger, in the order of the page."""

VERDICTS: tuple[Verdict, ...] = ("holds", "holds within limits", "fails", "not measured")


@dataclass(frozen=True)
class Records:
    """The measurements of a model, ``records["geometry"]`` and so on, each beside the theory and the nulls it needs.

    ``kind`` is ``"network"``, or ``"gaussian"`` for the exact Gaussian in the network's place.
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
    holds within limits if its value lies in the second, and fails otherwise.
    """

    text: str
    holds: Callable[[float | None, Mapping[str, float]], Range]
    limits: Callable[[float | None, Mapping[str, float]], Range]

    def judge(
        self, measured: Interval | None, predicted: float | None = None, nulls: Mapping[str, float] | None = None
    ) -> Verdict:
        """Return the verdict; "not measured" without a measurement, or without a prediction or null it needs."""
        if measured is None or not math.isfinite(measured.value):
            return "not measured"
        try:
            holds, limits = (part(predicted, nulls or {}) for part in (self.holds, self.limits))
        except (KeyError, TypeError):
            return "not measured"
        if all(holds[0] <= end <= holds[1] for end in (measured.low, measured.value, measured.high)):
            return "holds"
        return "holds within limits" if limits[0] <= measured.value <= limits[1] else "fails"


def near(share: float, limits: float) -> Rule:
    """The interval lies within ``share`` of the prediction; within limits: the value within ``limits`` of it."""

    def around(width: float) -> Callable[[float | None, Mapping[str, float]], Range]:
        def span(predicted: float | None, _: Mapping[str, float]) -> Range:
            p = _known(predicted)
            return p - width * abs(p), p + width * abs(p)

        return span

    text = f"the interval lies within {share:.0%} of the prediction; within limits: the value within {limits:.0%} of it"
    return Rule(text, around(share), around(limits))


def within(distance: float, limits: float, unit: str = "") -> Rule:
    """The interval lies within a fixed ``distance`` of the prediction; within limits: the value within ``limits``."""

    def around(width: float) -> Callable[[float | None, Mapping[str, float]], Range]:
        def span(predicted: float | None, _: Mapping[str, float]) -> Range:
            p = _known(predicted)
            return p - width, p + width

        return span

    unit = f" {unit}" if unit else ""
    text = f"the interval lies within {distance:g}{unit} of the prediction; within limits: the value within {limits:g}"
    return Rule(f"{text}{unit}", around(distance), around(limits))


def at_most(bound: float, limits: float) -> Rule:
    """The interval lies at or below ``bound``; within limits: the value at or below ``limits``."""
    text = f"the interval lies at or below {bound:g}; within limits: the value at or below {limits:g}"
    return Rule(text, lambda p, n: (-math.inf, bound), lambda p, n: (-math.inf, limits))


def at_least(bound: float, limits: float) -> Rule:
    """The interval lies at or above ``bound``; within limits: the value at or above ``limits``."""
    text = f"the interval lies at or above {bound:g}; within limits: the value at or above {limits:g}"
    return Rule(text, lambda p, n: (bound, math.inf), lambda p, n: (limits, math.inf))


def above(null: str, *, factor: float = 1.0) -> Rule:
    """The interval lies above a null, times ``factor``; within limits: the value does."""

    def over(_: float | None, nulls: Mapping[str, float]) -> Range:
        return factor * nulls[null], math.inf

    times = "" if factor == 1 else f"{factor:g} times "
    text = f"the interval lies above {times}the null '{null}'; within limits: the value lies above it"
    return Rule(text, over, over)


def below(null: str, *, factor: float = 1.0) -> Rule:
    """The interval lies below a null, times ``factor``; within limits: the value does."""

    def under(_: float | None, nulls: Mapping[str, float]) -> Range:
        return -math.inf, factor * nulls[null]

    times = "" if factor == 1 else f"{factor:g} times "
    text = f"the interval lies below {times}the null '{null}'; within limits: the value lies below it"
    return Rule(text, under, under)


def bounded_below(slack: float) -> Rule:
    """A lower bound: the interval lies above the prediction less ``slack`` of it; within limits: the value does."""

    def over(predicted: float | None, _: Mapping[str, float]) -> Range:
        p = _known(predicted)
        return p - slack * abs(p), math.inf

    text = f"the interval lies at most {slack:.0%} below the prediction, a lower bound; within limits: the value does"
    return Rule(text, over, over)


def _known(value: float | None) -> float:
    if value is None or not math.isfinite(value):
        raise TypeError("there is no prediction")
    return value


def none(_: Records) -> None:
    """No prediction."""


def no_nulls(_: Records) -> dict[str, float]:
    """No nulls."""
    return {}


@dataclass(frozen=True)
class Claim:
    """One row: ``measure``, ``predict`` and ``nulls`` are pure functions of a model's records.

    ``id`` is stable. ``metric`` defines what is measured, in ``unit`` ("%" for shares). ``agreement`` marks claims that
    a network meets on its way through training and that count only if the preconditions hold. ``where`` is the section
    that shows it, ``PAGE#label``; ``test`` the test of its measurement, ``PATH::name``.
    """

    id: str
    part: Part
    origin: Origin
    statement: str
    metric: str
    unit: str
    rule: Rule
    measure: Callable[[Records], Interval | None]
    where: str
    test: str
    predict: Callable[[Records], float | None] = none
    nulls: Callable[[Records], dict[str, float]] = no_nulls
    reported: tuple[Reported, ...] = ()
    agreement: bool = False


@dataclass(frozen=True)
class Cell:
    """One claim on one model: what was measured beside what was predicted, and the verdict.

    ``note`` says why an agreement does not count, empty if it does.
    """

    claim: Claim
    measured: Interval | None
    predicted: float | None
    nulls: Mapping[str, float]
    verdict: Verdict
    note: str = ""


def evaluate(claim: Claim, records: Records) -> Cell:
    """Return the cell of a claim; a record that is not there reads "not measured"."""
    measured, predicted = _found(claim.measure, records), _found(claim.predict, records)
    nulls = {name: value for name, value in (_found(claim.nulls, records) or {}).items() if value is not None}
    if measured is not None and not math.isfinite(measured.value):
        measured = None
    return Cell(claim, measured, predicted, nulls, claim.rule.judge(measured, predicted, nulls))


def _found(function: Callable[[Records], Any], records: Records) -> Any:
    """What a function of records gives, ``None`` where a key is missing, a number is null, or too few are left."""
    try:
        return function(records)
    except (LookupError, TypeError, ValueError, ArithmeticError, StopIteration):
        return None
