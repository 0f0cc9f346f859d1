"""The benchmarks run, and count what they say they count."""

import importlib.util
from pathlib import Path

import pytest
import torch

from atelier.linalg import singular


def benchmark(name):
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def krylov():
    return benchmark("krylov")


def test_ratios_are_taken_within_a_round_and_the_first_round_only_warms_up(monkeypatch):
    sampling, clock, slow = benchmark("sampling"), [0.0], [100.0, 1.0, 3.0, 1.0, 7.0, 2.0]
    monkeypatch.setattr(sampling.time, "perf_counter", lambda: clock[0])
    pace = iter(slow)  # the machine is slower in some rounds, for all runs

    def plain():
        clock[0] += (now := next(pace))
        plain.now = now

    def twice():
        clock[0] += 2 * plain.now

    found = sampling.ratios({"plain": plain, "twice": twice}, torch.device("cpu"), rounds=5)
    assert found == {"plain": 1.0, "twice": 2.0}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_accuracy_of_each_number_of_blocks_is_that_of_a_search_of_its_own():
    J = random(30, 30) * torch.logspace(0, -2, 30, dtype=torch.float64)
    start = random(3, 30, seed=1)
    errors = krylov().krylov(lambda v: v @ J.T, lambda u: u @ J, start, 5, 3)
    assert krylov().krylov(lambda v: v @ J.T, lambda u: u @ J, start, 5, 4)[0] == float("inf")
    for blocks, error in enumerate(errors, 1):
        found = singular(lambda v: v @ J.T, lambda u: u @ J, start, blocks=blocks)
        assert error == pytest.approx(float((found.residuals / found.values)[:3].max()), rel=1e-6)


def test_subspace_iteration_is_power_iteration_with_the_known_rate():
    S = torch.tensor([1.0, 0.8, *[0.1] * 8], dtype=torch.float64)
    errors = list(krylov().subspace(lambda v: v * S, lambda u: u * S, random(1, 10, seed=1), 12))
    assert errors[-1] / errors[-2] == pytest.approx(0.8**2, rel=0.05)
    assert krylov().needed(errors, errors[4]) == 5
    assert krylov().needed(errors, 0.0) is None


def test_the_race_runs_on_a_network(capsys):
    krylov().main(
        ["--model=fashion-ddpm", "--device=cpu", "--k=2", "--width=1", "--steps=2", "--most=6", "--accuracy", "0.5"]
    )
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(", ")[-1].split()[0] for line in lines[-2:]] == ["cold", "warm"]
    assert lines[-1].startswith("whole map, 2 steps")
    ratios = [line.split()[-1].lstrip(">") for line in lines[3:]]
    assert all(ratio == "-" or float(ratio) > 0 for ratio in ratios)
    assert any(ratio != "-" for ratio in ratios)


class Diagonal:
    def __init__(self, values):
        self.values = values

    def push(self, v):
        return v * self.values

    pull = push


def test_the_race_prints_products_and_their_ratio():
    run, start = Diagonal(torch.logspace(0, -3, 200, dtype=torch.float64)), random(4, 200, seed=2)
    module = krylov()
    (words,) = module.race(run, start, 2, 60, [0.01])
    ours = module.krylov(run.push, run.pull, start[:2], 40, 4)
    plain = list(module.subspace(run.push, run.pull, start, 60))
    fast, slow = 2 * 2 * module.needed(ours, 0.01), 2 * 4 * module.needed(plain, 0.01)
    assert words.split() == [str(fast), str(slow), f"{slow / fast:.1f}"]
    assert slow > 2 * fast
