"""Write `book/images/painting.png`, the README's picture: one run of the small Stable Diffusion beside the theory.

python tools/picture.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import painters
from atelier.pages import set_style, strip

ROOT = Path(__file__).resolve().parent.parent
MODEL = "scenes-sd"
SEED = 10
STEPS = 50
COLUMNS = 8


def main() -> None:
    """Paint one seed and draw its four rows."""
    set_style()
    model = painters.load(MODEL, device="cpu")
    if model.moments is None:
        raise SystemExit(f"{MODEL} has no moments")
    levels = model.levels(STEPS)
    x = levels.start(painters.noise([SEED], model.shape))
    run = painters.solve(model.denoiser(), x, levels, solver="ddim", progress=False)
    theory = model.moments.trajectory(x, levels)
    i = torch.linspace(0, STEPS - 1, COLUMNS).round().long()
    step = run.x[i + 1, 0] - run.x[i, 0]
    shape = (1, 2, 3)
    step = (step - step.mean(shape, True)) / step.std(shape, keepdim=True) * run.final[0].std() + run.final[0].mean()
    rows = {
        "state, decoded": model.decode(run.x[i, 0]),
        "difference of states, rescaled and decoded": model.decode(step),
        "network's endpoint estimate": model.decode(run.x0[i, 0]),
        "theory's endpoint estimate, without a network": model.decode(theory.x0[i, 0]),
    }
    figure = strip(rows, columns=[f"{int(k)}/{STEPS}" for k in i], column_label="steps done")
    path = ROOT / "book" / "images" / "painting.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
