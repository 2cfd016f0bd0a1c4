"""A deck of slides for each page that marks cells for one, by reveal.js as sphinx-revealjs brings
it: ``jupyter-book build --builder custom --custom-builder slides .``

A notebook marks cells with the standard metadata ``slideshow: {"slide_type": ...}``. Of a marked
cell the slides show what a lecturer points at: headings with what stands right under them,
questions and predictions with their formulas, theorems and their like, pictures, claims. Proofs,
exercises and all other text stay on the page. Nothing is executed, computed or numbered anew.

* ``slide``: a heading begins a slide, and so do a picture and what comes after one or after a
  theorem; claims stand below a picture.
* ``fragment``: the cell goes on with the slide before it.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

from docutils import nodes
from sphinx_revealjs.builders import RevealjsHTMLBuilder

MARK = "slide_type: "
SHOWN = ("slide", "fragment")
RUN_IN = re.compile(r"(Intuition|Question|Model|Prediction)\b")
ON_THE_PAGE = re.compile("proof|unenumerable|exercise|solution")
INVISIBLE = (nodes.Invisible, nodes.target, nodes.comment)
NO_SLIDES = ("Rerun this page", "Exercises")
BOXES = (nodes.Admonition, nodes.figure, nodes.container)
LISTS = (nodes.bullet_list, nodes.enumerated_list, nodes.table, nodes.math_block)
CSS = Path(__file__).with_name("slides.css")
SETTINGS = {
    "nb_mime_priority_overrides": [
        ("slides", kind, number)
        for number, kind in enumerate(("text/html", "image/svg+xml", "image/png", "text/plain"))
    ],
    "revealjs_html_theme": "revealjs-simple",
    "revealjs_style_theme": "white",
    "revealjs_css_files": [CSS.name],
    "revealjs_static_path": [str(CSS)],
    "revealjs_use_section_ids": True,
    # all slides are laid out at once: MathJax measures nothing in what is not shown
    "revealjs_script_conf": {
        **{"width": 1280, "height": 720, "margin": 0.03, "center": False, "viewDistance": 99},
        **{"hash": True, "transition": "none", "slideNumber": "c/t"},
    },
}


def kind(cell: dict) -> str:
    """A cell's mark, from its metadata."""
    return cell.get("slideshow", {}).get("slide_type", "skip")


def marked(cells: list[dict]) -> list[dict]:
    """The cells of a notebook that has slides; before each text a comment tells of its mark."""
    kinds = [kind(cell["metadata"]) for cell in cells]
    if not {*SHOWN} & {*kinds}:
        return cells
    return [
        {**cell, "source": f"% {MARK}{mark}\n\n{cell['source']}"}
        if cell.get("cell_type") == "markdown"
        else cell
        for cell, mark in zip(cells, kinds, strict=True)
    ]


def blocks(page: nodes.document):
    """The blocks of a page in order, each with the mark of its cell; of code its pictures."""
    mark = "skip"
    for block in page.findall(lambda n: isinstance(n.parent, (nodes.section, nodes.document))):
        if isinstance(block, nodes.comment) and block.astext().startswith(MARK):
            mark = block.astext().removeprefix(MARK)
        elif block.get("nb_element") == "cell_code":
            yield from (
                (kind(block["cell_metadata"]), each) for each in block.findall(nodes.figure)
            )
        elif not isinstance(block, (nodes.section, *INVISIBLE)):
            yield mark, block


def is_shown(block: nodes.Node, before: nodes.Node | None) -> bool:
    """Whether a block of a marked cell is shown; `before` is the one before it, if that is."""
    if isinstance(block, nodes.Admonition):
        return not ON_THE_PAGE.match(type(block).__name__) and "dropdown" not in block["classes"]
    if isinstance(block, nodes.paragraph):
        return isinstance(before, nodes.title) or bool(RUN_IN.match(block.astext()))
    return isinstance(block, (nodes.title, nodes.figure)) or (
        isinstance(block, LISTS) and before is not None
    )


