"""Checks raise with numbers and print one line; exercises never stop a notebook."""

import re

import numpy as np
import pytest
import torch

from atelier.exercises import Task, intro, judge
from atelier.pages import check, exercise

ONES = torch.ones(4)


@pytest.mark.parametrize("kind", [torch.DoubleTensor, np.array, list])
def test_close_prints_one_line(capsys, kind):
    check.close("sum", kind([3.0, 4.0 + 5e-9]), [3.0, 4.0], rtol=2e-9)
    assert capsys.readouterr().out == "checked sum: relative error 1.0e-09 <= 2e-09\n"


def test_close_takes_numbers_and_low_precision(capsys):
    check.close("number", 2, 2.0)
    check.close("zero", ONES * 0, 0.0, atol=1e-12)
    check.close("bf16", ONES.to(torch.bfloat16).requires_grad_(), ONES)
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("got", "want", "tolerance", "says"),
    [
        (ONES * 1.01, ONES, {"rtol": 1e-3}, r"relative error 0\.01 > 0\.001"),
        (ONES, ONES * 0, {"atol": 1.0}, r"absolute error 2 > 1"),
        # Errors of both signs must not cancel.
        (torch.tensor([1.5, 0.5]), torch.ones(2), {"rtol": 0.1}, r"relative error 0\.5"),
        (ONES * float("nan"), ONES, {}, "nan"),
        (ONES, torch.ones(5), {}, r"the shape is \(4,\), expected \(5,\)"),
        (ONES, torch.ones(1, 4), {}, "the shape is"),
        (ONES[:0], 0.0, {"atol": 1.0}, "there is no value to compare"),
        (ONES[:0], ONES[:0], {"atol": 1.0}, "there is no value to compare"),
        ([], 1.0, {}, "there is no value to compare"),
    ],
)
def test_close_raises_one_sentence_with_numbers(capsys, got, want, tolerance, says):
    with pytest.raises(AssertionError, match=says) as problem:
        check.close("flow", got, want, **tolerance)
    assert str(problem.value).startswith("check flow failed: ") and "\n" not in str(problem.value)
    assert capsys.readouterr().out == ""


def test_close_refuses_unclear_tolerances():
    with pytest.raises(ValueError, match="not both"):
        check.close("x", 1, 1, rtol=1, atol=1)
    with pytest.raises(ValueError, match="give atol"):
        check.close("x", ONES, 0.0)


def test_below_and_true(capsys):
    check.below("residual", torch.tensor([0.1, 0.2]), 0.3)
    check.true("order", True, "3 values fall")
    assert capsys.readouterr().out == "checked residual: 0.2 < 0.3\nchecked order: 3 values fall\n"
    with pytest.raises(AssertionError, match=r"check residual failed: 0\.3 is not below 0\.3"):
        check.below("residual", 0.3, 0.3)
    with pytest.raises(AssertionError, match="nan is not below"):
        check.below("residual", float("nan"), 0.3)
    with pytest.raises(AssertionError, match="no value"):
        check.below("residual", [], 0.3)
    with pytest.raises(AssertionError, match="3 values fall"):
        check.true("order", torch.tensor(False), "3 values fall")


def double(x):
    return 2 * x


def make_inputs(generator):
    return (torch.randn(3, generator=generator),)


def fail(x):
    raise RuntimeError("not today")


@pytest.fixture(autouse=True)
def doubling(monkeypatch):
    monkeypatch.setattr(intro, "TASKS", (Task("ex-intro-double", "double", double, make_inputs),))


def in_place(x):
    return x.mul_(2)


@pytest.mark.parametrize(
    ("student", "says"),
    [
        (None, "not written yet"),
        (lambda x: None, "not written yet"),
        (lambda x: ..., "returns ellipsis of object, where real numbers"),
        (lambda x: NotImplemented, "not written yet"),
        (fail, "your function fails with RuntimeError: not today"),
        (lambda x, y: x, "your function fails with TypeError"),
        (lambda x: x[:2], r"returns the shape \(2,\), where \(3,\) is expected"),
        (lambda x: 2 * x + 1e-3, r"not right yet\. Relative error 0\.00\d+, where 1e-06 would pass"),
        (lambda x: x * float("nan"), "Relative error inf"),
    ],
)
def test_exercise_says_what_is_wrong_and_returns_the_reference(capsys, student, says):
    assert exercise("ex-intro-double", student) is double
    out = capsys.readouterr().out
    assert re.search(says, out) and out.count("\n") == 1
    assert out.startswith("double: ") and "The package's solution is used from here on; it scores nothing." in out


@pytest.mark.parametrize("student", [lambda x: x + x, in_place])
def test_exercise_returns_a_right_answer(capsys, student):
    assert exercise("ex-intro-double", student) is student
    assert capsys.readouterr().out.startswith("double: right. 20 random inputs, largest relative error 0.0e+00.")


def test_exercise_finds_a_rare_mistake_and_shows_its_inputs(capsys):
    def wrong_when_negative(x, scale):
        return (x.abs() * scale, x)

    def reference(x, scale):
        return (x * scale, x)

    def inputs(generator):
        x = torch.randn(1, generator=generator)
        return torch.where(x < 1.0, x.abs(), -x), 2.0

    verdict = judge(Task("ex-intro-pair", "pair", reference, inputs, trials=100), wrong_when_negative)
    assert not verdict.right and re.search(r"worst inputs: shape \(1,\) starting -\d.*; 2", verdict.says)


def test_an_error_of_the_reference_is_not_hidden():
    with pytest.raises(RuntimeError, match="not today"):
        judge(Task("ex-intro-double", "double", fail, make_inputs), double)


def test_an_unknown_label_is_told_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no exercise 'ex-gaussian-fly' .* ex-gaussian-flow"):
        exercise("ex-gaussian-fly", double)
    for label in ("ex-nowhere-flow", "flow", "ex-task-find"):
        with pytest.raises(ValueError, match="has none"):
            exercise(label, double)
