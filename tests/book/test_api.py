"""The API reference names every module of the core and every room of the workshop, and none that is gone."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
# The command line has its own help, and packages only pass names on.
UNLISTED = {"__init__", "cli"}


def test_every_module_of_the_core_is_in_the_reference():
    source = ROOT / "src"
    paths = (path for path in (source / "painters").rglob("*.py") if path.stem not in UNLISTED)
    modules = {".".join(path.relative_to(source).with_suffix("").parts) for path in paths}
    listed = re.findall(r"automodule:: (\S+)", PAGE)
    assert sorted(listed) == sorted(modules) and listed == re.findall(r"^### `(\S+)`", PAGE, re.M)


def test_every_room_of_the_workshop_is_in_the_table():
    rooms = {
        path.stem for path in (ROOT / "src" / "atelier").iterdir() if path.suffix == ".py" or list(path.glob("*.py"))
    }
    listed = re.findall(r"`atelier\.(\w+)`", PAGE)
    assert sorted(listed) == sorted(rooms - UNLISTED)
