"""Painted scenes: the drawing, the words, and the share of each cause in the variance."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from atelier.data import scenes
from atelier.data.images import to_unit
from atelier.data.scenes import FACTORS, NAMES, Factors, caption, parse, render, sample
from atelier.data.scenes import captions as wording
from atelier.data.scenes.drawing import _Canvas
from atelier.data.scenes.factors import factor
from atelier.data.scenes.shares import variance_shares

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from shares import CAUSES, pick_freeze, share_of, shares

SEED = 61_000


def levels(factors: Factors, size: int = 64) -> np.ndarray:
    """Pictures as integers (n, 3, size, size), whose differences do not wrap around."""
    return render(factors, size).numpy().astype(int)


# the drawing


def test_drawing_and_words_are_those_that_models_were_trained_on() -> None:
    """Mean colours and one pixel of the scenes with seeds 0 ... 3, and three captions, as first published."""
    pictures = levels(sample(4, 0), 32)
    means = [[185.93, 143.15, 116.32], [148.91, 102.93, 125.53], [210.31, 164.89, 88.54], [119.73, 151.76, 142.83]]
    assert np.abs(pictures.mean((2, 3)) - means).max() < 0.02
    pixels = [[214, 156, 66], [39, 87, 60], [74, 79, 88], [167, 125, 68]]
    assert np.abs(pictures[:, :, 20, 12] - pixels).max() <= 1
    assert caption(sample(3, 0), version=2) == [
        "green hills, a slender poplar, a moon in a pink sky, a house with lit windows",
        "a landscape with low snowy mountains behind a field of heather, a red sun to the right in a cloudy pink sky, "
        "an oak to the right, a big ochre house on the left with a grey roof and a green door and dark windows",
        "a landscape with a high horizon, a golden sky, an ochre house on the left with a blue door",
    ]


def test_the_whole_of_many_pictures_is_as_first_published() -> None:
    """Sums of the pixels of 96 scenes with random signs: a pixel that rounds otherwise elsewhere moves one by 1."""
    pictures = render(sample(96, 0)).flatten().double()
    signs = [np.random.default_rng(i).integers(0, 2, len(pictures)) * 2.0 - 1 for i in range(3)]
    assert [float(pictures @ torch.from_numpy(s)) for s in signs] == pytest.approx([3523, -57439, 75547], abs=60)


def test_a_scene_depends_on_its_seed_and_on_nothing_beside_it() -> None:
    many = sample(150, SEED)
    pictures, sentences = render(many), caption(many, version=2)
    assert pictures.dtype == torch.uint8
    assert torch.equal(pictures, render(sample(150, SEED)))
    for i in (0, 63, 64, 149):
        alone = sample(1, SEED + i)
        assert all(np.array_equal(alone.values[name], many[[i]].values[name]) for name in NAMES)
        assert torch.equal(render(alone)[0], pictures[i])
        assert caption(alone, version=2) == sentences[i : i + 1]
    order = np.random.default_rng(0).permutation(150)
    assert torch.equal(render(many[order]), pictures[torch.from_numpy(order)])
    assert len({picture.numpy().tobytes() for picture in pictures}) == 150


def test_a_scene_at_64_px_is_the_same_scene_as_at_32() -> None:
    """Without texture, whose grain is as fine as the pixels; what remains is antialiasing."""
    factors = sample(40, SEED).replace({"brush": 0.0, "grain": 0.0})
    large, small = render(factors, 64).double(), render(factors, 32).double()
    change = torch.nn.functional.avg_pool2d(large, 2) - small
    assert change.abs().mean() < 0.03 * (small.roll(1, 0) - small).abs().mean()
    assert (change.abs() > 16).double().mean() < 0.015
    assert change.mean((1, 2, 3)).abs().max() < 1.5


def test_rectangles_have_their_area_wherever_they_lie() -> None:
    """One pixel is 1/32: edges are moved by tenths of a pixel."""
    n, size = 200, 32
    rng = np.random.default_rng(0)
    left, top = rng.uniform(0.1, 0.4, (2, n, 1, 1))
    wide, high = rng.uniform(1 / size, 0.4, (2, n, 1, 1))
    area = canvas(n, size).rectangle(left, left + wide, top, top + high).sum((1, 2))
    assert np.allclose(area, (wide * high).ravel() * size**2, rtol=1e-5)
    more = canvas(n, size).rectangle(left, left + wide + 0.1 / size, top, top + high).sum((1, 2))
    assert np.allclose(more - area, 0.1 * high.ravel() * size, atol=1e-4)


def test_disks_have_their_area_to_a_fraction_of_a_pixel() -> None:
    """A soft edge one pixel wide adds pi/12 of a pixel to a disk, whatever its radius."""
    n, size = 400, 32
    x, y = np.random.default_rng(1).uniform(0.3, 0.7, (2, n, 1, 1))
    c = canvas(n, size)
    distance = np.hypot(c.x - x, c.y - y)
    for radius in (2.7, 2.8, 6.0):  # in pixels
        area = c.cover(radius / size - distance).sum((1, 2))
        assert abs(area.mean() - math.pi * (radius**2 + 1 / 12)) < 0.05
        assert area.std() < 0.2


def canvas(n: int, size: int) -> _Canvas:
    centre = (np.arange(size) + 0.5) / size
    return _Canvas(np.zeros((n, 3, size, size)), centre[None, None, :], centre[None, :, None])


def test_the_horizon_moves_by_tenths_of_a_pixel() -> None:
    """Snow instead of heather changes the ground alone, so the difference is the ground's cover times a colour."""
    size, steps = 32, 11
    heights = 0.3 + np.arange(steps) * 0.1 / size / 0.17
    scene = sample(1, SEED)[[0] * steps].replace(
        {"sky": "indigo", "tree side": "right", "house side": "right", "brush": 0, "grain": 0, "horizon": heights}
    )
    light, dark = (levels(scene.replace({"ground": kind}), size)[:, 0, :, :6] for kind in ("snow", "heather"))
    change = (light - dark).mean(2)
    horizon = (0.5 + 0.17 * heights) * size
    for row, edge in zip(change, horizon):
        i = int(edge)
        assert row[i] / row[i + 1] == pytest.approx(i + 1 - edge, abs=0.06)
        assert np.abs(row[:i]).max() == 0 and row[i + 1 : i + 4].min() > 40


