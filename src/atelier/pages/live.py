"""A panel of knobs for a live kernel: choose seed, direction, step and size, and see the picture that follows.

An :class:`Easel` does the work and knows nothing of widgets; a :class:`Panel` shows it. On a page without a kernel a
panel would be dead, so the book shows a still picture in its place.
"""

from __future__ import annotations

import asyncio
import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atelier.data.scenes.factors import Factor
from atelier.evidence.factors import known
from atelier.networks.readers import columns
from atelier.pages.figures import as_image
from atelier.scoring import Ruler, distance
from atelier.subject import Subject
from atelier.variations.resampling import informative
from painters.sampling import noise, solve
from painters.theory.gaussian import Gaussian
from painters.trajectory import Frames, Trajectory

CACHED = 8
"""How many seeds a panel remembers."""


def directions(subject: Subject, *, pcs: int = 6, n: int = 4000) -> dict[str, Tensor]:
    """Return named directions (D,) of unit length: the first ``pcs`` PCs, and one towards each kind of each factor.

    The latter are those of :func:`~atelier.variations.resampling.informative` for one kind alone, with
    covariances from ``n`` training pictures: of all kicks of one length in standard deviations they move the Gaussian's
    estimate of that kind most. There are none without a reader and data. Of a factor with two kinds only the second is
    named, of a continuous one the direction of more.
    """
    g = subject.gaussian.to("cpu", torch.float64)
    found = {f"PC {k + 1}": g.U[:, k] for k in range(min(pcs, len(g.lam)))}
    data = known(subject, n, test=False)
    if data is None:
        return found
    x, facts = data.states.flatten(1).double().cpu(), data.facts.double()
    covariance = (x - x.mean(0)).T @ (facts - facts.mean(0)) / (len(x) - 1)
    for factor, part in zip(data.factors, covariance.split(columns(data.factors), 1)):
        named = [(f"{factor.name}: {kind}", j) for j, kind in enumerate(factor.kinds)]
        for name, j in (named[1:] if len(named) == 2 else named) or [(f"{factor.name}: more", 0)]:
            found[name] = _towards(g, part[:, j])
    return found


def _towards(gaussian: Gaussian, covariance: Tensor) -> Tensor:
    """The direction in which the estimate of a factor with this covariance (D,) grows."""
    w = informative(gaussian, covariance[:, None])[:, 0]
    return w if float(w @ covariance) > 0 else -w


def push(gaussian: Gaussian, direction: Tensor, level: tuple[float, float], size: float) -> Tensor:
    """Return the kick e = size V^{1/2} w (D,), float64: ``size`` standard deviations of the state at ``level``."""
    g = gaussian.to("cpu", torch.float64)
    return size * (g.sample(direction.double()[None], level=level)[0] - level[0] * g.mu)


@dataclass(frozen=True, eq=False)
class View:
    """What one setting of the knobs shows.

    ``original`` and ``picture`` (C, H, W) in [0, 1]; ``state`` (*shape), the kicked run's final state. ``moved``: their
    distance, 1 as for two unrelated pictures. ``changes``: name of a factor, what it was, what it is, and the size of
    the change, largest first; ``None`` where nothing can be read.
    """

    original: Tensor
    picture: Tensor
    state: Tensor
    level: tuple[float, float]
    moved: float
    changes: tuple[tuple[str, str, str, float], ...] | None

    def text(self) -> str:
        """Return in one sentence which factors changed."""
        if self.changes is None:
            return "No reader knows what these pictures show."
        listed = "; ".join(f"{name}: {before} to {after}" for name, before, after, _ in self.changes)
        return f"Changed: {listed}." if listed else "No named factor changed its kind."


