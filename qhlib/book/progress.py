"""Say which notebook is at which cell, and for how long, a line now and then.

Conventions: lines go to standard error, so that standard output stays free for results. Several
notebooks may run at once; each line names its own.
"""

import contextlib
import sys
import threading
import time

HEARTBEAT = 10.0  # seconds between two lines of a notebook that begins no new section


def heading(source: str) -> str:
    """Text of the first heading in a markdown cell, outside of its code; empty when there is none.

    >>> heading("text\\n## The two balls\\n"), heading("```bash\\n# a comment\\n```")
    ('The two balls', '')
    """
    fenced = False
    for line in source.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced:
            return line.lstrip("#").strip()
    return ""


class Progress:
    """Context that is told of each cell with :meth:`start`; `total` is the number of code
    cells."""

    def __init__(self, name: str, stream=None):
        self.name, self.stream, self.total = name, stream or sys.stderr, 0
        self.done, self.section, self.note = 0, "starting the kernel", ""
        self._began, self._ended = time.monotonic(), threading.Event()

    def __enter__(self) -> "Progress":
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()

    def start(self, cell_type: str, source: str) -> None:
        """A cell begins; a heading in a markdown cell names the cells after it."""
        if cell_type == "markdown" and (section := heading(source)):
            self.section = section
            self.say()
        elif cell_type == "code" and source.strip():
            self.done, self.note = self.done + 1, ""

    def say(self) -> None:
        """A line: which notebook, what it does, how far it is, how long it has run."""
        what = ": ".join(filter(None, (self.name, self.section, self.note)))
        seconds = time.monotonic() - self._began
        with contextlib.suppress(ValueError):  # the stream of a caller who has gone may be closed
            # one write: lines of two notebooks do not mix
            self.stream.write(f"{what} (cell {self.done} of {self.total}, {seconds:.0f} s)\n")
            self.stream.flush()

    def _beat(self) -> None:
        self.say()
        while not self._ended.wait(HEARTBEAT):
            self.say()


class Count:
    """How far a sweep is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int, before: int, stream):
        from tqdm import tqdm

        self.total, self.before, self.stream = total, before, stream
        self.done, self.failed, self.first = 0, 0, 0.0
        self.began = self.said = time.monotonic()
        terminal = getattr(stream, "isatty", lambda: False)()
        bar = {"total": total, "initial": before, "unit": "run", "disable": not terminal}
        self.bar = tqdm(file=stream, dynamic_ncols=True, **bar)

    def __enter__(self) -> "Count":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()
        self.say()

    def one(self, failed: bool) -> None:
        """One more run has ended."""
        self.done += 1
        self.failed += failed
        self.first = self.first or time.monotonic()  # what went before was workers starting
        self.bar.update()
        if failed:
            self.bar.set_postfix(failed=self.failed)
        if self.done == 3 or time.monotonic() - self.said >= HEARTBEAT:
            self.say()

    def say(self, note: str = "") -> None:
        """A line: runs done, failed, seconds, and an estimate of what is left."""
        self.said = time.monotonic()
        seconds, ended = self.said - self.began, self.before + self.done
        pace = (self.said - self.first) / (self.done - 1) if self.done > 2 else 0.0
        left = pace * (self.total - ended)
        guess = f", about {duration(left)} left" if left else ""
        told = f"{ended} of {self.total} runs, {self.failed} failed, {duration(seconds)}{guess}"
        self.bar.write(told + note, file=self.stream) if not self.bar.disable else print(
            told + note, file=self.stream, flush=True
        )


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(75), duration(9000)
    ('75 s', '150 min')
    """
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
