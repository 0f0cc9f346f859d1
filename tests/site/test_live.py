"""The live page: its theory and networks against painters, its controls, and what it loads when."""

import itertools
import json

import live
import numpy as np
import pytest
import torch
from live import PCS, shortened

import painters
from painters import Levels, noise, solve
from painters.levels import CLEAN
from painters.sampling import paint_on
from painters.sampling.noise import RANDOM
from painters.schedules import edm, vp_linear

pytestmark = pytest.mark.browser
STEPS = 20
SHAPES = {"fashion-ddpm": (1, 28, 28), "scenes-sd": (8, 8, 8)}

THEORY = """async ([name, pcs, schedule, seed, at, length]) => {
  const theory = await import("/_static/live/theory.js");
  const facts = await (await fetch(`/_static/live/${name}.json`)).json();
  const whole = theory.Gaussian.read(await (await fetch(`/_static/live/${facts.numbers}`)).arrayBuffer(), facts);
  const levels = theory.levels(schedule, 20);
  const x = theory.scaled(theory.noise(seed, facts.dim), theory.size(levels[0]));
  const gaussian = whole.first(pcs);
  const base = gaussian.paint(x, levels);
  const kicked = theory.plus(base.states[at], whole.rows[0], length * theory.size(levels[at]));
  const numbers = ({states, estimates}) => [states.map(s => [...s]), estimates.map(s => [...s])];
  return {base: numbers(base), kicked: numbers(gaussian.paint(kicked, levels, at)),
          clocks: levels.map(level => [...gaussian.lam].map(lam => theory.emergence(lam, level))),
          standing: levels.map(level => gaussian.standing(level))};
}"""

PICTURE = """() => live.scenes.then(async instrument => {
  const frame = instrument.runs.network.base[20];
  return [[...frame.state], [...(await instrument.picture(frame)).values]];
})"""

RUNS = """id => live[id].then(instrument => {
  const frames = list => [list.map(f => [...f.state]), list.map(f => [...f.estimate])];
  const {base, kicked} = instrument.runs.network;
  return {base: frames(base), kicked: frames(kicked)};
})"""


def error(got, want) -> float:
    """The relative norm of a difference."""
    got, want = np.asarray(got, dtype=float).ravel(), np.asarray(want, dtype=float).ravel()
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def levels_of(schedule: str) -> Levels:
    """The levels of the page, made by painters."""
    if schedule == "flow":
        sigma = 0.99 * torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)
        return Levels(1 - sigma, sigma)
    return Levels.of({"vp-linear": vp_linear(), "edm": edm(sigma_min=0.01)}[schedule], STEPS)


@pytest.fixture(scope="module")
def models():
    return {name: painters.load(name, device="cpu", dtype=torch.float32) for name in SHAPES}


@pytest.fixture(autouse=True)
def page_is_there(site):
    if not (site / "book" / "live.html").exists():
        pytest.skip("the site has no live page; run make book")


@pytest.fixture
def view(fresh_page):
    """The page with both instruments ready."""
    view = fresh_page("live")
    for form in ("clothes", "scenes"):
        view.wait_for_selector(f"#live-{form}:not([hidden])")
    view.evaluate("live.clothes.then(instrument => instrument.draw())")
    yield view
    assert view.problems == []


def put(view, form: str, name: str, value) -> None:
    """Move a control as a reader does: its value, then the event."""
    view.eval_on_selector(
        f"#live-{form} [name={name}]",
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('input', {bubbles: true})); }",
        str(value),
    )
    view.evaluate(f"live.{form}.then(instrument => instrument.draw())")


def pictures(view, form: str = "clothes", row: str = "theory") -> list[str]:
    view.evaluate(f"live.{form}.then(instrument => instrument.draw())")
    return view.eval_on_selector_all(
        f"#live-{form} canvas[data-row={row}], #live-{form} .live-pad", "all => all.map(c => c.toDataURL())"
    )


def paint(view, form: str) -> None:
    """Load the networks of an instrument and wait until both runs are done."""
    view.click(f"#live-{form} [name=load]")
    rest(view, form)


REST = """async form => {
  const instrument = await live[form];
  const painted = ({base, kicked}) => base !== kicked && base.length === 21 && kicked.length === 21;
  const done = () => painted(instrument.runs.network) && !instrument.form.classList.contains("live-stale");
  for (let i = 0; !(instrument.runs.network && done()); i++) {
    if (i > 1200) throw new Error("the network did not finish in two minutes");
    await new Promise(wake => setTimeout(wake, 100));
  }
}"""


def rest(view, form: str) -> None:
    """Wait until an instrument has painted what its controls say."""
    view.evaluate(REST, form)


