"""Published score networks of galaxies: equal to their own formulas, called with their own time, refused in a sentence.

The partner is the forward pass of galaxygrad's ``models_eqx.py``, written once more in numpy and float64: patch by
patch, and the transposed convolution as jax does it, a correlation of the dilated input with the kernel as stored.
"""

import hashlib
import math
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from partners import rel

import painters
from painters.models import bundled, galaxies, load, moments, published, registry

ROOT = Path(__file__).resolve().parents[3]
NAMES = published()
CARDS = {name: registry.read_card(registry.BUNDLED / name) for name in NAMES}
MEASURED = ["galaxies-hsc64", "galaxies-hsc32"]
needs_weights = pytest.mark.skipif(
    not galaxies.installed(), reason=f"the weights of the galaxies are not here: {galaxies.INSTALL}"
)


def arrays(card):
    """All arrays of a published file; the last one is the process's end."""
    path = Path(str(metadata.distribution("galaxygrad").locate_file(f"galaxygrad/{card['file']}")))
    found = []
    with path.open("rb") as file:
        while file.tell() < path.stat().st_size:
            found.append(np.load(file).astype(np.float64))
    return found


def norm(y, weight, bias):
    return weight * (y - y.mean()) / np.sqrt(y.var() + 1e-5) + bias


def mixed(rows, w1, b1, w2, b2):
    return np.stack([w2 @ np.maximum(w1 @ row + b1, 0) + b2 for row in rows])


def published_score(card, x, t):
    """The score of one state (1, size, size) at time t."""
    take = iter(arrays(card))
    kernel_in, bias_in, kernel_out, bias_out = (next(take) for _ in range(4))
    blocks = [[next(take) for _ in range(12)] for _ in range(4)]
    last, t1 = (next(take), next(take)), float(next(take))
    assert next(take, None) is None
    size, p = x.shape[-1], x.shape[-1] // 4
    y = np.concatenate([x, np.full((1, size, size), t / t1)])
    corners = [(i, j) for i in range(0, size, 4) for j in range(0, size, 4)]
    seen = [(kernel_in * y[:, i : i + 4, j : j + 4]).sum((1, 2, 3)) for i, j in corners]
    y = np.array(seen).T + bias_in.reshape(64, 1)
    for block in blocks:
        over_patches, over_channels, norm1, norm2 = block[:4], block[4:8], block[8:10], block[10:]
        y = y + mixed(norm(y, *norm1), *over_patches)
        y = (y.T + mixed(norm(y.T, *norm2), *over_channels)).T
    dilated = np.zeros((64, size + 3, size + 3))
    dilated[:, 3::4, 3::4] = norm(y, *last).reshape(64, p, p)
    out = np.zeros((1, size, size))
    for i in range(4):
        for j in range(4):
            out += np.einsum("oc,cab->oab", kernel_out[:, :, i, j], dilated[:, i : i + size, j : j + size])
    return out + bias_out


@needs_weights
@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_the_published_one(name):
    model = load(name, device="cpu", dtype=torch.float64)
    x = 2 * np.random.default_rng(0).normal(size=(3, *model.shape))
    times = [0.02, 1.0, 10.0]
    got = model.network(torch.from_numpy(x), torch.tensor(times, dtype=torch.float64))
    for score, state, t in zip(got, x, times):
        assert rel(score, published_score(CARDS[name], state, t)) < 1e-8


@needs_weights
def test_a_level_reaches_the_network_as_its_own_time():
    model = load("galaxies-hsc32", device="cpu")
    assert model.prediction == "score" and model.schedule.coordinates == "vp"
    seen = []
    model.network.conv_in.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    levels = model.levels(12)
    assert levels.logsnr[:-1].diff().std() < 1e-9 and model.levels(2, spacing="trailing").ratio[1] == pytest.approx(
        math.sqrt(math.expm1(5)), rel=1e-2
    )
    assert levels.ratio[0] == pytest.approx(math.sqrt(math.expm1(10))) and levels[-1] == (1.0, 0.0)
    x = painters.noise([1], model.shape)
    for alpha, sigma in list(levels)[:-1]:
        model.denoiser()(3 * alpha * x, 3 * alpha, 3 * sigma)  # in whatever coordinates
        state, clock = seen.pop()[0]
        assert rel(state, alpha * x[0, 0]) < 1e-6
        assert rel(clock, torch.full_like(clock, -2 * math.log(alpha) / 10)) < 1e-5
    with pytest.raises(ValueError, match=r"from sigma/alpha 0\.03163 to 148\.4"):
        model.denoiser()(x, 0.005, 1.0)


@needs_weights
@pytest.mark.parametrize("name", NAMES)
def test_the_endpoint_estimate_is_that_of_the_score_and_samples_are_finite(name):
    """Tweedie by hand at three levels, and an error that falls below that of the Gaussian of the same samples."""
    model = load(name, device="cpu")
    denoise, levels = model.denoiser(), model.levels(10)
    x = levels.start(painters.noise(range(4), model.shape))
    clean = painters.solve(denoise, x, levels, solver="dpmpp2m", progress=False).final
    assert bool(torch.isfinite(clean).all()) and 3 < float(clean.max()) < 20 and float(clean.min()) > -1
    noise, errors = painters.noise(range(8, 12), model.shape), []
    for ratio in (147.0, 20.0, 1.0):
        alpha = 1 / math.hypot(1, ratio)
        sigma = ratio * alpha
        x = alpha * clean + sigma * noise
        with torch.no_grad():
            score = model.network(x, torch.full((4,), -2 * math.log(alpha)))
        found = denoise(x, alpha, sigma)
        assert rel(found, (x + sigma**2 * score) / alpha) < 1e-4
        errors.append(rel(found, clean))
        if ratio == 147.0:  # nearly all that is left of x is noise
            assert rel(score, -x) < 0.02
    assert errors[0] > errors[1] > 2 * errors[2]
    assert model.moments is None or errors[2] < rel(model.moments(x, alpha, sigma), clean)


