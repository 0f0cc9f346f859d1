"""Give the packages small faults, one at a time, and count how many the tests find: `make mutants`.

The faults are those of `tools/faults.py`, drawn under a seed. Each lives in a fork of a process that has torch at hand,
where the faulty text is run instead of the module's: no file is touched. Only tests that run the faulty line are tried,
those of `tests/core` for painters and of the same room for atelier, the fastest first, until one fails; then the other
tests of their files, which may share what was computed once. A failure counts if the test passes alone without
the fault. Everything is kept in `.cache/mutants`, so a run that was ended goes on; a fault is tried again only if its
module changed, or the test that found it, or, where none did, any.

What lives is explained in `tests/survivors.toml`: the same program in other words, or not worth a test, and why.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import importlib.abc
import importlib.util
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from faults import Fault, draw, find
from imports import modules

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".cache" / "mutants"
SURVIVORS = ROOT / "tests" / "survivors.toml"
ROOMS = "evidence landscape learning manifold variations gans faster ledger.rows scoring statistics subject ranks data"
SCOPE = {"painters": ["painters"], "atelier": [f"atelier.{room}" for room in ROOMS.split()]}
WARM = (
    "torch",
    "diffusers",
    "transformers",
    "scipy",
    "sklearn",
    "matplotlib",
    "hypothesis",
    "safetensors",
    "tokenizers",
)
ELSEWHERE = {
    "subject": ["workshop/evidence/test_*.py", "workshop/ledger/test_pipeline.py"],
    "ranks": ["workshop/faster/test_*.py"],
    "landscape": ["core/theory/test_cloud.py"],
}
"""Tests of other places that are asked about a room too."""
MEMORY = 16 << 30
SPEND = 8.0
"""Seconds of a processor, as measured without a fault, that the tests of one fault may take."""
PATIENCE = 30
"""Seconds of a processor, beside ten times those, after which a fault is taken for an endless loop."""


# One process for each fault


def apart(work: Callable[..., Any], *args: Any, limit: float) -> Any:
    """Return what ``work`` returns in a fork of this process, or "died" if it does not within ``limit`` seconds.

    They are those of a processor, which other programs leave alone; one that waits for itself has ten times as many.
    """
    fork = multiprocessing.get_context("fork")
    mine, theirs = fork.Pipe(False)
    child = fork.Process(target=_child, args=(theirs, int(limit), work, args))
    child.start()
    theirs.close()
    try:
        return mine.recv() if mine.poll(10 * limit) else "died"
    except EOFError:
        return "died"
    finally:
        try:
            os.killpg(child.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            child.kill()
        child.join()


def _child(answer: Any, limit: int, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    log = os.open(KEPT / "last.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(ROOT)
    answer.send(work(*args))
    os._exit(0)


class Faulty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Runs another text in place of one module's."""

    def __init__(self, module: str, path: Path, text: str) -> None:
        self.module, self.path, self.text = module, path, text

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname == self.module:
            within = [str(self.path.parent)] if self.path.stem == "__init__" else None
            return importlib.util.spec_from_file_location(
                fullname, self.path, loader=self, submodule_search_locations=within
            )
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.text, str(self.path), "exec"), module.__dict__)


def _pytest(files: list[str], *plugins: Any) -> int:
    import pytest

    bare = "-q --tb=line --assert=plain -W ignore -p no:cacheprovider -p no:unraisableexception"
    return int(pytest.main([*bare.split(), *files], plugins=plugins))


class Chosen:
    """A plugin of pytest: these tests, in this order, and which of them failed first."""

    def __init__(self, names: list[str]) -> None:
        self.place, self.failed = {name: i for i, name in enumerate(names)}, ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.place), key=lambda i: self.place[i.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def trial(faulty: Faulty | None, names: list[str]) -> str:
    """Return the name of the first test that fails, "import" if they cannot be collected, "" if all pass."""
    if faulty:
        sys.meta_path.insert(0, faulty)
    chosen = Chosen(names)
    code = _pytest(["-x", *dict.fromkeys(of(name) for name in names)], chosen)
    return chosen.failed or ("" if code in (0, 5) else "import")


# Which tests run which lines


class Traced:
    """A plugin of pytest: a processor's seconds for each test that passes, and its name as coverage's context."""

    def __init__(self, coverage: Any) -> None:
        self.coverage, self.seconds, self.passed = coverage, {}, set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)
        self.seconds[nodeid] = -time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.seconds[nodeid] += time.process_time()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self.passed.add(report.nodeid)


def traced(file: str) -> dict[str, Any] | str:
    """Run a file of tests. Return their seconds, the tests that run each line of each module, and what was imported."""
    from coverage import Coverage

    coverage = Coverage(data_file=None, config_file=False, source=[str(ROOT / "src")])
    coverage.start()
    plugin = Traced(coverage)
    code = _pytest([file], plugin)
    coverage.stop()
    if code not in (0, 1, 5):  # 1: some fail, and are not asked; 5: there are none
        return f"its tests cannot be collected (pytest ended with {code})"
    data, lines = coverage.get_data(), {}
    for name, path in modules(ROOT / "src").items():
        if ran := data.contexts_by_lineno(str(path)):
            lines[name] = ran
    passed = {name: round(seconds, 3) for name, seconds in plugin.seconds.items() if name in plugin.passed}
    return {"tests": passed, "lines": lines, "imported": [n for n in sys.modules if n.split(".")[0] in WARM]}


