"""Solutions and inputs of the exercises of the page landscape."""

import torch

from .task import Task


def denoiser(x, means, lam, weights, sigma):
    v = lam + sigma**2
    distance = torch.cdist(x, means).square()
    w = torch.softmax(weights.log() - distance / (2 * v), dim=1)
    return (lam * x + sigma**2 * w @ means) / v


def a_mixture(generator):
    x = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    means = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(3, generator=generator, dtype=torch.float64) + 0.1
    lam, sigma = (torch.rand(2, generator=generator) + 0.1).double()
    return x, means, lam, weights / weights.sum(), sigma


def errors(images, noise, alpha, sigma):
    x = alpha * images + sigma * noise
    fits = -torch.cdist(x, alpha * images).square() / (2 * sigma**2)
    others = fits.clone().fill_diagonal_(-torch.inf)
    missed = [torch.softmax(kept, dim=1) @ images - images for kept in (fits, others)]
    return torch.stack([each.square().sum(1).mean() for each in missed])


def some_images(generator):
    images, noise = torch.randn(2, 9, 4, generator=generator, dtype=torch.float64)
    alpha, sigma = (torch.rand(2, generator=generator) + 0.2).double()
    return images, noise, alpha, sigma


TASKS = (
    Task("ex-landscape-denoiser", "the mixture's denoiser", denoiser, a_mixture, rtol=1e-9),
    Task("ex-landscape-memory", "the memory's errors", errors, some_images),
)
