"""Papermill's engine with this book's kernels and progress, and with honest marks on cells that never ran."""

import time
from pathlib import Path

import nbformat
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

from .kernels import Manager
from .notebook import write_whole
from .progress import Progress
from .records import STATUS_MIME
from .running import SAVE_EVERY, stopping

ENGINE = "qhlib"


class Watch:
    """What a run is watched with: where it is saved, and its progress; `source` is the running cell's code."""

    def __init__(self, output: Path, progress: Progress):
        self.output, self.progress, self.source = output, progress, ""


class WatchedNotebook(NotebookExecutionManager):
    """Papermill's record of a running notebook, saved seldom and whole, and shown on the terminal."""

    def __init__(self, nb, watch: Watch):
        super().__init__(nb, progress_bar=False)
        self.watch, self.saved = watch, 0.0
        self.cell = None

    def save(self, **kwargs):
        """Save, unless that was done just now: papermill asks twice for each cell, pictures and all."""
        if time.monotonic() - self.saved >= SAVE_EVERY:
            self.save_now()

    def save_now(self):
        """Save the notebook as a whole file."""
        write_whole(self.watch.output, nbformat.writes(self.nb) + "\n")
        self.saved = time.monotonic()

    def cell_start(self, cell, cell_index=None, **kwargs):
        """A cell begins."""
        if stopping():
            raise KeyboardInterrupt
        self.cell = cell
        self.watch.progress.start(cell.cell_type, cell.source)
        if cell.cell_type == "code":
            self.watch.source = cell.source
        super().cell_start(cell, cell_index, **kwargs)

    def autosave_cell(self):
        """Called after each message of the kernel: a long cell may show a status, renewed in place."""
        found = (output.get("data", {}).get(STATUS_MIME) for output in self.cell.get("outputs", ()))
        self.watch.progress.status(next(filter(None, found), ""))
        self.save()

    def cell_complete(self, cell, cell_index=None, **kwargs):
        """A cell ended: its status is no result."""
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if STATUS_MIME not in o.get("data", {})]
        super().cell_complete(cell, cell_index, **kwargs)


class BookEngine(NBClientEngine):
    """Papermill's own engine, with a :class:`WatchedNotebook` and this package's kernels."""

    @classmethod
    def execute_notebook(cls, nb, kernel_name, *, watch, source_name, output_path=None, **kwargs):
        """Execute `nb`; called by papermill."""
        for option in ("progress_bar", "autosave_cell_every", "input_path"):
            kwargs.pop(option, None)
        nb.metadata.papermill.update(input_path=source_name, output_path=watch.output.name)
        watch.progress.total = sum(c.cell_type == "code" and bool(c.source.strip()) for c in nb.cells)
        managed = WatchedNotebook(nb, watch)
        managed.notebook_start()
        try:
            cls.execute_managed_notebook(managed, kernel_name, kernel_manager_class=Manager, **kwargs)
        finally:
            # Papermill would call what is pending after a kernel death "completed".
            for cell in nb.cells:
                if cell.metadata.papermill["status"] == managed.PENDING:
                    cell.metadata.papermill["status"] = "not run"
            managed.notebook_complete()
            managed.save_now()
        return nb


papermill_engines.register(ENGINE, BookEngine)
