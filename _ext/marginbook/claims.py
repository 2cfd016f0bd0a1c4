"""``{claim}``: a statement, its numbers and its verdict in one box; ``{parameters}``: a notebook's parameters."""

from __future__ import annotations

from html import escape

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from qhlib.book.claims import BASES, VERDICTS, shown

from .execution import record
from .tables import table

logger = logging.getLogger(__name__)
HEADS = ("parameter", "default", "allowed", "meaning")


class Claim(SphinxDirective):
    """The numbers come from the page's executed notebook; without one the box says that nothing was measured."""

    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = dict.fromkeys(("name", "source", "tolerance", "basis"), directives.unchanged)

    def run(self):
        found = record(self.env.app, self.env.docname)
        rows = {row["name"]: row for row in found.claims} if found else {}
        row = rows.get(self.options.get("name"))
        verdict = row["verdict"] if row else "not measured"
        box = nodes.admonition(classes=["claim", f"claim-{verdict.replace(' ', '-')}"])
        box["ids"].append(f"claim-{self.options.get('name')}")
        box += nodes.title("", f"{VERDICTS.get(verdict, '–')} {verdict}")
        self._parse(box, "\n".join([*self.arguments, *self.content]))
        if row:
            numbers = ", ".join(f"{key} {value}" for key, value in shown(row).items())
            reason = row["outside"] or row["expected_deviation"]
            self._parse(box, numbers.capitalize() + "." + (f" {reason}" if reason else ""), "claim-numbers")
        source, basis = self.options.get("source", ""), BASES[self.options.get("basis", "derived")]
        said = source if source.startswith(basis) else f"{basis}: {source}"
        origin = f"{said[:1].upper()}{said[1:].rstrip('.')}. Tolerance: {self.options.get('tolerance', '')}"
        self._parse(box, origin.rstrip(".") + ".", "claim-origin")
        return [box]

    def _parse(self, box: nodes.Element, text: str, kind: str = "") -> None:
        place = nodes.Element()
        self.state.nested_parse(_lines(text, self), self.content_offset, place)
        for child in place.children:
            if kind:
                child["classes"].append(kind)
        box += place.children


def _lines(text: str, directive: SphinxDirective):
    from docutils.statemachine import StringList

    return StringList(text.splitlines(), directive.get_source_info()[0])


class Parameters(SphinxDirective):
    """A table of the page's declared parameters."""

    def run(self):
        notebook = getattr(self.env.app, "marginbook_executed", {}).get(self.env.docname)
        if notebook is None:
            logger.warning("{parameters} stands on a page that is no notebook", location=self.get_location())
            return []
        declaration = notebook.declaration
        rows = [
            (f"<code>{spec.name}</code>", f"<code>{escape(repr(spec.default))}</code>",
             escape(spec.allowed or spec.type), escape(spec.help))
            for spec in declaration.specs
        ]  # fmt: skip
        html = table(f"Parameters of {notebook.name}", HEADS, rows)
        related = "; ".join(f"<code>{escape(' '.join(each))}</code>" for each in declaration.relations)
        if related:
            html += f"<p>Together: {related}.</p>"
        if "effort" not in declaration.defaults:
            smoke = (declaration.presets or {}).get("smoke", {})
            changed = ", ".join(f"{key} = {value!r}" for key, value in smoke.items())
            html += f"<p>The preset <code>smoke</code>: {escape(changed)}.</p>"
        return [nodes.raw("", html, format="html")]


def setup(app):
    app.add_directive("claim", Claim)
    app.add_directive("parameters", Parameters)
