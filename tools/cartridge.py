"""Pack the course for a learning-management system, as an IMS Common Cartridge 1.1: `_build/course/course.imscc`.

It holds what students get and nothing else: for each session a page, its notebooks, and its questions on paper with
their points; before them the test "Are you ready?", whose answers are public; after them the notebooks that go deeper.
Exercises that a cell tests are handed in as notebooks, for `painters grade`: the pages list them, and a cartridge of
this version has no assignments. Questions are essays, since nobody should be marked for the form of a formula.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from archives import write_zip
from export import repository_address
from myst import Block, Page, children, read_page
from numbering import Book
from plan import read_plans
from pybtex.database import parse_file
from slides import Words, html, inline
from teaching import Work

SITE = "http://www.imsglobal.org"
MANIFEST, LOM = f"{SITE}/xsd/imsccv1p1/imscp_v1p1", "http://ltsc.ieee.org/xsd/imsccv1p1/LOM/manifest"
QTI = f"{SITE}/xsd/ims_qtiasiv1p2"
ASSESSMENT = "imsqti_xmlv1p2/imscc_xmlv1p1/assessment"
TITLE = "Outline First, Details Later: how diffusion models paint, and why"
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation'


@dataclass(frozen=True)
class Question:
    """An essay: its name, title and text as HTML, its points, and an answer that students may see, if there is one."""

    name: str
    title: str
    text: str
    points: int
    answer: str = ""


@dataclass
class Module:
    """One unit of the course: what its items are called, and the resource of each."""

    title: str
    items: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Cartridge:
    """Files by their path, resources by their name, each with a type, its files and what it needs; and the modules."""

    files: dict[str, bytes] = field(default_factory=dict)
    resources: dict[str, tuple[str, list[str], list[str]]] = field(default_factory=dict)
    modules: list[Module] = field(default_factory=list)

    def add(self, name: str, kind: str, files: dict[str, bytes], *needs: str) -> str:
        """Add a resource, and return its name."""
        self.files |= files
        self.resources[name] = kind, list(files), list(needs)
        return name

    def page(self, name: str, title: str, body: str) -> str:
        """Add a page."""
        text = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
        text += f"<body>\n{body}\n</body></html>\n"
        return self.add(name, "webcontent", {f"pages/{name}.html": text.encode()})

    def quiz(self, name: str, title: str, questions: Iterable[Question]) -> str:
        """Add questions."""
        return self.add(name, ASSESSMENT, {f"questions/{name}.xml": assessment(name, title, questions).encode()})

    def manifest(self) -> str:
        """Return the table of contents."""
        units = "".join(
            f'<item identifier="M{i}"><title>{escape(module.title)}</title>'
            + "".join(
                f'<item identifier="M{i}I{j}" identifierref="{resource}"><title>{escape(title)}</title></item>'
                for j, (title, resource) in enumerate(module.items)
            )
            + "</item>\n"
            for i, module in enumerate(self.modules)
        )
        resources = ""
        for name, (kind, paths, needs) in self.resources.items():
            href = f' href="{paths[0]}"' if kind == "webcontent" and len(paths) == 1 else ""
            resources += f'<resource identifier="{name}" type="{kind}"{href}>'
            resources += "".join(f'<file href="{path}"/>' for path in paths)
            resources += "".join(f'<dependency identifierref="{need}"/>' for need in needs) + "</resource>\n"
        where = f"{MANIFEST} {SITE}/profile/cc/ccv1p1/ccv1p1_imscp_v1p2_v1p0.xsd"
        where += f" {LOM} {SITE}/profile/cc/ccv1p1/LOM/ccv1p1_lommanifest_v1p0.xsd"
        string = '<lom:string language="en">'
        return (
            f'{XML}<manifest identifier="painters" xmlns="{MANIFEST}" xmlns:lom="{LOM}" {XSI}="{where}">\n'
            "<metadata><schema>IMS Common Cartridge</schema><schemaversion>1.1.0</schemaversion>\n"
            f"<lom:lom><lom:general><lom:title>{string}{TITLE}</lom:string></lom:title></lom:general>"
            "<lom:rights><lom:copyrightAndOtherRestrictions><lom:value>yes</lom:value>"
            f"</lom:copyrightAndOtherRestrictions><lom:description>{string}Code: MIT licence. Text and figures: "
            "CC BY 4.0.</lom:string></lom:description></lom:rights></lom:lom></metadata>\n"
            '<organizations><organization identifier="O1" structure="rooted-hierarchy"><item identifier="root">\n'
            f"{units}</item></organization></organizations>\n<resources>\n{resources}</resources>\n</manifest>\n"
        )

    def write(self, path: Path) -> Path:
        """Write the cartridge, with its manifest."""
        return write_zip(path, {"imsmanifest.xml": self.manifest().encode(), **self.files})


def told(**facts: str | int) -> str:
    """Return metadata of questions."""
    one = "<qtimetadatafield><fieldlabel>{}</fieldlabel><fieldentry>{}</fieldentry></qtimetadatafield>"
    return f"<qtimetadata>{''.join(one.format(*fact) for fact in facts.items())}</qtimetadata>"


def material(text: str) -> str:
    """Return HTML as QTI holds it."""
    return f'<material><mattext texttype="text/html">{escape(text, quote=False)}</mattext></material>'


def assessment(name: str, title: str, questions: Iterable[Question]) -> str:
    """Return questions as QTI 1.2.1, in the profile of the cartridge."""
    solution = '<displayfeedback feedbacktype="Solution" linkrefid="solution"/>'
    items = "".join(
        f'<item ident="{name}-{i}" title="{escape(question.title)}"><itemmetadata>'
        + told(cc_profile="cc.essay.v0p1", cc_weighting=question.points, qmd_computerscored="No")
        + f"</itemmetadata><presentation>{material(question.text)}"
        '<response_str ident="answer" rcardinality="Single"><render_fib><response_label ident="text" rshuffle="No"/>'
        "</render_fib></response_str></presentation>\n"
        '<resprocessing><outcomes><decvar maxvalue="100" minvalue="0" varname="SCORE" vartype="Decimal"/></outcomes>'
        f'<respcondition continue="No"><conditionvar><other/></conditionvar>{solution if question.answer else ""}'
        "</respcondition></resprocessing>"
        + (
            '<itemfeedback ident="solution"><solution><solutionmaterial>'
            f"{material(question.answer)}</solutionmaterial></solution></itemfeedback>"
            if question.answer
            else ""
        )
        + "</item>\n"
        for i, question in enumerate(questions, 1)
    )
    facts = told(cc_profile="cc.exam.v0p1", qmd_assessmenttype="Examination", qmd_scoretype="Percentage")
    return (
        f'{XML}<questestinterop xmlns="{QTI}" {XSI}="{QTI} {SITE}/profile/cc/ccv1p1/ccv1p1_qtiasiv1p2p1_v1p0.xsd">\n'
        f'<assessment ident="{name}" title="{escape(title)}">{facts}<section ident="{name}-all">\n{items}</section>'
        "</assessment></questestinterop>\n"
    )


# From the pages


def sessions(guide: Page) -> dict[str, list[str]]:
    """Return the pages of each session, by its title in the plan."""
    text = "\n".join("\n".join(block.lines) for block in guide.blocks if block.kind == "text")
    rows = re.findall(r"^\| (\d)\. [^|]+\| ([^|]+)\|", text, re.M)
    titles = {name[-1]: plan.title for name, plan in read_plans(guide).items() if name.startswith("Session")}
    found = {titles[number]: re.findall(r"\{doc\}`(?:[^`<]*<)?([\w-]+)>?`", row) for number, row in rows}
    after = re.search(r"^\| after it \| ([^|]+)\|", text, re.M)
    return found | ({"After it": re.findall(r"\{doc\}`(\w+)`", after[1])} if after else {})


def ready(guide: Page, words: Words) -> list[Question]:
    """Return the questions of the test before the course."""
    blocks = list(guide.blocks)
    at = next(i for i, b in enumerate(blocks) if b.kind == "heading" and b.argument.startswith("Are you ready"))
    ask = next(b for b in blocks[at:] if b.kind == "text" and re.search(r"^1\. ", "\n".join(b.lines), re.M))
    tell = next(b for b in blocks[at:] if b.name == "dropdown")

    def listed(text: str) -> list[str]:
        return [part.strip() for part in re.split(r"^\d+\. ", text, flags=re.M)[1:]]

    asked = listed(words.inline("\n".join(ask.lines), ask.line))
    answers = listed(words.blocks(children(tell)))
    if len(asked) != len(answers):
        raise ValueError(f"book/guide.md: {len(asked)} questions and {len(answers)} answers.")
    pairs = enumerate(zip(asked, answers), 1)
    return [Question(f"ready-{i}", f"Question {i}", html(q), 1, html(a)) for i, (q, a) in pairs]


def listing(works: list[Work]) -> str:
    """Return a table of exercises."""
    head = "<tr><th>Exercise</th><th>Points</th><th>Minutes</th><th>Marked</th></tr>"
    rows = (
        f"<tr><td>{work.number}. {inline(work.title)}</td><td>{work.points}</td><td>{work.minutes}</td>"
        f"<td>{work.graded}</td></tr>"
        for work in works
    )
    return f"<table>{head}\n{chr(10).join(rows)}</table>"


def write_cartridge(root: Path, book: Book, works: list[Work], student: Path, path: Path) -> Path:
    """Write the cartridge from the student edition and the pages."""
    made, guide = Cartridge(), read_page(root / "book" / "guide.md")
    bibliography = parse_file(str(root / "book" / "references.bib"))
    pictures = sorted((student / "images").rglob("*.*")) if (student / "images").is_dir() else []
    made.add("pictures", "webcontent", {f"notebooks/{p.relative_to(student)}": p.read_bytes() for p in pictures})
    readme = (student / "README.md").read_text(encoding="utf-8")
    table = made.add("exercises", "webcontent", {"exercises.csv": (student / "exercises.csv").read_bytes()})
    start = made.page("start", "Before you start", html(readme))
    words = Words(book, "guide", repository_address(root), bibliography, root / "book")
    quiz = made.quiz("ready", "Are you ready?", ready(guide, words))
    items = [
        ("Before you start", start),
        ("Are you ready? Eight questions", quiz),
        ("All exercises, as a table", table),
    ]
    made.modules.append(Module("Before the course", items))

    def notebook(name: str) -> tuple[str, str]:
        data = (student / f"{name}.ipynb").read_bytes()
        needs = ["pictures"] if any(str(p.relative_to(student)).encode() in data for p in pictures) else []
        resource = made.add(f"notebook-{name}", "webcontent", {f"notebooks/{name}.ipynb": data}, *needs)
        return f"{book.titles[name]} (notebook)", resource

    blocks = {b.options["label"]: b for page in book.pages for b in page.blocks if b.name == "exercise"}
    taken: set[str] = set()
    for number, (title, names) in enumerate(sessions(guide).items(), 1):
        taken |= set(names)
        mine = [work for work in works if work.page in names]
        links = "".join(f'<li><a href="../notebooks/{n}.ipynb">{inline(book.titles[n])}</a></li>' for n in names)
        body = f"<h1>{escape(title)}</h1>\n<p>Read and run before the session:</p>\n<ul>{links}</ul>\n"
        body += (
            "<p>Exercises marked <em>by itself</em>: write the function, and hand in the notebook. Exercises marked "
        )
        body += "<em>by hand</em> are among the questions of this session, or are handed in with the notebook.</p>\n"
        page = made.page(f"session-{number}", title, body + listing(mine))
        asked = [asking(work, blocks[work.label], book, root, words) for work in mine if work.kind == "think"]
        here = [(title, page), *map(notebook, names)]
        if asked:
            here.append(("Questions", made.quiz(f"questions-{number}", f"Questions: {title}", asked)))
        made.modules.append(Module(title, here))
    deeper = [page.name for page in book.pages if page.has_notebook and page.name not in taken]
    made.modules.append(Module("Going deeper", [notebook(name) for name in deeper]))
    return made.write(path)


def asking(work: Work, block: Block, book: Book, root: Path, like: Words) -> Question:
    """Return an exercise as a question."""
    words = Words(book, work.page, like.repository, like.bibliography, root / "book")
    inner = children(block)
    text = "\n\n".join(words.math(b.lines, "") if b.kind == "math" else words.block(b) for b in inner)
    return Question(work.label, f"{work.number}. {work.title}", html(text), work.points)
