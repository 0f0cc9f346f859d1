"""Rows on variations on purpose: what a way of varying a picture keeps and what it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atelier.ledger.claim import Claim, Records, at_least, at_most, near, positive
from atelier.ledger.rows.reading import interval, nearest
from atelier.statistics import Interval

PAGE = "variations#sec-variations"
TESTS = "tests/experiments/test_variations.py"
PARETO = "tests/experiments/test_pareto.py"
LEVEL = 1.0
STEPS = 20


def _method(r: Records, name: str) -> Any:
    return r["variations"]["methods"][name]


def _most(name: str) -> Callable[[Records], Interval]:
    return lambda r: interval(_method(r, name)["most_detail"])


def _others(*names: tuple[str, str]) -> Callable[[Records], dict[str, float]]:
    return lambda r: {said: _most(name)(r).value for said, name in names if "most_detail" in _method(r, name)}


def _gain(name: str) -> Callable[[Records], Interval]:
    return lambda r: interval(r["variations"]["gain"][name])


def _at_level(key: str) -> Callable[[Records], Any]:
    def read(r: Records) -> Any:
        found = _method(r, "renoise")
        return found[key][nearest(found["level"], LEVEL)]

    return read


def _inversion(pictures: str, solver: str) -> Callable[[Records], Interval]:
    def read(r: Records) -> Interval:
        found = r["variations"]["inversion"]
        return interval(found[pictures][solver][found["steps"].index(STEPS)])

    return read


VARIATIONS = (
    Claim(
        id="v-promise",
        part="variations",
        origin="ours",
        statement="Keeping the components that stand at a level keeps the outline and repaints the details.",
        metric="largest share of the factors of objects and details that change, over levels, while at least 90 % of "
        "the factors of areas and masses are kept, as a reader sees both; the state's PCs with lambda >= "
        "(sigma/alpha)^2 stay and all others are drawn anew; interval over seeds",
        unit="%",
        rule=at_least(0.5, 0.35),
        measure=_most("state"),
        nulls=_others(("noise and back (img2img)", "renoise"), ("mixed noises", "mix")),
        rivals=("noise and back (img2img)", "mixed noises"),
        where=f"{PAGE}-outline",
        test=f"{PARETO}::test_the_most_change_is_read_where_the_curve_crosses",
    ),
    Claim(
        id="v-beats",
        part="variations",
        origin="ours",
        statement="Keeping the components that stand repaints more details than plain noise does, at the same outline.",
        metric="that share less the same of noise and back (img2img, SDEdit); paired over seeds",
        unit="%",
        rule=positive(),
        measure=_gain("state"),
        where=f"{PAGE}-who",
        test=f"{PARETO}::test_gains_are_paired_over_seeds",
    ),
    Claim(
        id="v-law",
        part="variations",
        origin="ours",
        statement="Noise and back moves the outline's components as far as the Gaussian says.",
        metric="mean squared change along the leading PCs that stand at sigma/alpha = 1, over that of unrelated "
        "pictures, after noise of that level; prediction: variance-weighted mean of 1 - alpha (lambda/v)^(1/2)",
        unit="",
        rule=near(0.1, 0.3),
        measure=lambda r: interval(_at_level("low")(r)),
        predict=lambda r: float(_at_level("low_law")(r)),
        nulls=lambda r: {"unrelated pictures": 1.0},
        where=f"{PAGE}-back",
        test=f"{PARETO}::test_each_way_follows_its_law",
        agreement=True,
    ),
    Claim(
        id="v-inversion",
        part="variations",
        origin="ours",
        statement="A picture that the model has never seen survives the way up to noise and back.",
        metric=f"|repainted - picture| / |picture - mean picture| after {STEPS} steps of Heun's method each way, test "
        "pictures of its data; mean over pictures",
        unit="%",
        rule=at_most(0.05, 0.15),
        measure=_inversion("data", "heun"),
        where=f"{PAGE}-given",
        test=f"{TESTS}::test_inversion_comes_back_in_the_exact_world",
    ),
)
