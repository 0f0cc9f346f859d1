"""Turn MyST blocks into Markdown that Colab, Jupyter and GitHub render."""

import ast
import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from mimetypes import guess_type
from pathlib import Path

from docutils.nodes import make_id
from minutes import reading
from myst import Block, MystError, children
from numbering import BOXES, STATEMENTS, Book, Target, key_of
from pybtex.database import BibliographyData, Entry, Person
from pybtex.richtext import Text

ROLE = re.compile(r"\{(?P<role>[a-zA-Z][\w:.-]*)\}`(?P<body>[^`]+)`|(?P<code>`+)(?!`).+?(?<!`)(?P=code)(?!`)", re.S)
LABELLED = re.compile(r"^(?P<text>.+?)\s*<(?P<label>[^<>]+)>$", re.S)
# Marks of MyST that have no meaning in a notebook. Code and formulas are taken out before they are looked for.
LEFTOVERS = {
    r":::": "a stray ::: fence",
    r"\{[a-zA-Z][\w:.-]*\}`": "a role without its closing backquote",
    r"\{\{": "a substitution {{ }}",
    r"\]\(#|\[\]\(|<project:": "a MyST link; use {ref} or {doc}",
    r"\]\((?!https?:)[^)\s]+\.md\b": "a link to a source page; use {doc}",
    r"^\\begin\{": "a formula outside $$",
}
LINTS = re.compile(r"[ \t]*#\s*(?:noqa|type:|pyright:|ruff:).*")
"""Comments for tools, which tell a reader nothing."""
BLUE, PURPLE, RED, GREY = "#1976d2", "#9b51c4", "#d9392b", "#6b7280"
"""Readable on white and on black. Colab keeps the attributes of a few old elements and drops every `style`."""
ALARMS = {"warning", "important", "caution", "attention", "danger"}


