"""What is not needed is not imported: by the package, and by loading a model."""

from __future__ import annotations

import subprocess
import sys

EXTRA = ("matplotlib", "scipy", "sklearn", "ipywidgets", "IPython", "pandas")


def run(code: str) -> list[str]:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_package_and_a_network_at_hand_need_neither_diffusers_nor_what_the_book_needs():
    code = f"""
import sys
import painters, atelier.cli, painters.models, painters.sampling, painters.theory
from painters.schedules import edm
painters.load(lambda x, t: x, prediction="sample", schedule=edm(), shape=(3,))
print(*[name for name in {("diffusers", "transformers", *EXTRA)!r} if name in sys.modules])
"""
    assert run(code) == []


def test_bundled_models_load_and_paint_where_only_the_core_is_installed():
    """diffusers imports scipy where it finds it; here nothing of the book's extra is found at all."""
    code = f"""
import importlib.machinery, sys
find = importlib.machinery.PathFinder.find_spec
hidden = lambda name, path=None, target=None: None if name.split(".")[0] in {EXTRA!r} else find(name, path, target)
importlib.machinery.PathFinder.find_spec = hidden
import painters
for name, prompt in (("fashion-ddpm", 3), ("scenes-sd", "a house")):
    model = painters.load(name, device="cpu")
    levels = model.levels(1)
    x = levels.start(painters.noise([0], model.shape))
    print(*model.decode(painters.solve(model.denoiser(prompt), x, levels, progress=False).final).shape)
print(*[name for name in {EXTRA!r} if name in sys.modules])
"""
    assert run(code) == ["1", "1", "28", "28", "1", "3", "64", "64"]
