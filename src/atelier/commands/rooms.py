"""The commands of the chapters' rooms: ``rooms.toml`` says what each is asked for."""

from __future__ import annotations

import argparse
import tomllib
from importlib import import_module
from pathlib import Path

from atelier.commands.options import TYPES, Commands, offer


def command(options: argparse.Namespace) -> int:
    """Do what a command says; its module is imported now."""
    return import_module(options.module).command(options)


def add(commands: Commands) -> None:
    """Add them to a command line. All of them keep what is finished."""
    for name, told in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items():
        parser = commands.add_parser(name, help=told["help"], description=told["description"])
        for option, how in told["options"].items():
            parser.add_argument(option, **how | {"type": TYPES[how["type"]]} if "type" in how else how)
        offer(parser, *told["shared"])
        parser.set_defaults(command=command, module=told["module"], kept=True, **told.get("defaults", {}))
