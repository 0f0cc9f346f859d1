"""What made a number: weights, code, versions and hardware."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from painters.models.model import Model


def provenance(model: Model) -> dict[str, Any]:
    """Return what made the numbers of a model: weights, code, versions and hardware."""
    import diffusers

    import painters

    return {
        "weights": model.weights,
        "painters": painters.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "hardware": hardware(str(model.device)),
    }


def hardware(device: str) -> str:
    """Return one line about the machine."""
    if device.startswith("cuda"):
        return f"1 x {torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def commit() -> str | None:
    """Return the commit of both packages' code, noting changes made since; ``None`` outside a checkout."""
    here = str(Path(__file__).parents[1])
    asked = (["log", "-1", "--format=%h", "--", "."], ["status", "--porcelain", "--", "*.py"])
    try:
        found, changes = (
            subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True, timeout=20).stdout
            for words in asked
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{found.strip()}{', modified' if changes.strip() else ''}" if found.strip() else None
