"""One exercise with code, and the verdict on a reader's function."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from atelier.linalg import distance


@dataclass(frozen=True)
class Task:
    """One exercise with code.

    Args:
        label: its label in the book, ``ex-PAGE-...``.
        title: what it is called in the printed line.
        reference: the solution; it may return an array, a number, or a tuple of them.
        inputs: maps a seeded ``torch.Generator`` to the tuple of arguments of one trial.
        trials: how many random inputs.
        rtol: the largest relative error (norm of the difference over norm of the answer) that passes.
    """

    label: str
    title: str
    reference: Callable[..., Any]
    inputs: Callable[[torch.Generator], tuple]
    trials: int = 20
    rtol: float = 1e-6


@dataclass(frozen=True)
class Verdict:
    """Whether a reader's function is right, and one sentence about it."""

    right: bool
    says: str


class _Unfinished(Exception):
    """The reader's function returns nothing yet."""


class _Misfit(Exception):
    """The reader's function returns another kind of thing than is wanted."""


def find(label: str) -> Task:
    """Return the exercise with a label.

    Raises:
        ValueError: if the package has none.
    """
    name = f"{__package__}.{label.split('-')[1]}" if label.count("-") > 1 else ""
    tasks: tuple[Task, ...] = getattr(import_module(name), "TASKS", ()) if name and find_spec(name) else ()
    for task in tasks:
        if task.label == label:
            return task
    has = ", ".join(task.label for task in tasks) or "none"
    raise ValueError(f"there is no exercise {label!r} with code; of its page the package has {has}.")


def _error(got: Any, want: Any) -> float:
    """Return the relative error of one answer; of a tuple, the largest. Nothing is broadcast, and nothing left out.

    Raises:
        _Misfit: if it is no real number or array, or not of the shape that is wanted.
    """
    if got is None or got is NotImplemented:
        raise _Unfinished
    kind = type(got).__name__
    if isinstance(want, tuple):
        if not isinstance(got, tuple) or len(got) != len(want):
            kind = f"{kind} of {len(got)}" if isinstance(got, tuple) else kind
            raise _Misfit(f"{kind}, where a tuple of {len(want)} is expected")
        return max(_error(a, b) for a, b in zip(got, want))
    try:
        array = np.asarray(got.detach().cpu() if isinstance(got, torch.Tensor) else got)
    except ValueError:  # ragged
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise _Misfit(f"{kind} of {array.dtype}, where real numbers are expected")
    if array.shape != (shape := tuple(np.shape(want))):
        raise _Misfit(f"the shape {array.shape}, where {shape or 'one number'} is expected")
    error, scale = distance(array, want)
    relative = error / scale if scale > 0 else error
    return relative if np.isfinite(relative) else float("inf")


def _show(value: Any) -> str:
    """Describe one argument in a few characters."""
    if not hasattr(value, "shape"):
        return f"{value:.4g}" if isinstance(value, float) else repr(value)
    flat = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value).ravel()
    numbers = ", ".join(f"{v:.4g}" for v in flat[:4])
    return f"shape {tuple(value.shape)} starting {numbers}"


def judge(task: Task, student: Callable[..., Any] | None) -> Verdict:
    """Test a reader's function against the reference on random inputs.

    None, a function that returns None, and one that raises ``NotImplementedError`` count as not written yet.
    """
    worst, worst_inputs = -1.0, ()
    for trial in range(task.trials):
        inputs = task.inputs(torch.Generator().manual_seed(trial))
        want = task.reference(*copy.deepcopy(inputs))
        try:
            if student is None:
                raise _Unfinished
            error = _error(student(*copy.deepcopy(inputs)), want)
        except (_Unfinished, NotImplementedError):
            return Verdict(False, "not written yet.")
        except Exception as problem:  # the reader's code may fail in any way
            shown = "; ".join(map(_show, inputs))
            misfit = isinstance(problem, _Misfit)
            says = f"returns {problem}" if misfit else f"fails with {type(problem).__name__}: {problem}"
            return Verdict(False, f"your function {says}. The inputs were {shown}.")
        if error > worst:
            worst, worst_inputs = error, inputs
    if worst > task.rtol:
        says = f"not right yet. Relative error {worst:.2g}, where {task.rtol:.0e} would pass. "
        return Verdict(False, says + f"The worst inputs: {'; '.join(map(_show, worst_inputs))}.")
    return Verdict(True, f"right. {task.trials} random inputs, largest relative error {worst:.1e}.")
