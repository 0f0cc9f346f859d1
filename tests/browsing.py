"""A browser for the tests that look at pages; their conftest.py imports it."""

import os
import shutil
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find_chromium(playwright) -> str | None:
    """Return the path of a Chromium: PAINTERS_CHROMIUM, one of the system, or Playwright's own."""
    own = Path(playwright.chromium.executable_path)
    candidates = [os.environ.get("PAINTERS_CHROMIUM"), *map(shutil.which, BROWSERS)]
    candidates += [str(path) for path in (MAC, own) if path.exists()]
    return next((path for path in candidates if path), None)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; tests that ask for it are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as session:
        path = find_chromium(session)
        if path is None:
            pytest.skip("Chromium was not found; install it, or set PAINTERS_CHROMIUM to its path")
        # Root in a container has no user namespaces for the sandbox; only local pages are opened.
        chromium = session.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
