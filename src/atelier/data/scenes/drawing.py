"""How a scene is drawn: back to front, from signed distances, antialiased, a cache full of pictures at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atelier.data.scenes.factors import TABLES, Factors, factor

COLOURS = {name: np.array(rgb) for name, rgb in TABLES["colours"].items()}


def render(factors: Factors, size: int = 32) -> Tensor:
    """Return the pictures of n scenes, uint8 (n, 3, size, size).

    Edges are antialiased: a pixel takes the covered share of each shape, exactly for edges along rows and columns.
    Raises ``ValueError`` for a size below 16.
    """
    if size < 16:
        raise ValueError(f"a scene needs at least 16 pixels a side, got {size}")
    chunks = [_draw(factors[i : i + 64], size) for i in range(0, len(factors), 64)]
    pictures = np.concatenate(chunks) if chunks else np.empty((0, 3, size, size), np.uint8)
    return torch.from_numpy(pictures)


@dataclass
class _Canvas:
    """Pictures being painted: ``rgb`` (n, 3, size, size), pixel centres ``x`` (1, 1, size) and ``y`` (1, size, 1)."""

    rgb: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def cover(self, inside: np.ndarray) -> np.ndarray:
        """Return the covered share of each pixel, given the distance from its centre to the edge, positive inside.

        Distances are in units of the picture's side. The share is exact for an edge along rows or columns.
        """
        return np.clip(inside * np.float32(self.x.size) + np.float32(0.5), 0, 1)

    def rectangle(self, left: np.ndarray, right: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        """Return the cover (n, size, size) of rectangles with edges (n, 1, 1), exact from one pixel of width on."""
        across = self.cover(np.minimum(self.x - left, right - self.x))
        return across * self.cover(np.minimum(self.y - top, bottom - self.y))

    def blend(self, cover: np.ndarray, colour: np.ndarray) -> None:
        """Paint ``colour`` (n, 3) or (n, 3, size or 1, size or 1) over the pictures where ``cover`` (n, size, size)."""
        colour = colour.astype(np.float32).reshape(*colour.shape, *(1,) * (4 - colour.ndim))
        self.rgb += cover[:, None] * (colour - self.rgb)


def _draw(factors: Factors, size: int) -> np.ndarray:
    """Paint at most a cache full of scenes, back to front.

    ``v`` holds the factors, continuous ones float32 (n, 1, 1), categorical ones (n,); ``hand`` eight numbers in
    [-1, 1], float32 (8, n, 1, 1), and ``hands`` the generators that go on to draw the strokes.
    """
    n = len(factors)
    v: dict[str, np.ndarray] = {
        name: value if factor(name).kinds else value.astype(np.float32).reshape(n, 1, 1)
        for name, value in factors.values.items()
    }
    hands = [np.random.default_rng((seed, 1)) for seed in factors.seeds.tolist()]
    hand = np.stack([g.random(8, np.float32) for g in hands]).T.reshape(8, n, 1, 1) * 2 - 1
    centre = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    x, y = centre[None, None, :], centre[None, :, None]
    horizon = 0.5 + 0.17 * v["horizon"]
    light = COLOURS["light"][v["sky"]]
    sky = COLOURS["sky"][v["sky"]]
    canvas = _Canvas(_sky(sky, y, horizon, size), x, y)
    _orb(canvas, v, hand, COLOURS["orb"][v["orb"]])
    _clouds(canvas, v, hand, horizon, 0.6 * COLOURS["cloud"] + 0.4 * sky[:, 1])
    relief = 0.65 * COLOURS["relief"][v["relief"]] * light + 0.35 * sky[:, 1]
    _relief(canvas, v, hand, horizon, relief, 0.75 * light + 0.25 * sky[:, 1])
    _ground(canvas, horizon, hand, COLOURS["ground"][v["ground"]] * light)
    _tree(canvas, v, hand, horizon, COLOURS["tree"][v["tree"]] * light, COLOURS["trunk"] * light)
    lit = 0.85 * (v["windows"] == 1)[:, None]
    windows = COLOURS["windows"][v["windows"]] * (light + lit * (1 - light))
    house = {name: COLOURS[name][v[name]] * light for name in ("walls", "roof", "door")}
    _house(canvas, v, hand, horizon, house | {"windows": windows})
    _strokes(canvas, v, hands)
    return (np.clip(canvas.rgb, 0, 1) * 255 + 0.5).astype(np.uint8)


def _sky(sky: np.ndarray, y: np.ndarray, horizon: np.ndarray, size: int) -> np.ndarray:
    """Return the empty sky (n, 3, size, size), from the zenith's colour to the horizon's."""
    depth = np.clip(y / horizon, 0, 1)[:, None] ** np.float32(1.3)
    zenith, low = (sky[:, i, :, None, None].astype(np.float32) for i in (0, 1))
    return np.repeat(zenith + depth * (low - zenith), size, axis=3)


def _orb(canvas: _Canvas, v: dict[str, np.ndarray], hand: np.ndarray, colour: np.ndarray) -> None:
    """A glowing disk; the moon is a crescent with a fainter glow."""
    x = _side(v["orb side"], 0.28) + 0.05 * hand[0]
    y = 0.26 - 0.15 * v["orb height"]
    moon = (v["orb"] == 2).astype(np.float32)[:, None, None]
    dx, dy = canvas.x - x, canvas.y - y
    distance = np.sqrt(dx**2 + dy**2)
    canvas.blend((0.5 - 0.2 * moon) * np.exp(-distance / 0.11), colour)
    disk = canvas.cover(0.085 - distance)
    bite = canvas.cover(0.075 - np.sqrt((dx - 0.045) ** 2 + (dy + 0.02) ** 2))
    canvas.blend(disk * (1 - moon * bite), colour)


def _clouds(
    canvas: _Canvas, v: dict[str, np.ndarray], hand: np.ndarray, horizon: np.ndarray, colour: np.ndarray
) -> None:
    """Three soft banks, each a Gaussian in x and in y, flatter below than above."""
    cover = np.zeros((len(colour), canvas.x.size, canvas.x.size), np.float32)
    for x, y, wide, jitter in ((0.27, 0.30, 0.17, hand[1]), (0.72, 0.44, 0.20, hand[2]), (0.55, 0.17, 0.13, hand[3])):
        across = np.exp(-(((canvas.x - x - 0.10 * jitter) / wide) ** 2))
        up = canvas.y - y * horizon / 0.6
        along = np.exp(-((up / np.where(up > 0, np.float32(0.025), np.float32(0.055))) ** 2))
        cover = np.maximum(cover, across * along)
    canvas.blend(0.8 * cover * (v["clouds"] == 1)[:, None, None].astype(np.float32), colour)


def _relief(
    canvas: _Canvas,
    v: dict[str, np.ndarray],
    hand: np.ndarray,
    horizon: np.ndarray,
    colour: np.ndarray,
    snow: np.ndarray,
) -> None:
    """A line of rolling hills, or of peaks with snow on top."""
    peaks = (v["relief"] == 1).astype(np.float32)[:, None, None]
    x = canvas.x
    rolling = 0.55 + 0.30 * np.sin(5.5 * x + 3 * hand[4]) + 0.15 * np.sin(11 * x + 3 * hand[5])

    def ridge(period: float, phase: np.ndarray) -> np.ndarray:
        return 1 - 2 * np.abs((x / period + 0.5 * phase) % 1 - 0.5)

    rocky = np.maximum(ridge(0.62, hand[4]), 0.74 * ridge(0.41, hand[5]))
    height = 0.06 + 0.20 * v["relief height"]
    line = horizon - height * (rolling + peaks * (0.12 + rocky - rolling))
    depth = canvas.y - line
    canvas.blend(canvas.cover(depth), colour)
    cap = canvas.cover(np.minimum(depth, 0.30 * height - depth + 0.025 * np.sin(40 * x + 9 * hand[4])))
    canvas.blend(0.9 * cap * peaks * (rocky > 0.45), snow)


def _ground(canvas: _Canvas, horizon: np.ndarray, hand: np.ndarray, colour: np.ndarray) -> None:
    """The field: lighter far away, with furrows that gather at the horizon."""
    depth = np.clip((canvas.y - horizon) / 0.5, 0, 1)
    furrow = np.sin(np.float32(9.0) / (depth + np.float32(0.12)) + 3 * hand[6] + 2 * canvas.x) * np.sqrt(depth)
    shade = 1.08 - 0.34 * depth + np.float32(0.05) * furrow
    canvas.blend(canvas.cover(canvas.y - horizon), colour[..., None, None].astype(np.float32) * shade[:, None])


def _tree(
    canvas: _Canvas,
    v: dict[str, np.ndarray],
    hand: np.ndarray,
    horizon: np.ndarray,
    colour: np.ndarray,
    trunk: np.ndarray,
) -> None:
    """A trunk and a crown, whose half width at relative height u makes an oak, a pine or a poplar."""
    x = _side(v["tree side"], 0.15) + 0.025 * hand[1]
    foot = horizon + 0.13 + 0.03 * hand[2]
    tall = 0.24 + 0.24 * v["tree height"]
    kind = v["tree"][:, None, None]
    canvas.blend(canvas.rectangle(x - 0.016, x + 0.016, foot - 0.4 * tall, foot), trunk)
    half = np.zeros((len(kind), canvas.y.size, 1), np.float32)
    for offset in (-0.25, 0.25):  # two samples a row smooth the steps of the pine and the tips
        u = (foot - canvas.y + np.float32(offset / canvas.y.size)) / tall
        ball = np.sqrt(np.clip(1 - ((u - 0.66) / 0.38) ** 2, 0, None)) * (0.36 + 0.03 * np.sin(20 * u)) * tall
        spindle = np.clip(np.sin(np.pi * np.clip((u - 0.08) / 0.92, 0, 1)), 0, 1) ** np.float32(0.7) * 0.15 * tall
        tier = np.clip(1 - (u - 0.16) / 0.84, 0, 1)
        cone = (0.72 * tier + 0.28 * ((3 * tier) % 1)) * 0.30 * tall * (u > 0.16)
        half += np.float32(0.5) * np.where(kind == 0, ball, np.where(kind == 1, cone, spindle))
    crown = canvas.cover(half - np.abs(canvas.x - x)) * (half > 0)
    towards = np.where(v["orb side"] == 0, -1.0, 1.0).astype(np.float32)[:, None, None]
    shade = 1 + np.float32(0.28) * np.clip(towards * (canvas.x - x) / np.maximum(half, 0.02), -1, 1)
    canvas.blend(crown, colour[..., None, None].astype(np.float32) * shade[:, None])


def _house(
    canvas: _Canvas, v: dict[str, np.ndarray], hand: np.ndarray, horizon: np.ndarray, colours: dict[str, np.ndarray]
) -> None:
    """Walls, a hipped roof with a chimney, a door and two windows."""
    x = _side(v["house side"], 0.39) + 0.02 * hand[3]
    foot = horizon + 0.19 + 0.02 * hand[7]
    half = 0.10 + 0.065 * v["house size"]
    eaves = foot - 1.05 * half
    canvas.blend(canvas.rectangle(x + 0.45 * half, x + 0.70 * half, eaves - 0.95 * half, eaves), 0.8 * colours["roof"])
    canvas.blend(canvas.rectangle(x - half, x + half, eaves, foot), colours["walls"])
    up = (eaves - canvas.y) / (0.85 * half)
    width = np.where((up > -0.06) & (up < 1), 1.18 - 0.72 * up, -1).astype(np.float32) * half
    rows = canvas.cover(np.minimum(eaves + 0.05 * half - canvas.y, canvas.y - eaves + 0.85 * half))
    canvas.blend(canvas.cover(width - np.abs(canvas.x - x)) * rows, colours["roof"])
    canvas.blend(canvas.rectangle(x - 0.17 * half, x + 0.17 * half, foot - 0.72 * half, foot), colours["door"])
    for place in (-0.6, 0.6):
        pane = canvas.rectangle(
            x + (place - 0.19) * half, x + (place + 0.19) * half, eaves + 0.25 * half, eaves + 0.65 * half
        )
        canvas.blend(pane, colours["windows"])


def _strokes(canvas: _Canvas, v: dict[str, np.ndarray], hands: list[np.random.Generator]) -> None:
    """Long strokes of lighter and darker paint in 32 rows, and a grain as fine as the pixels."""
    size = canvas.x.size
    knots = np.stack([g.random((4, 32, 9), np.float32) for g in hands]) - np.float32(0.5)
    place = canvas.x.ravel() * 8
    between = np.clip(1 - np.abs(place - np.arange(9, dtype=np.float32)[:, None]), 0, None).astype(np.float32)
    strokes = knots @ between
    rows = np.clip(1 - np.abs(canvas.y.reshape(-1, 1) * 32 - 0.5 - np.arange(32, dtype=np.float32)), 0, None)
    strokes = rows @ (strokes[:, :1] + 0.6 * strokes[:, 1:])
    canvas.rgb += (0.03 + 0.13 * v["brush"][:, None]) * strokes
    grain = np.stack([g.random((size, size), np.float32) for g in hands])[:, None] - np.float32(0.5)
    canvas.rgb += (0.01 + 0.05 * v["grain"][:, None]) * grain


def _side(side: np.ndarray, distance: float) -> np.ndarray:
    """Return x (n, 1, 1) at ``distance`` from the left (side 0) or the right (side 1)."""
    return np.where(side == 0, distance, 1 - distance).astype(np.float32)[:, None, None]
