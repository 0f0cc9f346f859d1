"""The command line ``painters``: how a command is run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, NoReturn

from atelier.commands import doctor

EXTRA = ("matplotlib", "scipy", "sklearn", "ipywidgets")
"""The modules of ``painters[book]``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, see :func:`run`."""
    try:
        from atelier.commands import grade, listing, moments, rooms, sample
    except ModuleNotFoundError as error:
        if [*(sys.argv[1:] if arguments is None else arguments)] == ["doctor"]:
            return run([doctor.add], arguments)
        print(f"painters: {error.name} is not installed: painters doctor says what to do", file=sys.stderr)
        return 1
    return run([doctor.add, listing.add, sample.add, rooms.add, moments.add, grade.add], arguments)


class Parser(argparse.ArgumentParser):
    """One that says a mistake in one sentence, where argparse would print its usage and end the process."""

    def error(self, message: str) -> NoReturn:
        """Raise ``ValueError``."""
        raise ValueError(f"{message}; {self.prog} --help says what there is")


def run(parts: Sequence[Callable[[Any], None]], arguments: Sequence[str] | None = None) -> int:
    """Run one command of those that ``parts`` add, and return its exit status.

    0 done, 1 a mistake said in one sentence, 130 interrupted. A command whose finished work is kept and continued after
    an interruption says so by the default ``kept=True``.
    """
    parser = Parser(prog="painters", description="How diffusion models paint, and why.")
    parser.add_argument("--version", action="version", version=f"painters {metadata.version('painters')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in parts:
        add(commands)
    options = argparse.Namespace(kept=False)
    try:
        parser.parse_args(arguments, options)
        return options.command(options)
    except KeyboardInterrupt:
        what = "what was finished is kept, the same command continues" if options.kept else "nothing was kept"
        print(f"painters: interrupted; {what}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        print(f'painters: this command needs {error.name}: pip install "painters[book]"', file=sys.stderr)
        return 1
    except (ValueError, OSError, FloatingPointError) as error:
        if isinstance(error, OSError) and error.strerror:  # the system's, not one of ours
            error = f"{error.filename} cannot be used ({error.strerror}): give another"
        print(f"painters: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
