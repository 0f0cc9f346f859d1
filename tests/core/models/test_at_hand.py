"""Networks that others made, each called as its makers call it, against their own formula and their own sampler."""

from __future__ import annotations

import itertools
import math
from typing import Any

import diffusers
import numpy as np
import pipelines
import pytest
import torch
from partners import gaussian, integrate, rel, target
from safetensors.torch import save_file
from torch import Tensor, nn

import painters
from painters import Levels
from painters.schedules import cosine, edm, flow, scaled_linear, ve_sde, vp_linear, vp_sde

G = gaussian([4.0, 1.0, 0.1], seed=1)
SHAPE = (3,)


def per_sample(value: Tensor) -> Tensor:
    return value.double()[:, None]


def score(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The exact score of the noisy Gaussian: what a perfect score network returns."""
    return (alpha * G(x, alpha, sigma) - x) / sigma**2


def start(n: int = 4) -> Tensor:
    return painters.noise(range(n), SHAPE, dtype=torch.float64)


def run(model: painters.models.Model, levels: Levels, solver: str, x: Tensor) -> Tensor:
    return painters.solve(model.denoiser(), x, levels, solver=solver, progress=False).final


def load(network: Any, prediction: str, schedule: painters.schedules.Schedule, **options: Any) -> painters.models.Model:
    options = {"shape": SHAPE, "dtype": torch.float64} | options
    return painters.load(network, prediction=prediction, schedule=schedule, **options)


# continuous schedules


class EDM(nn.Module):
    """As EDM's networks are called: D(x, sigma), with x = x_0 + sigma eps and one sigma per sample."""

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        assert sigma.shape == (len(x),) and sigma.is_floating_point()
        return G(x, 1.0, per_sample(sigma))


def edm_sampler(net: Any, latents: Tensor, steps: int = 18) -> Tensor:
    """Algorithm 1 of Karras et al. (2022), deterministic, as in their repository."""
    i = torch.arange(steps, dtype=torch.float64)
    t = (80 ** (1 / 7) + i / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    t = torch.cat([t, torch.zeros(1, dtype=torch.float64)])
    x = latents * t[0]
    for k, (here, there) in enumerate(itertools.pairwise(t)):
        slope = (x - net(x, here.expand(len(x)))) / here
        trial = x + (there - here) * slope
        if k < steps - 1:
            slope = (slope + (trial - net(trial, there.expand(len(x)))) / there) / 2
            trial = x + (there - here) * slope
        x = trial
    return x


def test_an_edm_denoiser_is_one_line_and_samples_as_its_own_code_does():
    model = load(EDM(), "sample", edm())
    levels = model.levels(18)
    z = start()
    # an EDM latent is scaled by sigma, ours by (1 + sigma^2)^(1/2): unit noise is read in variance-preserving units
    assert rel(run(model, levels, "heun", z * float(levels.sigma[0])), edm_sampler(EDM(), z)) < 1e-6
    x, sigma = 7.0 * z, 3.0
    assert rel(model.denoiser()(0.5 * x, 0.5, 0.5 * sigma), G(x, 1.0, sigma)) < 1e-6


def test_a_raw_network_of_ve_noise_is_called_with_sigma():
    def network(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - G(x, 1.0, per_sample(sigma))) / per_sample(sigma)

    model = load(network, "epsilon", edm(sigma_min=0.01, sigma_max=50.0))
    levels, x = model.levels(30), 50.0 * start()
    own = x
    for here, there in zip(levels.sigma[:-1], levels.sigma[1:]):  # Euler in sigma
        own = own + (there - here) * network(own, here.expand(len(own)))
    assert rel(run(model, levels, "ddim", x), own) < 1e-6


SDES = {
    "galaxies": (vp_sde(beta_0=1, beta_1=1, t_max=10), lambda t: torch.exp(-t / 2), lambda t: 1.0, 10.0),
    "vp": (
        vp_sde(beta_0=0.1, beta_1=20.0),
        lambda t: torch.exp(-0.05 * t - 19.9 / 4 * t**2),
        lambda t: 0.1 + 19.9 * t,
        1.0,
    ),
}


@pytest.mark.parametrize("name", list(SDES))
def test_a_score_network_of_a_vp_process_is_called_with_its_own_time(name):
    """Against the process's own PF-ODE, dx/dt = -beta/2 (x + score), integrated in its own time."""
    schedule, alpha_of, beta, t_max = SDES[name]
    seen: list[float] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(t[0]))
        alpha = alpha_of(per_sample(t))
        return score(x, alpha, (1 - alpha**2).sqrt())

    model = load(network, "score", schedule)
    levels, z = model.levels(600), start()
    alpha, sigma = levels[0]
    assert alpha > 0 and alpha == pytest.approx(float(alpha_of(torch.tensor(t_max, dtype=torch.float64))), rel=1e-12)
    x = float(alpha) * 1.5 * z + sigma * z
    assert rel(model.denoiser()(x, alpha, sigma), G(x, alpha, sigma)) < 1e-4
    assert seen[-1] == pytest.approx(t_max, rel=1e-6)

    def rate(t: float, flat: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(flat.reshape(-1, *SHAPE))
        own = network(state, torch.full((len(state),), t, dtype=torch.float64))
        return (-float(beta(t)) / 2 * (state + own)).numpy().ravel()

    end = 1e-3
    own = integrate(rate, x.numpy().ravel(), (t_max, end), rtol=1e-8, atol=1e-8).y[:, -1].reshape(x.shape)
    assert rel(run(model, levels, "heun", x), torch.from_numpy(own)) < 2e-2
    exact = G.flow(
        x, frm=levels[0], to=(float(alpha_of(torch.tensor(end))), float((1 - alpha_of(torch.tensor(end)) ** 2).sqrt()))
    )
    assert rel(own, exact) < 1e-4


def test_a_score_network_of_a_ve_process():
    schedule = ve_sde(sigma_min=0.01, sigma_max=50.0)

    def network(x: Tensor, t: Tensor) -> Tensor:
        assert bool(((t >= 0) & (t <= 1 + 1e-6)).all())
        sigma = 0.01 * 5000.0 ** per_sample(t)
        return score(x, torch.ones_like(sigma), sigma)

    model = load(network, "score", schedule)
    levels, x = model.levels(40), 50.0 * start()
    own = x
    for here, there in zip(levels.sigma[:-1], levels.sigma[1:]):  # Euler of dx = -sigma score dsigma
        t = (here / 0.01).log() / math.log(5000.0)
        own = own - (there - here) * here * network(own, t.expand(len(own)))
    assert rel(run(model, levels, "ddim", x), own) < 1e-4
    assert rel(model.denoiser()(x, 1.0, 2.0), G(x, 1.0, 2.0)) < 1e-4


@pytest.mark.parametrize("time_scale", [1.0, 1000.0])
def test_a_flow_network_says_how_it_counts(time_scale):
    def network(x: Tensor, t: Tensor) -> Tensor:
        s = (per_sample(t) / time_scale).clamp(min=1e-9)
        x0 = G(x, 1 - s, s)
        return (x - (1 - s) * x0) / s - x0

    model = load(network, "flow_prediction", flow(time_scale=time_scale))
    x = own = start()
    steps = 25
    for i in range(steps):  # Euler from noise, s = 1, to data, s = 0
        own = own - network(own, torch.full((len(x),), (1 - i / steps) * time_scale, dtype=torch.float64)) / steps
    assert rel(run(model, model.levels(steps), "ddim", x), own) < 1e-5


def test_a_flow_network_that_counts_from_noise_to_data_is_wrapped():
    def theirs(x: Tensor, t: Tensor) -> Tensor:
        """The convention of torchcfm and flow_matching: t = 1 is data, the velocity is x_1 - x_0."""
        s = (1 - per_sample(t)).clamp(min=1e-9)
        x0 = G(x, 1 - s, s)
        return x0 - (x - (1 - s) * x0) / s

    model = load(lambda x, s: -theirs(x, 1 - s), "flow_prediction", flow(time_scale=1.0))
    x = own = start()
    for i in range(20):
        own = own + theirs(own, torch.full((len(x),), i / 20, dtype=torch.float64)) / 20
    assert rel(run(model, model.levels(20), "ddim", x), own) < 1e-5


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_a_network_of_the_cosine_schedule_is_called_with_t(prediction):
    def network(x: Tensor, t: Tensor) -> Tensor:
        a, s = torch.cos(math.pi / 2 * per_sample(t)), torch.sin(math.pi / 2 * per_sample(t))
        x0 = G(x, a, s)
        return target(x0, (x - a * x0) / s.clamp(min=1e-9), a, s, prediction=prediction)  # type: ignore[arg-type]

    denoise = load(network, prediction, cosine()).denoiser()
    for t in (0.1, 0.5, 0.9, 1.0):
        a, s = math.cos(math.pi / 2 * t), math.sin(math.pi / 2 * t)
        assert rel(denoise(start(), a, s), G(start(), a, s)) < 1e-5


# times


class Table(nn.Module):
    """A network whose times are a table, as in many a first DDPM: nn.Embedding takes integers alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out = nn.Embedding(1000, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.out(x) * torch.tanh(self.table(t))


def test_a_table_of_times_is_asked_with_integers_and_samples_as_plain_ddim():
    """Fails before: times were always float32, which nn.Embedding refuses."""
    model = load(Table(), "epsilon", vp_linear(), dtype="auto")
    network, x = model.network, painters.noise(range(3), SHAPE)
    own, (alpha, sigma) = x, vp_linear().table()
    for t in range(999, -1, -100):
        eps = network(own, torch.full((3,), t)).detach()
        x0 = (own - sigma[t] * eps) / alpha[t]
        last = t - 100
        a, s = (alpha[last], sigma[last]) if last >= 0 else (torch.ones(()), torch.zeros(()))
        own = (a * x0 + s * eps).float()
    assert rel(run(model, model.levels(10), "ddim", x), own) < 1e-5
    with pytest.raises(ValueError, match=r"takes whole times only .*spacing='trailing'"):
        model.denoiser()(x, *model.levels(10, spacing="even")[3])


class Linear(nn.Module):
    """A network whose times go through a linear layer, which takes numbers of its own dtype alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.time, self.out = nn.Linear(1, 3, **options), nn.Linear(3, 3, **options)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.out(x) * torch.tanh(self.time(t[:, None] / 1000))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_linear_layer_of_time_is_asked_with_real_numbers_of_its_dtype(dtype):
    """Fails before in all but float32."""
    module = Linear(dtype=dtype)
    model = load(module, "epsilon", vp_linear(), dtype="auto")
    x, (alpha, sigma) = painters.noise([0], SHAPE), (float(v[700]) for v in vp_linear().table())
    want = (x - sigma * module(x.to(dtype), torch.tensor([700.0], dtype=dtype)).double().detach()) / alpha
    assert rel(model.denoiser()(x, alpha, sigma), want) < 1e-5


# what a network returns


@pytest.mark.parametrize(
    "shape_of",
    [
        lambda out: out,
        lambda out: (out, "more"),
        lambda out: [out],
        lambda out: {"sample": out, "more": 1},
        lambda out: {"eps": out},
        lambda out: diffusers.models.unets.unet_2d.UNet2DOutput(sample=out),
        lambda out: torch.cat([out, torch.full_like(out, 9.0)], 1),
    ],
    ids=["tensor", "tuple", "list", "sample", "dict", "diffusers", "learned variance"],
)
def test_outputs_of_every_make(shape_of):
    """All fail before: a function was not taken, and of a module only a tensor or .sample was understood."""
    model = painters.load(lambda x, t: shape_of(0.5 * x), prediction="sample", schedule=vp_linear(), shape=(2, 4, 4))
    x = painters.noise([0, 1], model.shape)
    assert torch.equal(model.denoiser()(x, 0.8, 0.6), 0.5 * x)
    learned = model.card.get("unfollowed", {}).get("learned_variance")
    assert bool(learned) == (
        shape_of(torch.zeros(1, 2)).__class__ is Tensor and shape_of(torch.zeros(1, 2)).shape[1] == 4
    )


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (lambda x, t: {"a": x, "b": x}, "no prediction is found in the dict of a, b"),
        (lambda x, t: None, "no prediction is found in the NoneType"),
        (lambda x, t: x[:, :1], r"shape \(2, 4, 4\) into \(1, 4, 4\): a denoiser returns"),
        (lambda x, t: x.mean(1), r"into \(4, 4\)"),
        (lambda x: x, r"cannot be called as network\(x, t\) on states \(2, 4, 4\) \(TypeError"),
        (lambda x, t: torch.nn.functional.linear(x, torch.ones(5, 5)), "cannot be called as"),
    ],
)
def test_what_does_not_fit_is_said_when_it_is_loaded(network, says):
    """All fail before: these were errors of the first step, or a wrong answer by broadcasting."""
    with pytest.raises(ValueError, match=says) as caught:
        painters.load(network, prediction="sample", schedule=vp_linear(), shape=(2, 4, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("known", [{}, {"prediction": "sample"}, {"schedule": vp_linear()}], ids=str)
def test_prediction_and_schedule_are_both_needed(known):
    with pytest.raises(ValueError, match=r"to say what its network predicts: pass prediction= .* and schedule="):
        painters.load(lambda x, t: x, shape=(2, 4, 4), **known)


def test_too_few_labels_are_said_when_it_is_loaded():
    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.label = nn.Embedding(3, 1)

        def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            return x + self.label(labels)

    options = {"prediction": "sample", "schedule": vp_linear(), "shape": (1,)}
    model = painters.load(Labelled(), **options, classes=["sun", "moon"], null_label=2)
    assert model.denoiser("moon", guidance=2.0)(torch.zeros(1, 1), 0.8, 0.6).shape == (1, 1)
    for wrong in ({"classes": ["a", "b", "c", "d"]}, {"classes": ["a"], "null_label": 3}):
        with pytest.raises(ValueError, match=r"network\(x, t, labels\) with labels \[.*IndexError"):
            painters.load(Labelled(), **options, **wrong)


def test_trying_a_network_leaves_no_trace():
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            self.count += 1
            return self.norm(x + torch.rand(()))

    module, before = Stateful(), torch.random.get_rng_state()
    saved = {key: value.clone() for key, value in module.state_dict().items()}
    load(module, "sample", vp_linear(), dtype="auto")
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(saved[key], value) for key, value in module.state_dict().items())


# single files


class Small(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layer(x)


def test_a_file_of_weights_is_loaded_into_the_module_or_class_it_belongs_to(tmp_path):
    path, source = tmp_path / "model.safetensors", Small()
    save_file(source.state_dict(), path)
    options = {"prediction": "epsilon", "schedule": vp_linear(), "shape": SHAPE}
    module = Small()
    for network in (module, Small, lambda: Small(3)):
        model = painters.load(path, network=network, **options)
        assert torch.equal(model.network.layer.weight, source.layer.weight)
        assert model.weights == painters.load(source, **options).weights
    assert painters.load(str(path), network=module, **options).network is module
    with pytest.raises(ValueError, match=r"do not fit a Small: 2 are missing, left over or of another shape, such as"):
        painters.load(path, network=Small(4), **options)
    with pytest.raises(ValueError, match="pass prediction="):
        painters.load(path, network=Small)


def test_a_file_is_never_taken_for_a_hub_id(tmp_path, monkeypatch):
    """Fails before: 'could not be fetched from the hub: check the network' for runs/model.safetensors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    save_file(Small().state_dict(), tmp_path / "runs" / "model.safetensors")
    with pytest.raises(ValueError, match=r"holds weights alone, 2 tensors such as 'layer.bias': pass network="):
        painters.load("runs/model.safetensors")
    (tmp_path / "runs" / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        painters.load("runs/model.safetensors", network=Small)
    for name in ("model.ckpt", "config.json"):
        (tmp_path / "runs" / name).write_bytes(b"{}")
        with pytest.raises(ValueError, match="is a file and no model: give the diffusers folder it belongs to"):
            painters.load(f"runs/{name}")
    with pytest.raises(ValueError, match="network= is for a file of weights"):
        painters.load("fashion-ddpm", network=Small)


# pipelines


@pytest.mark.parametrize("kind", [diffusers.DDPMPipeline, diffusers.DDIMPipeline])
def test_a_pixel_pipeline_is_taken_as_it_is(kind, tmp_path):
    scheduler = diffusers.DDIMScheduler(prediction_type="sample", clip_sample=False, timestep_spacing="trailing")
    pipe = kind(pipelines.unet(), scheduler)
    pipe.save_pretrained(tmp_path)
    model, stored = painters.load(pipe), painters.load(tmp_path, device="cpu")
    assert model.network is pipe.unet and model.weights == stored.weights
    assert model.prediction == "sample" and "unfollowed" not in model.card
    x, level = painters.noise([0], model.shape), model.levels(4)[1]
    assert rel(model.denoiser()(x, *level), stored.denoiser()(x, *level)) < 1e-6


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
def test_a_stable_diffusion_pipeline_is_taken_as_it_is(tmp_path):
    pipe = pipelines.stable_diffusion(tmp_path / "make", version=2)
    pipe.save_pretrained(str(tmp_path / "sd"))
    model, stored = painters.load(pipe), painters.load(tmp_path / "sd", device="cpu")
    assert model.network is pipe.unet and model.codec.vae is pipe.vae and model.text.encoder is pipe.text_encoder
    x, level = painters.noise([0], model.shape), model.levels(4)[0]
    ours = model.denoiser("a red house", guidance=3.0)(x, *level)
    assert rel(ours, stored.denoiser("a red house", guidance=3.0)(x, *level)) < 1e-5
    assert rel(model.decode(x), stored.decode(x)) < 1e-6 and not model.decode(x).requires_grad
    half = painters.load(pipe.to(torch.float16), dtype="float32")
    assert half.network is pipe.unet and half.dtype == torch.float32
    assert "float16" in half.card["unfollowed"]["vae"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
def test_what_a_pipeline_at_hand_is_changed_in_is_what_the_page_says(tmp_path):
    pipe = pipelines.stable_diffusion(tmp_path)
    parts = {name: getattr(pipe, name) for name in ("unet", "vae", "text_encoder")}
    for part in parts.values():
        part.train()
    parts["unet"].to(torch.bfloat16)
    painters.load(pipe)
    assert [p.training for p in parts.values()] == [False] * 3
    kinds = [torch.bfloat16, torch.float32, torch.bfloat16]
    assert [next(p.parameters()).dtype for p in parts.values()] == kinds
    asks = [all(v.requires_grad for v in p.parameters()) for p in parts.values()]
    assert asks == [True, False, True] and not any(v.requires_grad for v in parts["vae"].parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
def test_compiled_parts_are_taken_for_what_they_are(tmp_path):
    pipe = pipelines.stable_diffusion(tmp_path)
    plain = painters.load(pipe)
    x, level, weights = painters.noise([0], plain.shape), plain.levels(4)[1], plain.weights
    want, image = plain.denoiser("a red house", guidance=3.0)(x, *level), plain.decode(x)
    for name in ("unet", "vae", "text_encoder"):
        setattr(pipe, name, torch.compile(getattr(pipe, name).train(), backend="eager"))
    model = painters.load(pipe)
    assert model.network is pipe.unet and not pipe.unet._orig_mod.training and model.weights == weights
    assert rel(model.denoiser("a red house", guidance=3.0)(x, *level), want) < 1e-5
    assert rel(model.decode(x), image) < 1e-6
    with pytest.raises(ValueError, match="a UNet2DConditionModel needs its text encoder"):
        painters.load(pipe.unet)


def test_a_compiled_module_and_the_file_of_one_are_those_of_the_module(tmp_path):
    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.SiLU(), nn.Conv2d(2, 2, 3, padding=1))

    class Timeless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.body(x)

    kept = Timeless()
    options: dict[str, Any] = {"schedule": vp_linear(), "prediction": "epsilon", "shape": (2, 4, 4)}
    model = painters.load(kept, **options)
    x, level = painters.noise([0], model.shape), model.levels(4)[1]
    want = model.denoiser()(x, *level)
    compiled = torch.compile(kept, backend="eager")
    found = painters.load(compiled, **options)
    assert found.card == model.card and rel(found.denoiser()(x, *level), want) < 1e-5
    for i, (state, empty) in enumerate(itertools.product((kept.state_dict(), compiled.state_dict()), (False, True))):
        save_file(state, tmp_path / f"{i}.safetensors")
        other = torch.compile(Timeless(), backend="eager") if empty else Timeless
        filled = painters.load(tmp_path / f"{i}.safetensors", network=other, **options)
        assert rel(filled.denoiser()(x, *level), want) < 1e-5


def test_a_pipeline_that_does_not_fit_is_one_sentence(tmp_path):
    pipe = pipelines.stable_diffusion(tmp_path / "make")
    other = diffusers.UNet1DModel(
        sample_size=16, in_channels=2, out_channels=2, block_out_channels=(8, 8),
        down_block_types=("DownBlock1D", "DownBlock1D"), up_block_types=("UpBlock1D", "UpBlock1D"), norm_num_groups=4,
    )  # fmt: skip
    wrong: list[tuple[Any, str]] = [
        (diffusers.DanceDiffusionPipeline(other, diffusers.IPNDMScheduler()), "holds a UNet1DModel"),
        (diffusers.LDMPipeline(pipelines.vae(), pipelines.unet(), diffusers.DDIMScheduler()), "is a LDMPipeline"),
    ]
    pipe.unet = pipelines.text_unet(in_channels=9)
    wrong.append((pipe, "reads 9 channels where its VAE makes 4"))
    for source, says in wrong:
        with pytest.raises(ValueError, match=rf"^the \w+ {says}.*served are .*bundled model instead") as caught:
            painters.load(source)
        assert "\n" not in str(caught.value)


# what a scheduler says


def saved(folder: Any, network: Any = None, **config: Any) -> Any:
    """A DDPM folder whose scheduler's configuration has these entries more."""
    import json

    diffusers.DDPMPipeline(network or pipelines.unet(), diffusers.DDPMScheduler(clip_sample=False)).save_pretrained(
        folder
    )
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


@pytest.mark.parametrize("key", ["clip_sample", "thresholding"])
def test_what_is_not_followed_of_a_scheduler_is_said_and_kept(key, tmp_path):
    """Fails before: nothing was said."""
    with pytest.warns(UserWarning, match=f"asks for {key}, which leaves the PF-ODE") as caught:
        model = painters.load(saved(tmp_path, **{key: True}), device="cpu")
    assert caught[0].filename == __file__
    assert model.card["unfollowed"] == {key: True, "timestep_spacing": "leading"}


@pytest.mark.parametrize(("flag", "prediction"), [(True, "epsilon"), (False, "sample")])
def test_predict_epsilon_of_old_configurations_is_read(flag, prediction, tmp_path):
    """Fails before for false: taken for a network that predicts the noise."""
    assert painters.load(saved(tmp_path, predict_epsilon=flag), device="cpu").prediction == prediction


def test_a_scheduler_that_cannot_be_read_is_named_and_may_be_replaced(tmp_path):
    folder = saved(tmp_path)
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "ScoreSdeVeScheduler"}')
    with pytest.raises(
        ValueError, match=r"has a ScoreSdeVeScheduler, whose levels are not read here, .*pass prediction="
    ):
        painters.load(folder)
    model = painters.load(folder, device="cpu", prediction="score", schedule=edm(sigma_min=0.01, sigma_max=1348.0))
    assert model.schedule.name == "edm"


def test_a_learned_variance_of_a_diffusers_network_is_left_aside(tmp_path):
    """Fails before: 2 C channels against C, an error of the first step."""
    network = pipelines.unet(out_channels=4)
    model = painters.load(saved(tmp_path, network, variance_type="learned_range"), device="cpu")
    assert "first half" in model.card["unfollowed"]["learned_variance"]
    x, (alpha, sigma) = painters.noise([0], model.shape), (float(v[500]) for v in model.schedule.table())
    eps = network(x, torch.tensor([500])).sample[:, :2].detach()
    assert rel(model.denoiser()(x, alpha, sigma), (x - sigma * eps) / alpha) < 1e-5
    with pytest.raises(ValueError, match=r"\(2, 8, 8\) into \(3, 8, 8\)"):
        painters.load(pipelines.unet(out_channels=3), prediction="epsilon", schedule=vp_linear())


def test_class_embeddings_of_every_kind_of_diffusers():
    options: dict[str, Any] = {"prediction": "epsilon", "schedule": vp_linear()}
    x, level = painters.noise([0], (2, 8, 8)), [float(v[500]) for v in vp_linear().table()]
    timed = pipelines.unet(class_embed_type="timestep")
    with pytest.raises(ValueError, match="class numbers and does not say how many: pass classes="):
        painters.load(timed, **options)
    model = painters.load(timed, **options, classes=["sun", "moon"])
    eps = timed(x, torch.tensor([500]), class_labels=torch.tensor([1])).sample.detach()
    assert rel(model.denoiser("moon")(x, *level), (x - level[1] * eps) / level[0]) < 1e-5
    vectors = pipelines.unet(class_embed_type="identity")
    with pytest.raises(ValueError, match=r"takes vectors and no labels for classes \(identity\): wrap it"):
        painters.load(vectors, **options, classes=["sun"])
    table = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    wrapped = painters.load(
        lambda x, t, y: vectors(x, t, table[y]), **options, shape=(2, 8, 8), classes=["sun", "moon"]
    )
    assert not torch.equal(wrapped.denoiser(0)(x, *level), wrapped.denoiser(1)(x, *level))
    for wrong in ({"classes": "abcd"}, {"classes": "abc", "null_label": 3}):
        with pytest.raises(ValueError, match="3 labels, too few"):
            painters.load(pipelines.unet(classes=3), **options, **wrong)


# the model


def test_a_plain_function_runs_on_the_cpu_and_has_no_weights():
    model = painters.load(lambda x, t: 0 * x, prediction="sample", schedule=scaled_linear(), shape=(1, 2, 2))
    assert model.device.type == "cpu" and model.dtype == torch.float32
    assert painters.solve(model.denoiser(), painters.noise([0], (1, 2, 2)), model.levels(3), progress=False).nfe == 5
    with pytest.raises(ValueError, match="plain function has no weights"):
        _ = model.weights


def test_what_is_no_model_is_refused():
    for source in (3, None, [Small()]):
        with pytest.raises(ValueError, match="load takes a bundled name, a folder, a hub id"):
            painters.load(source)


def test_reprs_are_one_line():
    models = [painters.load("fashion-ddpm", device="cpu"), load(Table(), "epsilon", vp_linear(), dtype="auto")]
    for shown in [*models, models[0].denoiser(3), edm(), models[0].levels(4)]:
        assert "\n" not in repr(shown) and len(repr(shown)) < 250
    assert repr(models[0]).startswith("Model(fashion-ddpm: states (1, 28, 28), v_prediction on linear, takes one of 10")


def test_weights_are_known_by_twelve_digits():
    """The digits stand in published records: the algorithm must not change."""
    import hashlib

    model = painters.load("fashion-ddpm", device="cpu")
    digest = hashlib.sha256(b"".join(v.float().numpy().tobytes() for v in model.network.state_dict().values()))
    assert model.weights == digest.hexdigest()[:12]
    next(model.network.parameters()).data.flatten()[0] += 1
    assert model.weights != digest.hexdigest()[:12]


@pytest.mark.parametrize("device", ["foo", "cuda:99", "CUDA", ""])
def test_a_device_that_is_not_there_is_one_sentence(device):
    """Fails before: RuntimeErrors and AssertionErrors of torch."""
    for source in ("fashion-ddpm", Small()):
        with pytest.raises(ValueError, match=f"there is no device '{device}' here: give one of auto, ") as caught:
            painters.load(source, device=device, prediction="sample", schedule=vp_linear(), shape=SHAPE)
        assert "\n" not in str(caught.value)


def test_bytes_are_not_encoded_as_if_they_were_pictures_in_unit_range():
    """Fails before: uint8 wrapped around, and 255 became 509."""
    model = painters.load("fashion-ddpm", device="cpu")
    for images in (torch.full((1, 1, 28, 28), 200, dtype=torch.uint8), torch.full((1, 1, 28, 28), 200.0),
                   torch.full((1, 1, 28, 28), -1.0), torch.full((1, 1, 28, 28), float("nan"))):  # fmt: skip
        with pytest.raises(ValueError, match=r"lie in \[0, 1\], got torch"):
            model.encode(images)


def test_moments_of_ones_own_are_taken_and_must_fit():
    g = painters.Gaussian.of(torch.zeros(16), torch.eye(16))
    model = painters.load(lambda x, t: x, schedule=edm(), prediction="sample", shape=(1, 4, 4), moments=g)
    assert model.moments is g
    with pytest.raises(ValueError, match="moments have 16 dimensions"):
        painters.load(lambda x, t: x, schedule=edm(), prediction="sample", shape=(1, 5, 5), moments=g)


@pytest.mark.parametrize("schedule", ["edm", edm])
def test_a_schedule_is_not_its_name_nor_its_maker(schedule):
    with pytest.raises(ValueError, match="such as"):
        painters.load(lambda x, t: x, schedule=schedule, prediction="sample", shape=(1, 4, 4))
    with pytest.raises(ValueError, match="of a schedule"):
        Levels.of(schedule, 5)


def test_a_class_is_called_first():
    with pytest.raises(ValueError, match="the class Linear: call it first"):
        painters.load(torch.nn.Linear, schedule=edm(), prediction="sample", shape=(1, 4, 4))


def test_what_is_no_picture_is_neither_encoded_nor_decoded():
    model = painters.load("fashion-ddpm", device="cpu")
    for images in ("a.png", torch.zeros(0, 1, 28, 28), [[0.5]]):
        with pytest.raises(ValueError, match="images to encode are a tensor"):
            model.encode(images)
    with pytest.raises(ValueError, match="states of this model have shape"):
        model.decode(torch.zeros(2, 3, 5, 5))
