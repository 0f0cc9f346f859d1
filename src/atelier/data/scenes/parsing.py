"""What a sentence asks of a scene: the factors named in a caption, or in a prompt that a reader typed."""

from __future__ import annotations

import re

from atelier.data.scenes.factors import TABLES

_NOUNS = {noun: thing for thing, nouns in TABLES["things"].items() for noun in nouns.split()}
_SIDE_OF = {"orb": "orb side", "tree": "tree side"} | dict.fromkeys(
    ("house", "walls", "roof", "door", "windows"), "house side"
)

_READINGS = {  # thing -> [(factor, kind, words)]
    thing: [(name, kind, frozenset(words.split())) for name, kinds in named.items() for kind, words in kinds.items()]
    for thing, named in TABLES["means"].items()
}

_ARTICLES = {"a", "an", "the"}
_BOUNDARY = re.compile(
    r"[^a-z\s-]+|\b(?:and|with|in|at|by|near|under|beneath|below|over|above|behind|before|beside|against|but|while)\b"
)


def parse(text: str) -> dict[str, str]:
    """Return the factors that a sentence names, name -> kind ("low" or "high" for continuous factors).

    The sentence falls into clauses at punctuation and at words such as "and", "with" or "under". An adjective
    belongs to the next thing named in its clause, or else to the last ("a moon high in a pink sky"); "left" and
    "right" to the thing before them ("a house with a red roof on the left"), or else to the next. What is named
    first counts, a thing with "no" before it does not, and words without a meaning here are passed over.
    """
    found: dict[str, str] = {}
    latest = None  # the side factor of the latest thing that has one
    for words in _clauses(text):
        nouns = [i for i, word in enumerate(words) if word in _NOUNS]
        ends = [*(i + 1 for i in nouns[:-1]), len(words)]
        sides: dict[int, str | None] = {}  # by place in the clause; no side for a thing that is not there
        for noun, start, end in zip(nouns, [0, *ends], ends):
            thing = _NOUNS[words[noun]]
            if "no" in words[start:noun]:
                sides[noun] = None
                continue
            _read(thing, words[start:end], found)
            if thing in _SIDE_OF:
                sides[noun] = _SIDE_OF[thing]
        for i, word in enumerate(words):
            if i in sides:
                latest = sides[i]
            elif word in ("left", "right"):
                owner = next(iter(sides.values())) if sides and i < nouns[0] else latest
                if owner:
                    found.setdefault(owner, word)
    return found


def _clauses(text: str) -> list[list[str]]:
    """Return the words of each clause, nouns in the singular; words that name nothing join the clause they describe."""
    clauses: list[list[str]] = []
    waiting: list[str] = []
    for part in _BOUNDARY.split(text.lower().replace("without", "with no")):
        words = [_singular(word.removesuffix("-hand")) for word in part.split()]
        if not _NOUNS.keys().isdisjoint(words):
            clauses.append(waiting + words)
            waiting = []
        elif not clauses or (words and words[0] in _ARTICLES) or (_has_side(words) and _has_side(clauses[-1])):
            waiting += words  # "a small, white house", "on the left, a pine"
        else:
            clauses[-1] += words  # "a house, small", "a pine, on the left"
    return clauses


def _read(thing: str, words: list[str], found: dict[str, str]) -> None:
    """Add to ``found`` what the words around a thing say of it, unless it has been said before."""
    for name, kind, meanings in _READINGS[thing]:
        if name not in found and not meanings.isdisjoint(words):
            found[name] = kind


def _has_side(words: list[str]) -> bool:
    return "left" in words or "right" in words


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and word[:-1] in _NOUNS else word
