"""What ``painters claims`` does; the command line has its options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from atelier.ledger.column import column
from atelier.ledger.measuring import RESULTS, measure, read
from atelier.ledger.text import markdown, summary


def claims(options: argparse.Namespace, seeds: Sequence[int]) -> int:
    """Measure one model, or its exact Gaussian, and print its column; or print the table of some results files."""
    from atelier.subject import Settings, subject
    from painters.models.moments import load_moments

    if options.table is not None:
        files = [Path(name) for name in options.table] or sorted(RESULTS.glob("*.json"))
        print(markdown([read(path) for path in files]))
        return 0
    if options.model is None:
        raise ValueError("say which model with --model NAME, or print the committed results with --table")
    gaussian, facts = (None, {}) if options.moments is None else load_moments(options.moments)
    who = subject(options.model, device=options.device, gaussian=gaussian, prompt=options.prompt, moments=facts)
    who = who.theory() if options.gaussian else who
    name = f"{who.name.replace('/', '--')}{'-gaussian' if options.gaussian else ''}"
    out = Path(options.out or f"{name}.json")
    run = None if options.run is None else Path(options.run)
    settings = Settings(tuple(seeds), options.steps, options.profile, options.batch, run=run)
    only = [] if options.only is None else [part.strip() for part in options.only.split(",")]
    found = measure(who, settings, out, only=only)
    print(summary(column(found)))
    print(f"everything is in {out}")
    return 0