@pytest.mark.parametrize("seed", [0, 7, RANDOM, 2**31 - 1])
@pytest.mark.parametrize("name", SHAPES)
def test_a_seed_is_the_noise_of_painters(view, name, seed):
    shape = SHAPES[name]
    got = view.evaluate(
        "async ([seed, n]) => [...(await import('/_static/live/theory.js')).noise(seed, n)]",
        [seed, int(np.prod(shape))],
    )
    assert np.abs(np.array(got) - noise([seed], shape).flatten().numpy()).max() < 1e-5


@pytest.mark.parametrize("schedule", ["vp-linear", "edm", "flow"])
@pytest.mark.parametrize("pcs", [PCS, 10, 0])
def test_the_theory_is_that_of_painters(view, models, pcs, schedule):
    """All states and estimates, unkicked and kicked, against the bundled moments, not the rounded ones of the page."""
    moments, levels, at = shortened(models["fashion-ddpm"].moments, pcs), levels_of(schedule), 5
    got = view.evaluate(THEORY, ["fashion-ddpm", pcs, schedule, 3, at, -2])
    x = levels.start(noise([3], (1, 28, 28), dtype=torch.float64))
    base = moments.trajectory(x, levels)
    push = -2 * float(torch.hypot(levels.alpha[at], levels.sigma[at]))
    first = models["fashion-ddpm"].moments.U[:, 0].reshape(1, 1, 28, 28)
    kicked = moments.trajectory(base.x[at] + push * first, levels[at:])
    for name, want in (("base", base), ("kicked", kicked)):
        states, estimates = got[name]
        assert max(error(a, b) for a, b in zip(states, want.x, strict=True)) < 1e-5
        assert max(error(a, b) for a, b in zip(estimates[:-1], want.x0, strict=True)) < 1e-5
    for level, clocks, standing in zip(levels, got["clocks"], got["standing"], strict=True):
        emerged = painters.theory.gaussian.emergence(moments.lam, level)
        assert np.abs(np.array(clocks) - emerged.numpy()).max(initial=0) < 1e-5
        spectrum = moments.spectrum
        share = (spectrum * painters.theory.gaussian.emergence(spectrum, level)).sum() / spectrum.sum()
        assert standing == pytest.approx(float(share), abs=1e-5)


def test_the_theory_of_latents_is_that_of_painters(view, models):
    model = models["scenes-sd"]
    got = view.evaluate(THEORY, ["scenes-sd", PCS, "scaled-linear", 1, 4, 0])
    levels = model.levels(STEPS)
    x = levels.start(noise([1], model.shape, dtype=torch.float64))
    assert error(got["base"][0][-1], shortened(model.moments, PCS).flow(x, frm=levels[0], to=CLEAN)) < 1e-5


def test_no_control_of_the_theory_does_nothing(view):
    """Each control changes a picture or the words under it, and nothing of the networks has been asked for."""
    moves = {
        "seed": 4,
        "schedule": "edm",
        "pcs": 5,
        "direction": "random",
        "at": 2,
        "strength": 3,
        "step": 7,
    }
    for name, value in moves.items():
        before = pictures(view)
        put(view, "clothes", name, value)
        assert pictures(view) != before, name
    assert "step 7" in view.get_attribute("#live-clothes [data-shows=estimate]", "aria-label")
    assert "At step 7" in view.inner_text("#live-clothes [name=now]")
    loaded = view.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert not [name for name in loaded if "/ort/" in name or name.endswith(".onnx")]
    for name, value in {"at": 9, "strength": -2, "direction": "5", "seed": 8, "step": 3}.items():
        before = pictures(view, "scenes")
        put(view, "scenes", name, value)
        assert pictures(view, "scenes") != before, name


def grey(view, selector: str) -> np.ndarray:
    """The red, green and blue of a canvas, (height, width, 3)."""
    data = view.eval_on_selector(
        selector,
        "c => [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]",
    )
    return np.array(data[2:], dtype=float).reshape(data[0], data[1], 4)[..., :3]


