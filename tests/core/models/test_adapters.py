"""From a network to a denoiser: scale, time, prediction type, guidance, precision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from partners import gaussian, randn, rel, target

from painters import Gaussian, Levels, solve
from painters.models.adapters import NetworkDenoiser, call_unet
from painters.schedules import Schedule, flow, rescale, vp_linear

CPU = torch.device("cpu")


class Recorder:
    """A network that records what it is given and returns a fixed multiple of its input."""

    def __init__(self, slope: float = 0.5) -> None:
        self.slope, self.calls = slope, []

    def __call__(self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        self.calls.append((x, t, condition))
        shift = 0.0 if condition is None else condition.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        return self.slope * x + shift


def denoiser(network: Any, schedule: Schedule, prediction: str, **options: Any) -> NetworkDenoiser:
    options = {"device": CPU, "dtype": torch.float64} | options
    return NetworkDenoiser(network, schedule, prediction, **options)  # type: ignore[arg-type]


def oracle(g: Gaussian, schedule: Schedule, prediction: str) -> Any:
    """The perfect network for a Gaussian: it predicts its target from E[x_0 | x] and E[eps | x]."""

    def network(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        if schedule.steps is None:
            sigma = t.double() / 1000
            alpha = 1 - sigma
        else:
            table = schedule.table()
            index = t.double()
            assert bool((index == index.round()).all())
            alpha, sigma = (v[index.long()] for v in table)
        alpha, sigma = alpha[:, None], sigma[:, None]
        x0 = g(x, alpha, sigma)
        return target(x0, (x - alpha * x0) / sigma, alpha, sigma, prediction=prediction)  # type: ignore[arg-type]

    return network


PAIRS = [(vp_linear(), p) for p in ("epsilon", "v_prediction", "sample")] + [(flow(), "flow_prediction")]


@pytest.mark.parametrize(("schedule", "prediction"), PAIRS, ids=[p for _, p in PAIRS])
@pytest.mark.parametrize("coordinates", ["vp", "ve", "flow"])
def test_a_perfect_network_is_the_exact_denoiser(schedule: Schedule, prediction: str, coordinates) -> None:
    """Whatever it predicts and in whatever coordinates it is asked."""
    g = gaussian([4.0, 1.0, 0.1], seed=1)
    denoise = denoiser(oracle(g, schedule, prediction), schedule, prediction)
    for level in list(Levels.of(schedule, 10))[1:-1]:
        a, s = (torch.tensor(v, dtype=torch.float64) for v in level)
        c = rescale(a, s, coordinates)
        x = float(c) * g.sample(randn(3, 3, seed=2), level=level)
        tolerance = 1e-4 if prediction == "flow_prediction" else 1e-9  # a flow time is read in float32
        assert rel(denoise(x, float(c * a), float(c * s)), g(x, float(c * a), float(c * s))) < tolerance


def test_a_perfect_network_samples_like_the_exact_theory() -> None:
    g, levels = gaussian([4.0, 1.0, 0.1], seed=1), Levels.of(vp_linear(), 20)
    x = randn(4, 3, seed=3)
    denoise = denoiser(oracle(g, vp_linear(), "v_prediction"), vp_linear(), "v_prediction")
    for solver in ("ddim", "heun", "dpmpp2m", "ancestral"):
        ours, exact = (solve(d, x, levels, solver=solver, progress=False) for d in (denoise, g))
        assert rel(ours.x, exact.x) < 1e-9 and ours.nfe == exact.nfe


# time


def test_training_levels_have_whole_times() -> None:
    """Every training level, in every coordinate system, is asked at exactly its own index."""
    schedule = vp_linear()
    alpha, sigma = schedule.table()
    index = torch.arange(1000, dtype=torch.float64)
    for coordinates in ("vp", "ve", "flow"):
        c = rescale(alpha, sigma, coordinates)
        assert torch.equal(schedule.time(c * alpha, c * sigma), index)


def test_the_network_sees_the_interpolated_time_and_not_a_truncated_one() -> None:
    schedule, network = vp_linear(), Recorder()
    alpha, sigma = schedule.table()
    logsnr = alpha.log() - sigma.log()
    half = (logsnr[300] + logsnr[301]) / 2
    a, s = torch.sigmoid(2 * half).sqrt(), torch.sigmoid(-2 * half).sqrt()
    denoiser(network, schedule, "epsilon")(randn(2, 3), float(a), float(s))
    (_, t, _) = network.calls[0]
    assert t.shape == (2,) and t.dtype == torch.float32
    assert t.tolist() == pytest.approx([300.5, 300.5], abs=1e-3)


@given(i=st.integers(0, 998), share=st.floats(0, 1))
def test_time_is_linear_in_log_snr_between_training_levels(i: int, share: float) -> None:
    alpha, sigma = vp_linear().table()
    ratio = torch.exp((1 - share) * (sigma[i] / alpha[i]).log() + share * (sigma[i + 1] / alpha[i + 1]).log())
    t = vp_linear().time(torch.ones(1), ratio.reshape(1))
    assert float(t[0]) == pytest.approx(i + share, abs=1e-4)


@pytest.mark.parametrize("level", [(1.0, 0.009), (0.0, 1.0), (0.006, 1.0), (1.0, 200.0)])
def test_levels_outside_training_are_refused(level: tuple[float, float]) -> None:
    for prediction in ("epsilon", "v_prediction"):
        with pytest.raises(ValueError, match=r"was trained from sigma/alpha 0.01 to 157.4 and was asked at"):
            denoiser(Recorder(), vp_linear(), prediction)(randn(1, 3), *level)


def test_states_of_another_shape_are_refused() -> None:
    denoise = denoiser(Recorder(), vp_linear(), "epsilon", shape=(1, 4, 4))
    assert denoise(randn(2, 1, 4, 4), 0.8, 0.6).shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"has shape \(1, 4, 4\), got \(3, 8, 8\)"):
        denoise(randn(2, 3, 8, 8), 0.8, 0.6)


def test_a_condition_is_the_third_argument_and_the_output_may_carry_a_sample() -> None:
    seen = []

    def network(*arguments: torch.Tensor) -> Any:
        seen.append(len(arguments))
        return arguments[0] if len(seen) == 1 else SimpleNamespace(sample=arguments[0] + arguments[2])

    call = call_unet(network)  # type: ignore[arg-type]
    x, t = randn(2, 3), torch.zeros(2)
    assert torch.equal(call(x, t, None), x) and torch.equal(call(x, t, torch.ones(2, 1)), x + 1)
    assert seen == [2, 3]


def test_guidance_is_combined_in_float32() -> None:
    """Two half-precision outputs that differ in their last digit: w times the difference is not rounded again."""
    condition = torch.tensor([1.0])
    x = torch.full((1, 1), 100.0)
    denoise = denoiser(
        Recorder(0.0), vp_linear(), "sample", condition=condition, unconditional=torch.tensor([0.996]),
        guidance=0.3, dtype=torch.bfloat16,
    )  # fmt: skip
    low, high = (torch.tensor(v, dtype=torch.bfloat16).double() for v in (0.996, 1.0))
    assert rel(denoise(x, 0.8, 0.6), (low + 0.3 * (high - low)).reshape(1, 1)) < 1e-6


def test_a_schedule_without_a_clock_is_refused() -> None:
    schedule = Schedule("mine", lambda t: (1 - t, t), "flow")
    with pytest.raises(ValueError, match="no network time is known for the schedule 'mine'"):
        denoiser(Recorder(), schedule, "sample")(randn(1, 3), 0.8, 0.6)


def test_a_level_per_sample_is_one_call() -> None:
    network = Recorder()
    denoise = denoiser(network, vp_linear(), "v_prediction")
    alpha, sigma = vp_linear().table()
    index = torch.tensor([10, 500, 990])
    x = randn(3, 2, 2, seed=4)
    together = denoise(x, alpha[index].reshape(3, 1, 1), sigma[index].reshape(3, 1, 1))
    assert len(network.calls) == 1 and network.calls[0][1].tolist() == [10.0, 500.0, 990.0]
    one_by_one = [denoise(x[i : i + 1], float(alpha[k]), float(sigma[k])) for i, k in enumerate(index.tolist())]
    assert rel(together, torch.cat(one_by_one)) < 1e-12


# guidance


def conditioned(network: Any, w: float, **options: Any) -> NetworkDenoiser:
    without = torch.tensor([0.2], dtype=torch.float64)
    return denoiser(network, vp_linear(), "v_prediction", unconditional=without, guidance=w, **options)


def test_guidance_is_one_batched_forward() -> None:
    network, condition = Recorder(), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    x, level = randn(3, 2, seed=5), (0.8, 0.6)
    guided = conditioned(network, 3.0, condition=condition)(x, *level)
    assert len(network.calls) == 1
    seen, t, labels = network.calls[0]
    assert len(seen) == len(t) == len(labels) == 6
    assert torch.equal(seen[:3], seen[3:]) and labels.tolist() == [0.2] * 3 + [1.0, 2.0, 3.0]
    u = denoiser(network, vp_linear(), "v_prediction", condition=torch.tensor([0.2]))(x, *level)
    c = denoiser(network, vp_linear(), "v_prediction", condition=condition)(x, *level)
    assert rel(guided, u + 3.0 * (c - u)) < 1e-6


def test_guidance_of_one_skips_the_unconditional_half() -> None:
    network, condition = Recorder(), torch.tensor([1.0], dtype=torch.float64)
    plain = conditioned(network, 1.0, condition=condition)(randn(3, 2, seed=5), 0.8, 0.6)
    assert len(network.calls) == 1 and len(network.calls[0][0]) == 3
    assert network.calls[0][2].tolist() == [1.0, 1.0, 1.0]  # one condition serves the batch
    same = denoiser(Recorder(), vp_linear(), "v_prediction", condition=condition)(randn(3, 2, seed=5), 0.8, 0.6)
    assert torch.equal(plain, same)


@pytest.mark.parametrize(("w", "factor"), [(1.0, 1), (0.0, 2), (7.5, 2)])
def test_nfe_counts_both_halves(w: float, factor: int) -> None:
    network = Recorder()
    denoise = conditioned(network, w, condition=torch.tensor([1.0]))
    run = solve(denoise, randn(2, 2, seed=6), Levels.of(vp_linear(), 5), solver="heun", progress=False)
    assert run.nfe == factor * 9
    assert len(network.calls) == 9


def test_guidance_refusals() -> None:
    with pytest.raises(ValueError, match="guidance needs a condition"):
        denoiser(Recorder(), vp_linear(), "epsilon", guidance=3.0)
    with pytest.raises(ValueError, match="2 conditions for a batch of 3"):
        denoiser(Recorder(), vp_linear(), "epsilon", condition=torch.zeros(2))(randn(3, 2), 0.8, 0.6)


# precision and gradients


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_network_runs_in_its_own_dtype_and_the_rest_in_that_of_x(device: torch.device, dtype: torch.dtype) -> None:
    network = Recorder()
    denoise = denoiser(network, vp_linear(), "v_prediction", dtype=torch.bfloat16, device=device)
    x = randn(2, 1, 4, 4, seed=7).to(device, dtype)
    out = denoise(x, 0.8, 0.6)
    assert out.dtype == dtype and out.shape == x.shape and out.device.type == device.type
    assert network.calls[0][0].dtype == torch.bfloat16
    assert rel(out, 0.8 * x.double() - 0.6 * 0.5 * x.double()) < (1e-2 if dtype != torch.bfloat16 else 2e-2)


def test_channels_last_changes_the_layout_and_not_the_result() -> None:
    x = randn(2, 3, 4, 4, seed=8)
    plain, last = Recorder(), Recorder()
    a = denoiser(plain, vp_linear(), "epsilon")(x, 0.8, 0.6)
    b = denoiser(last, vp_linear(), "epsilon", channels_last=True)(x, 0.8, 0.6)
    assert last.calls[0][0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(a, b)


def test_gradients_only_on_request() -> None:
    x = randn(2, 3, seed=9).requires_grad_()
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def network(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        return weight * x

    assert not denoiser(network, vp_linear(), "v_prediction")(x, 0.8, 0.6).requires_grad  # no half of a graph either
    out = denoiser(network, vp_linear(), "v_prediction", grad=True)(x, 0.8, 0.6)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert rel(gradient, torch.full((2, 3), 0.8 - 0.6 * 0.5)) < 1e-6


def test_nan_in_a_network_names_the_step() -> None:
    calls = []

    def network(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        calls.append(float(t[0]))
        return x * float("nan") if len(calls) == 4 else x

    levels = Levels.of(vp_linear(), 10)
    with pytest.raises(FloatingPointError, match=r"in step 3, from alpha = .* no image was made"):
        denoise = denoiser(network, vp_linear(), "epsilon")
        solve(denoise, randn(1, 3), levels, solver="ddim", progress=False)
    assert calls == [999.0, 899.0, 799.0, 699.0]
