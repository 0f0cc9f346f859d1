"""The exporter: golden notebooks, what it refuses, and the gate."""

import base64
import json
import re
import shutil
from pathlib import Path

import export
import nbformat
import pytest
from myst import MystError

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
RAW_MYST = re.compile(r"^\s*:::|^\s*```\{|(?<!`)\{[a-z][\w:-]*\}`|^\([\w-]+\)=", re.M)


@pytest.fixture
def project(tmp_path):
    """A copy of the golden project that a test may change."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "project"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def cells(project: Path, page: str = "sample") -> list[dict]:
    return json.loads(export.export_all(project)[project / "book" / f"{page}.ipynb"])["cells"]


def test_golden_notebooks():
    notebooks = export.export_all(GOLDEN)
    assert {path.name for path in notebooks} == {"before.ipynb", "sample.ipynb"}
    for path, text in notebooks.items():
        assert text == path.read_text(encoding="utf-8"), f"{path.name} changed; look, then run tools/export.py"


@pytest.mark.parametrize("folder", [GOLDEN, ROOT], ids=["golden", "book"])
def test_notebooks_are_valid_and_hold_no_myst(folder):
    for path in sorted((folder / "book").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        nbformat.validate(nbformat.from_dict(notebook))
        assert path.stat().st_size <= export.MAX_BYTES
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids)
        shown = [cell for cell in notebook["cells"] if cell.get("outputs")]
        drawn = (folder / "book" / "images" / "openings" / f"{path.stem}.png").exists()
        assert len(shown) == drawn, f"{path.name} should begin with its first figure and show no other"
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert cell["execution_count"] == (0 if cell["outputs"] else None)
                assert not re.search(r"# *(noqa|type:)", source(cell))
            else:
                text = re.sub(r"```.*?```|``.*?``", "", source(cell), flags=re.S)
                assert not RAW_MYST.search(text), f"{path.name}: raw MyST in {text[:200]!r}"


def test_numbers_follow_the_table_of_contents(project):
    text = "\n".join(map(source, cells(project)))
    assert '**<font color="#1976d2">Proposition 2.1</font>** (Tweedie)' in text
    assert "# 2. A sample" in text and "## 2.4. Code" in text
    assert "**Fig. 2.2.** Two lines, with" in text
    assert "[Fig. 1.1](before.ipynb)" in text
    assert "[(1)](https://someone.github.io/sample/book/opening.html#equation-eq-opening)" in text
    assert r"\tag{2.1}" in text and r"\tag{2.3}" in text


def test_a_cell_id_depends_on_position_and_source(project):
    before = [cell["id"] for cell in cells(project, "before")]
    page = project / "book" / "before.md"
    page.write_text(page.read_text().replace("A lemma.", "Another lemma."))
    changed = [cell["id"] for cell in cells(project, "before")]
    assert changed[:-1] == before[:-1] and changed[-1] != before[-1]
    page.write_text(page.read_text() + "\n### Twice\n\n### Twice\n")
    twice = cells(project, "before")[-2:]
    assert source(twice[0]) == source(twice[1]) and twice[0]["id"] != twice[1]["id"]


def test_the_install_cell(project):
    code = [cell for cell in cells(project) if cell["cell_type"] == "code"]
    assert code[0]["metadata"]["tags"] == ["remove-cell", "skip-execution", "nbval-skip"]
    assert '%pip install -q "painters[book] @ git+https://github.com/someone/sample"' in source(code[0])
    assert "requirements.txt" not in source(code[0])
    assert sum("%pip" in source(cell) for cell in code) == 1


def test_without_the_package_the_first_cell_says_one_sentence_and_stops(project):
    code = next(source(cell) for cell in cells(project) if cell["cell_type"] == "code")
    outside = code.replace("%pip", "pass; #").replace('"painters", ', '"no_such_package", ')
    with pytest.raises(ImportError, match=r"pip install 'painters\[book\] @ git\+https") as raised:
        exec(outside, {})
    (sentence,) = raised.value._render_traceback_()  # type: ignore[attr-defined]
    assert sentence.startswith("This notebook needs the package painters") and "\n" not in sentence
    exec(code.replace("%pip", "raise SystemExit; #"), {})  # here everything is installed


def test_the_first_figure_is_there_before_anything_is_run(project, monkeypatch):
    first, *others = (cell for cell in cells(project, "before") if cell["cell_type"] == "code" and cell["outputs"])
    html = "".join(first["outputs"][0]["data"]["text/html"])
    data = base64.b64encode((project / "book" / "images" / "openings" / "before.png").read_bytes()).decode()
    assert not others and f'src="data:image/png;base64,{data}"' in html and "It &lt;moves&gt;." in html
    assert 'alt="A first &quot;line&quot; at σ = 1."' in html
    monkeypatch.setattr(export, "MAX_PICTURES", 10)
    with pytest.raises(MystError, match=r"before\.md:15: its picture takes \d+ bytes; the limit is 10"):
        export.export_all(project)


def test_a_mark_ends_each_proof_and_never_stands_alone(project):
    text = "\n".join(map(source, cells(project)))
    assert "By (2.3).\u00a0∎" in text and "s = s . \\qquad\\blacksquare\n$$" in text
    assert "s = 1 \\qquad\\blacksquare \\tag{2.4}\n$$" in text
    for path in (ROOT / "book").glob("*.ipynb"):
        lines = [line for cell in json.loads(path.read_text())["cells"] for line in cell["source"]]
        assert not [line for line in lines if line.strip() == "∎"], path.name


def test_boxes_statements_and_exercises_look_different(project):
    text = "\n".join(map(source, cells(project)))
    kinds = ("> **<font color=", "### Exercise 2.1 (Double)", '<b><font color="#d9392b">▲ Warning</font></b>')
    assert all(kind in text for kind in kinds)
    assert text.count("<fieldset>") == text.count("</fieldset>") == text.count("<legend>") == 6
    assert "style=" not in text  # Colab drops it


def test_solutions_and_hidden_code_are_folded(project):
    by_source = {source(cell): cell["metadata"] for cell in cells(project)}
    solution = next(meta for text, meta in by_source.items() if text.startswith("# @title Solution"))
    assert solution["cellView"] == "form" and solution["jupyter"] == {"source_hidden": True}
    assert by_source["# @title Fig. 2.2\nmath.pi"]["tags"] == ["hide-input"]
    assert by_source["# @title Imports\nimport math"]["tags"] == ["hide-input", "remove-stdout"]
    assert any(text.startswith("<details>") and "Add $x$ to itself." in text for text in by_source)


@pytest.mark.parametrize(
    ("snippet", "says"),
    [
        (":::{mermaid}\nx\n:::", "does not know the directive {mermaid}"),
        ("{kbd}`x`", "does not know the role {kbd}"),
        ("{ref}`nowhere`", "no label nowhere"),
        ("{doc}`nowhere`", "no page nowhere"),
        ("{cite}`nobody`", "no entry nobody"),
        (":::{note}\nnever closed", "never closed"),
        (":::\nstray", "without a directive"),
        ("text ::: text", "stray ::: fence"),
        ("- item\n  :::{note}\n  x\n  :::", "indented"),
        ("{{ name }}", "substitution"),
        ("[text](#label)", "MyST link"),
        ("[text](before.md)", "link to a source page"),
        ("$$\nnever closed", "never closed"),
        ("\\begin{align}\na\n\\end{align}", "outside $$"),
        ("{ref}`never closed", "without its closing backquote"),
        (":::{figure} a.png\n:name: fig-x\n\nText.\n:::", "no :alt:"),
        (":::{figure} a.png\n:name: fig-x\n:alt: A.\n\nText.\n:::", "no file a.png"),
        (":::{prf:proof}\n```python\nx\n```\n:::", "ends with text or with a formula"),
        ("$$\na\n$$ (eq-sample)", "used twice"),
        ("```{literalinclude} triple.py\n:pyobject: double\n```", "triple.py has no double"),
        ("```{literalinclude} triple.py\n```", "triple.py has no :pyobject:"),
        ("```{literalinclude} nowhere.py\n:pyobject: x\n```", "nowhere.py has no x"),
    ],
)
def test_what_it_does_not_know_is_an_error_with_its_place(project, capsys, snippet, says):
    page = project / "book" / "sample.md"
    line = len(page.read_text().splitlines()) + 2
    page.write_text(f"{page.read_text()}\n{snippet}\n")
    assert export.main(["--root", str(project)]) == 1
    message = capsys.readouterr().err
    assert says in message
    place = re.search(r"sample\.md:(\d+)", message)
    assert place and line <= int(place[1]) <= line + 2


def test_a_page_with_code_needs_its_front_matter(project, capsys):
    page = project / "book" / "before.md"
    page.write_text(page.read_text().replace("jupytext:", "other:"))
    assert export.main(["--root", str(project)]) == 1
    assert "before.md:1: a page with code cells needs jupytext" in capsys.readouterr().err


def test_the_limit_on_size(project):
    page = project / "book" / "sample.md"
    page.write_text(page.read_text() + "word " * 32_000)
    with pytest.raises(MystError, match="the limit is 150000"):
        export.export_all(project)


def test_the_gate_names_stale_and_orphaned_notebooks(project, capsys):
    assert export.main(["--check", "--root", str(project)]) == 0
    page = project / "book" / "before.md"
    page.write_text(page.read_text().replace("A lemma.", "Another."))
    (project / "book" / "gone.ipynb").write_text("{}")
    assert export.main(["--check", "--root", str(project)]) == 1
    message = capsys.readouterr().err
    assert "before.ipynb" in message and "gone.ipynb" in message and "sample.ipynb" not in message
    (project / "book" / "gone.ipynb").unlink()
    assert export.main(["--root", str(project)]) == 0
    assert export.main(["--check", "--root", str(project)]) == 0
