"""The API reference names every module of the package, and none that is gone."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The command line has its own help, and packages only pass names on.
UNLISTED = {"cli", "__main__"}


def test_every_module_is_in_the_reference():
    source = ROOT / "src" / "painters"
    paths = [path for path in source.rglob("*.py") if path.stem not in {"__init__", *UNLISTED}]
    modules = {".".join(("painters", *path.relative_to(source).with_suffix("").parts)) for path in paths}
    listed = re.findall(r"automodule:: (\S+)", (ROOT / "book" / "api.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(modules)
