"""Factor readers: any level and coordinates, resumable training, packing, and what the bundled ones claim."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from atelier.cli import main
from atelier.data import scenes
from atelier.data.known import KnownStates, clean
from atelier.data.scenes.factors import Factor
from atelier.networks import bundled
from atelier.networks.readers import (
    Reader,
    ReaderNetwork,
    columns,
    indicators,
    load_reader,
    normal,
    roughness,
    split,
)
from atelier.training import readers as reader_training
from atelier.training.loop import Session
from atelier.training.readers import factor_law, known_latents, pack_reader, read_at, reading_loss, train_reader
from atelier.training.recipes import RECIPES, Pace, Reading, Recipe

SIDE, SIZE = Factor("side", "a", ("left", "right")), Factor("size", "b")
FACTORS = (SIDE, SIZE)
RECIPE = Recipe(
    "tiny-reader",
    "a tiny reader",
    "scenes",
    {"channels": (8, 16), "features": 8},
    Reading(size=8),
    Pace(steps=64, batch=32, learning_rate=2e-3, warmup=10, decay_after=2000),
)


def pictures(n: int, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A bright bar on one side, of the height of its size, over a little noise."""
    draw = torch.Generator().manual_seed(seed)
    side, size = torch.randint(0, 2, (n,), generator=draw), torch.rand(n, generator=draw)
    x = torch.randint(0, 30, (n, 1, 8, 8), generator=draw).float()
    cover = (8 * size[:, None] - torch.arange(8)).clamp(0, 1)
    for i in range(n):
        x[i, 0, :, 1 if side[i] == 0 else 6] += 200 * cover[i]
    return x.to(torch.uint8), {"side": side, "size": size}


@pytest.fixture(scope="module")
def states() -> KnownStates:
    (train, train_factors), (test, test_factors) = pictures(2000, 0), pictures(400, 1)
    return KnownStates(train, test, train_factors, test_factors, FACTORS, "bars")


@pytest.fixture(scope="module")
def trained(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    run = train(states, folder / "run")
    return load_reader(pack_reader(run, RECIPE, states, folder / "reader"), device="cpu")


def train(states, folder, steps=None):
    return train_reader(RECIPE, states, Session(folder, steps, progress=False))


def weights(run) -> torch.Tensor:
    return torch.cat([p.flatten() for p in run.average.parameters()])


def noised(x: torch.Tensor, alpha: float, sigma: float, seed: int = 2) -> torch.Tensor:
    return alpha * clean(x) + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def test_it_learns_to_read_and_knows_when_it_cannot(trained, states) -> None:
    values = trained.values(clean(states.test))
    assert float((values["side"] == states.test_factors["side"]).double().mean()) > 0.95
    assert float((values["size"] - states.test_factors["size"]).square().mean()) < 0.2 / 12
    blind = trained.read(noised(states.test, 0.005, 1.0), 0.005, 1.0)
    assert float((blind["side"] - 0.5).abs().mean()) < 0.15
    assert float((blind["size"] - 0.5).abs().mean()) < 0.1


def test_the_card_holds_the_ceiling_beside_the_linear_bound(trained, states) -> None:
    ceiling = trained.card["ceiling"]
    assert len(ceiling["alpha"]) == 12 and ceiling["sigma"][-1] == 0 and ceiling["n"] == 400
    again = read_at(trained, states, law=factor_law(states))
    assert set(ceiling["factors"]) == {"side", "size"}
    for name, row in ceiling["factors"].items():
        for what, numbers in row.items():
            assert numbers == pytest.approx(again["factors"][name][what], abs=2e-3)
        assert abs(row["linear"][0]) < 0.1 and row["linear"][-1] > 0.5, "noise hides, clean states show"
    assert "accuracy" not in ceiling["factors"]["size"]
    assert trained.card["kind"] == "reader" and trained.card["training"]["steps"] == RECIPE.pace.steps


def test_r2_is_the_explained_share_and_accuracy_counts(states) -> None:
    """An oracle reaches 1, one that says the mean 0, one that is sure of the left side half."""

    class Told(Reader):
        def read(self, x, alpha, sigma):
            return {"side": said[: len(x)], "size": states.test_factors["size"][: len(x)]}

    told = Told(ReaderNetwork((1, 8, 8), columns(FACTORS), channels=(8, 8)), FACTORS, (1, 8, 8), torch.device("cpu"))
    side = states.test_factors["side"]
    share = float(side.double().mean())
    said = F.one_hot(side, 2).double()
    row = read_at(told, states)["factors"]
    assert row["side"]["r2"] == [1.0] * 12 and row["side"]["accuracy"] == [1.0] * 12 and row["size"]["r2"] == [1.0] * 12
    said = torch.tensor([[1 - share, share]]).double().expand(len(side), 2)
    assert read_at(told, states)["factors"]["side"]["r2"][0] == pytest.approx(0, abs=1e-5)
    said = torch.tensor([[1.0, 0.0]]).double().expand(len(side), 2)
    sure = read_at(told, states)["factors"]["side"]
    assert sure["accuracy"][0] == pytest.approx(1 - share, abs=1e-5)
    assert sure["r2"][0] == pytest.approx(1 - share / (share * (1 - share)), abs=1e-4)


def test_coordinates_and_batches_do_not_matter(trained, states) -> None:
    x = noised(states.test[:6], 0.8, 0.6)
    read = trained.read(x, 0.8, 0.6)
    for c in (0.1, 12.5):
        again = trained.read(c * x, c * 0.8, c * 0.6)
        for name in read:
            torch.testing.assert_close(again[name], read[name], atol=1e-4, rtol=1e-4)
    alpha, sigma = torch.tensor([1.0, 0.9, 0.8, 0.5, 0.1, 0.0]), torch.tensor([0.0, 0.1, 0.6, 1.0, 1.0, 1.0])
    together = trained.read(x, alpha, sigma)
    for i in range(6):
        alone = trained.read(x[i : i + 1], float(alpha[i]), float(sigma[i]))
        for name in alone:
            torch.testing.assert_close(together[name][i : i + 1], alone[name], atol=1e-4, rtol=1e-4)
    assert trained.features(x).shape == (6, 8)
    torch.testing.assert_close(read["side"].sum(1), torch.ones(6))


def test_levels_are_clipped_where_readers_tell_nothing_apart() -> None:
    alpha, sigma = torch.tensor([1.0, 1e-5, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0, math.exp(-2.0)])
    assert normal(alpha, sigma)[1].tolist() == pytest.approx([12, -12, -12, 4])


def test_impossible_states_are_refused(trained) -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\)"):
        trained.read(torch.zeros(2, 3, 8, 8), 1.0, 0.0)
    with pytest.raises(ValueError, match="cannot both be zero"):
        trained.read(torch.zeros(2, 1, 8, 8), 0.0, 0.0)
    with pytest.raises(ValueError, match="divisible by 2"):
        ReaderNetwork((1, 7, 8), (2,))


