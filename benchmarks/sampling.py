"""Sampling speed as ratios within one run: batch, guidance, frame capture, dtype, compilation.

    python benchmarks/sampling.py [--device auto] [--model fashion-ddpm] [--batch 64] [--steps 10]

Absolute times depend on the machine and are not printed as results; every line is a ratio to the first.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

import painters
from painters.denoiser import Denoiser
from painters.models import Model


def ratios(runs: Mapping[str, Callable[[], object]], device: torch.device, rounds: int = 7) -> dict[str, float]:
    """Return the median time of each run over that of the first, both of the same round.

    Runs take turns: a clock that rises, or a neighbour on the machine, then touches all of a round. One round before
    these warms up.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if i:
                times[name].append(time.perf_counter() - start)
    first = next(iter(times.values()))
    return {name: statistics.median(t / t0 for t, t0 in zip(own, first)) for name, own in times.items()}


def variants(model: Model, batch: int, steps: int) -> dict[str, Callable[[], object]]:
    """Return the runs to compare; the first is the reference."""
    levels = model.levels(steps)
    x = levels.start(painters.noise(range(batch), model.shape)).to(model.device)

    def paint(denoise: Denoiser, **options: object) -> Callable[[], object]:
        chosen = {"solver": "ddim", "save": painters.Frames(every=None), "progress": False} | options
        return lambda: painters.solve(denoise, x, levels, **chosen)  # type: ignore[arg-type]

    plain = model.denoiser()
    runs = {
        "ddim, ends only": paint(plain),
        "every frame, to the CPU": paint(plain, save=painters.Frames()),
        "every frame, kept on the device": paint(plain, save=painters.Frames(device=model.device)),
        "every frame, float16": paint(plain, save=painters.Frames(dtype=torch.float16)),
        "dpmpp2m": paint(plain, solver="dpmpp2m"),
        "heun (2N - 1 calls)": paint(plain, solver="heun"),
        "ancestral (noise from CPU generators)": paint(plain, solver="ancestral"),
    }
    if model.classes:
        runs["guidance 3, one batch of 2B"] = paint(model.denoiser(0, guidance=3.0))
    if model.moments is not None:
        g = model.moments
        runs["exact Gaussian, all states by formula"] = lambda: g.trajectory(x.cpu(), levels)
    if model.device.type == "cuda":
        runs["compiled"] = paint(replace(plain, network=torch.compile(plain.network)))
        for dtype in (torch.bfloat16, torch.float16):
            half = painters.load(model.card["name"], device="cuda", dtype=dtype)
            runs[str(dtype).removeprefix("torch.")] = paint(half.denoiser())
    return runs


def main() -> None:
    """Time every variant and print it relative to the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="fashion-ddpm")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    model = painters.load(options.model, device=options.device)
    print(f"{options.model} on {model.device.type}, batch {options.batch}, {options.steps} steps")
    for name, ratio in ratios(variants(model, options.batch, options.steps), model.device).items():
        print(f"{name:40s} {ratio:6.2f}")


if __name__ == "__main__":
    main()
