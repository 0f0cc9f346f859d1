"""What a pipeline of diffusers costs when it is watched, in half precision and compiled, as ratios within one run.

    python benchmarks/pipelines.py [--device auto] [--size 256] [--width 128] [--batch 8] [--steps 10]

The network has random weights and the layout of google/ddpm-celebahq-256 (`--size 32`: of google/ddpm-cifar10-32).
Every line is a ratio to the bare loop of diffusers in float32, its pipeline's default: the network, then the
scheduler's step.
"""

import argparse
import copy
from collections.abc import Callable

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddim.pipeline_ddim import DDIMPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from sampling import ratios

import painters
from painters.models.precision import choose_device

Paint = Callable[[], object]


def network(size: int, width: int) -> UNet2DModel:
    """Return a UNet with random weights, in the layout of the pretrained one of that size."""
    multiples, attention = ((1, 1, 2, 2, 4, 4), 4) if size > 64 else ((1, 2, 2, 2), 1)
    down = ["AttnDownBlock2D" if i == attention else "DownBlock2D" for i in range(len(multiples))]
    up = ["AttnUpBlock2D" if i == attention else "UpBlock2D" for i in reversed(range(len(multiples)))]
    return UNet2DModel(
        sample_size=size,
        block_out_channels=tuple(width * m for m in multiples),
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        layers_per_block=2,
        norm_num_groups=min(32, width),
    ).eval()


def bare(pipe: DDIMPipeline, x: torch.Tensor, steps: int) -> Paint:
    """Return the loop that everybody writes: the network, then the scheduler's step."""

    @torch.no_grad()
    def paint() -> torch.Tensor:
        state = x.to(pipe.unet.dtype)
        pipe.scheduler.set_timesteps(steps)
        for t in pipe.scheduler.timesteps:
            state = pipe.scheduler.step(pipe.unet(state, t).sample, t, state).prev_sample
        return state

    return paint


def variants(pipe: DDIMPipeline, batch: int, steps: int) -> dict[str, Paint]:
    """Return the runs to compare; the first is the reference."""
    model, everything, ends = painters.load(pipe), painters.Frames(), painters.Frames(every=None)
    levels = model.levels(steps)
    x = levels.start(painters.noise(range(batch), model.shape)).to(model.device)

    def solve(network: torch.nn.Module, save: painters.Frames = ends, dtype: torch.dtype = torch.float32) -> Paint:
        made = painters.load(network, schedule=model.schedule, prediction="epsilon", shape=model.shape)
        denoise = made.denoiser()
        return lambda: painters.solve(denoise, x.to(dtype), levels, solver="ddim", save=save, progress=False)

    def record(save: painters.Frames) -> Paint:
        options = {"output_type": "np"}
        return lambda: painters.record(pipe, steps=steps, seeds=range(batch), save=save, options=options)

    pipe.set_progress_bar_config(disable=True)
    runs = {
        "bare loop of diffusers": bare(pipe, x, steps),
        "its pipeline": lambda: pipe(batch_size=batch, num_inference_steps=steps, output_type="np"),
        "record, ends only": record(ends),
        "record, every state, to the CPU": record(everything),
        "solve, ends only": solve(pipe.unet),
        "solve, every state, to the CPU": solve(pipe.unet, everything),
    }
    if model.device.type == "cuda":
        half = copy.deepcopy(pipe.unet).to(torch.bfloat16)
        runs |= {
            "solve, bfloat16": solve(half, dtype=torch.bfloat16),
            "solve, compiled": solve(torch.compile(pipe.unet)),  # type: ignore[arg-type]
            "solve, compiled, bfloat16": solve(torch.compile(half), dtype=torch.bfloat16),  # type: ignore[arg-type]
        }
    return runs


def memory(pipe: DDIMPipeline, batch: int, steps: int) -> int:
    """Return the bytes that a run with ``Frames(every=None)`` takes at its peak, beyond what was there before."""
    model = painters.load(pipe)
    levels = model.levels(steps)
    x = levels.start(painters.noise(range(batch), model.shape)).to(model.device)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    painters.solve(model.denoiser(), x, levels, solver="ddim", save=painters.Frames(every=None), progress=False)
    return torch.cuda.max_memory_allocated() - before


def main() -> None:
    """Time every variant and print it relative to the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    device = choose_device(options.device)
    torch.manual_seed(0)
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    pipe = DDIMPipeline(network(options.size, options.width), scheduler).to(device)
    print(f"{options.size} pixels on {device.type}, batch {options.batch}, {options.steps} steps")
    for name, ratio in ratios(variants(pipe, options.batch, options.steps), device).items():
        print(f"{name:40s} {ratio:6.3f}")
    if device.type == "cuda":
        few, many = (memory(pipe, options.batch, steps) for steps in (options.steps, 4 * options.steps))
        print(f"{'peak memory, four times the steps':40s} {many / few:6.3f}")


if __name__ == "__main__":
    main()
