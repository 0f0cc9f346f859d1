"""Link every proved statement and every row of the ledger to the tests that hold it, and say so on a page.

    python tools/trust.py               run the linked tests, write links and worst errors to book/trust.json
    python tools/trust.py tests/core    run those below a path only, and keep what the others found before
    python tools/trust.py --check       fail if something is not linked, a link leads nowhere, or the file is stale

A test says what it holds by its marker: `@pytest.mark.statement("thm-gaussian-flow")` names the label of a theorem,
proposition, corollary, lemma or remark in book/*.md; `@pytest.mark.claim("i-plane")` names rows of claims.toml whose
functions it gives a world in which the verdict must be right and one in which it must be wrong. Rows name the test of
their measurement themselves, by `test`. What `partners.agree` compares in a linked test is the error that is listed.
The check reads files and runs nothing.
"""

import argparse
import ast
import json
import math
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from numbering import Book, read_book

ROOT = Path(__file__).resolve().parent.parent
CLAIMS, RESULTS = Path("src/atelier/ledger/claims.toml"), Path("book/trust.json")
CLAIMING = {"Theorem", "Proposition", "Corollary", "Lemma", "Remark"}
"""Statements that can be wrong; a definition cannot."""
MARKERS = {"pytest.mark.statement": "statements", "pytest.mark.claim": "claims"}


@dataclass
class Links:
    """Tests by the label of the statement and the id of the row that they hold; those that measure a row."""

    statements: dict[str, list[str]] = field(default_factory=dict)
    claims: dict[str, list[str]] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)

    @property
    def tests(self) -> list[str]:
        """Every test that is linked to something, once."""
        held = [*self.statements.values(), *self.claims.values(), self.measured.values()]
        return sorted({test for tests in held for test in tests})


def marked(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, name, test) for each marker in the decorators of a file's tests."""
    text = path.read_text(encoding="utf-8")
    if not any(marker in text for marker in MARKERS):
        return
    for node in ast.parse(text).body:
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
            continue
        for call in (part for mark in node.decorator_list for part in ast.walk(mark)):
            if isinstance(call, ast.Call) and (kind := MARKERS.get(ast.unparse(call.func))):
                yield from ((kind, ast.literal_eval(name), node.name) for name in call.args)


def read_links(root: Path) -> Links:
    """Return the links that the tests and the rows of the ledger state."""
    links = Links()
    for path in sorted((root / "tests").rglob("test_*.py")):
        for kind, name, test in marked(path):
            getattr(links, kind).setdefault(name, []).append(f"{path.relative_to(root).as_posix()}::{test}")
    for row in tomllib.loads((root / CLAIMS).read_text(encoding="utf-8"))["claim"]:
        links.measured[row["id"]] = row["test"]
    return links


def labels(book: Book) -> list[str]:
    """Return the labels of all statements that claim something, in the book's order."""
    return [label for label, target in book.targets.items() if target.kind in CLAIMING]


def problems(links: Links, statements: Iterable[str], found: dict | None) -> list[str]:
    """Return a sentence for each missing link, each link that leads nowhere, and what is out of date in the file."""
    wanted, said = {"statements": list(statements), "claims": list(links.measured)}, []
    for kind, names in wanted.items():
        held, marker = getattr(links, kind), kind[:-1]
        said += [f'{n}: no test is marked @pytest.mark.{marker}("{n}")' for n in names if n not in held]
        said += [f"{n}: {tests[0]} names it, and there is none" for n, tests in held.items() if n not in names]
    if found is None:
        return [*said, f"{RESULTS} is missing: run python tools/trust.py"]
    for part, now in listing(links, wanted["statements"]).items():
        names = [name for name in {**now, **found[part]} if found[part].get(name) != now.get(name)]
        said += [f"{name}: {RESULTS} lists other tests; run python tools/trust.py" for name in names]
    for name, tests in found["statements"].items():
        errors = [found["errors"][test] for test in tests if test in found["errors"]]
        if not errors:
            said.append(f"{name}: {RESULTS} lists no error")
        said += [f"{name}: {RESULTS} lists the error {e}, {most} at most" for e, most in errors if not e <= most]
    return said


def listing(links: Links, statements: Iterable[str]) -> dict:
    """Return the links as the results file lists them."""
    judged = {name: {"measured": test, "judged": links.claims.get(name, [])} for name, test in links.measured.items()}
    return {"statements": {n: links.statements[n] for n in statements if n in links.statements}, "claims": judged}