def deck(page: nodes.document, address: str) -> nodes.document:
    """The slides of a page, which stands at `address`: sections inside the first of them."""
    slides, title, before = [], None, None
    for mark, block in list(blocks(page)):
        if isinstance(block, nodes.title):
            title = block
        if mark not in SHOWN or title.astext() in NO_SLIDES or not is_shown(block, before):
            before = None
            continue
        before, last, claim = block, slides[-1][-1] if slides else None, "claim" in classes(block)
        if block is title:
            slides.append(nodes.section(ids=title.parent["ids"]))
        elif (
            mark == "slide"
            and not isinstance(last, nodes.title)
            and not (claim and goes_with(last))
        ):
            if isinstance(last, BOXES) or isinstance(block, nodes.figure):
                slides.append(nodes.section("", title.deepcopy(), ids=[f"slide-{len(slides)}"]))
        if claim:
            del block[-1]  # where statement and tolerance come from is told on the page
            if "claims" not in classes(slides[-1][-1]):
                slides[-1] += nodes.container(classes=["claims"])
            slides[-1][-1] += block
        else:
            slides[-1] += block
    for section in [s for slide in slides for s in slide.findall(nodes.section) if s is not slide]:
        section.replace_self(nodes.container("", *section.children))  # inside of theorems
    slides[0] += nodes.paragraph("", "", nodes.reference("", "The whole page", refuri=address))
    slides[0] += slides[1:]
    shown = {name for node in slides[0].findall(nodes.Element) for name in node["ids"]}
    for reference in slides[0].findall(nodes.reference):
        if reference.get("refid", address) not in {*shown, address}:
            reference["refuri"] = f"{address}#{reference.attributes.pop('refid')}"
    whole = page.copy()
    whole += slides[0]
    return whole


def classes(block: nodes.Node | None) -> list[str]:
    return getattr(block, "attributes", {}).get("classes", [])


def goes_with(last: nodes.Node) -> bool:
    """Whether one more claim has room behind `last`: below a picture for two, else for six."""
    below = len(last.parent) > 1 and isinstance(last.parent[-2], nodes.figure)
    full = 2 if below else 6
    return isinstance(last, nodes.figure) or "claims" in classes(last) and len(last) < full


def configure(config) -> None:
    for name, value in SETTINGS.items():
        config[name] = deepcopy(value)


class Slides(RevealjsHTMLBuilder):
    """Writes the decks, and nothing else; what is not on a slide is linked to in the book."""

    name = "slides"
    allow_parallel = False

    def init(self):
        super().init()
        configure(self.config)  # it has added its own: with other settings all pages are read anew

    def get_outdated_docs(self):
        return "pages with slides"

    def write(self, *ignored):
        self.pages = [
            name
            for name, notebook in self.app.marginbook.items()
            if {*SHOWN} & {kind(cell["metadata"]) for cell in notebook.cells}
        ]
        super().write(self.pages, [], "specific")

    def write_doc(self, docname, doctree):
        if docname in self.pages:  # the front page is always handed over
            super().write_doc(docname, deck(doctree, self.get_relative_uri(docname, docname)))

    def finish(self):
        self.copy_image_files()
        self.copy_static_files()
        self.copy_extra_files()

    def get_relative_uri(self, from_, to, typ=None):
        return f"{'../' * (from_.count('/') + 1)}html/{to}.html"

    def add_css_file(self, filename, **attributes):
        """Of what extensions put on every page, the slides need the mathematics."""
        if "reveal" in filename or filename == CSS.name:
            super().add_css_file(filename, **attributes)

    def add_js_file(self, filename, **attributes):
        if "MathJax" in attributes.get("body", "") or "mathjax" in (filename or ""):
            super().add_js_file(filename, **attributes)


def setup(app):
    app.setup_extension("sphinx_revealjs")
    app.add_builder(Slides)
    configure(app.config)