def test_roughness_is_the_logarithm_of_squared_differences() -> None:
    rows = torch.tensor([0.5, -0.5]).repeat(4)[None, None, :, None].expand(2, 3, 8, 6).clone()
    along, across = roughness(rows).unbind(1)
    torch.testing.assert_close(across, torch.full((2, 8, 6), 1 + math.log(1 + 1e-5) / 4))
    torch.testing.assert_close(along, torch.full((2, 8, 6), 1 + math.log(1e-5) / 4))
    columns_ = roughness(rows.transpose(2, 3))
    torch.testing.assert_close(columns_[:, 0].transpose(1, 2), across)


def test_a_reader_that_knows_nothing_has_loss_one() -> None:
    n = 4000
    truth = {"side": torch.arange(n) % 2, "size": (torch.arange(n) + 0.5) / n}
    loss = reading_loss(torch.zeros(n, 3), truth, FACTORS)
    assert loss.shape == (n,) and float(loss.mean()) == pytest.approx(1, abs=1e-3)
    sure = torch.stack([20.0 * (truth["side"] == 0), 20.0 * (truth["side"] == 1), (truth["size"] - 0.5) * 12**0.5], 1)
    assert float(reading_loss(sure, truth, FACTORS).max()) < 1e-6
    said = split(sure, FACTORS)
    assert torch.equal(said["side"].argmax(1), truth["side"])
    torch.testing.assert_close(said["size"], truth["size"])


def test_indicators_stand_side_by_side() -> None:
    table = indicators({"side": torch.tensor([1, 0]), "size": torch.tensor([0.25, 1.0])}, FACTORS)
    assert table.tolist() == [[0, 1, 0.25], [1, 0, 1]]
    assert indicators({"side": torch.tensor([[0.3, 0.7]]), "size": torch.tensor([0.5])}, FACTORS)[0].tolist() == (
        pytest.approx([0.3, 0.7, 0.5])
    )


def test_a_resumed_run_repeats_an_uninterrupted_one(states, tmp_path) -> None:
    whole = train(states, tmp_path / "whole", 9)
    train(states, tmp_path / "parts", 4)
    parts = train(states, tmp_path / "parts", 9)
    assert torch.equal(weights(whole), weights(parts))


