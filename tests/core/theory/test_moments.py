"""Streaming moments against torch.cov, for any partition and any offset."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from partners import randn, rel

from painters import Gaussian, Moments
from painters.theory.moments import MAX_DIMENSION


def covariance(x: torch.Tensor) -> torch.Tensor:
    return torch.atleast_2d(torch.cov(x.T, correction=0))


@given(
    n=st.integers(2, 60),
    dim=st.integers(1, 6),
    cuts=st.lists(st.integers(1, 59), max_size=6),
    offset=st.sampled_from([0.0, 3.0, 1000.0]),
    seed=st.integers(0, 10_000),
)
def test_any_partition_gives_the_covariance(n: int, dim: int, cuts: list[int], offset: float, seed: int) -> None:
    x = randn(n, dim, seed=seed) * torch.logspace(0, -2, dim, dtype=torch.float64) + offset
    ends = sorted({c for c in cuts if c < n} | {n})
    parts = [x[a:b] for a, b in zip([0, *ends[:-1]], ends)]
    whole = Moments.stream(parts)
    assert whole.n == n
    assert rel(whole.mean, x.mean(0)) < 1e-13
    assert rel(whole.covariance, covariance(x)) < 1e-9
    backwards = Moments.stream(reversed(parts))
    assert rel(backwards.covariance, whole.covariance) < 1e-9


def test_float32_images_far_from_zero_keep_their_covariance() -> None:
    """The uncentred float32 sums that this replaces are wrong by far more than the covariance itself."""
    x = (randn(4000, 1, 3, 2, seed=1) + 1000).float()
    moments = Moments.stream(x.split(7))
    exact = covariance(x.double().flatten(1))
    assert rel(moments.covariance, exact) < 1e-9
    flat = x.flatten(1)
    naive = flat.T @ flat / len(flat) - flat.mean(0)[:, None] * flat.mean(0)
    assert rel(naive.double(), exact) > 0.01


def test_merging_does_not_change_its_parts() -> None:
    a, b = Moments.of(randn(5, 3, seed=2)), Moments.of(randn(4, 3, seed=3) + 2)
    before = a.scatter.clone(), b.scatter.clone()
    merged = a + b
    assert torch.equal(a.scatter, before[0]) and torch.equal(b.scatter, before[1])
    assert rel((b + a).covariance, merged.covariance) < 1e-13


def test_eigenvectors_rebuild_the_covariance_and_make_a_gaussian() -> None:
    x = randn(500, 6, seed=4) @ randn(6, 6, seed=5) + 3
    moments = Moments.of(x)
    U, lam = moments.eigh()
    assert bool((lam.diff() <= 0).all())
    assert rel(U @ torch.diag(lam) @ U.T, covariance(x)) < 1e-12
    whole, low = Gaussian.from_moments(moments), Gaussian.from_moments(moments, rank=2)
    assert rel(whole.spectrum, lam) < 1e-14 and whole.rest == 0
    assert low.U.shape == (6, 2) and low.rest == pytest.approx(float(lam[2:].mean()))
    assert float(low.spectrum.sum()) == pytest.approx(float(lam.sum()))


def test_fewer_samples_than_dimensions_have_a_rank() -> None:
    _, lam = Moments.of(randn(3, 8, seed=6)).eigh()
    assert int((lam > 1e-12).sum()) == 2 and bool((lam > -1e-12).all())


def test_one_sample_has_no_scatter() -> None:
    moments = Moments.of(torch.full((1, 4), 7.0))
    assert moments.n == 1 and float(moments.covariance.abs().max()) == 0


def test_refusals() -> None:
    with pytest.raises(ValueError, match="above 12288"):
        Moments.of(torch.zeros(2, MAX_DIMENSION + 1))
    with pytest.raises(ValueError, match="at least one sample"):
        Moments.of(torch.zeros(0, 4))
    with pytest.raises(ValueError, match="at least one batch"):
        Moments.stream([])
    with pytest.raises(ValueError, match="NaN or infinite"):
        Moments.of(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match="D = 2 and D = 3"):
        _ = Moments.of(torch.ones(2, 2)) + Moments.of(torch.ones(2, 3))
