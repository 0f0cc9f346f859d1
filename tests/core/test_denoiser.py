"""What a network may predict, and the level that goes with a state."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from partners import agree, gaussian, randn, rel, target

import painters
from painters import Gaussian, Levels, Mixture, PointCloud, solve
from painters.denoiser import PREDICTIONS, column, endpoint, guided
from painters.models.adapters import NetworkDenoiser
from painters.sampling import renoise
from painters.schedules import Coordinates, rescale, vp_linear


def level(t: float, coordinates: Coordinates) -> tuple[torch.Tensor, torch.Tensor]:
    """A level at noise angle t * 90 degrees, in the given coordinates."""
    a, s = (torch.tensor(f(math.pi / 2 * t), dtype=torch.float64) for f in (math.cos, math.sin))
    c = rescale(a, s, coordinates)
    return c * a, c * s


LEGAL = [(p, c) for p in PREDICTIONS for c in ("vp", "ve", "flow")]
LEGAL = [(p, c) for p, c in LEGAL if (p, c) not in {("v_prediction", "ve"), ("v_prediction", "flow")}]
LEGAL = [(p, c) for p, c in LEGAL if p != "flow_prediction" or c == "flow"]


@pytest.mark.statement("prop-reverse-parameters")
@pytest.mark.parametrize(("prediction", "coordinates"), LEGAL)
@given(t=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_target_and_endpoint_are_inverse(prediction, coordinates: Coordinates, t: float, seed: int) -> None:
    """A network that predicted its target exactly would return x_0, in every coordinate system it is defined in."""
    a, s = level(t, coordinates)
    x0, eps = randn(2, 3, seed=seed), randn(2, 3, seed=seed + 1)
    x = a * x0 + s * eps
    output = target(x0, eps, a, s, prediction=prediction)
    agree(endpoint(x, output, a, s, prediction=prediction), x0, 1e-9)


def test_conversion_table() -> None:
    """eps_hat = sigma x + alpha v and v = alpha eps - sigma x_0 at a VP level; u = eps - x_0 at a flow level."""
    a, s = level(0.3, "vp")
    x0, eps = randn(4, seed=1), randn(4, seed=2)
    x = a * x0 + s * eps
    v = target(x0, eps, a, s, prediction="v_prediction")
    assert rel(s * x + a * v, eps) < 1e-12
    assert rel(target(x0, eps, a, s, prediction="epsilon"), eps) == 0
    assert rel(target(x0, eps, a, s, prediction="sample"), x0) == 0
    assert rel(target(x0, eps, a, s, prediction="score"), -eps / s) < 1e-12
    assert rel(target(x0, eps, a, s, prediction="flow_prediction"), eps - x0) == 0


def test_pure_noise() -> None:
    """All but eps and the score say something at alpha = 0; these say nothing, and are refused."""
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    x0, eps = randn(3, seed=3), randn(3, seed=4)
    for prediction in ("v_prediction", "sample", "flow_prediction"):
        output = target(x0, eps, zero, one, prediction=prediction)
        assert rel(endpoint(eps, output, zero, one, prediction=prediction), x0) < 1e-12
    for prediction in ("epsilon", "score"):
        with pytest.raises(ValueError, match=f"predicts {prediction} .* start below pure noise"):
            endpoint(eps, eps, zero, one, prediction=prediction)


def test_unknown_prediction_is_refused() -> None:
    x = torch.zeros(1)
    with pytest.raises(ValueError, match="epsilon, v_prediction, sample, flow_prediction"):
        endpoint(x, x, x, x, prediction="noise")  # type: ignore[arg-type]


def test_a_level_is_one_number_or_one_per_sample() -> None:
    x = torch.zeros(3, 2, 2)
    assert column(0.5, x).shape == (1, 1, 1) and column(0.5, x).dtype == torch.float64
    for value in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0], [2.0], [3.0]])):
        assert column(value, x).shape == (3, 1, 1)
    with pytest.raises(ValueError, match=r"one per sample \(3\), got 2"):
        column(torch.ones(2), x)
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite and not negative"):
            column(bad, x)


# states are in floating point: in the dtype of integers a result is rounded, mostly to nothing

G, CLOUD = gaussian([1.0, 0.5, 0.2, 0.1], seed=3), PointCloud(randn(5, 4, seed=4))
MIXTURE = Mixture(torch.tensor([0.25, 0.75]), (G, gaussian([2.0, 1.0, 0.5, 0.5], seed=5)))
NETWORK = NetworkDenoiser(lambda x, t, condition: x, vp_linear(), "v_prediction", torch.device("cpu"))
WAYS_IN: dict[str, Callable[[Any], object]] = {
    f"{type(d).__name__}.{name}": partial(getattr(d, name), alpha=0.8, sigma=0.6)
    for d in (G, MIXTURE, CLOUD)
    for name in ("__call__", "score", "log_prob")
} | {
    "NetworkDenoiser": lambda x: NETWORK(x, 0.8, 0.6),
    "guided": lambda x: guided(G, NETWORK, 2.0)(x, 0.8, 0.6),
    "Gaussian.flow": lambda x: G.flow(x, frm=(0.6, 0.8)),
    "Gaussian.trajectory": lambda x: G.trajectory(x, Levels.of(vp_linear(), 3)).final,
    "Gaussian.sample": G.sample,
    "Gaussian.apply": lambda x: G.apply(x, torch.sqrt),
    "Gaussian.project": G.project,
    "Mixture.responsibilities": MIXTURE.responsibilities,
    "PointCloud.weights": lambda x: CLOUD.weights(x, 0.8, 0.6).entropy,
    "solve": lambda x: solve(G, x, Levels.of(vp_linear(), 3), progress=False).final,
    "renoise": lambda x: renoise(x, (0.8, 0.6), [1, 2]),
    "Gaussian, mean": lambda x: Gaussian(x[0], torch.eye(4), torch.ones(4)).mu,
    "Gaussian, axes": lambda x: Gaussian(torch.zeros(2), x[:, :0], torch.ones(0)).U,
    "Gaussian, variances": lambda x: Gaussian(torch.zeros(4), torch.eye(4), x[0]).lam,
    "PointCloud": lambda x: PointCloud(x).points,
    "Mixture.of_classes": lambda x: Mixture.of_classes(x, torch.zeros(2).long(), rank=0).mean,
    "Mixture.kmeans": lambda x: Mixture.kmeans(x, 1, rank=0).mean,
}


@pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)
def test_a_state_in_floating_point_is_taken_and_every_other_refused(way: Callable[[Any], object]) -> None:
    x = torch.tensor([[1, 2, 0, 3], [3, 1, 2, 0]])
    for taken in (x.float(), x.double()):
        found = way(taken)
        assert isinstance(found, torch.Tensor) and found.is_floating_point() and bool(torch.isfinite(found).all())
    for refused, name in ((x, "torch.int64"), (x.to(torch.uint8), "torch.uint8"), (x > 1, "torch.bool")):
        with pytest.raises(ValueError, match=f"in floating point.* got {name} of shape .* use .float()"):
            way(refused)


@pytest.mark.parametrize("denoise", [G, MIXTURE, CLOUD, NETWORK], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("refused", [np.zeros((2, 4)), [[0.0] * 4], None], ids=lambda x: type(x).__name__)
def test_what_is_no_tensor_is_no_state(denoise: Any, refused: Any) -> None:
    with pytest.raises(ValueError, match=f"a state must be a tensor .* got a {type(refused).__name__}"):
        denoise(refused, 0.8, 0.6)


def test_noise_and_pictures_of_a_model_are_in_floating_point() -> None:
    with pytest.raises(ValueError, match=r"noise must be .* got torch\.int64"):
        painters.noise([1], (4,), dtype=torch.int64)
    model = painters.load("fashion-ddpm", device="cpu")
    white = torch.ones(1, *model.shape)
    assert bool((model.decode(white) == 1).all())
    with pytest.raises(ValueError, match=r"got torch\.uint8 .* model\.encode"):
        model.decode(white.to(torch.uint8))


# guidance between two denoisers


@pytest.mark.parametrize(("prediction", "coordinates"), LEGAL)
def test_guiding_estimates_is_guiding_outputs(prediction, coordinates: Coordinates) -> None:
    """x_0 is linear in every output, so u + w (c - u) may be taken of either."""
    a, s = level(0.4, coordinates)
    x = randn(2, 3, seed=1)
    outputs = [target(randn(2, 3, seed=i), randn(2, 3, seed=i + 9), a, s, prediction=prediction) for i in (2, 3)]

    def denoiser(output: torch.Tensor):
        return lambda x, alpha, sigma: endpoint(x, output, a, s, prediction=prediction)

    w = 3.5
    both = guided(denoiser(outputs[0]), denoiser(outputs[1]), w)
    out = outputs[1] + w * (outputs[0] - outputs[1])
    assert rel(both(x, a, s), endpoint(x, out, a, s, prediction=prediction)) < 1e-12


def test_guidance_counts_the_calls_of_both_and_runs_on_theory_and_networks_alike() -> None:
    c, u = gaussian([1.0, 0.2], seed=1), gaussian([4.0, 1.0], seed=2)
    levels, x = Levels.of(vp_linear(), 5), randn(2, 2)
    twice = guided(guided(c, u, 2.0), u, 3.0)
    assert solve(guided(c, u, 2.0), x, levels, solver="ddim", progress=False).nfe == 10
    assert solve(twice, x, levels, solver="ddim", progress=False).nfe == 15
    assert guided(c, u, 1.0) is c
    assert rel(guided(c, u, 0.0)(x, 0.8, 0.6), u(x, 0.8, 0.6)) < 1e-12
    model = painters.load("fashion-ddpm", device="cpu")
    noise, (alpha, sigma) = painters.noise([0], model.shape), model.levels(4)[1]
    ours = guided(model.denoiser(3), model.denoiser(), 2.0)(noise, alpha, sigma)
    assert rel(ours, model.denoiser(3, guidance=2.0)(noise, alpha, sigma)) < 1e-5
