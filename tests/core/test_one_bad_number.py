"""One bad number among good ones is refused wherever numbers are given: a check of all or of any is easily turned."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from partners import gaussian, randn
from torch import Tensor

from painters import Gaussian, Levels, Mixture, Moments, PointCloud
from painters.denoiser import column, endpoint
from painters.sampling import noise
from painters.schedules import cosine, discrete, edm, rescale
from painters.theory import emergence
from painters.trajectory import Trajectory


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def g(mu: Tensor, lam: Tensor) -> Gaussian:
    return Gaussian(mu, torch.eye(2).double(), lam)


def run(sigma: Tensor, seeds: tuple[int, ...] | None = (1, 2)) -> Trajectory:
    return Trajectory(Levels(t(1, 1, 1), sigma), torch.zeros(3, 2, 4), torch.zeros(2, 2, 4), 2, seeds=seeds)


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (lambda: Levels(t(0.5, math.inf, 1), t(1, 0.5, 0)), "finite"),
        (lambda: Levels(t(0.5, 0.8, 1), t(1, math.nan, 0)), "finite"),
        (lambda: Levels(t(-0.1, 0.5, 1), t(1, 0.5, 0)), "negative"),
        (lambda: Levels(t(0.1, 0.5, 1), t(1, 0.5, -0.1)), "negative"),
        (lambda: Levels(t(0.1, 0.5, 0), t(1, 0.5, 0)), "both zero"),
        (lambda: Levels(t(0.1, 0.5, 0.3, 1), t(1, 0.5, 0.7, 0)), "strictly"),
        (lambda: column(t(0.5, math.nan), torch.zeros(2, 3)), "finite"),
        (lambda: column(t(-0.5, 0.5), torch.zeros(2, 3)), "not negative"),
        (lambda: endpoint(randn(2), randn(2), t(0, 0.5), t(1, 0.8), prediction="epsilon"), "no endpoint estimate"),
        (lambda: noise([1, -1], (2,)), "a seed lies between"),
        (lambda: noise([1, 2**32], (2,)), "a seed lies between"),
        (lambda: noise([1, True], (2,)), "whole numbers"),
        (lambda: emergence(t(1, -1), (0.6, 0.8)), "negative"),
        (lambda: g(t(0, math.inf), t(1, 1)), "the mean must be finite"),
        (lambda: g(t(0, 0), t(1, -1)), "negative"),
        (lambda: g(t(0, 0), t(1, math.inf)), "finite"),
        (lambda: Gaussian(t(0, 0), torch.tensor([[1.0, 0.0], [0.0, 1.1]]).double(), t(1, 1)), "orthonormal"),
        (lambda: g(t(0, 0), t(1, 0)).score(randn(1, 2), 1.0, 0.0), "no density"),
        (lambda: Gaussian.of(t(0, 0), torch.tensor([[1.0, 0.3], [0.0, 1.0]])), "symmetric"),
        (lambda: Mixture(t(1.5, -0.5), (gaussian([1.0]), gaussian([1.0]))), "positive"),
        (lambda: Moments.of(torch.tensor([[1.0, 2.0], [1.0, math.nan]])), "NaN"),
        (lambda: PointCloud(randn(3, 2), torch.tensor([0, 1, -1])), "labels"),
        (lambda: PointCloud(torch.tensor([[1.0, 2.0], [1.0, math.inf]])), "NaN or infinite"),
        (lambda: PointCloud(randn(3, 2))(randn(2, 2), t(1, 1), t(0.5, 0)), "no density"),  # type: ignore[arg-type]
        (lambda: discrete(t(0.9, 0.95, 0.5)), "decreasing"),
        (lambda: discrete(t(1.0, 0.9, 0.5)), r"in \[0, 1\)"),
        (lambda: discrete(t(0.9, 0.5, -0.1)), r"in \[0, 1\)"),
        (lambda: discrete(t(0.9, 0.5)).at(t(0.5, 1.5)), "is defined at"),
        (lambda: discrete(t(0.9, 0.5)).at(t(0.0, 1.0)), "is defined at"),
        (lambda: edm().time(t(1, 1), t(1, 100)), "was trained from"),
        (lambda: edm().time(t(1, 1), t(1, 0.001)), "was trained from"),
        (lambda: rescale(t(0, 1), t(1, 1), "ve"), "alpha = 0"),
        (lambda: cosine().at(t(1.0)) and rescale(t(0.5, 0.0), t(0.5, 1.0), "ve"), "alpha = 0"),
        (lambda: Trajectory.join([run(t(3, 1, 0)), run(t(3, 2, 0))]), "same levels"),
    ],
)  # fmt: skip
def test_it_is_refused(refused: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        refused()


def test_runs_of_unknown_seeds_make_a_run_of_unknown_seeds() -> None:
    known, unknown = run(t(3, 1, 0)), run(t(3, 1, 0), None)
    assert Trajectory.join([known, known]).seeds == (1, 2, 1, 2) and Trajectory.join([known, unknown]).seeds is None
    assert Trajectory.join([known, unknown]).x.shape == (3, 4, 4)
