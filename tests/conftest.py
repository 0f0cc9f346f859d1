"""Shared set-up of the tests: one thread, the reason why GPU tests are skipped, and CIFAR-10's Gaussian."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import numpy as np
import partners
import pytest
import torch
from browsing import browser

from painters import Gaussian

__all__ = ["browser"]  # here and nowhere else: a process has one Playwright
DATA = Path(__file__).parent / "data"

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)  # the tensors are tiny: more threads are slower

hypothesis.settings.register_profile("painters", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "painters"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``gpu``, with the reason, where torch sees no CUDA device."""
    if torch.cuda.is_available():
        return
    why = f"needs a CUDA device, and torch {torch.__version__} sees none; run `pytest -m gpu` on a machine with a GPU"
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Put what ``partners.agree`` compared into the test's report, and hold its marker ``claim`` to what it judged."""
    partners.COMPARED.clear()
    partners.JUDGED.clear()
    outcome = yield
    item.user_properties.append(("compared", list(partners.COMPARED)))
    for row in (row for marker in item.iter_markers("claim") for row in marker.args):
        assert partners.JUDGED.get(row) == {True, False}, f"{row}: judge a world in which it holds and one in which not"
    return outcome


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and CUDA where there is one."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def cifar() -> Gaussian:
    """The Gaussian with CIFAR-10's mean and covariance in its own eigenbasis (U = 1), in [-1, 1] units, D = 3072."""
    with np.load(DATA / "cifar10_spectrum.npz") as file:
        lam, mu = (torch.from_numpy(file[key]) for key in ("eigenvalues", "mean_coefficients"))
    return Gaussian(mu, torch.eye(len(lam), dtype=torch.float64), lam)