def test_the_stated_share_of_training_states_is_clean(states, tmp_path, monkeypatch) -> None:
    seen = []

    def watched(self, x, logsnr):
        seen.append(logsnr.clone())
        return self.heads(self.features(x, logsnr))

    monkeypatch.setattr(ReaderNetwork, "forward", watched)
    train(states, tmp_path, 3)
    assert len(seen) >= 3
    for logsnr in seen:
        assert int((logsnr == 12).sum()) == 8, "a quarter of 32"
        noisy = logsnr[logsnr < 12].sort().values
        assert float(noisy.min()) >= -10 and float(noisy.max()) <= 10
        assert float((noisy - torch.linspace(-10, 10, 24)).abs().max()) < 1


def test_latents_are_drawn_from_the_scaled_posterior(states) -> None:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, latent_channels=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, scaling_factor=0.7,
    ).eval()  # fmt: skip
    states = replace(states, train=states.train[:300], test=states.test[:50])
    found = known_latents(states, vae, seed=3)
    assert found.shape == (2, 4, 4) and found.train.dtype == torch.float32 and found.source == "bars, latents"
    assert found.train_factors is states.train_factors
    with torch.no_grad():
        posterior = vae.encode(clean(states.train)).latent_dist
    z = (found.train / 0.7 - posterior.mean) / posterior.std
    assert float(z.mean()) == pytest.approx(0, abs=0.02) and float(z.std()) == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(known_latents(states, vae, seed=3).test, found.test)
    recipe = replace(RECIPE, network={"patch": 1, "channels": (8, 8)})
    assert reader_training.build(recipe, found)(found.test[:2], torch.zeros(2)).shape == (2, 3)


def test_the_train_command_trains_a_reader(states, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(RECIPES, "tiny-reader", RECIPE)
    monkeypatch.setattr(reader_training, "load_states", lambda recipe, folder=None: states)
    run, out = tmp_path / "run", tmp_path / "reader"
    arguments = ["train", "tiny-reader", "--steps", "8", "--run", str(run), "--out", str(out), "--device", "cpu"]
    assert main(arguments) == 0
    assert load_reader(out, device="cpu").card["training"]["steps"] == 8
    assert str(out) in capsys.readouterr().out


def test_a_latent_reader_without_an_autoencoder_is_one_sentence(tmp_path, capsys) -> None:
    arguments = ["train", "scenes-latent-reader", "--data", str(tmp_path), "--run", str(tmp_path), "--device", "cpu"]
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip()
    assert "there is no autoencoder" in error and "\n" not in error


def test_a_damaged_reader_is_one_sentence(trained, states, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no reader 'nobody'"):
        load_reader("nobody")
    run = train(states, tmp_path / "run", 1)
    out = pack_reader(run, RECIPE, states, tmp_path / "reader")
    whole = (out / "reader.safetensors").read_bytes()
    (out / "reader.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        load_reader(out)
    (out / "reader.safetensors").write_bytes(whole)
    card = json.loads((out / "card.json").read_text())
    (out / "card.json").write_text(json.dumps(card | {"network": {"channels": [8, 8]}}))
    with pytest.raises(ValueError, match="is damaged"):
        load_reader(out)


@pytest.mark.parametrize("name", bundled("reader"))
def test_bundled_readers_load_and_state_their_ceiling(name: str) -> None:
    reader = load_reader(name, device="cpu")
    assert (
        reader.card["name"] == name and reader.card["training"]["licence"] and reader.card["training"]["data_licence"]
    )
    x = torch.randn(3, *reader.shape)
    assert reader.features(x).shape[1] <= 64
    for f in reader.factors:
        row = reader.card["ceiling"]["factors"][f.name]
        assert len(row["r2"]) == len(row["linear"]) == len(reader.card["ceiling"]["alpha"]) == 12
        assert reader.read(x, 0.5, 0.5)[f.name].shape == ((3, len(f.kinds)) if f.kinds else (3,))


def test_the_scenes_reader_reads_scenes_as_its_card_says() -> None:
    reader = load_reader("scenes-reader", device="cpu")
    factors = scenes.sample(400, 58_000)
    values = reader.values(clean(scenes.render(factors)))
    for f in scenes.FACTORS:
        row, read = reader.card["ceiling"]["factors"][f.name], values[f.name]
        true = torch.from_numpy(factors.values[f.name])
        if f.kinds:
            share, right = row["accuracy"][-1], float((read == true).double().mean())
            assert right >= share - 5 * (share * (1 - share) / 400 + 1e-5) ** 0.5, f.name
        else:
            missed = float((read - true).square().mean() / true.var())
            assert 1 - missed == pytest.approx(row["r2"][-1], abs=0.3 * (1 - row["r2"][-1]) + 0.005), f.name
