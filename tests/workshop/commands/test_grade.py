"""Grading: right functions score, and no hostile or broken hand-in scores, stops the batch, or gets out."""

import csv
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
import torch
from handins import DIFFERENCE, HEAD, HOSTILE, LABEL, OTHER, WHOLE, notebook, written

import atelier.exercises
from atelier.cli import main
from atelier.commands import grade
from atelier.commands.contained import selected


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the table of exercises and a hidden key."""
    try:
        if not grade.isolated():
            pytest.skip("this system gives no user namespaces")
    except ValueError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("grade")
    head = "page,label,number,title,kind,points,minutes,graded\n"
    rows = [f"intro,{LABEL},1,a,code,3,9,by itself", f"intro,{OTHER},2,b,code,2,9,by itself"]
    rows += ["gaussian,ex-gaussian-flow,2,c,code,4,9,by itself", "intro,ex-intro-x,3,d,think,9,9,by hand"]
    (folder / "exercises.csv").write_text(head + "\n".join(rows) + "\n")
    (folder / "hidden.key").write_text("a secret\n")
    return folder


def run(place, folder, out="grades.csv", *more):
    """Grade a folder; return the rows by submission and exercise, and the totals by submission."""
    options = ["--hidden", str(place / "hidden.key"), "--out", str(place / out), "--jobs", "2", *more]
    assert main(["grade", str(folder), *options]) == 0
    with (place / out).open(newline="") as file:
        rows = {(row["submission"], row["exercise"]): row for row in csv.DictReader(file)}
    with (place / out).with_stem(f"{out[:-4]}-totals").open(newline="") as file:
        return rows, {row["submission"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def hostile(place):
    """All hostile hand-ins, graded in one batch between two good ones; and what they tried to reach."""
    folder, gone = place / "hostile", place / "precious"
    folder.mkdir()
    gone.mkdir()
    (gone / "file").write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name, (source, _) in HOSTILE.items():
            source = source.replace("GONE", repr(str(gone))).replace("PORT", str(server.getsockname()[1]))
            source = source.replace("KEY", repr(str(place / "hidden.key")))
            (folder / f"{name}.ipynb").write_text(notebook(source))
        for name in ("aaa", "zzz"):
            (folder / f"{name}.ipynb").write_text(notebook(DIFFERENCE))
        rows, totals = run(place, folder, "hostile.csv", "--timeout", "5")
    assert (gone / "file").read_text() == "kept"
    return rows, totals


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_function_is_named_and_scores_nothing(hostile, name):
    rows, _ = hostile
    row, says = rows[name, LABEL], HOSTILE[name][1]
    assert (row["passed"], row["points"]) == (("1", "3") if says is None else ("0", "0"))
    assert row["first error"] == "" if says is None else says in row["first error"] != ""
    assert "\n" not in row["first error"] and len(row["first error"]) <= 301
    assert rows[name, OTHER]["passed"] == "1", "the other exercise of the same notebook is right"


def test_a_batch_goes_on_after_all_of_them(hostile):
    _, totals = hostile
    assert all(totals[name]["points"] == totals[name]["possible"] == "5" for name in ("aaa", "zzz"))
    assert len(totals) == len(HOSTILE) + 2


def test_what_is_handed_in_may_be_broken_stripped_or_a_folder(place, capsys):
    folder = place / "mixed"
    written(folder, WHOLE)
    (folder / "link.ipynb").symlink_to(folder / "right.ipynb")
    rows, totals = run(place, folder)
    points = {name: row["points"] for name, row in totals.items()}
    assert points == dict.fromkeys(points, "0") | {
        "right": "5", "stripped": "5", "'=cmd": "5", "folder": "5", "missing": "2", "checks": "2",
    }  # fmt: skip
    assert len(points) == 15 and {row["possible"] for row in totals.values()} == {"5"}
    says = {name: rows[name, LABEL]["first error"] for name in points}
    assert "Relative error" in says["wrong"] and says["empty"] == "not written yet"
    assert says["missing"] == says["no-cells"] == "not handed in" and says["no-notebook"] == "no notebook was handed in"
    assert all("is no notebook" in says[name] for name in ("nothing", "json", "deep", "list", "bytes"))
    assert "broken.ipynb is no notebook" in totals["folder"]["first error"]
    assert "100%" in capsys.readouterr().err


WITHOUT = """
mount --make-rprivate / && mount --rbind / "$1" || exit 77
case "$3" in "$HOME"/*)
  mount -t tmpfs -o mode=755 none "$1$HOME" && mkdir -p "$1$3" && mount --bind "$3" "$1$3" || exit 77
esac
exec chroot --userspec 65534:65534 --groups= "$1" sh -c "$2" || exit 77
"""
"""Runs a command as a user to whom the kernel gives no namespaces, since the root of its files is not the system's."""


@pytest.mark.slow
def test_without_namespaces_it_says_so_and_grades_with_what_is_left(place, tmp_path_factory):
    if os.getuid() or not shutil.which("unshare"):
        pytest.skip("only root can take the namespaces away")
    kinds = ("loop", "memory", "os-exit", "sys-exit", "find", "find-in", "patched", "forged", "flood", "orphan")
    with tempfile.TemporaryDirectory() as name:
        folder, root = Path(name), tmp_path_factory.mktemp("root")
        written(folder, {f"in/{kind}.ipynb": notebook(HOSTILE[kind][0]) for kind in kinds})
        written(folder, {"in/right.ipynb": notebook(DIFFERENCE)})
        for file in ("exercises.csv", "hidden.key"):
            (folder / file).write_bytes((place / file).read_bytes())
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)
        run = f"cd {folder} && {sys.executable} -m atelier.cli grade in --hidden hidden.key --timeout 6 --jobs 1"
        command = ["unshare", "-m", "sh", "-c", WITHOUT, "sh", str(root), run, sys.base_prefix]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        if done.returncode == 77 or "Permission denied" in done.stderr:
            pytest.skip(f"no other user can be had here: {done.stderr}")
        assert done.returncode == 0 and "painters: no namespaces (" in done.stderr, done.stderr
        rows = {row["submission"]: row for row in csv.DictReader((folder / "grades-totals.csv").open())}
    assert {name: row["points"] for name, row in rows.items()} == dict.fromkeys(kinds, "2") | {"right": "5"}
    for kind in set(kinds) - {"orphan", "memory"}:
        assert HOSTILE[kind][1] in rows[kind]["first error"]


def test_a_process_that_was_stopped_is_replaced(monkeypatch):
    worker, exercise = grade.Worker(5, False), grade.Exercise.of({"label": LABEL, "page": "intro", "points": "3"}, None)

    def ask(source):
        return exercise.judged(worker.ask([(HEAD, None, None), (source, LABEL, "answer")], LABEL, exercise.sent))

    try:
        assert ask(DIFFERENCE) == (True, "")
        first = worker.process
        monkeypatch.setattr(grade, "PATIENCE", -8)
        assert ask(HOSTILE["stop"][0]) == (False, "it ended or stopped the process that grades it")
        monkeypatch.undo()
        assert ask(DIFFERENCE) == (True, "") and worker.process is not first
    finally:
        worker.close()


def test_without_namespaces_root_grades_nothing(monkeypatch, capsys):
    monkeypatch.setattr(grade.Worker, "ask", lambda *arguments: b"Enone here")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(ValueError, match=r"no namespaces \(none here\), and to root every file is open"):
        grade.isolated.__wrapped__()
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert grade.isolated.__wrapped__() is False
    assert "files and network are open to what is graded" in capsys.readouterr().err


def test_finished_submissions_are_kept_until_they_change(place, monkeypatch):
    folder, asked, ask = place / "again", [], grade.Worker.ask
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.ipynb").write_text(notebook(DIFFERENCE + f"# {name}"))
    first = run(place, folder, "again.csv")
    monkeypatch.setattr(grade.Worker, "ask", lambda self, *a: asked.append(a[1]) or ask(self, *a))
    assert run(place, folder, "again.csv") == first and not asked
    (folder / "b.ipynb").write_text(notebook(DIFFERENCE, None))
    run(place, folder, "again.csv")
    assert asked == [LABEL]
    (place / "hidden.key").write_text("another secret\n")
    run(place, folder, "again.csv")
    assert len(asked) == 6
    (place / "hidden.key").write_text("a secret\n")


def test_a_secret_draws_other_inputs_than_the_page():
    row = {"label": LABEL, "page": "intro", "points": "3"}
    page, one, two = (grade.Exercise.of(row, secret).inputs[0][0] for secret in (None, "one", "two"))
    assert torch.equal(page, atelier.exercises.find(LABEL).inputs(torch.Generator().manual_seed(0))[0])
    assert not torch.equal(page, one) and not torch.equal(one, two)


@pytest.mark.parametrize("page", [found.name for found in iter_modules(atelier.exercises.__path__)])
def test_inputs_are_sent_by_value_without_the_solutions(page):
    for task in getattr(import_module(f"atelier.exercises.{page}"), "TASKS", ()):
        exercise = grade.Exercise.of({"label": task.label, "page": page, "points": "1"}, "secret")
        assert b"atelier.exercises" not in exercise.sent
        for sent, kept in zip(pickle.loads(exercise.sent), exercise.inputs, strict=True):
            torch.testing.assert_close(task.reference(*sent), task.reference(*kept), equal_nan=True)


def test_only_what_a_function_needs_is_run():
    cells = [
        ("import torch, math\nfrom numpy import pi\nTWO = 2\nbig = torch.randn(3)\nopen('x')", None, None),
        ("def unused(): pass\ndef helper(x): return TWO * x", None, None),
        ("%matplotlib inline\nx = 1", None, None),
        ("def my_first(x): ...", "ex-a-b", "answer"),
        ("y = exercise('ex-a-b', my_second)\ncheck.close(y)", "ex-a-b", "check"),
        ("def my_second(x):\n    return helper(math.pi)", None, None),
    ]
    name, helpers, body = selected(cells, "ex-a-b")
    assert name == "my_second" and len(body) == 1
    assert [type(s).__name__ for s in helpers] == ["Import", "Assign", "FunctionDef", "Assign"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nowhere"], "no folder nowhere"), (["."], "name the exercises.csv"), ([".", "--timeout", "x"], "give a number")],
)
def test_mistakes_are_one_sentence(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["grade", *arguments]) == 1
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_many_submissions_take_milliseconds_each(place):
    folder = place / "many"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.ipynb").write_text(notebook(DIFFERENCE))
    start = time.perf_counter()
    _, totals = run(place, folder, "many.csv")
    assert len(totals) == 20 and {row["points"] for row in totals.values()} == {"5"}
    assert time.perf_counter() - start < 30
