"""The build: what its cache is keyed on, and that a failed check or a warning stops it."""

import shutil
from pathlib import Path

import build
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A page

{text}

```{{code-cell}} ipython3
{code}
```
"""


@pytest.fixture
def project(tmp_path):
    """A book of one page with this project's configuration."""
    for folder in ("book/_static", "tools", "src"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("_config.yml", "requirements.txt", "tools/sphinx_painters.py", "book/_static/painters.css"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "book" / "references.bib").touch()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    return tmp_path


def write(project: Path, code: str, text: str = "") -> None:
    (project / "book" / "intro.md").write_text(PAGE.format(code=code, text=text))


def test_the_key_covers_what_outputs_depend_on(project):
    (project / "src" / "a.py").write_text("a = 1\n")
    keys = {build.cache_key(project, "book"), build.cache_key(project, "ci")}
    (project / "src" / "a.py").write_text("a = 2\n")
    keys.add(build.cache_key(project, "book"))
    (project / "src" / "a.py").rename(project / "src" / "b.py")
    keys.add(build.cache_key(project, "book"))
    (project / "requirements.txt").write_text("torch\n")
    keys.add(build.cache_key(project, "book"))
    assert len(keys) == 5


def test_the_key_leaves_the_rest_alone(project):
    before = build.cache_key(project, "book")
    write(project, "1")
    (project / "README.md").write_text("text")
    (project / "src" / "__pycache__").mkdir()
    (project / "src" / "__pycache__" / "a.pyc").write_bytes(b"0")
    assert build.cache_key(project, "book") == before


def test_old_caches_go(project):
    for i in range(5):
        (project / "src" / "a.py").write_text(f"a = {i}\n")
        newest = build.prepare_cache(project, "book")
    caches = list((project / ".cache" / "book").iterdir())
    assert len(caches) == build.KEPT_CACHES and newest in caches


def test_a_failed_check_stops_the_build_and_is_shown(project, capfd):
    write(project, "from atelier.pages import check\ncheck.below('planted', 2.0, 1.0)")
    assert build.main(["--root", str(project)]) == 1
    shown = capfd.readouterr()
    assert "A cell of intro.md failed" in shown.err
    assert "AssertionError: check planted failed: 2 is not below 1." in shown.err


def test_a_warning_stops_the_build_each_time(project, capfd):
    write(project, "print('fine')", "{ref}`nowhere`")
    for _ in range(2):
        assert build.main(["--root", str(project)]) == 1
        assert "undefined label: 'nowhere'" in capfd.readouterr().out


def test_a_sound_page_builds(project, capfd):
    write(project, "print('fine')")
    assert build.main(["--root", str(project)]) == 0
    assert (project / "_build" / "html" / "book" / "intro.html").exists()
    assert "intro: " in capfd.readouterr().out
