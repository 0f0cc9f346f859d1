"""The cartridge keeps the rules that the profile's schemas give in words, and holds nothing that is the teacher's."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import cartridge
import course
import pytest
from leaks import leaks
from numbering import read_book

ROOT = Path(__file__).resolve().parents[2]
CP, QTI = f"{{{cartridge.MANIFEST}}}", f"{{{cartridge.QTI}}}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The cartridge of the book and its files."""
    folder = tmp_path_factory.mktemp("cartridge")
    works = course.write_editions(ROOT, folder)
    path = cartridge.write_cartridge(ROOT, read_book(ROOT), works, folder / "student", folder / "course.imscc")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and len(set(archive.namelist())) == len(archive.namelist())
        return path, {name: archive.read(name) for name in archive.namelist()}, works


def manifest_problems(files: dict[str, bytes]) -> list[str]:
    """What breaks the rules of Content Packaging 1.2 in the profile of Common Cartridge 1.1."""
    root, found = ElementTree.fromstring(files["imsmanifest.xml"]), []
    told = root.findtext(f"{CP}metadata/{CP}schema"), root.findtext(f"{CP}metadata/{CP}schemaversion")
    if told != ("IMS Common Cartridge", "1.1.0"):
        found.append(f"schema {told}")
    if [child.tag.removeprefix(CP) for child in root] != ["metadata", "organizations", "resources"]:
        found.append("order of the manifest")
    organization = root.find(f"{CP}organizations/{CP}organization")
    tops = [] if organization is None else list(organization)
    if organization is None or organization.get("structure") != "rooted-hierarchy" or len(tops) != 1:
        found.append("organization")
    if any(top.find(f"{CP}title") is not None for top in tops):
        found.append("the root item has a title")
    names = [element.get("identifier", "") for element in root.iter() if element.get("identifier")]
    found += [f"{name} twice" for name in {n for n in names if names.count(n) > 1}]
    found += [f"{name} is no NCName" for name in names if not re.fullmatch(r"[A-Za-z_][\w.-]*", name)]
    resources = {r.get("identifier"): r for r in root.iter(f"{CP}resource")}
    for item in (item for top in tops for item in top.iter(f"{CP}item") if item is not top):
        reference, inside = item.get("identifierref"), item.findall(f"{CP}item")
        if item.findtext(f"{CP}title") in (None, ""):
            found.append(f"{item.get('identifier')} has no title")
        if bool(reference) == bool(inside) or (reference and reference not in resources):
            found.append(f"{item.get('identifier')} leads to {reference} and {len(inside)} items")
    listed = []
    for name, resource in resources.items():
        paths = [file.get("href") for file in resource.findall(f"{CP}file")]
        needs = [need.get("identifierref") for need in resource.findall(f"{CP}dependency")]
        listed += paths
        if len(set(paths)) != len(paths) or not paths or len(set(needs)) != len(needs) or name in needs:
            found.append(f"files or needs of {name}")
        found += [f"{name} needs {need}" for need in needs if need not in resources]
        if resource.get("type") == "webcontent":
            referenced = f'identifierref="{name}"><title'.encode() in files["imsmanifest.xml"]
            if referenced and resource.get("href") not in paths:
                found.append(f"{name} has no href among its files")
            found += [f"{name} needs {n}" for n in needs if resources[n].get("type") != "webcontent"]
        elif resource.get("type") == cartridge.ASSESSMENT:
            if len(paths) != 1 or resource.get("href") is not None:
                found.append(f"{name} is an assessment with {len(paths)} files or an href")
        else:
            found.append(f"{name} is of type {resource.get('type')}")
    if sorted(listed) != sorted(files.keys() - {"imsmanifest.xml"}):
        found.append(f"files {set(listed) ^ (files.keys() - {'imsmanifest.xml'})}")
    return found


def facts(element: ElementTree.Element | None) -> dict[str, str]:
    """The metadata of an assessment or of a question; a field that is there twice is an error."""
    pairs = [
        (field.findtext(f"{QTI}fieldlabel", ""), field.findtext(f"{QTI}fieldentry", ""))
        for field in (element.iter(f"{QTI}qtimetadatafield") if element is not None else ())
    ]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def question_problems(data: bytes) -> list[str]:
    """What breaks the rules of QTI 1.2.1 in the profile, for essays."""
    root, found = ElementTree.fromstring(data), []
    (test,) = root
    if [child.tag.removeprefix(QTI) for child in test] != ["qtimetadata", "section"]:
        found.append("order of the assessment")
    want = {"cc_profile": "cc.exam.v0p1", "qmd_assessmenttype": "Examination", "qmd_scoretype": "Percentage"}
    if facts(test.find(f"{QTI}qtimetadata")) != want:
        found.append("metadata of the assessment")
    items = list(test.iter(f"{QTI}item"))
    if not items or len({item.get("ident") for item in items}) != len(items):
        found.append("names of the questions")
    for item in items:
        name, told = item.get("ident"), facts(item.find(f"{QTI}itemmetadata"))
        kinds = [child.tag.removeprefix(QTI) for child in item]
        solved = kinds[3:] == ["itemfeedback"]
        if kinds[:3] != ["itemmetadata", "presentation", "resprocessing"] or (kinds[3:] and not solved):
            found.append(f"{name}: order {kinds}")
        if told.get("cc_profile") != "cc.essay.v0p1" or told.get("qmd_computerscored") != "No":
            found.append(f"{name}: metadata {told}")
        if not (told.get("cc_weighting", "").isdigit() and 0 < int(told["cc_weighting"]) < 100):
            found.append(f"{name}: weight {told.get('cc_weighting')}")
        banned = ("response_lid", "render_choice", "varequal", "varsubstring")
        found += [f"{name}: {tag}" for tag in banned if item.find(f".//{QTI}{tag}") is not None]
        shown = [x for x in item.iter(f"{QTI}displayfeedback") if x.get("feedbacktype") == "Solution"]
        ends = [x for x in item.iter(f"{QTI}itemfeedback") if x.get("ident") == "solution"]
        if len(shown) != len(ends) or len(ends) > 1 or any(x.get("linkrefid") != "solution" for x in shown):
            found.append(f"{name}: solution")
        if not "".join(item.find(f"{QTI}presentation").itertext()).strip():  # type: ignore[union-attr]
            found.append(f"{name}: no text")
    return found


