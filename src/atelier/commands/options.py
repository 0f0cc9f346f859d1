"""The options that several commands share, and the types of options, which say a wrong value in one sentence."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any, get_args

from painters.levels import Spacing
from painters.sampling import SOLVERS

Commands = Any
"""What ``argparse.ArgumentParser.add_subparsers`` returns."""
DEALT = "Several processes, started by torchrun or accelerate launch, share the work."
OTHERS = "they are other processes', the last of which ends the work; if one was stopped, give the command again"


def whole(text: str, least: int = 1) -> int:
    """Return a whole number of at least 1, or ``least``."""
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise ArgumentTypeError(f"give a whole number of at least {least}, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """Return a whole number of at least 0."""
    return whole(text, 0)


def number(text: str) -> float:
    """Return a finite number."""
    try:
        if math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    raise ArgumentTypeError(f"give a number, got {text!r}")


def numbers(text: str) -> tuple[float, ...]:
    """Return finite numbers between commas."""
    return tuple(number(part) for part in text.split(","))


def wholes(text: str) -> list[int]:
    """Return whole numbers of at least 1 between commas."""
    return [whole(part) for part in text.split(",")]


def seeds(text: str) -> list[int]:
    """Return the seeds in a text such as ``0-15`` or ``3,7,20-29``."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ArgumentTypeError(f"seeds are numbers and ranges such as 0-15 or 3,7,20-29, got {text!r}")
        if dash and int(last) < int(first):
            raise ArgumentTypeError(f"the range of seeds {part.strip()} runs backwards: give {last}-{first}")
        found += range(int(first), int(last if dash else first) + 1)
    return found


def given(text: str) -> str:
    """Return a text that is not blank."""
    if not text.strip():
        raise ArgumentTypeError("it is empty: give a text, or leave the option out")
    return text


def file(text: str) -> str:
    """Return the name of a file that can be written, which may be there."""
    if Path(text).is_dir():
        raise ArgumentTypeError(f"{text} is a folder: give the name of a file")
    return text


TYPES = {one.__name__: one for one in (given, file, whole, count, number, numbers, wholes)}


SHARED: dict[str, dict[str, Any]] = {
    "name": {"type": given, "help": "a bundled model, a local diffusers folder, or a hub id"},
    "--seeds": {"type": seeds, "default": "0-15", "help": "such as 0-15 or 3,7,20-29 (default: %(default)s)"},
    "--steps": {"type": whole, "default": 50, "help": "solver steps (default: %(default)s)"},
    "--solver": {"choices": list(SOLVERS), "default": "heun", "help": "default: %(default)s"},
    "--spacing": {"choices": get_args(Spacing), "help": "of the noise levels"},
    "--prompt": {"type": given, "help": "a text, or the name or index of a class"},
    "--guidance": {"type": number, "default": 1.0, "help": "classifier-free guidance (default: %(default)s)"},
    "--batch": {"type": whole, "default": 16, "help": "images painted at once (default: %(default)s)"},
    "--moments": {"metavar": "FILE", "help": "its data's, made by painters moments"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda or mps"},
    "--dtype": {"default": "auto", "help": "auto, float32, bfloat16 or float16"},
    "--pickled": {"action": "store_true", "help": "allow .bin weights, read by torch's restricted loader"},
}
"""What an option is in every command that has it. A command's own defaults are set by ``parser.set_defaults``."""


def offer(parser: Any, *names: str) -> None:
    """Add some of the :data:`SHARED` options to a parser, or to a group of its options."""
    for name in names:
        parser.add_argument(name, **SHARED[name])