def test_the_first_kick_is_seen_and_every_step_is_shown(view):
    """The two ends differ to the eye, a film has a picture for each step, and pressing one of them shows it."""
    kicked, end = (grey(view, f"#live-clothes [data-row=theory][data-shows={shows}]") for shows in ("kicked", "end"))
    assert np.abs(kicked - end).mean() > 20  # of 255
    film = grey(view, "#live-clothes .live-film [data-row=theory]")
    assert film.shape == (28, 21 * 28, 3)
    frames = np.split(film, 21, axis=1)
    assert all(np.abs(a - b).max() > 0 for a, b in itertools.pairwise(frames))
    strip = view.locator("#live-clothes .live-film [data-row=theory]")
    box = strip.bounding_box()
    strip.click(position={"x": box["width"] * 16.5 / 21, "y": box["height"] / 2})
    assert view.input_value("#live-clothes [name=step]") == "16"
    view.wait_for_function("document.querySelector('#live-clothes [name=now]').textContent.includes('step 16')")
    shown = grey(view, "#live-clothes [data-row=theory][data-shows=estimate]")
    assert np.abs(shown - frames[16]).max() <= 1


def test_what_no_caption_had_is_named_as_it_is_typed(view):
    """Before any network is there, and so that the word can be changed."""
    view.fill("#live-scenes [name=prompt]", "a dragon by the house")
    assert "“dragon”" in view.inner_text("#live-scenes [name=problem]")
    view.fill("#live-scenes [name=prompt]", "a house")
    assert not view.inner_text("#live-scenes [name=problem]")


