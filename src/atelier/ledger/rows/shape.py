"""Rows of prediction (i): trajectories are low-dimensional, and they turn from the noise to the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from atelier.ledger.claim import Claim, Records, above, at_least, below, near, within
from atelier.ledger.rows.reading import from_band, interval, nearest
from atelier.statistics import Interval

WHERE = "evidence#sec-evidence-geometry"
TEST = "tests/workshop/evidence/test_shape.py"
OVER_SEEDS = "mean over seeds, interval by bootstrap over seeds"
row = partial(Claim, part="i", where=WHERE, unit="")


def _of(column: str, name: str) -> Callable[[Records], Interval]:
    return lambda r: interval(r["geometry"]["columns"][column][name])


def _value(column: str, name: str) -> Callable[[Records], float]:
    return lambda r: float(r["geometry"]["columns"][column][name]["value"])


def _nulls(**named: tuple[str, str]) -> Callable[[Records], dict[str, float]]:
    """Nulls by name: (column, statistic); underscores read as spaces."""
    return lambda r: {
        name.replace("_", " "): float(r["geometry"]["columns"][column][key]["value"])
        for name, (column, key) in named.items()
        if key in r["geometry"]["columns"][column]
    }


def _curve(name: str, sigma: float) -> Callable[[Records], Interval]:
    """A mean over seeds at the level nearest to ``sigma``, with its spread over seeds."""

    def read(r: Records) -> Interval:
        found = r["geometry"]
        i = nearest(found["sigma_over_alpha"][: len(found["curves"]["network"][name])], sigma)
        low, high = (found["bands"][name][end][i] for end in (0, 1))
        return from_band(found["curves"]["network"][name][i], low, high, found["seeds"])

    return read


def _theory(name: str, sigma: float) -> Callable[[Records], float]:
    def read(r: Records) -> float:
        curve = r["geometry"]["curves"]["gaussian"][name]
        return float(curve[nearest(r["geometry"]["sigma_over_alpha"][: len(curve)], sigma)])

    return read


def _outside(r: Records) -> Interval:
    """The share of the state's variance outside two PCs."""
    inside = _of("network", "states_2")(r)
    return Interval(1 - inside.value, 1 - inside.high, 1 - inside.low, inside.n)


