"""Say which notebook is at which cell, for how long: a bar on a terminal, a line now and then elsewhere.

Conventions: everything goes to standard error, so that standard output stays free for results. Several notebooks may
run at once; each line names its own.
"""

import contextlib
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
    """Context that is told of each cell with :meth:`start`; `total` is the number of code cells.

    On a terminal all notebooks of the process share one display; elsewhere a line is printed now and then.
    """

    _display = None
    _users = 0
    _lock = threading.Lock()

    def __init__(self, name: str, total: int, stream=None):
        self.name, self.total = name, total
        self.stream = stream or sys.stderr
        self.done, self.section, self.note = 0, "", ""
        self._began = time.monotonic()
        self._task = None
        self._stop = threading.Event()

    def __enter__(self) -> "Progress":
        if self.stream.isatty():
            with Progress._lock:
                Progress._users += 1
                Progress._display = Progress._display or _bars(self.stream)
                self._task = Progress._display.add_task("", total=self.total)
        else:
            threading.Thread(target=self._beat, daemon=True).start()
        self.say("starting the kernel")
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        if self._task is not None:
            with Progress._lock:
                Progress._users -= 1
                if not Progress._users:
                    Progress._display.stop()
                    Progress._display = None

    def start(self, cell_type: str, source: str) -> None:
        """A cell begins; a heading in a markdown cell names the cells after it."""
        if cell_type == "markdown":
            section = heading(source)
            if section and section != self.section:
                self.section = section
                self.say(section)
        elif cell_type == "code" and source.strip():
            self.done, self.note = self.done + 1, ""
            self.show()

    def status(self, text: str) -> None:
        """What the running cell says about how far it is; shown behind the section."""
        if text != self.note:
            self.note = text
            self.show()

    def show(self) -> None:
        """Renew the bar, where there is one."""
        if self._task is not None and Progress._display:
            words = ": ".join(filter(None, (self.name, self.section, self.note)))
            Progress._display.update(self._task, description=words, completed=self.done)

    def say(self, text: str) -> None:
        """A line with `text`, or the bar renewed."""
        if self._task is not None:
            return self.show()
        seconds = time.monotonic() - self._began
        line = f"{self.name}: {text} (cell {self.done} of {self.total}, {seconds:.0f} s)\n"
        with contextlib.suppress(ValueError):  # the stream of a caller who has gone may be closed
            self.stream.write(line)  # one write: lines of two notebooks do not mix
            self.stream.flush()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            self.say(": ".join(filter(None, (self.section, self.note))))


def _bars(stream):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    # Rich reads [brackets] in a description as styles, and headings may hold mathematics.
    words = TextColumn("{task.description}", markup=False)
    bars = Bars(words, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(file=stream))
    bars.start()
    return bars
