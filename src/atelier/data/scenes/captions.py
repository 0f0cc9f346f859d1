"""What a scene shows, in words: varied sentences that name some of its factors, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atelier.data.scenes.factors import NAMES, TABLES, Factors, factor

SHARES = (0.3, 0.6, 0.95)
OPENINGS = ("", "", "a painting of ", "a landscape with ", "a picture of ")

WORDS: dict[str, dict[str, list[str]]] = TABLES["said"]
"""The ways to say each kind; a continuous factor is "low" in its lowest third and "high" in its highest."""


def kinds(factors: Factors, name: str) -> list[str]:
    """Return what could be said of one factor, one word a scene: its kind, or "low", "high" or "" (between the two)."""
    names, values = factor(name).kinds, factors.values[name]
    if names:
        return [names[i] for i in values.tolist()]
    return np.where(values < 1 / 3, "low", np.where(values > 2 / 3, "high", "")).tolist()


def caption(factors: Factors, *, version: int = 0) -> list[str]:
    """Return one sentence a scene, naming a random part of its factors; each ``version`` words it differently.

    Every sentence names only what is true of its scene, and :func:`~atelier.data.scenes.parsing.parse` reads it back.
    The texture (brush, grain) has no words.
    """
    table = zip(*(kinds(factors, name) for name in NAMES))
    return [
        _sentence(dict(zip(NAMES, row)), np.random.default_rng((seed, 2, version)))
        for seed, row in zip(factors.seeds.tolist(), table)
    ]


# From a scene to a sentence


@dataclass(frozen=True)
class _Voice:
    """Says what is true, ``kinds`` (name -> word), each factor with the probability ``share``."""

    kinds: dict[str, str]
    draw: np.random.Generator
    share: float

    def say(self, name: str, *, chance: float = 1.0) -> str:
        """Return words for one factor with probability ``share * chance``, otherwise nothing."""
        ways = WORDS[name].get(self.kinds[name])
        return _one_of(ways, self.draw) if ways and self.draw.random() < self.share * chance else ""


def _sentence(kinds: dict[str, str], draw: np.random.Generator) -> str:
    """Name each factor with a probability that is itself drawn, so that captions are short or long."""
    voice = _Voice(kinds, draw, share=SHARES[draw.integers(len(SHARES))])
    clauses = [_sky(voice), _tree(voice), _house(voice), _land(voice), voice.say("horizon", chance=0.4)]
    clauses = [_article(clause) for clause in clauses if clause]
    if not clauses:
        clauses = [_article(WORDS["sky"][kinds["sky"]][0])]
    draw.shuffle(clauses)
    return _one_of(OPENINGS, draw) + ", ".join(clauses)


def _sky(voice: _Voice) -> str:
    orb, sky = voice.say("orb"), voice.say("sky")
    if orb:
        orb = _join(voice.say("orb height", chance=0.6), orb, voice.say("orb side"))
    if sky:
        sky = _join(voice.say("clouds", chance=0.8), sky)
    return f"{orb} in {_article(sky)}" if orb and sky else orb or sky


def _tree(voice: _Voice) -> str:
    tree = voice.say("tree")
    return _join(voice.say("tree height", chance=0.6), tree, voice.say("tree side")) if tree else ""


def _house(voice: _Voice) -> str:
    """Name the house if anything is said of it; its side comes before or after its parts."""
    walls, side = voice.say("walls"), voice.say("house side")
    parts = " and ".join(filter(None, (voice.say("roof"), voice.say("door"), voice.say("windows"))))
    if not (walls or parts or side):
        return ""
    house, parts = _join(voice.say("house size", chance=0.6), walls, "house"), parts and f"with {parts}"
    side_last = side and parts and voice.draw.random() < 0.5
    return _join(house, parts, side) if side_last else _join(house, side, parts)


def _land(voice: _Voice) -> str:
    relief, ground = voice.say("relief"), voice.say("ground")
    if relief:
        relief = _join(voice.say("relief height", chance=0.6), relief)
    return f"{relief} behind {ground}" if relief and ground else relief or ground


def _article(phrase: str) -> str:
    """Put "a" or "an" before a phrase that counts one thing and has none yet."""
    words = phrase.split()
    if words[0] in _ARTICLES or _COUNTED.isdisjoint(words):
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _join(*parts: str) -> str:
    return " ".join(filter(None, parts))


def _one_of(ways: Sequence[str], draw: np.random.Generator) -> str:
    """Draw one of a few phrases: the same draw as ``Generator.choice``, many times faster."""
    return ways[int(draw.integers(len(ways)))]


_ARTICLES = {"a", "an", "the"}
_COUNTED = {"sun", "moon", "sky", "oak", "pine", "poplar", "house"}
