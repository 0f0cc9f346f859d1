"""Kicks against closed forms: gains, flips of exact modes, units, and what must not happen."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from partners import agree

from atelier.data.scenes.factors import Factor
from atelier.evidence import often
from atelier.evidence.kicks import (
    Contrast,
    component,
    contrast,
    exact_change,
    find_contrast,
    kick,
    off_manifold,
    random_directions,
    unit,
)
from atelier.evidence.often import KICKED, Series, directions, effect, grid, kicks_of, measure, series, whole_run
from atelier.landscape.modes import flip_probability
from atelier.subject import Settings, Subject
from painters import Gaussian, Levels, noise, solve
from painters.schedules import vp_linear
from painters.theory.gaussian import ode_gain, sde_gain
from painters.theory.mixture import Mixture

LAM = torch.tensor([30.0, 2.0, 1.0, 0.3, 0.1], dtype=torch.float64)


def rotated(lam=LAM, dim=9, rest=0.0, mean=0.5):
    basis = torch.linalg.qr(torch.randn(dim, len(lam), dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    return Gaussian(torch.full((dim,), mean, dtype=torch.float64), basis.Q, lam, rest)


def states(gaussian, level, n=3):
    return gaussian.sample(noise(range(n), (gaussian.dim,), dtype=torch.float64), level=level)


def grid_of(steps):
    return Levels.of(vp_linear(), steps, spacing="logsnr")


# gains


@pytest.mark.statement("prop-gaussian-gain")
@pytest.mark.parametrize("i", [8, 40, 100, 140])
def test_the_ode_stretches_a_kick_by_the_root_of_lam_over_v(i):
    gaussian, levels = rotated(), grid_of(161)
    x, kicks = states(gaussian, levels[i]), gaussian.U.T[:, None, :].expand(-1, 3, -1) * 0.7
    base, kicked = kick(gaussian, x, kicks, levels, i, solver="dpmpp2m", seeds=range(3))
    got = ((kicked - base) * gaussian.U.T[:, None, :]).sum(2) / 0.7
    torch.testing.assert_close(got, ode_gain(LAM, frm=levels[i])[:, None].expand(-1, 3), rtol=4e-3, atol=0)


@pytest.mark.statement("prop-gaussian-gain", "prop-steps-ancestral")
@pytest.mark.parametrize("i", [1, 4, 9, 15])
def test_the_sde_stretches_it_by_alpha_lam_over_v_in_any_number_of_steps(i):
    gaussian, levels = rotated(), grid_of(20)
    x, kicks = states(gaussian, levels[i]), gaussian.U.T[:, None, :].expand(-1, 3, -1) * 0.7
    base, kicked = kick(gaussian, x, kicks, levels, i, solver="ancestral", seeds=[5, 6, 7])
    got = ((kicked - base) * gaussian.U.T[:, None, :]).sum(2) / 0.7
    agree(got, sde_gain(LAM, frm=levels[i])[:, None].expand(-1, 3), 1e-8)


@pytest.mark.parametrize("rest", [0.0, 0.05])
@pytest.mark.parametrize("level", [(0.1, 0.99), (0.7, 0.7), (1.0, 3.0)])
def test_exact_change_is_the_dense_linear_map(rest, level):
    gaussian, alpha, sigma = rotated(rest=rest), *level
    sigma_0 = gaussian.U @ torch.diag(LAM - rest) @ gaussian.U.T + rest * torch.eye(9).double()
    values, vectors = torch.linalg.eigh(sigma_0)
    values = values.clamp(min=0)
    v = alpha**2 * values + sigma**2
    kicks = noise(range(4), (9,), dtype=torch.float64)
    for gains, stochastic in (((values / v).sqrt(), False), (alpha * values / v, True)):
        want = kicks @ vectors @ torch.diag(gains) @ vectors.T
        torch.testing.assert_close(exact_change(gaussian, kicks, level, stochastic=stochastic), want)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp2m", "ancestral"])
def test_no_kick_changes_nothing_at_all(solver):
    gaussian, levels = rotated(), grid_of(12)
    x = states(gaussian, levels[4])
    base, kicked = kick(gaussian, x, torch.zeros(2, 3, 9), levels, 4, solver=solver, seeds=[2, 0, 9])
    assert torch.equal(kicked, base.expand_as(kicked))
    alone = solve(gaussian, x, levels, solver=solver, start=4, seeds=[2, 0, 9], progress=False).final
    assert torch.equal(alone, base)


def test_the_later_noise_is_that_of_the_seed():
    gaussian, levels = rotated(), grid_of(12)
    x = states(gaussian, levels[4])[:1].expand(2, -1)
    base, _ = kick(gaussian, x, torch.zeros(1, 2, 9), levels, 4, solver="ancestral", seeds=[1, 2])
    assert float((base[0] - base[1]).abs().max()) > 0.1


@pytest.mark.parametrize("solver", ["dpmpp2m", "ancestral"])
def test_a_kick_off_the_manifold_leaves_no_trace(solver):
    gaussian, levels = rotated(), grid_of(12)
    off = off_manifold(gaussian, range(3), (9,), share=0.999999)
    assert float((off @ gaussian.U).abs().max()) < 1e-12
    base, kicked = kick(gaussian, states(gaussian, levels[2]), 5 * off[None], levels, 2, solver=solver, seeds=range(3))
    assert float((kicked[0] - base).abs().max()) < 1e-10
    assert float(exact_change(gaussian, off, levels[2]).abs().max()) < 1e-12
    assert exact_change(gaussian, off.float(), levels[2]).dtype == torch.float64


def test_off_manifold_removes_the_components_that_hold_the_share_and_no_more():
    gaussian = Gaussian(
        torch.zeros(6).double(), torch.eye(6).double(), torch.tensor([8.0, 1, 0.9, 0.05, 0.03, 0.02]).double()
    )
    off = off_manifold(gaussian, range(50), (6,))
    assert float(off[:, :3].abs().max()) < 1e-12
    assert float(off[:, 3:].square().mean(0).min()) > 0.2
    torch.testing.assert_close(off.norm(dim=1), torch.ones(50).double())


def test_cifar_random_kicks_change_least_in_the_middle_and_most_at_the_end(cifar):
    levels = Levels.of(vp_linear(), 1000)
    u = random_directions(range(40), (3072,))
    rms = [float(exact_change(cifar, u, levels[999 - t]).norm(dim=1).square().mean().sqrt()) for t in (950, 380, 0)]
    assert rms == pytest.approx([0.494, 0.287, 0.747], rel=0.06)
    first = exact_change(cifar, component(cifar, 1, (3072,)), levels[999 - 950])
    assert float(first.norm()) == pytest.approx(14.7, abs=0.1)


# directions and units


def sized(one, toy, u, levels, i):
    """Signed lengths (n,) of the kicks of a series along unit directions u."""
    return (kicks_of(one, toy, u, levels, i) * u).flatten(1).sum(1)


def test_a_standard_deviation_is_the_root_of_v_along_a_component_and_dense_elsewhere():
    gaussian, signs = rotated(dim=16, rest=0.05), torch.tensor([1.0, -1, 1, -1, 1]).double()
    toy, one = subject(gaussian), Series("ode", "any", "std", size=1.0)
    levels, i = grid(toy), 7
    alpha, sigma = levels[i]
    v = alpha**2 * LAM + sigma**2
    torch.testing.assert_close(sized(one, toy, gaussian.U.T.reshape(5, 1, 4, 4), levels, i), signs * v.sqrt())
    u = random_directions(range(5), toy.shape)
    dense = gaussian.U @ torch.diag(LAM - 0.05) @ gaussian.U.T + 0.05 * torch.eye(16).double()
    want = (alpha**2 * ((u.flatten(1) @ dense) * u.flatten(1)).sum(1) + sigma**2).sqrt()
    torch.testing.assert_close(sized(one, toy, u, levels, i), signs * want)


def test_kicks_in_standard_deviations_have_one_effect_at_every_level():
    toy = subject(rotated(dim=16))
    levels, u = grid(toy), component(toy.gaussian, 2, toy.shape).expand(4, *toy.shape)
    for i in KICKED:
        push = kicks_of(Series("ode", "PC 2", "std", size=1.5), toy, u, levels, i)
        moved = exact_change(toy.gaussian, push, levels[i])
        want = 1.5 * math.sqrt(2.0) * torch.tensor([1.0, -1, 1, -1]).double()
        torch.testing.assert_close((moved * u).sum((1, 2, 3)), want)


def test_a_length_means_the_same_in_every_coordinate_system():
    toy = subject(rotated(dim=16))
    u = random_directions(range(2), toy.shape)
    for coordinates in ("ve", "flow"):
        other = grid(toy).to(coordinates)
        for i in (2, 9):
            moved = [
                exact_change(toy.gaussian, kicks_of(Series("ode", "random"), toy, u, levels, i), levels[i])
                for levels in (grid(toy), other)
            ]
            torch.testing.assert_close(*moved)
    assert sized(Series("ode", "random"), toy, u, grid(toy), 9).tolist() == pytest.approx([2, -2])


def test_random_directions_are_unit_belong_to_the_seed_and_are_not_its_noise():
    u = random_directions([4, 7], (500,))
    torch.testing.assert_close(random_directions([7], (500,)), u[1:])
    torch.testing.assert_close(u.norm(dim=1), torch.ones(2).double())
    start = unit(noise([4, 7], (500,), dtype=torch.float64))
    assert float((u * start).sum(1).abs().max()) < 0.2 and float((u[0] * u[1]).sum().abs()) < 0.2


# flips


def modes(share=0.3, m=4.0, lam=1.0):
    parts = tuple(
        Gaussian(torch.tensor([s * m]).double(), torch.ones(1, 1).double(), torch.tensor([lam]).double())
        for s in (-1, 1)
    )
    return Mixture(torch.tensor([1 - share, share]).double(), parts)


@pytest.mark.statement("prop-landscape-flip")
@pytest.mark.parametrize("i", [30, 70, 84])
def test_flips_of_an_exact_mixture_follow_the_law(i):
    mixture, levels, n = modes(0.5), grid_of(161), 4000
    x = mixture.sample(n, level=levels[i], seed=i)
    sign = torch.ones(n, 1).double()
    sign[1::2] = -1
    base, kicked = kick(mixture, x, 1.5 * sign[None], levels, i, solver="dpmpp2m", seeds=range(n))
    share = float(((base > 0) != (kicked[0] > 0))[:, 0].double().mean())
    slack = 3.3 * (share * (1 - share) / n) ** 0.5
    assert abs(float(flip_probability(4.0, 1.0, 1.5, levels[i])) - share) < slack


def test_the_contrast_finds_the_axis_the_spread_within_and_the_groups():
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(4, (6000,), generator=generator)
    x = torch.randn(6000, 2, 3, generator=generator, dtype=torch.float64) * 0.5
    x[:, 0, 1] += torch.tensor([0.0, 0.3, 8.0, 0.1]).double()[kind] + torch.randn(6000, generator=generator)
    values = {
        "sky": kind,
        "coin": torch.randint(2, (6000,), generator=generator),
        "rare": (torch.arange(6000) < 9).long(),
    }
    x[:9, 1, 2] += 50.0
    split = contrast(x, values, {"sky": 4, "coin": 2, "rare": 2})
    assert (
        split is not None
        and split.factor == "sky"
        and {frozenset(g) for g in split.groups} == {frozenset({2}), frozenset({0, 1, 3})}
    )
    assert abs(float(split.axis[0, 1])) > 0.99 and float(split.axis.norm()) == pytest.approx(1)
    assert split.m == pytest.approx(4, abs=0.1) and split.lam == pytest.approx(1.25, rel=0.1)
    assert (float(split.axis[0, 1]) > 0) == (split.groups[1] == (2,)), "it leads from the first group to the second"
    assert contrast(x, values, {"rare": 2}) is None


def test_kinds_are_parted_by_their_means_however_many_there_are_of_each():
    counts, means = (100, 10, 1000, 1), (-5.0, 1.0, 1.1, 90.0)
    kind = torch.arange(4).repeat_interleave(torch.tensor(counts))
    x = torch.tensor(means).double()[kind][:, None] + 0.1 * random_directions(range(len(kind)), (1,))
    split = contrast(x, {"size": kind}, {"size": 4})
    assert split is not None and split.groups in (((0,), (1, 2)), ((1, 2), (0,))), "one state alone is no kind"
    right = (10 * 1.0 + 1000 * 1.1) / 1010
    assert split.m == pytest.approx((right + 5) / 2, abs=0.05)


def test_the_contrast_is_found_in_the_subjects_own_data_as_read(monkeypatch):
    toy, split = two_modes(share=0.3)
    mixture = toy.denoise
    assert isinstance(mixture, Mixture)
    monkeypatch.setattr(Subject, "data", lambda self, n: mixture.sample(n, seed=2).reshape(n, 1, 4, 4))
    found = find_contrast(toy, 2000)
    assert found is not None and found.factor == "side" and found.groups == split.groups
    assert float((found.axis * split.axis).sum()) > 0.98 and found.m == pytest.approx(split.m, rel=0.03)
    assert found.lam == pytest.approx(1.0, rel=0.1)
    monkeypatch.setattr(
        Subject, "data", lambda self, n: mixture.components[0].mu.reshape(1, 1, 4, 4).expand(n, 1, 4, 4)
    )
    assert find_contrast(toy, 50) is None, "data of one kind have no axis"
    monkeypatch.setattr(Subject, "data", lambda self, n: None)
    assert find_contrast(toy, 50) is None


# what is seen


class Sign:
    """A reader of the sign along the first PC and of the value along the second; its features are the states."""

    shape = (1, 4, 4)
    factors = (Factor("side", "masses", ("left", "right")), Factor("height", "masses"))

    def __init__(self, gaussian):
        self.gaussian = gaussian

    def look(self, pictures):
        return pictures

    def values(self, x):
        place = self.gaussian.project(x)
        return {"side": (place[:, 0] > 0).long(), "height": place[:, 1].float()}


def subject(gaussian, denoise=None):
    return Subject(
        "toy",
        denoise or gaussian,
        gaussian,
        (1, 4, 4),
        lambda n, spacing=None: Levels.of(vp_linear(), n, spacing=spacing),
        lambda x: x / 2 + 0.5,
        Sign(gaussian),  # type: ignore[arg-type]
    )


def test_every_series_has_unit_directions_of_its_own():
    toy = subject(rotated(torch.linspace(20, 0.01, 16).double(), dim=16))
    sizes = [one for one in series(toy, None) if not one.often]
    names = [one.kick for one in sizes if one.sampler == "ode"]
    assert names == ["PC 1", "PC 10", "random", "off-manifold"]
    found = torch.stack([directions(name, toy, range(3), None) for name in names])
    torch.testing.assert_close(found.flatten(2).norm(dim=2), torch.ones(4, 3).double())
    assert float((found[0] * found[3]).sum((1, 2, 3)).abs().max()) < 1e-12, "off the manifold is off PC 1"
    few = series(subject(rotated(dim=16)), None)
    assert [one.kick for one in few if not one.often] == ["PC 1", "PC 5", "random", "off-manifold", "PC 1"]
    with pytest.raises(ValueError, match="no kick 'sideways'"):
        directions("sideways", toy, [0], None)


# the record


def two_modes(share=0.5, m=5.0):
    """A subject whose data are two modes along PC 1, its reader's side, and a Gaussian cloud otherwise."""
    basis = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    lam = torch.cat([torch.ones(1), torch.linspace(2, 0.05, 15)]).double()
    parts = tuple(Gaussian(s * m * basis[:, 0], basis, lam) for s in (-1, 1))
    mixture = Mixture(torch.tensor([1 - share, share]).double(), parts)
    one = Gaussian(torch.zeros(16).double(), basis, torch.cat([lam[:1] + m**2, lam[1:]]))
    split = Contrast("side", ((0,), (1,)), basis[:, 0].reshape(1, 4, 4), m, 1.0)
    return subject(one, mixture), split


