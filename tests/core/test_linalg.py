"""Jacobian products against dense Jacobians, the exact Gaussian and central differences."""

from functools import partial

import pytest
import torch
from partners import agree, dense, gaussian, randn

from painters import load, noise
from painters.linalg import jacobian, jvp, products, vjp


def bent(matrix):
    """A map that treats each sample by itself, not linear and not symmetric."""
    return lambda x: torch.tanh(x.flatten(1) @ matrix.T).reshape(x.shape) * x.flatten(1).norm(dim=1).reshape(-1, 1, 1)


def test_jacobian_products_equal_the_dense_jacobian():
    generator = torch.Generator().manual_seed(1)
    matrix, x, v = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((6, 6), (4, 2, 3), (4, 2, 3)))
    f = bent(matrix)
    pushed, pulled = products(f, x, v)
    for b in range(len(x)):
        J = torch.autograd.functional.jacobian(lambda z: f(z[None])[0].flatten(), x[b]).reshape(6, 6)
        torch.testing.assert_close(jacobian(f, x[b], chunk=4), J, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(pushed[b].flatten(), J @ v[b].flatten(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(pulled[b].flatten(), J.T @ v[b].flatten(), rtol=1e-12, atol=1e-12)
        assert (J - J.T).norm() > 0.1 * J.norm()  # else J and its transpose could not be told apart
    torch.testing.assert_close(jvp(f, x, v), pushed)
    torch.testing.assert_close(vjp(f, x, v), pulled)


@pytest.mark.statement("prop-manifold-gaussian")
def test_products_with_the_exact_gaussian():
    g = gaussian([5.0, 1.0, 0.1], dim=5, rest=0.02)
    alpha, sigma = 0.6, 0.8
    v = randn(4, 5, seed=2)
    want = v @ (alpha * dense(g) @ torch.linalg.inv(alpha**2 * dense(g) + sigma**2 * torch.eye(5).double())).T
    pushed, pulled = products(lambda x: g(x, alpha, sigma), randn(4, 5, seed=3), v)
    agree(pushed, want, 1e-9)
    agree(pulled, want, 1e-9)


@pytest.mark.parametrize("name, prompt", [("fashion-twin-v", None), ("scenes-sd", "a house")])
def test_products_with_a_stock_network_against_adjoint_and_central_differences(name, prompt):
    model = load(name, device="cpu")
    f = partial(model.denoiser(prompt, grad=True), alpha=0.8, sigma=0.6)
    x, u, v = (noise([seed] * 2, model.shape) for seed in (0, 1, 2))
    pushed, pulled = jvp(f, x, v), vjp(f, x, u)
    left, right = (u * pushed).flatten(1).sum(1), (pulled * v).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3 * float(u[0].norm() * pushed[0].norm()) * 0.1)
    with torch.no_grad():
        slope = (f(x + 1e-2 * v) - f(x - 1e-2 * v)) / 2e-2
    assert float((pushed - slope).norm() / slope.norm()) < 0.02
    with pytest.raises(ValueError, match="grad=True"):
        vjp(partial(model.denoiser(prompt), alpha=0.8, sigma=0.6), x, u)


def test_products_refuse_vectors_of_another_shape():
    x = randn(2, 3)
    with pytest.raises(ValueError, match="shape"):
        vjp(torch.sin, x, randn(2, 4))
    with pytest.raises(ValueError, match="shape"):
        jvp(torch.sin, x, randn(3, 3))


def test_a_constant_map_has_no_derivative():
    pushed, pulled = products(lambda x: 0 * x + 3, randn(2, 3), randn(2, 3, seed=1))
    assert pushed.count_nonzero() == 0 and pulled.count_nonzero() == 0
