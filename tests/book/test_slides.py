"""The slides follow the plan, fit, print, and give nothing away; what cells draw stands in for by placeholders."""

import base64
import io
import re
from pathlib import Path

import course
import pytest
import slides
from chromium import served
from figures import code_of
from leaks import leaks
from minutes import COURSE
from myst import MystError
from numbering import read_book
from PIL import Image, ImageDraw
from teaching import read_notes

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("session-1", "session-2", "session-3", "session-4", "lecture")
OVERFULL = """() => {
  const section = document.querySelector("section.present");
  const boxes = [section, ...section.querySelectorAll(".body, .box, .answer, .one, .frame-sequence")];
  const wide = boxes.filter((box) => box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1);
  const below = [...section.querySelectorAll(".body *")].filter((e) => e.getBoundingClientRect().bottom > innerHeight);
  return [...wide, ...below, ...section.querySelectorAll(".katex-error")].map((e) => e.outerHTML.slice(0, 200));
}"""

SPILLED = """() => [...document.querySelectorAll(".pdf-page")].flatMap((sheet) => {
  const edge = sheet.getBoundingClientRect();
  const shown = [...sheet.querySelectorAll("h2, img, .box, .body, p, li")].filter((e) => !e.closest(".notes"));
  return shown.filter((e) => {
    const box = e.getBoundingClientRect();
    return box.bottom > edge.bottom + 1 || box.right > edge.right + 1;
  }).map((e) => e.outerHTML.slice(0, 200));
})"""


