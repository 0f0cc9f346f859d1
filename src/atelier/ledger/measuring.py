"""Measuring one model: every experiment once, each result kept as soon as it is there."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from atelier import manifold, variations
from atelier.evidence import factors, often, order, shape
from atelier.gans import kinship
from atelier.landscape import jacobian, retrieval
from atelier.ledger import trained
from atelier.ledger.schema import check_results
from atelier.limits import carries, samplers
from atelier.provenance import provenance
from atelier.subject import Settings, Subject
from atelier.variations import knobs
from painters.files import replacing

RESULTS = Path(__file__).parent / "results"
"""Where the committed results are."""

Measure = Callable[[Subject, Settings], dict[str, Any] | None]
"""(subject, settings) -> a JSON-serialisable record, or ``None`` if the experiment does not apply to the subject."""

MEASURES: dict[str, Measure] = {
    "trained": trained.measure,
    "geometry": shape.measure,
    "emergence": order.measure,
    "commitment": factors.measure,
    "perturbation": often.measure,
    "approximation": carries.measure,
    "landscape": jacobian.measure,
    "retrieval": retrieval.measure,
    "samplers": samplers.measure,
    "manifold": manifold.measure,
    "variations": variations.measure,
    "knobs": knobs.measure,
    "kinship": kinship.measure,
}
"""Every experiment of the ledger, by the name of its record."""


def measure(
    subject: Subject, settings: Settings, out: Path, *, only: Iterable[str] = (), progress: bool = True
) -> dict[str, Any]:
    """Run every experiment (or ``only`` some) on a subject, and return what ``out`` then holds.

    Results already in ``out`` that were made with the same settings, weights and moments are kept; each new one is
    written as soon as it is there, so that an interrupted measurement continues. Raises ``ValueError`` for an unknown
    experiment, or if ``out`` belongs to another model.
    """
    names = list(only) or list(MEASURES)
    if unknown := set(names) - set(MEASURES):
        raise ValueError(f"there is no experiment {', '.join(sorted(unknown))}: choose from {', '.join(MEASURES)}")
    found = read(out) if out.is_file() else {"model": subject.name, "kind": subject.kind, "measurements": {}}
    if (found["model"], found["kind"]) != (subject.name, subject.kind):
        raise ValueError(f"{out} holds results of {found['model']} ({found['kind']}): choose another file with --out")
    how: dict[str, Any] = {"seeds": seed_ranges(settings.seeds), "steps": settings.steps, "profile": settings.profile}
    how |= {} if subject.model is None else {"weights": provenance(subject.model)["weights"]}
    how |= {key: subject.moments[key] for key in ("source", "prompt") if key in subject.moments}
    if subject.moments:
        found["moments"] = subject.moments
    settings = replace(settings, progress=progress)
    bar = tqdm(names, disable=not progress)
    for name in bar:
        bar.set_description(f"{subject.name}, {name}")
        old = found["measurements"].get(name)
        if old and all(old["provenance"].get(key) == value for key, value in how.items()):
            continue
        began = time.monotonic()
        with _counting(subject) as calls:
            record = MEASURES[name](subject, settings)
        if record is None:
            continue
        made = {} if subject.model is None else provenance(subject.model)
        made |= how | {"date": datetime.now(UTC).date().isoformat(), "seconds": round(time.monotonic() - began, 1)}
        if out.is_file():  # another process may have added to it
            found["measurements"] = read(out)["measurements"]
        found["measurements"][name] = _rounded(record) | {"provenance": made | {"calls": sum(calls)}}
        write(found, out)
    return found


@contextlib.contextmanager
def _counting(subject: Subject) -> Iterator[list[int]]:
    """Yield a list that grows by the batch size of each call of the subject's network, guidance included."""
    calls: list[int] = []
    if subject.model is None:
        yield calls
        return

    def count(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(len(args[0] if args else next(iter(kwargs.values()))))

    handle = subject.model.network.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def read(path: Path) -> dict[str, Any]:
    """Return a results file, checked; ``ValueError`` in one sentence if it is damaged."""
    try:
        found = json.loads(path.read_text())
        check_results(found, experiments=MEASURES)
    except ValueError as error:
        raise ValueError(f"{path} is no results file of painters claims ({error}); move it away") from error
    return found


def write(found: dict[str, Any], path: Path) -> None:
    """Write a results file, whole or not at all."""
    with replacing(path) as temporary:
        Path(temporary).write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n")


def results_file(name: str, *, gaussian: bool = False) -> Path:
    """Return where the committed results of a model are, or those of the exact Gaussian of its data."""
    return RESULTS / f"{name.replace('/', '--')}{'-gaussian' if gaussian else ''}.json"


def results(name: str) -> dict[str, Any]:
    """Return the committed measurements of a model, e.g. ``results("fashion-ddpm")["geometry"]``.

    The exact Gaussian of a model is ``"NAME-gaussian"``. Raises ``FileNotFoundError`` naming those there are.
    """
    path = results_file(name)
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in RESULTS.glob("*.json"))) or "none"
        raise FileNotFoundError(
            f"{name} was not measured; there are {there}. Make it with painters claims --model NAME --out {path}"
        )
    return read(path)["measurements"]


def seed_ranges(seeds: tuple[int, ...]) -> str:
    """Return seeds as the command line takes them, such as 0-199."""
    parts, first = [], 0
    for i in range(1, len(seeds) + 1):
        if i == len(seeds) or seeds[i] != seeds[i - 1] + 1:
            parts.append(f"{seeds[first]}-{seeds[i - 1]}" if i - first > 1 else f"{seeds[first]}")
            first = i
    return ",".join(parts)


def _rounded(record: Any) -> Any:
    """Six digits are enough for a results file; not-a-number becomes null."""
    text = json.dumps(record)
    return json.loads(text, parse_float=lambda t: float(f"{float(t):.6g}"), parse_constant=lambda t: None)
