"""Sphinx extension of the book: plain docstrings, a list of versions, and what the heads of pages say."""

import os
import platform
import re
import shutil
from html import escape as quoted
from importlib.metadata import version
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from minutes import reading
from myst import read_page
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from trust import RESULTS, ROOT, passage

LITERAL = re.compile(r"(``.*?``)", re.S)
PACKAGES = ("painters", "torch", "diffusers", "numpy", "matplotlib", "jupyter-book")


def escape(text: str) -> str:
    """Escape bars and stars outside literals, so that |x| and *shape are not markup."""
    parts = LITERAL.split(text)
    return "".join(part if part.startswith("``") else re.sub(r"([|*])", r"\\\1", part) for part in parts)


def process(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Rewrite one docstring in place, before Napoleon reads its sections."""
    lines[:] = escape("\n".join(lines)).split("\n")


class Versions(SphinxDirective):
    """Lists the profile, the machine and the versions that this build of the site used."""

    def run(self) -> list[nodes.Node]:
        """Make the list."""
        facts = [
            f"profile: {os.environ.get('PAINTERS_PROFILE', 'book')}",
            f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            *(f"{package} {version(package)}" for package in PACKAGES),
        ]
        return [nodes.bullet_list("", *(nodes.list_item("", nodes.paragraph("", fact)) for fact in facts))]


class Trust(SphinxDirective):
    """Says which tests hold the statements and the claims of the book, from the file that `tools/trust.py` wrote."""

    def run(self) -> list[nodes.Node]:
        """Make the sentences and the tables."""
        made = nodes.container()
        self.env.note_dependency(str(ROOT / RESULTS))
        self.state.nested_parse(StringList(passage(ROOT), str(RESULTS)), self.content_offset, made)
        return made.children


class Minutes(SphinxRole):
    """How long a page takes to read, as `tools/minutes.py` computes it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the text."""
        page = Path(__file__).parent.parent / "book" / f"{self.text}.md"
        if not page.exists():
            return [], [self.inliner.reporter.error(f"there is no page {self.text}", line=self.lineno)]
        return [nodes.inline("", f"{reading(read_page(page)).minutes} minutes", classes=["minutes"])], []


def lead(doctree: nodes.document) -> str:
    """Return the first sentences of a page, without its boxes, lists, tables and captions."""
    aside = (nodes.Admonition, nodes.figure, nodes.list_item, nodes.entry, nodes.sidebar)
    for paragraph in doctree.findall(nodes.paragraph):
        above, around = paragraph.parent, []
        while above is not None:
            around.append(above)
            above = above.parent
        text = " ".join(paragraph.astext().split())
        if len(text) < 60 or next(paragraph.findall(nodes.math), None) or any(isinstance(a, aside) for a in around):
            continue
        sentences = re.split(r"(?<=[.?!]) ", text)
        kept = sentences[0]
        for sentence in sentences[1:]:
            if len(kept) > 80 and len(kept) + len(sentence) > 200:
                break
            kept += f" {sentence}"
        return kept
    return ""


def picture(app: Sphinx, name: str) -> tuple[str, str]:
    """Return where the site has a page's first figure, or else the book's picture, and its text."""
    images = Path(__file__).parent.parent / "book" / "images"
    path = next((p for p in (images / "openings" / f"{name}.png", images / "painting.png") if p.exists()), None)
    if path is None:
        return "", ""
    there = Path(app.outdir) / "_images" / f"first-{path.name}"
    there.parent.mkdir(parents=True, exist_ok=True)
    if not there.exists():
        shutil.copy(path, there)
    with Image.open(path) as opened:
        text = opened.info.get("Description", "One run of a small diffusion model, from noise to a painted landscape.")
    return f"_images/{there.name}", str(text)


def head(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Say in a page's head what it is about, for those who find or pass on a link to it."""
    # The theme asks for it, and complains in the console where there is none.
    context["default_mode"] = "auto"
    if doctree is None:
        return
    title, book = str(context["title"]), str(app.config.html_title)
    if title.lower().startswith(f"{book}: ".lower()):  # the theme adds the book's
        title = title[len(book) + 2 :]
        context["title"] = title[0].upper() + title[1:]
    # Where the workflow of .github publishes.
    owner, _, name = str(app.config.html_theme_options.get("repository_url", "")).rpartition("/")
    site = f"https://{owner.rpartition('/')[2]}.github.io/{name}/"
    image, alt = picture(app, Path(pagename).name)
    title, about = app.env.titles[pagename].astext(), lead(doctree)
    facts = {
        "description": f"{title} {about}" if title.endswith("?") else about,  # an answer has its question before it
        "og:title": title,
        "og:site_name": book,
        "og:type": "website" if pagename == app.config.root_doc else "article",
        "og:url": f"{site}{pagename}.html",
        "og:image": site + image if image else "",
        "og:image:alt": alt,
        "twitter:card": "summary_large_image",
    }
    facts["og:description"] = facts["description"]
    for key, text in facts.items():
        kind = "property" if key.startswith("og:") else "name"
        if text:
            context["metatags"] += f'\n<meta {kind}="{key}" content="{quoted(text)}" />'


def unnamed(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Take from the parts of exercises and proofs the ids that they share with those of all others."""
    shared = {"proof", "proof-content", "exercise-content", "solution-content"}
    for node in doctree.findall(nodes.Element):
        if shared & set(node.get("ids", ())):
            node["ids"] = [name for name in node["ids"] if name not in shared]


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", process, priority=100)
    app.connect("doctree-resolved", unnamed)
    app.connect("html-page-context", head)
    app.add_directive("versions", Versions)
    app.add_directive("trust", Trust)
    app.add_role("minutes", Minutes())
    # A formula in a title shows in the navigation of pages that have none, so every page gets what draws it.
    app.set_html_assets_policy("always")
    return {"parallel_read_safe": True}
