"""Build the book into `_build/html`: every warning is an error, every cell runs or comes from the cache.

A page's outputs are cached under `.cache/book/KEY`, where KEY is a hash of the package, the pinned
requirements, the profile and the committed results, so that no page shows the output of older code.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
KEPT_CACHES = 3
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# Progress of Sphinx that says nothing about the book.
NOISE = re.compile(
    r"^$|^=+$|^done$|IPKernelApp|reading sources|writing output|copying|building \[|updating environment|pickling|"
    r"checking consistency|preparing documents|looking for|generating indices|dumping|parsing bibtex|"
    r"Running |Source Folder|Config Path|Output Path|writing additional|\[etoc\]|Finished generating|loading |"
    r"^Your book's|^You can look|^Or paste|_build/html/?|file://|^myst-nb v|The HTML pages|making output|^sphinx-multi|"
    r"bibtex cache|^myst v|Using jupyter-cache|Cached executed"
)
PROBLEM = re.compile(r"(?<!IPKernelApp\] )(WARNING|ERROR)")
EXECUTED = re.compile(r"book/(\w+)\.md: Executed notebook in ([\d.]+) seconds")


def cache_key(root: Path, profile: str) -> str:
    """Hash everything besides the page itself that its outputs depend on."""
    digest = hashlib.sha256(f"{profile} {sys.version_info[:2]}".encode())
    files = [root / "requirements.txt"]
    files += sorted(p for p in (root / "src").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    for path in files:
        if ".egg-info" not in str(path):
            digest.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def prepare_cache(root: Path, profile: str) -> Path:
    """Return the cache folder for this state of the project; drop all but the last few others."""
    caches = root / ".cache" / "book"
    cache = caches / cache_key(root, profile)
    print(f"Outputs are cached in {cache.relative_to(root)} ({'found' if cache.exists() else 'new'}).", flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    cache.touch()
    for old in sorted(caches.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_CACHES:]:
        shutil.rmtree(old)
    return cache


def run_sphinx(root: Path, output: Path, config: Path, profile: str) -> tuple[int, dict[str, float]]:
    """Run Jupyter Book, print what matters, and return its status and the seconds each page ran."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(root)]
    command += ["--config", str(config), "--path-output", str(output.parent), "-n", "-W", "--keep-going"]
    environment = os.environ | {"PAINTERS_PROFILE": profile, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    seconds: dict[str, float] = {}
    with subprocess.Popen(
        command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            line = ANSI.sub("", raw).rstrip().replace(f"{root}/", "")
            if match := EXECUTED.search(line):
                seconds[match[1]] = float(match[2])
            if PROBLEM.search(line) or not NOISE.search(line):
                print(line, flush=True)
    return process.returncode, seconds


def print_tracebacks(output: Path) -> None:
    """Print the traceback of every cell that failed."""
    for report in sorted((output / "html" / "reports").rglob("*.err.log")):
        print(f"\nA cell of {report.name.removesuffix('.err.log')}.md failed:\n", file=sys.stderr)
        print(ANSI.sub("", report.read_text(encoding="utf-8")), file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Build the book; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the book into _build/html.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    root = parser.parse_args(arguments).root.resolve()
    profile = os.environ.get("PAINTERS_PROFILE") or "book"
    output, start = root / "_build", time.monotonic()
    print(f"Building the book in the profile {profile!r}.", flush=True)
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    # The written copy lies elsewhere, so its paths are absolute.
    extensions = config["sphinx"].get("local_extensions", {})
    config["sphinx"]["local_extensions"] = {name: str(root / folder) for name, folder in extensions.items()}
    config["execute"]["cache"] = str(prepare_cache(root, profile))
    # Sphinx repeats no warning of a page it has read before: start afresh, only outputs are kept.
    for stale in ("html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(output / stale, ignore_errors=True)
    output.mkdir(exist_ok=True)
    path = output / "config.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    status, seconds = run_sphinx(root, output, path, profile)
    for page, spent in seconds.items():
        print(f"{page}: {spent:.1f} s")
    print(f"Building took {time.monotonic() - start:.0f} s.")
    if status:
        print_tracebacks(output)
        print("The book has errors or warnings, see above.", file=sys.stderr)
        return 1
    print("The book is in _build/html; open _build/html/index.html.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
