"""What a change of a picture changed: each named factor by itself, beside what differs between two unrelated pictures.

Every experiment that varies pictures on purpose asks the same three questions: how much did a factor change, did it
keep its kind, and how far did the picture move as a whole. One object answers them, so that methods can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from atelier.data import images as image_data
from atelier.data import scenes
from atelier.data.scenes.factors import Factor
from atelier.data.scenes.shares import variance_shares
from atelier.networks.readers import columns, indicators
from atelier.subject import Subject
from painters.levels import CLEAN
from painters.theory.gaussian import Gaussian

OUTLINE = 0.8
"""The outline are the factors with the largest pixel variance that together hold this share of it: measured, see
:mod:`atelier.data.scenes.shares`, and not said by the names of bands."""
TOLERANCE = 0.5 / math.sqrt(12)
"""A continuous factor is kept if it moved by at most half a standard deviation of the data's, uniform in [0, 1]."""
LEGIBLE = 0.5
"""A factor of whose variance the instrument explains less than this on clean test states is not measured."""


@dataclass(frozen=True, eq=False)
class Known:
    """Clean states (n, D) with known ``facts`` (n, m): indicators of the kinds, or values, of ``factors``."""

    states: Tensor
    facts: Tensor
    factors: tuple[Factor, ...]


def per_factor(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Sum numbers (..., m) over the columns of each factor: (..., F)."""
    return torch.stack([part.sum(-1) for part in values.split(list(sizes), -1)], -1)


def known(subject: Subject, n: int, *, test: bool) -> Known | None:
    """Return the first ``n`` test or training states of the subject's own data with their factors.

    ``None`` without a reader, or if the data are not at hand.
    """
    if subject.reader is None or subject.model is None or (states := subject.data(n, test=test)) is None:
        return None
    if subject.model.card["training"]["data"] == "scenes":
        first = (scenes.TEST_SEEDS if test else scenes.TRAIN_SEEDS).start
        values = {name: torch.from_numpy(v) for name, v in scenes.sample(n, first).values.items()}
    else:
        found = image_data.fashion()
        labels = found.test_labels if test else found.train_labels
        assert labels is not None
        values = {"class": labels[: len(states)]}
    return Known(states, indicators(values, subject.reader.factors), subject.reader.factors)


@dataclass(frozen=True, eq=False)
class Ruler:
    """Measures changes between pictures of one subject, factor by factor.

    ``factors``: those that its reader can tell in clean data, F of them. Of pairs of unrelated pictures of the data,
    ``unrelated`` (F,): the mean :meth:`change`, ``distance`` (F,): the mean displacement of a value, ``chance`` (F,):
    how often they keep the factor.
    """

    subject: Subject = field(repr=False)
    factors: tuple[Factor, ...]
    unrelated: Tensor = field(repr=False)
    distance: Tensor = field(repr=False)
    chance: Tensor = field(repr=False)

    @classmethod
    def of(cls, subject: Subject, n: int = 400) -> Ruler | None:
        """Make the ruler of a subject from ``n`` of its test pictures; ``None`` without a reader or data.

        A factor is used if its reader explains half of its variance or more in these pictures.
        """
        data = known(subject, n, test=True)
        if data is None or subject.reader is None:
            return None
        said = _answers(subject, data.states)
        sizes = columns(data.factors)
        whole = per_factor(data.facts.var(0, correction=0), sizes)
        share = 1 - per_factor((said - data.facts).square().mean(0), sizes) / whole
        factors = tuple(f for f, s in zip(data.factors, share.tolist()) if s >= LEGIBLE)
        if not factors:
            return None
        one = torch.ones(len(factors), dtype=torch.float64)
        ruler = cls(subject, factors, one, one, one)
        own = ruler.answers(data.states)
        other = own.roll(1, 0)
        ruler = replace(ruler, distance=ruler._moved(own, other).mean(0))
        chance = ruler.kept(own, other).double().mean(0)
        return replace(ruler, unrelated=ruler.change(own, other).mean(0), chance=chance)

    @property
    def names(self) -> list[str]:
        """The names of the factors."""
        return [f.name for f in self.factors]

    def outline(self) -> Tensor:
        """Return which factors are the outline, (F,) bool; the others are detail.

        All of them unless the factors are those of scenes, whose shares of the pixel variance are known.
        """
        shares = variance_shares()
        if not set(self.names) <= shares.keys():
            return torch.ones(len(self.factors), dtype=torch.bool)
        total = torch.tensor([shares[name].total for name in self.names])
        largest = total.argsort(descending=True)
        before = total[largest].cumsum(0) - total[largest]  # what the larger ones hold
        return torch.zeros(len(total), dtype=torch.bool).scatter(0, largest, before < OUTLINE * total.sum())

    def answers(self, x: Tensor) -> Tensor:
        """Return what clean states (n, ...) show, (n, m): probabilities of kinds and values of the factors, float64."""
        assert self.subject.reader is not None
        every = columns(self.subject.reader.factors)
        parts = _answers(self.subject, x).split(every, 1)
        used = set(self.factors)
        return torch.cat([part for f, part in zip(self.subject.reader.factors, parts) if f in used], 1)

    def change(self, before: Tensor, after: Tensor) -> Tensor:
        """Return how much each factor changed between answers (n, m), in [0, 1], (n, F).

        1 for a kind that is another one, 0 if not; for a value the displacement over that of unrelated pictures, cut at
        1, so that no factor outweighs the others by its scale.
        """
        flips = 1 - self.kept(before, after).double()
        moved = (self._moved(before, after) / self.distance).clamp(max=1)
        return torch.where(torch.tensor([bool(f.kinds) for f in self.factors]), flips, moved)

    def score(self, change: Tensor) -> Tensor:
        """Return the mean of changes (n, F) over pictures, corrected for chance: 1 as for unrelated ones, (F,)."""
        return (change.mean(0) / self.unrelated).clamp(max=1)

    def kept(self, before: Tensor, after: Tensor) -> Tensor:
        """Return whether each factor kept its kind, or its value up to :data:`TOLERANCE`, (n, F) bool."""
        pairs = zip(self.factors, *(part.split(columns(self.factors), 1) for part in (before, after)))
        return torch.stack(
            [a.argmax(1) == b.argmax(1) if f.kinds else (a - b).abs()[:, 0] <= TOLERANCE for f, a, b in pairs], 1
        )

    def _moved(self, before: Tensor, after: Tensor) -> Tensor:
        """|after - before| of the answers of each factor, (n, F)."""
        return per_factor((after - before).abs(), columns(self.factors))


def distance(gaussian: Gaussian, before: Tensor, after: Tensor) -> Tensor:
    """Return how far clean states (n, ...) moved, (n,): |after - before|/sqrt(2 tr Sigma), 1 for unrelated."""
    moved = (after - before).flatten(1).double().cpu().norm(dim=1)
    return moved / math.sqrt(2 * float(gaussian.spectrum.sum()))


def _answers(subject: Subject, x: Tensor) -> Tensor:
    reader = subject.reader
    assert reader is not None
    parts = [reader.read(subject.look(part.float()), *CLEAN) for part in x.split(250)]
    return torch.cat([indicators(part, reader.factors) for part in parts])
