"""Executes the notebooks before Sphinx reads anything, and hands it the executed text in place of the source.

Executions are kept in _build/executed/NAME/FINGERPRINT.ipynb. A run is written elsewhere and renamed when it reached its
last cell, so that what lies there is whole, whatever ended a build; two builds at once in one checkout waste time and
nothing else. myst-nb executes nothing (``execute_notebooks: "off"``) and parses the text it is handed.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import tempfile
from pathlib import Path

from sphinx.errors import ConfigError, SphinxError
from sphinx.util import logging

from qhlib.book.errors import ChapterError
from qhlib.book.notebook import Notebook, read_notebook
from qhlib.book.records import CLAIM_MIME, FINISHED_MIME, record_of

from .fingerprint import notebook_fingerprint

logger = logging.getLogger(__name__)
KEPT = 2  # executions of a notebook, the newest
OLD_CLAIM = """::::{{claim}} {statement}
:name: {name}
:source: {source}
:tolerance: {tolerance_from}
:basis: {basis}
::::"""


class NotebookFailed(SphinxError):
    category = "A notebook failed"


def say_last(error: SphinxError) -> SphinxError:
    """Repeat `error` below the tracebacks that Jupyter Book prints after it."""
    atexit.register(lambda: print(f"\n{error.category}: {error}", file=sys.stderr))
    return error


def check_mode(app, config):
    """config-inited: myst-nb must not execute by its own way, nor may a notebook be left out."""
    if config.nb_execution_mode != "off":
        raise ConfigError(
            f'execute_notebooks is "{config.nb_execution_mode}" in _config.yml; write execute_notebooks: "off": '
            "notebooks are executed by the book's own extension, and only where something changed"
        )


def execute(app, env, added, changed, removed):
    """env-get-outdated: execute what has no execution yet; pages whose numbers changed are read again."""
    root, store = Path(app.srcdir), Path(app.outdir).parent / "executed"
    app.marginbook_executed = {}
    wanted = {}
    for docname in sorted(env.found_docs):
        path = Path(env.doc2path(docname))
        if path.suffix != ".ipynb":
            continue
        try:
            notebook = read_notebook(path)
            if notebook.executed:  # such as a run that becomes a page
                app.marginbook_executed[docname] = notebook
                continue
            _ = notebook.declaration, notebook.claims
        except ChapterError as error:
            raise say_last(NotebookFailed(str(error))) from None
        wanted[docname] = notebook, store / notebook.name / f"{notebook_fingerprint(root, notebook)}.ipynb"
    _run([(notebook, path) for notebook, path in wanted.values() if not path.exists()])
    outdated = []
    for docname, (notebook, path) in wanted.items():
        os.utime(path)
        for old in sorted(path.parent.glob("*.ipynb"), key=lambda p: -p.stat().st_mtime)[KEPT:]:
            old.unlink(missing_ok=True)
        app.marginbook_executed[docname] = merged(notebook, read_notebook(path))
        if env.metadata.get(docname, {}).get("marginbook_execution") != path.stem:
            outdated.append(docname)
        app.marginbook_executed[docname].content["metadata"]["marginbook_execution"] = path.stem
    return outdated


def _run(missing: list[tuple[Notebook, Path]]) -> None:
    """Execute notebooks, longest code first, as many at a time as there are cores."""
    if not missing:
        return
    from qhlib.book.running import execute_many

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    missing.sort(key=lambda each: -sum(len(cell["source"]) for cell in each[0].cells))
    faults = []
    with tempfile.TemporaryDirectory(dir=_made(missing[0][1].parents[1])) as drafts:
        homes = {notebook.path: path for notebook, path in missing}
        runs = [(notebook, {}, Path(drafts) / f"{notebook.name}.ipynb") for notebook, _ in missing]
        for notebook, seconds, error in execute_many(runs, jobs=min(cores, len(runs))):
            if error is None:
                logger.info("executed %s in %.1f s", notebook.name, seconds)
                home = homes[notebook.path]
                os.replace(Path(drafts) / f"{notebook.name}.ipynb", _made(home.parent) / home.name)
            else:
                faults.append(str(error).split("\n")[0])
    if faults:
        raise say_last(NotebookFailed("\n  ".join(faults)))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def merged(source: Notebook, executed: Notebook) -> Notebook:
    """The notebook as it is written now with the outputs of its execution: an edit of prose executes nothing."""
    ran = iter([cell for cell in executed.cells if cell.get("cell_type") == "code"])
    cells = []
    for cell in source.cells:
        if cell.get("cell_type") == "code":
            done = next(ran)
            cell = {**cell, "outputs": done["outputs"], "execution_count": done["execution_count"]}
        cells.append(cell)
    content = {**source.content, "cells": cells, "metadata": dict(source.content["metadata"])}
    return Notebook(source.path, content)


def hand_over(app, docname, source):
    """source-read: the executed text, without what is data only; claims in the old form as directives."""
    notebook = app.marginbook_executed.get(docname)
    if notebook is None:
        return
    app.env.metadata[docname]["marginbook_execution"] = notebook.content["metadata"].get("marginbook_execution")
    cells = []
    for number, cell in enumerate(notebook.cells):
        told = [o["data"][CLAIM_MIME] for o in cell.get("outputs", []) if CLAIM_MIME in o.get("data", {})]
        if "outputs" in cell:
            shown = [o for o in cell["outputs"] if not {CLAIM_MIME, FINISHED_MIME} & set(o.get("data", {}))]
            cell = {**cell, "outputs": shown}
        cells.append(cell)
        old = [OLD_CLAIM.format(**row) for row in told if "statement" in row]
        if old:
            text = "\n\n".join(old)
            cells.append({"cell_type": "markdown", "id": f"claims-{number}", "metadata": {}, "source": text})
    source[0] = json.dumps({**notebook.content, "cells": cells})


def record(app, docname: str):
    """What the executed notebook of a page tells; None for other pages."""
    notebook = getattr(app, "marginbook_executed", {}).get(docname)
    return None if notebook is None else record_of(notebook)


def setup(app):
    # One thread: on small matrices more only cost, and the numbers do not depend on the machine's cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    app.connect("config-inited", check_mode)
    app.connect("env-get-outdated", execute)
    app.connect("source-read", hand_over)
