"""A built wheel, alone in an environment of its own, runs a chapter's notebook: what happens in Colab."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-CC-BY-4.0", "src")
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
notebook.cells.append(nbformat.v4.new_code_cell("import painters; print(painters.__file__)"))
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
print(notebook.cells[-1].outputs[0].text)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of an environment with the wheel in it, and the requirements of this one.

    The requirements come by a line in a .pth file. Python does not read the .pth files of a folder added that
    way, so an editable install of the package in this environment stays out of sight.
    """
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder / "dist"), str(folder)]
    subprocess.run(build, check=True)
    (wheel,) = (folder / "dist").glob("painters-*.whl")
    venv.create(folder / "empty", symlinks=os.name != "nt")
    python = folder / "empty" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "-q", "--no-index", "--no-deps", str(wheel)], check=True)
    (site,) = (folder / "empty" / "lib").glob("python*/site-packages")
    (site / "requirements.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def run(python: Path, folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env=environment | {"PAINTERS_PROFILE": "ci", "JUPYTER_PATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_the_package_comes_from_the_wheel(python, tmp_path):
    where = run(python, tmp_path, "-c", "import painters; print(painters.__file__)")
    assert Path(where).is_relative_to(python.parents[1]) and ROOT / "src" not in Path(where).parents


def test_the_bundled_model_is_in_the_wheel(python, tmp_path):
    code = "import painters; print(tuple(painters.load('fashion-ddpm').shape))"
    assert run(python, tmp_path, "-c", code) == "(1, 28, 28)"


def test_a_notebook_runs_where_only_the_wheel_is(python, tmp_path):
    notebook = shutil.copy(ROOT / "book" / "intro.ipynb", tmp_path)
    where = run(python, tmp_path, "-c", RUN, str(notebook))
    assert Path(where).is_relative_to(python.parents[1])
