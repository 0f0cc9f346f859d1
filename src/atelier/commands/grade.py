"""``painters grade``: points for the exercises with code of a folder of hand-ins, of which none is trusted.

Why not otter-grader or nbgrader: they run the whole notebook and its checks in one kernel with the reader's code, for
minutes a chapter, and believe what that kernel says. Here neither chapters nor checks are run. What defines a reader's
function runs in a process of its own, see :mod:`atelier.commands.contained`, which returns plain values. These are
judged here, on inputs drawn from a secret that only the instructor edition holds. No server, no network.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import pickle
import re
import select
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from tqdm import tqdm

import atelier.exercises
import painters
from atelier.commands import contained
from atelier.commands.contained import Cell, rebuild
from atelier.commands.options import Commands, number, whole
from atelier.exercises import Task, find, judge
from painters.files import locked, replacing

LARGEST, PATIENCE = 32 << 20, 60
"""Bytes of a notebook; and seconds, beyond those of an exercise, until a process that grades counts as stopped."""
Mark = tuple[bool, str]
"""Whether it is right, and the first error."""


class _Sender(pickle.Pickler):
    """Sends functions among the inputs by value: what defines them holds the solutions."""

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, types.FunctionType) or not obj.__module__.startswith("atelier.exercises"):
            return NotImplemented
        known = {name: obj.__globals__.get(name) for name in obj.__code__.co_names}
        modules = {name: value.__name__ for name, value in known.items() if isinstance(value, types.ModuleType)}
        values = [cell.cell_contents for cell in obj.__closure__ or ()]
        return rebuild, (contained.marshal.dumps(obj.__code__), modules, obj.__defaults__, values)


@dataclass(frozen=True)
class Exercise:
    """An exercise with its points, the inputs it is judged on, and those as they are sent."""

    page: str
    task: Task
    points: float
    inputs: list[tuple]
    sent: bytes

    @classmethod
    def of(cls, row: Mapping[str, str], secret: str | None) -> Exercise:
        """Read a row of ``exercises.csv``; with a secret, draw other inputs than the page does."""
        task = find(row["label"])
        seeds = list(range(task.trials))
        if secret is not None:
            texts = [f"{secret} {task.label} {i}".encode() for i in seeds]
            seeds = [int.from_bytes(hashlib.sha256(text).digest()[:7], "big") for text in texts]
        inputs = [task.inputs(torch.Generator().manual_seed(seed)) for seed in seeds]
        file = io.BytesIO()
        _Sender(file).dump(inputs)
        return cls(row["page"], task, json.loads(row["points"]), inputs, file.getvalue())

    def judged(self, answer: bytes) -> Mark:
        """Judge what came back."""
        if answer[:1] != b"T":
            return False, one_line(answer[1:].decode(errors="replace"))
        try:
            values = load(answer[1:])
        except Exception:  # they may be anything
            return False, "what it sent are no values"
        keys = [takewhile(values.__contains__, (f"{i}.{j}" for j in count())) for i in range(len(self.inputs))]
        got = iter([values.get(str(i), tuple(values[key] for key in of)) for i, of in enumerate(keys)])
        given = iter(self.inputs)
        task = replace(self.task, inputs=lambda generator: next(given), trials=len(self.inputs))
        verdict = judge(task, lambda *arguments: next(got))
        return verdict.right, "" if verdict.right else one_line(verdict.says.split(" The ")[0])


def one_line(text: str) -> str:
    """Make text fit for a table: one line, printable, of at most 300 characters, and no formula of a spreadsheet."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())[:300]
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


