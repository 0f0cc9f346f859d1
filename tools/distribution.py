"""Build the wheel and the source distribution into `dist/`, and prove a wheel where nothing else is.

python tools/distribution.py          build both, from a copy of the sources
python tools/distribution.py --prove  also run a chapter's notebook where only the wheel is, outside the tree
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-CC-BY-4.0", "src")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
NOTEBOOK = "intro"
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
notebook.cells.append(nbformat.v4.new_code_cell("import painters; print(painters.__file__)"))
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
print(notebook.cells[-1].outputs[0].text)
"""


def build(root: Path, output: Path) -> tuple[Path, Path]:
    """Build the wheel and the source distribution of a copy of the sources into a folder, and return them."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for source in SOURCES:
            if (root / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(root / source, copy / source, ignore=ignored)
            else:
                shutil.copy(root / source, copy / source)
        code = "import sys; from setuptools import build_meta; print(build_meta.build_{}(sys.argv[1]))"
        found = []
        for kind in ("wheel", "sdist"):
            command = [sys.executable, "-c", code.format(kind), str(output.resolve())]
            done = subprocess.run(command, cwd=copy, check=True, stdout=subprocess.PIPE, text=True)
            found.append(output / done.stdout.split()[-1])
    return found[0], found[1]


def environment(folder: Path, wheel: Path, hidden: Collection[str] = ()) -> Path:
    """Return the interpreter of an environment with the wheel in it, and the packages of this one but for some.

    They come by a line in a .pth file. Python does not read the .pth files of a folder added that way, so an editable
    install of the package in this environment stays out of sight.
    """
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        # scikit_learn.libs, scipy-1.17.1.dist-info: a package is looked for by its metadata too.
        if re.split(r"[-.]", path.name)[0] not in hidden:
            (packages / path.name).symlink_to(path)
    venv.create(folder / "empty", symlinks=os.name != "nt")
    python = folder / "empty" / "bin" / "python"
    subprocess.run([*PIP, "--python", str(python), "install", "-q", "--no-index", "--no-deps", str(wheel)], check=True)
    (site,) = (folder / "empty" / "lib").glob("python*/site-packages")
    (site / "requirements.pth").write_text(f"{packages}\n")
    return python


def run(python: Path, folder: Path, *arguments: str) -> str:
    """Run an environment's interpreter in a folder and return what it printed.

    Raises:
        subprocess.CalledProcessError: if it failed; it has written why to stderr.
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"PAINTERS_PROFILE": "ci", "JUPYTER_PATH": str(folder)}
    command = [str(python), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def prove(root: Path, wheel: Path) -> Path:
    """Run a chapter's notebook where only the wheel is, as in Colab; return where its package came from.

    Raises:
        RuntimeError: if the package was not that of the wheel.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        python = environment(folder, wheel.resolve())
        notebook = shutil.copy(root / "book" / f"{NOTEBOOK}.ipynb", folder)
        found = Path(run(python, folder, "-c", RUN, str(notebook)))
        if not found.is_relative_to(python.parents[1]):
            raise RuntimeError(f"the notebook ran with {found}, which is not of the wheel")
        return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the wheel and the source distribution.")
    parser.add_argument("--prove", action="store_true", help="run a notebook on the wheel in an empty environment")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder they go to; by default dist")
    options = parser.parse_args(arguments)
    try:
        wheel, sdist = build(ROOT, options.out)
        print(f"wrote {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB, and {sdist.name}")
        if options.prove:
            prove(ROOT, wheel)
            print(f"{NOTEBOOK}.ipynb runs where only {wheel.name} is.")
    except (subprocess.CalledProcessError, RuntimeError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
