"""A built wheel, alone in an environment of its own, runs a chapter's notebook: what happens in Colab."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Collection
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-CC-BY-4.0", "src")
EXTRA = {"matplotlib", "mpl_toolkits", "scipy", "sklearn", "scikit_learn", "ipywidgets"}
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
notebook.cells.append(nbformat.v4.new_code_cell("import painters; print(painters.__file__)"))
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
print(notebook.cells[-1].outputs[0].text)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
    build = [*PIP, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder / "dist"), str(folder)]
    subprocess.run(build, check=True)
    (wheel,) = (folder / "dist").glob("painters-*.whl")
    return wheel


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


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheel) -> Path:
    """An environment with everything that ``pip install "painters[book]"`` brings."""
    return environment(tmp_path_factory.mktemp("book"), wheel)


@pytest.fixture(scope="module")
def core(tmp_path_factory, wheel) -> Path:
    """An environment without the packages of the extra."""
    return environment(tmp_path_factory.mktemp("core"), wheel, EXTRA)


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


def test_the_extra_is_hidden(core, tmp_path):
    code = f"from importlib.util import find_spec; print(sorted(n for n in {sorted(EXTRA)} if find_spec(n)))"
    assert run(core, tmp_path, "-c", code) == "[]"


def test_the_core_samples_a_bundled_model_without_the_extra(core, tmp_path):
    code = """
import sys, painters
print(sorted({name.partition(".")[0] for name in sys.modules} & {"diffusers", "transformers", "PIL", "atelier"}))
model = painters.load("fashion-ddpm", device="cpu")
levels = model.levels(3)
x = levels.start(painters.noise([0], model.shape))
run = painters.solve(model.denoiser("Bag", guidance=2.0), x, levels, progress=False)
print(model.decode(run.final).shape, model.moments.trajectory(x, levels).final.isfinite().all().item())
"""
    loaded, painted = run(core, tmp_path, "-c", code).splitlines()
    assert loaded == "[]" and painted == "torch.Size([1, 1, 28, 28]) True"


def test_the_command_paints_without_the_extra(core, tmp_path):
    command = ["-m", "atelier.cli", "sample", "scenes-sd", "--prompt", "a red sun", "--steps", "2", "--seeds", "0"]
    run(core, tmp_path, *command, "--out", "out", "--device", "cpu")
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_a_command_that_needs_the_extra_says_so(core, tmp_path):
    code = "import sys, atelier.cli; sys.stderr = sys.stdout; print(atelier.cli.main(['claims', '--table']))"
    assert run(core, tmp_path, "-c", code).splitlines() == [
        'painters: this command needs scipy: pip install "painters[book]"',
        "1",
    ]


def test_the_data_of_both_packages_are_in_the_wheel(wheel):
    files = (path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("[!.]*") if path.is_file())
    wanted = {str(path) for path in files if "__pycache__" not in path.parts and ".egg-info" not in str(path)}
    with ZipFile(wheel) as file:
        assert wanted - set(file.namelist()) == set()


def test_a_notebook_runs_where_only_the_wheel_is(python, tmp_path):
    notebook = shutil.copy(ROOT / "book" / "intro.ipynb", tmp_path)
    where = run(python, tmp_path, "-c", RUN, str(notebook))
    assert Path(where).is_relative_to(python.parents[1])
