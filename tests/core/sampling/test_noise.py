"""Noise belongs to its seed, streams keep apart, and a run can be painted on from any of its levels."""

import numpy as np
import pytest
import torch
from partners import gaussian

from painters import Levels, noise, solve
from painters.sampling import batches, paint_on, renoise
from painters.sampling.noise import FRESH, STEPS, streams
from painters.schedules import cosine


def test_a_stream_is_other_noise_and_reproducible():
    assert torch.equal(noise([3, 4], (5,), stream=FRESH), noise([3 + FRESH, 4 + FRESH], (5,)))
    assert torch.equal(torch.randn(5, generator=streams([7], stream=STEPS)[0]),
                       torch.randn(5, generator=torch.Generator().manual_seed(7 + 2**31)))  # fmt: skip


@pytest.mark.parametrize("seeds", [[0.7], [True], [np.True_], [torch.tensor(True)], ["1"], [None], torch.ones(2)])
def test_only_whole_numbers_are_seeds(seeds):
    with pytest.raises(ValueError, match="seeds are whole numbers"):
        noise(seeds, (2,))


@pytest.mark.parametrize("seeds", [3, "12", torch.tensor(3), np.int64(3)])
def test_one_seed_alone_is_refused_in_one_sentence(seeds):
    with pytest.raises(ValueError, match="seeds are whole numbers"):
        noise(seeds, (2,))


@pytest.mark.parametrize("seeds", [[-1], [2**31]])
def test_seeds_end_where_the_solvers_stream_begins(seeds):
    with pytest.raises(ValueError, match="a seed lies between"):
        noise(seeds, (2,))


@pytest.mark.parametrize("seeds", [np.arange(2), torch.arange(2), range(2), iter([0, 1])])
def test_integers_of_every_kind_are_seeds(seeds):
    assert torch.equal(noise(seeds, (2,)), noise([0, 1], (2,)))


@pytest.mark.parametrize("solver", ["heun", "ancestral"])
def test_painting_on_gives_the_end_of_the_run(solver):
    g, levels = gaussian([2.0, 1.0, 0.3], dim=6, rest=0.01), Levels.of(cosine(), 8)
    x = levels.start(noise([1, 2], (6,), dtype=torch.float64))
    run = solve(g, x, levels, solver=solver, seeds=[1, 2], progress=False)
    assert torch.equal(paint_on(g, x, levels, solver=solver, seeds=[1, 2]), run.final)
    if solver == "heun":
        assert torch.equal(paint_on(g, run.x[5], levels, start=5), run.final)


def test_renoised_states_have_noise_of_their_own():
    x0, level = torch.ones(2, 3, dtype=torch.float64), (0.6, 0.8)
    eps = (renoise(x0, level, [4, 5]) - 0.6 * x0) / 0.8
    torch.testing.assert_close(eps, noise([4, 5], (3,), stream=FRESH).double())
    assert torch.equal(renoise(x0, level, [4, 5])[1:], renoise(x0[1:], level, [5]))


def test_batches_of_seeds():
    assert list(batches(range(5), 2)) == [(0, 1), (2, 3), (4,)]
    with pytest.raises(ValueError, match="at least 1 image, got 0"):
        list(batches([1], 0))