def test_strokes_are_drawn_by_pointer_and_by_keyboard_and_cleared(view):
    clean = pictures(view)
    pad = view.locator("#live-clothes .live-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    view.mouse.move(box["x"] + 40, box["y"] + 40)
    view.mouse.down()
    view.mouse.move(box["x"] + 90, box["y"] + 60, steps=5)
    view.mouse.up()
    drawn = pictures(view)
    assert drawn != clean
    seen = grey(view, "#live-clothes .live-pad")
    colour = np.ptp(seen, axis=2)
    assert colour.max() > 60 and (colour > 40).sum() > 20  # strokes are coloured, the noise is grey
    assert colour[:2].max() <= 4
    pad.focus()
    view.select_option("#live-clothes [name=brush]", "dark")
    pad.focus()
    for key in ("ArrowRight", "ArrowDown", "Space"):
        view.keyboard.press(key)
    assert pictures(view) != drawn
    view.click("#live-clothes [name=clear]")
    assert pictures(view) == clean


def test_play_ends_at_the_picture_and_spares_who_asks_for_less_motion(view):
    view.emulate_media(reduced_motion="reduce")
    put(view, "clothes", "step", 3)
    view.click("#live-clothes [name=play]")
    view.wait_for_function("document.querySelector('#live-clothes [name=step]').value === '20'", timeout=1000)


def test_without_webassembly_the_page_says_so(browser, address):
    context = browser.new_context()
    context.add_init_script("delete window.WebAssembly")
    page = context.new_page()
    page.goto(f"{address}/book/live.html")
    page.wait_for_selector("#live-scenes:not([hidden])")
    for form in ("clothes", "scenes"):
        assert "no WebAssembly" in page.inner_text(f"#live-{form}")
        assert not page.query_selector(f"#live-{form} [name=load]")
    context.close()


def test_while_a_network_loads_the_page_answers_and_says_how_far_it_is(fresh_page):
    """The file comes late: the bar stands between its ends, controls work; what did not come can be asked again."""
    view = fresh_page("live")
    view.wait_for_selector("#live-clothes:not([hidden])")
    held = []
    view.route("**/*.onnx", lambda route: held.append(route))
    view.click("#live-clothes [name=load]")
    view.wait_for_function("document.querySelector('#live-clothes progress').value > 0.5")
    assert view.locator("#live-clothes progress").is_visible()
    assert view.eval_on_selector("#live-clothes progress", "bar => bar.value") < 1
    before = pictures(view)
    put(view, "clothes", "seed", 5)
    assert pictures(view) != before
    held.pop().abort()
    view.wait_for_function("document.querySelector('#live-clothes [name=problem]').textContent.includes('Try again')")
    view.unroute("**/*.onnx")
    paint(view, "clothes")
    assert not view.query_selector("#live-clothes progress")


def test_networks_compute_in_a_worker(view):
    """A frame of the page never waits for a call of the network."""
    paint(view, "clothes")
    assert len(view.workers) == 1
    put(view, "clothes", "seed", 3)
    rest(view, "clothes")


@pytest.mark.parametrize("form", ["clothes", "scenes"])
def test_on_a_phone_network_and_controls_are_seen_together(fresh_page, form):
    view = fresh_page("live", width=390)
    view.wait_for_selector(f"#live-{form}:not([hidden])")
    view.locator(f"#live-{form} [name=strength]").scroll_into_view_if_needed()
    view.evaluate("scrollBy(0, 200)")
    boxes = [
        view.locator(f"#live-{form} {selector}").bounding_box()
        for selector in ("[data-row=theory][data-shows=kicked]", ".live-load", "[name=step]", "[name=strength]")
    ]
    assert all(box["y"] > 0 and box["y"] + box["height"] < 900 for box in boxes)
    tops = [box["y"] for box in boxes]
    assert tops == sorted(tops)
    assert view.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_network_of_clothes_is_that_of_pytorch(view, models):
    """All states and estimates of both runs, for no class on the network's schedule and for a class on another."""
    model = models["fashion-ddpm"]
    paint(view, "clothes")
    for schedule, label in (("vp-linear", None), ("flow", 8)):
        put(view, "clothes", "schedule", schedule)
        put(view, "clothes", "class", 10 if label is None else label)
        rest(view, "clothes")
        compare(view, "clothes", model, model.denoiser(label), levels_of(schedule))


def compare(view, form: str, model, denoise, levels) -> None:
    """Compare the two runs of an instrument, all states and estimates, with those of painters."""
    seed, at, strength = (float(view.input_value(f"#live-{form} [name={name}]")) for name in ("seed", "at", "strength"))
    seed, at, got = int(seed), int(at), view.evaluate(RUNS, form)
    base = solve(denoise, levels.start(noise([seed], model.shape)), levels, solver="dpmpp2m", progress=False)
    length = strength * float(torch.hypot(levels.alpha[at], levels.sigma[at]))
    x = base.x[at] + length * model.moments.U[:, 0].reshape(base.x[at].shape).float()
    kicked = solve(denoise, x, levels, solver="dpmpp2m", start=at, progress=False)
    assert strength != 0 and error(kicked.final, base.final) > 0.1
    for run, first, (states, estimates) in ((base, 0, got["base"]), (kicked, at, got["kicked"])):
        assert max(error(a, b) for a, b in zip(states[first:], run.x, strict=True)) < 1e-3
        assert max(error(a, b) for a, b in zip(estimates[first:-1], run.x0, strict=True)) < 1e-3


def test_scenes_are_those_of_pytorch(view, models):
    """The states of a guided run for a prompt with a word of no caption, and the picture that is decoded from it."""
    model, prompt = models["scenes-sd"], "a blue house, a dragon in the Indigo sky!"
    view.fill("#live-scenes [name=prompt]", prompt)
    paint(view, "scenes")
    assert "“dragon”" in view.inner_text("#live-scenes [name=problem]")
    assert "house" not in view.inner_text("#live-scenes [name=problem]")
    compare(view, "scenes", model, model.denoiser(prompt, guidance=3.0), model.levels(STEPS))
    end, shown = view.evaluate(PICTURE)
    want = model.decode(torch.tensor(end).reshape(1, *model.shape))
    assert error(np.clip(shown, 0, 1), want) < 1e-3
    view.fill("#live-scenes [name=prompt]", "tall " * 80)
    view.click("#live-scenes [type=submit]")
    view.wait_for_function("document.querySelector('#live-scenes [name=problem]').textContent.includes('shorten it')")


def test_tokens_are_those_of_the_tokenizer(view, models):
    tokenizer = models["scenes-sd"].text.tokenizer
    texts = [*models["scenes-sd"].card["prompts"], "", "A  Zeppelin's 42 câfés, don't!?", "ünï — 夜 🙂", "slender-pine"]
    got = view.evaluate(
        "texts => live.scenes.then(i => texts.map(text => [...i.tokenizer.encode(text)].map(Number)))", texts
    )
    limit = models["scenes-sd"].text.limit
    assert got == [tokenizer(text, padding="max_length", max_length=limit).input_ids for text in texts]


def test_the_linear_decoder_is_that_of_its_weights(view, site):
    """One latent through the page's stand-in, and through a convolution with the weights of the file."""
    facts = json.loads((site / "_static" / "live" / "scenes-sd.json").read_text(encoding="utf-8"))
    numbers = np.fromfile(site / "_static" / "live" / facts["numbers"], "<f4")[facts["linear"]["from"] :]
    weights = torch.from_numpy(numbers).double().reshape(192, 73)
    z = noise([11], (8, 8, 8), dtype=torch.float64)
    got = view.evaluate("z => live.scenes.then(i => [...i.standIn(z).values])", z.flatten().tolist())
    cells = torch.nn.functional.unfold(torch.nn.functional.pad(z, (1, 1, 1, 1), mode="replicate"), 3)
    squares = weights[:, :-1] @ cells[0] + weights[:, -1:]
    assert error(got, torch.nn.functional.fold(squares[None], 64, 8, stride=8)) < 1e-6


ORDERS = {"sky": "golden", "ground": "snow", "tree side": "left", "horizon": 0.4}
ORDERED = """async orders => {
  const knobs = await live.knobs;
  for (const [name, value] of Object.entries(orders)) {
    const control = knobs.form.elements[name];
    control.value = typeof value === "number" ? value : [...control.options].find(o => o.text === value).value;
    control.dispatchEvent(new Event("input", {bubbles: true}));
  }
  return {state: [...knobs.state], x: [...knobs.ordered().x], loud: Number(knobs.form.elements.loud.value)};
}"""
DONE = """async () => {
  const knobs = await live.knobs;
  for (let i = 0; !knobs.done?.after || knobs.form.classList.contains("live-stale"); i++) {
    if (i > 1200) throw new Error("the network did not finish in two minutes");
    await new Promise(wake => setTimeout(wake, 100));
  }
}"""


@pytest.fixture(scope="module")
def knobs(site):
    """What the page of variations computes with, made again by the packages: subject, readings, levels, states."""
    from atelier.manifold.knobs import LEVEL, Facts
    from atelier.subject import subject
    from atelier.variations.asking import states_at

    painter = subject("scenes-sd", device="cpu")
    assert painter.reader is not None
    facts = Facts.of(painter, painter.reader.factors, 1200)
    return painter, live.readings(facts), *states_at(painter, live.PAINTINGS, LEVEL, STEPS)


@pytest.fixture
def variations(fresh_page):
    view = fresh_page("variations")
    assert not view.evaluate("performance.getEntriesByType('resource').filter(e => e.name.endsWith('.bin')).length")
    view.locator("#live-knobs + *, p:has(+ #live-knobs)").first.scroll_into_view_if_needed()
    view.wait_for_selector("#live-knobs:not([hidden])")
    yield view
    assert view.problems == []


def test_orders_are_those_of_the_chapter_and_the_network_paints_them_alike(variations, knobs):
    """States after orders against the packages' to 1e-5, the network's pictures to 1e-3; under 1 MB of numbers."""
    painter, affine, levels, start, states = knobs
    got = variations.evaluate(ORDERED, ORDERS)
    assert error(got["state"], states[0]) < 1e-4  # another machine may have made the file
    x = torch.tensor(got["state"], dtype=torch.float64).reshape(1, *painter.shape)
    want = affine.ask(x, levels[start], ORDERS, loud=got["loud"])
    assert error(got["x"], want) < 1e-5 and error(want, x) > 0.05
    sizes = """performance.getEntriesByType("resource").filter(e => /live.(knobs|scenes).*(bin|json)$/.test(e.name))
      .map(e => e.decodedBodySize)"""
    assert 0 < sum(variations.evaluate(sizes)) < 1e6
    variations.click("#live-knobs [name=load]")
    variations.evaluate(DONE)
    for shows, state in (("before", x), ("after", want)):
        shown = grey(variations, f"#live-knobs [data-row=network][data-shows={shows}]") / 255
        end = paint_on(painter.denoise, state.float(), levels, start=start, solver="dpmpp2m")
        assert np.abs(shown - painter.decode(end)[0].permute(1, 2, 0).numpy()).max() < 0.01  # 8 bits, cut off


def test_every_knob_turns(variations):
    """Each control moves the theory's ordered picture, and withdrawing all orders brings the painting back."""
    canvas = "#live-knobs [data-row=theory][data-shows=after]"
    clean = grey(variations, canvas)
    names = variations.evaluate("live.knobs.then(knobs => knobs.controls.map(control => control.name))")
    assert len(names) >= 12
    for name in names:
        before = grey(variations, canvas)
        kind = variations.evaluate(
            """name => live.knobs.then(({form, facts}) => {
              const control = form.elements[name];
              return control.options ? control.options[control.options.length - 1].text : 1 - Math.round(control.value);
            })""",
            name,
        )
        variations.evaluate(ORDERED, {name: kind})
        assert np.abs(grey(variations, canvas) - before).max() > 1, name
    before = grey(variations, canvas)
    variations.evaluate(ORDERED, {"loud": 0.5})
    assert np.abs(grey(variations, canvas) - before).max() > 1
    variations.click("#live-knobs [name=reset]")
    assert np.abs(grey(variations, canvas) - clean).max() <= 1
    assert "No order" in variations.inner_text("#live-knobs [name=answer]")
    variations.select_option("#live-knobs [name=painting]", index=2)
    assert np.abs(grey(variations, canvas) - clean).max() > 10


def test_without_javascript_the_page_of_variations_says_what_would_stand_there(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/book/variations.html")
    assert page.locator("p:has(+ #live-knobs)").is_visible() and not page.locator("#live-knobs").is_visible()
    context.close()
