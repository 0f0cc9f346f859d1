"""What stands in the way of a release: an address that is a placeholder or differs, a version, a missing entry."""

import hashlib
import re
import shutil
import zipfile
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
    (tmp_path / "src" / "painters").mkdir(parents=True)
    shutil.copy(ROOT / "src" / "painters" / "__init__.py", tmp_path / "src" / "painters")
    (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n## {release.project(ROOT)['version']}, 2026-01-02\n")
    (tmp_path / "book" / "a.ipynb").write_text(f'"{REAL}"')
    return tmp_path


def test_this_project_agrees_with_itself():
    found = release.addresses(ROOT)
    assert set(found) == set(FILES) and len(set(found.values())) == 1, found
    assert release.version_mismatch(ROOT) == []
    assert not any("no entry" in sentence for sentence in release.unwritten(ROOT))


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
    assert "a.ipynb" in said and "CITATION.cff has version 0.0.1" in said


def test_a_version_of_the_package_that_differs_is_named(project):
    path = project / "src" / "painters" / "__init__.py"
    path.write_text(re.sub(r"^__version__ = .*", '__version__ = "0.0.2"', path.read_text(), flags=re.M))
    assert release.problems(project) == [
        f"src/painters/__init__.py has version 0.0.2, pyproject.toml {release.project(ROOT)['version']}."
    ]


@pytest.mark.parametrize("text, said", [("## 9.9.9, 2026-01-02", "has no entry"), ("## {}, unreleased", "no date")])
def test_a_version_without_a_dated_entry_is_refused(project, text, said):
    (project / "CHANGELOG.md").write_text(text.format(release.project(ROOT)["version"]) + "\n")
    (sentence,) = release.unwritten(project)
    assert said in sentence


def test_everything_is_collected_but_a_teachers_key(project):
    built, dist = project / "_build", project / "dist"
    for folder in (built / "html", built / "course", dist):
        folder.mkdir(parents=True)
    (built / "painters.pdf").write_bytes(b"a PDF")
    (built / "html" / "index.html").write_text("a site")
    (built / "course" / release.KEY).write_text("a key")
    for name, inside in (("student.zip", "a.ipynb"), ("course.imscc", "a.xml"), ("instructor.zip", release.KEY)):
        with zipfile.ZipFile(built / "course" / name, "w") as archive:
            archive.writestr(f"a/{inside}", "x")
    (said,) = release.collect(project, dist)
    version = release.project(ROOT)["version"]
    names = [f"painters-{version}{end}" for end in ("-course.imscc", "-site.zip", "-student.zip", ".pdf")]
    assert "instructor.zip" in said and sorted(path.name for path in dist.iterdir()) == names
    with zipfile.ZipFile(dist / names[1]) as archive:
        assert archive.namelist() == [f"painters-{version}-site/index.html"]
    assert release.sums(dist).splitlines()[3] == f"{hashlib.sha256(b'a PDF').hexdigest()}  painters-{version}.pdf"


def run_with(monkeypatch, project, outcomes, *options) -> tuple[int, list[str]]:
    """Run the tool on a project with parts that end with these statuses; return its status and the parts that ran."""
    (project / "tools").mkdir()
    ran = project / "ran"
    for (tool, *_), outcome in zip(release.STEPS.values(), outcomes):
        text = f"import sys; open({str(ran)!r}, 'a').write('{tool} '); sys.exit({outcome})"
        (project / "tools" / tool).write_text(text)
    monkeypatch.setattr(release, "ROOT", project)
    monkeypatch.setattr(release, "collect", lambda root, dist: [])
    status = release.main(list(options))
    return status, ran.read_text().split() if ran.exists() else []


def test_every_part_runs_and_the_first_that_fails_stops(monkeypatch, project):
    parts = [tool for tool, *_ in release.STEPS.values()]
    assert run_with(monkeypatch, project, (0, 3, 0, 0)) == (3, parts[:2])
    (project / "ran").unlink()
    shutil.rmtree(project / "tools")
    assert run_with(monkeypatch, project, (0, 0, 0, 0)) == (0, parts)


@pytest.mark.parametrize(
    "options, status, parts", [((), 1, 0), (("--check",), 1, 0), (("--site",), 0, 0), (("--dry-run",), 0, 4)]
)
def test_only_a_dry_run_builds_in_spite_of_a_problem(monkeypatch, project, options, status, parts):
    (project / "CHANGELOG.md").write_text("# Changes\n")
    got, ran = run_with(monkeypatch, project, (0, 0, 0, 0), *options)
    assert got == status and len(ran) == parts
