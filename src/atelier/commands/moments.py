"""``painters moments``: the Gaussian of pictures, or of what a model paints."""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.commands.options import DEALT, OTHERS, Commands, file, offer, whole
from atelier.data.images import streamed, to_unit
from atelier.pictures import Skipped, listed, read_each, told
from atelier.ranks import place, share
from painters.files import claim
from painters.models import Model, load
from painters.models.moments import FIRST, each, facts_in, gaussian_of, kept, painted, save_moments


@dataclass(frozen=True)
class Samples:
    """What moments are taken of.

    ``make``: turns numbers of samples into batches of their states (b, ...); ``numbers`` are all of them, and none of a
    stream, which is read once. ``facts``: what makes each sample, ``asked``: how many there are. ``keep``: the folder
    in which they stay as soon as they are made, ``None`` if they do not. ``skipped`` fills while pictures are read.
    """

    make: Callable[[Sequence[int]], Iterable[Tensor]]
    facts: dict[str, Any]
    asked: dict[str, Any] = field(default_factory=dict)
    numbers: Sequence[int] = ()
    keep: Path | None = None
    skipped: Skipped = field(default_factory=dict)


def of_model(options: argparse.Namespace, keep: Path) -> Samples:
    """Return what a model paints from seeds kept for this: a theory made of it is circular."""
    model = load(options.samples, device=options.device, pickled=options.pickled)
    how = {key: getattr(options, key) for key in ("prompt", "guidance", "steps", "spacing")} | {"solver": "dpmpp2m"}
    numbers = range(FIRST, FIRST + (options.n or 2000))
    make = partial(painted, model, **how, batch=options.batch, keep=keep)
    facts = {"source": f"own samples of {Path(options.samples).name}", "circular": True, "weights": model.weights}
    return Samples(make, facts | how, {"seeds": f"{numbers[0]}-{numbers[-1]}"}, numbers, keep)


def of_pictures(options: argparse.Namespace, parts: Path) -> Samples:
    """Return the pictures of a folder or of a data set of the hub, or their latents in a model.

    A process alone would read what it kept no faster than the pictures. Of several each keeps its share, of which the
    last makes the moments.
    """
    keep, name = parts if place()[1] > 1 else None, options.encode
    model = None if name is None else load(name, device=options.device, pickled=options.pickled)
    channels, _, size = (3, 32, 32) if model is None else model.image_shape
    form = {"size": options.size or size, "channels": options.channels or channels}
    facts = {"source": options.source, "circular": False, "encoded_by": name} | form
    facts |= {"weights": None if model is None else model.weights}
    if keep is None and not Path(options.source).is_dir():
        stream = streamed(options.source, n=options.n, **form)
        return Samples(lambda _: (_states(model, part) for part in stream), facts)
    files, skipped = listed(options.source)
    if not files:
        raise FileNotFoundError(f"{options.source} holds no picture{told(skipped, '; ')}")
    if keep is not None:  # what is kept of a folder is of no use once that has changed
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        facts |= {"files": hashlib.sha256(repr(stamps).encode()).hexdigest()[:12]}

    def read(part: Sequence[int]) -> tuple[Sequence[int], Tensor]:
        seen = {i: pixels for i in part for _, pixels in read_each([files[i]], skipped, **form)}
        states = _states(model, to_unit(torch.from_numpy(np.array([*seen.values()])))) if seen else torch.empty(0)
        return [*seen, *(i for i in part if i not in seen)], states

    def make(numbers: Sequence[int]) -> Iterable[Tensor]:
        return filter(len, each(read, numbers, 250, keep))  # of some batch none may be readable

    asked = {} if keep is None else {"first": options.n}
    return Samples(make, facts, asked, range(len(files))[: options.n], keep, skipped)


