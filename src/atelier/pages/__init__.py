"""Helpers for the book's chapters: the profile, checks, exercises and figures.

A chapter's setup cell imports everything it needs from here::

    from atelier.pages import check, exercise, run, sequence, set_style, strip
"""

from . import checks as check
from .exercises import exercise
from .figures import PALETTE, poster, set_style, strip
from .profile import Run, run
from .sequences import sequence
from .shown import say
from .tables import table

__all__ = [
    "PALETTE", "Run", "check", "exercise", "poster", "run", "say", "sequence", "set_style", "strip", "table",
]  # fmt: skip
