"""The repository's address is written once and agrees everywhere; a placeholder stops a release."""

import re
import shutil
from pathlib import Path

import pytest
import release

ROOT = Path(__file__).resolve().parents[2]
REAL = "https://github.com/somebody/painters"
FILES = ("pyproject.toml", "_config.yml", "CITATION.cff")


@pytest.fixture
def project(tmp_path):
    """The files that hold the address, with a real one."""
    (tmp_path / "book").mkdir()
    here = release.addresses(ROOT)["pyproject.toml"]
    for name in FILES:
        (tmp_path / name).write_text((ROOT / name).read_text().replace(here, REAL))
    (tmp_path / "book" / "a.ipynb").write_text(f'"{REAL}"')
    return tmp_path


def test_this_project_agrees_with_itself():
    found = release.addresses(ROOT)
    assert set(found) == set(FILES) and len(set(found.values())) == 1, found
    assert release.version_mismatch(ROOT) == ""


def test_sources_do_not_repeat_the_address():
    address = release.addresses(ROOT)["pyproject.toml"]
    pages = [*(ROOT / "book").glob("*.md"), *(ROOT / "src").rglob("*.py"), *(ROOT / "tools").glob("*.py")]
    assert [path.name for path in pages if address in path.read_text(encoding="utf-8")] == []


def test_a_project_with_a_real_address_is_ready(project):
    assert release.problems(project) == []


@pytest.mark.parametrize("name", FILES[1:])
def test_a_differing_copy_is_named(project, name):
    path = project / name
    path.write_text(path.read_text().replace(REAL, REAL + "-old"))
    assert any(re.match(f"{re.escape(name)} has the address {REAL}-old", text) for text in release.problems(project))


def test_a_placeholder_is_refused(project):
    for name in FILES:
        path = project / name
        path.write_text(path.read_text().replace("somebody", "OWNER"))
    shutil.rmtree(project / "book")
    assert len(release.problems(project)) == 1 and "placeholder" in release.problems(project)[0]


def test_a_stale_notebook_and_version_are_named(project):
    (project / "book" / "a.ipynb").write_text("{}")
    path = project / "CITATION.cff"
    path.write_text(re.sub(r"^version: .*", "version: 0.0.1", path.read_text(), flags=re.M))
    said = " ".join(release.problems(project))
    assert "a.ipynb" in said and "version 0.0.1" in said