def regions(factors: Factors) -> dict[str, np.ndarray]:
    """Where each categorical factor may change a 64 px picture, boolean (n, 64, 64)."""
    v = {name: value.reshape(-1, 1, 1) for name, value in factors.values.items()}
    x, y = (np.arange(64)[None, None, :] + 0.5) / 64, (np.arange(64)[None, :, None] + 0.5) / 64
    horizon, pixel = 0.5 + 0.17 * v["horizon"], 1 / 64

    def box(centre: np.ndarray | float, wide: np.ndarray | float, top: float, bottom: float) -> np.ndarray:
        return (np.abs(x - centre) < wide) & (y > horizon + top) & (y < horizon + bottom)

    def at(name: str, left: float) -> np.ndarray:
        return np.where(v[name] == 0, left, 1 - left)

    tree, house, half = at("tree side", 0.15), at("house side", 0.39), 0.10 + 0.065 * v["house size"]
    orb = np.hypot(x - at("orb side", 0.28), y - (0.26 - 0.15 * v["orb height"]))
    above, on_house, on_tree = y < horizon + pixel, box(house, 0.22, -0.17, 0.22), box(tree, 0.22, -0.42, 0.18)
    return {
        "sky": y > -1,
        "ground": y > horizon - pixel,
        "relief": above & (y > horizon - 0.36),
        "orb": above & (orb < 0.5),
        "orb side": above | on_tree,  # the tree's lit side turns with it
        "clouds": y < 0.9 * horizon,
        "tree": on_tree,
        "tree side": box(0.15, 0.22, -0.42, 0.18) | box(0.85, 0.22, -0.42, 0.18),
        "house side": box(0.39, 0.22, -0.17, 0.22) | box(0.61, 0.22, -0.17, 0.22),
        "walls": on_house,
        "roof": on_house,
        "door": box(house, 0.17 * half + 0.04, 0.03, 0.22),
        "windows": box(house, 0.79 * half + 0.04, 0.0, 0.17),
    }


# the least share of a picture that every change of kind alters by more than 10 levels
CHANGED = {
    "sky": 0.5, "ground": 0.25, "relief": 0.025, "orb": 0.02, "orb side": 0.1, "clouds": 0.08, "tree": 0.015,
    "tree side": 0.04, "house side": 0.06, "walls": 0.015, "roof": 0.012, "door": 0.002, "windows": 0.004,
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in FACTORS if f.kinds])
def test_a_categorical_factor_changes_its_own_place_and_no_other(name: str) -> None:
    factors = sample(12, SEED)
    region = regions(factors)[name]
    pictures = [levels(factors.replace({name: kind})) for kind in factor(name).kinds]
    for one, other in zip(pictures, pictures[1:] + pictures[:1]):
        change = np.abs(one - other).max(1)
        assert (change > 10).mean((1, 2)).min() > CHANGED[name]
        assert np.where(region, 0, change).max() <= 2  # the glow of sun and moon fades, it does not end


