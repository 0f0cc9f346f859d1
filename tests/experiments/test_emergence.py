"""Emergence curves: exact on a Gaussian, a lower bound on other data, and honest about what it cannot see."""

import pytest
import torch

from painters import Gaussian, Levels, noise, solve
from painters.experiments.emergence import emerge
from painters.levels import cosine, edm, flow, vp_linear


def gaussian(lam=(30.0, 2.0, 0.3, 0.01), dim=6):
    lam = torch.tensor(lam, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    U = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q[:, : len(lam)]
    return Gaussian(torch.arange(dim, dtype=torch.float64), U, lam)


def run(g, levels, seeds=(5,)):
    return g.trajectory(levels.start(noise(seeds, (g.dim,), dtype=torch.float64)), levels)


@pytest.mark.parametrize("schedule", [vp_linear(), cosine(), edm(), flow()], ids=lambda s: s.name)
def test_one_sample_of_a_gaussian_follows_the_sigmoid_exactly(schedule):
    g, levels = gaussian(), Levels.of(schedule, 40)
    found = emerge(run(g, levels), g)
    torch.testing.assert_close(found.emerged, torch.sigmoid(found.shifted), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.theory, torch.sigmoid(found.shifted), rtol=1e-9, atol=1e-14)
    assert len(found.logsnr) == (39 if levels.alpha[0] == 0 else 40)


def test_half_emergence_is_at_sigma_squared_equal_to_lambda():
    g = gaussian()
    levels = Levels.of(vp_linear(), 600, spacing="logsnr")
    found = emerge(run(g, levels), g)
    torch.testing.assert_close(found.half_sigma(), g.lam.sqrt(), rtol=1e-3, atol=0)
    torch.testing.assert_close(found.half(0.25), -g.lam.log() - torch.log(torch.tensor(3.0)), rtol=0, atol=2e-3)


def test_half_is_nan_where_it_was_not_seen():
    g = gaussian((1e9, 1.0))
    found = emerge(run(g, Levels.of(vp_linear(), 50)), g)
    half = found.half()
    assert half.isnan().tolist() == [True, False]


def test_two_modes_emerge_no_later_than_the_gaussian():
    m = 3.0

    def denoise(x, alpha, sigma):
        return m * torch.tanh(m * alpha * x / sigma**2)

    g = Gaussian(torch.zeros(1).double(), torch.ones(1, 1).double(), torch.tensor([m**2]).double())
    levels = Levels.of(vp_linear(), 200)
    trajectory = solve(denoise, levels.start(noise(range(2000), (1,), dtype=torch.float64)), levels, progress=False)
    found = emerge(trajectory, g)
    excess = found.emerged - found.theory
    assert float(excess.min()) > -0.01 and float(excess.max()) > 0.1


def test_a_mean_only_denoiser_never_emerges():
    g = gaussian()
    null = Gaussian(g.mu, g.U[:, :0], g.lam[:0])
    levels = Levels.of(vp_linear(), 30)
    trajectory = solve(lambda x, a, s: null(x, a, s), g.sample(noise([1], (6,), dtype=torch.float64), level=levels[0]),
                       levels[:20], progress=False)  # fmt: skip
    found = emerge(trajectory, g)
    assert float(found.emerged.max()) < 1e-20 and bool(found.half().isnan().all())


def test_refuses_components_that_cannot_emerge():
    g = gaussian((1.0, 0.0))
    trajectory = run(g, Levels.of(vp_linear(), 10))
    with pytest.raises(ValueError, match="components with variance"):
        emerge(trajectory, g)
    assert emerge(trajectory, g, pcs=1).emerged.shape == (10, 1)
    null = Gaussian(g.mu, g.U[:, :0], g.lam[:0])
    with pytest.raises(ValueError, match="no energy"):
        emerge(run(null, Levels.of(cosine(), 10)), g, pcs=1)
