"""The generated pages: ``{scorecard}`` (every claim of the book) and ``{bookstatus}`` (what it was built
with).

Both directives leave an empty node while pages are read. It is filled when all pages are known, and the
pages that hold one are written again on every build. The tables are HTML by hand: each cell carries its
column's name, so that a narrow screen can show a row as a card (see _static/book.css), and explicit roles,
because a table shown as cards is no table for a screen reader otherwise.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import datetime, timezone
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from qhlib.book.claims import BASES, VERDICTS
from qhlib.book.tables import math_html, measurement, prediction, tolerance

from .chapters import chapters_of, pages_of

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
NOTEBOOK_HEADS = ("notebook", "result", "time to run", "claims", "executed")


class Generated(nodes.General, nodes.Element):
    """Stands where a generated table will be."""


class GeneratedDirective(SphinxDirective):
    """``{scorecard}`` or ``{bookstatus}``, by the name it is called with."""

    def run(self):
        self.env.metadata[self.env.docname]["marginbook_generated"] = "yes"
        # An equation is only typeset on a page that Sphinx believes to have one.
        return [Generated(kind=self.name), nodes.math("", "", classes=["marginbook-empty"])]


def generated_pages(app, env):
    """env-updated: these pages are written on every build, whatever else changed."""
    return [docname for docname, data in env.metadata.items() if "marginbook_generated" in data]


def fill(app, doctree, docname):
    """doctree-resolved: put the tables in."""
    for empty in list(
        doctree.findall(lambda n: isinstance(n, nodes.math) and "marginbook-empty" in n["classes"])
    ):
        empty.parent.remove(empty)
    for node in list(doctree.findall(Generated)):
        render = {"scorecard": scorecard, "bookstatus": status}[node["kind"]]
        node.replace_self(nodes.raw("", render(app, docname), format="html"))


# --- the scorecard --------------------------------------------------------------------------------


def scorecard(app, docname) -> str:
    chapters = {name: page["record"] for name, page in chapters_of(app.env).items() if page["record"].claims}
    counts = Counter(row["verdict"] for record in chapters.values() for row in record.claims)
    if not counts:
        return "<p>No chapter of this build makes a claim yet.</p>"
    items = "".join(
        f"<li>{counts[word]} <strong>{_badge(word)}</strong>: {meaning}</li>"
        for word, meaning in MEANING.items()
    )
    parts = [
        f'<p>{counts.total()} claims:</p><ul class="verdicts">{items}</ul>'
        '<p>The same rows as data: <a href="scorecard.csv">scorecard.csv</a>, '
        '<a href="scorecard.json">scorecard.json</a>.</p>'
    ]
    for name, record in chapters.items():
        link, title = app.builder.get_relative_uri(docname, name), app.env.titles[name].astext()
        rows = "".join(_row(CLAIM_HEADS, _claim_cells(row, link)) for row in record.claims)
        anchor = "scorecard-" + nodes.make_id(name.split("/")[-1])
        heading = f'<h2 id="{anchor}"><a href="{link}">{escape(title)}</a></h2>'
        parts.append(heading + _table(title, CLAIM_HEADS, rows, "claims"))
    return "\n".join(parts)


def _claim_cells(row: dict, link: str) -> tuple[str, ...]:
    reason = row["outside"] or row["expected_deviation"]
    note = f"<br><small>{math_html(reason)}</small>" if reason else ""
    return (
        f'<a href="{link}#{escape(row["anchor"])}"><code>{escape(row["id"])}</code></a>'
        f"<br>{math_html(row['statement'])}"
        f"<br><small>{escape(BASES[row['basis']])}: {math_html(row['source'])}. "
        f"Tolerance: {math_html(row['tolerance_from'])}.</small>",
        escape(prediction(row)),
        escape(measurement(row)),
        escape(tolerance(row)),
        _badge(row["verdict"]) + note,
    )


def _badge(word: str) -> str:
    return f'<span class="verdict verdict-{word}">{VERDICTS[word]} {word}</span>'


def _row(heads, cells) -> str:
    """The first cell names the row."""
    tags = [("th", "rowheader")] + [("td", "cell")] * (len(cells) - 1)
    return '<tr role="row">{}</tr>'.format(
        "".join(
            f'<{tag} role="{role}" data-label="{escape(head)}"><div>{cell}</div></{tag}>'
            for (tag, role), head, cell in zip(tags, heads, cells, strict=True)
        )
    )


def _table(title: str, heads, rows: str, kind: str = "facts") -> str:
    head = "".join(f'<th role="columnheader" scope="col">{escape(h)}</th>' for h in heads)
    return (
        f'<table class="stacking {kind} table" role="table" aria-label="{escape(title)}">'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table>'
    )


def write_downloads(app, exception):
    """build-finished: the scorecard as data, beside its page."""
    if exception is not None or app.builder.format != "html":
        return
    rows = [
        {
            "chapter": page["record"].chapter,
            **row,
            "link": f"{app.builder.get_target_uri(name)}#{row['anchor']}",
        }
        for name, page in chapters_of(app.env).items()
        for row in page["record"].claims
    ]
    out = Path(app.outdir)
    (out / "scorecard.json").write_text(json.dumps({"claims": rows}, indent=1, ensure_ascii=False), "utf8")
    with (out / "scorecard.csv").open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)


# --- the status page ------------------------------------------------------------------------------


def status(app, docname) -> str:
    rows, versions, machine = [], {}, {}
    for name, page in chapters_of(app.env).items():
        told = page["record"].finished or {}
        versions.update(told.get("versions", {}))
        machine.update(told.get("machine", {}))
        title = escape(app.env.titles[name].astext())
        cells = (
            f'<a href="{app.builder.get_relative_uri(docname, name)}">{title}</a>',
            "✓ ran to its last cell" if told.get("finished") else "✗ did not finish",
            f"{page['runtime']:.1f} s" if page["runtime"] else "–",
            str(len(page["record"].claims)),
            _when(datetime.fromtimestamp(page["mtime"], timezone.utc)) if page["mtime"] else "–",
        )
        rows.append(_row(NOTEBOOK_HEADS, cells))
    build = {
        "fingerprint of qhlib and the lock": app.config.marginbook_fingerprint,
        "pages": len(pages_of(app.env)),
        "built": _when(datetime.now(timezone.utc)),
    }
    title = "Executed notebooks"
    table = (
        _table(title, NOTEBOOK_HEADS, "".join(rows)) if rows else "<p>This build executed no notebook.</p>"
    )
    parts = [f'<h2 id="executed-notebooks">{title}</h2>{table}']
    for title, facts in (("This build", build), ("Versions", versions), ("Machine", machine)):
        if facts:
            lines = "".join(_row(("what", "value"), (escape(k), escape(str(v)))) for k, v in facts.items())
            parts.append(
                f'<h2 id="{nodes.make_id(title)}">{title}</h2>' + _table(title, ("what", "value"), lines)
            )
    return "\n".join(parts)


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def setup(app):
    app.add_node(Generated)
    app.add_directive("scorecard", GeneratedDirective)
    app.add_directive("bookstatus", GeneratedDirective)
    app.connect("env-updated", generated_pages)
    app.connect("doctree-resolved", fill)
    app.connect("build-finished", write_downloads)
