"""Grading: right functions score, and no hostile or broken hand-in scores, stops the batch, or gets out."""

import csv
import json
import pickle
import socket
import time
from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch

import atelier.exercises
from atelier.cli import main
from atelier.commands import grade
from atelier.commands.contained import OURS, selected

LABEL, OTHER = "ex-intro-difference", "ex-intro-own"
DIFFERENCE = """
def my_difference(x, x0, here, there):
    (alpha, sigma), (a, s) = here, there
    return (a - s / sigma * alpha) * x0 - (1 - s / sigma) * x
"""
OWN = """
def my_own(first, second):
    return (torch.cdist(first.flatten(1), second.flatten(1)).argmin(1) == torch.arange(len(first))).double().mean()
"""
HEAD = "import torch, math\nfrom atelier.pages import check, exercise\nraise SystemExit('a chapter is never run')"
# Each defines the function of LABEL; with what is said of it, or None if it is right all the same.
HOSTILE = {
    "loop": ("def my_difference(*a):\n    while True: pass", "took longer"),
    "import-loop": ("while True: pass\n" + DIFFERENCE, "took longer"),
    "memory": ("def my_difference(*a):\n    kept = []\n    while True: kept.append(bytearray(1 << 26))", "MemoryError"),
    "many-memory": (
        "import os\ndef my_difference(*a):\n    os.fork()\n    kept = [bytearray(1 << 28) for _ in range(99)]",
        "MemoryError",
    ),
    "os-exit": ("import os\ndef my_difference(*a): os._exit(0)", "ended its process with status 0"),
    "sys-exit": ("import sys\ndef my_difference(*a): sys.exit(0)", "SystemExit"),
    "import-error": ("1 / 0\nraise KeyError\ndef other(): pass\n[][0]\nx = my_difference = y", "ZeroDivisionError"),
    "syntax": ("def my_difference(x:\n    return", "SyntaxError"),
    "delete": ("import shutil, os\ndef my_difference(*a):\n    shutil.rmtree(GONE)", "FileNotFoundError"),
    "write": ("def my_difference(*a):\n    open('/usr/escaped', 'w').write('x')", "OSError"),
    "fill": ("def my_difference(*a):\n    while True: open('f', 'ab').write(bytes(1 << 20))", ""),
    "fork-bomb": ("import os\ndef my_difference(*a):\n    while True: os.fork()", ""),
    "orphan": ("import os, time\ndef my_difference(*a):\n    os.fork() or time.sleep(99)\n    return 0", "BlockingIO"),
    "flood": ("def my_difference(*a):\n    for _ in range(50): print('x' * 10**6)\n    return a[0]", "Relative error"),
    "flood-pipe": (
        "import os\ndef my_difference(*a):\n    while True: [os.write(3, b'T' * (1 << 20)) for _ in range(9)]",
        "sent more than",
    ),
    "large": ("import torch\ndef my_difference(*a): return torch.zeros(1 << 21).double()", ""),
    "recursion": ("def my_difference(*a): return my_difference(*a)", "RecursionError"),
    "segfault": ("import ctypes\ndef my_difference(*a): ctypes.string_at(0)", "SIGSEGV"),
    "network": (
        "import socket\ndef my_difference(*a): socket.create_connection(('127.0.0.1', PORT), 1)",
        "Network is unreachable",
    ),
    "find": ("from atelier.exercises import find\ndef my_difference(*a): return find('ex').reference(*a)", OURS),
    "find-in": ("def my_difference(*a):\n    import atelier.exercises.intro as i\n    return i.difference(*a)", OURS),
    "exercise": ("my_difference = exercise('ex-intro-difference', None)", OURS),
    "source": (
        "import atelier\ndef my_difference(*a):\n    exec(open(atelier.__path__[0] + '/exercises/intro.py').read())",
        "FileNotFoundError",
    ),
    "objects": (
        "import gc\ndef my_difference(*a):\n"
        "    functions = [o for o in gc.get_objects() if type(o) is type(lambda: 0) and o.__name__ == 'difference']\n"
        "    return [f for f in functions if 'shrink' in f.__code__.co_varnames][0](*a)",
        "IndexError",
    ),
    "patched": (
        "import numpy, torch, math\nnumpy.linalg.norm = lambda *a: 0.0\nmath.isfinite = lambda *a: True\n"
        "torch.Tensor.__sub__ = lambda *a: 0\ndef my_difference(x, *a): return x",
        "Relative error",
    ),
    "forged": (
        "import os\ndef my_difference(*a):\n    os.write(3, b'T{\"right\": true}')\n    os._exit(0)",
        "no values",
    ),
    "pickle": (
        "import os\nclass Evil:\n    def __reduce__(self): return os.system, ('touch /tmp/evil',)\n"
        "def my_difference(*a): return Evil()",
        "TypeError",
    ),
    "no-number": ("import torch\ndef my_difference(*a): return torch.zeros(0)", "without a number"),
    "nan": ("def my_difference(x, *a): return x * float('nan')", "Relative error inf"),
    "text": (
        "class E(Exception):\n    def __str__(self): raise self\ndef my_difference(*a): raise E",
        "cannot be shown",
    ),
    "formula": ("class E(Exception): pass\nE.__name__ = '=1+1'\ndef my_difference(*a): raise E('\\n2')", "'=1+1: 2"),
    "del": (DIFFERENCE + "class D:\n    def __del__(self):\n        while True: pass\nd = D()", None),
    "thread": (DIFFERENCE + "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()", None),
    "after": (DIFFERENCE + "print(painting.x)", None),
    "kill": (
        "import os\ndef my_difference(x, *a):\n    for p in (os.getppid(), -1):\n        os.kill(p, 9)\n    return x",
        "",
    ),
}  # fmt: skip


