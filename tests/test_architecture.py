"""The two packages keep their shape: imports point one way, and the code stays small."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
sys.path.insert(0, str(ROOT / "tools"))

from imports import graph, modules  # noqa: E402

PATHS, GRAPH = modules(SOURCE), graph(SOURCE)

# Rooms from left to right: a module imports from rooms of its own rank in the same room, or from those to the left.
CORE = (
    ("schedules",),
    ("levels", "denoiser", "trajectory", "linalg", "files"),
    ("theory",),
    ("sampling",),
    ("models",),
)
WORKSHOP = (
    ("data", "networks", "pictures", "ranks", "provenance", "linalg", "statistics"),
    ("exercises",),
    ("training", "quality", "judging"),
    ("subject", "scoring", "trained"),
    ("evidence", "landscape", "learning", "manifold", "variations", "gans", "faster"),
    ("ledger", "commands"),
    ("pages", "cli"),
)
# Imports inside a function, made only where one option of many is taken, that would otherwise break the order.
LAZY: set[tuple[str, str]] = set()
ROOMS = {name for rank in WORKSHOP[4:5] for name in rank}

LINES = {"painters": 3000, "both": 10850}
LONG_MODULES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()


def room(module: str) -> str:
    """The second part of a name, ``theory`` of painters.theory.gaussian; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def edges(package: str) -> list[tuple[str, str]]:
    return [
        (a, b) for a, found in GRAPH.items() for b in sorted(found) if a.split(".")[0] == package and (a, b) not in LAZY
    ]


def places(order: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {name: rank for rank, names in enumerate(order) for name in names}


def test_the_core_never_imports_the_workshop():
    assert not [edge for edge in edges("painters") if edge[1].startswith("atelier")]


@pytest.mark.parametrize(("package", "order"), [("painters", CORE), ("atelier", WORKSHOP)])
def test_imports_point_to_the_left(package, order):
    """A package's own ``__init__`` passes names on: it may import anything, and nothing inside may import it."""
    place = places(order)
    assert {room(name) for name in GRAPH if name.split(".")[0] == package} == {"", *place}
    wrong = [
        f"{a} imports {b}"
        for a, b in edges(package)
        if b.split(".")[0] == package and room(a) and (not room(b) or place[room(b)] > place[room(a)])
    ]
    assert not wrong


def test_chapters_and_their_subject_do_not_train():
    wrong = [
        f"{a} imports {b}" for a, b in edges("atelier") if room(a) in {*ROOMS, "subject"} and room(b) == "training"
    ]
    assert not wrong


def test_nothing_imports_in_a_circle():
    """Inside a room too: modules can be put in an order in which each imports only earlier ones."""
    left = {name: {b for b in found if b != name} for name, found in GRAPH.items()}
    while ready := {name for name, found in left.items() if not found & left.keys()}:
        left = {name: found for name, found in left.items() if name not in ready}
    assert not left


def code_lines(path: Path) -> set[int]:
    """The lines of a file that hold code: no blank ones, no comments, no docstrings of anything."""
    text = path.read_text(encoding="utf-8")
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            for item in node.body:
                if (
                    isinstance(item, ast.Expr)
                    and isinstance(item.value, ast.Constant)
                    and isinstance(item.value.value, str)
                ):
                    told.update(range(item.lineno, (item.end_lineno or item.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return {i for i, line in lines if i not in told and line.strip() and not line.strip().startswith("#")}


def functions(path: Path) -> dict[str, int]:
    """Lines of code of each function, by its name in its module; of methods too."""
    lines = code_lines(path)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    defined = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return {d.name: len(lines & set(range(d.lineno, (d.end_lineno or d.lineno) + 1))) for d in defined}


def test_the_packages_stay_small():
    # Solutions of exercises are text of the pages, which show them.
    size = {name: len(code_lines(path)) for name, path in PATHS.items() if room(name) != "exercises"}
    core = sum(lines for name, lines in size.items() if name.split(".")[0] == "painters")
    assert core <= LINES["painters"] and sum(size.values()) <= LINES["both"]


def test_a_module_past_300_lines_or_a_function_past_60_wants_to_be_split():
    assert {name for name, path in PATHS.items() if len(code_lines(path)) > 300} <= LONG_MODULES
    long = {f"{name}.{f}" for name, path in PATHS.items() for f, lines in functions(path).items() if lines > 60}
    assert long <= LONG_FUNCTIONS


def test_lines_are_counted_as_they_should_be(tmp_path):
    path = tmp_path / "x.py"
    text = ['"""A module', "", 'of few lines."""', "", "A = 1  # counted", '"""What A is."""', "# not counted", ""]
    text += ["", "def f():", '    """Doc."""', "    return (", "        A", "    )", ""]
    path.write_text("\n".join(text))
    assert len(code_lines(path)) == 5 and functions(path) == {"f": 4}


def test_no_two_files_of_tests_have_one_name():
    """Without packages pytest imports them by their names, and refuses the second when all are run together."""
    names = sorted(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(names) == len(set(names)), {name for name in names if names.count(name) > 1}


def test_every_tool_stands_in_the_list_of_tools():
    listed = re.findall(r"`([\w./]+)`", (ROOT / "tools" / "README.md").read_text())
    there = {path.name + "/" * path.is_dir() for path in (ROOT / "tools").iterdir()} - {"README.md", "__pycache__/"}
    assert there <= set(listed), "tools/README.md says what each is for"
    assert {name for name in listed if name.endswith((".py", ".sh"))} <= there, "and names none that is gone"
