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
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

FOR = {
    None: "which everything needs",
    "book": "which the notebooks, painters claims and painters bench need",
    "data": "which data sets of the hub need",
    "bench": "whose samplers painters bench would compare too",
}
"""What the packages of each extra of the distribution are for."""
GB = 1e9
LITTLE = 2.0
"""GB of free memory below which a batch of the default size may not fit."""


@dataclass(frozen=True)
class Finding:
    """``what`` was looked for, what was ``found``, and the ``problem``, empty if there is none, with what to do."""

    what: str
    found: str
    problem: str = ""
    needed: bool = False


def packages() -> Iterator[Finding]:
    """Yield the packages that this distribution asks for, needed ones first, then those of its extras."""
    for line in metadata.requires("painters") or []:
        parts = re.fullmatch(r'([\w-]+)>=([\d.]+)(?:; extra == "(\w+)")?', line)
        assert parts is not None, line
        name, least, extra = parts.groups()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        told = f"{name} {version} is older than {least}" if version else f"{name} is not installed"
        how = f"painters[{extra}]" if extra else f"{name}>={least}"
        fine = bool(version) and _numbers(version) >= _numbers(least)
        problem = "" if fine else f'{told}, {FOR[extra]}: pip install --upgrade "{how}"'
        yield Finding(name, version or "not installed", problem, needed=extra is None)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def device() -> Finding:
    """Return where models run here."""
    try:
        import torch
    except (ImportError, OSError) as error:
        first = str(error).splitlines()[0]
        how = f"torch cannot be imported ({first}): pip install --force-reinstall torch"
        return Finding("device", "unknown", how, needed=True)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Finding("device", f"cuda, {torch.cuda.get_device_name()}, {total / GB:.0f} GB, {free / GB:.0f} free")
    name = "mps" if torch.backends.mps.is_available() else "cpu"
    return Finding("device", f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")


def memory() -> Finding:
    """Return the free memory, where the system says it."""
    path = Path("/proc/meminfo")
    sizes = dict(re.findall(r"(\w+): +(\d+) kB", path.read_text())) if path.is_file() else {}
    total, free = (int(sizes.get(key, 0)) * 1024 / GB for key in ("MemTotal", "MemAvailable"))
    problem = f"only {free:.1f} GB of memory are free: close something, or give --batch 1" if free < LITTLE else ""
    return Finding("memory", f"{total:.0f} GB, {free:.0f} free", problem) if sizes else Finding("memory", "not known")


def models() -> Iterator[Finding]:
    """Yield whether the bundled models are whole, and those by others there; and the data they were trained on."""
    from atelier.commands import listing
    from painters.models.galaxies import INSTALL

    rows = listing.rows()
    bundled = [row for row in rows if row["origin"] == "bundled"]
    broken = [row["name"] for row in bundled if not row["here"]]
    again = "the files of {} are damaged: pip install --force-reinstall --no-deps painters"
    problem = again.format(", ".join(broken)) if broken else "" if bundled else again.format("all bundled models")
    yield Finding("models", f"{len(bundled) - len(broken)} of {len(bundled)} bundled ones whole", problem, needed=True)
    others = [row for row in rows if row["origin"] == "by others"]
    there = sum(row["here"] for row in others)
    problem = "" if there == len(others) else f"the weights of the models by others are not here: {INSTALL}"
    yield Finding("by others", f"{there} of {len(others)} here", problem)


def data() -> Iterator[Finding]:
    """Yield where Fashion-MNIST would come from, and where the work of commands is kept."""
    folder = os.environ.get("PAINTERS_DATA")
    there = folder is not None and (Path(folder) / "fashion_mnist.npz").is_file()
    hub = any(True for _ in metadata.distributions(name="datasets"))
    found = f"fashion_mnist.npz in {folder}" if there else "from the hub when it is needed" if hub else "not here"
    how = 'set PAINTERS_DATA to a folder with fashion_mnist.npz, or pip install "painters[data]" and be online'
    wrong = f"there is no fashion_mnist.npz in PAINTERS_DATA, {folder}: " if folder else "Fashion-MNIST is not here: "
    yield Finding("Fashion-MNIST", found, "" if there or (hub and not folder) else wrong + how)
    kept = Path(os.environ.get("PAINTERS_RUNS") or Path.home() / ".cache" / "painters" / "runs")
    above = next(path for path in (kept, *kept.absolute().parents) if path.is_dir())
    problem = "" if os.access(above, os.W_OK) else f"{above} cannot be written: set PAINTERS_RUNS to another folder"
    yield Finding("kept work", f"{kept}, {shutil.disk_usage(above).free / GB:.0f} GB free", problem)


def findings() -> Iterator[Finding]:
    """Yield everything that is looked at; models only where torch can be imported."""
    yield Finding("python", platform.python_version())
    yield Finding("painters", metadata.version("painters"))
    yield from packages()
    yield (runs := device())
    yield memory()
    if not runs.problem:
        yield from models()
    yield from data()


def command(options: argparse.Namespace) -> int:
    """Do what ``painters doctor`` says; 1 if something is missing that everything needs."""
    found = list(findings())
    width = max(len(one.what) for one in found)
    print("\n".join(f"{one.what:{width}}  {one.found}" for one in found), end="\n\n")
    for one in (one for one in found if one.problem):
        print("NEEDED: " if one.needed else "optional: ", one.problem, sep="")
    lacking = any(one.problem and one.needed for one in found)
    print("something that is needed is missing" if lacking else "all that is needed is here")
    return int(lacking)


def add(commands: Any) -> None:
    """Add ``doctor`` to a command line."""
    doctor = commands.add_parser("doctor", help="what is installed here, and what is missing")
    doctor.set_defaults(command=command)
