"""Executes the notebooks before Sphinx reads anything, and hands it the executed text.

Executions are kept in _build/executed/NAME/FINGERPRINT.ipynb. A run is written elsewhere and
renamed when it reached its last cell, so that what lies there is whole, whatever ended a build;
two builds at once in one checkout waste time and nothing else. myst-nb executes nothing
(``execute_notebooks: "off"``).
"""

from __future__ import annotations

import atexit
import base64
import csv
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from sphinx.errors import ConfigError, SphinxError
from sphinx.util import logging

from qhlib.book.errors import ChapterError
from qhlib.book.notebook import Notebook, read_notebook, write_whole
from qhlib.book.records import CLAIM_MIME, FINISHED_MIME, GLUE_MIME, record_of

from . import words
from .fingerprint import notebook_fingerprint
from .slides import marked

logger = logging.getLogger(__name__)
KEPT = 2  # executions of a notebook, the newest
COLUMNS = (
    "id chapter statement source basis relation predicted measured tolerance relative "
    "tolerance_from verdict outside expected_deviation entries link"
).split()


class NotebookFailed(SphinxError):
    category = "A notebook failed"


def say_last(error: SphinxError) -> SphinxError:
    """Repeat `error` below the tracebacks that Jupyter Book prints after it."""
    atexit.register(lambda: print(f"\n{error.category}: {error}", file=sys.stderr))
    return error


