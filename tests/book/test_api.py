"""The API reference has a page for every module of the core and a row for every room of the workshop."""

import re
from pathlib import Path

import yaml

import painters

ROOT = Path(__file__).resolve().parents[2]
INDEX = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book" / "api").glob("*.md")}
# The command line has its own help, and packages only pass names on.
UNLISTED = {"__init__", "cli"}


def test_every_module_of_the_core_has_its_page():
    source = ROOT / "src"
    paths = (path for path in (source / "painters").rglob("*.py") if path.stem not in UNLISTED)
    modules = {".".join(path.relative_to(source).with_suffix("").parts) for path in paths}
    assert {f"painters.{stem.replace('-', '.')}" for stem in PAGES} == modules
    for stem, text in PAGES.items():
        module = f"painters.{stem.replace('-', '.')}"
        directive = re.search(r"automodule:: (\S+)\n   :members:$", text, re.M)
        assert re.match(rf"# {re.escape(module)}\n", text) and directive and directive[1] == module, stem


def test_the_index_and_the_contents_list_every_page_in_one_order():
    listed = re.findall(r"^   (painters\.\S+)$", INDEX, re.M)
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    (api,) = (entry for part in parts for entry in part["chapters"] if entry["file"] == "book/api")
    files = [section["file"] for section in api["sections"]]
    assert files == [f"book/api/{module.removeprefix('painters.').replace('.', '-')}" for module in listed]
    assert sorted(files) == sorted(f"book/api/{stem}" for stem in PAGES)


def test_every_name_at_the_top_of_the_package_is_in_the_index():
    listed = re.findall(r"\{py:\w+\}`(\w+) <painters\.", INDEX)
    assert sorted(listed) == sorted(painters.__all__)


def test_every_room_of_the_workshop_is_in_the_table():
    rooms = {
        path.stem for path in (ROOT / "src" / "atelier").iterdir() if path.suffix == ".py" or list(path.glob("*.py"))
    }
    listed = re.findall(r"`atelier\.(\w+)`", INDEX)
    assert sorted(listed) == sorted(rooms - UNLISTED)
