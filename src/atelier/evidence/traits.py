"""What goes with a scene's factor besides its variance: its area, its spatial frequency, and when it is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atelier.data import scenes
from atelier.data.images import to_unit

LAYERS = {
    "sky": 0, "horizon": 0, "orb": 1, "orb side": 1, "orb height": 1, "clouds": 2, "relief": 3, "relief height": 3,
    "ground": 4, "tree": 5, "tree side": 5, "tree height": 5, "house side": 6, "house size": 6, "walls": 6, "roof": 7,
    "door": 8, "windows": 9, "brush": 10, "grain": 11,
}  # fmt: skip
"""The order in which a scene is drawn, back to front: the first layer that each factor touches."""


def traits(contrast: Sequence[float] = (1.0,) * 4, *, n: int = 500, seed: int = scenes.TEST_SEEDS.stop) -> Tensor:
    """Return variance share, area, spatial frequency and layer of each scene factor, (20, 4), from pairs that differ.

    ``variance``: E|f(A) - f(A_i)|^2 / E|f(A) - f(B)|^2, the factor's total effect. ``area``: pixels of 32 x 32 that
    change by more than two grey levels in a channel. ``frequency``: mean radius, in cycles per pixel, of the spectrum
    of the change, weighted by energy. Areas and frequencies are of those pairs whose pictures differ.
    """
    a, b = scenes.sample(n, seed), scenes.sample(n, seed + n)
    first, second = (to_unit(scenes.render(v, contrast=contrast)) for v in (a, b))
    whole = (first - second).square().sum()
    places = torch.fft.fftfreq(32)
    radius = torch.hypot(places[:, None], places)
    rows = []
    for name in scenes.NAMES:
        change = to_unit(scenes.render(a.replace({name: b.values[name]}), contrast=contrast)) - first
        touched = (change.abs() > 2.5 / 127.5).any(1).flatten(1).sum(1).double()
        power = torch.fft.fft2(change).abs().square().sum((0, 1))
        share = change.square().sum() / whole
        frequency = float((power * radius).sum() / power.sum())
        rows.append([float(share), float(touched[touched > 0].mean()), frequency, float(LAYERS[name])])
    return torch.tensor(rows, dtype=torch.float64)