def test_measured_flips_of_two_modes_follow_the_law_and_units_decide(monkeypatch):
    toy, split = two_modes()
    monkeypatch.setattr(often, "find_contrast", lambda *_: split)
    primary = [one for one in series(toy, split) if one.often]
    monkeypatch.setattr(often, "series", lambda *_: primary)
    record = measure(toy, Settings(seeds=tuple(range(400)), steps=10, profile="full", batch=200))
    assert json.loads(json.dumps(record)) and len(record["sigma_over_alpha"]) == len(KICKED)
    assert record["contrast"] == {"factor": "side", "groups": ((0,), (1,)), "m": 5.0, "lam": 1.0}
    assert record["sigma_over_alpha"][0] > 5 and record["sigma_over_alpha"][-1] < 1, "on both sides of the fork"
    assert [(s["sampler"], s["unit"]) for s in record["series"]] == [
        (sampler, unit) for sampler in ("ode", "sde") for unit in ("length", "edm", "std")
    ]
    length, edm, std, sde = record["series"][:4]
    for one in (length, edm, std):
        assert one["n"] == 200 and one["often"]
        for found, i in zip(one["flips"], KICKED):
            level = grid(toy)[i]
            alpha, sigma = level
            root = {"length": 1.0, "edm": alpha, "std": math.sqrt(alpha**2 * (1 + 5.0**2) + sigma**2)}[one["unit"]]
            law = float(flip_probability(5.0, 1.0, 2 * root, level))
            assert found["low"] - 0.04 < law < found["high"] + 0.04
    assert length["flips"][0]["value"] > 0.35 > 0.02 > length["flips"][-1]["value"]
    assert std["flips"][-1]["value"] > 0.35
    exact = [s["value"] for s in std["exact_flips"]]
    assert max(exact) == min(exact) > 0.3, "in standard deviations one Gaussian flips alike at every level"
    assert length["exact_flips"][-1]["value"] > length["flips"][-1]["value"], "its flips never stop"
    assert sde["flips"][0]["value"] < 0.15 < max(s["value"] for s in sde["flips"])


