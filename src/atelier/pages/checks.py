"""Checks that a chapter's statements hold: a mark in a notebook, a line in a terminal, or an error with the numbers.

Errors are norms: ``||got - want|| / ||want||`` over all entries, never a signed sum and never per entry.
"""

from html import escape
from typing import Any

import numpy as np

from atelier.linalg import as_array, distance

from .shown import Shown, displayed, embedded, notebook

_held: list[str] = []
"""What the checks of the running cell found, until the cell has ended."""


def close(name: str, got: Any, want: Any, *, rtol: float | None = None, atol: float | None = None) -> None:
    """Check ``||got - want|| <= rtol ||want||``, or ``<= atol``; give one of the two (default rtol=1e-6).

    Raises:
        AssertionError: if the error is larger, not finite, or the shapes differ.
        ValueError: if both tolerances are given, or ``rtol`` is asked of a zero ``want``.
    """
    if rtol is not None and atol is not None:
        raise ValueError(f"check {name}: give rtol or atol, not both.")
    try:
        error, scale = distance(got, want)
    except ValueError as problem:
        raise AssertionError(f"check {name} failed: {problem}.") from None
    if atol is not None:
        kind, limit = "absolute", atol
    elif scale == 0:
        raise ValueError(f"check {name}: the expected value is zero, so give atol instead of rtol.")
    else:
        kind, limit, error = "relative", 1e-6 if rtol is None else rtol, error / scale
    # Written so that NaN fails.
    if not error <= limit:
        raise AssertionError(f"check {name} failed: {kind} error {error:.3g} > {limit:.3g}.")
    _say(f"{name}: {kind} error {error:.1e} <= {limit:.3g}")


def below(name: str, value: Any, limit: float) -> None:
    """Check that every entry of ``value`` is finite and less than ``limit``.

    Raises:
        AssertionError: if one is not.
    """
    array = as_array(value)
    if array.size == 0:
        raise AssertionError(f"check {name} failed: there is no value to compare with {limit:.3g}.")
    worst = float(array.max())
    if not (np.isfinite(array).all() and worst < limit):
        raise AssertionError(f"check {name} failed: {worst:.4g} is not below {limit:.4g}.")
    _say(f"{name}: {worst:.4g} < {limit:.4g}")


def true(name: str, condition: Any, detail: str) -> None:
    """Check a condition; ``detail`` says in words, with numbers, what holds.

    Raises:
        AssertionError: if it does not hold.
    """
    if not bool(condition):
        raise AssertionError(f"check {name} failed: this should hold and does not: {detail}.")
    _say(f"{name}: {detail}")


def _say(line: str) -> None:
    """In a notebook, keep the line for the mark at the end of the cell; elsewhere print it."""
    shell = notebook()
    if shell is None:
        print(f"checked {line}")
        return
    if not _held:
        shell.events.register("post_run_cell", _mark)
    _held.append(line)


def _mark(result: Any) -> None:
    """End a cell with one mark for all its checks, and their numbers in a fold."""
    shell = notebook()
    if shell is not None:
        shell.events.unregister("post_run_cell", _mark)
    lines, count = [f"checked {line}" for line in _held], len(_held)
    _held.clear()
    summary = f"{count} checks hold" if count > 1 else "checked"
    listed = "".join(f"<li>{escape(line.removeprefix('checked '))}</li>" for line in lines)
    html = f'{embedded("check.css")}<details class="check"><summary>{summary}</summary><ul>{listed}</ul></details>'
    displayed(Shown("\n".join(lines), html))
