"""The Gaussian of samples: of few and of many, of repeated ones, and what is refused."""

import numpy as np
import pytest
import torch

from painters import Gaussian
from painters.models import moments


@pytest.mark.parametrize("n", [40, 200])
def test_few_and_many_samples_give_the_same_gaussian(n):
    """Below and above D samples, in batches: mean, spectrum and PCs of the dense covariance."""
    x = torch.randn(n, 3, 20, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.1, 20) + 5
    gaussian, count = moments.gaussian_of(x.split(15), rank=10)
    flat = x.flatten(1).double()
    covariance = torch.cov(flat.T, correction=0)
    values = torch.linalg.eigvalsh(covariance).flip(0)
    assert count == n and len(gaussian.lam) == 10
    np.testing.assert_allclose(gaussian.mu, flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(gaussian.lam, values[:10], rtol=1e-5)
    assert gaussian.rest == pytest.approx(float(values[10:].sum() / 50), rel=1e-5)
    np.testing.assert_allclose(gaussian.U.T @ covariance @ gaussian.U, values[:10].diag(), atol=1e-4)


def test_samples_that_cannot_be_held_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="at least 4 samples"):
        moments.gaussian_of([torch.zeros(2, 5)])
    monkeypatch.setattr(moments, "MAX_NUMBERS", 100)
    with pytest.raises(ValueError, match="at most 1 of them"):
        moments.gaussian_of([torch.zeros(2, 60)] * 3)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="NaN or infinite"):
        moments.gaussian_of([torch.full((5, 40), torch.nan)])
    with pytest.raises(ValueError, match="the rank counts"):
        moments.gaussian_of([torch.zeros(5, 40)], rank=-1)
    far = Gaussian(torch.full((2,), 1e300, dtype=torch.float64), torch.eye(2).double(), torch.ones(2).double())
    out = tmp_path / "m.safetensors"
    with pytest.raises(ValueError, match="mu would hold NaN or infinite"):  # beyond float32
        moments.save_moments(far, out)
    assert not out.exists()


def test_repeated_pictures_give_no_more_components_than_there_are():
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).repeat(8, 1)
    gaussian, n = moments.gaussian_of([x])
    assert n == 24 and len(gaussian.lam) == 2 and float(gaussian.spectrum.sum()) == pytest.approx(
        float(x.double().var(0, correction=0).sum()), rel=1e-5
    )  # fmt: skip
