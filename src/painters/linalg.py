"""Products with the Jacobian of a denoiser, by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Map = Callable[[Tensor], Tensor]
"""A map (B, ...) -> (B, ...) that treats each sample by itself, such as a denoiser at one level."""


def vjp(f: Map, x: Tensor, v: Tensor) -> Tensor:
    """Return J^T v for each sample, J = df/dx at ``x`` (B, ...), ``v`` like f(x): one backward pass.

    Many products at one point are one call: ``x.expand(m, ...)`` with m vectors. A network must keep its graph, see
    ``model.denoiser(grad=True)``; attention runs in its plain form, the only one that can be differentiated twice.
    Raises ``ValueError`` if f(x) does not depend on x by a graph, or for a ``v`` of another shape.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x = x.detach().requires_grad_()
        y = _graph(f, x, v)
        return torch.autograd.grad(y, x, v.to(y), materialize_grads=True)[0]


def products(f: Map, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return J v and J^T v for each sample, J = df/dx at ``x`` (B, ...), ``v`` and f(x) like x, from one graph.

    J^T v is a backward pass from u = v, and J v the derivative of u -> J^T u along v: differentiating twice backwards
    asks of f no forward-mode rule, which stock attention does not have. Otherwise as :func:`vjp`.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x = x.detach().requires_grad_()
        y = _graph(f, x, v)
        u = v.detach().to(y).requires_grad_()
        pulled = torch.autograd.grad(y, x, u, create_graph=True, materialize_grads=True)[0]
        if not pulled.requires_grad:
            return torch.zeros_like(y), pulled
        pushed = torch.autograd.grad(pulled, u, v.to(pulled), materialize_grads=True)[0]
        return pushed.detach(), pulled.detach()


def jvp(f: Map, x: Tensor, v: Tensor) -> Tensor:
    """Return J v for each sample, the first of :func:`products`."""
    return products(f, x, v)[0]


def jacobian(f: Map, x: Tensor, *, chunk: int = 64) -> Tensor:
    """Return the dense Jacobian df/dx (D, D) at one state ``x`` (...), D numbers, by D products J^T e_i."""
    eye = torch.eye(x.numel(), dtype=x.dtype, device=x.device).reshape(-1, *x.shape)
    return torch.cat([vjp(f, x.expand_as(part), part).flatten(1) for part in eye.split(chunk)])


def _graph(f: Map, x: Tensor, v: Tensor) -> Tensor:
    y = f(x)
    if not y.requires_grad:
        raise ValueError("the map keeps no graph, so it has no Jacobian: pass model.denoiser(grad=True)")
    if y.shape != v.shape:
        raise ValueError(f"f maps {tuple(x.shape)} to {tuple(y.shape)}, but the vector has shape {tuple(v.shape)}")
    return y
