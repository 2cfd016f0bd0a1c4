"""Reads each executed notebook's claims and provenance, and fails the build where the book does not hold.

A chapter leaves its claims and its provenance as data outputs; `qhlib.book.records` reads them. They are
taken from the execution cache: the copy that myst-nb leaves in jupyter_execute has no outputs when the
cache had the notebook.

What is found is kept in the environment per page. The check runs at `env-updated` over *all* pages: Sphinx
has not stored the environment yet, so after a failure the same pages are read, and fail, again on the next
call.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from sphinx.errors import SphinxError
from sphinx.util import logging

from qhlib.book.records import record_of, row_fails
from qhlib.book.tables import measurement, prediction, tolerance

from .progress import say_last

logger = logging.getLogger(__name__)
FILE_NAME = re.compile(r"[\w./\\-]*\.(png|jpe?g|svg|gif|webp|pdf)", re.IGNORECASE)
PYTHON_WARNING = re.compile(r"^.*\b\w*Warning: .*$", re.MULTILINE)


class BookDoesNotHold(SphinxError):
    category = "The book does not hold"


def pages_of(env) -> dict[str, dict]:
    if not hasattr(env, "marginbook_pages"):
        env.marginbook_pages = {}
    return env.marginbook_pages


def chapters_of(env) -> dict[str, dict]:
    """The executed notebooks in the order of the table of contents."""
    order = [docname for docname in _toc_order(env, env.config.root_doc)]
    chapters = {name: page for name, page in pages_of(env).items() if page["executed"]}
    return dict(sorted(chapters.items(), key=lambda kv: order.index(kv[0]) if kv[0] in order else len(order)))


def _toc_order(env, docname, seen=None):
    seen = set() if seen is None else seen
    if docname not in seen:
        seen.add(docname)
        yield docname
        for child in env.toctree_includes.get(docname, []):
            yield from _toc_order(env, child, seen)


def read_page(app, doctree):
    """doctree-read: note what the checks and the generated pages need of this page."""
    env, docname = app.env, app.env.docname
    page = {"executed": False, "images_without_text": [], "warnings": []}
    for image in doctree.findall(nodes.image):
        alt = (image.get("alt") or "").strip()
        if not alt or FILE_NAME.fullmatch(alt):
            page["images_without_text"].append(PurePosixPath(image["uri"]).name)
    execution = env.nb_metadata.get(docname, {}).get("exec_data") if hasattr(env, "nb_metadata") else None
    if execution and env.doc2path(docname).endswith(".ipynb"):
        notebook = _executed_notebook(app, docname)
        page.update(
            executed=True, record=record_of(notebook), runtime=execution["runtime"], mtime=execution["mtime"]
        )
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                if output.get("name") == "stderr":
                    page["warnings"] += PYTHON_WARNING.findall("".join(output["text"]))
        if page["record"].claims:  # cards are raw HTML, in which Sphinx sees no equation to load MathJax for
            env.get_domain("math").data["has_equations"][docname] = True
    pages_of(env)[docname] = page


def _executed_notebook(app, docname: str):
    """The notebook with its outputs; also put in place of the stock copy, which may have none."""
    notebook = nbformat.read(app.env.doc2path(docname), as_version=4)
    _, executed = get_cache(app.config.nb_execution_cache_path).merge_match_into_notebook(notebook)
    path = Path(app.outdir).parent / "jupyter_execute" / f"{docname}.ipynb"
    path.write_text(nbformat.writes(executed), "utf8")
    return executed


def check(app, env):
    """env-updated: warnings are repeated for unchanged pages, so that -W fails as often as it is called."""
    for docname, page in pages_of(env).items():
        for name in page["images_without_text"]:
            text = "image %s has no written alt text (for an output: cell metadata mystnb.image.alt)"
            logger.warning(text, name, location=docname, type="marginbook", subtype="alt")
        for line in page["warnings"]:
            logger.warning("Python warned: %s", line, location=docname, type="marginbook", subtype="stderr")
    faults = [
        fault for docname, page in chapters_of(env).items() for fault in _faults(docname, page["record"])
    ]
    first_place = {}
    for docname, page in chapters_of(env).items():
        for row in page["record"].claims:
            if row["id"] in first_place:
                faults.append(
                    f"{docname}: the claim id {row['id']} is used before, in {first_place[row['id']]}"
                )
            first_place[row["id"]] = docname
    if faults:
        raise say_last(BookDoesNotHold("\n  " + "\n  ".join(faults)))


def _faults(docname: str, record):
    if record.stopped:
        yield f"{docname}: {record.stopped}"
    for row in record.claims:
        if row_fails(row) and record.at_book_parameters is not False:
            yield (
                f"{docname}: {row['id']} deviates: predicted {prediction(row)}, measured {measurement(row)}, "
                f"tolerance {tolerance(row)}. Find out why, or declare it with expected_deviation=…"
            )


def purge(app, env, docname):
    pages_of(env).pop(docname, None)


def merge(app, env, docnames, other):
    pages_of(env).update({name: page for name, page in pages_of(other).items() if name in docnames})


def setup(app):
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("doctree-read", read_page)
    app.connect("env-updated", check)