@pytest.mark.parametrize("name", [f.name for f in FACTORS if not f.kinds])
def test_a_continuous_factor_changes_the_picture(name: str) -> None:
    factors = sample(12, SEED)
    low, high = (levels(factors.replace({name: value})) for value in (0.0, 1.0))
    assert np.abs(high - low).max((1, 2, 3)).min() > 5


def test_drawing_errors() -> None:
    factors = sample(2, SEED)
    with pytest.raises(ValueError, match="at least 16 pixels a side, got 8"):
        render(factors, 8)
    assert render(sample(0)).shape == (0, 3, 32, 32) and caption(sample(0)) == []


# the factors


def test_factors_are_independent_and_uniform() -> None:
    table = np.stack(list(sample(4000, SEED).values.values()), axis=1).astype(float)
    correlation = np.corrcoef(table.T) - np.eye(len(NAMES))
    assert np.abs(correlation).max() < 4.5 / math.sqrt(4000)
    for f, values in zip(FACTORS, table.T):
        counts = np.bincount(values.astype(int) if f.kinds else (10 * values).astype(int))
        expected = 4000 / (len(f.kinds) or 10)
        assert ((counts - expected) ** 2 / expected).sum() < 30 and len(counts) == (len(f.kinds) or 10)


def test_replacing_sets_what_it_names_and_leaves_the_rest() -> None:
    factors = sample(30, SEED)
    new = factors.replace({"sky": "pink", "horizon": "high", "brush": 0.25, "tree": np.arange(30) % 3})
    assert (new.values["sky"] == 2).all() and (new.values["brush"] == 0.25).all()
    assert (new.values["horizon"] > 2 / 3).all() and np.ptp(new.values["horizon"]) > 0.2
    same = [name for name in NAMES if np.array_equal(new.values[name], factors.values[name])]
    assert set(NAMES) - set(same) == {"sky", "horizon", "brush", "tree"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weather": 1}, "scenes have no factor 'weather': sky, ground"),
        ({"sky": "green"}, "sky has no kind 'green': blue, golden, pink, indigo"),
        ({"brush": "rough"}, "brush has no kind 'rough': low, high"),
        ({"sky": 4}, "sky takes the indices 0 ... 3, got 4"),
        ({"sky": 0.5}, "sky takes the indices 0 ... 3, got 0.5"),
        ({"brush": 1.5}, "brush takes numbers from 0 to 1, got 1.5"),
        ({"brush": math.nan}, "brush takes numbers from 0 to 1, got nan"),
        ({"brush": np.zeros(3)}, r"brush of 2 scenes takes one value or an array \(2,\), got shape \(3,\)"),
    ],
)
def test_replacing_errors(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(2).replace(values)


# the words


def test_captions_name_only_what_is_true_and_are_read_back_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, str]] = []
    say, sentence = wording._Voice.say, wording._sentence

    def noting(voice: wording._Voice, name: str, *, chance: float = 1.0) -> str:
        words = say(voice, name, chance=chance)
        if words:
            said[-1][name] = voice.kinds[name]
        return words

    def starting(kinds: dict[str, str], draw: np.random.Generator) -> str:
        said.append({})
        words = sentence(kinds, draw)
        said[-1] = said[-1] or {"sky": kinds["sky"]}  # a caption that names nothing else names the sky
        return words

    monkeypatch.setattr(wording._Voice, "say", noting)
    monkeypatch.setattr(wording, "_sentence", starting)
    factors = sample(10_000, SEED)
    sentences = caption(factors)
    truth = {name: wording.kinds(factors, name) for name in NAMES}
    named: dict[str, Counter[str]] = defaultdict(Counter)
    for i, (text, expected) in enumerate(zip(sentences, said)):
        found = parse(text)
        assert found == expected, text
        for name, kind in found.items():
            assert truth[name][i] == kind, text
            named[name][kind] += 1
    for f in FACTORS:
        assert set(named[f.name]) == (set() if f.name in ("brush", "grain") else set(f.kinds or ("low", "high")))
        assert all(count > 300 for count in named[f.name].values())
    counts = [len(x) for x in said]
    assert min(counts) == 1 and max(counts) >= 14


def phrase(name: str) -> str:
    """Any of the words for one factor, as part of a regular expression."""
    return f"(?:{'|'.join(way for ways in wording.WORDS[name].values() for way in ways)})"


