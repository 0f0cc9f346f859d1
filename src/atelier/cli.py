"""The command line ``painters``: how a command is run, and what each is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from atelier.commands import grade, moments, sample
from atelier.commands.options import DEALT, Commands, number, numbers, offer, whole, wholes

EXTRA = ("matplotlib", "scipy", "sklearn", "ipywidgets")
"""The modules of ``painters[book]``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, see :func:`run`."""
    return run([sample.add, moments.add, grade.add, add_commands], arguments)


def run(parts: Sequence[Callable[[Commands], None]], arguments: Sequence[str] | None = None) -> int:
    """Run one command of those that ``parts`` add, and return its exit status.

    0 done, 1 a mistake said in one sentence, 130 interrupted. A command whose finished work is kept and continued after
    an interruption says so by the default ``kept=True``.
    """
    # argparse would answer a wrong value with three lines of usage and end the process.
    parser_class: Any = partial(argparse.ArgumentParser, exit_on_error=False)
    parser = parser_class(prog="painters", description="How diffusion models paint, and why.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=parser_class)
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
    except (argparse.ArgumentError, ValueError, OSError, FloatingPointError) as error:
        print(f"painters: {error}", file=sys.stderr)
        return 1


def _vary(options: argparse.Namespace) -> int:
    from atelier.variations import varying

    return varying.command(options)


def _train(options: argparse.Namespace) -> int:
    from atelier.training import command

    return command.command(options)


def _judge(options: argparse.Namespace) -> int:
    from atelier import judging

    return judging.command(options)


def _claims(options: argparse.Namespace) -> int:
    from atelier.ledger import measuring

    return measuring.command(options)


def _bench(options: argparse.Namespace) -> int:
    from atelier.faster import bench

    return bench.command(options)


def add_commands(commands: Commands) -> None:
    """Add all other commands to a command line; what each does is imported when it is run."""
    _varying(commands)
    _benching(commands)

    train = commands.add_parser("train", help="train a model", description="Train one of the recipes; resumable.")
    train.add_argument("name", help="a recipe, e.g. fashion-ddpm, or pixels or scenes-sd with --data")
    train.add_argument("--data", default=None, help="folder with your own pictures, or with the recipe's data set")
    train.add_argument("--size", type=whole, default=None, help="for the recipe pixels: pixels a side (default: 32)")
    train.add_argument(
        "--channels", type=int, choices=[1, 3], default=None, help="for the recipe pixels (default: as the pictures)"
    )
    train.add_argument("--steps", type=whole, default=None, help="stop after so many steps (default: the recipe's)")
    train.add_argument("--run", default=None, help="folder for the run's state (default: ~/.cache/painters/runs/NAME)")
    train.add_argument("--out", default=None, help="folder for the model (default: RUN/model)")
    offer(train, "--device")
    train.set_defaults(command=_train, kept=True)

    judge = commands.add_parser(
        "judge", help="measure how good a model's pictures are", description="Paint many pictures and measure them."
    )
    judge.add_argument("name", help="a model of a data set with a reader, e.g. fashion-ddpm")
    judge.add_argument("--n", type=whole, default=2000, help="pictures without a prompt (default: %(default)s)")
    judge.add_argument("--prompts", type=int, default=500, help="pictures at each guidance (default: %(default)s)")
    judge.add_argument("--guidance", type=numbers, default="1,3,7.5", help="guidance weights (default: %(default)s)")
    offer(judge, "--steps", "--solver", "--batch", "--device")
    judge.add_argument("--reader", default=None, help="a reader's folder (default: the bundled one of the data)")
    judge.add_argument("--data", default=None, help="folder with the data set")
    judge.add_argument("--out", default=None, help="file for the results (default: NAME-quality.json)")
    judge.set_defaults(command=_judge, kept=True, solver="dpmpp2m", batch=100)

    claims = commands.add_parser(
        "claims",
        help="measure the claims of the ledger on a model",
        description=f"Measure the claims of the ledger on a model; resumable. {DEALT} Or print the table of results.",
    )
    claims.add_argument("--model", default=None, help="a bundled model, a local diffusers folder, or a hub id")
    claims.add_argument("--pipeline", default=None, metavar="ID", help="any diffusers pipeline, with --prompt")
    instead = claims.add_mutually_exclusive_group()
    instead.add_argument("--gaussian", action="store_true", help="measure the exact Gaussian of its data instead")
    instead.add_argument("--shuffled", action="store_true", help="measure its network with shuffled weights instead")
    claims.add_argument("--table", nargs="*", default=None, metavar="FILE", help="print results (default: committed)")
    offer(claims, "--seeds", "--steps", "--moments", "--batch", "--device")
    claims.add_argument("--profile", choices=["ci", "book", "full"], default="book", help="default: %(default)s")
    claims.add_argument("--only", default=None, metavar="NAMES", help="experiments, e.g. geometry,emergence")
    claims.add_argument("--prompt", default=None, help="a text or class; needs --moments of the data it describes")
    claims.add_argument("--out", default=None, help="file for the results (default: NAME.json)")
    claims.set_defaults(command=_claims, kept=True, seeds="0-199", batch=50)


def _varying(commands: Commands) -> None:
    vary = commands.add_parser(
        "vary",
        help="vary a picture on purpose",
        description="Keep the outline of a picture and paint other details, or the reverse.",
    )
    offer(vary, "name", "--steps", "--solver", "--prompt", "--guidance", "--moments", "--batch", "--device", "--dtype")
    vary.add_argument("--seed", type=int, default=0, help="whose picture is varied (default: %(default)s)")
    vary.add_argument("--image", default=None, metavar="FILE", help="a picture of your own, instead of a seed's")
    vary.add_argument("--keep", choices=["outline", "details"], default="outline", help="default: %(default)s")
    vary.add_argument(
        "--level",
        type=number,
        default=None,
        help="noise level sigma/alpha at which the state is changed (default: where the outline holds 80%% of the "
        "data's variance)",
    )
    vary.add_argument("--pcs", type=int, default=None, help="PCs of the outline (default: those that stand there)")
    vary.add_argument("--n", type=whole, default=8, help="variations (default: %(default)s)")
    vary.add_argument("--out", default="variations", help="folder for the images (default: %(default)s)")
    vary.set_defaults(command=_vary, kept=True, batch=8)


def _benching(commands: Commands) -> None:
    bench = commands.add_parser(
        "bench",
        help="compare few-step samplers, ours and those of diffusers",
        description="Measure how far samplers end from the converged solution, by network calls; resumable.",
    )
    bench.add_argument("--model", default=None, help="e.g. fashion-ddpm, scenes-sd, scenes-sd-w3, gaussian or mixture")
    calls = "5,6,8,10,12,16,20,30"
    bench.add_argument("--nfe", type=wholes, default=calls, help="network calls (default: %(default)s)")
    bench.add_argument("--json", default=None, metavar="FILE", help="for the results (default: NAME-bench.json)")
    bench.add_argument("--only", default=None, metavar="WORDS", help="samplers whose name has one, e.g. DDIM,UniPC")
    bench.add_argument("--frechet", type=whole, default=None, metavar="N", help="distances too, of N images")
    offer(bench, "--seeds", "--device")
    bench.add_argument("--table", nargs="+", default=None, metavar="FILE", help="print results instead")
    bench.set_defaults(command=_bench, kept=True, seeds="0-63")


if __name__ == "__main__":
    sys.exit(main())