def cores() -> int:
    """How many this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def check_mode(app, config):
    """config-inited: myst-nb must not execute by its own way, nor may a notebook be left out."""
    if config.nb_execution_mode != "off":
        raise ConfigError(
            f'execute_notebooks is "{config.nb_execution_mode}" in _config.yml; write "off": the '
            "book's own extension executes the notebooks, and only where something changed"
        )


def execute(app, env, added, changed, removed):
    """env-get-outdated: execute what is not yet; returns the pages whose text came out
    otherwise."""
    root, store = Path(app.srcdir), Path(app.outdir).parent / "executed"
    wanted, app.marginbook = {}, {}
    order = re.findall(r"file: *(\S+)", (root / "_toc.yml").read_text("utf8"))
    for docname in sorted(env.found_docs & {*order}, key=order.index):
        path = Path(env.doc2path(docname))
        if path.suffix == ".ipynb":
            try:
                notebook = read_notebook(path)
                _ = notebook.declaration, notebook.claims
            except ChapterError as error:
                raise say_last(NotebookFailed(str(error))) from None
            name = f"{notebook_fingerprint(root, notebook)}.ipynb"
            # a notebook with outputs is a run that becomes a page
            home = path if notebook.executed else store / notebook.name / name
            wanted[docname] = notebook, home
    _run([each for each in wanted.values() if not each[1].exists()])
    for docname, (notebook, home) in wanted.items():
        app.marginbook[docname] = merged(notebook, read_notebook(home))
        if store in home.parents:
            os.utime(home)
            for old in sorted(home.parent.glob("*.ipynb"), key=lambda p: -p.stat().st_mtime)[
                KEPT:
            ]:
                old.unlink(missing_ok=True)
    app.marginbook_records = {
        name: record_of(notebook) for name, notebook in app.marginbook.items()
    }
    app.marginbook_homes = {name: home.stem for name, (_, home) in wanted.items()}
    known = {name: data.get("marginbook") for name, data in env.metadata.items()}
    # what is made of all notebooks is made on every build
    stale = {name for name, home in app.marginbook_homes.items() if known.get(name) != home}
    return list(stale | {name for name in known if known[name] == "made of all"} & env.found_docs)


def _run(missing: list[tuple[Notebook, Path]]) -> None:
    """Execute notebooks, longest code first, as many at a time as there are cores."""
    if not missing:
        return
    from qhlib.book.running import execute_many

    missing = sorted(missing, key=lambda each: -sum(len(cell["source"]) for cell in each[0].cells))
    homes, faults = {notebook.path: home for notebook, home in missing}, []
    store = missing[0][1].parents[1]
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store) as drafts:
        runs = [(notebook, {}, Path(drafts) / f"{notebook.name}.ipynb") for notebook, _ in missing]
        for notebook, seconds, error in execute_many(runs, min(cores(), len(runs))):
            if error:
                faults.append(str(error).split("\n")[0])
                continue
            logger.info("executed %s in %.1f s", notebook.name, seconds)
            homes[notebook.path].parent.mkdir(exist_ok=True)
            os.replace(Path(drafts) / f"{notebook.name}.ipynb", homes[notebook.path])
    if faults:
        raise say_last(NotebookFailed("\n  ".join(faults)))


def merged(source: Notebook, executed: Notebook) -> Notebook:
    """The notebook as written now with the outputs of its execution: an edit of prose executes
    nothing."""
    ran = iter([cell for cell in executed.cells if cell.get("cell_type") == "code"])
    done = [next(ran) if cell.get("cell_type") == "code" else cell for cell in source.cells]
    told = [{k: cell[k] for k in ("outputs", "execution_count") if k in cell} for cell in done]
    cells = [{**cell, **more} for cell, more in zip(source.cells, told, strict=True)]
    return Notebook(source.path, {**source.content, "cells": cells})


def hand_over(app, docname, source):
    """source-read: the executed text, without what is data only; generated parts in their
    places."""
    notebook = app.marginbook.get(docname)
    if notebook is None:
        source[0] = words.PLACE.sub(lambda place: _made(app, docname, place), source[0])
        return
    app.env.metadata[docname]["marginbook"] = app.marginbook_homes[docname]
    rows = {row["name"]: row for row in app.marginbook_records[docname].claims}
    cells = []
    for cell in marked(notebook.cells):
        if cell.get("cell_type") == "markdown":
            text = words.PLACE.sub(lambda place: _made(app, docname, place), cell["source"])
            cell = {**cell, "source": words.with_claims(text, rows)}
        elif "outputs" in cell:
            data = {CLAIM_MIME, FINISHED_MIME}
            shown = [o for o in cell["outputs"] if not data & {*o.get("data", ())}]
            cell = {**cell, "outputs": shown, "metadata": folded(cell["metadata"])}
        cells.append(cell)
    source[0] = json.dumps({**notebook.content, "cells": cells})


def folded(metadata: dict) -> dict:
    """The metadata of a code cell; that with the parameters is folded, and its bar says so."""
    if "parameters" not in metadata.get("tags", ()):
        return metadata
    told = {"mystnb": {"code_prompt_show": "Show the parameters"}}
    return {**metadata, **told, "tags": [*metadata["tags"], "hide-input"]}


def _made(app, docname: str, place) -> str:
    """The text for one placeholder."""
    _, kind, argument, content = place.groups()
    if kind == "parameters":
        hosted = app.config.html_theme_options.get("repository_url", "")
        return words.parameters(app.marginbook[docname].declaration, hosted)
    app.env.metadata[docname]["marginbook"] = "made of all"
    titles = {name: notebook.title for name, notebook in app.marginbook.items()}
    chapters = {name: told for name, told in app.marginbook_records.items() if told.claims}
    if kind == "scorecard":
        return words.scorecard(content, chapters, titles)
    if kind == "bookstatus":
        return words.status(chapters, titles)
    if kind == "verdicts":
        return words.verdicts(argument, chapters)
    glued = Path(app.outdir).parent / "glued" / f"{argument.strip()}.png"
    glued.parent.mkdir(parents=True, exist_ok=True)
    for notebook in app.marginbook.values():
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                if output.get("metadata", {}).get("scrapbook", {}).get("name") == argument.strip():
                    data = output["data"]
                    if slider := data.get(GLUE_MIME + "text/html"):
                        again = slider.replace("-range", "-range-again")  # its names on one page
                        return f"```{{raw}} html\n{again}\n```\n\n{content}"
                    glued.write_bytes(base64.b64decode(data[GLUE_MIME + "image/png"]))
    path = os.path.relpath(glued, Path(app.srcdir, docname).parent)
    return f"```{{figure}} {path}\n{content}```"


def write_downloads(app, exception):
    """build-finished: the scorecard as data, beside its page."""
    if exception is None and app.builder.name == "html":
        rows = [
            {
                "chapter": told.chapter,
                **row,
                "link": f"{app.builder.get_target_uri(name)}#{row['anchor']}",
            }
            for name, told in app.marginbook_records.items()
            for row in told.claims
        ]
        data = json.dumps({"claims": rows}, indent=1, ensure_ascii=False)
        write_whole(Path(app.outdir) / "scorecard.json", data)
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(Path(app.outdir) / "scorecard.csv", table.getvalue())


def setup(app):
    # One thread: on small matrices more only cost, and the numbers do not depend on the machine's
    # cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    app.connect("config-inited", check_mode)
    app.connect("env-get-outdated", execute)
    app.connect("source-read", hand_over)
    app.connect("build-finished", write_downloads)
