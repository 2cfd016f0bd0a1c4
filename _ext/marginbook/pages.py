"""The generated pages: ``{scorecard}`` (the papers' statements, then every claim of the book) and ``{bookstatus}``.

Both directives leave an empty node while pages are read. It is filled when all pages are known, and the pages that hold
one are written again on every build. The content of ``{scorecard}`` is YAML: for each paper, by its key in the
bibliography, its short name and its own statements, each with the claims that try it or the reason why nothing does::

    kunin2023asymmetric:
      paper: Kunin et al. (2023)
      statements:
        - says: gradient flow minimises the norm of the parameters of highest rate
          claims: [asymmetric/kkt-limit]
        - says: a ResNet-18 constrains its last layer only
          untried: what we compute holds for any linear head
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import datetime, timezone
from html import escape
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from qhlib.book.claims import BASES, VERDICTS, shown
from qhlib.book.notebook import write_whole

from .checks import chapters_of
from .tables import table

logger = logging.getLogger(__name__)
MEANING = {
    "reproduced": "the measurement agrees with the prediction within the tolerance",
    "deviates": "it does not; a deviation stands here only when it is declared, with its reason",
    "outside": "the assumptions do not hold for these parameters, so nothing is asserted",
}
COLUMNS = (
    "id", "chapter", "statement", "source", "basis", "relation", "predicted", "measured", "tolerance",
    "relative", "tolerance_from", "verdict", "outside", "expected_deviation", "entries", "link",
)  # fmt: skip
CLAIM_HEADS = ("claim", "predicted", "measured", "tolerance", "verdict")
STATEMENT_HEADS = ("paper", "what it says", "here")
NOTEBOOK_HEADS = ("notebook", "result", "time to run", "claims", "executed")
MATH = "math notranslate nohighlight tex2jax_process mathjax_process"


class Generated(nodes.General, nodes.Element):
    """Stands where a generated table will be."""


class GeneratedDirective(SphinxDirective):
    """``{scorecard}`` or ``{bookstatus}``, by the name it is called with."""

    has_content = True

    def run(self):
        self.env.metadata[self.env.docname]["marginbook_generated"] = "yes"
        papers = yaml.safe_load("\n".join(self.content)) or {}
        # An equation is only typeset on a page that Sphinx believes to have one.
        return [Generated(kind=self.name, papers=papers), nodes.math("", "", classes=["marginbook-empty"])]


def generated_pages(app, env):
    """env-updated: these pages are written on every build, whatever else changed."""
    return [docname for docname, data in env.metadata.items() if "marginbook_generated" in data]


def fill(app, doctree, docname):
    """doctree-resolved: put the tables in."""
    for empty in [n for n in doctree.findall(nodes.math) if "marginbook-empty" in n["classes"]]:
        empty.parent.remove(empty)
    for node in list(doctree.findall(Generated)):
        html = status(app, docname) if node["kind"] == "bookstatus" else scorecard(app, docname, node["papers"])
        node.replace_self(nodes.raw("", html, format="html"))


# --- the scorecard --------------------------------------------------------------------------------


def scorecard(app, docname, papers: dict) -> str:
    chapters = {name: told for name, told in chapters_of(app.env).items() if told.claims}
    places = {}  # claim id -> its row, its link
    for name, told in chapters.items():
        link = app.builder.get_relative_uri(docname, name)
        places |= {row["id"]: (row, f"{link}#{row['anchor']}") for row in told.claims}
    if not places:
        return "<p>No chapter of this build makes a claim yet.</p>"
    parts = [_matrix(papers, places, docname)] if papers else []
    counts = Counter(row["verdict"] for row, _ in places.values())
    items = "".join(
        f"<li>{counts[word]} <strong>{_badge(word)}</strong>: {meaning}</li>" for word, meaning in MEANING.items()
    )
    parts.append(
        f'<h2 id="all-claims">All {counts.total()} claims</h2><ul class="verdicts">{items}</ul>'
        '<p>The same as data: <a href="scorecard.csv">scorecard.csv</a>, '
        '<a href="scorecard.json">scorecard.json</a>.</p>'
    )
    for name, told in chapters.items():
        title = escape(app.env.titles[name].astext())
        few = Counter(row["verdict"] for row in told.claims)
        words = ", ".join(f"{few[word]} {word}" for word in VERDICTS if few[word])
        rows = [_claim_cells(row, places[row["id"]][1]) for row in told.claims]
        anchor = "scorecard-" + nodes.make_id(name.split("/")[-1])
        parts.append(
            f'<details class="claims" id="{anchor}"><summary>{title}: {words}</summary>'
            f"{table(title, CLAIM_HEADS, rows, 'claims')}</details>"
        )
    return "\n".join(parts)


def _matrix(papers: dict, places: dict, docname: str) -> str:
    """The papers' own statements, a row each."""
    rows = []
    for key, paper in papers.items():
        for number, each in enumerate(paper["statements"]):
            verdicts = []
            for claim in each.get("claims", ()):
                if claim not in places:
                    logger.warning("the scorecard names the claim %s, which no notebook makes", claim,
                                   location=docname)  # fmt: skip
                    continue
                row, link = places[claim]
                verdicts.append(f'<a href="{link}" title="{escape(claim)}">{_badge(row["verdict"])}</a>')
            said = " ".join(verdicts) or f'<span class="verdict">– not tried</span> {math(each.get("untried", ""))}'
            note = f" <small>{math(each['note'])}</small>" if each.get("note") else ""
            cite = f'<a href="bibliography.html">{escape(paper["paper"])}</a>' if not number else ""
            rows.append((cite, math(each["says"]), said + note))
    return table("Statements of the papers", STATEMENT_HEADS, rows, "matrix")


