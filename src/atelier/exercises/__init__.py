"""Exercises that check themselves: solutions and random inputs, one module a page.

An exercise is known by its label, ``ex-gaussian-flow``: the module ``gaussian`` has it among its ``TASKS``.
"""

from .task import Task, Verdict, find, judge

__all__ = ["Task", "Verdict", "find", "judge"]
