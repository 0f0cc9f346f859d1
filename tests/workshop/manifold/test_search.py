"""Three searches for the manifold: each against a dense Jacobian, the adjoint identity, or the exact Gaussian map."""

import pytest
import torch

from atelier.linalg import singular
from atelier.manifold import SamplerMap, endpoint_directions, searched, step_map, whole_directions
from atelier.manifold.search import PULL, PUSH
from painters import Gaussian, Levels, load, noise, solve
from painters.linalg import jacobian
from painters.schedules import edm, flow, vp_linear
from painters.theory.gaussian import ode_gain


def gaussian(dim=12):
    generator = torch.Generator().manual_seed(3)
    U = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    return Gaussian(torch.arange(dim).double(), U, torch.logspace(2, -2, dim, dtype=torch.float64))


def curved(x, alpha, sigma):
    """A denoiser that is not linear."""
    return 2 * torch.tanh(alpha * x / (alpha**2 + sigma**2)) + 0.1 * x.flip(1).sin()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_block_krylov_finds_the_dense_singular_values():
    J = random(40, 40) * torch.logspace(0, -3, 40, dtype=torch.float64)
    U, S, V = torch.linalg.svd(J)
    found = singular(lambda v: v @ J.T, lambda u: u @ J, random(4, 40, seed=1), blocks=5)
    torch.testing.assert_close(found.values[:4], S[:4], rtol=1e-6, atol=0)
    assert (found.right[:4] @ V[:4].T).abs().diagonal().min() > 1 - 1e-5
    assert (found.left[:4] @ U[:, :4]).abs().diagonal().min() > 1 - 1e-5
    assert found.products == 20


def test_residuals_are_what_they_say_and_bound_the_error():
    J = random(40, 40) * torch.logspace(0, -1, 40, dtype=torch.float64)
    found = singular(lambda v: v @ J.T, lambda u: u @ J, random(3, 40, seed=1), blocks=2)
    direct = (found.left @ J - found.values[:, None] * found.right).norm(dim=1)
    torch.testing.assert_close(found.residuals, direct, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.right @ J.T, found.values[:, None] * found.left, rtol=1e-9, atol=1e-9)
    S = torch.linalg.svdvals(J)
    nearest = (found.values[:, None] - S).abs().min(1).values
    assert bool((nearest <= found.residuals + 1e-12).all())
    with pytest.raises(ValueError, match="do not fit"):
        singular(lambda v: v, lambda u: u, random(3, 8), blocks=3)


@pytest.mark.parametrize("schedule", [vp_linear(), edm(), flow()], ids=lambda s: s.name)
def test_the_map_is_the_samplers(schedule):
    levels = Levels.of(schedule, 12)
    x = levels.start(random(1, 6))
    run = solve(curved, x, levels, solver="dpmpp2m", progress=False)
    torch.testing.assert_close(SamplerMap(curved, x[0], levels).image, run.final[0])