@dataclass
class Renderer:
    """Renders one page; collects the works it cites.

    `repository` is the project's address, `folder` the one of the pages.
    """

    book: Book
    page: str
    repository: str
    bibliography: BibliographyData
    folder: Path
    cited: dict[str, None] = field(default_factory=dict)

    def fail(self, line: int, what: str) -> MystError:
        """Make the error for a line of this page."""
        return MystError(f"book/{self.page}.md:{line}: {what}.")

    # Blocks

    def blocks(self, blocks: Iterable[Block]) -> str:
        """Render blocks one after the other, with a blank line between."""
        return "\n\n".join(part for part in map(self.block, blocks) if part)

    def block(self, block: Block) -> str:
        """Render one block; code cells and gates are the exporter's."""
        if block.kind == "target":
            return ""
        if block.kind == "heading":
            number = self.book.headings.get((self.page, block.line), "")
            return f"{block.name} {number}{'. ' if number else ''}{self.inline(block.argument, block.line)}"
        if block.kind == "fence":
            return "\n".join((block.name, *block.lines, re.match(r" *[`~]+", block.name)[0]))  # type: ignore[index]
        if block.kind == "math":
            return self.math(block.lines, block.argument)
        if block.kind == "text":
            return self.inline("\n".join(block.lines).strip("\n"), block.line)
        return self.directive(block)

    def directive(self, block: Block) -> str:
        """Render a directive, or refuse it."""
        name, title = block.name, self.inline(block.argument, block.line) if block.argument else ""
        if name == "math":
            return self.math(block.lines, block.options.get("label", ""))
        if name == "code-block":
            return "\n".join((f"```{block.argument}", *block.lines, "```"))
        if name == "literalinclude":
            return self.included(block)
        if name == "raw":
            return "*Here the site has an instrument that computes in the browser.*"
        if name in ("figure", "image"):
            return self.picture(block)
        if name == "table":
            caption = self.caption(block.options.get("name", ""), title, block.line)
            return f"{caption}\n\n{self.blocks(children(block))}"
        if name == "prf:proof":
            return f"*Proof.* {self.ended(self.blocks(children(block)), block.line)}"
        if name in ("tab-set", "grid", "grid-item"):
            return self.blocks(children(block))
        if name == "grid-item-card":
            link = self.linked(block.options.get("link", ""), block.options.get("link-type", "doc"), title, block.line)
            return f"**{link}** {self.blocks(children(block))}"
        if name == "button-ref":
            text = self.blocks(children(block))
            return self.linked(block.argument, block.options.get("ref-type", "doc"), text, block.line)
        if name == "tab-item":
            return f"**{title}**\n\n{self.blocks(children(block))}"
        if name in ("solution", "dropdown"):
            return details(title if name == "dropdown" else "Solution", self.blocks(children(block)))
        if name == "exercise" or (name.startswith("prf:") and name[4:] in STATEMENTS):
            head, text = self.statement_title(block), self.blocks(children(block))
            named = f" ({title})" if title else ""
            if name == "exercise":
                return f"---\n\n### {head}{named}\n\n{text}"
            return quote(f"**{coloured(head, BLUE)}**{named}", f"\n\n{text}")
        if name in BOXES:
            sign, colour = ("▲ ", RED) if name in ALARMS else ("", GREY)
            return box(sign + name.capitalize(), colour, f"{title}\n{self.blocks(children(block))}".lstrip())
        if name in ("admonition", "card", "margin"):
            return box(title or "Aside", PURPLE if name == "admonition" else GREY, self.blocks(children(block)))
        raise self.fail(block.line, f"the exporter does not know the directive {{{name}}}")

    def linked(self, label: str, kind: str, text: str, line: int) -> str:
        """Render a card's or a button's link."""
        return self.role("doc" if kind == "doc" else "ref", f"{text} <{label}>", line)

    def statement_title(self, block: Block) -> str:
        """Return e.g. `Proposition 1.2`."""
        target = self.book.targets.get(key_of(self.page, block))
        return target.text if target else block.name.removeprefix("prf:").capitalize()

    def ended(self, text: str, line: int) -> str:
        """Return a proof with its mark at its end, in the formula if it ends with one, so that none stands alone."""
        if text.endswith("$$"):
            body, tag, number = text[:-2].rstrip().partition(" \\tag{")
            return f"{body} \\qquad\\blacksquare{tag}{number}\n$$"
        if text.endswith(("```", ">", "|")):
            raise self.fail(line, "a proof ends with text or with a formula")
        return f"{text}\u00a0∎"

    def math(self, lines: Iterable[str], label: str) -> str:
        """Render a displayed formula on its own lines, with the site's number as its tag."""
        body = "\n".join(line for line in lines if line.strip()).strip()
        if ("\\\\" in body or "&" in body) and "\\begin{" not in body:
            body = f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"
        tag = f" \\tag{{{self.book.targets[label].number}}}" if label else ""
        return f"$$\n{body}{tag}\n$$"

    def included(self, block: Block) -> str:
        """Render one function or class of a file, its path given from the folder of the pages, as code."""
        path, name = self.folder / block.argument, block.options.get("pyobject", "")
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = (node for node in ast.parse(text).body if name and getattr(node, "name", "") == name)
        if (node := next(found, None)) is None:
            raise self.fail(block.line, f"{block.argument} has no {name or ':pyobject:'}")
        lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
        return LINTS.sub("", "\n".join(("```python", *lines, "```")))

    def picture(self, block: Block) -> str:
        """Render a picture file."""
        alt = block.options.get("alt", "")
        if not alt:
            raise self.fail(block.line, f"the {block.name} {block.argument} has no :alt:")
        image = f"![{alt}]({self.image(block)})"
        if block.name == "image":
            return image
        text = self.blocks(children(block))
        return f"{image}\n\n{self.caption(block.options.get('name', ''), text, block.line)}"

    def image(self, block: Block) -> str:
        """Return a picture itself as an address, since Colab has no files beside a notebook."""
        path = self.folder / block.argument
        if not path.is_file():
            raise self.fail(block.line, f"there is no file {block.argument}")
        return f"data:{guess_type(path.name)[0]};base64,{base64.b64encode(path.read_bytes()).decode()}"

    def caption(self, label: str, text: str, line: int) -> str:
        """Return a caption with the site's number."""
        target = self.book.targets.get(label)
        if target is None:
            raise self.fail(line, "a figure or table with a caption needs a name")
        return f"**{target.text}.** {text.strip()}"

    # Inline

    def inline(self, text: str, line: int) -> str:
        """Replace the roles of some text; code spans stay as they are."""
        outside = []

        def replace(match: re.Match) -> str:
            if match["code"]:
                return match[0]
            at = line + text.count("\n", 0, match.start())
            return self.role(match["role"], " ".join(match["body"].split()), at)

        outside = re.sub(r"\$\$.*?\$\$|\$[^$]+\$", "", ROLE.sub("", text), flags=re.S)
        for pattern, what in LEFTOVERS.items():
            if re.search(pattern, outside, re.M):
                raise self.fail(line, f"the exporter found {what}")
        return footnotes(ROLE.sub(replace, text))

    def role(self, role: str, body: str, line: int) -> str:
        """Render one role, or refuse it."""
        labelled = LABELLED.match(body)
        label, text = (labelled["label"], labelled["text"]) if labelled else (body, "")
        if role == "doc":
            if label not in self.book.titles:
                raise self.fail(line, f"there is no page {label}")
            return f"[{text or self.book.titles[label]}]({self.address(label)})"
        if role in ("ref", "numref", "eq", "prf:ref"):
            return self.reference(label, text, line)
        if role == "term":
            return f"*{text or label}*"
        if role in ("cite", "cite:p", "cite:t"):
            return self.cite(role, [key.strip() for key in body.split(",")], line)
        if role == "minutes":
            page = next((page for page in self.book.pages if page.name == body), None)
            if page is None:
                raise self.fail(line, f"there is no page {body}")
            return f"{reading(page).minutes} minutes"
        if role in ("sup", "sub"):
            return f"<{role}>{body}</{role}>"
        if role == "math":
            return f"${body}$"
        raise self.fail(line, f"the exporter does not know the role {{{role}}}")

    def reference(self, label: str, text: str, line: int) -> str:
        """Render a reference to a label; to another page as a link."""
        target = self.book.targets.get(label)
        if target is None:
            raise self.fail(line, f"there is no label {label}")
        shown = text.replace("%s", target.number).replace("{number}", target.number) or self.plain(target, line)
        if target.page == self.page:
            return shown
        address, anchor = self.address(target.page), ("equation-" if target.kind == "Equation" else "") + make_id(label)
        return f"[{shown}]({address}{'' if address.endswith('.ipynb') else f'#{anchor}'})"

    def plain(self, target: Target, line: int) -> str:
        """Return a bare reference's words."""
        return target.text if target.number else self.inline(target.title, line)

    def address(self, page: str) -> str:
        """Return a page's address: the notebook beside this one, or if it has none its place on the site.

        Jupyter, GitHub, Binder and, for a notebook opened from GitHub, Colab find the notebook beside this one. None of
        them shows a page without code as it is meant.
        """
        notebook = any(p.name == page and p.has_notebook for p in self.book.pages)
        return f"{page}.ipynb" if notebook else f"{site_address(self.repository)}/book/{page}.html"

    def cite(self, role: str, keys: list[str], line: int) -> str:
        """Render a citation as author and year."""
        parts = []
        for key in keys:
            if key not in self.bibliography.entries:
                raise self.fail(line, f"references.bib has no entry {key}")
            self.cited[key] = None
            entry = self.bibliography.entries[key]
            year = of(entry, "year")
            parts.append(f"{authors(entry)} [{year}]" if role == "cite:t" else f"{authors(entry)}, {year}")
        return ", ".join(parts) if role == "cite:t" else f"[{'; '.join(parts)}]"

    def references(self) -> str:
        """Return the list of works cited so far, or an empty string."""
        entries = [self.bibliography.entries[key] for key in self.cited]
        entries.sort(key=lambda entry: (authors(entry), of(entry, "year")))
        lines = [f"- {reference(entry)}" for entry in entries]
        return "## Works cited\n\n" + "\n".join(lines) if lines else ""


