"""``{chapter-figure} NAME``: shows a chapter's figure on another page, with its own caption and alternative.

NAME is the figure's label in the chapter (cell metadata ``mystnb.figure.name``). glue can bring an output to
another page, but not as a numbered figure with a caption and a written alternative. The content is the
caption; ``:alt:`` replaces the chapter's alternative, ``:name:`` labels the figure here.
"""

from __future__ import annotations

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


class Borrowed(nodes.General, nodes.Element):
    """Stands where a chapter's image will be."""


class ChapterFigure(SphinxDirective):
    required_arguments = 1
    has_content = True
    option_spec = {"alt": directives.unchanged, "name": directives.unchanged}

    def run(self):
        # Written on every build: the chapter's picture may have changed while this page has not.
        self.env.metadata[self.env.docname]["marginbook_generated"] = "yes"
        figure = nodes.figure("", Borrowed(figure=self.arguments[0], alt=self.options.get("alt", "")))
        self.set_source_info(figure)
        body = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, body)
        if body.children:
            figure += nodes.caption("", "", *body.children[0].children)
            figure += [nodes.legend("", *body.children[1:])] if body.children[1:] else []
        self.add_name(figure)
        return [figure]


def borrow(app, doctree, docname):
    """doctree-resolved: every page is read, so the chapter's picture is known."""
    for place in list(doctree.findall(Borrowed)):
        image = _image_of(app.env, place["figure"])
        if image is None:
            logger.warning(
                "no chapter has a figure named %r", place["figure"],
                location=docname, type="marginbook", subtype="figure",
            )  # fmt: skip
            place.parent.remove(place)
            continue
        if place["alt"]:
            image["alt"] = place["alt"]
        place.replace_self(image)


def _image_of(env, name: str):
    home = env.get_domain("std").labels.get(name) or env.get_domain("std").anonlabels.get(name)
    if home is None:
        return None
    for figure in env.get_doctree(home[0]).findall(nodes.figure):
        if home[1] in figure["ids"]:
            image = next(iter(figure.findall(nodes.image)), None)
            return None if image is None else image.deepcopy()
    return None


def setup(app):
    app.add_node(Borrowed)
    app.add_directive("chapter-figure", ChapterFigure)
    app.connect("doctree-resolved", borrow)
