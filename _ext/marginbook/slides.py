"""A deck of slides for each page that marks cells for one, by reveal.js as sphinx-revealjs brings
it: ``jupyter-book build --builder custom --custom-builder slides .``

A notebook marks cells with the standard metadata ``slideshow: {"slide_type": "slide"}``. Of a
marked cell the slides show what a lecturer points at: headings with what stands right under them,
questions and predictions with their formulas, theorems and their like, pictures, claims. Proofs,
exercises and all other text stay on the page. Nothing is executed, computed or numbered anew.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

from docutils import nodes
from sphinx_revealjs.builders import RevealjsHTMLBuilder
from sphinx_revealjs.nodes import revealjs_section

MARK = "on slides: "
RUN_IN = re.compile(r"(Intuition|Question|Model|Prediction)\b")
ON_THE_PAGE = re.compile("proof|unenumerable|exercise|solution")
INVISIBLE = (nodes.Invisible, nodes.target, nodes.comment)
BEFORE = re.compile(r"\A((?:::+\{solution-end\}\s+::+\n)?)")
# Words: no more are put together (claims are smaller: 20 more); beyond so many all are smaller.
FULL, MANY = 160, 110
INDEX = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Slides</title></head>'
    "<body><main><h1>Slides</h1><ul>{}</ul></main></body></html>"
)
NO_SLIDES = ("Rerun this page", "Exercises")
GOES_ON = (nodes.bullet_list, nodes.enumerated_list, nodes.math_block)
CSS, OWN = "slides.css", ("revealjs_static_path", "revealjs_script_conf")


def is_marked(metadata: dict) -> bool:
    return metadata.get("slideshow", {}).get("slide_type") == "slide"


def marked(cells: list[dict]) -> list[dict]:
    """The cells of a notebook that has slides; a comment before each text tells whether it is
    marked."""
    marks = [is_marked(cell["metadata"]) for cell in cells]
    if not any(marks):
        return cells
    return [
        {**cell, "source": BEFORE.sub(rf"\1\n% {MARK}{mark}\n\n", cell["source"], count=1)}
        if cell.get("cell_type") == "markdown"
        else cell
        for cell, mark in zip(cells, marks, strict=True)
    ]


def blocks(page: nodes.document):
    """The blocks of a page in order, and whether their cells are marked; of code its pictures."""
    mark = False
    for block in page.findall(lambda n: isinstance(n.parent, (nodes.section, nodes.document))):
        if isinstance(block, nodes.comment) and block.astext().startswith(MARK):
            mark = block.astext() == f"{MARK}True"
        elif block.get("nb_element") == "cell_code":
            told = is_marked(block["cell_metadata"])
            yield from ((told, picture) for picture in block.findall(nodes.figure))
        elif not isinstance(block, (nodes.section, *INVISIBLE)):
            yield mark, block


def is_shown(block: nodes.Node, before: nodes.Node | None) -> bool:
    """Whether a block of a marked cell is shown; `before` is the one before it, if that is."""
    if isinstance(block, nodes.Admonition):
        return not ON_THE_PAGE.match(type(block).__name__) and "dropdown" not in block["classes"]
    if isinstance(block, nodes.paragraph):
        return isinstance(before, nodes.title) or bool(RUN_IN.match(block.astext()))
    if isinstance(block, nodes.table):
        return before is not None
    if isinstance(block, GOES_ON):
        return isinstance(before, (nodes.title, nodes.paragraph, *GOES_ON))
    return isinstance(block, (nodes.title, nodes.figure))


def opens(slide: nodes.section, block: nodes.Node) -> bool:
    """Whether a block has no room on the slide. Below a picture there is some for three claims."""
    last, claim, claims = slide[-1], "claim" in classes(block), "claims" in classes(slide[-1])
    if isinstance(last, nodes.title):
        return False
    if claim and isinstance(slide[-2] if claims else last, nodes.figure):
        return claims and len(last) == 3
    if isinstance(block, nodes.figure) or isinstance(last, nodes.figure) or claims > claim:
        return True
    if isinstance(block, nodes.Admonition):
        return words(slide) + words(block) > FULL + 20 * claim
    return isinstance(last, nodes.Admonition)


def deck(page: nodes.document, address: str) -> nodes.document:
    """The slides of a page, which stands at `address`: sections inside the first of them."""
    for box in page.findall(nodes.Admonition):
        for section in list(box.findall(nodes.section)):  # what a theorem says
            section.replace_self(nodes.container("", *section.children))
    slides, title, before = [], None, None
    for mark, block in list(blocks(page)):
        if isinstance(block, nodes.title):
            title = block
        if not mark or title.astext() in NO_SLIDES or not is_shown(block, before):
            before = None
            continue
        before = block
        if block is title:
            slides.append(nodes.section(ids=title.parent["ids"]))
        elif not slides or opens(slides[-1], block):
            slides.append(nodes.section("", title.deepcopy(), ids=[f"slide-{len(slides)}"]))
        if "claim" in classes(block):
            del block[-1]  # where statement and tolerance come from is told on the page
            if "claims" not in classes(slides[-1][-1]):
                slides[-1] += nodes.container(classes=["claims"])
            slides[-1][-1] += block
        else:
            slides[-1] += block
    for slide in slides:
        if words(slide) > MANY:
            slide += revealjs_section("", **{"data-words": "many"})
    slides[0] += nodes.paragraph("", "", nodes.reference("", "The whole page", refuri=address))
    slides[0] += slides[1:]
    shown = {name for node in slides[0].findall(nodes.Element) for name in node["ids"]}
    for reference in slides[0].findall(nodes.reference):
        if reference.get("refid", address) not in {*shown, address}:
            reference["refuri"] = f"{address}#{reference.attributes.pop('refid')}"
    whole = page.copy()
    whole += slides[0]
    return whole


def classes(block: nodes.Element) -> list[str]:
    return block.get("classes", [])


def words(block: nodes.Element) -> int:
    return len(block.astext().split())


class Slides(RevealjsHTMLBuilder):
    """Writes the decks, and nothing else; what is not on a slide is linked to in the book."""

    name = "slides"
    allow_parallel = False

    def init(self):
        own = {name: deepcopy(self.config[name]) for name in OWN}
        super().init()  # adds to the settings, and with other settings all pages are read anew
        for name, value in own.items():
            self.config[name] = value

    def get_outdated_docs(self):
        return "pages with slides"

    def write(self, *ignored):
        self.pages = [
            name
            for name, notebook in self.app.marginbook.items()
            if any(is_marked(cell["metadata"]) for cell in notebook.cells)
        ]
        super().write(self.pages, [], "specific")

    def write_doc(self, docname, doctree):
        if docname in self.pages:  # the front page is always handed over
            super().write_doc(docname, deck(doctree, self.get_relative_uri(docname, docname)))

    def finish(self):
        self.copy_image_files()
        self.copy_static_files()
        self.copy_extra_files()
        links = (f'<li><a href="{p}.html">{self.env.titles[p].astext()}</a>' for p in self.pages)
        Path(self.outdir, "index.html").write_text(INDEX.format("".join(links)), "utf8")

    def get_relative_uri(self, from_, to, typ=None):
        return f"{'../' * (from_.count('/') + 1)}html/{to}.html"

    def add_css_file(self, filename, **attributes):
        """Of what extensions put on every page, the slides need the mathematics."""
        if "reveal" in filename or filename == CSS:
            super().add_css_file(filename, **attributes)

    def add_js_file(self, filename, **attributes):
        if "MathJax" in attributes.get("body", "") or "mathjax" in (filename or ""):
            super().add_js_file(filename, **attributes)


def setup(app):
    app.add_builder(Slides)