def _states(model: Model | None, pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] as states of a model, which for a latent model are latents."""
    return pictures if model is None else model.encode(pictures / 2 + 0.5).cpu()


def counted(parts: Iterable[Tensor], total: int | None, *, digest: Any = None) -> Iterator[Tensor]:
    """Yield batches unchanged under a progress bar that counts samples, ``total`` of them if that is known.

    ``digest``: a hash of :mod:`hashlib` to which they are added, which is the same for any partition into batches.
    """
    with tqdm(total=total, unit="samples", disable=place()[0] > 0) as bar:
        for part in parts:
            if digest is not None:
                digest.update(part.contiguous().numpy().data)
            yield part
            bar.update(len(part))


def _dealt(samples: Samples, keep: Path, out: Path, facts: Mapping[str, Any]) -> str | None:
    """Make this process's share of the samples; why the moments are not for it to write, ``None`` if they are."""
    mine = share(samples.numbers)
    for _ in counted(samples.make(mine), len(mine)):
        pass
    # The parts stay: a process that starts when another has ended the work must find them, or it would begin anew.
    if left := len(set(samples.numbers) - kept(keep).keys()):
        return f"{left} samples are not in {keep} yet: {OTHERS}"
    return f"{out} is written" if out.is_file() and facts.items() <= facts_in(out).items() else None


def command(options: argparse.Namespace) -> int:
    """Do what ``painters moments`` says, and report it."""
    if (options.source is None) == (options.samples is None):
        raise ValueError("give pictures, a folder or a hub data set, or a model with --samples NAME: one of them")
    if options.n is not None and options.n < 4:  # before any is painted
        raise ValueError(f"moments need at least 4 samples, got {options.n}")
    out, several, digest = Path(options.out), place()[1] > 1, hashlib.sha256()
    parts = out.with_name(f"{out.name}.parts")
    samples = of_pictures(options, parts) if options.samples is None else of_model(options, parts)
    # Begun before the folder is claimed, as a wrong prompt must leave nothing behind.
    batches = counted(samples.make(samples.numbers), len(samples.numbers) or options.n, digest=digest)
    if samples.keep is not None:
        options.kept = True
        claim(parts, samples.facts)
    facts = samples.facts | samples.asked | {"rank": options.rank}
    try:
        if several and (why := _dealt(samples, parts, out, facts)):
            print(why)
            return 0
        gaussian, n = gaussian_of(batches, rank=options.rank)
    finally:  # all the more if too few are left
        if samples.skipped:
            print(told(samples.skipped))
    save_moments(gaussian, out, facts=facts | {"n": n, "data": digest.hexdigest()[:12]})
    if samples.keep is not None and not several:
        shutil.rmtree(parts)
    own = ", the model's own samples: a theory made of them is circular" if facts["circular"] else ""
    held = float(gaussian.lam.sum() / gaussian.spectrum.sum())
    print(f"{n} samples{own}: D = {gaussian.dim}, {len(gaussian.lam)} PCs hold {held:.1%} of the variance")
    print(f"written to {out}{f'; the samples stay in {parts}' if several else ''}")
    return 0


def add(commands: Commands) -> None:
    """Add ``moments`` to a command line."""
    moments = commands.add_parser(
        "moments",
        help="mean and covariance of data, which the theory needs",
        description=f"Write mean and covariance of pictures, or of what a model paints (circular). {DEALT}",
    )
    moments.add_argument("source", nargs="?", default=None, help="a folder of pictures, or a data set of the hub")
    moments.add_argument("--samples", default=None, metavar="NAME", help="a model, whose own samples are taken")
    moments.add_argument("--out", required=True, type=file, help="file for the moments, e.g. cifar10.safetensors")
    moments.add_argument("--n", type=whole, default=None, help="samples (default: all pictures, or 2000 of --samples)")
    moments.add_argument("--rank", type=whole, default=512, help="PCs that are kept (default: %(default)s)")
    offer(moments, "--device", "--pickled")
    read = moments.add_argument_group("of pictures")
    read.add_argument("--size", type=whole, default=None, help="pixels a side (default: 32, or those of --encode)")
    read.add_argument("--channels", type=int, choices=[1, 3], default=None, help="default: 3, or those of --encode")
    read.add_argument("--encode", default=None, metavar="NAME", help="a latent model, whose latents are taken")
    offer(moments.add_argument_group("of --samples"), "--prompt", "--guidance", "--steps", "--spacing", "--batch")
    moments.set_defaults(command=command)
