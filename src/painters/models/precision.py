"""Where a model runs and in what numbers: device and dtype, chosen once, by what the device can do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

Precision = Callable[[int], torch.dtype]
"""The dtype that a network of so many parameters will run in."""

LARGE = 100_000_000
"""Parameters from which ``dtype="auto"`` uses half precision on a GPU."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(device: str | torch.device) -> torch.device:
    """Return the device of this name; ``"auto"`` takes CUDA, else MPS, else the CPU.

    Of several CUDA devices a process with a LOCAL_RANK takes its own, unless one is named by its number.
    Raises ``ValueError`` for a name that torch does not know, or a device that is not there.
    """
    if device in ("auto", "cuda") and (local := os.environ.get("LOCAL_RANK")) and (n := torch.cuda.device_count()) > 1:
        return torch.device("cuda", int(local) % n)
    present = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if device == "auto":
        return torch.device(present[0])
    try:
        # torch knows many names that this machine lacks, and says so only when memory is asked for
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        names = ", ".join(["auto", *present])
        raise ValueError(f"there is no device {str(device)!r} here: give one of {names}") from error
    return torch.device(device)


def choose_dtype(dtype: str | torch.dtype, device: torch.device, parameters: int) -> torch.dtype:
    """Return the dtype a network of so many parameters runs in.

    ``"auto"`` is float32, but for a large network on a GPU bfloat16 from compute capability 8.0 and float16 below it
    (where bfloat16 is only emulated). Raises ``ValueError`` for an unknown name.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype in DTYPES:
        return DTYPES[dtype]
    if dtype != "auto":
        raise ValueError(f"dtype is auto, {', '.join(DTYPES)} or a torch.dtype, got {dtype!r}")
    if device.type != "cuda" or parameters < LARGE:
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def move(module: torch.nn.Module, device: torch.device, dtype: torch.dtype, *, channels_last: bool = False) -> None:
    """Bring a module's weights to a dtype and a device, in this order, so that the device never holds the larger ones.

    It is torch's own method that is called: that of diffusers warns about every cast.
    """
    layout: Any = {"memory_format": torch.channels_last} if channels_last else {}
    torch.nn.Module.to(module, dtype)
    torch.nn.Module.to(module, device, **layout)
