"""Results files: what ``painters claims`` writes, the chapters draw from, and readers send by pull request."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any, get_type_hints

from painters.files import replacing

RESULTS = Path(__file__).parent / "results"
"""Where the committed results are."""
KINDS = {"network": "{}", "gaussian": "exact Gaussian of {}", "shuffled": "{}, weights shuffled"}
"""What was measured, and what its column is called: the trained network, or another denoiser in its place."""


@dataclass(frozen=True)
class Made:
    """What made a record; it is kept as long as ``seeds``, ``steps``, ``profile`` and the subject are the same.

    The subject are ``weights``, ``moments`` and ``reader``, each a fingerprint, and the ``prompt``. What has no weights
    is no network; a record without ``moments`` is older than that fingerprint, and its subject counts as another.
    """

    seeds: str
    steps: int
    profile: str
    date: str
    seconds: float | int
    calls: int = 0
    weights: str | None = None
    moments: str | None = None
    reader: str | None = None
    prompt: str | None = None
    commit: str | None = None
    torch: str | None = None
    hardware: str | None = None

    @property
    def subject(self) -> tuple[str | None, ...]:
        """What was measured."""
        return self.weights, self.moments, self.reader, self.prompt

    @property
    def settings(self) -> tuple[str, int, str]:
        """How much of it was measured."""
        return self.seeds, self.steps, self.profile


@dataclass(frozen=True)
class Results:
    """A results file of one model: ``kind`` is one of :data:`KINDS`.

    ``measurements`` holds a record of JSON for each experiment, with its ``provenance``; ``moments`` says where those
    of the theory come from, if they were not shipped with the model.
    """

    model: str
    kind: str
    measurements: dict = field(default_factory=dict)
    moments: dict = field(default_factory=dict)

    def made(self, name: str) -> Made:
        """Return what made one record."""
        return _typed(Made, self.measurements[name].get("provenance"), f"the provenance of {name}")


def checked(found: Any) -> Results:
    """Return the object in a results file, typed. Raises ``ValueError`` with one sentence if it is none.

    Records hold finite numbers; each says which seeds, steps, profile, date and seconds made it, and of a network which
    weights, version of torch and hardware.
    """
    json.dumps(found, allow_nan=False)
    results = _typed(Results, found, "a results file")
    _need(results.kind in KINDS, f"kind is {', '.join(KINDS)}, not {results.kind!r}")
    # A pull request must not carry a path of the machine it was made on.
    plain = results.model and not results.model.startswith(("/", "~", ".")) and "\\" not in results.model
    _need(
        plain and results.model.count("/") <= 1,
        f"model is a bundled name, a hub id or a folder's name, not {results.model!r}",
    )
    _need(bool(results.measurements), "there is no measurement in it")
    _need(not results.moments or "source" in results.moments, "moments must name their source")
    for name, record in results.measurements.items():
        _need(isinstance(record, dict) and len(record) > 1, f"the record of {name} is empty")
        made = results.made(name)
        lacking = [key for key in ("weights", "torch", "hardware") if getattr(made, key) is None]
        _need(results.kind == "gaussian" or not lacking, f"the provenance of {name} needs {', '.join(lacking)}")
        _need(made.steps > 0 and made.seconds >= 0, f"steps and seconds of {name} must not be negative")
        try:
            date.fromisoformat(made.date)
        except ValueError:
            _need(False, f"the date of {name} is {made.date!r} and must be like 2026-01-31")
    return results


def read(path: Path) -> Results:
    """Return a results file, checked; ``ValueError`` in one sentence if it is damaged."""
    try:
        return checked(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} is no results file of painters claims ({error}); move it away") from error


def write(found: Results, path: Path) -> None:
    """Write a results file, whole or not at all."""
    content = {"model": found.model, "kind": found.kind, "measurements": found.measurements}
    content |= {"moments": found.moments} if found.moments else {}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def results_file(name: str, *, kind: str = "network") -> Path:
    """Return where the committed results of a model are, or those of another of :data:`KINDS` in its place."""
    return RESULTS / f"{name.replace('/', '--')}{'' if kind == 'network' else f'-{kind}'}.json"


def results(name: str) -> dict[str, Any]:
    """Return the committed measurements of a model, e.g. ``results("fashion-ddpm")["geometry"]``.

    The exact Gaussian of a model is ``"NAME-gaussian"``, its network with shuffled weights ``"NAME-shuffled"``. Raises
    ``FileNotFoundError`` naming those there are.
    """
    path = results_file(name)
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in RESULTS.glob("*.json"))) or "none"
        raise FileNotFoundError(
            f"{name} was not measured; there are {there}. Make it with painters claims --model NAME --out {path}"
        )
    return read(path).measurements


def rounded(record: Any) -> Any:
    """Return a record as JSON holds it: six digits are enough, and not-a-number becomes null."""
    text = json.dumps(record)
    return json.loads(text, parse_float=lambda t: float(f"{float(t):.6g}"), parse_constant=lambda t: None)


def _typed(cls: Any, found: Any, what: str) -> Any:
    """A JSON object as a dataclass; ``ValueError`` names the field that is missing or of another type."""
    _need(isinstance(found, dict), f"{what} must be a JSON object")
    types = get_type_hints(cls)
    for part in fields(cls):
        given = part.name in found
        needed = part.default is MISSING and part.default_factory is MISSING
        _need(given or not needed, f"{what} needs {part.name!r}")
        kind = type(found.get(part.name)).__name__
        _need(not given or isinstance(found[part.name], types[part.name]), f"{what} has {part.name!r} of type {kind}")
    return cls(**{part.name: found[part.name] for part in fields(cls) if part.name in found})


def _need(condition: Any, message: str) -> None:
    if not condition:
        raise ValueError(message)
