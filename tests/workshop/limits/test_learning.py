"""Agreement while a network learns: exact on a Gaussian, and honest about what has not settled."""

import copy

import pytest
import torch

from atelier.limits import learning
from atelier.statistics import Interval
from atelier.subject import Settings, Subject, subject
from painters import Gaussian, Levels, load, noise
from painters.levels import vp_linear


def world(dim=12):
    lam = torch.logspace(2, -1, dim, dtype=torch.float64)
    U = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    g = Gaussian(torch.ones(dim, dtype=torch.float64), U, lam)
    return Subject("world", g, g, (dim,), lambda n: Levels.of(vp_linear(), n, spacing="logsnr"), lambda x: x)


def exact(who, seeds, steps=200):
    levels = who.levels(steps)
    return who.gaussian.trajectory(levels.start(noise(seeds, who.shape, dtype=torch.float64)), levels)


def test_the_exact_gaussian_agrees_with_itself():
    who = world()
    found = learning.agreement(exact(who, range(6)), exact(who, range(6)), who)
    assert found["slope"].value == pytest.approx(1, abs=2e-3)
    assert found["slope"].low <= found["slope"].value <= found["slope"].high + 1e-12
    assert found["early"].value == 0
    assert found["plane"].value < 0.05


def test_another_covariance_is_told_apart():
    who = world()
    g = who.gaussian
    flatter = Gaussian(g.mu, g.U, g.lam.sqrt())
    levels = who.levels(200)
    run = flatter.trajectory(levels.start(noise(range(6), who.shape, dtype=torch.float64)), levels)
    found = learning.agreement(run, exact(who, range(6)), who)
    assert found["slope"].value == pytest.approx(0.5, abs=5e-3)
    assert found["early"].value > 0.05


@pytest.mark.parametrize(
    "values, settled",
    [
        ([(0.1, 0.2), (0.3, 0.4), (0.5, 0.6), (0.70, 0.80), (0.75, 0.85)], True),
        ([(0.1, 0.2), (0.3, 0.4), (0.5, 0.6), (0.70, 0.80), (0.81, 0.85)], False),
        ([(0.5, 0.6), (0.5, 0.6)], False),
    ],
)
def test_a_plateau_needs_five_snapshots_and_overlap(values, settled):
    intervals = [Interval((low + high) / 2, low, high, 9) for low, high in values]
    assert learning.plateaued(intervals) is settled


@pytest.mark.parametrize("name", ["fashion-twin-v", "scenes-sd"])
def test_snapshots_replace_the_weights_and_leave_the_model_alone(name, tmp_path):
    model = load(name, device="cpu")
    parts = {"": model.network} if model.text is None else {"unet.": model.network, "text_encoder.": model.text.encoder}
    state = {
        prefix + key: torch.zeros_like(value)
        for prefix, part in parts.items()
        for key, value in part.state_dict().items()
    }
    for step in (1024, 64):
        torch.save(state, tmp_path / f"average-{step}.pt")
    before = copy.deepcopy(model.network.state_dict())
    found = list(learning.snapshots(model, tmp_path))
    assert [step for step, _ in found] == [64, 1024]
    x = noise([0], model.shape)
    assert float((found[0][1].denoiser()(x, 0.6, 0.8) - 0.6 * x).abs().max()) < 1e-5  # v = 0
    assert all(torch.equal(before[key], value) for key, value in model.network.state_dict().items())


def test_errors_say_what_is_wrong(tmp_path):
    model = load("fashion-twin-v", device="cpu")
    with pytest.raises(FileNotFoundError, match="no snapshots"):
        list(learning.snapshots(model, tmp_path))
    torch.save({"conv": torch.zeros(1)}, tmp_path / "average-8.pt")
    with pytest.raises(ValueError, match="another network"):
        list(learning.snapshots(model, tmp_path))


def test_without_a_run_there_is_nothing_to_say():
    assert learning.measure(subject("fashion-ddpm", device="cpu"), Settings(seeds=(0,), profile="ci")) is None


def test_a_measurement_of_a_short_run(tmp_path):
    who = subject("fashion-ddpm", device="cpu")
    for step in (64, 128):
        torch.save(who.model.network.state_dict(), tmp_path / f"average-{step}.pt")
    found = learning.measure(who, Settings(seeds=(0, 1), profile="ci", run=tmp_path))
    assert found["steps"] == [64, 128, who.model.card["training"]["steps"]]
    values = [entry["value"] for entry in found["numbers"]["plane"]]
    assert values[0] == values[1] == values[2]
    assert not any(found["plateaued"].values())
