"""What a scene shows, in words: varied sentences that name some of its factors, and the way back."""

from __future__ import annotations

import re

import numpy as np

from painters.data.scenes.factors import FACTORS, Factors, factor

OPENINGS = ("", "", "a painting of ", "a landscape with ", "a picture of ")

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "sky": {kind: (f"{kind} sky",) for kind in ("blue", "golden", "pink", "indigo")},
    "clouds": {"clear": ("clear",), "cloudy": ("cloudy",)},
    "ground": {
        "meadow": ("a green meadow", "a meadow", "green grass"),
        "wheat": ("a wheat field", "a field of wheat", "golden wheat"),
        "snow": ("snow", "a field of snow", "white snow"),
        "heather": ("heather", "a field of heather", "purple heather"),
    },
    "horizon": {"low": ("a low horizon",), "high": ("a high horizon",)},
    "relief": {"hills": ("hills", "rolling hills", "green hills"), "mountains": ("mountains", "snowy mountains")},
    "relief height": {"low": ("low",), "high": ("high",)},
    "orb": {
        "yellow sun": ("yellow sun", "bright sun"),
        "red sun": ("red sun",),
        "moon": ("moon", "crescent moon", "white moon"),
    },
    "orb side": {side: (f"on the {side}", f"to the {side}") for side in ("left", "right")},
    "orb height": {"low": ("low",), "high": ("high",)},
    "tree": {"oak": ("oak", "round oak"), "pine": ("pine", "dark pine"), "poplar": ("poplar", "slender poplar")},
    "tree side": {side: (f"on the {side}", f"to the {side}") for side in ("left", "right")},
    "tree height": {"low": ("small", "little"), "high": ("tall", "big")},
    "house side": {side: (f"on the {side}", f"to the {side}") for side in ("left", "right")},
    "house size": {"low": ("small", "little"), "high": ("large", "big")},
    "walls": {kind: (kind,) for kind in ("white", "ochre", "brick", "blue")},
    "roof": {"red": ("a red roof",), "slate": ("a slate roof", "a grey roof"), "thatch": ("a thatched roof",)},
    "door": {kind: (f"a {kind} door",) for kind in ("green", "red", "blue")},
    "windows": {"dark": ("dark windows",), "lit": ("lit windows", "bright windows")},
}
"""The ways to say each kind. A continuous factor is "low" below 1/3 and "high" above 2/3; between, it has no word."""


def caption(factors: Factors, *, version: int = 0) -> list[str]:
    """Return one sentence a scene, naming a random part of its factors; each ``version`` words it differently.

    Every sentence names only what is true of its scene, and :func:`parse` reads it back. The texture (brush, grain)
    has no words.
    """
    kinds = {f.name: _kinds(factors, f.name) for f in FACTORS}
    return [
        _sentence({name: str(values[i]) for name, values in kinds.items()}, np.random.default_rng((seed, 2, version)))
        for i, seed in enumerate(factors.seeds)
    ]


def parse(text: str) -> dict[str, str]:
    """Return the factors that a sentence names, name -> kind ("low" or "high" for continuous factors).

    Clauses are parted by commas; in each, the nouns say which thing the adjectives and sides belong to. Words it
    does not know are passed over.
    """
    found: dict[str, str] = {}
    for clause in re.split(r"[,.;]", text.lower()):
        for thing, noun in THINGS.items():
            if re.search(rf"\b({noun})\b", clause):
                for name in _OF[thing]:
                    kind = _kind_in(clause, thing, name)
                    if kind is not None:
                        found[name] = kind
    return found


THINGS = {
    "orb": "sun|moon",
    "sky": "sky",
    "tree": "oak|pine|poplar|tree",
    "house": "house",
    "relief": "hills|mountains",
    "ground": "meadow|grass|wheat|snow|heather",
    "horizon": "horizon",
}
_OF = {
    "orb": ("orb", "orb side", "orb height"),
    "sky": ("sky", "clouds"),
    "tree": ("tree", "tree side", "tree height"),
    "house": ("walls", "roof", "door", "windows", "house side", "house size"),
    "relief": ("relief", "relief height"),
    "ground": ("ground",),
    "horizon": ("horizon",),
}
_COMMON = {"ground": {"meadow": "grass|meadow", "wheat": "wheat", "snow": "snow", "heather": "heather"}}


