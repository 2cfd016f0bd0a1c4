"""Papermill's engine with this book's progress, and with honest marks on cells that never ran.

Conventions: `running_cell` is the code cell in execution, for the message after a kernel died; papermill runs
one notebook at a time in a process.
"""

import time

from papermill.engines import NBClientEngine, papermill_engines

from .progress import Progress
from .records import STATUS_MIME

ENGINE = "qhlib"
running_cell: dict = {}
SAVE_EVERY = 5.0
"""Seconds between two saves of a running notebook; it is always saved at its end, whatever ends it."""


class BookEngine(NBClientEngine):
    """Papermill's own engine, told to report each cell as it begins."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, progress_name="", progress_stream=None, **kwargs):
        """Execute the notebook that `nb_man` manages; called by papermill."""
        cells = nb_man.nb.cells
        total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in cells)
        start, running = nb_man.cell_start, {}
        with Progress(progress_name, total, progress_stream) as progress:

            def report(cell, cell_index=None, **kw):
                progress.start(cell.cell_type, cell.source)
                if cell.cell_type == "code":
                    running.clear()
                    running.update(cell=cell)
                    running_cell.clear()
                    running_cell.update(source=cell.source, execution_count=progress.done)
                start(cell, cell_index, **kw)

            nb_man.cell_start = report

            autosave = nb_man.autosave_cell

            def listen():
                autosave()
                # called after each message of the kernel; a long cell may show a status, renewed in place
                for output in reversed(running["cell"].get("outputs", ()) if running else ()):
                    status = output.get("data", {}).get(STATUS_MIME)
                    if status:
                        return progress.status(status)
                return progress.status("")

            nb_man.autosave_cell = listen
            save, saved = nb_man.save, time.monotonic()

            def save_seldom(**kw):
                # papermill writes the whole file, pictures and all, twice for each cell
                nonlocal saved
                if time.monotonic() - saved >= SAVE_EVERY:
                    save(**kw)
                    saved = time.monotonic()

            nb_man.save = save_seldom
            try:
                super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
            finally:
                # Papermill would call what is pending after a kernel death "completed".
                for cell in cells:
                    if cell.metadata.papermill["status"] == nb_man.PENDING:
                        cell.metadata.papermill["status"] = "not run"
                nb_man.save = save
                save()


papermill_engines.register(ENGINE, BookEngine)