class Map:
    """Which tests run which lines, by files of tests."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        self.maps: dict[str, dict[str, Any]] = {}
        self.durations: dict[str, float] = {}

    def collect(self, say: Callable[[str], None], late: Callable[[], bool]) -> None:
        """Trace the files that were not, or are not what they were, and import what they need into this process."""
        paths = modules(ROOT / "src")
        for file in self.files:
            kept = KEPT / "lines" / (file.replace("/", ".") + ".json")
            found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"lines": {}}
            if found.get("made") != made(found, ROOT / file, paths):
                if late():
                    raise TimeoutError
                start = time.monotonic()
                found = apart(traced, file, limit=900)
                if isinstance(found, str):
                    raise RuntimeError(f"{file}: {found}, see {KEPT}/last.log")
                found["made"] = made(found, ROOT / file, paths)
                save(kept, json.dumps(found))
                say(f"traced {file}: {len(found['tests'])} tests, {time.monotonic() - start:.0f} s")
            warm(found.pop("imported"))
            self.maps[file] = found
            self.durations |= found["tests"]

    def tests(self, fault: Fault) -> list[str]:
        """Return the tests to try on a fault: those that run it, the fastest first, then others of their files.

        Tests in a file of the module's name come before others, in case there is no time for all.
        """
        own = fault.module.rpartition(".")[2]
        direct: set[str] = set()
        for found in self.maps.values():
            for line, names in found["lines"].get(fault.module, {}).items():
                if fault.first <= int(line) <= fault.last or not fault.first:
                    direct.update(names)
        direct &= self.durations.keys()
        others = {name for file in {of(name) for name in direct} for name in self.maps[file]["tests"]} - direct
        chosen, spent = [], 0.0
        for group in (direct, others):
            for _, seconds, name in sorted((own not in of(name), self.durations[name], name) for name in group):
                if not chosen or spent + seconds <= SPEND:
                    chosen.append(name)
                    spent += seconds
        return chosen


def made(found: dict[str, Any], file: Path, paths: dict[str, Path]) -> str:
    """A digest of what a trace rests on: the tests and the modules that they run."""
    return digest(file, *(paths[name] for name in found["lines"] if name in paths))


def asked(module: str) -> list[str]:
    """The files of tests that are asked about the faults of a module."""
    package, room = [*module.split("."), ""][:2]
    patterns = ["core/**/test_*.py"]
    if package == "atelier":
        patterns = [f"workshop/{room}/test_*.py", f"workshop/test_{room}.py", *ELSEWHERE.get(room, [])]
    return sorted(str(file.relative_to(ROOT)) for pattern in patterns for file in (ROOT / "tests").glob(pattern))


def of(name: str) -> str:
    """The file of a test."""
    return name.split("::")[0]


def warm(names: list[str]) -> None:
    """Import what tests need, once for all forks; our own packages stay out."""
    for name in names:
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception:  # one of another machine's: whoever needs it will say so
                continue
    gc.collect()
    gc.freeze()  # or each fork would copy every page, to look at what it never changes


# What is kept


def digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


class Record:
    """What became of each fault, one line of JSON each, the last one valid."""

    def __init__(self, path: Path, tests: str) -> None:
        self.path, self.tests = path, tests
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {line["key"]: line for line in map(json.loads, lines)}

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what is known under a key, if what made it has not changed."""
        found = self.known.get(key)
        return found if found and found["made"] == self.made(found["by"]) else None

    def put(self, key: str, by: str, **more: Any) -> dict[str, Any]:
        self.known[key] = {"key": key, "by": by, "made": self.made(by), **more}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(self.known[key]) + "\n")
        return self.known[key]

    def made(self, by: str) -> str:
        """A digest of what an answer rests on: the file of the test that found the fault, all tests where none did."""
        file = ROOT / of(by)
        return self.tests if not by else digest(file) if file.is_file() else ""


# The run


def judge(fault: Fault, text: str, path: Path, tests: Map, record: Record) -> dict[str, Any]:
    """Return the record of a fault; ``by`` is the test that found it, "import", "died", or empty."""
    key = hashlib.sha256(f"{text}{fault}".encode()).hexdigest()[:16]
    if (known := record.get(key)) is not None:
        return known
    if told := why(fault, text):
        return {"by": "", "tests": 0, "seconds": 0, "fault": fault.record(), "why": told}
    start, names, by = time.monotonic(), tests.tests(fault), ""
    faulty = Faulty(fault.module, path, fault.apply(text))
    first, rest = names[:20], sorted(names[20:], key=of)  # most are found by the first: few files are imported then
    for few in (first, rest):
        while few and not by:
            by = apart(trial, faulty, few, limit=PATIENCE + 10 * sum(tests.durations[name] for name in few))
            if not by:
                break
            blamed = [by] if "::" in by else few
            if not sound(blamed, record):
                few, by = [name for name in few if name not in blamed], ""  # they fail by themselves
    return record.put(key, by, tests=len(names), seconds=round(time.monotonic() - start, 1), fault=fault.record())


