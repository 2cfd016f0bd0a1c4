"""Run a notebook for many sets of parameters, on this machine or through a Dask scheduler.

Conventions
-----------
* Dask hands out the runs; each of its workers keeps the warm process from which kernels are
  forked, and papermill executes. A worker needs this package and no shared folder: it returns the
  notebook, and only the process that was started by the reader writes into the sweep's folder.
* ``DIR/runs/NAME.ipynb`` is a run that reached its end, ``DIR/failed/NAME.ipynb`` one that did
  not, as far as it ran, with the reason in its metadata. A file is renamed into its place when it
  is whole. Nothing else is a journal: what is finished is what is there.
* A kernel has one thread, as in the book, unless ``OMP_NUM_THREADS`` says otherwise, and numbers
  are those of ``qhlib run``, to the bit.
"""

import contextlib
import json
import os
import queue
import shlex
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BookError, RunFailed
from ..notebook import Notebook, chapter_directories, chapter_paths, read_notebook, write_whole
from ..progress import HEARTBEAT, Count, duration
from ..records import record_of, stopped_at
from .cluster import connected, fixed, run_one
from .sets import name_of


@dataclass
class Sweep:
    """A folder with the runs of one notebook: `runs` are its sets by name, `failed` the reasons of
    those that did not reach their end, `finished` the names of those that did."""

    notebook: Notebook
    root: Path
    runs: dict[str, dict]
    finished: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """Names of the runs that are still to be done, in the order of the sets."""
        return [name for name in self.runs if name not in self.finished]

    def path(self, name: str) -> Path | None:
        """The notebook of a run, finished or not; None where there is none yet."""
        kind = "runs" if name in self.finished else "failed" if name in self.failed else None
        return self.root / kind / f"{name}.ipynb" if kind else None

    def look(self) -> None:
        """Find out from the notebooks themselves what is finished and what failed."""
        for name in self.runs:
            for kind in ("runs", "failed"):
                try:
                    found = read_notebook(self.root / kind / f"{name}.ipynb")
                except BookError:  # none, or a damaged one: it is to be done
                    continue
                stopped = stopped_at(found)
                if kind == "runs" and not stopped:
                    self.finished.add(name)
                    break
                if kind == "failed":
                    told = found.content["metadata"].get("qhlib", {}).get("stopped")
                    self.failed[name] = told or stopped

    def keep(self, name: str, text: str, stopped: str) -> None:
        """Put the notebook of a run into its place; `stopped` says why it did not reach its end.

        Raises OSError where that cannot be written.
        """
        if stopped:
            content = json.loads(text or json.dumps(self.notebook.content))
            content["metadata"].setdefault("qhlib", {})["stopped"] = stopped
            write_whole(self.root / "failed" / f"{name}.ipynb", json.dumps(content, indent=1))
            self.failed[name] = stopped
            return
        write_whole(self.root / "runs" / f"{name}.ipynb", text)
        (self.root / "failed" / f"{name}.ipynb").unlink(missing_ok=True)
        self.finished.add(name)
        self.failed.pop(name, None)

    def command(self, name: str) -> str:
        """The command that runs one set alone, as a shell reads it."""
        defaults, words = self.notebook.declaration.defaults, []
        for key, value in self.runs[name].items():
            if value != defaults[key]:
                text = value if isinstance(value, str) else json.dumps(value)
                words += ["-p", f"{key}={text}"]
        known = chapter_paths().get(self.notebook.name) == self.notebook.path
        chapter = self.notebook.name if known else str(self.notebook.path)
        return shlex.join(["qhlib", "run", chapter, *words])


@contextlib.contextmanager
def opened(notebook: Notebook, sets: list[dict], root: Path, resume: bool) -> Iterator[Sweep]:
    """The sweep in the folder `root`, made if need be, held by this process alone.

    Raises :class:`BookError` when the folder cannot be written, is held by another sweep, or has
    runs already that nobody asked to `resume`.
    """
    import distributed  # noqa: F401  before anything is written: it may not be installed
    import pyarrow  # noqa: F401
    from filelock import FileLock, Timeout

    root = Path(os.path.abspath(root))
    folders = root / "runs", root / "failed"
    if {root.resolve(), *root.resolve().parents} & set(chapter_directories()):
        raise BookError(f"{root} holds the book's chapters; choose another folder with -o")
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(root / ".lock", timeout=0)
        held.acquire()
    except Timeout:
        told = f"another sweep is at work in {root}; wait for it, or choose another folder"
        raise BookError(told) from None
    except OSError as error:
        raise BookError(f"{root} cannot be written: {error.strerror}") from None
    try:
        if not resume and any(path for folder in folders for path in folder.glob("*.ipynb")):
            raise BookError(f"{root} holds runs already: go on with --resume, or choose another")
        for draft in (path for folder in folders for path in folder.glob(".*.tmp")):
            draft.unlink()  # of a process that was killed while it wrote
        made = Sweep(notebook, root, {name_of(notebook, values): values for values in sets})
        made.look()
        yield made
    finally:
        held.release()


