"""Tables: what is missing is said, text is escaped, and every cell can be named on a phone."""

import pytest
from bs4 import BeautifulSoup

from atelier.pages import table

MADE = table(["model", "loss < 1", "hours"], [["a & b", 0.25, None], ["c", "<b>1</b>", 3]], caption="Two models.")


def test_html_holds_the_texts_and_names_every_cell():
    soup = BeautifulSoup(MADE._repr_html_(), "html.parser")
    assert [th.get_text() for th in soup.thead.find_all("th")] == ["model", "loss < 1", "hours"]
    assert soup.caption.get_text() == "Two models."
    texts = (("a & b", "0.25", "not measured"), ("c", "<b>1</b>", "3"))
    for row, wanted in zip(soup.tbody.find_all("tr"), texts, strict=True):
        assert row.find("th", scope="row").get_text() == wanted[0]
        assert [td.get_text() for td in row.find_all("td")] == list(wanted[1:])
        assert [td["data-column"] for td in row.find_all("td")] == ["loss < 1", "hours"]
    assert soup.find("b") is None


def test_a_row_without_any_number_says_so_once():
    rows = [["a", None, None], ["b", None, 1]]
    first, second = BeautifulSoup(table(["x", "y", "z"], rows, caption="c")._repr_html_(), "html.parser").select("tr")[
        1:
    ]
    assert [(td.get_text(), td.get("colspan")) for td in first.find_all("td")] == [("not measured", "2")]
    assert [td.get_text() for td in second.find_all("td")] == ["not measured", "1"]


def test_plain_text_is_aligned():
    caption, head, first, second = repr(MADE).splitlines()
    assert caption == "Two models."
    assert head.index("hours") == first.index("not measured") == second.index("3")


@pytest.mark.parametrize(
    ("columns", "rows", "caption", "says"),
    [
        (["a"], [], "x", "at least one row"),
        (["a"], [["b"]], " ", "caption"),
        (["a", "b"], [["c", 1], ["d"]], "x", "2 columns got a row of 1"),
    ],
)
def test_bad_input_is_one_sentence(columns, rows, caption, says):
    with pytest.raises(ValueError, match=says):
        table(columns, rows, caption=caption)
