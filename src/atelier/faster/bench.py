"""``painters bench``: how far every sampler ends from the converged solution, by its number of network calls.

Several processes go through the same list, each from another place, and hold what they work on: who comes to it later
finds it done. So nothing is made twice, and what a killed process held is made by the others.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.data.controls import undone
from atelier.faster.ours import OURS, Run
from atelier.faster.peers import Paint, peers
from atelier.faster.references import References
from atelier.faster.targets import Target, target
from atelier.provenance import commit, provenance
from atelier.quality import frechet_report
from atelier.ranks import dealt, held, place
from atelier.statistics import bootstrap
from atelier.subject import subject
from painters.denoiser import Denoiser
from painters.files import locked, replacing
from painters.sampling import batches, solve
from painters.trajectory import Frames

RESULTS = Path(__file__).parent / "results"
BATCH = 64
KINDS = ((False, False), (True, False), (True, True))
SCREEN, KEEP = 12, 8
"""Peers are tried on the first 12 seeds; the 8 best of them, and the best of each family, go on to all seeds."""
Row = dict[str, Any]
Way = tuple[Paint, dict[str, bool]]


def ways(target: Target, nfe: int, only: Sequence[str] = ()) -> dict[str, Way]:
    """Return every sampler that takes exactly ``nfe`` network calls: its name -> how it paints, and what it is.

    ``only`` those whose name has one of these words. Under guidance every answer of the denoiser takes two calls.
    """
    calls, odd = divmod(nfe, target.calls)
    if odd:
        raise ValueError(f"under guidance a step takes {target.calls} network calls: {nfe} cannot be done exactly")
    found: dict[str, Way] = {}
    for name, make in {**OURS, **peers(flows=target.schedule.coordinates == "flow")}.items():
        if not only or any(word in name for word in only):
            made = make(target, calls)
            if isinstance(made, Run):
                found[name] = partial(_ours, made), {"ours": True, "calibrated": made.calibrated}
            elif made is not None:
                found[name] = made, {"ours": False, "calibrated": False}
    if not found:
        raise ValueError(
            f"no sampler whose name has one of {', '.join(only)} takes {nfe} calls: see peers.toml, ours.py"
        )
    return found


def _ours(run: Run, denoise: Denoiser, noise: Tensor) -> Tensor:
    start = (run.start or run.levels.start)(noise)
    return solve(denoise, start, run.levels, solver=run.solver, save=Frames(None), progress=False).final


def painted(target: Target, paint: Paint, nfe: int, seeds: Iterable[int]) -> Tensor:
    """Return the images (B, *shape) of seeds. Raises ``ValueError`` if they took other than ``nfe`` network calls."""
    images = []
    for part in batches(seeds, BATCH):
        denoise, asked = target.denoiser(part), []
        images.append(paint(lambda *state: asked.append(1) or denoise(*state), target.noise(part)))  # noqa: B023
        if len(asked) * target.calls != nfe:
            raise ValueError(f"a sampler took {len(asked) * target.calls} network calls and was to take {nfe}")
    return torch.cat(images)


@dataclass(frozen=True)
class Sheet:
    """The results file of one target: ``head`` says what made it, and each row is written as soon as it is there."""

    path: Path
    head: dict[str, Any]

    def rows(self) -> list[Row]:
        """Return the rows that are there. Raises ``ValueError`` if other settings made them."""
        if not self.path.is_file():
            return []
        found = read(self.path)
        if found["made"] != self.head["made"]:
            raise ValueError(
                f"{self.path} holds rows of another model, weights, seeds, reference or version of diffusers: "
                "choose another file with --json, or move it away"
            )
        return found["rows"]

    def put(self, new: Row) -> None:
        """Write a row, in the place of that of the same sampler and calls if there is one."""
        with locked(self.path):  # another process may have added to it
            kept = [r for r in self.rows() if (r["sampler"], r["nfe"]) != (new["sampler"], new["nfe"])]
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(self.head | {"rows": [*kept, new]}) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Return a results file; ``ValueError`` in one sentence if it is none."""
    try:
        found = json.loads(path.read_text())
        _ = found["made"], found["seeds"], [(r["sampler"], r["nfe"], r["each"]) for r in found["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no results file of painters bench: move it away") from error
    return found


def bench(
    target: Target,
    nfes: Sequence[int],
    seeds: Sequence[int],
    out: Path,
    *,
    only: Sequence[str] = (),
    root: Path | None = None,
    progress: bool = True,
) -> Sheet:
    """Measure every sampler at every number of network calls, and return the results file ``out``.

    The error at a seed is |x - reference| / rms |reference|. Peers are screened on the first :data:`SCREEN` seeds. Rows
    that are in ``out`` are kept, and continued where they have too few seeds. Raises ``ValueError`` if other settings
    made them, or for fewer than 2 seeds, which give no interval.
    """
    if len(seeds) < 2:
        raise ValueError(f"errors are measured over at least 2 seeds, got {len(seeds)}")
    references = References.of(target, root=root)
    settings = json.dumps([references.folder.name, list(seeds), diffusers.__version__])
    head: dict[str, Any] = {"model": target.name, "made": hashlib.sha256(settings.encode()).hexdigest()[:12]}
    progress = progress and place()[0] == 0
    Sheet(out, head).rows()  # what would be refused is refused before the work
    found = {nfe: ways(target, nfe, only) for nfe in nfes}
    images = references.images(seeds, progress=progress)
    apart = {"grid": len(references.grid), "difference": references.difference(seeds, progress=progress)}
    facts = {"commit": commit()} if target.model is None else provenance(target.model)
    sheet = Sheet(out, head | {"seeds": list(seeds), "reference": apart, "provenance": facts})
    size = images.flatten(1).square().sum(1).mean().sqrt()

    def extend(name: str, nfe: int, upto: int) -> None:
        paint, kind = found[nfe][name]
        with held(references.folder / f"{out.stem}, {nfe} calls, {name}"):
            _extend(name, nfe, upto, paint, kind)

    def _extend(name: str, nfe: int, upto: int, paint: Paint, kind: dict[str, bool]) -> None:
        each = next((r["each"] for r in sheet.rows() if (r["sampler"], r["nfe"]) == (name, nfe)), [])
        more = slice(len(each), upto)
        if seeds[more] and None not in each:
            errors = (painted(target, paint, nfe, seeds[more]) - images[more]).flatten(1).norm(dim=1) / size
            each = [*each, *(_short(e) if np.isfinite(e) else None for e in errors.tolist())]
            row = {"model": target.name, "sampler": name, **kind, "nfe": nfe, **summary(each), "each": each}
            sheet.put(row | {"commit": facts["commit"]})  # one file may be made by several

    for nfe, every in found.items():
        for name in tqdm(dealt(list(every)), disable=not progress, desc=f"{target.name}, {nfe} calls"):
            extend(name, nfe, len(seeds) if every[name][1]["ours"] else SCREEN)
        best = screened(sheet.rows(), nfe) & every.keys()
        for name in tqdm(dealt(sorted(best)), disable=not progress, desc="the best of others, on all seeds"):
            extend(name, nfe, len(seeds))
    return sheet


def summary(each: Sequence[float | None]) -> dict[str, float | None]:
    """Return what a row says of the errors at its seeds, ``None`` where an image was not finite.

    ``error`` is their root mean square, ``low`` to ``high`` its 95 % interval over seeds, ``worst`` the largest of
    them; none of these is there if an image was not finite.
    """
    names, finite = ("error", "median", "low", "high", "worst"), [e for e in each if e is not None]
    if len(finite) < len(each):
        return dict.fromkeys(names)
    rms = bootstrap(np.array(finite), _rms)[0]
    values = (rms.value, float(np.median(finite)), max(rms.low, 0.0), rms.high, max(finite))
    return {name: _short(value) for name, value in zip(names, values)}


def screened(rows: list[Row], nfe: int) -> set[str]:
    """Return the peers that go on: the best at the first seeds, and the best of each family."""
    there = [r for r in rows if r["nfe"] == nfe and not r["ours"] and None not in r["each"]]
    ranked = sorted(there, key=lambda r: float(_rms(r["each"][:SCREEN])))
    families = {r["sampler"].replace(",", " ").split()[0]: r for r in reversed(ranked)}
    return {r["sampler"] for r in [*ranked[:KEEP], *families.values()]}


def leaders(found: dict[str, Any], nfe: int) -> list[Row | None]:
    """Return the rows with the smallest error on all seeds: of the others, of ours, and of ours that are calibrated."""
    full = [
        r for r in found["rows"] if r["nfe"] == nfe and len(r["each"]) == len(found["seeds"]) and None not in r["each"]
    ]
    groups = [[r for r in full if (r["ours"], r["calibrated"]) == kind] for kind in KINDS]
    return [min(group, key=lambda r: r["error"], default=None) for group in groups]


def table(found: dict[str, Any]) -> str:
    """Return the table of a results file in Markdown: by calls the best of others and of ours, and the ratio.

    The ratio's interval is a bootstrap over seeds of both together.
    """
    lines = ["| calls | best of others | error | ours | error | ratio |", "|---|---|---|---|---|---|"]
    for nfe in sorted({r["nfe"] for r in found["rows"]}):
        other, *ours = leaders(found, nfe)
        for mine in [r for r in ours if r is not None]:
            cells = [mine["sampler"] + (", calibrated" if mine["calibrated"] else ""), _error(mine), ""]
            if other is not None:
                both = np.array([mine["each"], other["each"]]).T
                ratio = bootstrap(both, lambda part: _rms(part[:, 0]) / _rms(part[:, 1]))[0]
                cells[2] = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
            theirs = ["", ""] if other is None else [other["sampler"], _error(other)]
            lines.append(f"| {' | '.join([str(nfe), *theirs, *cells])} |")
    return "\n".join(lines)


def add_frechet(sheet: Sheet, target: Target, n: int) -> None:
    """Add to the leading rows the Fréchet distances of the images of seeds 0 ... n - 1, see ``frechet_report``."""
    who = None if target.model is None else subject(target.model.card.get("name", target.name))
    train, test = (None, None) if who is None else (who.pictures(n, test=False), who.pictures(n))
    if who is None or who.reader is None or train is None or test is None:
        raise ValueError(f"no Fréchet distance is known for {target.name}: it has no reader, or its data are not here")
    train, test = undone(train, who.variant), undone(test, who.variant)
    found = read(sheet.path)
    for nfe in tqdm(sorted({r["nfe"] for r in found["rows"]}), desc="Fréchet distances"):
        known = ways(target, nfe)
        for best in leaders(found, nfe):
            if best is not None and best.get("frechet", {}).get("n") != n:
                images = painted(target, known[best["sampler"]][0], nfe, range(n)).float()
                report = frechet_report(who.reader, who.look(images), train=train, test=test)
                sheet.put(best | {"frechet": {key: _short(value) for key, value in report.items()}})


def _rms(errors: Any) -> Any:
    return np.sqrt(np.square(errors).mean())


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _error(row: Row) -> str:
    return f"{row['error']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"


def command(options: argparse.Namespace) -> int:
    """Do what ``painters bench`` was asked for, and return its exit status: measure, or print tables."""
    if options.table is None:
        if options.model is None:
            raise ValueError("say which model with --model NAME, or print results with --table FILE")
        if importlib.util.find_spec("azula") is None:
            print("azula is not installed, its samplers are left out: pip install azula")
        who, out = target(options.model, device=options.device), Path(options.json or f"{options.model}-bench.json")
        only = [] if options.only is None else options.only.split(",")
        nfes = [nfe for nfe in options.nfe if nfe % who.calls == 0] or options.nfe
        if left := [str(nfe) for nfe in options.nfe if nfe not in nfes]:
            print(f"under guidance a step takes {who.calls} calls: {', '.join(left)} cannot be made and are left out")
        sheet = bench(who, nfes, options.seeds, out, only=only)
        if options.frechet is not None:
            add_frechet(sheet, who, options.frechet)
        print(f"everything is in {out}")
    for path in [out] if options.table is None else map(Path, options.table):
        found = read(path)
        print(f"{found['model']}, {len(found['seeds'])} seeds\n\n{table(found)}\n")
    return 0
