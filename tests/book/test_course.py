"""The editions: no solution reaches a student, both run to their end, and every exercise has its points."""

import csv
import json
import os
import re
import subprocess
import sys
import zipfile
from html import escape
from pathlib import Path

import course
import figures
import nbformat
import pytest
from archives import pack
from leaks import STEMMER, leaks, prose, shingles
from minutes import COURSE
from myst import MystError, read_page
from numbering import read_book
from PIL import Image

from atelier.exercises import find

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def editions(tmp_path_factory):
    """Both editions of the whole book, their exercises, and their zips."""
    output = tmp_path_factory.mktemp("course")
    works = course.write_editions(ROOT, output)
    for name in ("student", "instructor"):
        pack(output / name)
    return output, works


def pages():
    return [page for page in read_book(ROOT).pages if page.has_notebook]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def cells(folder: Path, page: str) -> list[dict]:
    return json.loads((folder / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]


@pytest.fixture(scope="module")
def secrets():
    """What no student may find."""
    return course.secrets_of(ROOT)


def test_no_file_of_the_student_edition_holds_a_solution(editions, secrets):
    folder = editions[0] / "student"
    assert leaks([folder, folder.with_suffix(".zip")], secrets) == {}
    for path in folder.glob("*.ipynb"):
        text = "\n\n".join(map(source, json.loads(path.read_text(encoding="utf-8"))["cells"]))
        assert not re.search(r"solution.?(start|end)|>Solution<|@title Solution|\breference_", text), path.name
    with zipfile.ZipFile(folder.with_suffix(".zip")) as archive:
        names = {name.removeprefix("student/") for name in archive.namelist()}
    assert names == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_search_for_leaks_finds_what_the_instructor_edition_has(editions, secrets, tmp_path):
    files = {"exam.md", *(f"{name}.ipynb" for name in COURSE)}
    assert leaks([editions[0] / "instructor"], secrets).keys() >= {f"instructor/{name}" for name in files}
    cell = next(s for s in map(source, cells(editions[0] / "instructor", "gaussian")) if "def flow(x, mu, U" in s)
    (line,) = [line for line in cell.splitlines() if "return b * mu" in line]
    told = [b for page in pages() for b in page.blocks if b.name == "solution"]
    said = (s for block in told for s in " ".join(block.lines).split(". "))
    sentence = next(s for s in said if len(s.split()) > 12 and not re.search(r"[$`{}*]", s))
    word = max(filter(str.isalpha, secrets.words), key=len)
    planted = {
        "line.py": line,
        "page.html": f"<p>{''.join(f'<b>{escape(word)}</b> ' for word in sentence.split())}</p>",
        "code.html": "<pre>" + " ".join(f"<span>{escape(word)}</span>" for word in line.split()) + "</pre>",
        "tooltip.html": f'<p title="{escape(sentence)}">.</p>',
        "book.ipynb": json.dumps({"cells": [{"source": ["a\n"], "outputs": [{"text": line.splitlines(True)}]}]}),
        "table.csv": f"1,{sentence}",
        "searchindex.js": f'Search.setIndex({json.dumps({"terms": {"paint": 1, STEMMER.stem(word): 2}})})',
    }  # fmt: skip
    for name, text in planted.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "inside.zip", "w") as archive:
        archive.writestr("deep/line.txt", sentence)
    (tmp_path / "clean.html").write_text("<p>Outline first, details later: how diffusion models paint, and why.</p>")
    names = {*planted, "inside.zip/deep/line.txt", "tooltip.html (marks)"} - {"tooltip.html"}
    assert leaks([tmp_path], secrets).keys() == {f"{tmp_path.name}/{name}" for name in names}


