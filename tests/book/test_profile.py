"""Profiles: three, read once, and an unknown one is refused."""

import os
import subprocess
import sys

import pytest

from atelier.pages.profile import PROFILES, read_profile


def test_each_profile_picks_its_value():
    assert [read_profile(name).pick(ci=1, book=2, full=3) for name in ("ci", "book", "full")] == [1, 2, 3]


def test_profiles_grow():
    ci, book, full = (PROFILES[name] for name in ("ci", "book", "full"))
    assert ci.steps < book.steps < full.steps and ci.seeds < book.seeds < full.seeds


@pytest.mark.parametrize("unset", [None, ""])
def test_the_default_is_book(unset):
    assert read_profile(unset).name == "book"


def test_an_unknown_profile_is_one_sentence():
    with pytest.raises(ValueError, match="PAINTERS_PROFILE is 'fast'; it must be one of ci, book, full"):
        read_profile("fast")


def test_it_is_read_from_the_environment_once():
    code = (
        "import os; from atelier.pages import run; os.environ['PAINTERS_PROFILE'] = 'full';"
        "from atelier.pages.profile import run as again; print(run.name, again is run)"
    )
    environment = os.environ | {"PAINTERS_PROFILE": "ci"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ci", "True"]
