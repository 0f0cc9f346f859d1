"""Faults are what they say they are, and a fault that a test can see is found."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import mutants  # noqa: E402
from faults import draw, find  # noqa: E402

TEXT = '''"""Text - of a module."""
LIMIT = 3


def area(a: int | None, b=2):
    """Words: a - b."""
    if not a:
        raise ValueError(f"{a - b}")
    x = a * b
    x = x + LIMIT
    print(a - b)
    return x / b


def nearest(x, y):
    return (x - y).square().sum(1, keepdim=True).min(dim=0)
'''


def made(text: str = TEXT) -> list[tuple[str, str, str]]:
    return [(fault.kind, fault.before, fault.after) for fault in find(text, "m")]


def test_faults_of_a_small_module():
    found = made()
    for fault in (
        ("constant", "3", "(4)"),
        ("constant", "2", "(1)"),
        ("condition", "not a", "(a)"),
        ("arithmetic", "a * b", "(a / b)"),
        ("earlier", "x = x + LIMIT", "pass"),
        ("earlier", "return x / b", "return x"),
        ("sign", "return x / b", "return -(x / b)"),
        ("swapped", "x / b", "(b / x)"),
        ("axis", "(x - y).square().sum(1, keepdim=True)", "((x - y).square().sum(0, keepdim=True))"),
        ("condition", "(x - y).square().sum(1, keepdim=True)", "((x - y).square().sum(1, keepdim=False))"),
        ("reduction", "(x - y).square().sum(1, keepdim=True)", "((x - y).square().mean(1, keepdim=True))"),
        ("reduction", "(x - y).square().sum(1, keepdim=True).min(dim=0)",
         "((x - y).square().sum(1, keepdim=True).max(dim=0))"),
    ):  # fmt: skip
        assert fault in found
    assert ("arithmetic", "x - y", "(x + y)") in found and ("swapped", "x - y", "(y - x)") not in found  # squared
    # nothing in docstrings, annotations, messages or what is printed
    assert not [fault for fault in found if fault[1] in ("a - b", "int | None") or "Words" in fault[1]]


def test_a_fault_changes_its_place_and_nothing_else():
    for fault in find(TEXT, "m"):
        text = fault.apply(TEXT)
        assert text != TEXT and compile(text, "m", "exec")
        assert text.startswith(TEXT[: fault.start]) and text.endswith(TEXT[fault.end :])
        assert TEXT[fault.start : fault.end] == fault.before
        assert TEXT[: fault.start].count("\n") + 1 == fault.at


def test_lines_that_run_a_fault():
    spans = {(fault.before, fault.first, fault.last) for fault in find(TEXT, "m")}
    assert ("3", 0, 0) in spans  # on import
    assert ("2", 7, 12) in spans  # a default matters wherever its function runs
    assert ("not a", 7, 7) in spans and ("a * b", 9, 9) in spans


def test_a_seed_draws_the_same_faults_of_every_kind():
    faults = find(TEXT, "m")
    drawn = draw(faults, 9, seed=1)
    assert drawn == draw(faults, 9, seed=1) != draw(faults, 9, seed=2)
    # kinds take turns, but for one whose places others have taken
    turns = Counter(fault.kind for fault in drawn)
    assert len({fault.kind for fault in faults}) == 9 and len(turns) >= 7 and max(turns.values()) <= 2
    every = draw(faults, 1000, seed=1)
    assert len({(fault.start, fault.end) for fault in every}) == len(every) == len({(f.start, f.end) for f in faults})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A package of one module with two tests, in the layout of ours."""
    for folder in ("src", "tests/core", "kept"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src" / "plain_area.py").write_text(TEXT.replace("print(a - b)", "while a < 0: a += 1"))
    (tmp_path / "tests" / "core" / "test_plain_area.py").write_text(
        "import plain_area\n\n"
        "def test_area():\n    assert plain_area.area(1, 4) == 1.75\n\n"
        "def test_loops():\n    assert plain_area.area(-1, -1) < 9\n\n"
        "def test_nothing():\n    assert plain_area.nearest\n"
    )
    for name, value in {
        "ROOT": tmp_path,
        "KEPT": tmp_path / "kept",
        "SURVIVORS": tmp_path / "why.toml",
        "PATIENCE": 8.0,
    }.items():
        monkeypatch.setattr(mutants, name, value)
    monkeypatch.setitem(mutants.SCOPE, "painters", ["plain_area"])
    monkeypatch.setattr(sys, "path", [str(tmp_path / "src"), *sys.path])
    for name in ("OMP_NUM_THREADS", "HYPOTHESIS_PROFILE", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTHONPATH"):
        monkeypatch.setenv(name, "")
    return tmp_path


@pytest.mark.slow
def test_what_tests_can_see_is_found_and_what_they_cannot_lives(place, capsys):
    source = (place / "src" / "plain_area.py").read_text()
    run = ["--package=painters", "--count=200", "--least=0.4", f"--out={place / 'result.md'}"]
    assert mutants.main([*run, "--minutes=0"]) == 3  # and goes on
    assert mutants.main(run) == 0
    lines = (place / "kept" / "results.jsonl").read_text().splitlines()
    known = [line for line in map(json.loads, lines) if "fault" in line]
    fates = {(line["fault"]["before"], line["fault"]["after"]): line["by"] for line in known}
    test = "tests/core/test_plain_area.py::"
    assert fates["a * b", "(a / b)"] == test + "test_area"
    assert fates["a += 1", "(a -= 1)" if ("a += 1", "(a -= 1)") in fates else "pass"] == "died"
    assert fates["x - y", "(x + y)"] == ""
    assert (place / "src" / "plain_area.py").read_text() == source
    told = (place / "result.md").read_text()
    lived = [line["fault"] for line in known if not line["by"]]
    assert told.count("NOT EXPLAINED") == len(lived) > 0

    # a second run asks nothing anew; a new test is asked about what lived, and about nothing else
    assert mutants.main(run) == 0
    assert (place / "kept" / "results.jsonl").read_text().splitlines() == lines
    explained = "\n".join(f"{side} = {json.dumps(lived[0][side])}" for side in ("module", "before", "after"))
    (place / "why.toml").write_text(f'[[survivor]]\n{explained}\nwhy = "it does not matter"\n')
    (place / "tests" / "core" / "test_more.py").write_text("def test_more():\n    assert True\n")
    assert mutants.main([*run, "--least=1"]) == 1
    again = [json.loads(line) for line in (place / "kept" / "results.jsonl").read_text().splitlines()[len(lines) :]]
    assert all(line["by"] == "" for line in again) and 0 < len(again) < len(lived)  # what is explained is not tried
    assert "it does not matter" in (place / "result.md").read_text()


def test_a_test_that_fails_by_itself_finds_nothing(place, monkeypatch):
    tests = place / "tests" / "core" / "test_plain_area.py"
    tests.write_text(
        "import os\nimport plain_area\n\ndef test_moody():\n    plain_area.area(1)\n    assert 'TRACED' in os.environ\n"
    )
    monkeypatch.setenv("TRACED", "1")
    kept = mutants.Map([str(tests.relative_to(place))])
    kept.collect(print, lambda: False)
    monkeypatch.delenv("TRACED")
    record = mutants.Record(place / "kept" / "results.jsonl", "tests")
    path = place / "src" / "plain_area.py"
    fault = next(fault for fault in find(path.read_text(), "plain_area") if fault.before == "a * b")
    assert kept.tests(fault) == ["tests/core/test_plain_area.py::test_moody"]
    assert mutants.judge(fault, path.read_text(), path, kept, record)["by"] == ""
