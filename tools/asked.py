"""Write `asked.json` of the chapter on variations: what becomes of orders by name, on paintings of `scenes-sd`.

`python tools/asked.py`, some minutes on two cores.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.manifold.knobs import MANY, Facts
from atelier.networks.readers import columns
from atelier.scoring import Ruler
from atelier.statistics import short
from atelier.subject import Subject, subject
from atelier.variations import asking
from atelier.variations.asking import LOUD, Affine, coloured, states_at, white
from painters.files import replacing
from painters.sampling import paint_on

MODEL, FACTS, STEPS, SEEDS, RATIOS = "scenes-sd", 6000, 20, 24, (0.75, 2.0, 4.0)


def obeyed(
    subject: Subject, ruler: Ruler, affine: Affine, seeds: Sequence[int], ratio: float, *, steps: int = STEPS
) -> dict[str, Any]:
    """Ask every seed's picture for one thing of each factor that it does not show, and return what becomes of it.

    Asked are, at the level sigma/alpha next to `ratio`, a kind that the reader does not see, drawn at random, or the
    other end of a size: .05 or .95. `granted` (S, F): 1 where the reader sees the kind, or the size on the asked side
    of 1/2. `others` (S, F): what all other factors change by, in units of unrelated pictures. `null_granted` and
    `null_others`: the same after steps as long in random directions of the first PCs. `price` (F,): length of the
    step in standard deviations, before it is made louder.
    """
    levels, start, x = states_at(subject, seeds, ratio, steps)
    g, level, generator = affine.gaussian, levels[start], torch.Generator().manual_seed(0)
    z, kinds = white(g, x, level), columns(ruler.factors)

    def seen(states: Tensor) -> Tensor:
        return ruler.answers(paint_on(subject.denoise, states, levels, start=start, solver="dpmpp2m"))

    before = seen(x)
    found: dict[str, list[Tensor]] = {name: [] for name in ("granted", "others", "null_granted", "null_others")}
    price = []
    for i, (factor, shown) in enumerate(zip(ruler.factors, before.split(kinds, 1))):
        n = len(factor.kinds)
        now = shown.argmax(1) if n else (shown[:, 0] > 0.5).long()
        other = (now + torch.randint(1, n or 2, now.shape, generator=generator)) % (n or 2)
        orders = [{factor.name: factor.kinds[k] if n else (0.05, 0.95)[k]} for k in other.tolist()]
        step = torch.cat([affine.step(z[j : j + 1], order) for j, order in enumerate(orders)])
        price.append(step.norm(dim=1).mean())
        random = torch.randn(len(x), MANY, generator=generator, dtype=torch.float64) @ g.U[:, :MANY].T
        for tail, way in (("", step), ("null_", random * (step.norm(dim=1) / random.norm(dim=1))[:, None])):
            after = seen(coloured(g, z + LOUD * way, level, x))
            says = after.split(kinds, 1)[i]
            found[f"{tail}granted"].append((says.argmax(1) if n else (says[:, 0] > 0.5).long()) == other)
            change = ruler.change(before, after) / ruler.unrelated
            found[f"{tail}others"].append((change.sum(1) - change[:, i]) / (change.shape[1] - 1))
    said = {name: short(torch.stack(part, 1).double()) for name, part in found.items()}
    return {"level": float(levels.ratio[start]), "price": short(torch.stack(price))} | said


def main() -> None:
    """Measure the orders at three levels, and write the file that the chapter reads."""
    painter = subject(MODEL)
    assert painter.reader is not None
    facts = Facts.of(painter, painter.reader.factors, FACTS)
    ruler = Ruler.of(painter, 400)
    assert facts is not None and ruler is not None
    affine = Affine.of(facts)
    known = dict(zip((f.name for f in facts.factors), short(facts.r2(), 3)))
    names = [f.name for f in affine.factors]
    made = {"model": MODEL, "facts": FACTS, "steps": STEPS, "seeds": SEEDS, "loud": LOUD, "factors": names}
    made |= {"known": [known[name] for name in names]}
    made |= {"at": [obeyed(painter, ruler, affine, range(SEEDS), ratio) for ratio in RATIOS]}
    path = Path(asking.__file__).with_name("asked.json")
    with replacing(path) as target:
        target.write_text(json.dumps(made, separators=(",", ":")) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
