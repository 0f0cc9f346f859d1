"""Make a release, or say what stands in its way.

    python tools/release.py --site     only look at what a published site needs: address, versions, notebooks
    python tools/release.py --check    look at the entry in CHANGELOG.md too, and build nothing
    python tools/release.py            look, build everything, and put it into dist/ with SHA256SUMS
    python tools/release.py --dry-run  build all the same while something stands in the way

Each part is a command of its own, and to look needs nothing installed. The repository's address is written
once, in `pyproject.toml` under `[project.urls] REPOSITORY`. Jupyter Book and CITATION.cff cannot read it from there, so
their copies are compared.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from archives import pack

ROOT = Path(__file__).resolve().parent.parent
PLACEHOLDER = "OWNER"
# Only a scalar is wanted from each file, and this runs before anything is installed.
SCALARS = {
    "_config.yml": r"^  url:\s*(\S+)\s*$",
    "CITATION.cff": r"^repository-code:\s*\"?([^\"\s]+)\"?\s*$",
}
VERSIONS = {
    "CITATION.cff": r"^version:\s*\"?([^\"\s]+)",
    "src/painters/__init__.py": r"^__version__ = \"([^\"]+)\"",
}
STEPS = {
    "the site": ("build.py",),
    "the book as a PDF": ("pdf.py",),
    "the course": ("course.py",),
    "the packages, and a notebook that runs on the wheel alone": ("distribution.py", "--prove"),
}
KEY = "hidden.key"
"""What nobody but a teacher may have, see `tools/course.py`."""


def scalar(root: Path, name: str, pattern: str) -> str:
    """Return what a pattern finds in a file; an empty string where it finds nothing."""
    match = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.M)
    return match[1] if match else ""


def project(root: Path) -> dict:
    """Return the project's table of `pyproject.toml`."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def addresses(root: Path) -> dict[str, str]:
    """Return the repository's address as each file has it; an empty string where it has none."""
    found = {"pyproject.toml": project(root).get("urls", {}).get("REPOSITORY", "")}
    return found | {name: scalar(root, name, pattern) for name, pattern in SCALARS.items()}


def version_mismatch(root: Path) -> list[str]:
    """Return a sentence for each file that names another version than `pyproject.toml`."""
    want = project(root)["version"]
    found = {name: scalar(root, name, pattern) or "none" for name, pattern in VERSIONS.items()}
    return [f"{name} has version {got}, pyproject.toml {want}." for name, got in found.items() if got != want]


def unwritten(root: Path) -> list[str]:
    """Return a sentence if CHANGELOG.md has no entry with a date for the version."""
    version = project(root)["version"]
    heading = scalar(root, "CHANGELOG.md", rf"^(## {re.escape(version)}\b.*)$")
    if not heading:
        return [f"CHANGELOG.md has no entry for {version}."]
    if not re.search(r"\d{4}-\d{2}-\d{2}", heading):
        return [f"CHANGELOG.md gives {version} no date: {heading!r}."]
    return []


def problems(root: Path) -> list[str]:
    """Return one sentence for each thing that stands in the way of a published site."""
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
    return result + version_mismatch(root)


# Everything, in dist/


def collect(root: Path, dist: Path) -> list[str]:
    """Put what was built beside the packages in `dist`, named by the version; return what stays out, and why."""
    name, built, out = f"painters-{project(root)['version']}", root / "_build", []
    shutil.copy(built / "painters.pdf", dist / f"{name}.pdf")
    pack(built / "html", dist / f"{name}-site.zip")
    # That for learning platforms is a zip by another name.
    for path in sorted(path for path in (built / "course").iterdir() if zipfile.is_zipfile(path)):
        with zipfile.ZipFile(path) as archive:
            secret = any(entry.rpartition("/")[2] == KEY for entry in archive.namelist())
        if secret:
            out.append(
                f"{path.relative_to(root)} is not published: it holds {KEY}, and each teacher makes a key of theirs."
            )
        else:
            shutil.copy(path, dist / f"{name}-{path.name}")
    return out


def sums(dist: Path) -> str:
    """Return the lines of SHA256SUMS: `sha256sum -c SHA256SUMS` in that folder compares them."""
    files = sorted(path for path in dist.iterdir() if path.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def make(root: Path, dist: Path) -> int:
    """Build everything into an empty folder; return the exit status of the first part that fails, else 0."""
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    for what, (tool, *options) in STEPS.items():
        print(f"\n== {what}", flush=True)
        done = subprocess.run([sys.executable, str(root / "tools" / tool), *options], cwd=root)
        if done.returncode:
            print(f"\nThe release failed at: {what} (tools/{tool}).", file=sys.stderr)
            return done.returncode
    for sentence in collect(root, dist):
        print(sentence)
    (dist / "SHA256SUMS").write_text(sums(dist), encoding="utf-8")
    print(f"\nIn {dist.relative_to(root)}:")
    for path in sorted(dist.iterdir()):
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path.name}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Make a release in dist/, or say what stands in its way.")
    parser.add_argument("--site", action="store_true", help="only look at what a published site needs")
    parser.add_argument("--check", action="store_true", help="build nothing")
    parser.add_argument("--dry-run", action="store_true", help="build although something stands in the way")
    options = parser.parse_args(arguments)
    found = problems(ROOT) + ([] if options.site else unwritten(ROOT))
    for sentence in found:
        print(sentence, file=sys.stderr)
    if not found:
        print(f"Ready for release at {addresses(ROOT)['pyproject.toml']}.")
    if options.site or options.check or (found and not options.dry_run):
        return 1 if found else 0
    status = make(ROOT, ROOT / "dist")
    if not status and found:
        print("A dry run: what is said above stands in the way of a release.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