def png() -> str:
    """A picture of four bands."""
    picture = Image.new("RGB", (600, 1200), "white")
    for top in (10, 300, 700, 1150):
        ImageDraw.Draw(picture).rectangle((10, top, 590, top + 30 + top // 6), fill="navy")
    file = io.BytesIO()
    picture.save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def placeholders(root, pages, profile):
    """What the cells of the pages would show, in form."""
    picture = png()
    frame = '<figure class="frame" data-label="{0}"><img src="data:image/png;base64,{1}"\n alt="f{0}"></figure>'
    frames = '<div class="frame-sequence"><div class="frames">{}</div><p class="caption">Shown.</p></div>'
    text = frames.format("".join(frame.format(i, picture) for i in range(3)))
    made = {}
    for page in pages:
        cells = []
        for block in code_of(page):
            code, outs = "\n".join(block.lines), []
            if block.options.get("mystnb", {}).get("figure"):
                outs.append({"data": {"image/png": picture}})
            if re.search(r"^\s*sequence\(", code, re.M):
                outs.append({"data": {"text/html": text}})
            if "say(" in code:
                outs.append({"data": {"text/markdown": "**In short.** " + "word " * 70}})
            cells.append(outs)
        made[page.name] = cells
    return made, []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All slides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slides, "outputs", placeholders)
        made = tmp_path_factory.mktemp("slides") / "slides"
        assert slides.write_slides(ROOT, made, "ci") == 0
    return made


def sections(folder: Path, name: str) -> list[str]:
    return re.findall(r"<section>.*?</section>", (folder / f"{name}.html").read_text(encoding="utf-8"), re.S)


def test_every_deck_has_its_slides_and_each_begins_with_what_to_do(folder):
    for name in NAMES:
        made = sections(folder, name)
        assert len(made) > 12
        timed = [text for text in made if 'class="at"' in text]
        assert len(timed) >= 6 and all(re.search(r"Minutes \d+ to \d+[.,]", text) for text in timed)
        assert all('<aside class="notes">' in text for text in made[1:])
    notes = "".join(re.findall(r'<aside class="notes">.*?</aside>', "".join(sections(folder, "session-2")), re.S))
    assert "Expect:" in notes and "What goes wrong" in notes and "$" in notes


def test_prompts_for_discussion_stand_in_the_notes_of_their_block(folder):
    prompts = [
        prompt
        for page in read_book(ROOT).pages
        if page.name in COURSE
        for prompt in read_notes(ROOT / "book" / "teaching" / f"{page.name}.md", page).prompts
    ]
    told = 0
    for session in range(1, 5):
        here = [one for one in prompts if one.session == session]
        block, found = 0, []
        for text in sections(folder, f"session-{session}"):
            if begins := re.search(r"Minutes (\d+) to", text):
                block = int(begins[1])
            found += [(block, int(n)) for n in re.findall(r"<strong>To discuss, (\d+) minutes", text)]
            found += [(None, int(n)) for n in re.findall(r"<strong>To discuss at home, (\d+) minutes", text)]
        assert sorted(found, key=str) == sorted(((one.at, one.minutes) for one in here), key=str)
        told += len(found)
    assert told == len(prompts) and "To discuss" not in "".join(sections(folder, "lecture"))


def test_slides_are_whole_and_load_nothing_from_elsewhere(folder):
    for name in NAMES:
        text = (folder / f"{name}.html").read_text(encoding="utf-8")
        used = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert used and not [use for use in used if not (folder / use).is_file()]
    assert (folder / "reveal" / "LICENSE").is_file() and (folder / "LICENSE-CC-BY-4.0").is_file()


def test_slides_without_their_notes_hold_no_solution(folder, tmp_path):
    secrets = course.secrets_of(ROOT)
    for name in NAMES:
        text = (folder / f"{name}.html").read_text(encoding="utf-8")
        (tmp_path / f"{name}.html").write_text(re.sub(r"<aside.*?</aside>", "", text, flags=re.S), encoding="utf-8")
    assert leaks([tmp_path], secrets) == {}
    assert leaks([folder], secrets).keys() >= {f"slides/{name}.html" for name in NAMES}, "the notes are for the teacher"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("## 10 Paint", "## 11 Paint", r"Session 1.*: slides begin at \[0, 11, .* the plan at \[0, 10, "),
        (
            "{show} fig-gaussian-rotation",
            "{show} fig-gaussian-pairs",
            "minute 62: the plan names fig-gaussian-rotation",
        ),
        ("{show} ex-gaussian-flow", "{show} ex-gaussian-fly", "there is no ex-gaussian-fly"),
        ("{show} sequence gaussian 0", "{show} sequence gaussian 7", "gaussian has . sequences"),
        ("# Session 2", "# Session 9", "no plan of Session 9"),
        (":parts: 1 4 of 4", ":parts: 1 9 of 9", "fig-evidence-three has no 9 parts"),
    ],
)
def test_slides_that_leave_the_plan_are_refused(folder, tmp_path, monkeypatch, old, new, says):
    text = (slides.EDITIONS / "slides.md").read_text(encoding="utf-8")
    assert old in text
    for file in slides.EDITIONS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "slides.md").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(slides, "EDITIONS", tmp_path)
    monkeypatch.setattr(slides, "outputs", placeholders)
    with pytest.raises(MystError, match=says):
        slides.write_slides(ROOT, tmp_path / "slides", "ci")


@pytest.fixture(scope="module")
def address(folder):
    """Where the slides are served."""
    with served(folder) as found:
        yield found


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_every_slide_fits_and_all_print(browser, address, folder, name):
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(error))
    page.goto(f"{address}/{name}.html")
    page.wait_for_selector("html.ready")
    page.add_style_tag(content=".katex-mathml{display:none}")  # for readers who hear, without a place on the screen
    count = page.evaluate("Reveal.getTotalSlides()")
    assert count == len(sections(folder, name))
    for i in range(count):
        page.evaluate(f"Reveal.slide({i})")
        assert page.evaluate(OVERFULL) == [], f"slide {i}"
    assert not wrong and not [url for url in asked if not url.startswith((address, "data:"))]
    page.goto(f"{address}/{name}.html?print-pdf")
    page.wait_for_selector(".pdf-page >> nth=-1")
    assert page.locator(".pdf-page").count() == count
    page.emulate_media(media="print")
    assert page.evaluate(SPILLED) == []
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type /Page\b", pdf)) == count
    page.close()


def test_all_chapters_of_the_course_are_on_slides(folder):
    text = "".join("".join(sections(folder, name)) for name in NAMES)
    assert all(re.search(rf"(sequence|fig)-{name}", text) for name in COURSE)
