"""Rows on how far one Gaussian carries, and on retrieval by the training set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from atelier.ledger.claim import Claim, Records, Reported, above, at_least, at_most, below, near
from atelier.ledger.rows.reading import exact, interval, nearest, triple
from atelier.statistics import Interval, mean

WHERE = "limits#sec-limits-gaussian"
TEST = "tests/workshop/limits/test_carries.py"
CLOUD = "landscape#sec-landscape-cloud"
COPIES = "tests/workshop/landscape/test_retrieval.py"
TABLES = "authors' tables"
row = partial(Claim, part="gaussian", where=WHERE, unit="")
memory = partial(Claim, part="retrieval", where=CLOUD, unit="")


def _residual(kind: str, name: str, sigma: float) -> Callable[[Records], Interval]:
    def read(r: Records) -> Interval:
        found = r["approximation"]
        # Noised test images where the data are at hand, else states of the model's own runs.
        states, i = "test" if "test_score" in found else "path", nearest(found["ratio"], sigma)
        return triple(found[f"{states}_{kind}"][name][i], found[f"{states}_n"])

    return read


def _value(kind: str, name: str, sigma: float) -> Callable[[Records], float]:
    return lambda r: _residual(kind, name, sigma)(r).value


def _best_mixture(r: Records, sigma: float) -> float:
    """The smallest residual of a k-means mixture at a level."""
    found = r["approximation"]
    i = nearest(found["ratio"], sigma)
    return float(min(rows[i][0] for name, rows in found["test_size"].items() if name.startswith("k-means")))


def _until(name: str) -> Callable[[Records], Interval]:
    return lambda r: triple(r["approximation"]["until"][name])


def _painted(name: str) -> Callable[[Records], Interval]:
    return lambda r: mean(r["approximation"]["painted"][name]["pixels"])


GAUSSIAN = (
    row(
        id="g-score",
        origin="2412.09726",
        statement="At high noise the network's score is that of the Gaussian.",
        metric="score residual E|s - s_gauss|^2 / E|s|^2 at sigma/alpha = 5 on noised test images (on the model's "
        "own states where no data are at hand); interval over states",
        unit="%",
        rule=at_most(0.01, 0.05),
        measure=_residual("score", "gaussian", 5.0),
        nulls=lambda r: {"knows only the mean": _value("score", "mean", 5.0)(r)},
        reported=(Reported("EDM on CIFAR-10: 0.035 % at sigma 5", TABLES),),
        rivals=("knows only the mean",),
        test=f"{TEST}::test_the_score_residual_is_that_of_the_scores",
        agreement=True,
    ),
    row(
        id="g-denoiser",
        origin="ours",
        statement="The stricter measure, the denoiser itself, agrees less closely, and still far better than the mean.",
        metric="denoiser residual E|D - D_gauss|^2 / E|D|^2 at sigma/alpha = 5, same states",
        unit="%",
        rule=below("knows only the mean", factor=0.25),
        measure=_residual("size", "gaussian", 5.0),
        nulls=lambda r: {"knows only the mean": _value("size", "mean", 5.0)(r)},
        reported=(Reported("EDM on CIFAR-10: 5.9 % at sigma 5, the mean 93 %", TABLES),),
        test=f"{TEST}::test_the_score_residual_is_that_of_the_scores",
        agreement=True,
    ),
    row(
        id="g-flattery",
        origin="ours",
        statement="Even the mean alone has a small score residual at high noise, and the spectrum says how small.",
        metric="score residual of the constant mean at sigma/alpha = 5; prediction from the eigenvalues alone",
        unit="%",
        rule=near(0.1, 0.3),
        measure=_residual("score", "mean", 5.0),
        predict=lambda r: float(r["approximation"]["flattery"][nearest(r["approximation"]["ratio"], 5.0)]),
        reported=(Reported("EDM on CIFAR-10: 0.57 % at sigma 5", TABLES),),
        test=f"{TEST}::test_the_constant_mean_is_flattered_as_the_spectrum_says",
        agreement=True,
    ),
    row(
        id="g-early",
        origin="v2",
        statement="The closed solution foretells the early state from the noise alone, further than fading noise does.",
        metric="noise level sigma/alpha at which |x - x_gauss| passes 5 % of |x|; mean over seeds",
        rule=below("constant mean in the place of the Gaussian"),
        measure=_until("x 0.05"),
        nulls=lambda r: {"constant mean in the place of the Gaussian": _until("null 0.05")(r).value},
        test=f"{TEST}::test_a_gaussian_run_is_foretold_and_the_null_is_not",
        agreement=True,
    ),
    row(
        id="g-not-the-training-set",
        origin="2412.09726",
        statement="At small noise the exact denoiser of the training set is further from the network than a coarse "
        "mixture.",
        metric="denoiser residual of the training set's point cloud at sigma/alpha = 1, noised test images; null: "
        "the best k-means mixture",
        unit="%",
        rule=above("best mixture"),
        measure=_residual("size", "cloud", 1.0),
        nulls=lambda r: {"best mixture": _best_mixture(r, 1.0)},
        reported=(Reported("EDM on CIFAR-10 at sigma 1: training set 16.2 %, Gaussian 7.7 %", TABLES),),
        where="landscape#sec-landscape-coarse",
        test=f"{TEST}::test_the_score_residual_is_that_of_the_scores",
    ),
    row(
        id="g-samples",
        origin="2412.09726",
        statement="From the same noise the Gaussian paints nearly the network's image, nearer than the training set "
        "does.",
        metric="mean squared pixel distance (pixels in [0, 1]) of the Gaussian's image from the network's; mean over "
        "seeds",
        rule=below("training set"),
        measure=_painted("gaussian"),
        nulls=lambda r: (
            {
                name: _painted(key)(r).value
                for name, key in (("training set", "cloud"), ("the mean", "mean"))
                if key in r["approximation"]["painted"]
            }
            | {"another image": float(r["approximation"]["unrelated"]["pixels"])}
        ),
        reported=(Reported("EDM on CIFAR-10: Gaussian 0.0130, training set 0.0473", TABLES),),
        test=f"{TEST}::test_measuring_the_training_cloud_itself",
    ),
)

RETRIEVAL = (
    memory(
        id="r-no-copies",
        origin="ours",
        statement="The network does not copy its training set.",
        metric="share of paintings nearer to a training image than to every one of as many fresh images: nearest "
        "neighbours in pixels at the reader's size, galleries of equal size; 50 % without copying, 100 % for copies, "
        "and less than half is no fault; binomial interval",
        unit="%",
        rule=at_most(0.6, 0.7),
        measure=lambda r: interval(r["retrieval"]["paintings"]["share"]),
        predict=lambda r: 0.5,
        nulls=lambda r: {
            "paintings of the training set's cloud": float(r["retrieval"]["control"]["share"]["value"]),
            "exact Gaussian": float(r["retrieval"]["gaussian"]["share"]["value"]),
        },
        rivals=("paintings of the training set's cloud",),
        test=f"{COPIES}::test_copies_are_caught_and_fresh_or_blurred_draws_are_not",
    ),
    memory(
        id="r-collapse",
        origin="v2",
        statement="The training set's own score is a retrieval: already at noise level 1 or above it points to "
        "nearly a single image.",
        metric="noise level sigma/alpha at which the median effective number of training images falls below 2, on "
        "noised test images; a median over one set, so no interval",
        rule=at_least(1.0, 0.5),
        measure=lambda r: exact(r["retrieval"]["test_collapse"]),
        test=f"{COPIES}::test_weights_collapse_where_brute_force_says",
    ),
)
