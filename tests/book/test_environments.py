"""The environments that chapters must run in: their pins, and what is told of them. Making them is a weekly job."""

import sys

import environments
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = environments.ROOT


def pinned(name: str, python: str) -> dict[str, Version]:
    """The exact versions of an environment under a Python."""
    found = {}
    for requirement in map(Requirement, environments.pins(name, ROOT, None)):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            found[requirement.name] = Version(pin.version)
    return found


@pytest.mark.parametrize("python", environments.PYTHONS["colab"])
def test_what_colab_has_is_enough_for_the_book(python):
    has = pinned("colab", python)
    for requirement in environments.declared(ROOT):
        assert has[requirement.name] in requirement.specifier, requirement


def test_the_lowest_environment_has_each_bound_and_nothing_else():
    lowest = pinned("lowest", "3.11")
    declared = {requirement.name: requirement.specifier for requirement in environments.declared(ROOT)}
    assert lowest.keys() == declared.keys() and len(lowest) >= 12
    assert all(str(declared[name]) == f">={version}" for name, version in lowest.items())
    torch = [line for line in environments.pins("lowest", ROOT, "2.99") if line.startswith("torch")]
    assert torch == ["torch==2.99"]


def test_a_python_that_is_not_here_is_skipped_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHON399", str(tmp_path / "nothing"))
    assert environments.interpreter("3.99") is None
    outcome = environments.try_one("colab", "3.99", tmp_path, tmp_path, ROOT, None)
    assert outcome.note == "skipped: no python3.99 here" and not outcome.bad
    assert outcome.note in environments.table([outcome])


def test_a_variable_names_an_interpreter(monkeypatch):
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    monkeypatch.setenv(f"PYTHON{version.replace('.', '')}", sys.executable)
    assert environments.interpreter(version) == sys.executable


def test_what_installing_changed_is_bad_and_told():
    changed = environments.changes({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "2.1", "d": "4"})
    assert changed == ("b 2 -> 2.1", "c 3 -> gone")
    outcome = environments.Outcome("colab", {"torch": "2.11.0"}, passed=5, changed=changed)
    assert outcome.bad and "installing the book changed b 2 -> 2.1, c 3 -> gone" in environments.table([outcome])
    assert not environments.Outcome("newest", {}, passed=5).bad and environments.Outcome("newest", {}, failed=1).bad
