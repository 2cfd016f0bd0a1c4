"""Fails the build where the book does not hold: a claim that deviates, an image without a written
alternative, a Python warning, and so each time it is built.

Sphinx forgets the warnings of pages that it does not read again. A build that ended without any
leaves a mark beside its environment; where the mark is missing, the next build reads every page.
"""

from __future__ import annotations

import logging as standard
import re
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.errors import SphinxError
from sphinx.util import logging

from qhlib.book.claims import fails, line

from .execution import cores, say_last

logger = logging.getLogger(__name__)
FILE_NAME = re.compile(r"[\w./\\-]*\.(png|jpe?g|svg|gif|webp|pdf)", re.IGNORECASE)
PYTHON_WARNING = re.compile(r"^.*\b\w*Warning: .*$", re.MULTILINE)


class BookDoesNotHold(SphinxError):
    category = "The book does not hold"


class Counter(standard.Handler):
    """Counts what Sphinx warns of."""

    def __init__(self):
        super().__init__(standard.WARNING)
        self.seen = 0

    def emit(self, record):
        self.seen += 1


def forget_unclean(app, config):
    """config-inited, before Sphinx reads its environment: after a build with faults every page is
    read."""
    app.marginbook_counter = Counter()
    standard.getLogger("sphinx").addHandler(app.marginbook_counter)
    mark = Path(app.doctreedir) / "clean"
    if not mark.exists():
        (Path(app.doctreedir) / "environment.pickle").unlink(missing_ok=True)
    mark.unlink(missing_ok=True)


def read_page(app, doctree):
    """doctree-read: warn of what this page lacks."""
    docname = app.env.docname
    for image in doctree.findall(nodes.image):
        alt = (image.get("alt") or "").strip()
        if not alt or FILE_NAME.fullmatch(alt):
            text = (
                "image %s has no written alt text (for an output: cell metadata mystnb.image.alt)"
            )
            logger.warning(text, PurePosixPath(image["uri"]).name, location=docname)
    notebook = app.marginbook.get(docname)
    for cell in notebook.cells if notebook else ():
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                for warning in PYTHON_WARNING.findall("".join(output["text"])):
                    logger.warning("Python warned: %s", warning, location=docname)


def check(app, env):
    """env-updated: every claim of every notebook."""
    faults, first_place = [], {}
    for docname, told in app.marginbook_records.items():
        if told.stopped:
            faults.append(f"{docname}: {told.stopped}")
        for row in told.claims:
            if fails(row) and told.at_book_parameters:
                faults.append(
                    f"{docname}: {line(row)}. Find out why, or declare expected_deviation=…"
                )
            if row["id"] in first_place:
                faults.append(
                    f"{docname}: the claim id {row['id']} is used in {first_place[row['id']]}, too"
                )
            first_place[row["id"]] = docname
    if faults:
        raise say_last(BookDoesNotHold("\n  " + "\n  ".join(faults)))
    app.parallel = max(app.parallel, cores())  # pages are written side by side, but read in order
    # references are resolved while pages are written: a strict build writes them all
    return list(env.found_docs) if app.warningiserror else []


def mark_clean(app, exception):
    """build-finished: leave the mark of a build without a fault."""
    standard.getLogger("sphinx").removeHandler(app.marginbook_counter)
    if exception is None and not app.marginbook_counter.seen:
        (Path(app.doctreedir) / "clean").touch()


def setup(app):
    app.connect("config-inited", forget_unclean)
    app.connect("doctree-read", read_page)
    app.connect("env-updated", check)
    app.connect("build-finished", mark_clean)
