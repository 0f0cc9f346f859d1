"""Run all chapters in the environments they must work in, each made anew: a table of versions and of cells.

    python tools/environments.py                  all of them
    python tools/environments.py lowest colab     only these
    python tools/environments.py colab --torch 2.13.0 --python 3.11    with another torch or Python at hand

`lowest` has the lower bounds of pyproject.toml exactly, `colab` what Colab has (`tools/colab.txt`), where installing
the book must change nothing, and `newest` the newest releases of everything. An interpreter python3.X is looked for in
the variable PYTHON3X, on the path and under pyenv; where there is none, the environment is skipped by name. TORCH_INDEX
names an extra package index for torch, as for make.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
RUNNERS = ("pytest", "nbval", "ipykernel")
"""What runs a notebook and is no part of the environment."""
GALAXIES = "galaxygrad==0.2.0"
"""The networks of galaxies, which `make` and the first cell of the notebooks that use them install too."""
SHOWN: tuple[str, ...] = (
    "torch",
    "diffusers",
    "transformers",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "ipywidgets",
)
PYTHONS: dict[str, tuple[str, ...]] = {"lowest": ("3.11",), "colab": ("3.12", "3.13"), "newest": ("3.13",)}


@dataclass(frozen=True)
class Outcome:
    """What came of one environment: the versions in it, its cells by outcome, what installing the book changed."""

    name: str
    versions: dict[str, str]
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    changed: tuple[str, ...] = ()
    minutes: float = 0.0
    note: str = ""

    @property
    def bad(self) -> bool:
        """Whether it must not be so."""
        return bool(self.failed or self.changed or (self.note and not self.note.startswith("skipped")))


def interpreter(version: str) -> str | None:
    """Return a working Python of a version, such as 3.12, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [os.environ.get(f"PYTHON{version.replace('.', '')}"), shutil.which(f"python{version}")]
    found += sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")), reverse=True)
    said = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for path in filter(None, found):
        try:
            answer = subprocess.run([path, "-c", said], capture_output=True, text=True)
        except OSError:
            continue
        if answer.stdout.strip() == version:
            return path
    return None


def declared(root: Path) -> list[Requirement]:
    """Return what the package and its extra `book` require."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["book"]]


def lowest(root: Path) -> Iterator[str]:
    """Yield a pin to each lower bound."""
    for requirement in declared(root):
        (bound,) = (spec for spec in requirement.specifier if spec.operator == ">=")
        yield f"{requirement.name}=={bound.version}"


def pins(name: str, root: Path, torch: str | None) -> list[str]:
    """Return the constraints of an environment."""
    lines = list(lowest(root)) if name == "lowest" else []
    if name == "colab":
        text = (root / "tools" / "colab.txt").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    if torch:
        lines = [line for line in lines if Requirement(line).name != "torch"] + [f"torch=={torch}"]
    return lines


def pip(python: Path, *arguments: str) -> str:
    """Run pip in an environment and return what it prints."""
    index = ["--extra-index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    command += [*index, "-qq"] if arguments[0] == "install" else []
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def installed(python: Path) -> dict[str, str]:
    """Return the packages of an environment and their versions."""
    return {one["name"].lower(): one["version"] for one in json.loads(pip(python, "list", "--format", "json"))}


def changes(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """Return what installing changed of what was there."""
    return tuple(f"{n} {v} -> {after.get(n, 'gone')}" for n, v in sorted(before.items()) if after.get(n) != v)


def wheel_of(root: Path, folder: Path) -> Path:
    """Build the project's wheel from a copy of its sources, since a build leaves files beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    left = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(root / "src", folder / "source" / "src", ignore=left)
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-CC-BY-4.0"):
        shutil.copy(root / name, folder / "source")
    pip(Path(sys.executable), "wheel", "-qq", "--no-deps", "--wheel-dir", str(folder), str(folder / "source"))
    (wheel,) = folder.glob("*.whl")
    return wheel


