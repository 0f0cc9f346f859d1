"""PCA by the Gram matrix against the SVD; spans against least squares; Ritz values against eigenvalues."""

import pytest
import torch
from partners import dense, gaussian, randn

from atelier.linalg import gram_pca, outside, ritz


def curves(n=7, batch=3, shape=(2, 5), seed=0):
    return torch.randn(n, batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n, dim", [(7, 40), (12, 5), (2, 3)])
def test_gram_pca_equals_svd(n, dim):
    frames = curves(n, shape=(dim,)).cumsum(0) + 3
    variances, scores = gram_pca(frames)
    for b in range(frames.shape[1]):
        centred = frames[:, b] - frames[:, b].mean(0)
        W, s, _ = torch.linalg.svd(centred, full_matrices=False)
        want = torch.zeros(n, dtype=torch.float64)
        want[: len(s)] = s**2
        torch.testing.assert_close(variances[b], want, rtol=1e-10, atol=1e-10 * float(want.sum()))
        torch.testing.assert_close(scores[b][:, 0].abs(), (W[:, 0] * s[0]).abs(), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(scores[b] @ scores[b].T, centred @ centred.T, rtol=1e-9, atol=1e-9)


def test_gram_pca_of_a_long_image_trajectory_in_float32():
    frames = curves(20, 2, (3, 16, 16)).cumsum(0).float()
    variances, _ = gram_pca(frames)
    flat = frames.double().flatten(2)
    s = torch.linalg.svdvals((flat - flat.mean(0)).transpose(0, 1))
    torch.testing.assert_close(variances, s**2, rtol=1e-9, atol=1e-6)


def test_a_still_curve_has_no_variance_even_after_rounding():
    still = curves(1, 2).expand(9, -1, -1, -1) + 1e3
    variances, scores = gram_pca(still + 1e-13 * curves(9, 2))
    assert variances.count_nonzero() == 0 and scores.count_nonzero() == 0


def test_gram_pca_refuses_a_single_frame():
    with pytest.raises(ValueError, match="n >= 2"):
        gram_pca(curves(1))


def test_outside_equals_least_squares():
    x, span = curves(4), curves(2, seed=1)
    got = outside(x, span)
    for i in range(4):
        for b in range(3):
            A, y = span[:, b].flatten(1).T, x[i, b].flatten()
            rest = y - A @ torch.linalg.lstsq(A, y[:, None]).solution[:, 0]
            torch.testing.assert_close(got[i, b], rest.square().sum() / y.square().sum())


def test_outside_of_its_own_span_of_parallel_vectors_and_of_zero():
    span = curves(1, seed=1).expand(2, -1, -1, -1)
    assert float(outside(2 * span, span).max()) < 1e-28
    assert float(outside(torch.zeros_like(span), span).max()) == 0
    with pytest.raises(ValueError, match="must agree"):
        outside(curves(2), curves(2, batch=4))


# Ritz values


def test_ritz_values_of_a_full_space_are_the_eigenvalues():
    S = dense(gaussian([3.0, 1.0, -0.0, 0.5, 0.25, 0.1], seed=4)) - 0.3 * torch.eye(6)
    values, vectors, residuals = ritz(lambda rows: rows @ S, randn(2, 6, seed=5), blocks=3)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(S).flip(0))
    torch.testing.assert_close(vectors @ S @ vectors.T, torch.diag(values), rtol=0, atol=1e-12)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)
    assert residuals.max() < 1e-12


def test_ritz_residuals_are_true_and_enclose_eigenvalues():
    eigenvalues = torch.linspace(0, 1, 60, dtype=torch.float64).square().tolist()
    S = dense(gaussian(eigenvalues, seed=6))
    values, vectors, residuals = ritz(lambda rows: rows @ S, randn(3, 60, seed=7), blocks=4)
    torch.testing.assert_close(residuals, (vectors @ S - values[:, None] * vectors).norm(dim=1))
    exact = torch.linalg.eigvalsh(S).flip(0)
    assert bool((values <= exact[:12] + 1e-12).all())
    distance = (values[:, None] - exact).abs().min(1).values
    assert bool((distance <= residuals + 1e-12).all()) and residuals[0] < 0.1
    with pytest.raises(ValueError, match="fit"):
        ritz(lambda rows: rows @ S, randn(30, 60), blocks=3)