def _kinds(factors: Factors, name: str) -> np.ndarray:
    kinds, values = factor(name).kinds, factors.values[name]
    if kinds:
        return np.array(kinds)[values]
    return np.where(values < 1 / 3, "low", np.where(values > 2 / 3, "high", ""))


def _sentence(kinds: dict[str, str], draw: np.random.Generator) -> str:
    """Name each factor with a probability that is itself drawn, so that captions are short or long."""
    share = draw.choice([0.3, 0.6, 0.95])

    def say(name: str, *, chance: float = 1.0) -> str:
        ways = WORDS[name].get(kinds[name])
        return str(draw.choice(ways)) + " " if ways and draw.random() < share * chance else ""

    clauses = [_sky(say), _tree(say), _house(say, draw), _land(say), say("horizon", chance=0.4).strip()]
    clauses = [_article(clause) for clause in clauses if clause]
    if not clauses:
        clauses = [_article(WORDS["sky"][kinds["sky"]][0])]
    draw.shuffle(clauses)
    return str(draw.choice(OPENINGS)) + ", ".join(clauses)


def _sky(say) -> str:  # noqa: ANN001
    orb, heaven = say("orb"), say("sky")
    if orb:
        orb = (say("orb height", chance=0.6) + orb + say("orb side")).strip()
    if heaven:
        heaven = (say("clouds", chance=0.8) + heaven).strip()
    return f"{orb} in {_article(heaven)}" if orb and heaven else orb or heaven


def _tree(say) -> str:  # noqa: ANN001
    tree = say("tree")
    return (say("tree height", chance=0.6) + tree + say("tree side")).strip() if tree else ""


def _house(say, draw: np.random.Generator) -> str:  # noqa: ANN001
    walls, side = say("walls"), say("house side")
    parts = [part.strip() for part in (say("roof"), say("door"), say("windows")) if part]
    if not (walls or parts or side):
        return ""
    house = say("house size", chance=0.6) + walls + "house " + side
    if side and parts and draw.random() < 0.5:
        house = house.replace(side, "") + "with " + " and ".join(parts) + " " + side
        return house.strip()
    return house + ("with " + " and ".join(parts) if parts else "") if parts else house.strip()


def _land(say) -> str:  # noqa: ANN001
    relief, ground = say("relief"), say("ground").strip()
    if relief:
        relief = (say("relief height", chance=0.6) + relief).strip()
    return f"{relief} behind {ground}" if relief and ground else relief or ground


def _article(phrase: str) -> str:
    """Put "a" or "an" before a phrase that counts one thing."""
    first = phrase.split()[0] if phrase else ""
    noun = re.search(r"\b(sun|moon|sky|oak|pine|poplar|house)\b", phrase)
    if first in ("a", "an") or not noun:
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _kind_in(clause: str, thing: str, name: str) -> str | None:
    if thing == "orb" and " in a" in clause:
        clause = clause.split(" in a")[0]
    if thing == "sky" and " in a" in clause:
        clause = clause.split(" in a")[1]
    if thing in ("relief", "ground") and "behind" in clause:
        before, after = clause.split("behind", 1)
        clause = before if thing == "relief" else after
    if thing == "relief":
        clause = clause.replace("snowy mountains", "mountains")
    if name == "walls":
        clause = clause.split("house")[0]
    if name in ("orb height", "tree height", "house size", "relief height"):
        clause = re.split(rf"\b(?:{THINGS[thing]})\b", clause)[0]
    patterns = _COMMON.get(name) or {kind: "|".join(ways) for kind, ways in WORDS[name].items()}
    for kind, pattern in patterns.items():
        if re.search(rf"\b({pattern})\b", clause):
            return kind
    return None
