"""What imports what in `src/`, read from the text of its files and never by running them."""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path


def modules(source: Path) -> dict[str, Path]:
    """Return every module below a folder by its dotted name, `painters.theory` for its `__init__.py`."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(code: str, known: Iterable[str], *, package: str = "") -> set[str]:
    """Return which of the `known` modules some code imports, inside functions and for type checkers too.

    `package` is the one that relative imports start from. A module's packages are not in the answer: see `reached`.
    """
    known, names = set(known), set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from package import name`: the module of that name, or something defined in the package itself.
            within = {f"{base}.{alias.name}" for alias in node.names}
            names.update(within & known)
            if not within <= known:
                names.add(base)
    return names & known


def graph(source: Path) -> dict[str, set[str]]:
    """Return for each module below a folder the modules below it that it imports."""
    paths = modules(source)
    return {
        name: imported(
            path.read_text(encoding="utf-8"),
            paths,
            package=name if path.stem == "__init__" else name.rpartition(".")[0],
        )
        for name, path in paths.items()
    }


def reached(first: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    """Return all modules that run when the first ones do: theirs, what they import, and the packages around each."""
    found, left = set(), list(first)
    while left:
        if (name := left.pop()) and name not in found and name in edges:
            found.add(name)
            left += [*edges[name], name.rpartition(".")[0]]
    return found
