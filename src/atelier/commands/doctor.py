"""``painters doctor``: what is installed and at hand, and for each problem one sentence that says what to do.

Only the standard library is imported here, so that it speaks where torch is missing.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

FOR = {
    None: "which everything needs",
    "book": "which the notebooks, painters claims and painters bench need",
    "data": "which data sets of the hub need",
    "bench": "whose samplers painters bench would compare too",
}
"""What the packages of each extra of the distribution are for."""
GB, LITTLE = 1e9, 2.0
"""GB of free memory below which a batch of the default size may not fit."""


class Finding(NamedTuple):
    """``what`` was looked for, what was ``found``, and the ``problem``, empty if there is none, with what to do."""

    what: str
    found: str
    problem: str = ""
    needed: bool = False


def packages() -> Iterator[Finding]:
    """Yield the packages that this distribution asks for, needed ones first, then those of its extras."""
    for line in metadata.requires("painters") or []:
        name, least, extra = re.findall(r'^([\w-]+)>=([\d.]+)(?:; extra == "(\w+)")?$', line)[0]
        version = next((one.version for one in metadata.distributions(name=name)), "")
        told = f"{name} {version} is older than {least}" if version else f"{name} is not installed"
        how = f'pip install --upgrade "{f"painters[{extra}]" if extra else f"{name}>={least}"}"'
        fine = version and _numbers(version) >= _numbers(least)
        problem = "" if fine else f"{told}, {FOR[extra or None]}: {how}"
        yield Finding(name, version or "not installed", problem, not extra)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def device() -> Finding:
    """Return where models run here."""
    try:
        import torch
    except (ImportError, OSError) as error:
        why = str(error).splitlines()[0]
        return Finding("device", "unknown", f"torch cannot be imported ({why}): install it again", True)
    if torch.cuda.is_available():
        free, total = (size / GB for size in torch.cuda.mem_get_info())
        return Finding("device", f"cuda, {torch.cuda.get_device_name()}, {total:.0f} GB, {free:.0f} free")
    name = "mps" if torch.backends.mps.is_available() else "cpu"
    return Finding("device", f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")


def memory() -> Finding:
    """Return the free memory, where the system says it."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return Finding("memory", "not known")
    sizes = dict(re.findall(r"(\w+): +(\d+) kB", path.read_text()))
    total, free = (int(sizes[key]) * 1024 / GB for key in ("MemTotal", "MemAvailable"))
    problem = f"only {free:.1f} GB of memory are free: close something, or give --batch 1" if free < LITTLE else ""
    return Finding("memory", f"{total:.0f} GB, {free:.0f} free", problem)


def models() -> Iterator[Finding]:
    """Yield whether the bundled models are whole, and those by others there."""
    from atelier.commands.listing import INSTALL, rows

    again = "pip install --force-reinstall --no-deps painters"
    ours, others = ([row for row in rows() if (row["origin"] == "by others") == by] for by in (False, True))
    broken = [row["name"] for row in ours if row["here"] is False]
    problem = f"the files of {', '.join(broken)} are damaged: {again}" if broken else ""
    yield Finding("bundled models", "damaged" if broken else "whole", problem, True)
    lacking = [row["name"] for row in others if not row["here"]]
    problem = f"the weights of {', '.join(lacking)} are not here: {INSTALL}" if lacking else ""
    yield Finding("models by others", f"{len(others) - len(lacking)} of {len(others)}", problem)


def data() -> Iterator[Finding]:
    """Yield where Fashion-MNIST would come from, and where the work of commands is kept."""
    folder = os.environ.get("PAINTERS_DATA", "")
    there = bool(folder) and (Path(folder) / "fashion_mnist.npz").is_file()
    found = f"in {folder}" if there else "not here"
    how = 'set PAINTERS_DATA to a folder with fashion_mnist.npz, or pip install "painters[data]" and be online'
    where = f"in PAINTERS_DATA, {folder}" if folder else "here"
    yield Finding("Fashion-MNIST", found, "" if there else f"there is no fashion_mnist.npz {where}: {how}")
    kept = Path(os.environ.get("PAINTERS_RUNS") or Path.home() / ".cache" / "painters" / "runs")
    above = next(path for path in (kept, *kept.absolute().parents) if path.is_dir())
    problem = "" if os.access(above, os.W_OK) else f"{above} cannot be written: set PAINTERS_RUNS to another folder"
    yield Finding("kept work", f"{kept}, {shutil.disk_usage(above).free / GB:.0f} GB free", problem)


def command(options: argparse.Namespace) -> int:
    """Do what ``painters doctor`` says; 1 if something is missing that everything needs."""
    found = [Finding("python", platform.python_version()), Finding("painters", metadata.version("painters"))]
    found += [*packages(), device(), memory(), *data()]
    if not any(one.problem and one.needed for one in found):
        found += models()
    print(*(f"{one.what:16}  {one.found}" for one in found), sep="\n", end="\n\n")
    for one in filter(lambda one: one.problem, found):
        print(f"{'NEEDED' if one.needed else 'optional'}: {one.problem}")
    lacking = any(one.problem and one.needed for one in found)
    print("something that is needed is missing" if lacking else "all that is needed is here")
    return int(lacking)


def add(commands: Any) -> None:
    """Add ``doctor`` to a command line."""
    commands.add_parser("doctor", help="what is installed here, and what is missing").set_defaults(command=command)