@needs_weights
def test_states_are_decoded_by_a_fixed_stretch_and_encoded_back():
    model = load("galaxies-hsc64", device="cpu")
    black, white = model.limits
    flux = torch.tensor([0.0, 0.1, 1.0])
    state = (10 * flux.log1p()).reshape(3, 1, 1, 1).expand(3, *model.shape)
    grey = model.decode(state)
    assert float(grey.min()) > 0 and float(grey.max()) < 1 and bool((grey[:, 0, 0, 0].diff() > 0).all())
    torch.testing.assert_close(model.encode(grey), state)
    ends = torch.stack([torch.full(model.shape, v) for v in (black - 1, black, white, white + 1)])
    assert model.decode(ends)[:, 0, 0, 0].tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="unconditional"):
        model.denoiser("a spiral")


def test_they_are_listed_beside_the_bundled_models_and_bring_no_weights():
    assert set(NAMES) >= {"galaxies-hsc32", "galaxies-hsc64"} and not set(NAMES) & set(bundled())
    with pytest.raises(FileNotFoundError, match="galaxies-hsc64"):
        load("galaxies-hsc65")
    with pytest.raises(ValueError, match="revision= and token="):
        load("galaxies-hsc64", revision="main")
    for name, card in CARDS.items():
        files = {path.name for path in (registry.BUNDLED / name).iterdir()}
        assert files <= {"card.json", "moments.safetensors"}
        assert card["name"] == name and card["source"] == f"{galaxies.PACKAGE}=={galaxies.VERSION}"
        assert "2401.07313" in card["citation"] and card["shape"][0] == 1
        assert card["training"]["licence"].startswith("none stated") and card["training"]["data_licence"]


@pytest.mark.parametrize("name", MEASURED)
def test_their_moments_say_that_they_are_of_their_own_samples(name):
    gaussian, facts = moments.load_moments(registry.BUNDLED / name / "moments.safetensors")
    assert gaussian.dim == math.prod(CARDS[name]["shape"])
    assert facts["circular"] and facts["source"] == f"own samples of {name}" and facts["n"] == 4000
    assert facts["seeds"] == "1000000-1003999"  # none that anything is measured on
    assert facts["spacing"] == "even" and facts["steps"] >= 25
    halves = facts["halves"]
    assert halves["pcs"][-1] == len(gaussian.lam) == facts["rank"]
    assert halves["overlap"][0] > 0.9 and halves["eigenvalues"][0] < 0.2


@needs_weights
@pytest.mark.parametrize("name", NAMES)
def test_a_model_carries_card_and_moments(name):
    model = load(name, device="cpu")
    assert model.card["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert model.card["name"] == name and model.shape == model.image_shape == tuple(CARDS[name]["shape"])
    if model.moments is not None:
        assert model.card["moments"]["weights"] == model.weights and model.card["moments"]["circular"]


def package(folder, version, content):
    """Something that is installed under the name of galaxygrad."""
    about = folder / f"galaxygrad-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: galaxygrad\nVersion: {version}\n")
    if content is not None:
        (folder / "galaxygrad").mkdir()
        (folder / "galaxygrad" / CARDS["galaxies-hsc32"]["file"]).write_bytes(content)


def said(error):
    text = str(error.value)
    assert "\n" not in text and "galaxies-hsc32" in text and text.endswith("--no-deps galaxygrad==0.2.0")
    return text


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(metadata, "distributions", lambda **_: iter(()))
    assert not galaxies.installed()
    with pytest.raises(FileNotFoundError, match="not installed: pip install --no-deps") as error:
        load("galaxies-hsc32")
    said(error)


@pytest.mark.parametrize(("version", "content"), [("0.2.0", b"damaged"), ("0.3.0", None)])
def test_a_damaged_file_or_another_version_is_refused(version, content, tmp_path, monkeypatch):
    package(tmp_path, version, content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=f"of galaxygrad {version} does not hold the weights") as error:
        load("galaxies-hsc32")
    assert "--force-reinstall" in said(error)


def test_a_file_that_the_card_knows_is_read(tmp_path, monkeypatch):
    """The order in the file is that of the published module: numbers of a toy file end up where they belong."""
    network = galaxies.ScoreNet(8)
    content = b""
    for i, (key, value) in enumerate(network.state_dict().items()):
        shape = {"conv_in.bias": (64, 1, 1), "conv_out.bias": (1, 1, 1), "conv_out.weight": (1, 64, 4, 4)}
        array = np.full(shape.get(key, tuple(value.shape)), i, dtype=np.float32)
        file = tmp_path / "one.npy"
        np.save(file, array)
        content += file.read_bytes()
    package(tmp_path, "0.2.0", content)
    monkeypatch.syspath_prepend(tmp_path)
    card = CARDS["galaxies-hsc32"] | {"sha256": hashlib.sha256(content).hexdigest(), "shape": [1, 8, 8]}
    read = galaxies.parts("toy", card)["unet"].state_dict()
    assert [int(value.flatten()[0]) for value in read.values()] == list(range(len(read)))
    assert list(read)[:6] == [
        "conv_in.weight", "conv_in.bias", "conv_out.weight", "conv_out.bias",
        "blocks.0.patches.0.weight", "blocks.0.patches.0.bias",
    ]  # fmt: skip


def test_the_set_up_installs_the_version_that_is_read():
    rule = (ROOT / "Makefile").read_text()
    assert f"--no-deps {galaxies.PACKAGE}=={galaxies.VERSION} 2> /dev/null ||" in rule  # a failure stops nothing
