"""Painting many seeds into a folder, so that an interruption loses no finished image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from painters.files import replacing
from painters.levels import Spacing
from painters.models import Model
from painters.pictures import save, sheet, to_pil
from painters.sampling import noise, solve
from painters.trajectory import Frames, Trajectory


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a seed's image looks like; kept as ``run.json`` beside the images."""

    model: str
    steps: int = 50
    solver: str = "heun"
    spacing: Spacing | None = None
    prompt: str | None = None
    guidance: float = 1.0
    negative: str | None = None
    dtype: str = "auto"


def paint(
    model: Model,
    settings: Settings,
    seeds: Sequence[int],
    out: str | Path,
    *,
    batch: int = 16,
    frames: Frames = Frames(),  # noqa: B008 (frozen)
    progress: bool = True,
) -> list[Path]:
    """Paint ``seeds`` into ``out`` and return the image paths: one PNG and one trajectory a seed, and a contact sheet.

    Seeds that are finished there are left alone, so the same call continues an interrupted run. Raises ``ValueError``
    if the folder holds images made with other settings.
    """
    out = Path(out)
    claim(out, settings)
    paths = {seed: out / f"seed-{seed:05d}.png" for seed in dict.fromkeys(seeds)}
    missing = [seed for seed, path in paths.items() if not path.is_file()]
    denoise = model.denoiser(settings.prompt, guidance=settings.guidance, negative=settings.negative)
    levels = model.levels(settings.steps, spacing=settings.spacing)
    for first in range(0, len(missing), batch):
        part = missing[first : first + batch]
        x = levels.start(noise(part, model.shape))
        run = solve(denoise, x, levels, solver=settings.solver, seeds=part, save=frames, progress=progress)
        for i, seed in enumerate(part):
            one = Trajectory(run.levels, run.x[:, i : i + 1], run.x0[:, i : i + 1], run.nfe, (seed,), run.meta)
            one.save(out / "trajectories" / f"seed-{seed:05d}.safetensors")
            save(to_pil(model.decode(run.final[i : i + 1])[0]), paths[seed])
    save(sheet([Image.open(path) for path in paths.values()]), out / "sheet.png")
    return list(paths.values())


def claim(out: Path, settings: Any) -> None:
    """Write settings, a dataclass, as ``run.json`` of a folder; ``ValueError`` if the one there says something else."""
    path = out / "run.json"
    wanted = asdict(settings)
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON: choose another folder") from error
        other = [f"{key} {found.get(key)!r}" for key in wanted if found.get(key) != wanted[key]]
        if other:
            raise ValueError(f"{out} holds images of another run ({', '.join(other)}): choose another folder")
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(wanted, indent=2) + "\n")
