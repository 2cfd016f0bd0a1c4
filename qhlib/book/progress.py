"""Say which cell of a notebook is running: a bar on a terminal, a line now and then elsewhere.

Conventions: everything goes to standard error, so that standard output stays free for results.
"""

import sys
import threading
import time

HEARTBEAT = 10.0  # seconds between two lines when nobody watches a terminal


def heading(source: str) -> str:
    """Text of the first heading in a markdown cell, outside of its code; empty when there is none.

    >>> heading("text\\n## The two balls\\n")
    'The two balls'
    >>> heading("```bash\\n# a comment\\n```")
    ''
    """
    fenced = False
    for line in source.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced:
            return line.lstrip("#").strip()
    return ""


class Progress:
    """Context that is told of each cell with :meth:`start`; `total` is the number of code cells."""

    def __init__(self, name: str, total: int, stream=None):
        self.name, self.total = name, total
        self.stream = stream or sys.stderr
        self.done, self.section, self.note = 0, "", ""
        self._began = time.monotonic()
        self._bar = self._task = None
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._lines, daemon=True)

    def __enter__(self) -> "Progress":
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            # Rich reads [brackets] in a description as styles, and headings may hold mathematics.
            words = TextColumn("{task.description}", markup=False)
            columns = (words, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(file=self.stream))
            self._task = self._bar.add_task(f"{self.name}: starting the kernel", total=self.total)
            self._bar.start()
        else:
            self._say("starting the kernel")
            self._beat.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        if self._bar:
            self._bar.stop()

    def start(self, cell_type: str, source: str) -> None:
        """A cell begins; a heading in a markdown cell names the cells after it."""
        if cell_type == "markdown":
            section = heading(source)
            if section and section != self.section:
                self.section = section
                self._say(section)
        elif cell_type == "code" and source.strip():
            self.done, self.note = self.done + 1, ""
        if self._bar:
            text = f"{self.name}: {self.section}" if self.section else self.name
            self._bar.update(self._task, description=text, completed=self.done)

    def status(self, text: str) -> None:
        """What the running cell says about how far it is; shown behind the section."""
        if text != self.note:
            self.note = text
            if self._bar:
                self._bar.update(
                    self._task, description=": ".join(filter(None, (self.name, self.section, text)))
                )

    def _lines(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            self._say(": ".join(filter(None, (self.section, self.note))))

    def _say(self, text: str) -> None:
        if not self._bar:
            seconds = time.monotonic() - self._began
            at = f"cell {self.done} of {self.total}, {seconds:.0f} s"
            print(f"{self.name}: {text} ({at})", file=self.stream, flush=True)