class Worker:
    """A process of :mod:`atelier.commands.contained`; it is started anew if it ends."""

    def __init__(self, seconds: float, apart: bool) -> None:
        self.seconds, self.apart = seconds, apart
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, cells: list[Cell], label: str, inputs: bytes) -> bytes:
        """Have a function answer, see :func:`atelier.commands.contained.answered`."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            Path(folder, "job").write_bytes(pickle.dumps((cells, label, inputs)))
            try:
                process = self.process = self.process or self.started()
                assert process.stdin and process.stdout
                process.stdin.write(f"{json.dumps([folder, self.seconds, self.apart])}\n".encode())
                process.stdin.flush()
                if not select.select([process.stdout], [], [], PATIENCE + 2 * self.seconds)[0]:
                    raise TimeoutError
                size = int.from_bytes(process.stdout.read(8), "big")
                if 0 < size <= 2 * contained.LARGEST and len(data := process.stdout.read(size)) == size:
                    return data
            except OSError:
                pass
            self.close()
            return b"E" + b"it ended or stopped the process that grades it"

    def started(self) -> subprocess.Popen[bytes]:
        """Start the process, with nothing of this one's environment that it does not need."""
        env = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
        env |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")} | {"HOME": "/tmp"}
        env["PYTHONPATH"] = os.pathsep.join({str(Path(m.__path__[0]).parent) for m in (atelier, painters, torch)})
        return subprocess.Popen(
            [sys.executable, "-P", "-m", contained.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )

    def close(self) -> None:
        """End the process."""
        if self.process:
            self.process.kill()
            self.process.communicate()
        self.process = None


# What was handed in


def handed_in(folder: Path) -> dict[str, list[Path]]:
    """Return the notebooks of each submission, by its name; links and hidden files are left out."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")) or path.is_symlink():
            continue
        inside = (Path(top, name) for top, _, names in os.walk(path) for name in names) if path.is_dir() else [path]
        inside = (p for p in inside if p.suffix == ".ipynb" and ".ipynb_checkpoints" not in p.parts)
        books = sorted(p for p in inside if os.path.isfile(p) and not p.is_symlink())
        name = one_line(path.name if path.is_dir() else path.stem)
        while name in found:
            name += "_"
        found |= {name: books} if books or path.is_dir() else {}
    return found


def content(path: Path) -> bytes:
    """Return what is in a file, nothing if it is too large or must not be read."""
    try:
        return path.read_bytes() if path.stat().st_size <= LARGEST else b""
    except OSError:
        return b""


def cells_of(path: Path) -> list[Cell]:
    """Read the code cells of a notebook.

    Raises ``ValueError`` with one sentence if it is none.
    """
    try:
        cells: list[Cell] = []
        for cell in json.loads(content(path))["cells"]:
            if cell["cell_type"] == "code":
                about = cell.get("metadata", {}).get("painters", {})
                of, role = (about[key] if isinstance(about.get(key), str) else None for key in ("exercise", "role"))
                cells.append(("".join(cell["source"]), of, role))
        return cells
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path.name} is no notebook: {type(error).__name__}: {error}") from error


def holds(cells: list[Cell], label: str) -> bool:
    """Whether a notebook has an exercise."""
    call = re.compile(rf"\bexercise\(\s*[\"']{re.escape(label)}[\"']")
    return any(of == label or call.search(source) for source, of, _ in cells)


def graded(books: list[Path], exercises: list[Exercise], worker: Worker) -> dict[str, Mark]:
    """Grade one submission; what is wrong with its files stands under the empty label."""
    marks: dict[str, Mark] = {}
    found, wrong = [], [] if books else ["no notebook was handed in"]
    for path in books:
        try:
            found.append(cells_of(path))
        except ValueError as error:
            wrong.append(str(error))
    for exercise in exercises:
        label = exercise.task.label
        for cells in filter(lambda cells, label=label: holds(cells, label), found[:100]):
            marks[label] = exercise.judged(worker.ask(cells, label, exercise.sent))
            break
    return marks | {"": (False, one_line("; ".join(wrong)))}


# The command


def add(commands: Commands) -> None:
    """Add ``grade`` to a command line."""
    text = "Grade the exercises with code of notebooks that others handed in; resumable. Chapters are not run."
    grade = commands.add_parser("grade", help="grade a folder of hand-ins", description=text)
    grade.add_argument("folder", type=Path, help="with NAME.ipynb, or a folder NAME of notebooks, for each reader")
    grade.add_argument("--hidden", type=Path, metavar="FILE", help="hidden.key of the instructor edition")
    grade.add_argument("--exercises", type=Path, metavar="FILE", help="default: exercises.csv beside --hidden")
    grade.add_argument("--out", type=Path, default=Path("grades.csv"), help="default: %(default)s; totals beside it")
    grade.add_argument("--timeout", type=number, default=10.0, help="seconds an exercise (default: %(default)g)")
    grade.add_argument("--jobs", type=whole, default=os.cpu_count() or 1, help="at once (default: %(default)s)")
    grade.set_defaults(command=command, kept=True)


def command(options: argparse.Namespace) -> int:
    """Grade a folder."""
    if not options.folder.is_dir():
        raise ValueError(f"there is no folder {options.folder}")
    table = options.exercises or (options.hidden or options.folder / "hidden.key").with_name("exercises.csv")
    if not table.is_file():
        raise ValueError(f"there is no {table}: name the exercises.csv of the edition with --exercises")
    secret = options.hidden.read_text().strip() if options.hidden else None
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("graded") == "by itself"]
    exercises = [Exercise.of(row, secret) for row in rows]
    apart = isolated()
    if secret is None:
        print("painters: the inputs are those of the pages; --hidden draws others", file=sys.stderr)
    sources = [*Path(atelier.exercises.__path__[0]).glob("*.py"), Path(contained.__file__), Path(__file__)]
    made_of = [secret, options.timeout, apart, rows, *(path.read_text() for path in sorted(sources))]
    with locked(options.out, wait=False):
        marks = all_graded(handed_in(options.folder), exercises, options, apart, json.dumps(made_of))
        write(options.out, marks, exercises)
    return 0


@cache
def isolated() -> bool:
    """Whether this system gives the readers' processes namespaces of their own; said if not."""
    worker = Worker(60, True)
    answer = worker.ask([], "", b"")
    worker.close()
    if answer == b"T":
        return True
    why = one_line(answer[1:].decode(errors="replace"))
    if not hasattr(os, "getuid") or os.getuid() == 0:
        raise ValueError(f"this system gives no namespaces ({why}), and to root every file is open: be another user")
    print(f"painters: no namespaces ({why}): files and network are open to what is graded", file=sys.stderr)
    return False


def all_graded(
    submissions: Mapping[str, list[Path]],
    exercises: list[Exercise],
    options: argparse.Namespace,
    apart: bool,
    made_of: str,
) -> dict[str, dict[str, Mark]]:
    """Grade all submissions, several at once; those that were graded before, and have not changed, are read."""
    kept = options.out.with_name(f".{options.out.name}.done")
    workers = [Worker(options.timeout, apart) for _ in range(max(1, min(options.jobs, len(submissions))))]
    idle = list(workers)

    def one(name: str) -> dict[str, Mark]:
        digest = hashlib.sha256(f"{made_of}{name}".encode())
        for path in submissions[name]:
            digest.update(os.fsencode(path) + hashlib.sha256(content(path)).digest())
        file = kept / f"{digest.hexdigest()}.json"
        if not file.is_file():
            worker = idle.pop()
            try:
                marks = graded(submissions[name], exercises, worker)
            finally:
                idle.append(worker)
            with replacing(file) as temporary:
                temporary.write_text(json.dumps(marks))
        return {label: (right, says) for label, (right, says) in json.loads(file.read_text()).items()}

    try:
        with ThreadPoolExecutor(len(workers)) as pool:
            marks = list(tqdm(pool.map(one, submissions), "graded", len(submissions)))
            return dict(zip(submissions, marks))
    finally:
        for worker in workers:
            worker.close()


def write(out: Path, marks: Mapping[str, Mapping[str, Mark]], exercises: list[Exercise]) -> None:
    """Write the points by exercise and the totals by submission; of pages that nobody handed in nothing is said."""
    labels = {label for found in marks.values() for label in found}
    pages = {e.page for e in exercises if e.task.label in labels}
    asked = [e for e in exercises if e.page in pages or not pages]
    rows, totals = [], []
    for name, found in marks.items():
        missing = (False, found[""][1] or "not handed in")
        lines = [(e, *found.get(e.task.label, missing)) for e in asked]
        rows += [(name, e.task.label, e.points, right * e.points, int(right), says) for e, right, says in lines]
        points, possible = (sum(e.points * (right or full) for e, right, _ in lines) for full in (False, True))
        error = found[""][1] or next((f"{e.task.label}: {says}" for e, right, says in lines if not right), "")
        totals.append((name, possible, points, sum(right for _, right, _ in lines), len(lines), error))
    heads = ("submission", "exercise", "possible", "points", "passed", "first error")
    total_heads = ("submission", "possible", "points", "passed", "exercises", "first error")
    for path, head, lines in ((out, heads, rows), (out.with_stem(f"{out.stem}-totals"), total_heads, totals)):
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *lines])
    print(f"{len(marks)} submissions, {len(asked)} exercises: {out}")
