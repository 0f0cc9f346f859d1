"""Trajectories out of pipelines of diffusers, and the Gaussian of what it paints for a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from painters.files import claim
from painters.levels import Levels
from painters.models.model import fingerprint
from painters.models.moments import FIRST, each, gaussian_of
from painters.sampling import Step
from painters.sampling.noise import streams
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames, Trajectory, numbered

OURS = ("num_inference_steps", "num_images_per_prompt", "generator", "latents")
"""What of a pipeline's call is said by the steps, seeds and start of :func:`record`."""


def record(
    pipe: Any,
    prompt: Any = None,
    *,
    solver: str = "ddim",
    steps: int = 50,
    seeds: Iterable[int] = (0,),
    save: Frames = Frames(),  # noqa: B008 (frozen)
    kick: tuple[int, Tensor, float] | None = None,
    start: tuple[int, Tensor] | None = None,
    moments: Gaussian | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Trajectory, Any]:
    """Run a pipeline's own call with a solver of ours; return its trajectory, and what the call returned.

    The trajectory holds x and x0_hat as the pipeline's scheduler sees them: after guidance, in the coordinates of the
    network, in the pipeline's own shape (Flux packs its latents). The second value has the ``.images``;
    ``options={"output_type": "latent"}`` spares decoding them. The pipeline's own scheduler is put back in any case.

    ``prompt``: what the pipeline takes first, one for all seeds or a list with one each: a text, a class of DiT, or
    nothing where ``options`` hold embeddings. ``seeds``: one image each. The pipeline draws from a generator a seed, so
    that it starts from ``painters.noise(seeds, ...)``, which it may pack (in half precision if the numbers of a state
    are a multiple of 16; from an image, from what comes after the VAE's draw). ``options``: all other arguments of the
    call, such as ``guidance_scale``, ``height``, ``image`` and ``strength``. ``kick``: (i, direction, size) adds size
    times direction, (...) or (B, ...), to the state at level i. ``start``: (i, x) goes on from states (B, ...) at level
    i, such as teleported ones. ``solver``, ``moments``: as in :class:`~painters.models.scheduler.PaintersScheduler`.
    ``nfe`` counts evaluations of the network for one sample, two under guidance.

    Raises ``ValueError`` for what is no pipeline, options that are said otherwise here, and a kick or a start that the
    pipeline has no place for.
    """
    from painters.models.scheduler import PaintersScheduler  # needs diffusers, which importing painters does not

    if not hasattr(pipe, "scheduler"):
        raise ValueError(f"a {type(pipe).__name__} is no pipeline of diffusers: follow it with painters.solve")
    names, (first, begun), begins = numbered(seeds), start or (0, None), hasattr(pipe, "prepare_latents")
    if begun is not None and not begins:
        raise ValueError(f"a {type(pipe).__name__} takes no state to start from: leave out start=")
    scheduler = PaintersScheduler.like(pipe.scheduler, solver=solver, moments=moments, start=first)
    scheduler.seeds, n = names, len(names)
    end, states, estimates = (0, torch.empty(0)), {}, []

    def kicked(level: int, x: Tensor) -> Tensor:
        if kick is None or first + level != kick[0]:
            return x
        push = (kick[1] * kick[2]).to(x).expand(n, *x.shape[1:])
        return x + torch.cat([push] * (len(x) // n))  # DiT holds every state twice under guidance

    def begin(x: Tensor) -> Tensor:
        return kicked(scheduler.listed[scheduler.begin or 0], x if begun is None else begun.to(x).expand_as(x))

    def watch(i: int, x: Tensor, step: Step) -> Tensor:
        nonlocal end
        since = next(iter(states), i)
        if i - since in save.kept(scheduler.levels.steps - since):
            states[i] = save.store(x[:n])
            estimates.append(save.store(step.x0[:n]))
        end = i + 1, kicked(i + 1, step.x)
        return end[1]

    scheduler.watch, call = watch, _call(pipe, prompt, n, options or {})
    with _installed(pipe, scheduler, begin) as calls:
        made = pipe(**call, num_inference_steps=steps, generator=streams(names))
    kept, every, name = [*states, end[0]], scheduler.levels, type(pipe).__name__
    if not states or (kick is not None and kick[0] - first not in range(kept[0] + (not begins), kept[-1] + 1)):
        reached = f"level {first + kept[0] + (not begins)} to {first + kept[-1]}"
        raise ValueError(f"in this run a {name} passes on states from {reached}, and can be kicked at these")
    levels = Levels(every.alpha[kept], every.sigma[kept], every.origin)
    meta = {"solver": solver, "steps": first + every.steps, "kept": [first + i for i in kept], "pipeline": name}
    meta |= {"prompt": prompt, "kick": kick and [kick[0], kick[2]], "projected": save.fn is not None}
    meta |= {key: value for key, value in call.items() if isinstance(value, (str, int, float))}
    x, x0 = torch.stack([*states.values(), save.store(end[1][:n])]), torch.stack(estimates)
    return Trajectory(levels, x, x0, nfe=sum(calls) // n, seeds=names, meta=meta), made


@contextmanager
def _installed(pipe: Any, scheduler: Any, begin: Callable[[Tensor], Tensor]) -> Iterator[list[int]]:
    """Put a scheduler and a change of its first state into a pipeline; yield the batch sizes of its network's calls."""
    calls: list[int] = []

    def prepare(*args: Any, **named: Any) -> Any:
        made = type(pipe).prepare_latents(pipe, *args, **named)
        return (begin(made[0]), *made[1:]) if isinstance(made, tuple) else begin(made)

    with ExitStack() as after:
        after.callback(setattr, pipe, "scheduler", pipe.scheduler)
        pipe.scheduler = scheduler
        if hasattr(pipe, "prepare_latents"):
            after.callback(delattr, pipe, "prepare_latents")
            pipe.prepare_latents = prepare
        for part in (part for name, part in pipe.components.items() if name.startswith(("unet", "transformer"))):
            after.callback(part.register_forward_hook(lambda module, args, out: calls.append(len(out[0]))).remove)
        yield calls


def moments_of(
    pipe: Any,
    prompts: Any,
    n: int,
    *,
    folder: str | Path | None = None,
    steps: int = 50,
    solver: str = "dpmpp2m",
    batch: int = 8,
    rank: int = 512,
    options: Mapping[str, Any] | None = None,
) -> dict[Any, Gaussian]:
    """Return for each prompt the Gaussian of the states that a pipeline ends at, from ``n`` seeds of their own.

    Give it to :func:`record` as ``moments``. States are those of its trajectories, D numbers each, and are made as it
    makes them, of the same ``options``; see :func:`painters.models.moments.gaussian_of` for ``rank``. ``prompts``:
    several, or one text, class or ``None``. ``folder``: keeps the states, a batch as soon as it is made, so that the
    same call goes on where it was cut off, or takes more.
    Raises ``ValueError`` if the folder holds those of other weights or settings.
    """
    found, options = {}, {"output_type": "latent"} | dict(options or {})
    made_of = {key: fingerprint([v]) if isinstance(v, Tensor) else v for key, v in options.items()}
    made_of |= {"solver": solver, "steps": steps, "scheduler": str(pipe.scheduler)}
    if folder is not None:
        parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
        made_of["weights"] = fingerprint(value for part in parts for value in part.state_dict().values())
    for prompt in [prompts] if isinstance(prompts, str) or not isinstance(prompts, Iterable) else prompts:

        def make(seeds: Sequence[int], prompt: Any = prompt) -> tuple[Sequence[int], Tensor]:
            run, _ = record(pipe, prompt, solver=solver, steps=steps, seeds=seeds, save=Frames(None), options=options)
            return seeds, run.final.cpu()

        keep = None if folder is None else Path(folder, sha256(str(prompt).encode()).hexdigest()[:12])
        if keep is not None:
            claim(keep, made_of | {"prompt": prompt})
        found[prompt] = gaussian_of(each(make, range(FIRST, FIRST + n), batch, keep), rank=rank)[0]
    return found


def _call(pipe: Any, prompt: Any, n: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a pipeline's call that make ``n`` images, prompts and embeddings being repeated for each."""
    if wrong := [key for key in options if key in OURS]:
        raise ValueError(f"{wrong[0]} is no option of a recorded call: steps=, seeds= and start= of record say it")
    first = next(iter(inspect.signature(pipe.__call__).parameters))
    found = {**options, first: n if first == "batch_size" else prompt}
    for key, value in found.items():
        said = "prompt" in key or key == first != "batch_size"
        value = [value] if said and isinstance(value, (str, Integral)) else value
        if (isinstance(value, Tensor) and "prompt" in key) or (isinstance(value, (list, tuple)) and said):
            times, left = divmod(n, len(value) or n + 1)
            if left:
                raise ValueError(f"{key} has {len(value)} rows for {n} seeds: give one for all, or one for each")
            rows = [i // times for i in range(n)]
            found[key] = value[rows] if isinstance(value, Tensor) else [value[i] for i in rows]
    return found