def test_a_leak_stops_the_making_of_the_course(tmp_path, capsys):
    for name in ("book", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("_toc.yml", "_config.yml", "pyproject.toml", "LICENSE", "LICENSE-CC-BY-4.0"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    assert course.main(["--no-figures", "--root", str(tmp_path)]) == 0
    assert "wrote _build/course/course.imscc" in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "without_solutions", lambda page: page)
        patch.setattr(course, "student_cells", lambda page, works, renderer: course.cells_of(page.blocks, renderer))
        assert course.main(["--no-figures", "--root", str(tmp_path)]) == 1
    assert "student.zip/student/gaussian.ipynb gives away: " in capsys.readouterr().err


def test_notes_for_teachers_stay_with_teachers(editions):
    for name in COURSE:
        notes = (ROOT / "book" / "teaching" / f"{name}.md").read_text(encoding="utf-8")
        mine = shingles(prose(notes.split("---", 2)[2]))
        texts = {e: "\n".join(map(source, cells(editions[0] / e, name))) for e in ("student", "instructor")}
        assert len(mine & shingles(texts["instructor"])) > 0.7 * len(mine)
        assert "For the teacher" not in texts["student"]


def test_only_teachers_have_the_key_of_the_hidden_inputs(editions):
    key = (editions[0] / "instructor" / "hidden.key").read_text(encoding="utf-8").strip()
    assert re.fullmatch("[0-9a-f]{64}", key)
    student = [path for path in (editions[0] / "student").rglob("*") if path.is_file()]
    assert student and not [path for path in student if path.name == "hidden.key" or key.encode() in path.read_bytes()]


def test_every_notebook_is_valid(editions):
    for path in sorted(editions[0].rglob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


def test_only_teachers_have_the_exam(editions):
    folders = {name: editions[0] / name for name in ("student", "instructor")}
    exam = (folders["instructor"] / "exam.md").read_text(encoding="utf-8")
    assert exam.count("\n## Question ") == exam.count("<details>") == 10
    blank = (folders["instructor"] / "exam-blank.md").read_text(encoding="utf-8")
    assert blank.count("\n## Question ") == 10 and "<details>" not in blank and "Common:" not in blank
    for path in folders["student"].rglob("*"):
        if path.suffix in (".ipynb", ".md", ".csv"):
            text = path.read_text(encoding="utf-8")
            assert not re.findall(r"## Question \d+", text), path.name


def test_links_and_pictures_of_an_edition_are_in_it(editions):
    for folder in (editions[0] / "student", editions[0] / "instructor"):
        for path in folder.glob("*.ipynb"):
            text = "\n".join(source(c) for c in cells(folder, path.stem) if c["cell_type"] == "markdown")
            for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", re.sub(r"\$[^$]*\$|`[^`]*`", "", text)):
                assert (folder / target).exists(), f"{path.name}: {target}"


def test_each_exercise_has_points_a_place_to_answer_and_if_it_is_checked_a_task(editions):
    output, works = editions
    rows = list(csv.DictReader((output / "student" / "exercises.csv").open(encoding="utf-8")))
    assert [row["label"] for row in rows] == [work.label for work in works]
    roles: dict[str, list[str]] = {}
    for page in {work.page for work in works}:
        for cell in cells(output / "student", page):
            if "exercise" in (told := cell["metadata"].get("painters", {})):
                roles.setdefault(told["exercise"], []).append(told["role"])
                assert told["points"] > 0
    for work in works:
        assert {"statement", "answer"} <= set(roles[work.label]), work.label
        assert (work.graded == "by itself") == ("check" in roles[work.label])
        if work.graded == "by itself":
            assert find(work.label).reference is not None
            assert work.kind == "code"
    for name in COURSE:
        mine = [work for work in works if work.page == name]
        assert len(mine) >= 6 and {work.kind for work in mine} == {"code", "think", "explore"}


def test_each_task_of_the_package_is_checked_on_its_page_once():
    from importlib import import_module
    from pkgutil import iter_modules

    import atelier.exercises as package

    known = []
    for found in iter_modules(package.__path__):
        known += [task.label for task in getattr(import_module(f"{package.__name__}.{found.name}"), "TASKS", ())]
    called = [label for page in pages() for label in course.CHECK.findall((ROOT / f"book/{page.name}.md").read_text())]
    assert sorted(called) == sorted(known)


def write(path: Path, text: str) -> Path:
    path.write_text("---\njupytext: {}\nkernelspec: {}\n---\n\n# A page\n\n" + text, encoding="utf-8")
    return path


CELL = "```{code-cell} ipython3\n%s\n```\n\n"
GATED = ":::{solution-start} ex-a\n:::\n\n%s:::{solution-end}\n:::\n\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GATED % (CELL % "lost = 1") + CELL % "print(lost)", r"lost\.md:\d+: lost is only defined in a solution"),
        (":::{note}\n```{solution} ex-a\nx\n```\n:::\n", "inside another block"),
        (GATED % "$$\na\n$$ (eq-a)\n\n" + "See {eq}`eq-a`.\n", "eq-a stands in a solution"),
    ],
)
def test_a_page_that_needs_its_solutions_is_refused(tmp_path, text, says):
    with pytest.raises(MystError, match=says):
        course.without_solutions(read_page(write(tmp_path / "lost.md", text)))


def test_a_page_without_its_solutions_keeps_the_rest(tmp_path):
    page = write(
        tmp_path / "kept.md",
        "Before.\n\n" + GATED % ("Secret.\n\n" + CELL % "x = 1") + CELL % "x = 2\nprint(x)" + "After.\n\n"
        ":::{dropdown} Answer to the prediction\nSecret.\n:::\n\n:::{solution} ex-b\nSecret.\n:::\n\nEnd.\n",
    )
    text = course.student_source(page)
    assert "Secret" not in text and all(word in text for word in ("Before.", "x = 2", "After.", "End."))
    left = course.without_solutions(read_page(page))
    again = read_page(write(tmp_path / "again.md", text.split("# A page")[1]))
    told = ["\n".join(line for block in p.blocks for line in block.lines if line) for p in (left, again)]
    assert told[0] == told[1]


def test_a_site_for_students_would_be_built_from_pages_without_solutions(tmp_path, secrets):
    tree = course.student_tree(ROOT, tmp_path / "tree")
    assert not list(tree.rglob("teaching")) and (tree / "src").is_symlink()
    assert leaks([tree / "book"], secrets) == {}
    config = (tree / "_config.yml").read_text(encoding="utf-8")
    assert "use_repository_button: false" in config and "colab" not in config.lower()


@pytest.mark.slow
@pytest.mark.parametrize(("edition", "chapters"), [("student", ("gaussian", "gans")), ("instructor", ("gans",))])
def test_an_edition_runs_to_its_end(editions, tmp_path, edition, chapters):
    """In an empty folder, with every exercise unwritten."""
    for name in chapters:
        (tmp_path / f"{name}.ipynb").write_bytes((editions[0] / edition / f"{name}.ipynb").read_bytes())
    environment = {**os.environ, "PAINTERS_PROFILE": "ci"}
    environment.pop("PAINTERS_DATA", None)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--nbval-lax",
        "--nbval-cell-timeout",
        "240",
        "-p",
        "no:cacheprovider",
    ]
    run = subprocess.run([*command, "."], cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert run.returncode == 0, run.stdout[-4000:]


DRAWS = """
from atelier.pages import sequence, set_style
import matplotlib.pyplot as plt
import numpy as np
set_style()
"""
PLOT = """```{code-cell} ipython3
---
mystnb:
  image:
    alt: A line.
  figure:
    name: fig-intro-line
    caption: |
      It rises, {cite:t}`nobody2020`.
---
plt.plot([0, 1]);
```

"""
FRAMES = """
sequence([np.zeros((4, 4)), np.ones((4, 4))], ["black", "white"], caption="It <brightens>.", name="time")
"""


@pytest.mark.slow
def test_the_figure_pack_has_pictures_captions_and_texts_and_draws_once(tmp_path, capsys):
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text("root: book/intro\n")
    entry = "@misc{nobody2020, author={A. Nobody}, title={None}, year={2020}}"
    (tmp_path / "book" / "references.bib").write_text(entry)
    for name in ("pyproject.toml", "requirements.txt", "LICENSE-CC-BY-4.0"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "src").mkdir()
    write(tmp_path / "book" / "intro.md", CELL % DRAWS + PLOT + CELL % FRAMES)
    assert figures.draw_all(tmp_path, tmp_path / "figures", "ci") == 0
    line, frames = json.loads((tmp_path / "figures" / "index.json").read_text())
    assert line["files"] == ["fig-intro-line.png", "fig-intro-line.svg"] and line["alts"] == ["A line."] * 2
    assert line["number"] == "Fig. 1" and line["caption"] == "It rises, Nobody [2020]."
    assert frames["alts"] == ["black", "white"] and frames["caption"] == "It <brightens>."
    with Image.open(tmp_path / "figures" / "fig-intro-line.png") as picture:
        assert abs(picture.width - 6 * 288) < 60
    written = {path.name for path in (tmp_path / "figures").iterdir()}
    assert written == {*line["files"], *frames["files"], "INDEX.md", "index.json", "LICENSE-CC-BY-4.0"}
    assert "CC BY 4.0" in (tmp_path / "figures" / "INDEX.md").read_text()
    assert "drawing" in capsys.readouterr().out
    assert figures.draw_all(tmp_path, tmp_path / "figures", "ci") == 0
    assert "drawing" not in capsys.readouterr().out
    write(tmp_path / "book" / "intro.md", CELL % "1 / 0")
    assert figures.draw_all(tmp_path, tmp_path / "figures", "ci") == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
