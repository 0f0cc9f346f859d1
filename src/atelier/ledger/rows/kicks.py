"""Rows of prediction (iii): early perturbations change content more often than late ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from atelier.ledger.claim import Claim, Records, above, near, negative, positive, within
from atelier.ledger.rows.reading import average, difference, interval
from atelier.statistics import Interval

WHERE = "evidence#sec-evidence-kicks"
TEST = "tests/workshop/evidence/test_kicks.py"
AT = "first kicked level less the last (in sigma/alpha: the noisiest and the cleanest)"
row = partial(Claim, part="iii", where=WHERE, unit="")


def _series(r: Records, sampler: str, kick: str | None, *, unit: str = "length", often: bool = False) -> Any:
    """The series of a kick of the standard size; ``kick`` None is the one along the axis of the primary measure."""
    for one in r["perturbation"]["series"]:
        fits = one["sampler"] == sampler and one["unit"] == unit and one["size"] == 2 and one["often"] == often
        if fits and kick in (None, one["kick"]):
            return one
    raise KeyError(f"no kicks along {kick} under {sampler}")


def _row(key: str, level: int, sampler: str, kick: str) -> Callable[[Records], Interval]:
    return lambda r: interval(_series(r, sampler, kick)[key][level])


def _number(key: str, level: int, sampler: str, kick: str) -> Callable[[Records], float]:
    return lambda r: float(_series(r, sampler, kick)[key][level])


def _fall(r: Records, key: str, sampler: str = "ode", unit: str = "length") -> Interval:
    """What the first kicked level has more than the last, along the axis of the primary measure."""
    found = _series(r, sampler, None, unit=unit, often=True)[key]
    return difference(interval(found[0]), interval(found[-1]))


def _group(r: Records, key: str) -> Interval:
    return average([interval(one) for one in _series(r, "ode", None, often=True)[key]])


def _law(r: Records) -> float:
    law = _series(r, "ode", None, often=True)["law"]
    return sum(law) / len(law)


CLAIMS = (
    row(
        id="iii-often",
        origin="v1",
        statement="Early kicks change the content more often than late ones of the same length.",
        metric=f"share of kicks that change at least one categorical factor as a reader sees it; {AT}; kicks of L2 "
        "length 2 (variance-preserving) along the axis that divides the data's main contrast, PF-ODE; binomial "
        "intervals",
        unit="%",
        rule=positive(),
        measure=lambda r: _fall(r, "flips"),
        nulls=lambda r: {"exact Gaussian": _fall(r, "exact_flips").value},
        rivals=("exact Gaussian",),
        test=f"{TEST}::test_measured_flips_of_two_modes_follow_the_law_and_units_decide",
    ),
    row(
        id="iii-often-std",
        origin="ours",
        statement="Early kicks change the content more often also when measured in standard deviations of the state.",
        metric="share of kicks that change at least one categorical factor, kicks of 2 marginal standard deviations, "
        f"PF-ODE; {AT}",
        unit="%",
        rule=positive(),
        measure=lambda r: _fall(r, "flips", unit="std"),
        nulls=lambda r: {"exact Gaussian": _fall(r, "exact_flips", unit="std").value},
        rivals=("exact Gaussian",),
        test=f"{TEST}::test_kicks_in_standard_deviations_have_one_effect_at_every_level",
    ),
    row(
        id="iii-often-sde",
        origin="ours",
        statement="Under an ancestral sampler early kicks do not change the content more often.",
        metric=f"share of kicks that change at least one categorical factor, ancestral sampler, later noise held; {AT}",
        unit="%",
        rule=negative(),
        measure=lambda r: _fall(r, "flips", "sde"),
        nulls=lambda r: {"same kicks, ODE": _fall(r, "flips").value},
        test=f"{TEST}::test_measured_flips_of_two_modes_follow_the_law_and_units_decide",
    ),
    row(
        id="iii-two-modes",
        origin="ours",
        statement="How often a kick changes the mode is what two modes of the data's contrast predict.",
        metric="share of kicks that change the side of the contrast, mean over the kicked levels, PF-ODE; "
        "prediction: the flip probability of two equal modes with the data's distance and spread",
        unit="%",
        rule=near(0.25, 0.5),
        measure=lambda r: _group(r, "group"),
        predict=_law,
        nulls=lambda r: {"exact Gaussian": _group(r, "exact_group").value},
        rivals=("exact Gaussian",),
        where="landscape#sec-landscape-kicks",
        test=f"{TEST}::test_flips_of_an_exact_mixture_follow_the_law",
    ),
    row(
        id="iii-gain-early",
        origin="v2",
        statement="An early kick along PC 1 is stretched as the exact Gaussian stretches it.",
        metric="change of the image along PC 1 over the length of the kick, first kicked level, PF-ODE; mean over "
        "seeds",
        rule=near(0.1, 0.3),
        measure=_row("gain", 0, "ode", "PC 1"),
        predict=_number("exact_gain", 0, "ode", "PC 1"),
        nulls=lambda r: {"no stretch": 1.0},
        rivals=("no stretch",),
        test=f"{TEST}::test_the_ode_stretches_a_kick_by_the_root_of_lam_over_v",
        agreement=True,
    ),
    row(
        id="iii-gain-sde",
        origin="ours",
        statement="The ancestral sampler forgets an early kick as far as its exact gain says.",
        metric="change of the image along PC 1 over the length of the kick, first kicked level, ancestral sampler "
        "with the later noise held; mean over seeds",
        rule=within(0.05, 0.2),
        measure=_row("gain", 0, "sde", "PC 1"),
        predict=_number("exact_gain", 0, "sde", "PC 1"),
        nulls=lambda r: {"same kick, ODE": _row("gain", 0, "ode", "PC 1")(r).value},
        test=f"{TEST}::test_the_sde_stretches_it_by_alpha_lam_over_v_in_any_number_of_steps",
        agreement=True,
    ),
    row(
        id="iii-random-late",
        origin="ours",
        statement="In pixels a late random kick changes more than an early one: direction and measure decide.",
        metric="|dx_0| over the length of a random kick, last kicked level, PF-ODE; mean over seeds",
        rule=above("first kicked level"),
        measure=_row("pixels", -1, "ode", "random"),
        predict=_number("exact_pixels", -1, "ode", "random"),
        nulls=lambda r: {"first kicked level": _row("pixels", 0, "ode", "random")(r).value},
        test=f"{TEST}::test_cifar_random_kicks_change_least_in_the_middle_and_most_at_the_end",
    ),
    row(
        id="iii-off-manifold",
        origin="v2",
        statement="An early kick off the image manifold leaves little trace.",
        metric="|dx_0| over the length of a kick without the PCs that hold 99 % of the variance, first kicked level, "
        "PF-ODE; mean over seeds",
        rule=within(0.05, 0.2),
        measure=_row("pixels", 0, "ode", "off-manifold"),
        predict=_number("exact_pixels", 0, "ode", "off-manifold"),
        nulls=lambda r: {"random direction": _row("pixels", 0, "ode", "random")(r).value},
        rivals=("random direction",),
        test=f"{TEST}::test_a_kick_off_the_manifold_leaves_no_trace",
        agreement=True,
    ),
)
