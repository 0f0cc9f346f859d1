"""Links of statements and claims to tests: what is read from markers, and each way in which they can be wrong."""

import json
from pathlib import Path

import partners
import pytest
import trust
from trust import Links, labels, marked, passage, problems, read_links

ROOT = Path(__file__).resolve().parents[2]
LINKS = Links({"thm-a": ["tests/t.py::test_a"]}, {"row": ["tests/t.py::test_b"]}, {"row": "tests/t.py::test_c"})
FOUND = {
    "statements": {"thm-a": ["tests/t.py::test_a"]},
    "claims": {"row": {"measured": "tests/t.py::test_c", "judged": ["tests/t.py::test_b"]}},
    "errors": {"tests/t.py::test_a": [1e-12, 1e-9]},
}
NO_TEST = "no test is marked @pytest.mark"


def test_markers_are_read_from_decorators_of_tests(tmp_path):
    path = tmp_path / "test_x.py"
    path.write_text("""
import pytest

@pytest.mark.statement("thm-a", "prop-b")
@pytest.mark.parametrize("n", [1, 2])
def test_one(n): ...

@pytest.mark.claim("row")
def test_two(): ...

@pytest.mark.claim("other")
def helper(): ...
""")
    assert list(marked(path)) == [
        ("statements", "thm-a", "test_one"),
        ("statements", "prop-b", "test_one"),
        ("claims", "row", "test_two"),
    ]


def test_what_is_right_has_no_problems():
    assert problems(LINKS, ["thm-a"], FOUND) == []
    assert LINKS.tests == ["tests/t.py::test_a", "tests/t.py::test_b", "tests/t.py::test_c"]


@pytest.mark.parametrize(
    ("links", "statements", "found", "says"),
    [
        (LINKS, ["thm-a", "prop-new"], FOUND, f'prop-new: {NO_TEST}.statement("prop-new")'),
        (LINKS, [], FOUND, "thm-a: tests/t.py::test_a names it, and there is none"),
        (Links(LINKS.statements, {}, LINKS.measured), ["thm-a"], FOUND, f'row: {NO_TEST}.claim("row")'),
        (Links(LINKS.statements, LINKS.claims, {}), ["thm-a"], FOUND, "row: tests/t.py::test_b names it"),
        (Links({"thm-a": ["tests/t.py::test_z"]}, LINKS.claims, LINKS.measured), ["thm-a"], FOUND, "thm-a: book/trust"),
        (Links(LINKS.statements, LINKS.claims, {"row": "tests/t.py::test_z"}), ["thm-a"], FOUND, "row: book/trust"),
        (LINKS, ["thm-a"], FOUND | {"statements": {}}, "thm-a: book/trust.json lists other tests"),
        (LINKS, ["thm-a"], FOUND | {"claims": FOUND["claims"] | {"old": {}}}, "old: book/trust.json lists other tests"),
        (LINKS, ["thm-a"], FOUND | {"errors": {}}, "thm-a: book/trust.json lists no error"),
        (LINKS, ["thm-a"], FOUND | {"errors": {"tests/t.py::test_a": [1e-3, 1e-9]}}, "lists the error 0.001"),
        (LINKS, ["thm-a"], FOUND | {"errors": {"tests/t.py::test_a": [float("nan"), 1e-9]}}, "lists the error nan"),
        (LINKS, ["thm-a"], None, "book/trust.json is missing"),
    ],
)  # fmt: skip
def test_each_fault_is_one_sentence(links, statements, found, says):
    assert any(says in sentence for sentence in problems(links, statements, found))


def test_the_book_is_linked_and_its_file_is_up_to_date(capsys):
    assert trust.main(["--check"]) == 0, capsys.readouterr().out


def test_the_page_names_every_statement_and_row_and_the_largest_error():
    found = json.loads((ROOT / trust.RESULTS).read_text(encoding="utf-8"))
    text = "\n".join(passage(ROOT))
    links = read_links(ROOT)
    assert all(f"{{prf:ref}}`{name}`" in text for name in links.statements) and len(links.statements) > 30
    assert all(f"claims.html#{id}" in text for id in links.measured)
    worst = max(found["errors"].get(test, [0.0])[0] for tests in found["statements"].values() for test in tests)
    assert f"the largest of all, {trust.number(worst)}," in text


def test_every_test_that_is_named_exists_and_every_label_claims_something():
    links, book = read_links(ROOT), trust.read_book(ROOT)
    for test in links.tests:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test
    assert not any(book.targets[label].kind == "Definition" for label in labels(book))


def test_agreeing_is_asserted_and_kept():
    partners.agree([1.0, 2.0], [1.0, 2.0], 1e-12)
    with pytest.raises(AssertionError, match=r"the relative error is 0\.1"):
        partners.agree(1.1, 1.0, 0.05)
    with pytest.raises(AssertionError):
        partners.agree(float("nan"), 1.0, 0.05)
    assert [bound for _, bound in partners.COMPARED] == [1e-12, 0.05, 0.05]


class Report:
    """What pytest reports of one case that passed."""

    when, passed = "call", True

    def __init__(self, nodeid, compared):
        self.nodeid, self.user_properties = nodeid, [("compared", compared)]


def ran(cases):
    """A pytest in which these cases passed."""

    def main(arguments, plugins):
        for case in cases:
            plugins[0].pytest_runtest_logreport(Report(*case))
        return 0

    return main


def test_a_run_keeps_the_worst_error_of_each_test_and_refuses_what_did_not_run(tmp_path, monkeypatch):
    test, other = "tests/t.py::test_a", "tests/t.py::test_b"
    cases = [(f"{test}[1]", [(1e-12, 1e-9)]), (f"{test}[2]", [(3e-11, 1e-9), (1e-13, 1e-6)]), (other, [])]
    with monkeypatch.context() as patch:
        patch.setattr(pytest, "main", ran(cases))
        assert trust.run(tmp_path, [test, other]) == {test: (3e-11, 1e-9)}
        patch.setattr(pytest, "main", ran(cases[:2]))
        with pytest.raises(SystemExit, match=r"not run: \['tests/t.py::test_b'\]"):
            trust.run(tmp_path, [test, other])
        patch.setattr(pytest, "main", lambda *_, **__: 1)
        with pytest.raises(SystemExit, match="a test failed"):
            trust.run(tmp_path, [test])
