"""Says which notebook is being executed, how far it is and how long it took; and why it failed, as the last
word.

A build is silent for minutes otherwise, and buries the error of a cell under a hundred lines of its own
traceback.
"""

from __future__ import annotations

import atexit
import sys
import time

from myst_nb.core.execute import cache, direct
from nbclient.exceptions import CellTimeoutError
from sphinx.errors import SphinxError
from sphinx.util import logging

from qhlib.book.records import stopped_at

logger = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 5.0


class NotebookFailed(SphinxError):
    category = "A notebook failed"


def say_last(error: SphinxError) -> SphinxError:
    """Repeat `error` below the tracebacks that Jupyter Book prints after it."""
    atexit.register(lambda: print(f"\n{error.category}: {error}", file=sys.stderr))
    return error


def with_progress(execute):
    """`execute` (jupyter-cache's single_nb_execution) with lines on the terminal, by nbclient's hooks."""

    def run(notebook, *args, **kwargs):
        lines = (line for cell in notebook.cells for line in cell.source.splitlines())
        name = next((line[2:] for line in lines if line.startswith("# ")), "a notebook without a title")
        n_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        begin = last = time.perf_counter()
        done = 0

        def say(cell, cell_index):
            nonlocal done, last
            done += 1
            now = time.perf_counter()
            if now - last > SECONDS_BETWEEN_LINES:
                last = now
                logger.info("  … “%s”: code cell %d of %d, %.0f s", name, done, n_cells, now - begin)

        logger.info("\nexecuting “%s” (%d code cells)", name, n_cells)
        result = execute(notebook, *args, on_cell_execute=say, **kwargs)
        seconds = time.perf_counter() - begin
        if result.err is not None:
            logger.info("%s", result.err)  # the traceback of the cell
            late = isinstance(result.err, CellTimeoutError)
            why = "a cell ran into the time limit" if late else stopped_at(notebook)
            raise say_last(NotebookFailed(f"“{name}”, after {seconds:.1f} s: {why}"))
        logger.info("executed “%s” in %.1f s", name, seconds)
        return result

    run.says_progress = True
    return run


def setup(app):
    for module in (cache, direct):
        if not hasattr(module.single_nb_execution, "says_progress"):
            module.single_nb_execution = with_progress(module.single_nb_execution)
