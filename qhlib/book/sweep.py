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
import io
import json
import os
import queue
import shlex
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qhlib import __version__

from .errors import BookError, RunFailed
from .notebook import Notebook, chapter_directories, read_notebook, write_whole
from .records import stopped_at
from .sets import name_of

HEARTBEAT = 10.0
"""Seconds between two lines where there is no terminal for a bar."""


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
                stopped = found.content["metadata"].get("qhlib", {}).get("stopped")
                stopped = stopped or stopped_at(found)
                if not stopped:
                    self.finished.add(name)
                    break
                self.failed[name] = stopped

    def keep(self, name: str, text: str, stopped: str) -> None:
        """Put the notebook of a run into its place; `stopped` says why it did not reach its end.

        Raises OSError where that cannot be written.
        """
        content = read_notebook(name, text or json.dumps(self.notebook.content)).content
        if stopped:
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
        return shlex.join(["qhlib", "run", str(self.notebook.path), *words])


@contextlib.contextmanager
def opened(notebook: Notebook, sets: list[dict], root: Path, resume: bool) -> Iterator[Sweep]:
    """The sweep in the folder `root`, made if need be, held by this process alone.

    Raises :class:`BookError` when the folder cannot be written, is held by another sweep, or has
    runs already that nobody asked to `resume`.
    """
    from filelock import FileLock, Timeout

    root = Path(os.path.abspath(root))
    if {root.resolve(), *root.resolve().parents} & set(chapter_directories()):
        raise BookError(f"{root} holds the book's chapters; choose another folder with -o")
    try:
        for kind in ("runs", "failed"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        held = FileLock(root / ".lock", timeout=0)
        held.acquire()
    except Timeout:
        told = f"another sweep is at work in {root}; wait for it, or choose another folder"
        raise BookError(told) from None
    except OSError as error:
        raise BookError(f"{root} cannot be written: {error.strerror}") from None
    try:
        if not resume and any(
            next((root / kind).glob("*.ipynb"), 0) for kind in ("runs", "failed")
        ):
            raise BookError(
                f"{root} holds runs already: go on with --resume, or choose another -o"
            )
        for draft in (
            draft for kind in ("runs", "failed") for draft in (root / kind).glob(".*.tmp")
        ):
            draft.unlink()  # of a process that was killed while it wrote
        made = Sweep(notebook, root, {name_of(notebook, values): values for values in sets})
        made.look()
        yield made
    finally:
        held.release()


def run_one(text: str, chapter: str, name: str, values: Mapping, limit, threads: str):
    """On a worker: the notebook in `text`, whose file is called `chapter`, executed, and why it
    did not reach its end; empty when it did."""
    from .running import execute

    os.environ["OMP_NUM_THREADS"] = threads
    stopped = ""
    with tempfile.TemporaryDirectory(prefix="qhlib-sweep-") as folder:
        output = Path(folder) / f"{name}.ipynb"
        try:
            book = read_notebook(chapter, text)
            execute(book, values, output, stream=io.StringIO(), limit=limit)
        except RunFailed as error:
            stopped = error.stopped
        except (BookError, OSError) as error:  # nothing could be written
            stopped = f"{type(error).__name__}: {error}"
        return output.read_text("utf8") if output.exists() else "", stopped


def threads() -> int:
    """Threads of a kernel.

    >>> threads() >= 1
    True
    """
    told = os.environ.get("OMP_NUM_THREADS", "1")
    return int(told) if told.isdigit() and int(told) else 1


def cores() -> int:
    """Processors that this process may use.

    >>> cores() >= 1
    True
    """
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


@contextlib.contextmanager
def local_cluster(workers: int | None = None) -> Iterator:
    """A Dask cluster on this machine, with a worker for each processor unless `workers` says
    otherwise; all its processes end with it, and with this process, however that ends."""
    from distributed import LocalCluster

    # Ctrl-C reaches every process of a terminal: it is for the one that the reader started
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    with tempfile.TemporaryDirectory(prefix="qhlib-dask-") as folder:
        cluster = LocalCluster(
            n_workers=workers or max(1, cores() // threads()),
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,  # a run's memory is its kernel's, not the worker's
            local_directory=folder,
            silence_logs=50,
            preload=[deaf],
        )
        try:
            yield cluster
        except BaseException:
            for nanny in cluster.workers.values():  # or it would wait for the runs to end
                nanny.auto_restart = False
                if nanny.pid:
                    os.kill(nanny.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            raise
        finally:
            with contextlib.suppress(TimeoutError):
                cluster.close(timeout=10)


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int | None) -> Iterator:
    """A client of the scheduler at an address, or of a cluster on this machine.

    Raises :class:`BookError` when no scheduler answers, or a worker lacks this package.
    """
    import dask
    from distributed import Client

    # the sweep says itself what happened; what an ended worker held is computed anew
    quiet = {"logging": {"distributed": "critical", "asyncio": "critical"}}
    with dask.config.set(quiet), contextlib.ExitStack() as stack:
        place = scheduler or stack.enter_context(local_cluster(workers))
        try:
            client = Client(place, set_as_default=False, timeout=10)
        except (OSError, ValueError) as error:
            raise BookError(f"no Dask scheduler answers at {scheduler}: {error}") from None
        stack.push(lambda *_: _close(client))
        try:
            client.wait_for_workers(1, timeout=60)
            found = client.run(_version)
        except TimeoutError:
            raise BookError(f"the scheduler at {scheduler} has no worker") from None
        except ModuleNotFoundError as error:
            raise BookError(f"a worker of {scheduler} lacks {error.name}: install it") from None
        if other := {place: v for place, v in found.items() if v != __version__}:
            raise BookError(f"here is qhlib {__version__}, but workers have others: {other}")
        yield client


def _close(client) -> None:
    with contextlib.suppress(TimeoutError, OSError):  # its scheduler may be gone
        client.close(timeout=2)


def _version() -> str:
    from . import running  # noqa: F401  what a run needs must be there

    return __version__


def run_all(sweep: Sweep, client, limit: float | None = None, stream=None) -> None:
    """Do what is missing, and keep each run as it ends.

    Raises :class:`RunFailed` when the scheduler goes away, or the folder cannot be written any
    more; what was kept by then stays.
    """
    stream, token = stream or sys.stderr, uuid.uuid4().hex[:8]
    text, chapter = json.dumps(sweep.notebook.content), sweep.notebook.path.name
    waiting, done = iter(sweep.missing), queue.SimpleQueue()
    running: dict = {}

    def fill() -> int:
        """As many runs at a time as there are workers: none holds one that another could do."""
        try:
            slots = sum(client.nthreads().values())
        except OSError:
            raise RunFailed("the scheduler went away") from None
        while len(running) < max(slots, 1) and (name := next(waiting, None)):
            given = (text, chapter, name, sweep.runs[name], limit, str(threads()))
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


class Count:
    """How far a sweep is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int, before: int, stream):
        from tqdm import tqdm

        self.total, self.before, self.stream = total, before, stream
        self.done = self.failed = 0
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
        self.bar.update()
        if failed:
            self.bar.set_postfix(failed=self.failed)
        if self.done == 1 or time.monotonic() - self.said >= HEARTBEAT:
            self.say()

    def say(self, note: str = "") -> None:
        """A line: runs done, failed, seconds, and an estimate of what is left."""
        self.said = time.monotonic()
        seconds, ended = self.said - self.began, self.before + self.done
        left = seconds / max(self.done, 1) * (self.total - ended)
        guess = f", about {duration(left)} left" if self.done and ended < self.total else ""
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
    print(told + f", {there:,} of them finished already" * bool(there), file=stream, flush=True)
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
    if report:
        from .report import write

        for path in write(sweep, stream):
            print(path)
    if sweep.missing:
        raise RunFailed(f"{len(sweep.missing):,} of {total:,} runs did not reach their end")


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
