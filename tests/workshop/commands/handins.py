"""Hand-ins for the tests of grading: right, wrong, broken and hostile ones, and a command that writes a folder of them.

python tests/workshop/commands/handins.py FOLDER 200    this many; each kind at least once
"""

import json
import sys
from itertools import count, cycle
from pathlib import Path

from atelier.commands.contained import OURS

LABEL, OTHER = "ex-intro-difference", "ex-intro-own"
DIFFERENCE = """
def my_difference(x, x0, here, there):
    (alpha, sigma), (a, s) = here, there
    return (a - s / sigma * alpha) * x0 - (1 - s / sigma) * x
"""
OWN = """
def my_own(first, second):
    return (torch.cdist(first.flatten(1), second.flatten(1)).argmin(1) == torch.arange(len(first))).double().mean()
"""
HEAD = "import torch, math\nfrom atelier.pages import check, exercise\nraise SystemExit('a chapter is never run')"
# Each defines the function of LABEL; with what is said of it, or None if it is right all the same.
HOSTILE = {
    "loop": ("def my_difference(*a):\n    while True: pass", "took longer"),
    "import-loop": ("while True: pass\n" + DIFFERENCE, "took longer"),
    "memory": ("def my_difference(*a):\n    kept = []\n    while True: kept.append(bytearray(1 << 26))", "MemoryError"),
    "many-memory": (
        "import os\ndef my_difference(*a):\n    os.fork()\n    kept = [bytearray(1 << 28) for _ in range(99)]",
        "",
    ),
    "os-exit": ("import os\ndef my_difference(*a): os._exit(0)", "ended its process with status 0"),
    "sys-exit": ("import sys\ndef my_difference(*a): sys.exit(0)", "SystemExit"),
    "import-error": ("1 / 0\nraise KeyError\ndef other(): pass\n[][0]\nx = my_difference = y", "ZeroDivisionError"),
    "syntax": ("def my_difference(x:\n    return", "SyntaxError"),
    "delete": ("import shutil, os\ndef my_difference(*a):\n    shutil.rmtree(GONE)", "FileNotFoundError"),
    "write": ("def my_difference(*a):\n    open('/usr/escaped', 'w').write('x')", "OSError"),
    "fill": ("def my_difference(*a):\n    while True: open('f', 'ab').write(bytes(1 << 20))", ""),
    "fork-bomb": ("import os\ndef my_difference(*a):\n    while True: os.fork()", ""),
    "orphan": ("import os, time\ndef my_difference(*a):\n    os.fork() or time.sleep(99)\n    return 0", "BlockingIO"),
    "flood": ("def my_difference(*a):\n    for _ in range(50): print('x' * 10**6)\n    return a[0]", "Relative error"),
    "flood-pipe": (
        "import os\ndef my_difference(*a):\n    while True: [os.write(3, b'T' * (1 << 20)) for _ in range(9)]",
        "sent more than",
    ),
    "large": ("import torch\ndef my_difference(*a): return torch.zeros(1 << 21).double()", ""),
    "recursion": ("def my_difference(*a): return my_difference(*a)", "RecursionError"),
    "segfault": ("import ctypes\ndef my_difference(*a): ctypes.string_at(0)", "SIGSEGV"),
    "network": (
        "import socket\ndef my_difference(*a): socket.create_connection(('127.0.0.1', PORT), 1)",
        "Network is unreachable",
    ),
    "find": ("from atelier.exercises import find\ndef my_difference(*a): return find('ex').reference(*a)", OURS),
    "find-in": ("def my_difference(*a):\n    import atelier.exercises.intro as i\n    return i.difference(*a)", OURS),
    "exercise": ("my_difference = exercise('ex-intro-difference', None)", OURS),
    "source": (
        "import atelier\ndef my_difference(*a):\n    exec(open(atelier.__path__[0] + '/exercises/intro.py').read())",
        "FileNotFoundError",
    ),
    "objects": (
        "import gc\ndef my_difference(*a):\n"
        "    functions = [o for o in gc.get_objects() if type(o) is type(lambda: 0) and o.__name__ == 'difference']\n"
        "    return [f for f in functions if 'shrink' in f.__code__.co_varnames][0](*a)",
        "IndexError",
    ),
    "patched": (
        "import numpy, torch, math\nnumpy.linalg.norm = lambda *a: 0.0\nmath.isfinite = lambda *a: True\n"
        "torch.Tensor.__sub__ = lambda *a: 0\ndef my_difference(x, *a): return x",
        "Relative error",
    ),
    "forged": (
        "import os\ndef my_difference(*a):\n    os.write(3, b'T{\"right\": true}')\n    os._exit(0)",
        "no values",
    ),
    "pickle": (
        "import os\nclass Evil:\n    def __reduce__(self): return os.system, ('touch /tmp/evil',)\n"
        "def my_difference(*a): return Evil()",
        "TypeError",
    ),
    "no-number": ("import torch\ndef my_difference(*a): return torch.zeros(0)", "the shape (0,), where"),
    "key": (
        "import os\ndef my_difference(*a):\n    raise KeyError(KEY in str(os.environ), open(KEY).read())",
        "FileNotFoundError",
    ),
    "listed": ("def my_difference(x, *a): return [1, 2, 3]", "the shape (3,), where"),
    "short": ("def my_difference(x, *a): return (x,)", "the shape (1,"),
    "truth": ("def my_difference(x, *a): return x == x", "of bool, where real numbers"),
    "print": ("def my_difference(x, *a):\n    while True: print('x' * 10**6)", "took longer"),
    "nan": ("def my_difference(x, *a): return x * float('nan')", "Relative error inf"),
    "text": (
        "class E(Exception):\n    def __str__(self): raise self\ndef my_difference(*a): raise E",
        "cannot be shown",
    ),
    "formula": ("class E(Exception): pass\nE.__name__ = '=1+1'\ndef my_difference(*a): raise E('\\n2')", "'=1+1: 2"),
    "del": (DIFFERENCE + "class D:\n    def __del__(self):\n        while True: pass\nd = D()", None),
    "thread": (DIFFERENCE + "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()", None),
    "after": (DIFFERENCE + "print(painting.x)", None),
    "stop": (
        "import os, signal, time\ndef my_difference(x, *a):\n"
        "    os.kill(os.getppid(), signal.SIGSTOP)\n    time.sleep(99)",
        "",
    ),
    "kill": (
        "import os\ndef my_difference(x, *a):\n    for p in (os.getppid(), -1):\n        os.kill(p, 9)\n    return x",
        "",
    ),
}  # fmt: skip


