"""The book on paper: one document out of the pages, whose faults are named."""

import base64
import io

import pdf
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from pypdf import PdfReader

pytestmark = pytest.mark.browser
PAGE = """<html><head><title>a site</title></head><body><article class="bd-article"><section id="{name}">
<h1>{title}<a class="headerlink" href="#{name}">¶</a></h1>
<p>See <a href="two.html#place">the other page</a>, <a href="../_sources/one.md">a file</a> and
<a href="https://example.org/">elsewhere</a>.</p><h2 id="place">A place</h2>{body}</section></article></body></html>"""


def png(colours: list[tuple[int, int, int]]) -> str:
    """A picture of some colours side by side, as an address."""
    image = Image.new("RGB", (len(colours), 1))
    image.putdata(colours)
    image.resize((60, 40), Image.Resampling.NEAREST).save(buffer := io.BytesIO(), "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


DRAWN, BLANK = png([(0, 0, 0), (250, 200, 0)]), png([(255, 255, 255)])


@pytest.fixture
def project(tmp_path):
    """A project with a site of three pages."""
    (tmp_path / "_toc.yml").write_text(
        "root: book/one\nparts: [{caption: A part, chapters: [{file: book/two, sections: [{file: book/sub/three}]}]}]"
    )
    (tmp_path / "_config.yml").write_text("title: A title\nauthor: Nobody\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2"\n')
    html = tmp_path / "_build" / "html"
    for folder in (html / "book" / "sub", tmp_path / "book" / "images"):
        folder.mkdir(parents=True)
    (tmp_path / "book" / "images" / "painting.png").write_bytes(base64.b64decode(DRAWN.partition(",")[2]))
    for name, title in (("one", "The first"), ("two", "2. The second"), ("sub/three", "The third")):
        (html / "book" / f"{name}.html").write_text(PAGE.format(name=name, title=title, body="<p>Nothing more.</p>"))
    return tmp_path


def fill(project, text: str) -> None:
    """Set what the second page holds."""
    page = PAGE.format(name="two", title="2. The second", body=text)
    (project / "_build" / "html" / "book" / "two.html").write_text(page)


@pytest.fixture
def printed(project, browser):
    """Print a project; return the file and what is wrong with it."""

    def make():
        html = project / "_build" / "html"
        document = pdf.compose(project, html, pdf.contents(project))
        return project / "book.pdf", pdf.write(browser, html, document, project / "book.pdf")

    return make


def test_pages_come_in_order_with_an_outline_and_numbers(project, printed):
    file, problems = printed()
    assert problems == []
    book = PdfReader(file)
    text = book.pages[1].extract_text().split()
    assert [mark for mark in pdf.outline(book) if mark[1] != "A place"] == [
        (0, "The first", 2), (0, "A part", 3), (1, "2. The second", 4), (2, "The third", 5)
    ]  # fmt: skip
    assert [word for word in text if word.isdigit()] == ["2", "3", "5", "6"]


def test_links_lead_into_the_document(project):
    document = BeautifulSoup(pdf.compose(project, project / "_build" / "html", pdf.contents(project)), "html.parser")
    links = {link.get_text(): link.get("href") for link in document.select("article#book-sub-three a")}
    assert links["a file"] is None and links["elsewhere"] == "https://example.org/"
    first = {link.get_text(): link.get("href") for link in document.select("article#book-one a")}
    assert document.find(id=first["the other page"].removeprefix("#")).get_text() == "A place"


def test_links_of_the_pdf_lead_to_places_in_it(printed):
    file, _ = printed()
    inside, addresses = pdf.links(PdfReader(file))
    # Three in the contents, and one on each page of the book but the last, which stands in another folder.
    assert inside == 5 and addresses == ["https://example.org/"] * 3


def test_a_page_without_a_file_is_an_error(project):
    (project / "_build" / "html" / "book" / "two.html").unlink()
    with pytest.raises(FileNotFoundError, match=r"two\.html"):
        pdf.compose(project, project / "_build" / "html", pdf.contents(project))


FRAME = '<figure class="frame"><img src="{}" alt="a frame" style="width: 100px"><figcaption>label</figcaption></figure>'
FAULTS = {
    "hidden: Unseen words": '<p style="display: none">Unseen words</p>',
    "cut: A long line": '<pre style="overflow: auto">A long line' + "x" * 200 + "</pre>",
    "beyond the margin: Wide": '<div style="width: 900px">Wide</div>',
    "a blank picture: white": f'<img src="{BLANK}" alt="white">',
    "a blank picture: gone": '<img src="gone.png" alt="gone">',
    "no formula: x": '<span class="math">x</span>',
    "a blank picture: a frame": '<div class="frame-sequence" aria-label="Four">'
    + FRAME.format(DRAWN) * 3 + FRAME.format(BLANK) + "</div>",
    "1 of 5 frames: Five": '<style>.frame + .frame { display: none }</style><div class="frame-sequence" '
    f'aria-label="Five">{FRAME.format(DRAWN) * 5}</div>',
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(project, printed, fault):
    fill(project, FAULTS[fault])
    assert any(problem.startswith(f"book-two: {fault}") for problem in printed()[1])


def test_what_is_well_is_not_named(project, printed):
    fill(
        project,
        f'<details><summary>Folded</summary><p>Text in a fold.</p></details><img src="{DRAWN}" alt="a picture">'
        f'<div class="frame-sequence" aria-label="Four">{FRAME.format(DRAWN) * 4}</div>'
        "<style>details::details-content { content-visibility: visible; block-size: auto; }</style>",
    )
    assert printed()[1] == []


def test_a_page_and_text_that_the_pdf_lacks_are_named(project, printed):
    file, _ = printed()
    titles = {"book-one": "The first", "book-two": "2. The second", "book-gone": "A page that is not there"}
    pieces = {"book-one": ["Nothing more."], "book-two": ["Nothing more.", *["Words that nobody printed."] * 2]}
    problems = pdf.missing(PdfReader(file), titles, pieces)
    assert problems[0] == "book-gone: the outline lacks its page"
    assert len(problems) == 2 and problems[1].startswith("book-two: 2 of 3 pieces of text are not in the PDF")