def test_the_parts_of_a_caption_stand_in_the_order_of_speech() -> None:
    orb = f"((an? )?({phrase('orb height')} )?{phrase('orb')}( {phrase('orb side')})?)"
    sky = f"(an? ({phrase('clouds')} )?{phrase('sky')})"
    parts = f"with {phrase('roof')}?( and )?{phrase('door')}?( and )?{phrase('windows')}?"
    beside = f"( {phrase('house side')}( {parts})?|( {parts})( {phrase('house side')})?)?"
    patterns = {
        "sky": f"{orb} in {sky}|{orb}|{sky}",
        "tree": f"an? ({phrase('tree height')} )?{phrase('tree')}( {phrase('tree side')})?",
        "house": f"an? ({phrase('house size')} )?({phrase('walls')} )?house{beside}",
        "land": f"({phrase('relief height')} )?{phrase('relief')}( behind {phrase('ground')})?|{phrase('ground')}",
        "horizon": phrase("horizon"),
    }
    seen, opened, said = Counter(), Counter(), caption(sample(3000, SEED))
    for text in said:
        opening = next(filter(text.startswith, filter(None, wording.OPENINGS)), "")
        opened[opening] += 1
        for clause in text.removeprefix(opening).split(", "):
            [kind] = [kind for kind, pattern in patterns.items() if re.fullmatch(pattern, clause)]
            seen[kind] += 1
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", clause), clause
    assert min(seen.values()) > 500
    assert opened[""] / 3000 == pytest.approx(0.4, abs=0.04) and len(opened) == 4
    side = phrase("house side")
    sides = re.findall(f"house {side} with|house with [a-z ]+ {side}", "\n".join(said))
    assert sum(one.startswith("house with") for one in sides) / len(sides) == pytest.approx(0.5, abs=0.07)


def test_captions_are_worded_differently() -> None:
    factors = sample(200, SEED)
    first, second = caption(factors), caption(factors, version=1)
    assert sum(a != b for a, b in zip(first, second)) > 190


def test_every_way_of_saying_is_used_and_understood() -> None:
    text = " , ".join(caption(sample(3000, SEED)))
    ways = {way for kinds in wording.WORDS.values() for ways in kinds.values() for way in ways}
    assert [way for way in sorted(ways) if way not in text] == []


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            "a pine tree on the left and a white house under a pink sky with a moon on the right",
            {"tree": "pine", "tree side": "left", "walls": "white", "sky": "pink", "orb": "moon", "orb side": "right"},
        ),
        (
            "a tall tree on the left and a brick house on the right",
            {"tree height": "high", "tree side": "left", "walls": "brick", "house side": "right"},
        ),
        ("a house with a red roof, at night", {"roof": "red"}),
        ("on the left, a pine; on the right, a house", {"tree": "pine", "tree side": "left", "house side": "right"}),
        ("On the left an oak and on the right a house!", {"tree": "oak", "tree side": "left", "house side": "right"}),
        ("the sky is pink, the roof is red and the door is green", {"sky": "pink", "roof": "red", "door": "green"}),
        (
            "a bright red sun low over the snowy mountains",
            {"orb": "red sun", "orb height": "low", "relief": "mountains"},
        ),
        ("a small, white cottage with no windows", {"walls": "white", "house size": "low"}),
        (
            "a moon high in an indigo sky on the right",
            {"orb": "moon", "orb height": "high", "sky": "indigo", "orb side": "right"},
        ),
        ("snow-capped hills, without snow", {"relief": "hills"}),
        ("a pine, no house on the left", {"tree": "pine"}),
        ("a poplar to the left of a brick house", {"tree": "poplar", "tree side": "left", "walls": "brick"}),
        ("a house with blue walls and bright windows", {"walls": "blue", "windows": "lit"}),
        ("wheat fields under clouds", {"ground": "wheat", "clouds": "cloudy"}),
        ("a pine left house right", {"tree": "pine", "tree side": "left", "house side": "right"}),
        ("on the left the sky is blue", {"sky": "blue"}),
        ("no pine on the left house", {}),
        ("a ship at sea", {}),
        ("", {}),
    ],
)
def test_prompts_that_a_reader_types(prompt: str, expected: dict[str, str]) -> None:
    assert parse(prompt) == expected


def test_a_prompt_becomes_a_condition() -> None:
    """Scenes given a caption: what it names is set, its truth is kept, everything else is left to chance."""
    prompt = "a low moon on the left in a cloudy pink sky, a tall pine, a big house with a thatched roof"
    factors = sample(100, SEED)
    given = factors.replace(parse(prompt))
    for name in NAMES:
        if name in parse(prompt):
            assert set(wording.kinds(given, name)) == {parse(prompt)[name]}
        else:
            assert np.array_equal(given.values[name], factors.values[name])


