"""The command line of the core: ``painters sample`` and ``painters moments``; the workshop adds its own commands."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from painters.denoiser import PREDICTIONS
from painters.levels import Spacing
from painters.ranks import place, share
from painters.sampling import SOLVERS

Commands = Any
"""What ``argparse.ArgumentParser.add_subparsers`` returns."""
EXTRA = ("matplotlib", "scipy", "sklearn", "ipywidgets")
"""The modules of ``painters[book]``."""
DEALT = "Several processes, started by torchrun or accelerate launch, share the work."
OTHERS = "they are other processes', the last of which ends the work; if one was stopped, give the command again"


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the core's commands and return its exit status."""
    return run([add_commands], arguments)


def whole(text: str) -> int:
    """Return a whole number of at least 1, as the type of an option. One sentence for anything else."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"give a whole number of at least 1, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """Return a finite number, as the type of an option. One sentence for anything else."""
    try:
        if math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"give a number, got {text!r}")


def numbers(text: str) -> tuple[float, ...]:
    """Return finite numbers between commas, as the type of an option. One sentence for anything else."""
    return tuple(number(part) for part in text.split(","))


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
    from painters.painting import Request, paint

    seeds, out = parse_seeds(options.seeds), Path(options.out)
    asked = vars(options)
    model = load(options.name, **{key: asked[key] for key in ("device", "dtype", "prediction", "pickled")})
    request = Request(options.name, **{key: asked[key] for key in Request.__dataclass_fields__ if key in asked})
    levels = model.levels(options.steps, spacing=options.spacing)
    print(f"{options.name} on {model.device.type}: {len(seeds)} seeds, {levels}")
    paths = paint(model, request, seeds, out, batch=options.batch, progress=place()[0] == 0)
    if left := len(set(seeds)) - len(paths):
        print(f"{left} images are not in {out}/ yet: {OTHERS}")
    else:
        print(f"{len(paths)} images, {out / 'sheet.png'} and {out / 'trajectories'}/ are in {out}/")
    return 0


def _dealt(made: Any, numbers: Sequence[int], parts: Path, out: Path, facts: Mapping[str, Any]) -> str | None:
    """Make this process's share of the samples; why the moments are not for it to write, ``None`` if they are."""
    from painters.models import moments

    for _ in moments.counted(made(share(numbers)), len(share(numbers))):
        pass
    # The parts stay: a process that starts when another has ended the work must find them, or it would begin anew.
    if left := len(set(numbers) - moments.kept(parts).keys()):
        return f"{left} samples are not in {parts} yet: {OTHERS}"
    return f"{out} is written" if out.is_file() and facts.items() <= moments.facts_in(out).items() else None


def _moments(options: argparse.Namespace) -> int:
    """Write the mean and covariance of pictures, or of what a model paints."""
    import hashlib
    import shutil

    from painters.files import claim
    from painters.models import load, moments
    from painters.pictures import Skipped, listed, told

    if (options.source is None) == (options.samples is None):
        raise ValueError("give pictures, a folder or a hub data set, or a model with --samples NAME: one of them")
    name, out = options.samples or options.encode, Path(options.out)
    model = None if name is None else load(name, device=options.device, pickled=options.pickled)
    skipped: Skipped = {}
    parts, data = out.with_name(f"{out.name}.parts"), hashlib.sha256()
    several = place()[1] > 1
    made, asked = None, {}  # what makes numbered samples, which are kept as soon as they are there; and how many
    if options.samples is None or model is None:
        channels, _, size = (3, 32, 32) if model is None else model.image_shape
        form = {"size": options.size or size, "channels": options.channels or channels}
        facts = {"source": options.source, "circular": False, "encoded_by": name} | form
        if several:
            files, skipped = listed(options.source)
            stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
            facts |= {"files": hashlib.sha256(repr(stamps).encode()).hexdigest()[:12]}
            numbers, asked = range(len(files))[: options.n], {"first": options.n}
            made = partial(moments.read, files, skipped=skipped, model=model, keep=parts, **form)
        else:
            pictures = moments.pictures(options.source, n=options.n, skipped=skipped, **form)
            batches = moments.counted(pictures, options.n, digest=data)
            batches = batches if model is None else moments.encoded(model, batches)
    else:
        how = {key: getattr(options, key) for key in ("prompt", "guidance", "steps", "spacing")}
        numbers = range(moments.FIRST, moments.FIRST + (options.n or 2000))
        facts = {"source": f"own samples of {Path(options.samples).name}", "circular": True} | how
        facts, asked = facts | {"solver": "dpmpp2m"}, {"seeds": f"{numbers[0]}-{numbers[-1]}"}
        made = partial(moments.painted, model, **how, batch=options.batch, keep=parts)
    facts |= {"weights": None if model is None else model.weights}
    if made is not None:
        options.kept = True
        batches = moments.counted(made(numbers), len(numbers), digest=data)
        claim(parts, facts)
    facts |= asked | {"rank": options.rank}
    try:
        if several and (why := _dealt(made, numbers, parts, out, facts)):
            print(why)
            return 0
        gaussian, n = moments.gaussian_of(batches, rank=options.rank)
        if made is not None and facts["circular"] and n >= 8:
            halves = (moments.gaussian_of(made(numbers[i::2]), rank=options.rank)[0] for i in (0, 1))
            facts["halves"] = moments.agreement(*halves)
    finally:  # all the more if too few are left
        if skipped:
            print(told(skipped))
    moments.save_moments(gaussian, out, facts=facts | {"n": n, "data": data.hexdigest()[:12]})
    if options.kept and not several:
        shutil.rmtree(parts)
    own = ", the model's own samples: a theory made of them is circular" if facts["circular"] else ""
    held = float(gaussian.lam.sum() / gaussian.spectrum.sum())
    print(f"{n} samples{own}: D = {gaussian.dim}, {len(gaussian.lam)} PCs hold {held:.1%} of the variance")
    print(f"written to {out}{f'; the samples stay in {parts}' if several else ''}")
    return 0