def _claim_cells(row: dict, link: str) -> tuple[str, ...]:
    reason = row["outside"] or row["expected_deviation"]
    note = f"<br><small>{math(reason)}</small>" if reason else ""
    numbers = shown(row)
    return (
        f'<a href="{link}"><code>{escape(row["id"])}</code></a><br>{math(row["statement"])}'
        f"<br><small>{escape(BASES[row['basis']])}: {math(row['source'])}</small>",
        *(escape(numbers[key]) for key in ("predicted", "measured", "tolerance")),
        _badge(row["verdict"]) + note,
    )


def math(text: str) -> str:
    """MyST's inline words as HTML: mathematics marked for MathJax, other roles by their text, the rest escaped."""
    import re

    def piece(found) -> str:
        formula = found["role"] or found["dollar"]
        if formula:
            return f'<span class="{MATH}">\\({escape(formula)}\\)</span>'
        return escape({"eq": "the equation there"}.get(found["kind"], found["other"]))

    pattern = r"\{math\}`(?P<role>[^`]+)`|(?<!\\)\$(?P<dollar>[^$]+)\$|\{(?P<kind>[\w:]+)\}`(?P<other>[^`]+)`"
    parts, end = [], 0
    for found in re.finditer(pattern, text):
        parts += [escape(text[end : found.start()]), piece(found)]
        end = found.end()
    return "".join([*parts, escape(text[end:])])


def _badge(word: str) -> str:
    return f'<span class="verdict verdict-{word}">{VERDICTS[word]} {word}</span>'


def write_downloads(app, exception):
    """build-finished: the scorecard as data, beside its page."""
    if exception is not None or app.builder.format != "html":
        return
    rows = [
        {"chapter": told.chapter, **row, "link": f"{app.builder.get_target_uri(name)}#{row['anchor']}"}
        for name, told in chapters_of(app.env).items()
        for row in told.claims
    ]
    out = Path(app.outdir)
    write_whole(out / "scorecard.json", json.dumps({"claims": rows}, indent=1, ensure_ascii=False))
    with (out / "scorecard.csv").open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)


# --- the status page ------------------------------------------------------------------------------


def status(app, docname) -> str:
    rows, versions, machine = [], {}, {}
    for name, record in chapters_of(app.env).items():
        told = record.finished or {}
        versions.update(told.get("versions", {}))
        machine.update(told.get("machine", {}))
        link, title = app.builder.get_relative_uri(docname, name), escape(app.env.titles[name].astext())
        ran = "✓ ran to its last cell" if told.get("finished") else "✗ did not finish"
        seconds, date = f"{told.get('seconds', 0):.1f} s", told.get("date", "–")[:16].replace("T", " ")
        rows.append((f'<a href="{link}">{title}</a>', ran, seconds, str(len(record.claims)), f"{date} UTC"))
    now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    build = {"pages": len(app.env.found_docs), "built": now}
    title = "Executed notebooks"
    whole = table(title, NOTEBOOK_HEADS, rows) if rows else "<p>This build executed no notebook.</p>"
    parts = [f'<h2 id="executed-notebooks">{title}</h2>{whole}']
    for title, facts in (("This build", build), ("Versions", versions), ("Machine", machine)):
        if facts:
            lines = [(escape(key), escape(str(value))) for key, value in facts.items()]
            parts.append(f'<h2 id="{nodes.make_id(title)}">{title}</h2>' + table(title, ("what", "value"), lines))
    return "\n".join(parts)


def setup(app):
    app.add_node(Generated)
    app.add_directive("scorecard", GeneratedDirective)
    app.add_directive("bookstatus", GeneratedDirective)
    app.connect("env-updated", generated_pages)
    app.connect("doctree-resolved", fill)
    app.connect("build-finished", write_downloads)