def test_the_manifest_keeps_the_rules(made):
    assert manifest_problems(made[1]) == []


def test_the_questions_keep_the_rules(made):
    questions = {name: data for name, data in made[1].items() if name.startswith("questions/")}
    assert len(questions) == 6
    assert {name: found for name, data in questions.items() if (found := question_problems(data))} == {}


BROKEN = [
    (b'href="pages/start.html"><file', b'href="pages/stop.html"><file', "no href among its files"),
    (b'<file href="exercises.csv"/>', b"", "files"),
    (b'identifierref="session-2"', b'identifierref="session-9"', "leads to session-9"),
    (b'identifier="M1I0"', b'identifier="M0I0"', "M0I0 twice"),
    (b"<schemaversion>1.1.0", b"<schemaversion>2.1.0", "schema"),
    (b'type="webcontent"', b'type="web"', "of type web"),
    (b'<item identifier="root">', b'<item identifier="root"><title>a</title>', "root item has a title"),
]


@pytest.mark.parametrize(("old", "new", "says"), BROKEN)
def test_a_broken_manifest_is_seen(made, old, new, says):
    text = made[1]["imsmanifest.xml"]
    assert old in text
    assert any(says in found for found in manifest_problems(made[1] | {"imsmanifest.xml": text.replace(old, new, 1)}))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"cc.essay.v0p1", b"cc.fib.v0p1", "metadata"),
        (b"<fieldentry>1</fieldentry>", b"<fieldentry>1.5</fieldentry>", "weight"),
        (b'linkrefid="solution"', b'linkrefid="hint"', "solution"),
        (b'ident="ready-2"', b'ident="ready-1"', "names"),
        (b"<other/>", b"<varequal/>", "varequal"),
    ],
)
def test_broken_questions_are_seen(made, old, new, says):
    text = made[1]["questions/ready.xml"]
    assert old in text
    assert any(says in found for found in question_problems(text.replace(old, new, 1)))


def test_it_holds_the_notebooks_the_points_and_the_test_of_eight(made):
    path, files, works = made
    table = list(csv.DictReader(io.StringIO(files["exercises.csv"].decode())))
    assert [row["label"] for row in table] == [work.label for work in works]
    notebooks = {name for name in files if name.endswith(".ipynb")}
    assert {f"notebooks/{page.name}.ipynb" for page in read_book(ROOT).pages if page.has_notebook} == notebooks
    assert all(json.loads(files[name])["nbformat"] == 4 for name in notebooks)
    assert files["questions/ready.xml"].count(b"<item ") == files["questions/ready.xml"].count(b"<solution>") == 8
    asked = "".join(data.decode() for name, data in files.items() if name.startswith("questions/"))
    for work in works:
        assert (f'title="{work.number}. ' in asked) >= (work.kind == "think" and work.page in cartridge_pages(files))
    assert path.stat().st_size < 5_000_000


def cartridge_pages(files: dict[str, bytes]) -> set[str]:
    """The chapters of the sessions."""
    pages = "".join(data.decode() for name, data in files.items() if name.startswith("pages/session"))
    return set(re.findall(r"notebooks/(\w+)\.ipynb", pages))


def test_links_of_its_pages_and_pictures_of_its_notebooks_are_in_it(made):
    files = made[1]
    for name, data in files.items():
        if name.startswith("pages/"):
            for link in re.findall(r'(?:href|src)="([^"]+)"', data.decode()):
                assert link.startswith("https://") or str(Path("pages", link)).replace("pages/../", "") in files, link
        if name.endswith(".ipynb"):
            for picture in re.findall(r"\((images/[^)\s]+)\)", data.decode()):
                assert f"notebooks/{picture}" in files


def test_it_gives_nothing_away(made, tmp_path):
    secrets = course.secrets_of(ROOT)
    (tmp_path / "course.imscc").write_bytes(made[0].read_bytes())
    assert leaks([tmp_path], secrets) == {}
    with zipfile.ZipFile(tmp_path / "course.imscc", "a") as archive:
        archive.writestr("pages/more.html", (ROOT / "book" / "teaching" / "exam.md").read_text(encoding="utf-8"))
    assert leaks([tmp_path], secrets).keys() == {f"{tmp_path.name}/course.imscc/pages/more.html"}


def test_the_same_content_has_the_same_bytes(made, tmp_path):
    again = cartridge.write_cartridge(
        ROOT, read_book(ROOT), made[2], made[0].parent / "student", tmp_path / "again.imscc"
    )
    assert again.read_bytes() == made[0].read_bytes()
