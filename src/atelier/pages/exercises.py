"""Exercises that check themselves and let the notebook run to its end."""

from collections.abc import Callable
from typing import Any

from atelier.exercises import Task, find, judge


def exercise(
    name: str,
    student: Callable[..., Any] | None,
    reference: Callable[..., Any] | None = None,
    make_inputs: Callable[..., tuple] | None = None,
    *,
    trials: int = 20,
    rtol: float = 1e-6,
) -> Callable[..., Any]:
    """Test the reader's function against the package's solution on random inputs, and return one that works.

    Args:
        name: the exercise's label, ``ex-gaussian-flow``.
        student: the reader's function. None, or a function that returns None, counts as not written yet.

    Returns:
        ``student`` if it is right; otherwise the package's solution, after printing what is wrong.

    Raises:
        ValueError: if the package has no such exercise.
    """
    task = Task(name, name, reference, make_inputs, trials, rtol) if reference and make_inputs else find(name)
    verdict = judge(task, student)
    if verdict.right:
        assert student is not None
        print(f"{task.title}: {verdict.says}")
        return student
    print(f"{task.title}: {verdict.says} The package's solution is used from here on; it scores nothing.")
    return task.reference
