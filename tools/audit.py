"""Open every page of the built site as a reader would, and measure it: `python tools/audit.py [PAGE ...]`.

Each page is opened in headless Chromium at the width of a desk and of a phone, with every request to another host
blocked; as it comes, with all folds opened, and in the dark theme. The table has a line for each page, the worst of its
variants; what breaks a budget is listed under it, and then the exit status is 1.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chromium import chromium, served

ROOT = Path(__file__).resolve().parent.parent
WIDTHS = (1280, 390)
RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "dark": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},  # the rest is the same
}
BUDGETS = {
    "wide": 0,  # pixels that a page is wider than its window
    "axe": 0,  # elements against a rule of WCAG 2.1, A or AA
    "ids": 0,  # ids that stand twice
    "errors": 0,  # messages of errors in the console
    "remote": 0,  # requests to another host
    "formulas": 0,  # formulas that the tabulator stops at
    "stuck": 0,  # sliders that the keys do not move
    "alts": 0,  # pictures without a text
    "shared": 1_500,  # kB of what all pages load
    "all": 2_500,  # kB of a page with everything it loads
}
"""The most that a page may have of each."""
COLUMNS = ("high", "tabs", *BUDGETS)

OPEN = """() => {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  document.querySelectorAll(".toggle-hidden").forEach(t => t.classList.remove("toggle-hidden"));
}"""
# Pictures that wait to be seen are loaded too, so that all of a page is weighed.
EAGER = """() => {
  for (const image of document.images) image.loading = "eager";
  return Promise.all([...document.images].map(i => i.decode().catch(() => 0)));
}"""
# Folds fade in, and the theme turns its colours slowly: half-way there the contrast is not that of the page.
STILL = """() => {
  const still = document.head.appendChild(document.createElement("style"));
  still.textContent = "*, ::before, ::after { transition: none !important; animation: none !important }";
}"""
DARK = """() => {
  document.documentElement.dataset.theme = document.documentElement.dataset.mode = "dark";
}"""
FACTS = """() => {
  const stops = [...document.querySelectorAll("*")].filter(e =>
    e.tabIndex >= 0 && !e.disabled && e.checkVisibility({visibilityProperty: true}));
  const count = new Map();
  for (const e of document.querySelectorAll("[id]")) count.set(e.id, (count.get(e.id) || 0) + 1);
  return {
    wide: document.documentElement.scrollWidth - innerWidth,
    tabs: stops.length,
    formulas: stops.filter(e => e.matches(".math, .math *") && !e.matches("a")).length,
    ids: [...count].filter(([, n]) => n > 1).map(([id]) => id),
    alts: [...document.images].filter(i => !i.alt.trim()).map(i => i.src.slice(0, 80)),
  };
}"""
SLIDERS = "article input[type=range]:enabled"


@dataclass
class Seen:
    """What was found on one page: numbers for the table, and a line for each fault."""

    page: str
    numbers: Counter = field(default_factory=Counter)
    faults: dict[str, None] = field(default_factory=dict)

    def worst(self, **numbers: float) -> None:
        """Keep the larger of each number and the one before."""
        for name, number in numbers.items():
            self.numbers[name] = max(self.numbers[name], round(number))

    def fault(self, kind: str, what: str) -> None:
        """Note a fault, once whatever the number of variants that have it."""
        self.faults[f"{kind}: {' '.join(what.split())}"] = None


def listen(view: Any, address: str, seen: Seen, weights: dict[str, int]) -> None:
    """Note the requests, their sizes and the errors of a page that is about to be opened."""

    def guard(route: Any) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            return route.continue_()
        seen.worst(remote=1)
        seen.fault("remote", route.request.url)
        return route.abort()

    def failed(text: str) -> None:
        seen.worst(errors=1)
        seen.fault("errors", text)

    def note(response: Any) -> None:
        if response.url.startswith(address) and response.status == 200:
            weights[urlsplit(response.url).path] = int(response.headers.get("content-length", 0))

    view.context.route("**/*", guard)
    view.on("response", note)
    view.on("pageerror", lambda error: failed(str(error)))
    view.on("console", lambda told: failed(f"{told.text} {told.location['url']}") if told.type == "error" else None)


def look(view: Any, seen: Seen, axe: Any) -> None:
    """Measure an open page: as it comes, with everything opened, and in the dark."""
    closed = view.evaluate(FACTS)
    seen.worst(high=view.evaluate("document.documentElement.scrollHeight"), tabs=closed["tabs"])
    view.evaluate(STILL)
    view.evaluate(OPEN)
    view.evaluate(EAGER)
    for facts in (closed, view.evaluate(FACTS)):
        seen.worst(wide=facts["wide"], formulas=facts["formulas"])
        for kind in ("ids", "alts"):
            seen.worst(**{kind: len(facts[kind])})
            for what in facts[kind]:
                seen.fault(kind, what)
    for theme, rules in RULES.items():
        if theme == "dark":
            view.evaluate(DARK)
        # What KaTeX draws is hidden from readers' aids, which get its MathML; there is a lot of it.
        places = {"exclude": [[".katex"]]}
        found = axe.run(view, places, {"resultTypes": ["violations"], "runOnly": rules, "preload": False})
        nodes = [(rule["id"], node) for rule in found.response["violations"] for node in rule["nodes"]]
        seen.worst(axe=len(nodes))
        for rule, node in nodes:
            place = f"{view.viewport_size['width']} px {theme}"
            seen.fault("axe", f"{rule}, {place}: {node['target'][-1]} {node['html'][:110]}")


def press(view: Any, seen: Seen) -> None:
    """Move every slider of a page by keyboard."""
    for slider in view.query_selector_all(SLIDERS):
        if not slider.is_visible():
            continue
        slider.focus()
        values = []
        for key in ("Home", "ArrowRight", "End"):
            view.keyboard.press(key)
            values.append(float(slider.input_value()))
        if not values[0] < values[1] <= values[2]:
            seen.worst(stuck=seen.numbers["stuck"] + 1)
            seen.fault("stuck", slider.evaluate("e => e.outerHTML"))


def weigh(seen: Seen, weights: dict[str, int]) -> None:
    """Add up in kB what a page loaded: what all pages load, and all of it."""
    own = ("/_static/live/", "/_static/ort/")
    shared = sum(size for at, size in weights.items() if "/_static/" in at and not at.startswith(own))
    seen.worst(shared=shared / 1000, all=sum(weights.values()) / 1000)
    seen.worst(images=sum(size for at, size in weights.items() if at.startswith("/_images/")) / 1000)


def audit(pages: list[str], folder: Path) -> list[Seen]:
    """Open pages in all variants and return what was found."""
    from axe_playwright_python.sync_playwright import Axe

    every, axe = [], Axe()
    with served(folder) as address, chromium() as browser:
        for page in pages:
            seen, weights = Seen(Path(page).stem), {}
            for width in WIDTHS:
                context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
                view = context.new_page()
                listen(view, address, seen, weights)
                view.goto(f"{address}/{page}", wait_until="load")
                view.evaluate("() => document.fonts.ready.then(() => true)")
                press(view, seen)
                look(view, seen, axe)
                context.close()
            weigh(seen, weights)
            every.append(seen)
    return every


def over(seen: Seen) -> list[str]:
    """Name the budgets that a page breaks."""
    return [name for name, most in BUDGETS.items() if seen.numbers[name] > most]


def report(every: list[Seen]) -> int:
    """Print the table and the faults; return how many pages break a budget."""
    wide = max(len(seen.page) for seen in every)
    print(f"{'':{wide}}  {'  '.join(f'{name:>8}' for name in COLUMNS)}")
    for seen in every:
        print(f"{seen.page:{wide}}  {'  '.join(f'{seen.numbers[name]:>8,}' for name in COLUMNS)}")
    broken = [seen for seen in every if over(seen)]
    for seen in broken:
        print(f"\n{seen.page}: {', '.join(f'{name} {seen.numbers[name]:,}' for name in over(seen))}")
        for line in seen.faults:
            print(f"  {line}")
    return len(broken)


def main(arguments: list[str] | None = None) -> int:
    """Audit the site; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure every page of the built site against its budgets.")
    parser.add_argument("pages", nargs="*", help="names of pages, such as gaussian; without any, all of them")
    parser.add_argument("--site", type=Path, default=ROOT / "_build" / "html", help="the folder of the site")
    options = parser.parse_args(arguments)
    site, start = options.site.resolve(), time.monotonic()
    found = sorted(p for p in site.rglob("*.html") if "_static" not in p.parts and p.name != "index.html")
    pages = [str(p.relative_to(site)) for p in found if not options.pages or p.stem in options.pages]
    if not pages:
        print(f"There is no such page in {site}; run make book.", file=sys.stderr)
        return 1
    workers = min(os.cpu_count() or 1, 4, len(pages))
    with ProcessPoolExecutor(workers) as pool:
        parts = pool.map(audit, [pages[i::workers] for i in range(workers)], [site] * workers)
        every = sorted((seen for part in parts for seen in part), key=lambda seen: seen.page)
    broken = report(every)
    print(f"\n{len(every)} pages, {broken} over a budget; {time.monotonic() - start:.0f} s.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
