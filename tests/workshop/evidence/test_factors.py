"""Commitment: the affine law in a Gaussian world, never below it for an exact posterior, and its order."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from partners import matched, r2

from atelier.data import scenes
from atelier.data.controls import checkerboard
from atelier.data.law import FactorLaw
from atelier.data.scenes import Factor
from atelier.evidence import factors
from atelier.evidence.factors import (
    Answers,
    explained,
    half_levels,
    instrument,
    law,
    legibility,
    measure,
    nested,
)
from atelier.scoring import Known, known, per_factor
from atelier.subject import Settings, Subject, subject
from painters import Gaussian, Levels, Mixture, noise, solve
from painters.schedules import vp_linear
from painters.theory import emergence

LAM = torch.tensor([50.0, 3.0, 0.4, 0.02], dtype=torch.float64)
DIRECTIONS = torch.tensor([[1.0, 0.3], [0.5, -2.0], [-1.0, 0.1], [0.2, 4.0]], dtype=torch.float64)


def world():
    """A Gaussian world in the plain axes with two facts, f = x_0 W, and their exact posterior mean."""
    g = Gaussian(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64), LAM)
    spread = (LAM[:, None] * DIRECTIONS.square()).sum(0)
    return g, FactorLaw(g, LAM[:, None] * DIRECTIONS, torch.zeros(2).double(), spread)


def white(n):
    """Noise (n, 4) whose sample moments are exactly 0 and 1."""
    z = noise(range(n), (4,), dtype=torch.float64)
    z = z - z.mean(0)
    return z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / n)).T


def read_run(run, affine):
    given = torch.stack([affine.estimate(x, *level) for x, level in zip(run.x[:-1], run.levels)], 1)
    return Answers(given, affine.estimate(run.final, 1.0, 0.0), (1, 1))


def test_under_the_ode_the_spread_is_the_law_and_r2_is_more():
    g, affine = world()
    levels = Levels.of(vp_linear(), 30, spacing="logsnr")
    start = g.sample(white(50), level=levels[0])
    answers = read_run(g.trajectory(start, levels), affine)
    known, spread = answers.scores()
    expected = torch.stack([r2(affine, level) for level in levels[:-1]])
    torch.testing.assert_close(spread, expected, rtol=1e-8, atol=1e-12)
    part = LAM[:, None] * DIRECTIONS.square() / affine.variance
    shares = torch.stack([emergence(LAM, level) for level in levels[:-1]])
    torch.testing.assert_close(known, 2 * shares.sqrt() @ part - shares @ part, rtol=1e-8, atol=1e-12)
    assert float((known - spread).max()) > 0.4


def test_under_the_sde_r2_and_spread_are_the_law():
    g, affine = world()
    levels = Levels.of(vp_linear(), 200, spacing="logsnr")
    seeds = range(1500)
    start = g.sample(noise(seeds, (4,), dtype=torch.float64), level=levels[0])
    run = solve(g, start, levels, solver="ancestral", seeds=seeds, progress=False)
    expected = torch.stack([r2(affine, level) for level in levels[:-1]])
    for score in read_run(run, affine).scores():
        torch.testing.assert_close(score, expected, rtol=0, atol=0.06)


@pytest.mark.parametrize("solver", ["dpmpp2m", "ancestral"])
def test_answers_are_read_along_the_run_of_each_seed_whatever_the_batches(solver):
    g, _ = world()
    who = Subject("small", g, g, (4,), lambda n, **_: Levels.of(vp_linear(), n), lambda x: x, kind="gaussian")
    seeds, levels = [7, 3, 5], who.levels(6)

    def read(x, x0, alpha, sigma):
        return torch.cat([x, 10 * x0, torch.full((len(x), 2), alpha).double() * torch.tensor([1, sigma])], 1)

    run = solve(g, levels.start(noise(seeds, (4,))), levels, solver=solver, seeds=seeds, progress=False)
    for every in (1, 2):
        given, final = factors.answer(who, read, seeds, levels, every, solver=solver, batch=2)
        kept = range(0, 6, every)
        want = torch.stack([read(run.x[i], run.x0[i], *levels[i]) for i in kept], 1)
        torch.testing.assert_close(given, want)
        torch.testing.assert_close(final, read(run.final, run.final, 1.0, 0.0))


def test_legibility_is_the_share_explained_of_each_factor():
    drawn = torch.Generator().manual_seed(2)
    kinds = torch.nn.functional.one_hot(torch.randint(3, (11,), generator=drawn), 3).double()
    facts = torch.cat([kinds, torch.rand(11, 1, generator=drawn).double()], 1)
    said = facts + 0.2 * torch.randn(11, 4, generator=drawn, dtype=torch.float64)
    data = Known(said, facts, (Factor("hue", "areas", tuple("abc")), Factor("size", "areas")))
    missed, whole = (said - facts).numpy() ** 2, facts.numpy().var(0)
    want = [1 - missed[:, :3].sum() / 11 / whole[:3].sum(), 1 - missed[:, 3].mean() / whole[3]]
    for batch in (4, 250):
        found = legibility(lambda x, x0, a, s: x if (a, s) == (1.0, 0.0) else 0 * x, data, batch=batch)
        assert found.tolist() == pytest.approx(want)


def test_nested_levels_are_every_second_of_the_fine_ones():
    who = Subject("small", *[world()[0]] * 2, (4,), lambda n, spacing: Levels.of(vp_linear(), n, spacing=spacing), abs)
    for steps, sizes in ((8, (4, 7)), (9, (5, 9)), (2, (1, 1))):
        coarse, fine = nested(who, steps)
        assert (coarse.steps, fine.steps) == sizes
        torch.testing.assert_close(fine.ratio, Levels.of(vp_linear(), sizes[1], spacing="even").ratio)
        kept = [*range(0, fine.steps, 2), fine.steps]
        assert torch.equal(coarse.alpha, fine.alpha[kept]) and torch.equal(coarse.sigma, fine.sigma[kept])


def test_categorical_answers_are_summed_over_their_kinds_and_seeds_can_be_weighed():
    generator = torch.Generator().manual_seed(1)
    final, given = (torch.rand(*size, generator=generator, dtype=torch.float64) for size in ((7, 5), (7, 2, 5)))
    answers = Answers(given, final, (3, 1, 1))
    r2, spread = answers.scores()
    missed = (given[:, 1, :3] - final[:, :3]).square().sum(1).mean()
    whole = final[:, :3].var(0, correction=0).sum()
    assert float(r2[1, 0]) == pytest.approx(1 - float(missed / whole))
    assert float(spread[1, 0]) == pytest.approx(float(given[:, 1, :3].var(0, correction=0).sum() / whole))
    weights = torch.tensor([2.0, 0, 1, 1, 1, 1, 1])
    rows = [0, 0, 2, 3, 4, 5, 6]
    for a, b in zip(answers.scores(weights), Answers(given[rows], final[rows], (3, 1, 1)).scores()):
        torch.testing.assert_close(a, b)
    still = Answers(given, torch.ones_like(final), (3, 1, 1)).scores()
    assert still[0].isnan().all() and still[1].isnan().all()
    assert per_factor(torch.arange(5.0), (3, 1, 1)).tolist() == [3, 3, 4]


def test_crossed_halves_do_not_find_what_is_not_there():
    generator = torch.Generator().manual_seed(3)
    x, f = (torch.randn(400, m, generator=generator, dtype=torch.float64) for m in (200, 3))
    g = Gaussian(torch.zeros(200).double(), torch.eye(200).double(), torch.ones(200).double())
    data = Known(x, f, tuple(Factor(name, "areas") for name in "abc"))
    fair, unfair = (explained(*law(g, data, crossed=crossed), (1.0, 0.0)) / f.var(0) for crossed in (True, False))
    assert float(fair.abs().max()) < 0.25 and float(unfair.min()) > 0.3
    data = replace(data, facts=x[:, :3] + f)
    fair, unfair = (explained(*law(g, data, crossed=c), (1.0, 0.0)) / data.facts.var(0) for c in (True, False))
    assert fair.tolist() == pytest.approx([0.5] * 3, abs=0.2) and float(unfair.min()) > 0.65
    half = explained(*law(g, data), (1.0, 1.0))
    torch.testing.assert_close(half, explained(*law(g, data), (1.0, 0.0)) / 2)


def test_the_law_rests_on_the_covariance_that_numpy_finds():
    x, f = (torch.randn(9, m, generator=torch.Generator().manual_seed(m), dtype=torch.float64) for m in (6, 3))
    f = f + torch.tensor([5.0, 0.0, -2.0]) + x[:, :3]
    g = Gaussian(torch.ones(6).double(), torch.eye(6).double(), torch.linspace(3, 1, 6).double())
    data = Known(x.float(), f, tuple(Factor(name, "areas") for name in "abc"))

    def covariance(rows):
        return torch.from_numpy(np.cov(data.states[rows].double().T, f[rows].T)[:6, 6:])

    affine, other = law(g, data)
    torch.testing.assert_close(affine.covariance, covariance(slice(0, None, 2)))
    torch.testing.assert_close(other, covariance(slice(1, None, 2)))
    torch.testing.assert_close((affine.mean, affine.variance), (f.mean(0), f.var(0)))
    affine, other = law(replace(g, U=g.U[:, :4], lam=g.lam[:4], rest=0.1), data, crossed=False)
    inside = covariance(slice(None)) * torch.tensor([1, 1, 1, 1, 0, 0])[:, None]
    torch.testing.assert_close((affine.covariance, other), (inside, inside))


def test_an_exact_posterior_never_knows_less_than_the_law():
    plane, axes = torch.zeros(2).double(), torch.eye(2).double()
    shapes = (((3.0, 0.0), (0.2, 2.0)), ((-1.0, 1.0), (1.0, 0.1)), ((0.0, -3.0), (0.5, 0.5)))
    components = [Gaussian(plane + torch.tensor(m).double(), axes, torch.tensor(v).double()) for m, v in shapes]
    mixture = Mixture(torch.tensor([0.5, 0.3, 0.2]).double(), tuple(components))
    x = mixture.sample(20_000, seed=5)
    generator = torch.Generator().manual_seed(6)
    kinds = torch.multinomial(mixture.responsibilities(x), 1, generator=generator)[:, 0]
    facts = torch.nn.functional.one_hot(kinds, 3).double()
    data = Known(x, facts, (Factor("component", "areas", ("a", "b", "c")),))
    world = Subject("mixture", mixture, matched(mixture), (2,), lambda n: Levels.of(vp_linear(), n), lambda x: x)
    levels = Levels.of(vp_linear(), 12, spacing="logsnr")[:-1]
    affine, other = law(world.gaussian, data)
    whole = facts.var(0).sum()
    linear = torch.stack([explained(affine, other, level).sum() / whole for level in levels])
    noises = torch.randn(x.shape, generator=generator, dtype=torch.float64)

    def share(read):
        """What an instrument knows of noised data, by level."""
        missed = [(read(a * x + s * noises, a, s) - facts).square().sum(1).mean() for a, s in levels]
        return 1 - torch.stack(missed) / facts.var(0, correction=0).sum()

    best = share(mixture.responsibilities)
    assert float((best - linear).min()) > -0.01 and float((best - linear).max()) > 0.15
    torch.testing.assert_close(share(affine.estimate), linear, rtol=0, atol=0.02)
    clean = legibility(lambda x, x0, a, s: mixture.responsibilities(x, a, s), data, batch=5000)
    assert float(best[-1]) < float(clean) < 1


def test_half_levels_are_found_and_keep_the_predicted_order():
    logsnr = torch.linspace(-8, 8, 60, dtype=torch.float64)
    shift = torch.tensor([4.0, 1.0, 0.0, -3.0], dtype=torch.float64)
    curves = torch.cat([torch.sigmoid(logsnr[:, None] + shift), torch.ones(1, 4)])
    n = 40
    z = torch.linspace(-1, 1, n, dtype=torch.float64)
    given = curves[:-1].sqrt() * z[:, None, None]
    ode = Answers(given, z[:, None].expand(n, 4), (1,) * 4)
    sde = Answers(curves[:-1].flip(1) * z[:, None, None], z[:, None].expand(n, 4), (1,) * 4)
    linear = 0.8 * curves
    found = half_levels({"ode": ode, "sde": sde}, logsnr, linear, draws=20)
    expected = torch.exp(shift / 2).tolist()
    assert [row["value"] for row in found["half"]] == pytest.approx(expected, rel=0.01)
    assert found["half_law"] == pytest.approx(expected, rel=0.01)
    assert found["rank"]["rho"] == pytest.approx(1) and found["rank"]["p"] == pytest.approx(1 / 24)
    assert found["rank_sde"]["rho"] == pytest.approx(-1)
    use = torch.tensor([True, True, True, False])
    some = half_levels({"ode": ode, "sde": sde}, logsnr, linear, use=use, draws=5)
    assert some["rank"]["n"] == 3 and np.isnan([row["value"] for row in some["half"]]).tolist() == [0, 0, 0, 1]
    nothing = half_levels({"ode": ode, "sde": sde}, logsnr, 0.04 * curves, draws=5)
    assert np.isnan(nothing["half_law"]).all() and "rank" not in nothing


def test_two_factors_have_no_rank_correlation():
    logsnr = torch.linspace(-8, 8, 60, dtype=torch.float64)
    curves = torch.cat([torch.sigmoid(logsnr[:, None] + torch.tensor([2.0, 0.0, -2.0])), torch.ones(1, 3)])
    z = torch.linspace(-1, 1, 9, dtype=torch.float64)
    said = Answers(curves[:-1].sqrt() * z[:, None, None], z[:, None].expand(9, 3), (1,) * 3)
    both = {"ode": said, "sde": said}
    assert half_levels(both, logsnr, curves, draws=5)["rank"]["rho"] == pytest.approx(1)
    two = half_levels(both, logsnr, curves, use=torch.tensor([True, True, False]), draws=5)
    assert not any(key.startswith("rank") for key in two)


def test_known_factors_belong_to_their_states():
    scenes_sd = subject("scenes-sd", device="cpu")
    data = known(scenes_sd, 3, test=True)
    assert data is not None and data.states.shape == (3, *scenes_sd.shape) and data.facts.shape[0] == 3
    values = scenes.sample(3, scenes.TEST_SEEDS.start).values
    assert data.facts[:, :4].argmax(1).tolist() == values["sky"].tolist()
    assert data.facts[:, 8].tolist() == pytest.approx(values["horizon"].tolist())
    assert known(Subject("none", data.states, None, (1,), None, None), 3, test=True) is None  # type: ignore[arg-type]


def test_a_checkerboard_is_turned_back_before_reading():
    plain = subject("fashion-ddpm")
    assert plain.model is not None
    card = plain.model.card | {"training": plain.model.card["training"] | {"variant": "checkerboard"}}
    board = replace(plain, model=replace(plain.model, card=card))
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    g = plain.gaussian
    affine = FactorLaw(g, torch.zeros(g.dim, 10).double(), torch.zeros(10).double(), torch.ones(10).double())
    (how, read), (_, turned) = (instrument(s, affine) for s in (plain, board))
    assert how == "states"
    torch.testing.assert_close(turned(checkerboard(x), x, 0.7, 0.7), read(x, x, 0.7, 0.7))
    assert float((turned(x, x, 0.7, 0.7) - read(x, x, 0.7, 0.7)).abs().max()) > 0.01
    torch.testing.assert_close(board.look(checkerboard(x)), plain.look(x))


class Stub:
    """A reader of latents that knows one factor, the sign of their mean, and remembers what it was shown."""

    factors = (Factor("sign", "areas", ("minus", "plus")),)

    def __init__(self):
        self.shown = []

    def read(self, x, alpha, sigma):
        self.shown.append((x, alpha, sigma))
        plus = (x.flatten(1).mean(1) > 0).double()
        return {"sign": torch.stack([1 - plus, plus], 1)}


def test_latents_are_read_as_they_are_where_there_is_a_reader_of_them(monkeypatch):
    scenes_sd, stub = subject("scenes-sd", device="cpu"), Stub()
    g = scenes_sd.gaussian
    affine = FactorLaw(g, torch.zeros(g.dim, 2).double(), torch.zeros(2).double(), torch.ones(2).double())
    monkeypatch.setattr(factors, "latent_reader", lambda subject: None)
    assert instrument(scenes_sd, affine)[0] == "endpoints"
    monkeypatch.setattr(factors, "latent_reader", lambda subject: stub)
    how, read = instrument(scenes_sd, affine)
    x = torch.linspace(-1, 1, 3)[:, None, None, None].expand(3, *scenes_sd.shape) + 0.1
    said = read(x, torch.zeros_like(x), 0.6, 0.8)
    assert how == "states" and said.tolist() == [[1, 0], [0, 1], [0, 1]]
    [(shown, alpha, sigma)] = stub.shown
    assert torch.equal(shown, x) and (alpha, sigma) == (0.6, 0.8), "the noisy state and its level, not the estimate"
    assert instrument(scenes_sd.theory(), affine)[0] == "affine" and len(stub.shown) == 1


def test_the_reader_of_latents_is_the_one_of_the_subjects_own_autoencoder(monkeypatch, tmp_path):
    scenes_sd = subject("scenes-sd", device="cpu")
    for name, training in {
        "pictures": {"states": "pixels", "autoencoder": None},
        "other": {"states": "latents", "autoencoder": "another"},
        "own": {"states": "latents", "autoencoder": "scenes-sd"},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(json.dumps({"training": training}))
    monkeypatch.setattr(factors, "BUNDLED", tmp_path)
    monkeypatch.setattr(factors, "bundled", lambda kind: ("other", "own", "pictures"))
    monkeypatch.setattr(factors, "load_reader", lambda name: name)
    assert factors.latent_reader(scenes_sd) == "own"
    assert factors.latent_reader(replace(scenes_sd, name="scenes-xl")) is None


def test_measuring_the_theory_and_a_network(monkeypatch):
    network, crossed = subject("scenes-sd"), []
    settings = Settings(seeds=tuple(range(6)), steps=8, profile="ci", batch=6)
    monkeypatch.setattr(factors, "law", lambda *given, **how: crossed.append(how["crossed"]) or law(*given, **how))
    theory = json.loads(json.dumps(measure(network.theory(), settings)))
    assert theory["read"] == "affine" and theory["seeds"] == {"ode": 6, "sde": 3}
    assert [levels.steps for levels in nested(network, 8)] == [4, 7]
    assert theory["factors"] == list(scenes.NAMES) and len(theory["half_law"]) == 20
    found = json.loads(json.dumps(measure(network, settings)))
    assert found["read"] == "states" and len(found["half_sde"]) == len(found["legible"]) == 20
    assert found["seeds"] == {"ode": 6, "sde": 3}
    assert crossed == [False, True], "in a Gaussian world the covariance of all data is the truth"
    assert measure(network.mean_only(), settings) is None