class Easel:
    """Kicks of one subject's runs along named directions, with the unkicked runs remembered.

    ``directions``: unit vectors (D,) in whitened coordinates, where one is one standard deviation. ``steps``: of a run.
    """

    def __init__(
        self, subject: Subject, directions: Mapping[str, Tensor], *, steps: int = 20, solver: str = "dpmpp2m"
    ) -> None:
        self.subject, self.directions, self.solver = subject, dict(directions), solver
        self.levels = subject.levels(steps, spacing="logsnr")
        self.ruler = Ruler.of(subject)
        self.run = lru_cache(CACHED)(self._run)
        self.resumed = lru_cache(CACHED * steps)(self._resumed)

    def turn(self, seed: int, direction: str, step: int, size: float) -> View:
        """Kick the run of ``seed`` by ``size`` standard deviations before ``step``, and finish it.

        Raises ``ValueError`` for an unknown direction, a step the run does not have, or a size that is no number.
        """
        if direction not in self.directions:
            raise ValueError(f"there is no direction {direction!r}: choose from {', '.join(self.directions)}")
        if not 0 <= step < self.levels.steps:
            raise ValueError(f"the run has the steps 0 to {self.levels.steps - 1}, there is no step {step}")
        if not np.isfinite(size):
            raise ValueError(f"the size of a kick is a number, got {size}")
        level, before = self.levels[step], self.resumed(seed, step)
        kick = push(self.subject.gaussian, self.directions[direction], level, size).reshape(1, *self.subject.shape)
        x = self.run(seed).x[step]
        after = self._finish(x + kick.to(x), step, seed)
        seen = self.subject.decode(torch.cat([before, after])).cpu()
        moved = float(distance(self.subject.gaussian, before, after))
        return View(seen[0], seen[1], after[0], level, moved, self._changes(before, after))

    def _run(self, seed: int) -> Trajectory:
        x = self.levels.start(noise([seed], self.subject.shape))
        return solve(self.subject.denoise, x, self.levels, solver=self.solver, seeds=[seed], progress=False)

    def _resumed(self, seed: int, step: int) -> Tensor:
        return self._finish(self.run(seed).x[step], step, seed)

    def _finish(self, x: Tensor, step: int, seed: int) -> Tensor:
        options = {"solver": self.solver, "start": step, "seeds": [seed]}
        return solve(self.subject.denoise, x, self.levels, save=Frames(None), progress=False, **options).final

    def _changes(self, before: Tensor, after: Tensor) -> tuple[tuple[str, str, str, float], ...] | None:
        if self.ruler is None:
            return None
        old, new = self.ruler.answers(before), self.ruler.answers(after)
        change, kept = self.ruler.change(old, new)[0], self.ruler.kept(old, new)[0]
        found = [
            (f.name, _word(f, self.ruler.path(old, f.name)[0]), _word(f, self.ruler.path(new, f.name)[0]), float(size))
            for f, size, same in zip(self.ruler.factors, change, kept)
            if not same
        ]
        return tuple(sorted(found, key=lambda row: -row[3]))


class Panel(widgets.VBox):
    """The knobs as widgets: two pictures, what changed between them, and one sentence if something went wrong.

    In a notebook, where an event loop runs, a burst of changes paints once, ``delay`` seconds after the last; without a
    loop each change paints at once. An error is shown, and raised again.
    """

    def __init__(self, easel: Easel, *, seed: int = 0, delay: float = 0.15) -> None:
        self.easel, self.delay = easel, delay
        self._waiting: asyncio.TimerHandle | None = None
        wide = {"style": {"description_width": "5.5em"}, "layout": widgets.Layout(width="22em", max_width="98%")}
        self.seed = widgets.BoundedIntText(value=seed, min=0, max=99_999, description="seed", **wide)
        self.direction = widgets.Dropdown(options=list(easel.directions), description="direction", **wide)
        steps = [(f"{ratio:.3g}", i) for i, ratio in enumerate(easel.levels.ratio[:-1].tolist())]
        self.step = widgets.SelectionSlider(options=steps, value=0, description="at σ/α", **wide)
        self.size = widgets.FloatSlider(value=3.0, min=-6.0, max=6.0, step=0.5, description="size, sd", **wide)
        self.pictures, self.words, self.message = widgets.HTML(), widgets.HTML(), widgets.HTML()
        controls = [self.seed, self.direction, self.step, self.size]
        super().__init__([*controls, self.pictures, self.words, self.message])
        for control in controls:
            control.observe(self._changed, names="value")
        self.paint()

    @property
    def setting(self) -> tuple[int, str, int, float]:
        """Seed, direction, step and size, as the knobs stand."""
        return self.seed.value, str(self.direction.value), int(self.step.value or 0), self.size.value

    def paint(self) -> None:
        """Paint what the knobs say now."""
        self._waiting = None
        try:
            view = self.easel.turn(*self.setting)
        except Exception as error:
            self.message.value = f'<p role="alert">This could not be painted: {html.escape(_sentence(error))}</p>'
            raise
        self.message.value = ""
        self.pictures.value = (
            '<div style="display:flex;gap:1em;flex-wrap:wrap">'
            f"{_figure(view.original, 'original')}{_figure(view.picture, 'after the kick')}</div>"
        )
        far = f"The picture moved by {view.moved:.2f} of the distance of two unrelated ones."
        self.words.value = f'<p aria-live="polite">{far} {html.escape(view.text())}</p>'

    def _changed(self, _: object) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.paint()
            return
        self._waiting = loop.call_later(self.delay, self.paint)


def _word(factor: Factor, answer: Tensor) -> str:
    return factor.kinds[int(answer.argmax())] if factor.kinds else f"{float(answer[0]):.2f}"


def _sentence(error: Exception) -> str:
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return text if text.endswith(".") else f"{text}."


def _figure(picture: Tensor, caption: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.round(as_image(picture) * 255).astype(np.uint8)).save(buffer, "png")
    data = base64.b64encode(buffer.getvalue()).decode()
    style = "width:11em;image-rendering:pixelated"
    image = f'<img style="{style}" alt="the picture, {caption}" src="data:image/png;base64,{data}">'
    return f'<figure style="margin:0">{image}<figcaption>{caption}</figcaption></figure>'
