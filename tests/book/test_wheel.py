"""A built wheel, alone in an environment of its own, runs a chapter's notebook: what happens in Colab."""

import subprocess
import tarfile
from pathlib import Path
from zipfile import ZipFile

import distribution
import pytest
from distribution import environment, run

ROOT = Path(__file__).resolve().parents[2]
EXTRA = {"matplotlib", "mpl_toolkits", "scipy", "sklearn", "scikit_learn", "ipywidgets"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The wheel and the source distribution."""
    return distribution.build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    """The wheel."""
    return built[0]


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheel) -> Path:
    """An environment with everything that ``pip install "painters[book]"`` brings."""
    return environment(tmp_path_factory.mktemp("book"), wheel)


@pytest.fixture(scope="module")
def core(tmp_path_factory, wheel) -> Path:
    """An environment without the packages of the extra."""
    return environment(tmp_path_factory.mktemp("core"), wheel, EXTRA)


@pytest.mark.slow
def test_the_package_comes_from_the_wheel(python, tmp_path):
    where = run(python, tmp_path, "-c", "import painters; print(painters.__file__)")
    assert Path(where).is_relative_to(python.parents[1]) and ROOT / "src" not in Path(where).parents


@pytest.mark.slow
def test_the_extra_is_hidden(core, tmp_path):
    code = f"from importlib.util import find_spec; print(sorted(n for n in {sorted(EXTRA)} if find_spec(n)))"
    assert run(core, tmp_path, "-c", code) == "[]"


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_command_paints_without_the_extra(core, tmp_path):
    command = ["-m", "atelier.cli", "sample", "scenes-sd", "--prompt", "a red sun", "--steps", "2", "--seeds", "0"]
    run(core, tmp_path, *command, "--out", "out", "--device", "cpu")
    assert (tmp_path / "out" / "sheet.png").is_file()


@pytest.mark.slow
def test_a_command_that_needs_the_extra_says_so(core, tmp_path):
    code = "import sys, atelier.cli; sys.stderr = sys.stdout; print(atelier.cli.main(['claims', '--table']))"
    assert run(core, tmp_path, "-c", code).splitlines() == [
        'painters: this command needs scipy: pip install "painters[book]"',
        "1",
    ]


def sources() -> set[str]:
    """Every file of both packages."""
    files = (path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("[!.]*") if path.is_file())
    return {str(path) for path in files if "__pycache__" not in path.parts and ".egg-info" not in str(path)}


def test_the_data_of_both_packages_are_in_the_wheel(wheel):
    with ZipFile(wheel) as file:
        assert sources() - set(file.namelist()) == set()


def test_the_source_distribution_has_them_too(built):
    with tarfile.open(built[1]) as file:
        assert sources() - {name.partition("/src/")[2] for name in file.getnames()} == set()


@pytest.mark.slow
def test_a_notebook_runs_where_only_the_wheel_is(wheel):
    assert "site-packages" in distribution.prove(ROOT, wheel).parts


@pytest.mark.slow
def test_a_notebook_that_fails_there_is_no_proof(wheel, tmp_path):
    (tmp_path / "book").mkdir()
    text = (ROOT / "book" / "intro.ipynb").read_text(encoding="utf-8").replace("import painters", "import no_painters")
    (tmp_path / "book" / "intro.ipynb").write_text(text, encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        distribution.prove(tmp_path, wheel)
