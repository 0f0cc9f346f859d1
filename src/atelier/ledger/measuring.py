"""Measuring one model: every experiment once, each result kept as soon as it is there."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier import manifold, trained, variations
from atelier.evidence import factors, often, order, shape
from atelier.gans import kinship
from atelier.landscape import jacobian, retrieval
from atelier.learning import carries, guided
from atelier.ledger import table
from atelier.ledger.column import column
from atelier.ledger.records import Made, Results, read, results_file, rounded, write
from atelier.manifold import knobs
from atelier.provenance import provenance
from atelier.ranks import place, share
from atelier.subject import Settings, Subject, pipeline, subject
from painters.files import locked
from painters.models.moments import load_moments

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
    "guidance": guided.measure,
    "manifold": manifold.measure,
    "variations": variations.measure,
    "knobs": knobs.measure,
    "kinship": kinship.measure,
}
"""Every experiment of the ledger, by the name of its record."""


def measure_model(
    subject: Subject, settings: Settings, out: Path, *, only: Iterable[str] = (), progress: bool = True
) -> Results:
    """Run every experiment (or ``only`` some) on a subject, and return what ``out`` then holds.

    Records already in ``out`` that were made with the same seeds, steps and profile are kept; each new one is written
    as soon as it is there, so that an interrupted measurement continues, and two may work on one file. Of several
    processes each runs its share of the experiments. Raises ``ValueError`` for an unknown experiment, or if ``out``
    belongs to another model, or to other weights, moments, reader or prompt.
    """
    names = list(only) or list(MEASURES)
    if unknown := set(names) - set(MEASURES):
        raise ValueError(f"there is no experiment {', '.join(sorted(unknown))}: choose from {', '.join(MEASURES)}")
    made = made_of(subject, settings)
    blank = Results(subject.name, subject.kind, {}, subject.moments)
    with locked(out):  # where nothing can be written, this says so before the work
        found = _opened(out, blank, made)
    settings = replace(settings, progress=progress and place()[0] == 0)
    bar = tqdm(share(names), disable=not settings.progress)
    for name in bar:
        bar.set_description(f"{subject.name}, {name}")
        if name in found.measurements and found.made(name).settings == made.settings:
            continue
        began = time.monotonic()
        with _counting(subject) as calls:
            record = MEASURES[name](subject, settings)
        if record is None:
            continue
        by = asdict(replace(made, seconds=round(time.monotonic() - began, 1), calls=sum(calls)))
        by |= {} if subject.model is None else provenance(subject.model)
        record = rounded(record) | {"provenance": {key: value for key, value in by.items() if value is not None}}
        with locked(out):  # another process may have added to it, and must not do so between reading and writing
            found = _opened(out, blank, made)
            found = replace(found, measurements=found.measurements | {name: record})
            write(found, out)
    return found


def command(options: argparse.Namespace) -> int:
    """Do what ``painters claims`` was asked for, and return its exit status: measure a model, or print a table."""
    if (options.table, options.claim) != (None, None):
        return table.command(options)
    if options.gaussian and options.shuffled:
        raise ValueError("give --gaussian or --shuffled, not both: the exact Gaussian has no weights")
    if (options.model is None) == (options.pipeline is None):
        raise ValueError(
            "say which model with --model NAME, or which pipeline with --pipeline ID and --prompt, or print the "
            "committed results with --table"
        )
    if options.pipeline and (options.prompt is None or options.shuffled):
        raise ValueError("a pipeline is measured with its own weights, under a --prompt that is a text or a class")
    gaussian, facts = (None, {}) if options.moments is None else load_moments(options.moments)
    opened = subject if options.model else pipeline
    name = options.model or options.pipeline
    who = opened(name, device=options.device, gaussian=gaussian, prompt=options.prompt, moments=facts)
    who = who.theory() if options.gaussian else who.shuffled() if options.shuffled else who
    out = Path(options.out or results_file(who.name, kind=who.kind).name)
    settings = Settings(tuple(options.seeds), options.steps, options.profile, options.batch)
    only = [] if options.only is None else [part.strip() for part in options.only.split(",")]
    only = only or (["geometry"] if options.pipeline else [])  # the others ask the network where no run has been
    found = measure_model(who, settings, out, only=only)
    if place()[1] > 1:  # others may still be at work, and a table of some rows would be taken for the result
        print(f"this process's share is in {out}; when all have ended, painters claims --table {out} prints it")
        return 0
    print(table.text([column(found)]))
    print(f"everything is in {out}")
    return 0


def seed_ranges(seeds: tuple[int, ...]) -> str:
    """Return seeds as the command line takes them, such as 0-199."""
    parts, first = [], 0
    for i in range(1, len(seeds) + 1):
        if i == len(seeds) or seeds[i] != seeds[i - 1] + 1:
            parts.append(f"{seeds[first]}-{seeds[i - 1]}" if i - first > 1 else f"{seeds[first]}")
            first = i
    return ",".join(parts)


def made_of(subject: Subject, settings: Settings) -> Made:
    """Return what makes every record of a measurement."""
    g, reader = subject.gaussian, subject.reader
    return Made(
        seeds=seed_ranges(settings.seeds),
        steps=settings.steps,
        profile=settings.profile,
        date=datetime.now(UTC).date().isoformat(),
        seconds=0,
        weights=None if subject.model is None else subject.model.weights,
        # Eigenvectors in half precision: they are made orthonormal when they are loaded, which moves the last digits
        # of a double from machine to machine.
        moments=_digest([g.mu, g.lam, torch.tensor(g.rest), g.U.half()]),
        reader=None if reader is None else _digest(reader.network.state_dict().values()),
        prompt=subject.moments.get("prompt"),
    )


def _digest(tensors: Iterable[Tensor]) -> str:
    """Twelve hexadecimal digits that stand for the numbers in tensors, to single precision."""
    digest = hashlib.sha256()
    for value in tensors:
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _opened(out: Path, blank: Results, made: Made) -> Results:
    """What a file holds of a subject, ``blank`` if it is not there yet; ``ValueError`` if it is another subject's."""
    if not out.is_file():
        return blank
    found = read(out)
    if (found.model, found.kind) != (blank.model, blank.kind):
        raise ValueError(f"{out} holds results of {found.model} ({found.kind}): choose another file with --out")
    if any(found.made(name).subject != made.subject for name in found.measurements):
        raise ValueError(
            f"{out} holds results of {found.model} with other weights, moments, reader or prompt: "
            "choose another file with --out, or move it away"
        )
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
