"""What ``painters claims`` and ``painters moments`` do; the command line has their options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from painters.experiments.claims.column import column
from painters.experiments.claims.ledger import RESULTS, measure, read
from painters.experiments.claims.text import markdown, summary


def claims(options: argparse.Namespace, seeds: Sequence[int]) -> int:
    """Measure one model, or its exact Gaussian, and print its column; or print the table of some results files."""
    from painters.experiments.subject import Settings, subject
    from painters.models import moment_sources

    if options.table is not None:
        files = [Path(name) for name in options.table] or sorted(RESULTS.glob("*.json"))
        print(markdown([read(path) for path in files]))
        return 0
    if options.model is None:
        raise ValueError("say which model with --model NAME, or print the committed results with --table")
    gaussian, facts = (None, {}) if options.moments is None else moment_sources.read(options.moments)
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


def moments(options: argparse.Namespace) -> int:
    """Write the mean and covariance of pictures, or of what a model paints."""
    from painters.models import load, moment_sources

    if (options.source is None) == (options.samples is None):
        raise ValueError(
            "give pictures, a folder or a data set of the hub, or a model with --samples NAME: one of them"
        )
    name = options.samples or options.encode
    model = None if name is None else load(name, device=options.device)
    facts: dict[str, object] = {"source": options.source or f"{Path(options.samples).name} itself"}
    if options.samples is not None:
        assert model is not None
        n = options.n or 2000
        batches = moment_sources.painted(
            model, n, prompt=options.prompt, guidance=options.guidance, steps=options.steps, batch=options.batch
        )
        facts |= {"circular": True, "prompt": options.prompt, "guidance": options.guidance, "steps": options.steps}
    else:
        size = options.size or (32 if model is None else model.image_shape[-1])
        batches = moment_sources.pictures(options.source, size=size, channels=options.channels, n=options.n)
        if model is not None:
            batches = moment_sources.encoded(model, batches)
        facts |= {"circular": False, "size": size, "encoded_by": options.encode}
    gaussian, n = moment_sources.gaussian_of(moment_sources.counted(batches, options.n), rank=options.rank)
    facts["n"] = n
    moment_sources.save(gaussian, options.out, facts=facts)
    told = ", the model's own samples: a theory made of them is circular" if facts["circular"] else ""
    print(f"{n} samples{told}: D = {gaussian.dim}, {len(gaussian.lam)} PCs hold ", end="")
    print(f"{float(gaussian.lam.sum() / gaussian.spectrum.sum()):.1%} of the variance; written to {options.out}")
    return 0