class Collector:
    """A plugin of pytest that keeps what `partners.agree` compared, by test."""

    def __init__(self) -> None:
        self.compared: dict[str, list[tuple[float, float]]] = {}
        self.passed: set[str] = set()

    def pytest_runtest_logreport(self, report) -> None:
        """Keep the comparisons of one case of a test."""
        test = report.nodeid.partition("[")[0]
        if report.when == "call" and report.passed:
            self.passed.add(test)
            for name, value in report.user_properties:
                if name == "compared":
                    self.compared.setdefault(test, []).extend(value)


def run(root: Path, tests: list[str]) -> dict[str, tuple[float, float]]:
    """Run tests and return the worst error of each that compares something, with its bound.

    Raises:
        SystemExit: if one fails or is skipped.
    """
    import pytest

    seen = Collector()
    status = pytest.main(["-q", "-p", "no:cacheprovider", *(str(root / test) for test in tests)], plugins=[seen])
    if status or (lost := sorted(set(tests) - seen.passed)):
        raise SystemExit(f"{RESULTS} was not written: " + ("a test failed" if status else f"not run: {lost}"))
    worst = {test: max(pairs) for test, pairs in sorted(seen.compared.items()) if pairs}
    return {test: (float(f"{error:.2g}"), bound) for test, (error, bound) in worst.items()}


def passage(root: Path) -> list[str]:
    """Return the lines of Markdown that the page "Build status" shows: sentences with the counts, and two tables."""
    found = json.loads((root / RESULTS).read_text(encoding="utf-8"))
    statements, claims = found["statements"], found["claims"]
    held = {test for tests in statements.values() for test in tests}
    judging = {test for row in claims.values() for test in (row["measured"], *row["judged"])}
    errors = {
        label: max(found["errors"][test] for test in tests if test in found["errors"])
        for label, tests in statements.items()
    }
    worst = max(errors, key=lambda label: errors[label])
    fine = sum(error <= 1e-9 for error, _ in errors.values())
    return [
        f"All {len(statements)} statements of the book, remarks included, are held by {len(held)} tests. For each, one "
        "or more compare the formula, or the code that uses it, with an exact partner: another formula, another solver "
        f"or another library. In {fine} of them no relative error is above $10^{{-9}}$; the largest of all, "
        f"{number(errors[worst][0])}, is that of {{prf:ref}}`{worst}`. The error of an inequality is by how much it is "
        "violated. Tests by random draws hold some statements too, and count in no error.",
        "",
        f"All {len(claims)} rows of the ledger are held by {len(judging)} tests: of the measurement, in a world whose "
        "answer is known, and of the verdict, in a world in which the claim is true and one in which it is not.",
        "",
        "::::{dropdown} Statements and their tests",
        "",
        "| statement | tests | worst error | bound |",
        "|---|---|--:|--:|",
        *(
            f"| {{prf:ref}}`{label}` | {listed(tests)} | {errors[label][0]:.1e} | {errors[label][1]:.0e} |"
            for label, tests in statements.items()
        ),
        "",
        "::::",
        "",
        "::::{dropdown} Rows of the ledger and their tests",
        "",
        "| row | its measurement | its verdict |",
        "|---|---|---|",
        *(
            f'| <a href="claims.html#{id}">{id}</a> | {listed([row["measured"]])} | {listed(row["judged"])} |'
            for id, row in claims.items()
        ),
        "",
        "::::",
    ]


def listed(tests: list[str]) -> str:
    """Name tests in a cell of a table: what each says in words, and its file."""
    parts = (test.removeprefix("tests/").partition("::") for test in tests)
    return "<br>".join(f"{name.removeprefix('test_').replace('_', ' ')} (`{path}`)" for path, _, name in parts)


def number(value: float) -> str:
    """Write an error as a formula: 3.1e-12 becomes a number times a power of ten."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits, power = f"{value:.1e}".split("e")
    return rf"${digits} \times 10^{{{int(power)}}}$" if not -3 <= int(power) < 3 else f"${value:.2g}$"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Link statements and claims to tests, and list the errors.")
    parser.add_argument("paths", nargs="*", default=["tests"], help="run only the linked tests below these")
    parser.add_argument("--check", action="store_true", help="run no test; fail if links or the file are not right")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    options = parser.parse_args(arguments)
    links, statements, path = read_links(options.root), labels(read_book(options.root)), options.root / RESULTS
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if not options.check:
        chosen = [test for test in links.tests if test.startswith(tuple(options.paths))]
        kept = {test: e for test, e in (found or {"errors": {}})["errors"].items() if test in links.tests}
        errors = {test: e for test, e in kept.items() if test not in chosen} | run(options.root, chosen)
        found = listing(links, statements) | {"errors": dict(sorted(errors.items()))}
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    said = problems(links, statements, found)
    print("\n".join(said) or f"{len(links.statements)} statements and {len(links.claims)} rows have their tests.")
    return int(bool(said))


if __name__ == "__main__":
    sys.exit(main())