def run_all(sweep: Sweep, client, limit: float | None = None, stream=None) -> None:
    """Do what is missing, and keep each run as it ends.

    Raises :class:`RunFailed` when the scheduler goes away, or the folder cannot be written any
    more; what was kept by then stays.
    """
    stream, token = stream or sys.stderr, uuid.uuid4().hex[:8]
    text, chapter = json.dumps(sweep.notebook.content), sweep.notebook.path.name
    waiting, done = iter(sweep.missing), queue.SimpleQueue()
    running: dict = {}
    variables = fixed()

    def fill() -> int:
        """As many runs at a time as there are workers: none holds one that another could do."""
        try:
            slots = sum(client.nthreads().values())
        except OSError:
            raise RunFailed("the scheduler went away") from None
        while len(running) < max(slots, 1) and (name := next(waiting, None)):
            given = (text, chapter, name, sweep.runs[name], limit, variables)
            future = client.submit(run_one, *given, key=f"run-{name}-{token}", pure=False)
            running[future] = name
            future.add_done_callback(done.put)
        return slots

    with Count(len(sweep.runs), len(sweep.finished), stream) as count:
        fill()
        while running:
            try:
                future = done.get(timeout=HEARTBEAT)
            except queue.Empty:
                count.say("" if fill() else "; no worker is there")
                continue
            name = running.pop(future)
            if future.status == "cancelled":
                raise RunFailed("the scheduler went away")
            if future.status == "error":
                error = future.exception()  # its worker ended, again and again
                found = "", f"{type(error).__name__}: {str(error).partition('. ')[0]}"
            else:
                found = future.result()
            future.release()
            try:
                sweep.keep(name, *found)
            except OSError as error:
                raise RunFailed(f"{sweep.root} cannot be written: {error.strerror}") from None
            count.one(failed=bool(found[1]))
            fill()


def carry_out(
    sweep: Sweep,
    scheduler: str | None,
    workers: int | None,
    limit: float | None,
    stream,
    report: bool = False,
) -> None:
    """Run what is missing, write the table whatever happened, and say how it ended.

    Raises :class:`RunFailed` when a run did not reach its end, the folder could not be written or
    the scheduler went away; KeyboardInterrupt and :class:`BookError` as they came.
    """
    from . import tables

    total, there = len(sweep.runs), len(sweep.finished)
    told = f"{sweep.notebook.name}: {total:,} runs"
    told += f", {there:,} of them finished already" * bool(there)
    print(told + expected(sweep), file=stream, flush=True)
    try:
        if sweep.missing:
            with connected(scheduler, workers) as client:
                run_all(sweep, client, limit, stream)
    finally:
        try:
            for path in tables.write(sweep) if sweep.finished or sweep.failed else ():
                print(path)
        except OSError as error:
            raise RunFailed(f"{sweep.root} cannot be written: {error.strerror}") from None
        finally:
            summary(sweep, stream)
    if report and sweep.finished:
        from .report import write

        for path in write(sweep, stream):
            print(path)
    if sweep.missing:
        raise RunFailed(f"{len(sweep.missing):,} of {total:,} runs did not reach their end")


def expected(sweep: Sweep) -> str:
    """How long the computations will take, in words: by runs that are finished, or else by the
    book's own execution; empty if there is neither with the effort of what is missing."""
    from ..verify import of_the_book

    kept = [read_notebook(sweep.path(name)) for name in list(sweep.finished)[:20]]
    kept = kept or [of_the_book(sweep.notebook.name)]
    took: dict = {}
    for each in filter(None, (record_of(ran).finished for ran in kept if ran)):
        took.setdefault(each["parameters"].get("effort"), []).append(each["seconds"])
    known = [
        effort for name in sweep.missing if (effort := sweep.runs[name].get("effort")) in took
    ]
    if not known:
        return ""
    mean = {effort: sum(seconds) / len(seconds) for effort, seconds in took.items()}
    return f"; about {duration(sum(mean[effort] for effort in known))} of computing"


def summary(sweep: Sweep, stream) -> None:
    """Say how many runs are finished, and for each failed one why and how it is run alone."""
    for name, reason in sweep.failed.items():
        first = " ".join(reason.split())
        print(f"{name}: {first}\n    {sweep.command(name)}", file=stream)
    ended, failed = len(sweep.finished), len(sweep.failed)
    left = len(sweep.runs) - ended - failed
    told = f"{sweep.notebook.name}: {ended:,} finished, {failed:,} failed"
    hint = "; the same command with --resume does what is missing" if left or failed else ""
    print(told + f", {left:,} not begun" * bool(left) + hint, file=stream, flush=True)