def test_measured_gains_of_the_exact_gaussian_are_the_exact_gains():
    toy = subject(rotated(torch.linspace(20, 0.2, 16).double(), dim=16))
    record = measure(toy, Settings(seeds=tuple(range(4)), steps=10, profile="book"))
    assert record["contrast"] is None and len(record["series"]) == len(series(toy, None)) == 11
    for one in record["series"]:
        gains = [g["value"] for g in one["gain"]]
        assert gains == pytest.approx(one["exact_gain"], rel=0.04), one["kick"]
        assert [p["value"] for p in one["pixels"]] == pytest.approx(one["exact_pixels"], rel=0.04)
        if one["kick"].startswith("PC "):
            lam = toy.gaussian.lam[int(one["kick"][3:]) - 1]
            law = {"ode": ode_gain, "sde": sde_gain}[one["sampler"]]
            assert one["exact_gain"] == pytest.approx([float(law(lam, frm=grid(toy)[i])) for i in KICKED])
        assert ("flips" in one) == one["often"], "only the primary series are read"


def test_without_a_reader_sizes_are_still_measured():
    toy = replace(subject(rotated(dim=16)), reader=None)
    record = measure(toy, Settings(seeds=(0, 1), steps=10, profile="ci"))
    assert record["contrast"] is None and len(record["sigma_over_alpha"]) == 2
    assert len(record["series"]) == 5 and all("flips" not in one and one["gain"] for one in record["series"])


