"""The small GAN: its generator, its training in turn, and what is kept of it."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from atelier.data import scenes
from atelier.data.images import ImageData, to_unit
from atelier.gans.pullback import participation
from atelier.networks import generator as gan
from atelier.training import gan as gan_training
from atelier.training.loop import Session
from atelier.training.recipes import Gan, Pace, Recipe
from painters.models.registry import read_card

TINY = Recipe(
    "tiny-gan",
    "a tiny GAN",
    "scenes",
    {"latent": 8, "channels": (16, 16, 8, 8)},
    Gan(size=32),
    Pace(steps=40, batch=8, warmup=1),
)


@pytest.fixture(scope="module")
def data():
    return ImageData(scenes.render(scenes.sample(64, 0)), scenes.render(scenes.sample(16, 50_000)), source="scenes")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp("run"), 40)


def train(data, folder, steps):
    return gan_training.train_gan(TINY, data, Session(folder, steps, progress=False))


def latents(n, seed=0):
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))


def test_gradients_reach_the_latents(run, data):
    z = latents(1).requires_grad_()
    (slope,) = torch.autograd.grad(gan_training.generator_of(run, (3, 32, 32))(z).square().sum(), z)
    assert float(slope.abs().max()) > 0


def test_each_step_trains_one_of_the_two(data, tmp_path):
    """Step 0 moves the critic alone, step 1 the generator alone."""
    before = train(data, tmp_path / "a", 1).network
    fresh = torch.manual_seed(TINY.pace.seed) and gan_training.Pair(TINY, (3, 32, 32))
    after = train(data, tmp_path / "b", 2).network

    def same(one, other):
        return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters()))

    assert same(before.generator, fresh.generator) and not same(before.critic, fresh.critic)
    assert same(before.critic, after.critic) and not same(before.generator, after.generator)


def test_the_first_critic_loss_is_the_logistic_one_with_the_gradient_penalty(data, tmp_path, monkeypatch):
    seen = []

    def steep(training, session):
        pair = training.build()
        with torch.no_grad():
            pair.critic.score.weight.mul_(100)
        seen.append((pair, training.loss(pair, 0)))

    monkeypatch.setattr(gan_training, "fit", steep)
    train(data, tmp_path, 1)
    pair, losses = seen[0]
    draw = gan_training.generator(TINY.pace.seed, 0)
    z = torch.randn(8, 8, generator=draw)
    real = to_unit(data.train)[torch.randint(64, (8,), generator=draw)].requires_grad_()
    score = pair.critic(real)
    score.sum().backward()
    assert real.grad is not None
    penalty = TINY.kind.penalty / 2 * gan_training.EVERY * real.grad.pow(2).sum((1, 2, 3))
    with torch.no_grad():
        wanted = torch.log1p(pair.critic(pair.generator(z)).exp()) + torch.log1p((-score).exp()) + penalty
    torch.testing.assert_close(losses.detach(), wanted, rtol=1e-4, atol=1e-6)
    assert float(penalty.mean()) > 1e-3


def test_an_interrupted_run_continues_bit_for_bit(run, data, tmp_path):
    train(data, tmp_path, 13)
    resumed = train(data, tmp_path, 40)
    assert all(torch.equal(p, q) for p, q in zip(run.network.parameters(), resumed.network.parameters()))
    assert all(torch.equal(p, q) for p, q in zip(run.average.parameters(), resumed.average.parameters()))


def test_a_packed_generator_paints_the_same(run, data, tmp_path):
    folder = gan_training.pack_gan(run, TINY, data, tmp_path / "model")
    loaded = gan.load_generator(folder, device="cpu")
    # the run was rounded as the file was
    torch.testing.assert_close(loaded(latents(2)), gan_training.generator_of(run, (3, 32, 32))(latents(2)))
    assert loaded.card["training"]["penalty"] == 0.1 and loaded.card["training"]["images"] == 160
    assert {v.dtype for v in load_file(folder / "generator.safetensors").values()} == {torch.float16}
    a, b = (gan_training.pictures(loaded, range(6), batch=size) for size in (2, 6))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_snapshots_and_card_hold_the_distance_beside_the_matched_gaussians(data, tmp_path, monkeypatch):
    """A GAN is worth its steps where it comes nearer to the data than a Gaussian with their moments."""
    many = scenes.render(scenes.sample(170, 0))
    data = ImageData(many[:100], many[100:], source="scenes")
    monkeypatch.setattr(gan_training, "SNAPSHOT", 66)
    monkeypatch.setattr(gan_training, "MEASURED", 70)
    run = train(data, tmp_path / "run", 8)
    (snapshot,) = run.snapshots
    card = read_card(gan_training.pack_gan(run, TINY, data, tmp_path / "model"))
    for found, n in ((snapshot["frechet"], 66), (card["frechet"], 70)):
        assert found["n"] == n and found["of_gaussian"] == found["model"] / found["gaussian"]
        assert 0 < found["floor"] < found["gaussian"] < found["model"], "eight steps teach nothing"


def test_errors_say_what_to_do(run, data, tmp_path):
    paint = gan_training.generator_of(run, (3, 32, 32))
    with pytest.raises(ValueError, match="latents \\(B, 8\\)"):
        paint(torch.zeros(2, 9))
    with pytest.raises(FileNotFoundError, match="folder made by painters train"):
        gan.load_generator(tmp_path)
    folder = gan_training.pack_gan(run, TINY, data, tmp_path / "model")
    (folder / "generator.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        gan.load_generator(folder)


def test_style_layers_scale_unit_weights_and_outlast_steps_that_agree():
    """y = W x / sqrt(inputs) + b with W of unit size; Adam, pushed one way, leaves it more than one direction."""
    torch.manual_seed(0)
    first: Any = gan.GeneratorNetwork(channels=(80,)).first[0]
    even, usual = first.style, torch.nn.Linear(64, 160)
    z = torch.randn(2000, 64)
    torch.testing.assert_close(even(z), z @ even.weight.T / 64**0.5 + even.bias)
    assert float(even.weight.detach().std()) == pytest.approx(1, abs=0.05) and not even.bias.any()
    assert float(even(z).detach().std()) == pytest.approx(1, abs=0.05)
    push, left = torch.outer(torch.randn(160), torch.randn(64)), {}
    for name, layer in {"even": even, "usual": usual}.items():
        adam = torch.optim.Adam([layer.weight], lr=1e-3, betas=(0.0, 0.99))
        for _ in range(300):
            layer.weight.grad = push.clone()
            adam.step()
        left[name] = float(participation(torch.linalg.svdvals(layer.weight.detach()).square()))
    assert left["even"] > 10 and left["usual"] < 2
