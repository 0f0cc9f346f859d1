"""The panel of knobs, driven without a browser: what it shows is what the grid of kicks paints."""

import asyncio
import re
import time

import pytest
import torch

from atelier.pages import live
from atelier.subject import Subject, subject
from atelier.variations import grid
from painters import Gaussian, Levels, noise, solve
from painters.levels import vp_linear


def world():
    """A subject without a network or a reader: the exact Gaussian of 3 x 4 x 4 pictures."""
    generator = torch.Generator().manual_seed(0)
    U = torch.linalg.qr(torch.randn(48, 48, generator=generator, dtype=torch.float64)).Q
    g = Gaussian(torch.zeros(48, dtype=torch.float64), U[:, :40].contiguous(), torch.logspace(1, -3, 40).double(), 1e-3)
    return Subject(
        "world", g, g, (3, 4, 4), lambda n, **how: Levels.of(vp_linear(), n, **how), lambda x: x.clamp(-1, 1) / 2 + 0.5
    )


@pytest.fixture(scope="module")
def scenes():
    found = subject("scenes-ddpm", device="cpu")
    return live.Easel(found, live.directions(found, pcs=2, n=1000), steps=10)


def easel(**options):
    it = world()
    return live.Easel(it, live.directions(it, pcs=3), steps=10, **options)


def shown(panel):
    """The two pictures, as the browser gets them."""
    return re.findall(r"base64,([^\"]+)", panel.pictures.value)


@pytest.mark.parametrize("name", ["PC 2", "orb: moon"])
def test_a_changed_knob_shows_the_picture_of_the_grid(scenes, name):
    panel = live.Panel(scenes, seed=3)
    first = shown(panel)
    panel.direction.value, panel.step.value = name, 4
    panel.size.value = -4.5
    level, it = scenes.levels[4], scenes.subject
    kick = live.push(it.gaussian, scenes.directions[name], level, 1.0).reshape(it.shape)
    run = solve(it.denoise, scenes.levels.start(noise([3], it.shape)), scenes.levels, solver="dpmpp2m", progress=False)
    sizes = [0.0, -4.5 * float(kick.norm())]
    wanted = grid(it.denoise, run, kick / kick.norm(), steps=[4], sizes=sizes, levels=scenes.levels)[0]
    view = scenes.turn(3, name, 4, -4.5)
    torch.testing.assert_close(view.state, wanted[1], rtol=0, atol=2e-4)
    torch.testing.assert_close(view.original, it.decode(wanted[:1])[0], rtol=0, atol=2e-4)
    assert live._figure(view.picture, "after the kick") in panel.pictures.value and shown(panel)[1] != first[1]
    assert f"moved by {view.moved:.2f}" in panel.words.value and view.moved > 0.05


def test_a_kick_of_no_size_changes_nothing_and_says_so(scenes):
    panel = live.Panel(scenes)
    panel.size.value = 0.0
    before, after = shown(panel)
    assert before == after and "moved by 0.00" in panel.words.value and "No named factor changed" in panel.words.value


def test_a_named_knob_moves_the_named_thing(scenes):
    """Over seeds, the kind that a knob is named after becomes more likely, and less likely the other way."""
    it, levels, ruler = scenes.subject, scenes.levels, scenes.ruler
    x = levels.start(noise(range(4), it.shape))
    for name, factor, kind in (("orb: moon", "orb", 2), ("windows: lit", "windows", 1)):
        push = live.push(it.gaussian, scenes.directions[name], levels[0], 4.0).reshape(it.shape)
        ends = [
            solve(it.denoise, (x + sign * push).float(), levels, solver="dpmpp2m", progress=False).final
            for sign in (-1, 1)
        ]
        less, more = (ruler.path(ruler.answers(end), factor)[:, kind].mean() for end in ends)
        assert more - less > 0.3, name


def test_what_changed_is_named_largest_first(scenes):
    view = scenes.turn(1, "orb: moon", 0, 6.0)
    assert view.changes and [row[3] for row in view.changes] == sorted((row[3] for row in view.changes), reverse=True)
    answers = [scenes.ruler.answers(s) for s in (scenes.resumed(1, 0), view.state[None])]
    lost = {f for f, same in zip(scenes.ruler.names, scenes.ruler.kept(*answers)[0]) if not same}
    assert {row[0] for row in view.changes} == lost
    orb = next(f for f in scenes.ruler.factors if f.name == "orb")
    for name, old, new, _ in view.changes:
        assert old != new and f"{name}: {old} to {new}" in view.text()
        if name == "orb":
            assert {old, new} <= set(orb.kinds)


