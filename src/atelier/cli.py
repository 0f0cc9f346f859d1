"""The command line of the project: the commands of the core, and the workshop's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from painters import cli as core
from painters.cli import DEALT, Commands, number, numbers, whole
from painters.sampling import SOLVERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, see :func:`painters.cli.run`."""
    return core.run([core.add_commands, add_commands], arguments)


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


def _wholes(text: str) -> list[int]:
    return [whole(part) for part in text.split(",")]


def add_commands(commands: Commands) -> None:
    """Add the workshop's commands to a command line."""
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
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    train.set_defaults(command=_train, kept=True)

    judge = commands.add_parser(
        "judge", help="measure how good a model's pictures are", description="Paint many pictures and measure them."
    )
    judge.add_argument("name", help="a model of a data set with a reader, e.g. fashion-ddpm")
    judge.add_argument("--n", type=whole, default=2000, help="pictures without a prompt (default: %(default)s)")
    judge.add_argument("--prompts", type=int, default=500, help="pictures at each guidance (default: %(default)s)")
    judge.add_argument("--guidance", type=numbers, default="1,3,7.5", help="guidance weights (default: %(default)s)")
    judge.add_argument("--steps", type=whole, default=50, help="solver steps (default: %(default)s)")
    judge.add_argument("--solver", choices=list(SOLVERS), default="dpmpp2m", help="default: %(default)s")
    judge.add_argument("--batch", type=whole, default=100, help="pictures painted at once (default: %(default)s)")
    judge.add_argument("--reader", default=None, help="a reader's folder (default: the bundled one of the data)")
    judge.add_argument("--data", default=None, help="folder with the data set")
    judge.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    judge.add_argument("--out", default=None, help="file for the results (default: NAME-quality.json)")
    judge.set_defaults(command=_judge, kept=True)

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
    claims.add_argument("--seeds", default="0-199", help="such as 0-15 or 3,7,20-29 (default: %(default)s)")
    claims.add_argument("--steps", type=whole, default=50, help="solver steps (default: %(default)s)")
    claims.add_argument("--profile", choices=["ci", "book", "full"], default="book", help="default: %(default)s")
    claims.add_argument("--only", default=None, metavar="NAMES", help="experiments, e.g. geometry,emergence")
    claims.add_argument("--moments", default=None, metavar="FILE", help="its data's, made by painters moments")
    claims.add_argument("--prompt", default=None, help="a text or class; needs --moments of the data it describes")
    claims.add_argument("--batch", type=whole, default=50, help="seeds at once (default: %(default)s)")
    claims.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    claims.add_argument("--out", default=None, help="file for the results (default: NAME.json)")
    claims.set_defaults(command=_claims, kept=True)


def _varying(commands: Any) -> None:
    vary = commands.add_parser(
        "vary",
        help="vary a picture on purpose",
        description="Keep the outline of a picture and paint other details, or the reverse.",
    )
    vary.add_argument("name", help="a bundled model, a local diffusers folder, or a hub id")
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
    vary.add_argument("--steps", type=whole, default=50, help="solver steps (default: %(default)s)")
    vary.add_argument("--solver", choices=list(SOLVERS), default="heun", help="default: %(default)s")
    vary.add_argument("--prompt", default=None, help="a text, or the name or index of a class")
    vary.add_argument("--guidance", type=number, default=1.0, help="classifier-free guidance (default: %(default)s)")
    vary.add_argument("--moments", default=None, metavar="FILE", help="its data's, made by painters moments")
    vary.add_argument("--batch", type=whole, default=8, help="variations painted at once (default: %(default)s)")
    vary.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    vary.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    vary.add_argument("--out", default="variations", help="folder for the images (default: %(default)s)")
    vary.set_defaults(command=_vary, kept=True)


def _benching(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="compare few-step samplers, ours and those of diffusers",
        description="Measure how far samplers end from the converged solution, by network calls; resumable.",
    )
    bench.add_argument("--model", default=None, help="e.g. fashion-ddpm, scenes-sd, scenes-sd-w3, gaussian or mixture")
    calls = "5,6,8,10,12,16,20,30"
    bench.add_argument("--nfe", type=_wholes, default=calls, help="network calls (default: %(default)s)")
    bench.add_argument("--seeds", default="0-63", help="such as 0-15 or 3,7,20-29 (default: %(default)s)")
    bench.add_argument("--json", default=None, metavar="FILE", help="for the results (default: NAME-bench.json)")
    bench.add_argument("--only", default=None, metavar="WORDS", help="samplers whose name has one, e.g. DDIM,UniPC")
    bench.add_argument("--frechet", type=whole, default=None, metavar="N", help="distances too, of N images")
    bench.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    bench.add_argument("--table", nargs="+", default=None, metavar="FILE", help="print results instead")
    bench.set_defaults(command=_bench, kept=True)


if __name__ == "__main__":
    sys.exit(main())
