"""The build: what its cache is keyed on, and that a failed check or a warning stops it."""

import shutil
from pathlib import Path

import build
import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

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
    for folder in ("book/_static", "book/images", "tools", "src"):
        (tmp_path / folder).mkdir(parents=True)
    files = ["_config.yml", "requirements.txt", "book/_static/painters.css", "book/_static/painters.js"]
    files += ["book/_static/scorer.js"]
    files += ["book/images/favicon.png", *(f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py"))]
    for name in files:
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "book" / "references.bib").touch()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    return tmp_path


def write(project: Path, code: str, text: str = "", *, name: str = "intro") -> None:
    (project / "book" / f"{name}.md").write_text(PAGE.format(code=code, text=text))


@pytest.fixture
def packages(project):
    """Two packages in which a page's `import core` reaches theory, and only a function of theory reaches tables."""
    files = {
        "core/__init__.py": "from core.theory import law",
        "core/theory.py": "law = 1\n\ndef table():\n    from .tables import rows\n    return rows",
        "core/tables.py": "rows = 1",
        "core/rows.json": "[1]",
        "shop/__init__.py": "",
        "shop/pages.py": "import core",
        "shop/training/__init__.py": "",
        "shop/training/loop.py": "from core import law",
        "shop/training/recipe.json": "{}",
    }
    for name, text in files.items():
        path = project / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    write(project, "%pip install core\nfrom shop.pages import core")
    return project


@pytest.mark.parametrize(
    "name",
    ["src/core/theory.py", "src/core/tables.py", "src/core/rows.json", "src/shop/__init__.py", "requirements.txt"],
)
def test_what_a_page_reaches_changes_its_key(packages, name):
    before = build.page_keys(packages, "book")["intro"]
    (packages / name).write_text("changed = 2\n")
    assert build.page_keys(packages, "book")["intro"] != before


@pytest.mark.parametrize(
    "name", ["src/shop/training/loop.py", "src/shop/training/recipe.json", "README.md", "src/core/__pycache__/a.pyc"]
)
def test_what_a_page_does_not_reach_leaves_its_key(packages, name):
    before = build.page_keys(packages, "book")
    (packages / name).parent.mkdir(exist_ok=True)
    (packages / name).write_text("changed = 2\n")
    assert build.page_keys(packages, "book") == before


def test_a_package_that_comes_or_goes_changes_the_keys(packages, monkeypatch):
    keys = []
    for optional in (("json",), ("json", "no_such_package"), ("no_such_package",)):
        monkeypatch.setattr(build, "OPTIONAL", optional)
        keys.append(build.page_keys(packages, "book")["intro"])
    assert keys[0] == keys[1] != keys[2]


def test_a_key_tells_profiles_and_pages_apart(packages):
    write(packages, "import shop.training.loop", name="train")
    keys, ci = (build.page_keys(packages, profile) for profile in ("book", "ci"))
    assert set(keys) == {"intro", "train"} and len({*keys.values(), *ci.values()}) == 4
    (packages / "src/shop/training/loop.py").write_text("changed = 2\n")
    after = build.page_keys(packages, "book")
    assert after["intro"] == keys["intro"] and after["train"] != keys["train"]


def test_a_page_that_cannot_be_read_depends_on_everything(packages):
    write(packages, "law = (")
    before = build.page_keys(packages, "book")["intro"]
    (packages / "src/shop/training/loop.py").write_text("changed = 2\n")
    assert build.page_keys(packages, "book")["intro"] != before


def test_only_pages_whose_imports_changed_run_again(packages, capfd):
    """Two pages and a cache as Jupyter Book leaves it: theory is touched, then training."""
    write(packages, "import shop.training", name="train")
    write(packages, "1", name="gone")

    def pages():
        cache = get_cache(build.prepare_cache(packages, "book"))
        return sorted(Path(record.uri).stem for record in cache.list_cache_records())

    cache = get_cache(build.prepare_cache(packages, "book"))
    for name in ("intro", "train", "gone"):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(name)])
        bundle = CacheBundleIn(notebook, str(packages / "book" / f"{name}.md"), data={})
        cache.cache_notebook_bundle(bundle, check_validity=False)
    (packages / "book" / "gone.md").unlink()
    assert pages() == ["intro", "train"]
    (packages / "src/core/theory.py").write_text("changed = 2\n")
    assert pages() == ["train"] and "has changed: intro." in capfd.readouterr().out
    (packages / "src/shop/training/recipe.json").write_text("[]")
    assert pages() == []


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
