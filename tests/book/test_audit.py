"""The audit of the site finds each fault that it looks for, and none on a page without."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from audit import BUDGETS, main

ROOT = Path(__file__).resolve().parents[2]

GOOD = """<!doctype html><html lang="en"><head><title>A page</title></head><body><main><article>
<h1 id="a">A page</h1><p><span class="math">x</span></p><p><img alt="A square." src="data:image/png;base64,
iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="></p>
<label>A level <input type="range" min="0" max="4"></label>
</article></main></body></html>"""
FAULTS = {
    "wide": ("<article>", "<article><p style='width:3000px'>wide</p>"),
    "axe": ("<p><span", "<p style='color:#ccc'>pale<span"),
    "ids": ("<p><span", "<p id='a'><span"),
    "errors": ("</article>", "<script>console.error('no')</script></article>"),
    "remote": ("</article>", "<script src='http://example.org/a.js'></script></article>"),
    "formulas": ('class="math"', 'class="math" tabindex="0"'),
    "stuck": ('type="range"', 'type="range" onkeydown="event.preventDefault()"'),
    "alts": ('alt="A square."', 'alt=""'),
}


@pytest.mark.slow
@pytest.mark.browser
def test_each_fault_is_found_and_none_where_there_is_none(tmp_path, browser):
    """In a process of its own: a test's browser is open in this one."""
    pages = {name: GOOD.replace(*change) for name, change in FAULTS.items()}
    pages |= {"good": GOOD, "shared": GOOD.replace("</head>", "<script src='/_static/a.js'></script></head>")}
    for name, text in pages.items():
        assert name == "good" or text != GOOD
        (tmp_path / f"{name}.html").write_text(text)
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "a.js").write_text("//" + "x" * 1001 * BUDGETS["shared"])
    command = [sys.executable, str(ROOT / "tools" / "audit.py"), "--site", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    broken = {name: re.findall(r"[a-z]+", kinds) for name, kinds in re.findall(r"^(\w+): (.*)", done.stdout, re.M)}
    assert broken == {name: [name] for name in pages if name != "good"} | {"remote": ["errors", "remote"]}
    assert f"{len(pages)} pages, {len(pages) - 1} over" in done.stdout
    (tmp_path / "only.html").write_text(GOOD)
    assert subprocess.run([*command, "only", "good"], check=False).returncode == 0


def test_a_page_that_is_not_there_is_said(tmp_path, capsys):
    assert main(["--site", str(tmp_path)]) == 1
    assert "no such page" in capsys.readouterr().err
