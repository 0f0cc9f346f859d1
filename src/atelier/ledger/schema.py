"""What a results file must be before it enters the ledger: a reader's comes by pull request."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date
from typing import Any

KINDS = ("network", "gaussian")
NEEDED = {"seeds": str, "steps": int, "profile": str, "date": str, "seconds": (int, float)}
"""What the provenance of every measurement says, and how."""
OF_NETWORKS = {"weights": str, "torch": str, "hardware": (str, dict)}
DEPTH = 6
"""Records are no deeper than this."""
MAX_BYTES = 2_000_000


def check_results(found: Any, *, experiments: Iterable[str]) -> None:
    """Raise ``ValueError`` with one sentence unless ``found`` is a results file of ``painters claims``.

    ``found``: the object in the file. ``experiments``: the names of all experiments there are. Records hold finite
    numbers, null, texts, lists and tables of these; each says which seeds, steps, profile, date and seconds made it,
    and of a network which weights, version of torch and hardware.
    """
    _need(isinstance(found, dict), "a results file holds a JSON object")
    for key, kind in {"model": str, "kind": str, "measurements": dict}.items():
        _need(isinstance(found.get(key), kind), f"a results file needs {key!r}, of type {kind.__name__}")
    _need(found["kind"] in KINDS, f"kind is one of {', '.join(KINDS)}, not {found['kind']!r}")
    _need(_plain(found["model"]), f"model is a bundled name, a hub id or a folder's name, not {found['model']!r}")
    _need(bool(found["measurements"]), "there is no measurement in it")
    if "moments" in found:
        _need(isinstance(found["moments"], dict) and "source" in found["moments"], "moments must name their source")
    names = set(experiments)
    for name, record in found["measurements"].items():
        _need(name in names, f"there is no experiment {name!r}")
        _need(isinstance(record, dict) and len(record) > 1, f"the record of {name} is empty")
        _values({key: value for key, value in record.items() if key != "provenance"}, name)
        _provenance(record.get("provenance"), name, found["kind"])


def _provenance(made: Any, name: str, kind: str) -> None:
    _need(isinstance(made, dict), f"{name} has no provenance")
    for key, types in (NEEDED | (OF_NETWORKS if kind == "network" else {})).items():
        _need(isinstance(made.get(key), types), f"the provenance of {name} needs {key!r}")
    try:
        date.fromisoformat(made["date"])
    except ValueError:
        _need(False, f"the date of {name} is {made['date']!r} and must be like 2026-01-31")
    _need(made["steps"] > 0 and made["seconds"] >= 0, f"steps and seconds of {name} must not be negative")


def _values(value: Any, path: str, depth: int = 0) -> None:
    """Check everything below a record."""
    _need(depth <= DEPTH, f"{path} is deeper than {DEPTH} levels")
    if isinstance(value, dict):
        for key, part in value.items():
            _need(isinstance(key, str) and bool(key), f"{path} has a key that is no text")
            _values(part, f"{path}.{key}", depth + 1)
    elif isinstance(value, list):
        for part in value:
            _values(part, path, depth + 1)
    elif isinstance(value, float):
        _need(math.isfinite(value), f"{path} holds a number that is not finite: write null")
    else:
        _need(value is None or isinstance(value, (str, int)), f"{path} holds a {type(value).__name__}")


def _plain(name: str) -> bool:
    """Whether a name is one on every machine: no path of the one it was made on."""
    return bool(name) and not name.startswith(("/", "~", ".")) and "\\" not in name and name.count("/") <= 1


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
