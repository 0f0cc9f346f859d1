"""Build the book into `_build/html`: every warning is an error, every cell runs or comes from the cache.

Outputs of cells are kept in `.cache/book/PROFILE`, a cache that compares the text of a page's cells and knows nothing
of `src/`. Beside it stands a key for each page: a hash of the modules that its cells reach by imports, of the data of
their packages, of the pinned requirements, and of which optional packages are there. A page whose key has changed loses
its outputs before the build, so that no page shows those of older code, and a change to code that a page does not reach
leaves them.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from imports import graph, imported, modules, reached
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from myst import MystError, read_page
from numbering import toc_pages

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = ("galaxygrad",)
"""Packages without which a page leaves something out."""
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


def code_of(page: Path) -> str:
    """Return the code of a page's cells, without the lines that only a notebook understands."""
    cells = (block.lines for block in read_page(page).blocks if block.name == "code-cell")
    lines = (line for cell in cells for line in cell)
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def page_keys(root: Path, profile: str) -> dict[str, str]:
    """Return for each page of the book a hash of everything besides the page itself that its outputs depend on."""
    source = root / "src"
    paths, edges = modules(source), graph(source)
    packages = {path.parent: name for name, path in paths.items() if path.stem == "__init__"}
    # Results, weights and tables belong to the package whose folder they are in; what is in none, to every page.
    data: dict[str | None, list[Path]] = {}
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts and ".egg-info" not in str(path):
            owner = next((packages[folder] for folder in path.parents if folder in packages), None)
            data.setdefault(owner, []).append(path)
    hashes = {
        path: f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in (*paths.values(), *(path for files in data.values() for path in files), root / "requirements.txt")
    }
    optional = [name for name in OPTIONAL if importlib.util.find_spec(name)]
    setting = f"{profile} {sys.version_info[:2]} {optional}\n"
    keys = {}
    for page in sorted((root / "book").glob("*.md")):
        try:
            code = imported(code_of(page), paths)
            # `exercise` looks the page's solutions up by name.
            found = reached(code | {f"atelier.exercises.{page.stem}"} & set(paths), edges)
        except (MystError, SyntaxError):  # the build will say what is wrong; until then it may depend on anything
            found = set(paths)
        files = [paths[name] for name in sorted(found)]
        files += [path for owner in (None, *sorted(found)) for path in data.get(owner, [])]
        text = setting + "".join(hashes[f] for f in (root / "requirements.txt", *files))
        keys[page.stem] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return keys


def prepare_cache(root: Path, profile: str) -> Path:
    """Return the cache folder of a profile, after dropping from it the outputs of pages whose key has changed."""
    folder = root / ".cache" / "book" / profile
    folder.mkdir(parents=True, exist_ok=True)
    kept, keys = folder / "keys.json", page_keys(root, profile)
    try:
        old = json.loads(kept.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        old = {}
    stale = {page for page, key in keys.items() if old.get(page) != key}
    cache = get_cache(folder)
    records: list[Any] = cache.list_cache_records()
    for record in records:
        # Pages that have gone are dropped as well: were they to come back, nothing would say what made them.
        if Path(record.uri).stem in stale or Path(record.uri).stem not in keys:
            cache.remove_cache(record.pk)
    # Only now: interrupted before, the next build drops them again.
    kept.write_text(json.dumps(keys, indent=1), encoding="utf-8")
    again = sorted({Path(record.uri).stem for record in records} & stale)
    print(f"Outputs of {len(keys) - len(stale)} pages are kept in {folder.relative_to(root)}", end="")
    print(f"; what these import has changed: {', '.join(again)}." if again else ".", flush=True)
    return folder


def execute(root: Path, folder: Path, timeout: int) -> dict[str, float]:
    """Run the pages whose outputs are not kept, a process to each core, and return the seconds each took.

    Sphinx would run them one after the other. What fails here is run again there, which says why.
    """
    cache = get_cache(folder)
    old: list[Any] = cache.list_project_records()
    for record in old:
        cache.remove_nb_from_project(record.pk)
    for file, _ in toc_pages(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))):
        if read_page(root / f"{file}.md").has_notebook:
            cache.add_nb_to_project(str(root / f"{file}.md"), read_data={"name": "myst_nb_md", "type": "plugin"})
    done = load_executor("local-parallel", cache).run_and_cache(timeout=timeout)
    if not done.succeeded:
        return {}
    kept: list[Any] = cache.list_cache_records()
    took = {Path(record.uri).stem: record.data.get("execution_seconds") for record in kept}
    return {name: took[name] for name in sorted(Path(uri).stem for uri in done.succeeded) if took.get(name)}


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
    folder = prepare_cache(root, profile)
    config["execute"]["cache"] = str(folder)
    # Pages are run side by side: one thread each, or they wait for each other.
    os.environ |= {"PAINTERS_PROFILE": profile, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    ran = execute(root, folder, config["execute"]["timeout"])
    # Sphinx repeats no warning of a page it has read before: start afresh, only outputs are kept.
    for stale in ("html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(output / stale, ignore_errors=True)
    output.mkdir(exist_ok=True)
    path = output / "config.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    status, seconds = run_sphinx(root, output, path, profile)
    for page, spent in (ran | seconds).items():
        print(f"{page}: {spent:.1f} s")
    if status:
        print_tracebacks(output)
        print("The book has errors or warnings, see above.", file=sys.stderr)
        return 1
    import lighten  # only here, as below: they bring torch

    lighten.lighten(output / "html")
    if (output / "html" / "book" / "live.html").exists():
        import live

        live.write(output / "html" / "_static" / "live")
    print(f"Building took {time.monotonic() - start:.0f} s.")
    print("The book is in _build/html; open _build/html/index.html.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
