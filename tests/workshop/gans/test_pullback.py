"""The metric of a generator: exact for linear maps, and beside brute force for a curved one."""

import numpy as np
import pytest
import torch

from atelier.gans import pullback
from atelier.manifold import SamplerMap
from atelier.networks import shuffled
from atelier.networks.generator import GeneratorNetwork
from painters import Gaussian, Levels
from painters.schedules import vp_linear


def world(dim=12, seed=3):
    U = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
    return Gaussian(torch.arange(dim).double(), U, torch.logspace(2, -2, dim, dtype=torch.float64))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.statement("prop-gans-fixed")
def test_the_linear_generator_has_the_covariance_as_its_metric_everywhere():
    g = world()
    H, J = pullback.metric(pullback.linear_generator(g.U, g.lam, g.mu, (12,)), random(5, 12))
    torch.testing.assert_close(H, g.lam.diag().expand(5, 12, 12), rtol=1e-9, atol=1e-9)
    values, _ = pullback.spectra(H)
    torch.testing.assert_close(values[0], g.lam)
    torch.testing.assert_close(pullback.homogeneity(H), torch.ones(5, 5).double())
    assert J.shape == (5, 12, 12)


def test_the_linear_generator_paints_the_mean_and_steps_of_one_deviation_along_each_pc():
    g = world()
    painted = pullback.linear_generator(g.U, g.lam, g.mu, (3, 4))(
        torch.cat([torch.zeros(1, 12), torch.eye(12)]).double()
    )
    assert painted.shape == (13, 3, 4)
    torch.testing.assert_close(painted[0].flatten(), torch.arange(12).double())
    steps = (painted[1:] - painted[0]).flatten(1)  # row k is the square root of lam_k times column k of U
    torch.testing.assert_close(steps @ g.U, torch.logspace(1, -1, 12, dtype=torch.float64).diag())


def test_the_flow_of_a_gaussian_is_a_linear_generator():
    """The sampler's map, in the basis of the PCs, has the metric diag(psi^2)."""
    g, levels = world(), Levels.of(vp_linear(), 400, spacing="logsnr")
    run = SamplerMap(g, levels.start(random(12)), levels)
    J = run.push(g.U.T).T
    H = J.T @ J
    psi = g.gain(frm=levels[0])
    torch.testing.assert_close(H.diagonal(), psi.square(), rtol=1e-2, atol=1e-4)
    assert float((H - H.diagonal().diag()).abs().max()) < 1e-6


def test_the_metric_of_a_curved_map_against_differences():
    torch.manual_seed(0)
    network = GeneratorNetwork(latent=6, channels=(8, 8, 8)).double()
    z, step = random(2, 6), 1e-6
    H, J = pullback.metric(network, z)
    with torch.no_grad():
        columns = [
            (network(z + step * e) - network(z - step * e)).flatten(1) / (2 * step) for e in torch.eye(6).double()
        ]
    torch.testing.assert_close(J, torch.stack(columns, 2), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(H, J.mT @ J)


def test_homogeneity_tells_turned_axes_apart():
    g = world()
    one, other = g.lam.diag(), g.U @ g.lam.diag() @ g.U.T
    log = pullback.homogeneity(torch.stack([one, other]))
    assert log.diagonal().min() > 1 - 1e-9
    seen = (other.diagonal().log(), g.lam.log())
    assert float(log[0, 1]) == pytest.approx(float(torch.corrcoef(torch.stack(seen))[0, 1]))
    assert float(log[0, 1]) < 0.9 and float(log[1, 0]) < 0.9


def test_values_that_are_rounding_are_raised_to_the_floor():
    """Entry by entry: the correlation of logarithms, of axes at i with the spectrum at j."""
    J = random(3, 6, 4, seed=2) * torch.tensor([1.0, 0.3, 1e-3, 1e-7]).double()
    H = J.mT @ J
    for floor in (1e-8, 1e-3):
        found = pullback.homogeneity(H, floor=floor) if floor == 1e-3 else pullback.homogeneity(H)
        for i in range(3):
            vectors = np.linalg.eigh(H[i].numpy())[1][:, ::-1]
            for j in range(3):
                own = np.linalg.eigvalsh(H[j].numpy())[::-1]
                seen = np.einsum("ak,ab,bk->k", vectors, H[j].numpy(), vectors)
                logs = (np.log(np.maximum(v, floor * own[0])) for v in (seen, own))
                assert float(found[i, j]) == pytest.approx(np.corrcoef(*logs)[0, 1], rel=1e-6)


def test_image_axes_are_left_singular_vectors_also_where_nothing_moves():
    J = random(2, 9, 4, seed=3)
    axes, left = pullback.image_axes(J, 2), torch.linalg.svd(J).U[..., :2]
    torch.testing.assert_close((axes @ left).abs(), torch.eye(2).double().expand(2, 2, 2))
    flat = torch.cat([J[..., :2], torch.zeros(2, 9, 2).double()], 2)
    axes = pullback.image_axes(flat, 4)
    torch.testing.assert_close(axes @ axes.mT, torch.eye(4).double().expand(2, 4, 4))


def test_participation():
    assert pullback.participation(torch.tensor([[1.0, 1, 0], [3, 1, 1]])).tolist() == pytest.approx([2, 25 / 11])
    assert float(pullback.participation(torch.ones(7))) == pytest.approx(7)
    assert float(pullback.participation(torch.tensor([5.0, 0, 0]))) == pytest.approx(1)


def test_shuffling_keeps_the_values_and_loses_their_places():
    torch.manual_seed(0)
    network = GeneratorNetwork(latent=4, channels=(8, 8))
    before, after = list(network.parameters()), list(shuffled(network).parameters())
    assert all(torch.equal(a.flatten().sort().values, b.flatten().sort().values) for a, b in zip(before, after))
    assert not torch.equal(before[0], after[0])
