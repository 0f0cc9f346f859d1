"""The command line of the core: ``painters sample`` and ``painters moments``; the workshop adds its own commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from painters.levels import Spacing
from painters.sampling import SOLVERS

Commands = Any
"""What ``argparse.ArgumentParser.add_subparsers`` returns."""


def run(parts: Sequence[Callable[[Commands], None]], arguments: Sequence[str] | None = None) -> int:
    """Run one command of those that ``parts`` add, and return its exit status.

    0 done, 1 a mistake said in one sentence, 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog="painters", description="How diffusion models paint, and why.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in parts:
        add(commands)
    options = parser.parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("painters: interrupted; what was finished is kept, the same command continues", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"painters: {error}", file=sys.stderr)
        return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the core's commands and return its exit status."""
    return run([add_commands], arguments)


def parse_seeds(text: str) -> list[int]:
    """Return the seeds in a text such as ``0-15`` or ``3,7,20-29``. Raises ``ValueError`` for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"seeds are numbers and ranges such as 0-15 or 3,7,20-29, got {text!r}")
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds:
        raise ValueError(f"there are no seeds in {text!r}")
    return seeds


def _sample(options: argparse.Namespace) -> int:
    from painters.models import load
    from painters.painting import Settings, paint
    from painters.trajectory import Frames

    seeds = parse_seeds(options.seeds)
    out = Path(options.out)
    model = load(options.name, device=options.device, dtype=options.dtype)
    settings = Settings(
        model=options.name,
        steps=options.steps,
        solver=options.solver,
        spacing=options.spacing,
        prompt=options.prompt,
        guidance=options.guidance,
        negative=options.negative,
        dtype=options.dtype,
    )
    levels = model.levels(options.steps, spacing=options.spacing)
    print(f"{options.name} on {model.device.type}: {len(seeds)} seeds, {levels}")
    paths = paint(model, settings, seeds, out, batch=options.batch, frames=Frames(every=options.every))
    print(f"{len(paths)} images, {out / 'sheet.png'} and {out / 'trajectories'}/ are in {out}/")
    return 0


def _moments(options: argparse.Namespace) -> int:
    """Write the mean and covariance of pictures, or of what a model paints."""
    from painters.models import load
    from painters.models import moments as sources

    if (options.source is None) == (options.samples is None):
        raise ValueError(
            "give pictures, a folder or a data set of the hub, or a model with --samples NAME: one of them"
        )
    name = options.samples or options.encode
    model = None if name is None else load(name, device=options.device)
    facts: dict[str, object] = {"source": options.source or f"{Path(options.samples).name} itself"}
    if options.samples is not None:
        assert model is not None
        n = options.n or 2000
        batches = sources.painted(
            model, n, prompt=options.prompt, guidance=options.guidance, steps=options.steps, batch=options.batch
        )
        facts |= {"circular": True, "prompt": options.prompt, "guidance": options.guidance, "steps": options.steps}
    else:
        size = options.size or (32 if model is None else model.image_shape[-1])
        batches = sources.pictures(options.source, size=size, channels=options.channels, n=options.n)
        if model is not None:
            batches = sources.encoded(model, batches)
        facts |= {"circular": False, "size": size, "encoded_by": options.encode}
    gaussian, n = sources.gaussian_of(sources.counted(batches, options.n), rank=options.rank)
    facts["n"] = n
    sources.save_moments(gaussian, options.out, facts=facts)
    told = ", the model's own samples: a theory made of them is circular" if facts["circular"] else ""
    print(f"{n} samples{told}: D = {gaussian.dim}, {len(gaussian.lam)} PCs hold ", end="")
    print(f"{float(gaussian.lam.sum() / gaussian.spectrum.sum()):.1%} of the variance; written to {options.out}")
    return 0


def add_commands(commands: Commands) -> None:
    """Add ``sample`` and ``moments`` to a command line."""
    sample = commands.add_parser("sample", help="paint images with a model", description="Paint images with a model.")
    sample.add_argument("name", help="a bundled model, a local diffusers folder, or a hub id")
    sample.add_argument("--seeds", default="0-15", help="such as 0-15 or 3,7,20-29 (default: %(default)s)")
    sample.add_argument("--steps", type=int, default=50, help="solver steps (default: %(default)s)")
    sample.add_argument("--solver", choices=list(SOLVERS), default="heun", help="default: %(default)s")
    sample.add_argument("--spacing", choices=get_args(Spacing), default=None, help="default: trailing")
    sample.add_argument("--prompt", default=None, help="a text, or the name or index of a class")
    sample.add_argument("--negative", default=None, help="a text to guide away from, for a text-to-image model")
    sample.add_argument("--guidance", type=float, default=1.0, help="classifier-free guidance (default: %(default)s)")
    sample.add_argument("--every", type=int, default=1, help="keep every so many frames (default: all)")
    sample.add_argument("--batch", type=int, default=16, help="seeds painted at once (default: %(default)s)")
    sample.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    sample.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    sample.add_argument("--out", default="out", help="folder for the images (default: %(default)s)")
    sample.set_defaults(command=_sample)

    moments = commands.add_parser(
        "moments",
        help="mean and covariance of data, which the theory needs",
        description="Write mean and covariance of pictures, or of what a model paints (then the theory is circular).",
    )
    moments.add_argument("source", nargs="?", default=None, help="a folder of pictures, or a data set of the hub")
    moments.add_argument("--out", required=True, help="file for the moments, e.g. cifar10.safetensors")
    moments.add_argument("--size", type=int, default=None, help="pixels a side (default: 32, or those of --encode)")
    moments.add_argument("--channels", type=int, choices=[1, 3], default=3, help="default: %(default)s")
    moments.add_argument("--encode", default=None, metavar="NAME", help="a latent model, whose latents are taken")
    moments.add_argument("--samples", default=None, metavar="NAME", help="a model, whose own samples are taken")
    moments.add_argument("--prompt", default=None, help="for --samples: a text, or a class")
    moments.add_argument("--guidance", type=float, default=1.0, help="for --samples (default: %(default)s)")
    moments.add_argument("--steps", type=int, default=50, help="for --samples: solver steps (default: %(default)s)")
    moments.add_argument("--n", type=int, default=None, help="samples (default: all pictures, or 2000 of --samples)")
    moments.add_argument("--rank", type=int, default=512, help="PCs that are kept (default: %(default)s)")
    moments.add_argument("--batch", type=int, default=16, help="for --samples: seeds at once (default: %(default)s)")
    moments.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    moments.set_defaults(command=_moments)


if __name__ == "__main__":
    sys.exit(main())