def sound(names: list[str], record: Record) -> bool:
    """Whether tests pass by themselves and without a fault."""
    key = f"sound {' '.join(names)}"
    known = record.get(key) or record.put(key, names[0], passes=apart(trial, None, names, limit=900) == "")
    return known["passes"]


def sample(package: str, count: int, seed: int) -> Iterator[tuple[Fault, str, Path]]:
    """Yield the faults drawn from a package, with the text and the path of their module."""
    paths = {
        name: path
        for name, path in modules(ROOT / "src").items()
        if any(name == room or name.startswith(room + ".") for room in SCOPE[package])
    }
    texts = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
    for fault in draw([fault for name, text in texts.items() for fault in find(text, name)], count, seed):
        yield fault, texts[fault.module], paths[fault.module]


def why(fault: Fault, text: str) -> str:
    """Return why a fault may live, as told in `tests/survivors.toml`; empty if it is not."""
    told = tomllib.loads(SURVIVORS.read_text(encoding="utf-8")) if SURVIVORS.exists() else {}
    line, sides = text.splitlines()[fault.at - 1], [" ".join(side.split()) for side in (fault.before, fault.after)]
    for one in told.get("survivor", []):
        if [fault.module, *sides] == [one["module"], one["before"], one["after"]] and one.get("line", "") in line:
            return one["why"]
    return ""


def report(package: str, seed: int, results: list[dict[str, Any]]) -> tuple[str, float]:
    """Return the result of a package in Markdown, and the share that was found."""
    lived = [result["fault"] | {"why": result.get("why")} for result in results if not result["by"]]
    share = 1 - len(lived) / len(results)
    rows = [f"**{package}**, seed {seed}: {len(results) - len(lived)} of {len(results)} faults found, {share:.1%}.", ""]
    for fault in sorted(lived, key=lambda fault: (fault["module"], fault["at"])):
        before, after = (" ".join(str(fault[side]).split()) for side in ("before", "after"))
        rows.append(f"- `{fault['module']}:{fault['at']}` `{before}` to `{after}`: {fault['why'] or 'NOT EXPLAINED'}")
    return "\n".join([*rows, ""]), share


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--package", choices=sorted(SCOPE), action="append", help="one of the two; both by default")
    parser.add_argument("--count", type=int, default=100, help="faults of each package")
    parser.add_argument("--seed", type=int, default=0, help="which faults are drawn")
    parser.add_argument("--least", type=float, default=0.9, help="the share that has to be found in each")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many; the same command goes on")
    parser.add_argument("--out", type=Path, help="write the result to this file too")
    options = parser.parse_args(arguments)
    begin = time.monotonic()

    def late() -> bool:
        return time.monotonic() - begin > 60 * options.minutes

    def say(text: str) -> None:
        print(text, flush=True)

    os.environ |= {"OMP_NUM_THREADS": "1", "HYPOTHESIS_PROFILE": "mutants", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    sys.path.insert(0, str(ROOT / "src"))
    KEPT.mkdir(parents=True, exist_ok=True)
    warm(["torch", "pytest", "hypothesis", "coverage"])
    hypothesis = sys.modules["hypothesis"]
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # a failure need not be made small
    hypothesis.settings.register_profile("mutants", deadline=None, max_examples=60, derandomize=True, phases=phases)
    record = Record(KEPT / "results.jsonl", digest(*sorted((ROOT / "tests").rglob("*.py"))))
    shares, texts = [], []
    try:
        for package in options.package or sorted(SCOPE, reverse=True):
            results, tests = [], Map([])
            drawn = sorted(sample(package, options.count, options.seed), key=lambda one: asked(one[0].module))
            for i, (fault, text, path) in enumerate(drawn, 1):
                if late():
                    raise TimeoutError
                if tests.files != asked(fault.module):
                    tests = Map(asked(fault.module))
                    tests.collect(say, late)
                results.append(result := judge(fault, text, path, tests, record))
                fate = f"found by {result['by']}" if result["by"] else f"LIVES through {result['tests']} tests"
                say(f"{i:3d} {fault.module}:{fault.at} {fault.kind}: {fate} ({result['seconds']} s)")
            told, share = report(package, options.seed, results)
            texts.append(told)
            shares.append(share)
    except TimeoutError:
        say("Time is up: the same command goes on from here.")
        return 3
    say("\n" + "\n".join(texts))
    if options.out:
        options.out.write_text("\n".join(texts), encoding="utf-8")
    return int(min(shares) < options.least)


if __name__ == "__main__":
    sys.exit(main())
