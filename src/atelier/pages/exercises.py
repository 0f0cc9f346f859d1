"""Exercises that check themselves and let the notebook run to its end."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .checks import distance


class _Unfinished(Exception):
    """The reader's function returns nothing yet."""


def _error(got: Any, want: Any) -> float:
    """Return the relative error of one answer; of a tuple, the largest."""
    if got is None or got is NotImplemented:
        raise _Unfinished
    if isinstance(want, tuple):
        if not isinstance(got, tuple) or len(got) != len(want):
            raise ValueError(f"expected {len(want)} values, got {type(got).__name__}")
        return max(_error(a, b) for a, b in zip(got, want))
    error, scale = distance(got, want)
    relative = error / scale if scale > 0 else error
    return relative if np.isfinite(relative) else float("inf")


def _show(value: Any) -> str:
    """Describe one argument in a few characters."""
    if not hasattr(value, "shape"):
        return f"{value:.4g}" if isinstance(value, float) else repr(value)
    flat = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value).ravel()
    numbers = ", ".join(f"{v:.4g}" for v in flat[:4])
    return f"shape {tuple(value.shape)} starting {numbers}"


def exercise(
    name: str,
    student: Callable[..., Any] | None,
    reference: Callable[..., Any],
    make_inputs: Callable[[torch.Generator], tuple],
    *,
    trials: int = 20,
    rtol: float = 1e-6,
) -> Callable[..., Any]:
    """Test the reader's function against the reference on random inputs, and return one that works.

    Args:
        name: what the exercise is called in the printed line.
        student: the reader's function. None, or a function that returns None, counts as not written yet.
        reference: the solution; it may return an array, a number, or a tuple of them.
        make_inputs: maps a seeded ``torch.Generator`` to the tuple of arguments of one trial.
        trials: how many random inputs.
        rtol: the largest relative error (norm of the difference over norm of the answer) that passes.

    Returns:
        ``student`` if it is right; otherwise ``reference``, after printing what is wrong.
    """
    worst, worst_inputs = -1.0, ()
    for trial in range(trials):
        inputs = make_inputs(torch.Generator().manual_seed(trial))
        want = reference(*copy.deepcopy(inputs))
        try:
            if student is None:
                raise _Unfinished
            error = _error(student(*copy.deepcopy(inputs)), want)
        # a reader's function may say by its own ``raise NotImplementedError`` that it is not written yet
        except (_Unfinished, NotImplementedError):
            print(f"{name}: not written yet. The solution is used from here on.")
            return reference
        except Exception as problem:  # the reader's code may fail in any way
            print(f"{name}: your function fails with {type(problem).__name__}: {problem}. ", end="")
            print(f"The inputs were {'; '.join(map(_show, inputs))}. The solution is used from here on.")
            return reference
        if error > worst:
            worst, worst_inputs = error, inputs
    if worst > rtol:
        print(f"{name}: not right yet. Relative error {worst:.2g}, where {rtol:.0e} would pass. ", end="")
        print(f"The worst inputs: {'; '.join(map(_show, worst_inputs))}. The solution is used from here on.")
        return reference
    assert student is not None
    print(f"{name}: right. {trials} random inputs, largest relative error {worst:.1e}.")
    return student