# the shares of the variance


def swapped(a: Tensor, b: Tensor, columns: list[int]) -> Tensor:
    mixed = a.clone()
    mixed[:, columns] = b[:, columns]
    return mixed


def ishigami(z: Tensor) -> Tensor:
    return (z[:, 0].sin() + 7 * z[:, 1].sin() ** 2 + 0.1 * z[:, 2] ** 4 * z[:, 0].sin())[:, None]


def test_estimators_on_the_ishigami_function() -> None:
    """Its indices are known: with a = 7, b = 0.1, all on [-pi, pi]."""
    pi = math.pi
    v1, v2, v13 = 0.5 * (1 + 0.1 * pi**4 / 5) ** 2, 49 / 8, 0.01 * pi**8 * (1 / 18 - 1 / 50)
    v = v1 + v2 + v13
    generator = torch.Generator().manual_seed(0)
    a, b = ((torch.rand(20_000, 3, generator=generator, dtype=torch.float64) * 2 - 1) * pi for _ in range(2))
    for columns, total in {(0,): v1 + v13, (1,): v2, (2,): v13, (0, 2): v1 + v13}.items():
        share = share_of(pick_freeze(ishigami(a), ishigami(b), ishigami(swapped(a, b, [*columns]))))
        assert abs(share.total - total / v) < 4 * share.total_error and 0 < share.total_error < 0.02


def test_standard_errors_are_the_spread_of_repeated_runs() -> None:
    """A vector-valued additive function with shares 0.8, 0.2: errors are as large as stated."""
    weights = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.6, 0.8]], dtype=torch.float64)
    estimates = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        a, b = (torch.randn(100, 2, generator=generator, dtype=torch.float64) for _ in range(2))
        estimates.append(share_of(pick_freeze(a @ weights, b @ weights, swapped(a, b, [1]) @ weights)))
    values, stated = (torch.tensor([getattr(e, key) for e in estimates]) for key in ("total", "total_error"))
    assert abs(values.mean() - 0.2) < 4 * values.std() / 200**0.5 + 0.002
    assert 0.8 < float(stated.mean() / values.std()) < 1.25


def test_committed_shares_agree_with_new_scenes() -> None:
    committed, n = variance_shares(), 150
    a, b = sample(n, 200_000), sample(n, 200_000 + n)
    f_a, f_b = to_unit(render(a)), to_unit(render(b))
    for cause in ("sky", "ground", "horizon", "tree side", "door", "brush", "grain", "hand"):
        own = {cause: b.values[cause]} if cause in NAMES else {}
        mixed = Factors(a.values | own, b.seeds if cause == "hand" else a.seeds)
        new, old = share_of(pick_freeze(f_a, f_b, to_unit(render(mixed)))), committed[cause]
        assert abs(new.total - old.total) < 4 * math.hypot(new.total_error, old.total_error), cause


def test_committed_shares_keep_the_bounds() -> None:
    share = variance_shares()
    assert list(share) == [*CAUSES]
    error = math.hypot(*(s.total_error for s in share.values()))
    assert 1 - 4 * error < sum(s.total for s in share.values()) < 1.5


def test_shares_span_three_orders_of_magnitude() -> None:
    totals = [variance_shares()[name].total for name in NAMES]
    assert max(totals) > 1000 * min(totals) > 0
    assert all(variance_shares()[name].total > 5 * variance_shares()[name].total_error for name in CAUSES)


def test_shares_measure_what_they_name() -> None:
    small = shares(20, 200_000, 16)
    assert list(small) == [*CAUSES]
    a, b = sample(20, 200_000), sample(20, 200_020)
    mixtures = {"sky": a.replace({"sky": b.values["sky"]}), "hand": Factors(a.values, b.seeds)}
    f_a, f_b = (to_unit(render(x, 16)) for x in (a, b))
    for name, mixed in mixtures.items():
        change = to_unit(render(mixed, 16)) - f_a
        assert small[name].total == pytest.approx(float(change.square().sum() / (f_b - f_a).square().sum()))


def test_the_data_set_is_the_stated_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "TRAIN_SEEDS", range(5, 12))
    monkeypatch.setattr(scenes, "TEST_SEEDS", range(50, 53))
    data = scenes.dataset(32)
    assert torch.equal(data.train, render(sample(7, 5))) and torch.equal(data.test, render(sample(3, 50)))