def add_commands(commands: Commands) -> None:
    """Add ``sample`` and ``moments`` to a command line."""
    sample = commands.add_parser("sample", help="paint images with a model", description=f"Paint images. {DEALT}")
    sample.add_argument("name", help="a bundled model, a local diffusers folder, or a hub id")
    sample.add_argument("--seeds", default="0-15", help="such as 0-15 or 3,7,20-29 (default: %(default)s)")
    sample.add_argument("--steps", type=whole, default=50, help="solver steps (default: %(default)s)")
    sample.add_argument("--solver", choices=list(SOLVERS), default="heun", help="default: %(default)s")
    sample.add_argument("--spacing", choices=get_args(Spacing), default=None, help="of the noise levels")
    sample.add_argument("--prompt", default=None, help="a text, or the name or index of a class")
    sample.add_argument("--negative", default=None, help="a text to guide away from, under guidance")
    sample.add_argument("--guidance", type=number, default=1.0, help="classifier-free guidance (default: %(default)s)")
    sample.add_argument("--every", type=whole, default=1, help="keep every so many frames (default: all)")
    sample.add_argument("--batch", type=whole, default=16, help="seeds painted at once (default: %(default)s)")
    sample.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    sample.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    sample.add_argument("--prediction", choices=PREDICTIONS, default=None, help="of a network that does not say it")
    sample.add_argument("--pickled", action="store_true", help="allow .bin weights, read by torch's restricted loader")
    sample.add_argument("--out", default="out", help="folder for the images (default: %(default)s)")
    sample.set_defaults(command=_sample, kept=True)

    moments = commands.add_parser(
        "moments",
        help="mean and covariance of data, which the theory needs",
        description=f"Write mean and covariance of pictures, or of what a model paints (circular). {DEALT}",
    )
    moments.add_argument("source", nargs="?", default=None, help="a folder of pictures, or a data set of the hub")
    moments.add_argument("--out", required=True, help="file for the moments, e.g. cifar10.safetensors")
    moments.add_argument("--size", type=whole, default=None, help="pixels a side (default: 32, or those of --encode)")
    moments.add_argument("--channels", type=int, choices=[1, 3], default=None, help="default: 3, or those of --encode")
    moments.add_argument("--encode", default=None, metavar="NAME", help="a latent model, whose latents are taken")
    moments.add_argument("--samples", default=None, metavar="NAME", help="a model, whose own samples are taken")
    moments.add_argument("--prompt", default=None, help="for --samples: a text, or a class")
    moments.add_argument("--guidance", type=number, default=1.0, help="for --samples (default: %(default)s)")
    moments.add_argument("--steps", type=whole, default=50, help="for --samples: solver steps (default: %(default)s)")
    moments.add_argument(
        "--spacing", choices=get_args(Spacing), default=None, help="for --samples: of the noise levels"
    )
    moments.add_argument("--n", type=whole, default=None, help="samples (default: all pictures, or 2000 of --samples)")
    moments.add_argument("--rank", type=whole, default=512, help="PCs that are kept (default: %(default)s)")
    moments.add_argument("--batch", type=whole, default=16, help="for --samples: seeds at once (default: %(default)s)")
    moments.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    moments.add_argument("--pickled", action="store_true", help="allow .bin weights of the model")
    moments.set_defaults(command=_moments)


if __name__ == "__main__":
    sys.exit(main())