def test_flips_take_128_seeds_sizes_the_first_32_and_batches_leave_none_out():
    toy = subject(rotated(dim=16))
    settings = Settings(seeds=tuple(range(130)), profile="book", batch=50)
    record, whole = (measure(toy, replace(settings, batch=batch)) for batch in (50, 200))
    assert [one["n"] for one in record["series"]] == [128] * 6 + [32] * 5
    for one, same in zip(record["series"], whole["series"]):
        assert one.get("flips") == same.get("flips")
        assert [g["value"] for g in one["gain"]] == pytest.approx([g["value"] for g in same["gain"]], rel=1e-4)


@pytest.mark.parametrize("reader", [True, False])
def test_the_network_is_called_within_its_budget(reader):
    toy, calls = subject(rotated(dim=16)), []

    def counting(x, alpha, sigma):
        calls.append(len(x))
        return toy.gaussian(x, alpha, sigma)

    counted = replace(toy, denoise=counting, reader=toy.reader if reader else None)
    measure(counted, Settings(seeds=tuple(range(200)), profile="book"))
    assert sum(calls) < (50_000 if reader else 10_000)


def test_the_unkicked_run_is_the_one_of_the_same_solver_from_the_same_state():
    """A multistep solver that resumes takes a first step without history: the whole run would not do as its base."""
    toy = subject(rotated(dim=16))
    run = whole_run(toy, range(2), "ode")
    base, _ = kick(
        toy.denoise, run.x[5], torch.zeros(1, *run.x[5].shape), run.levels, 5, solver="dpmpp2m", seeds=[0, 1]
    )
    assert float((base - run.final).abs().max()) > 1e-3
    u, one = toy.gaussian.U.T[:2].reshape(2, 1, 4, 4), Series("ode", "PC 1", often=True, size=1e-9)
    still = {"": (base, toy.read(base)), "exact_": (base.double(), toy.read(base))}
    nothing = effect(toy, run, 5, one, u, still)
    assert not nothing["flips"].any() and not nothing["exact_flips"].any()


def test_the_gaussians_kicked_images_are_read_like_the_networks():
    toy, split = two_modes()
    run, u = whole_run(toy, range(40), "sde"), split.axis.expand(40, 1, 4, 4)
    still = toy.gaussian.flow(run.x[0].double(), frm=run.levels[0])
    shown = (still, toy.read(still.float()))
    got = effect(toy, run, 9, Series("sde", "axis", often=True), u, {"": shown, "exact_": shown})
    place = toy.gaussian.project(still)[:, 0]
    size = sized(Series("sde", "axis"), toy, u, run.levels, 9)
    moved = place + size * float(sde_gain(toy.gaussian.lam[0], frm=run.levels[9]))
    assert got["exact_flips"].tolist() == ((place > 0) != (moved > 0)).tolist() and bool(got["exact_flips"].any())
