"""A headless Chromium, and a server of what it looks at: for the PDF, the audit and the tests that look at pages."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
MISSING = "Chromium was not found; install it, or set PAINTERS_CHROMIUM to its path"


def find_chromium(playwright: Any) -> str | None:
    """Return the path of a Chromium: PAINTERS_CHROMIUM, one of the system, or Playwright's own."""
    own = Path(playwright.chromium.executable_path)
    candidates = [os.environ.get("PAINTERS_CHROMIUM"), *map(shutil.which, BROWSERS)]
    candidates += [str(path) for path in (MAC, own) if path.exists()]
    return next((path for path in candidates if path), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, closed afterwards.

    Raises:
        FileNotFoundError: where there is none.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as session:
        path = find_chromium(session)
        if path is None:
            raise FileNotFoundError(MISSING)
        # Root in a container has no user namespaces for the sandbox; only local pages are opened.
        browser = session.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line in the log for each."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on 127.0.0.1 and give its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
