"""A browser for the tests that look at pages; conftest.py imports it."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from chromium import MISSING, chromium


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; tests that ask for it are skipped where there is none."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with ExitStack() as stack:
        try:
            found = stack.enter_context(chromium())
        except FileNotFoundError:
            pytest.skip(MISSING)
        yield found
