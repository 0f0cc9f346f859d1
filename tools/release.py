"""Check what must be true of a release: the repository's address is real and the same everywhere.

    python tools/release.py

The address is written once, in `pyproject.toml` under `[project.urls] REPOSITORY`. Jupyter Book and
CITATION.cff cannot read it from there, so their copies are compared.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACEHOLDER = "OWNER"
# Only a scalar is wanted from each file, and this runs before anything is installed.
SCALARS = {
    "_config.yml": r"^  url:\s*(\S+)\s*$",
    "CITATION.cff": r"^repository-code:\s*\"?([^\"\s]+)\"?\s*$",
}


def addresses(root: Path) -> dict[str, str]:
    """Return the repository's address as each file has it; an empty string where it has none."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {"pyproject.toml": project.get("urls", {}).get("REPOSITORY", "")}
    for name, pattern in SCALARS.items():
        match = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.M)
        found[name] = match[1] if match else ""
    return found


def version_mismatch(root: Path) -> str:
    """Return a sentence if CITATION.cff names another version than `pyproject.toml`, else nothing."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    match = re.search(r"^version:\s*\"?([^\"\s]+)", (root / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    cited = match[1] if match else "none"
    if cited == project["version"]:
        return ""
    return f"CITATION.cff has version {cited}, pyproject.toml {project['version']}."


def problems(root: Path) -> list[str]:
    """Return one sentence for each thing that stands in the way of a release."""
    found = addresses(root)
    want = found["pyproject.toml"]
    result = [
        f"{name} has the address {address or '(none)'}, pyproject.toml has {want}."
        for name, address in found.items()
        if address != want
    ]
    if PLACEHOLDER in want:
        result.append(f"The address {want} is a placeholder; set [project.urls] REPOSITORY in pyproject.toml.")
    stale = [
        path.name for path in sorted((root / "book").glob("*.ipynb"))
        if want not in path.read_text(encoding="utf-8")
    ]  # fmt: skip
    if stale:
        result.append(f"Notebooks with another address: {', '.join(stale)}; run tools/export.py.")
    return result + [sentence for sentence in [version_mismatch(root)] if sentence]


def main() -> int:
    """Print the problems; return the exit status."""
    found = problems(ROOT)
    for sentence in found:
        print(sentence, file=sys.stderr)
    if not found:
        print(f"Ready for release at {addresses(ROOT)['pyproject.toml']}.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