def notebook(own: str | None, other: str | None = OWN, *, about=True, check="exercise('{}', {})"):
    """A hand-in of two exercises, in the form of the student edition."""

    def cell(source, **painters):
        metadata = {"painters": painters} if painters and about else {}
        return {"cell_type": "code", "metadata": metadata, "source": source.splitlines(True), "outputs": []}

    cells = [cell(HEAD)]
    for label, name, source in ((LABEL, "my_difference", own), (OTHER, "my_own", other)):
        if source is not None:
            cells.append(cell(source, exercise=label, role="answer", points=1000))
            cells.append(cell(check.format(label, name), exercise=label, role="check"))
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


# Whole hand-ins that are right, wrong, broken or incomplete.
WHOLE = {
    "right.ipynb": notebook(DIFFERENCE),
    "stripped.ipynb": notebook(DIFFERENCE, about=False),
    "wrong.ipynb": notebook(DIFFERENCE.replace("1 -", "2 -"), OWN.replace(".mean", ".sum")),
    "empty.ipynb": notebook("def my_difference(*a): ...", "def my_own(*a): return None"),
    "missing.ipynb": notebook(None),
    "no-cells.ipynb": json.dumps({"cells": []}),
    "nothing.ipynb": "",
    "json.ipynb": '{"cells": [',
    "deep.ipynb": "[" * 100_000,
    "list.ipynb": "[1]",
    "bytes.ipynb": "\x00\udcff",
    "checks.ipynb": notebook("def my_difference(*a): return 1", check="exercise = print\nexercise('{}', {})"),
    "=cmd.ipynb": notebook(DIFFERENCE),
    "folder/one.ipynb": notebook(None),
    "folder/inner/two.ipynb": notebook(DIFFERENCE, None),
    "folder/broken.ipynb": "{",
    "no-notebook/x.txt": "",
}


def written(folder: Path, texts: dict[str, str]) -> None:
    """Write hand-ins by their names."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")


def many(total: int) -> dict[str, str]:
    """Return hand-ins of every kind, filled up with right and wrong ones."""
    texts = {f"hostile-{name}.ipynb": notebook(source) for name, (source, _) in HOSTILE.items()} | WHOLE
    for name, place in (("GONE", "'/'"), ("PORT", "80"), ("KEY", "'/hidden.key'")):
        texts = {file: text.replace(name, place) for file, text in texts.items()}
    usual = cycle((DIFFERENCE, DIFFERENCE, DIFFERENCE.replace("1 -", "2 -"), "def my_difference(*a): ..."))
    for i, own in zip(count(), usual):
        if len(texts) >= total:
            return texts
        texts[f"usual-{i:03}.ipynb"] = notebook(own + f"# {i}")
    raise AssertionError


if __name__ == "__main__":
    written(Path(sys.argv[1]), many(int(sys.argv[2])))