def test_products_with_the_whole_map_are_those_of_its_dense_jacobian():
    levels = Levels.of(vp_linear(), 7)
    x = levels.start(random(1, 6))

    def image(z):
        return solve(curved, z, levels, solver="dpmpp2m", progress=False).final

    step = 1e-6
    dense = torch.stack([(image(x + step * e) - image(x - step * e))[0] / (2 * step) for e in torch.eye(6).double()]).T
    run = SamplerMap(curved, x[0], levels)
    eye = torch.eye(6).double()
    torch.testing.assert_close(run.push(eye).T, dense, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(run.pull(eye), dense, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("chunk", [2, 64])
def test_columns_are_pushes(chunk):
    run = SamplerMap(curved, random(6), Levels.of(vp_linear(), 6))
    v = torch.eye(6).double()
    torch.testing.assert_close(run.columns(v, chunk=chunk), run.push(v), rtol=1e-10, atol=1e-12)
    small = run.columns(v.float(), chunk=chunk)
    assert small.dtype == torch.float32 and not small.requires_grad


def test_columns_of_a_constant_map_vanish():
    run = SamplerMap(lambda x, *_: torch.ones_like(x) + 0 * x, random(5), Levels.of(vp_linear(), 6))
    torch.testing.assert_close(run.columns(torch.eye(5).double()), torch.zeros(5, 5).double())
    learned = random(5).requires_grad_()  # that has a graph, and none to the state
    still = SamplerMap(lambda x, *_: learned.expand_as(x), random(5), Levels.of(vp_linear(), 6))
    torch.testing.assert_close(still.columns(torch.eye(5).double()), torch.zeros(5, 5).double())


def test_on_a_gaussian_the_whole_map_has_the_pcs_and_their_gains():
    g = gaussian()
    levels = Levels.of(vp_linear(), 400, spacing="logsnr")
    found = whole_directions(g, levels.start(random(12)), levels, start=random(3, 12, seed=5), blocks=4)
    gain = ode_gain(g.lam[:3], frm=levels[0])
    torch.testing.assert_close(found.values, gain, rtol=2e-3, atol=0)
    assert (found.inputs @ g.U[:, :3]).abs().diagonal().min() > 0.999
    assert (found.images @ g.U[:, :3]).abs().diagonal().min() > 0.999
    assert found.nfe == 400 * 12 * (PUSH + PULL)
    assert float((found.residuals / found.values).max()) < 0.05


def test_on_a_gaussian_the_one_step_map_has_the_wiener_gains():
    g, level = gaussian(), (0.6, 0.8)
    found = searched(step_map(g, random(12), level), random(3, 12, seed=5), blocks=4)
    torch.testing.assert_close(found.values, 0.6 * g.lam[:3] / (0.36 * g.lam[:3] + 0.64), rtol=1e-6, atol=0)


def test_one_step_of_a_network_against_its_dense_jacobian():
    model = load("fashion-twin-v", device="cpu")
    levels = model.levels(10)
    x = solve(model.denoiser(), levels.start(noise([0], model.shape)), levels, stop=6, progress=False).final[0]
    denoise, level = model.denoiser(grad=True), levels[6]
    start = torch.randn(4, *model.shape, generator=torch.Generator().manual_seed(0))
    found = searched(step_map(denoise, x, level), start, blocks=6)
    J = jacobian(lambda z: denoise(z, *level), x)
    S = torch.linalg.svdvals(J.double())
    assert float((found.values[:2] / S[:2] - 1).abs().max()) < 1e-3
    v, u = found.inputs[0].flatten(), found.images[0].flatten()
    assert float((J.double() @ v.double() - found.values[0] * u).norm()) < 1e-3 * float(S[0])


def test_endpoint_directions_are_the_svd_of_the_centred_path():
    g = gaussian()
    levels = Levels.of(vp_linear(), 30)
    run = g.trajectory(levels.start(random(2, 12)), levels)
    found = endpoint_directions(run, 3, sample=1)
    path = run.x0[:, 1] - run.x0[:, 1].mean(0)
    _, S, V = torch.linalg.svd(path)
    torch.testing.assert_close(found.values, S[:3], rtol=1e-6, atol=1e-9)
    assert (found.images @ V[:3].T).abs().diagonal().min() > 1 - 1e-6
    assert found.nfe == 0
    with pytest.raises(ValueError, match="components"):
        endpoint_directions(run, 31)


def test_narrow_blocks_find_the_same_directions_with_fewer_products():
    g, level = gaussian(), (0.05, 1.0)
    wide = searched(step_map(g, random(12), level), random(3, 12, seed=5), blocks=4)
    narrow = searched(step_map(g, random(12), level), random(3, 12, seed=5), blocks=8, width=1)
    torch.testing.assert_close(narrow.values, wide.values, rtol=1e-3, atol=0)
    assert len(narrow) == 3
    assert narrow.nfe == 8 * (PUSH + PULL)
    with pytest.raises(ValueError, match="cannot give"):
        searched(step_map(g, random(12), level), random(3, 12, seed=5), blocks=2, width=1)
    with pytest.raises(ValueError, match="cannot give"):
        searched(step_map(g, random(12), level), random(3, 12, seed=5), blocks=2, width=4)