def notebook(own, other=OWN, *, about=True, check="exercise('{}', {})"):
    """A hand-in of two exercises, in the form of the student edition."""

    def cell(source, **painters):
        metadata = {"painters": painters} if painters and about else {}
        return {"cell_type": "code", "metadata": metadata, "source": source.splitlines(True), "outputs": []}

    cells = [cell(HEAD)]
    for label, name, source in ((LABEL, "my_difference", own), (OTHER, "my_own", other)):
        if source is not None:
            cells.append(cell(source, exercise=label, role="answer", points=1000))
            cells.append(cell(check.format(label, name), exercise=label, role="check"))
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


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
            (folder / f"{name}.ipynb").write_text(notebook(source))
        for name in ("aaa", "zzz"):
            (folder / f"{name}.ipynb").write_text(notebook(DIFFERENCE))
        rows, totals = run(place, folder, "hostile.csv", "--timeout", "2")
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
    files = {
        "right.ipynb": notebook(DIFFERENCE),
        "stripped.ipynb": notebook(DIFFERENCE, about=False),
        "wrong.ipynb": notebook(DIFFERENCE.replace("1 -", "2 -"), OWN.replace(".mean", ".sum")),
        "empty.ipynb": notebook("def my_difference(*a): ...", "def my_own(*a): return None"),
        "missing.ipynb": notebook(None),
        "no-cells.ipynb": json.dumps({"cells": []}),
        "nothing.ipynb": "",
        "json.ipynb": '{"cells": [',
        "deep.ipynb": "[" * 100_000,
        "list.ipynb": "[1]",
        "bytes.ipynb": "\x00\udcff",
        "checks.ipynb": notebook("def my_difference(*a): return 1", check="exercise = print\nexercise('{}', {})"),
        "=cmd.ipynb": notebook(DIFFERENCE),
        "folder/one.ipynb": notebook(None),
        "folder/inner/two.ipynb": notebook(DIFFERENCE, None),
        "folder/broken.ipynb": "{",
        "no-notebook/x.txt": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
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