def plain(latex: str) -> str:
    """Return a field of a BibTeX entry without its TeX."""
    return str(Text.from_latex(latex))


def of(entry: Entry, name: str) -> str:
    """Return one field of a BibTeX entry as plain text, empty if there is none."""
    return plain((entry.fields or {}).get(name, ""))


def people(entry: Entry) -> list[Person]:
    """Return the authors of a BibTeX entry."""
    return (entry.persons or {})["author"]


def surname(person: Person) -> str:
    """Return a person's last name with its particles."""
    return plain(" ".join([*(person.prelast_names or []), *(person.last_names or [])]))


def authors(entry: Entry) -> str:
    """Return `A`, `A and B` or `A et al.`."""
    names = list(map(surname, people(entry)))
    return names[0] + (" et al." if len(names) > 2 else f" and {names[1]}" if len(names) == 2 else "")


def reference(entry: Entry) -> str:
    """Return one line of a list of references."""
    given = [plain(" ".join([*(p.first_names or []), *(p.middle_names or [])])) for p in people(entry)]
    names = [f"{first} {surname(p)}".strip() for first, p in zip(given, people(entry))]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    title = f"*{of(entry, 'title')}*"
    if url := of(entry, "url"):
        title = f"[{title}]({url})"
    return f"{listed}. {title}. {of(entry, 'year')}."


def site_address(repository: str) -> str:
    """Return where GitHub Pages publishes the site of a repository on GitHub."""
    owner, name = repository.rstrip("/").split("/")[-2:]
    return f"https://{owner.lower()}.github.io/{name}"


def coloured(text: str, colour: str) -> str:
    """Colour a few words in Jupyter and Colab; elsewhere they stay as they are."""
    return f'<font color="{colour}">{text}</font>'


def box(title: str, colour: str, body: str) -> str:
    """Put text in a frame with a coloured title; where frames are not known, the title and the text are left."""
    return f"<fieldset>\n<legend><b>{coloured(title, colour)}</b></legend>\n\n{body}\n\n</fieldset>"


def quote(head: str, body: str) -> str:
    """Put text in a block quote; formulas move to one line, since the marks would end up inside them."""

    def join(match: re.Match) -> str:
        return "$$ " + " ".join(match[1].split()) + " $$"

    text = re.sub(r"\$\$\s*\n(.*?)\n\s*\$\$", join, f"{head} {body.lstrip(' ')}".strip(), flags=re.S)
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def details(summary: str, body: str) -> str:
    """Fold text under a line that opens it."""
    return f"<details>\n<summary><b>{summary}</b></summary>\n\n{body}\n\n</details>"


def footnotes(text: str) -> str:
    """Write footnote marks as superscripts, which every renderer knows."""
    return re.sub(r"\[\^([\w-]+)\](:?)", lambda m: f"<sup>{m[1]}</sup>", text)
