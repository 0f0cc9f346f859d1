"""The reference of the probability-flow ODE: against an independent solver, and kept seed by seed."""

import json
import math
from dataclasses import replace

import pytest
import torch
from worlds import GAUSSIAN, MIXTURE, on_law, on_network

from atelier.faster import references
from atelier.faster.references import References, adams, grid_of, integrate
from painters.schedules import cosine, flow, vp_linear


@pytest.mark.parametrize("law", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("schedule", [vp_linear(), flow()], ids=["vp", "flow"])
def test_it_agrees_with_an_adaptive_solver(law, schedule):
    """Of the Gaussian the surrogate is another one, as it would be solved exactly by its own."""
    from scipy.integrate import solve_ivp

    target = on_law(law, schedule, gaussian=MIXTURE.components[1])
    high, low = target.range
    x = target.noise(range(3)) * math.hypot(1, high)

    def slope(log_s, flat):
        state = torch.from_numpy(flat).reshape(x.shape)
        return (state - law(state, 1.0, math.exp(log_s))).reshape(-1).numpy()

    span = (math.log(high), math.log(low))
    run = solve_ivp(slope, span, x.reshape(-1).numpy(), method="DOP853", rtol=1e-11, atol=1e-12)
    exact = law(torch.from_numpy(run.y[:, -1]).reshape(x.shape), 1.0, low)
    found = integrate(target, range(3), grid_of(target))
    assert float((found - exact).norm() / exact.norm()) < 1e-6


def test_a_gaussian_is_exact_on_any_grid():
    target = on_law(GAUSSIAN, vp_linear(), gaussian=GAUSSIAN)
    high, low = target.range
    start = target.noise(range(3)) * math.hypot(1, high)
    exact = GAUSSIAN(GAUSSIAN.flow(start, frm=(1.0, high), to=(1.0, low)), 1.0, low)
    torch.testing.assert_close(integrate(target, range(3), [high, 1.0, low]), exact, rtol=0, atol=1e-9)


def test_it_needs_no_moments():
    with_, without = (on_law(MIXTURE, cosine(), gaussian=g) for g in (GAUSSIAN, None))
    a, b = (integrate(target, range(2), grid_of(target)) for target in (with_, without))
    assert float((a - b).norm() / b.norm()) < 1e-6


def test_the_weights_are_those_of_adams_and_bashforth():
    assert adams(torch.arange(5.0).numpy()) == pytest.approx([-9 / 24, 37 / 24, -59 / 24, 55 / 24])
    assert adams(torch.tensor([0.0, 0.5]).numpy()) == pytest.approx([0.5])


def test_the_grid_of_a_network_has_every_training_time_and_more_where_they_are_far_apart():
    target = on_network()
    grid, table = grid_of(target), target.table.tolist()
    assert len(grid) == 50 + 20 * 4 and grid[0] == pytest.approx(table[-1]) and grid[-1] == pytest.approx(table[0])
    assert all(min(abs(s / t - 1) for s in grid) < 1e-9 for t in table)
    assert len(grid_of(target, 2)) == 2 * len(grid) - 1


def test_an_interrupted_reference_continues_with_the_next_batch(tmp_path, monkeypatch):
    target = on_network()
    made, real = [], references.integrate

    def stops(target, seeds, *args, **options):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(tuple(seeds))
        return real(target, seeds, *args, **options)

    monkeypatch.setattr(references, "integrate", stops)
    kept = References.of(target, root=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        kept.images(range(6), batch=2, progress=False)
    monkeypatch.setattr(
        references,
        "integrate",
        lambda target, seeds, *rest, **o: made.append(tuple(seeds)) or real(target, seeds, *rest, **o),
    )
    images = References.of(target, root=tmp_path).images(range(6), batch=2, progress=False)
    assert made == [(0, 1), (2, 3), (4, 5)]
    torch.testing.assert_close(images, real(target, range(6), kept.grid), rtol=0, atol=1e-4)


def test_the_difference_of_two_resolutions_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "CHECKED", 2)
    target = on_network()
    kept = References.of(target, root=tmp_path)
    first = kept.difference(range(7, 1, -1), progress=False)
    assert 0 < first < 0.05
    coarse, fine = (References.of(target, fine=n, root=tmp_path).images([7, 6], progress=False) for n in (1, 2))
    assert first == pytest.approx(float((coarse - fine).norm() / fine.norm()), rel=1e-3)
    told = json.loads((kept.folder / "difference.json").read_text())
    assert told == {"seeds": [7, 6], "difference": first}, "of the first seeds"
    monkeypatch.setattr(references, "integrate", None)
    assert kept.difference(range(2), progress=False) == first


def test_other_weights_have_references_of_their_own(tmp_path):
    target = on_network()
    names = {References.of(t, root=tmp_path).folder for t in (target, replace(target, identity="others"))}
    names |= {References.of(target, fine=2, root=tmp_path).folder, References.of(target, root=tmp_path).folder}
    assert len(names) == 3


def test_a_continuous_law_has_120_levels_to_an_e():
    target = on_law(MIXTURE, flow())
    high, low = target.range
    grid = grid_of(target)
    n = math.ceil(120 * math.log(high / low))
    assert len(grid) == n - 20 + 5 * 20 and grid[0] == pytest.approx(high) and grid[-1] == pytest.approx(low)
    steps = -torch.tensor(grid).double().log().diff()
    step = math.log(high / low) / (n - 1)
    assert steps[:-100].tolist() == pytest.approx([step] * (n - 21), rel=1e-3)
    assert steps[-100:].tolist() == pytest.approx([step / 5] * 100, rel=1e-3)


def test_by_default_they_are_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PAINTERS_CACHE", str(tmp_path))
    assert References.of(on_network()).folder.parents[1] == tmp_path
