"""The minutes of a page: what counts, what does not, and what a budget refuses."""

from pathlib import Path

import minutes
import pytest
from minutes import Reading, count, over, reading
from myst import Page, parse
from numbering import read_book

PAGE = """
# A title of five words

Some words with $a + b$ and {doc}`a page <name>` and a [link](https://example.org/long).

:::{prf:proof}
Proof text here.

$$
a = b
$$
:::

$$
c = d
$$

```{code-cell} ipython3
x = 1
```

```{code-cell} ipython3
---
tags: [hide-input]
mystnb:
  figure:
    name: fig-a
    caption: Four words are here.
---
draw()
```

```{code-cell} ipython3
:tags: [remove-input]

say(f"Now {x:.2f} stands here.")
sequence([], caption="Two words")
```

:::{dropdown} Answer
Three words inside.
:::

| a | b |
|---|---|
| c | d |

## Exercises

:::{exercise} Think: one
:label: ex-a
Five words of an exercise.
:::

```{code-cell} ipython3
def my_answer(): ...
```

:::{solution} ex-a
Words that do not count.
:::

## Summary

Two words.
"""


def page(text: str) -> Page:
    return Page("name", tuple(parse(text.splitlines(), 1)))


def test_what_a_page_asks_of_its_reader():
    got = reading(page(PAGE))
    prose = 5 + 10 + 3 + 4 + 3 + 2 + 1 + 3 + 4 + 1 + 1 + 2
    assert got == Reading(prose, exercise_words=7, proof_formulas=1, figures=3, cells=1)
    assert got.minutes == round(prose / 180 + 1.5 * 4 + 1)


def test_solutions_with_code_are_apart():
    text = ":::{solution-start} ex\n:::\nNot counted.\n```{code-cell} ipython3\nx\n```\n:::{solution-end}\n:::\nOne."
    assert reading(page(text)) == Reading(1)


@pytest.mark.parametrize(("text", "words"), [("", 0), ("a b, c -- d", 4), ("$x$ and $$y\nz$$", 3), ("{term}`a b`", 2)])
def test_words(text, words):
    assert count(text) == words


def test_a_page_over_its_budget_is_named():
    long = {"gaussian": Reading(cells=46), "elsewhere": Reading(cells=99)}
    assert over(long) == ["gaussian: 46 minutes, 45 at most"]
    assert over({"gaussian": Reading(words=20_001)})[1].startswith("words of the course: 20,001, 20,000")


def test_the_budgets_name_pages_of_the_book():
    names = {p.name for p in read_book(Path(__file__).parents[2]).pages}
    assert set(minutes.COURSE) | set(minutes.DEEPER) <= names
