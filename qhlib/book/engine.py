"""Papermill's engine with this book's kernels and progress, and honest marks on cells that never
ran."""

import threading
import time
from pathlib import Path

import nbformat
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

from .kernels import Manager
from .notebook import write_whole
from .progress import Progress
from .records import STATUS_MIME

ENGINE = "qhlib"
SAVE_EVERY = 5.0
"""Seconds between two saves of a running notebook; it is saved at its end, whatever ends it."""
STOP = threading.Event()
"""Set to end all running notebooks at their next cell."""


class Watched(NotebookExecutionManager):
    """Papermill's record of a running notebook, saved seldom and whole, and shown on the
    terminal."""

    def __init__(self, nb, output: Path, progress: Progress):
        super().__init__(nb, progress_bar=False)
        self.output, self.progress, self.saved, self.cell = output, progress, 0.0, {}

    def save(self, now: bool = False, **kwargs):
        """Save, unless that was done just now: papermill asks twice for each cell, pictures and
        all."""
        if now or time.monotonic() - self.saved >= SAVE_EVERY:
            write_whole(self.output, nbformat.writes(self.nb) + "\n")
            self.saved = time.monotonic()

    def cell_start(self, cell, cell_index=None, **kwargs):
        """A cell begins."""
        if STOP.is_set():
            raise KeyboardInterrupt
        self.progress.start(cell.cell_type, cell.source)
        self.cell = cell if cell.cell_type == "code" else self.cell
        super().cell_start(cell, cell_index, **kwargs)

    def autosave_cell(self):
        """Called after each message of the kernel: a long cell may show a status, renewed in
        place."""
        data = (output.get("data", {}) for output in self.cell.get("outputs", ()))
        self.progress.note = next((each[STATUS_MIME] for each in data if STATUS_MIME in each), "")
        self.save()

    def cell_complete(self, cell, cell_index=None, **kwargs):
        """A cell ended: its status is no result."""
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if STATUS_MIME not in o.get("data", {})]
        super().cell_complete(cell, cell_index, **kwargs)


class BookEngine(NBClientEngine):
    """Papermill's own engine, with a :class:`Watched` notebook and this package's kernels."""

    @classmethod
    def execute_notebook(
        cls, nb, kernel_name, *, output, progress, source, extra_arguments, **kwargs
    ):
        """Execute `nb`; called by papermill with what it was given for the engine."""
        progress.total = sum(c.cell_type == "code" and bool(c.source.strip()) for c in nb.cells)
        nb.metadata.papermill.update(input_path=source, output_path=output.name)
        watched = Watched(nb, output, progress)
        limit = kwargs.get("limit")
        # a class of its own holds what its kernel needs to know: papermill makes the object
        manager = type("Limited", (Manager,), {"limit": limit, "expired": threading.Event()})
        options = {"kernel_manager_class": manager, "extra_arguments": extra_arguments}
        options["execution_timeout"] = kwargs.get("execution_timeout")
        watched.notebook_start()
        try:
            cls.execute_managed_notebook(watched, kernel_name, **options)
        except Exception:
            if manager.expired.is_set():
                raise TimeoutError(f"it was killed at its limit of {limit:g} s") from None
            raise
        finally:
            # Papermill would call what is pending after a kernel death "completed".
            for cell in nb.cells:
                if cell.metadata.papermill["status"] == watched.PENDING:
                    cell.metadata.papermill["status"] = "not run"
            watched.notebook_complete()
            watched.save(now=True)
        return nb


papermill_engines.register(ENGINE, BookEngine)