def test_a_push_is_as_long_as_it_says_in_standard_deviations():
    g, level = world().gaussian, (0.6, 0.8)
    cov = 0.36 * (g.U @ torch.diag(g.lam) @ g.U.T + g.rest * (torch.eye(48).double() - g.U @ g.U.T))
    for w in (g.U[:, 1], torch.nn.functional.normalize(torch.arange(48).double(), dim=0)):
        e = live.push(g, w, level, -2.0)
        assert float(e @ torch.linalg.solve(cov + 0.64 * torch.eye(48).double(), e)) == pytest.approx(4.0)
        moved = g.flow((e + 0.6 * g.mu)[None], frm=level)[0] - g.mu
        torch.testing.assert_close(moved, -2 * (g.sample(w[None])[0] - g.mu))  # at every level the same


def test_the_direction_towards_a_factor_is_the_best_kick():
    """No kick of the same length in standard deviations moves the affine estimate further, and it moves it up."""
    U = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    g = Gaussian(torch.ones(7).double(), U, torch.linspace(1, 2, 7).double() ** 2)
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        c = U @ torch.randn(7, generator=generator, dtype=torch.float64)
        reads = U @ ((U.T @ c) / g.lam)  # f_hat = const + reads . x_0

        def effect(w, reads=reads):
            moved = g.flow((live.push(g, w, (0.6, 0.8), 2.0) + 0.6 * g.mu)[None], frm=(0.6, 0.8))[0] - g.mu
            return float(reads @ moved)

        best = effect(live._towards(g, c))
        assert best == pytest.approx(2 * float((c @ reads).sqrt()), rel=1e-2)
        others = torch.randn(200, 7, generator=generator, dtype=torch.float64)
        assert max(effect(w / w.norm()) for w in others) < best


def test_a_burst_paints_once_and_the_last_wins():
    box = easel()
    panel, calls = live.Panel(box, delay=0.05), []
    turn = box.turn
    box.turn = lambda *setting: calls.append(setting) or turn(*setting)

    async def burst():
        for size in (1.0, -2.0, 4.5):
            panel.size.value = size
            await asyncio.sleep(0.01)
        panel.seed.value = 5
        assert calls == []
        await asyncio.sleep(0.2)

    asyncio.run(burst())
    assert calls == [(5, "PC 1", 0, 4.5)]
    assert live._figure(turn(5, "PC 1", 0, 4.5).picture, "after the kick") in panel.pictures.value


def test_an_error_is_shown_in_one_sentence_and_not_swallowed():
    box = easel()
    panel = live.Panel(box)
    turn = box.turn

    def fails(*_):
        raise RuntimeError("out of <paint>\nand a long story")

    box.turn = fails
    with pytest.raises(RuntimeError, match="out of"):
        panel.size.value = 1.0
    assert 'role="alert"' in panel.message.value and "out of &lt;paint&gt;." in panel.message.value
    assert "long story" not in panel.message.value
    caught = []

    async def later():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: caught.append(context["exception"]))
        panel.size.value = 2.0
        await asyncio.sleep(0.3)

    asyncio.run(later())
    assert [type(error) for error in caught] == [RuntimeError]
    box.turn = turn
    panel.size.value = 3.0
    assert panel.message.value == ""


def test_wrong_settings_are_refused():
    box = easel()
    for setting, said in (((0, "PC 9", 0, 1.0), "no direction"), ((0, "PC 1", 10, 1.0), "no step 10")):
        with pytest.raises(ValueError, match=said):
            box.turn(*setting)
    with pytest.raises(ValueError, match="number"):
        box.turn(0, "PC 1", 0, float("nan"))


def test_without_a_reader_there_are_components_only_and_no_names():
    box = easel()
    assert list(box.directions) == ["PC 1", "PC 2", "PC 3"] and box.turn(0, "PC 1", 3, 2.0).changes is None
    moved = box.turn(0, "PC 1", 3, 2.0).state - box.resumed(0, 3)[0]
    g = box.subject.gaussian
    assert float(moved.flatten() @ g.U[:, 0].float()) == pytest.approx(2 * float(g.lam[0].sqrt()), rel=0.1)


def test_runs_are_remembered(scenes):
    panel = live.Panel(scenes, seed=17)
    hits = scenes.run.cache_info().misses
    panel.size.value = 1.0
    panel.direction.value = "PC 2"
    assert scenes.run.cache_info().misses == hits
    began = time.process_time()
    scenes.turn(17, "PC 2", 0, 2.0)
    assert time.process_time() - began < 5


def test_only_widgets_that_old_colab_has():
    panel = live.Panel(easel())
    names = {type(child).__name__ for child in panel.children}
    assert names == {"BoundedIntText", "Dropdown", "SelectionSlider", "FloatSlider", "HTML"}
    assert all('alt="the picture, ' in part for part in re.findall("<img[^>]*>", panel.pictures.value))