CLAIMS = (
    row(
        id="i-x0hat-two-pcs",
        origin="v1",
        statement="The endpoint estimate moves in very few dimensions: two PCs hold nearly all of its variance.",
        metric=f"share of the variance of the curve of x0_hat in its first two PCs, mean removed; {OVER_SEEDS}",
        unit="%",
        rule=at_least(0.95, 0.9),
        measure=_of("network", "estimates_2"),
        predict=_value("gaussian", "estimates_2"),
        nulls=_nulls(random_walk=("walk", "states_2"), ancestral_sampler=("ancestral", "estimates_2")),
        rivals=("random walk", "ancestral sampler"),
        test=f"{TEST}::test_cifar_trajectory_dimension",
        agreement=True,
    ),
    row(
        id="i-x0hat-as-theory",
        origin="v2",
        statement="The endpoint estimate is as low-dimensional as the exact Gaussian of the data makes it.",
        metric=f"share of the variance of the curve of x0_hat in its first PC, mean removed; {OVER_SEEDS}",
        unit="%",
        rule=near(0.05, 0.15),
        measure=_of("network", "estimates_1"),
        predict=_value("gaussian", "estimates_1"),
        nulls=_nulls(random_walk=("walk", "states_1"), ancestral_sampler=("ancestral", "estimates_1")),
        rivals=("random walk", "ancestral sampler"),
        test=f"{TEST}::test_cifar_trajectory_dimension",
        agreement=True,
    ),
    row(
        id="i-knowing-nothing-is-flatter",
        origin="ours",
        statement="A low dimension of the state is no evidence of learning: a denoiser that knows only the mean has "
        "a lower one.",
        metric=f"share of the variance of the curve of x outside its first two PCs, mean removed; {OVER_SEEDS}",
        unit="%",
        rule=above("knows only the mean"),
        measure=_outside,
        predict=lambda r: 1 - _value("gaussian", "states_2")(r),
        nulls=lambda r: {"knows only the mean": 1 - _value("mean", "states_2")(r)},
        test=f"{TEST}::test_a_denoiser_that_knows_only_the_mean_is_the_flattest_of_all",
    ),
    row(
        id="i-ode-not-sde",
        origin="ours",
        statement="Low dimension is a property of the ODE: an ancestral sampler of the same network does not have it.",
        metric=f"the same share of the curve of x under the ancestral sampler; {OVER_SEEDS}",
        unit="%",
        rule=below("same network, ODE", factor=0.9),
        measure=_of("ancestral", "states_2"),
        nulls=lambda r: {
            "same network, ODE": _value("network", "states_2")(r),
            "random walk": _value("walk", "states_2")(r),
        },
        test=f"{TEST}::test_cifar_sampler_nulls",
    ),
    row(
        id="i-plane",
        origin="v2",
        statement="The state stays in the plane of noise and image.",
        metric=f"share of |x|^2 outside span{{x_T, x_0}}, no mean removed, mean over levels; {OVER_SEEDS}",
        unit="%",
        rule=near(0.25, 1.0),
        measure=_of("network", "plane_mean"),
        predict=_value("gaussian", "plane_mean"),
        nulls=_nulls(knows_only_the_mean=("mean", "plane_mean"), ancestral_sampler=("ancestral", "plane_mean")),
        rivals=("knows only the mean", "ancestral sampler"),
        test=f"{TEST}::test_cifar_plane_and_rotation",
        agreement=True,
    ),
    row(
        id="i-rotation-evolving",
        origin="v2",
        statement="It turns to a target specified gradually: with x0_hat of the moment the formula fits better.",
        metric="the same with x0_hat of the same level in the place of x_0",
        unit="%",
        rule=below("final target"),
        measure=_of("network", "evolving_mean"),
        predict=_value("gaussian", "evolving_mean"),
        nulls=_nulls(final_target=("network", "rotation_mean"), knows_only_the_mean=("mean", "evolving_mean")),
        test=f"{TEST}::test_rotation_error_is_the_closed_form_mode_by_mode",
        agreement=True,
    ),
    row(
        id="i-angle",
        origin="ours",
        statement="Noise and image are not orthogonal: their angle is the one the spectrum of the data gives.",
        metric=f"angle between x_T and x_0, the mean not removed; {OVER_SEEDS}",
        unit="degrees",
        rule=within(2, 5, "degrees"),
        measure=_of("network", "angle"),
        predict=_value("gaussian", "angle"),
        nulls=lambda r: {"unrelated vectors": 90.0},
        rivals=("unrelated vectors",),
        test=f"{TEST}::test_cifar_plane_and_rotation",
        agreement=True,
    ),
    row(
        id="i-unforeseen",
        origin="v1",
        statement="The image can be foretold from the states so far only slowly: what is missing falls as theory says.",
        metric="share of |x_0|^2 outside span{x_T, x} at the level nearest to sigma/alpha = 1; mean over seeds, "
        "interval from its spread over seeds",
        unit="%",
        rule=near(0.15, 0.4),
        measure=_curve("unforeseen", 1.0),
        predict=_theory("unforeseen", 1.0),
        test=f"{TEST}::test_unforeseen_falls_from_the_angle_to_zero",
        agreement=True,
    ),
    row(
        id="i-first-add-then-clean",
        origin="v1",
        statement="First the image is added, then the noise is taken away: early steps point to the image, late ones "
        "away from the noise.",
        metric="cosine of a step with x_T at the level nearest to sigma/alpha = 0.1; mean over seeds, interval from "
        "its spread over seeds",
        rule=within(0.05, 0.15),
        measure=_curve("along_noise", 0.1),
        predict=_theory("along_noise", 0.1),
        test=f"{TEST}::test_cifar_first_the_image_is_added_then_the_noise_removed",
        agreement=True,
    ),
)