def furnish(name: str, python: Path, wheel: Path, root: Path, torch: str | None) -> tuple[str, ...]:
    """Install an environment and return what installing the book changed in it."""
    folder, lines = python.parents[1], pins(name, root, torch)
    (folder / "pins.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    constraints = ["--constraint", str(folder / "pins.txt")]
    book = f"{wheel}[book]"
    if name != "colab":
        pip(python, "install", "--upgrade", *constraints, book, *RUNNERS)
        pip(python, "install", "--no-deps", GALAXIES)
        return ()
    pip(python, "install", "--requirement", str(folder / "pins.txt"), *RUNNERS)
    before = installed(python)
    pip(python, "install", book)  # as the first cell of a notebook does: nothing holds the versions
    pip(python, "install", "--no-deps", GALAXIES)
    return changes(before, installed(python))


def run_chapters(python: Path, root: Path) -> tuple[int, int, int]:
    """Run every notebook in the profile ci, away from the sources; return the cells passed, failed and skipped."""
    folder = python.parents[1] / "chapters"
    folder.mkdir()
    for path in sorted((root / "book").glob("*.ipynb")):
        shutil.copy(path, folder)
    environment = {**os.environ, "PAINTERS_PROFILE": "ci", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = [str(python), "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "300"]
    command += ["-p", "no:cacheprovider", "--junitxml", "cells.xml", "--tb", "short", "-c", os.devnull, "."]
    with (folder / "cells.log").open("w", encoding="utf-8") as log:
        subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    cells = [*ElementTree.parse(folder / "cells.xml").iter("testcase")]
    failed = [cell for cell in cells if cell.find("failure") is not None or cell.find("error") is not None]
    skipped = sum(cell.find("skipped") is not None for cell in cells)
    for cell in failed:
        print(f"  failed: {cell.get('classname')} {cell.get('name')}", flush=True)
    if failed:
        print(f"  what they say: {folder / 'cells.log'}", flush=True)
    return len(cells) - len(failed) - skipped, len(failed), skipped


def try_one(name: str, version: str, wheel: Path, folder: Path, root: Path, torch: str | None) -> Outcome:
    """Make one environment and run the chapters in it."""
    label, began = f"{name}, Python {version}", time.monotonic()
    if (base := interpreter(version)) is None:
        return Outcome(label, {}, note=f"skipped: no python{version} here")
    print(f"{label}: installing", flush=True)
    place = folder / f"{name}-{version}"
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([base, "-m", "venv", str(place)], check=True)
    python = place / "bin" / "python"
    try:
        changed = furnish(name, python, wheel, root, torch)
    except subprocess.CalledProcessError:
        return Outcome(label, {}, note="could not be installed, see above")
    have = installed(python)
    print(f"{label}: running the chapters", flush=True)
    passed, failed, skipped = run_chapters(python, root)
    minutes = (time.monotonic() - began) / 60
    return Outcome(label, {n: have.get(n, "-") for n in SHOWN}, passed, failed, skipped, changed, minutes)


def table(outcomes: Iterable[Outcome]) -> str:
    """Return the outcomes as a table."""
    heads = ("environment", *SHOWN, "passed", "failed", "skipped", "minutes")
    rows: list[tuple[str, ...]] = [heads]
    for one in outcomes:
        counts = (one.passed, one.failed, one.skipped, f"{one.minutes:.1f}") if one.versions else ("",) * 4
        rows.append((one.name, *(one.versions.get(name, "") for name in SHOWN), *map(str, counts)))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]
    lines += [f"{one.name}: {one.note}" for one in outcomes if one.note]
    lines += [f"{one.name}: installing the book changed {', '.join(one.changed)}" for one in outcomes if one.changed]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 if a cell failed or a package changed that must not."""
    parser = argparse.ArgumentParser(description="Run all chapters in the environments they must work in.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PYTHONS)}; all by default")
    parser.add_argument(
        "--python", action="append", metavar="3.X", help="these Pythons instead of an environment's own"
    )
    parser.add_argument("--torch", metavar="VERSION", help="this torch instead of an environment's own")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "environments", help="where they are made")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(PYTHONS):
        parser.error(f"no environment {', '.join(sorted(unknown))}; there are {', '.join(PYTHONS)}")
    folder = options.folder.resolve()
    wheel = wheel_of(ROOT, folder / "wheel")
    outcomes = [
        try_one(name, version, wheel, folder, ROOT, options.torch)
        for name in options.names or PYTHONS
        for version in options.python or PYTHONS[name]
    ]
    print(table(outcomes))
    return int(any(one.bad for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
