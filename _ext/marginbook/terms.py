"""The first use of each term on a page leads to the glossary, and says on the link what it means.

The terms are those of the ``{glossary}`` in ``notation.md``; where an entry has several, each is
found. Links, titles, code and formulas are left alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

GLOSSARY = re.compile(r"^```\{glossary\}\n([\s\S]*?)^```", re.MULTILINE)
ENTRY = re.compile(r"^(\S.*)\n  (.*)", re.MULTILINE)
COMMON = ("claim", "margin", "rate", "velocity")  # words whose first use is rarely the term
CLOSED = (
    nodes.title,
    nodes.literal,
    nodes.reference,
    nodes.math,
    nodes.target,
    addnodes.pending_xref,
)


def terms(text: str) -> dict[str, tuple[str, str]]:
    """From a page's text: for each term in small letters its entry, and what that says in plain
    words (empty if it needs a formula).

    >>> terms("```{glossary}\\nmargin path, path\\n  A [line](x.md). First in *y*.\\n```")["path"]
    ('margin path, path', 'A line.')
    """
    found = {}
    for name, meaning in ENTRY.findall("".join(GLOSSARY.findall(text))):
        said = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning.partition(" First in ")[0])
        for term in name.split(", "):
            if "$" not in term and term not in COMMON:
                found[term.lower()] = name, "" if set("${") & set(said) else said.replace("*", "")
    return found


def glossary(app) -> dict[str, tuple[str, str]]:
    """The terms of the book; none if it has no page of them."""
    page = Path(app.srcdir, "notation.md")
    return terms(page.read_text("utf8")) if page.exists() else {}


def link(app, doctree):
    """doctree-read: link the first uses on a notebook's page."""
    if app.env.docname not in getattr(app, "marginbook", {}):
        return
    left = glossary(app)
    for text in list(doctree.findall(nodes.Text)):
        above, holder = text.parent, text.parent
        while holder is not None and not isinstance(holder, CLOSED):
            holder = holder.parent
        if (
            holder is not None
            or not isinstance(above, (nodes.paragraph, nodes.emphasis))
            or not left
        ):
            continue
        words = "|".join(map(re.escape, sorted(left, key=len, reverse=True)))
        use = re.search(rf"(?<![\w-])({words})(?=s?(?![\w-]))", text, re.IGNORECASE)
        if use:
            entry, _ = left.pop(use[1].lower())
            shown = nodes.inline("", use[1], classes=["xref", "std", "std-term"])
            about = {"refdomain": "std", "reftype": "term", "reftarget": entry, "refwarn": True}
            about |= {"refexplicit": True, "refdoc": app.env.docname}
            cross = addnodes.pending_xref("", shown, **about)
            rest = nodes.Text(text[use.end() :])
            above.replace(text, [nodes.Text(text[: use.start()]), cross, rest])


def tell(app, doctree, docname):
    """doctree-resolved: a link to a term says what it means."""
    found = glossary(app)
    for reference in doctree.findall(nodes.reference):
        shown = reference.children[:1]
        if shown and "std-term" in getattr(shown[0], "attributes", {}).get("classes", ()):
            meaning = found.get(shown[0].astext().lower(), ("", ""))[1]
            reference.attributes |= {"reftitle": meaning} if meaning else {}


def setup(app):
    app.connect("doctree-read", link)
    app.connect("doctree-resolved", tell)
