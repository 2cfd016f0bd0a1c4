"""Run notebooks with papermill: everything is checked first, then a copy is executed.

Conventions
-----------
* Nothing is written and no kernel starts before the notebook, its parameters and the output's place are good.
* A notebook is read once; papermill is given what was read.
* The output is saved every few seconds, each time as a whole file; it stays where a run fails or is interrupted.
* Whether a run reached its end is read from the notebook's sentinel, never from papermill's status.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from .chapter import check_resources
from .declaration import BOOK, PAPER, validate
from .errors import BookError, RunFailed
from .notebook import Notebook, chapter_directories, find_chapter, read_notebook, write_whole
from .patches import import_papermill
from .progress import Progress
from .records import last_line, place, stopped_at

SAVE_EVERY = 5.0
"""Seconds between two saves of a running notebook; it is always saved at its end, whatever ends it."""


@dataclass(frozen=True)
class Plan:
    """A checked run: the notebook, all values, and the files it will write; `fresh` files must not exist yet."""

    notebook: Notebook
    values: dict
    output: Path
    html: Path | None = None
    fresh: bool = True
    numbered: bool = False
    notes: tuple[str, ...] = field(default=())


def plan(
    name: str | os.PathLike,
    parameters: Mapping[str, object] | None = None,
    preset: str = BOOK,
    output: str | os.PathLike | None = None,
    html: bool = False,
    force: bool = False,
) -> Plan:
    """Check a run without starting it; the arguments are those of :func:`run`.

    Raises :class:`BookError` (:class:`ParameterError`, :class:`ChapterError`) with one message.

    >>> plan("no_such_chapter_at_all")
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: ...
    """
    notebook = name if isinstance(name, Notebook) else read_notebook(find_chapter(name))
    declaration = notebook.declaration
    values = validate(declaration, {**declaration.preset(preset), **(parameters or {})})
    _ = notebook.claims  # words and numbers must fit before anything runs
    notes = ()
    if preset == PAPER and PAPER not in (declaration.presets or {}):
        notes = (f"{notebook.name} has no separate preset paper; using book, its default values",)
    if html:
        from .pages import check_builder

        check_builder()
    target = output_path(notebook.path, preset, output, html, force)
    check_resources(values)  # the last check, for it may download
    page = target.with_suffix(".html") if html else None
    return Plan(notebook, values, target, page, not force, output is None, notes)


def output_path(
    source: Path, preset: str, output: str | os.PathLike | None, html: bool, force: bool
) -> Path:
    """Where a run is written: `output`, or ``NAME-PRESET.ipynb`` in the current directory with a free number.

    Raises :class:`BookError` when the place cannot be written, exists (unless `force`), or holds chapters.
    """
    if output is None:
        path = next(path for path in names(source.stem, preset) if not taken(path, html))
    else:
        path = Path(os.path.abspath(output))
        if path.is_dir():
            raise BookError(f"-o {output}: this is a directory; name a file, such as {output}/out.ipynb")
        if path.suffix != ".ipynb":
            raise BookError(f"-o {output}: the name must end in .ipynb")
    folder = path.parent
    if not folder.is_dir():
        raise BookError(f"-o {output}: the directory {folder} does not exist")
    if path.exists() and path.samefile(source):
        raise BookError(f"the output is the chapter's own notebook {source.name}; choose another with -o")
    if any(home.resolve() in (folder.resolve(), *folder.resolve().parents) for home in chapter_directories()):
        raise BookError(f"{folder} holds the book's chapters; choose a place outside of it with -o")
    if taken(path, html) and not force:
        existing = path if path.exists() else path.with_suffix(".html")
        raise BookError(f"{existing} exists; choose another name with -o, or overwrite it with --force")
    files = [path, path.with_suffix(".html")] if html else [path]
    if not os.access(folder, os.W_OK) or any(
        file.exists() and not os.access(file, os.W_OK) for file in files
    ):
        raise BookError(f"{path} cannot be written; choose another place with -o")
    return path


def names(stem: str, preset: str) -> Iterator[Path]:
    """``STEM-PRESET.ipynb`` in the current directory, and on with numbers from 2."""
    yield Path.cwd() / f"{stem}-{preset}.ipynb"
    for number in range(2, 10_000):
        yield Path.cwd() / f"{stem}-{preset}-{number}.ipynb"


def taken(path: Path, html: bool) -> bool:
    """Whether a run may not be written to `path` without overwriting something."""
    return path.exists() or (html and path.with_suffix(".html").exists())


def run(
    name: str | os.PathLike,
    parameters: Mapping[str, object] | None = None,
    preset: str = BOOK,
    output: str | os.PathLike | None = None,
    html: bool = False,
    force: bool = False,
    timeout: int | None = None,
    stream=None,
) -> Path:
    """Run chapter `name` (or a notebook at a path) and return the executed notebook's path.

    `parameters` win over `preset`, which wins over the default values; `output` names a notebook that does
    not exist yet, unless `force`; `html` writes a page that needs no network beside it; `timeout` limits each
    cell to so many seconds; progress goes to `stream`, or standard error.

    Raises :class:`BookError` before anything starts when an argument is wrong, :class:`RunFailed` when the
    notebook does not run to its last cell; the partial notebook is kept and the message says where it
    stopped.

    >>> run("no_such_chapter_at_all")
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: ...
    """
    planned = plan(name, parameters, preset, output, html, force)
    return execute_plan(planned, timeout, stream)[0]


def execute_plan(planned: Plan, timeout: int | None = None, stream=None) -> list[Path]:
    """Carry out a checked plan; returns the files that were written, and raises as :func:`run`."""
    stream = stream or sys.stderr
    for note in planned.notes:
        print(note, file=stream)
    output = reserve(planned)
    if planned.html:
        planned.html.unlink(missing_ok=True)  # a page of an earlier run must not stand beside a failed one
    execute(planned.notebook, planned.values, output, timeout, stream)
    if not planned.html:
        return [output]
    from .pages import write_page

    page = output.with_suffix(".html")
    print(f"{planned.notebook.name}: writing the page", file=stream)
    try:
        write_page(read_notebook(output), planned.notebook, page)
    except Exception as error:  # whatever it is, the executed notebook is complete and worth naming
        raise RunFailed(
            f"{output} is complete, but no page could be written: {type(error).__name__}: {error}"
        ) from error
    return [output, page]


def reserve(planned: Plan) -> Path:
    """Create the output, so that no other run takes its name; with a default name the next free one if need be.

    Raises :class:`BookError` when it cannot be created, or exists by now.
    """
    stem = planned.output.stem
    again = (planned.output.with_name(f"{stem}-{number}.ipynb") for number in range(2, 10_000))
    for path in (planned.output, *(again if planned.numbered else ())):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | (os.O_EXCL if planned.fresh else 0)))
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise BookError(f"{path} cannot be written: {error.strerror}") from None
    raise BookError(f"{planned.output} exists; choose another name with -o, or overwrite it with --force")


def execute(
    notebook: Notebook, values: Mapping, output: Path, timeout: int | None = None, stream=None
) -> None:
    """Execute a checked notebook with papermill into `output`, saved as it runs.

    Raises :class:`RunFailed` when the run does not reach its end; ``KeyboardInterrupt`` gets a message.
    """
    from .kernels import Server

    Server.warm_up()  # imports side by side with papermill's
    papermill = import_papermill()
    from nbformat import from_dict
    from papermill.exceptions import PapermillExecutionError

    from .engine import ENGINE, Watch

    progress = Progress(notebook.name, len(notebook.cells), stream)
    watch = Watch(output, progress)
    kept = f"the notebook as far as it ran is {output}"
    reason = ""
    try:
        with progress:
            papermill.execute_notebook(
                from_dict(json.loads(json.dumps(notebook.content))),  # papermill changes what it is given
                None,
                dict(values),
                engine_name=ENGINE,
                kernel_name="python3",
                progress_bar=False,
                execution_timeout=timeout,
                watch=watch,
                source_name=notebook.path.name,
                # The kernel's own log warns of local sockets and complains of being interrupted; a reader can
                # act on neither, and what a cell prints or raises does not pass through it.
                extra_arguments=["--log-level=CRITICAL"],
            )
    except PapermillExecutionError as error:
        cell = {"source": error.source, "execution_count": error.exec_count}
        reason = f"{place(cell)} failed: {last_line({'ename': error.ename, 'evalue': error.evalue})}"
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{notebook.name} was interrupted; {kept}") from None
    except Exception as error:
        # A dead kernel, a time limit, a full disk: papermill and its client share no base class for these.
        text = str(error).strip().split("\n")[0]
        running = {"source": watch.source, "execution_count": progress.done}
        where = f"{place(running)} stopped: " if watch.source else "the kernel did not start: "
        reason = f"{where}{type(error).__name__}: {text}"
    reason = reason or stopped_at(read_notebook(output))
    if reason:
        raise RunFailed(f"{notebook.name} did not run to its last cell: {reason}\n{kept}")


_stopping = threading.Event()


def stopping() -> bool:
    """Whether the runs of :func:`execute_many` were interrupted and should end at their next cell."""
    return _stopping.is_set()


def execute_many(
    runs: Iterable[tuple[Notebook, Mapping, Path]], jobs: int = 2, stream=None
) -> Iterator[tuple[Notebook, float, RunFailed | None]]:
    """Execute several notebooks, `jobs` at a time; yields each as it ends, with its seconds and why it failed.

    Papermill waits while kernels compute, so threads are enough. One that fails does not stop the others; an interrupt
    ends them all.
    """

    def one(notebook, values, output):
        began = time.monotonic()
        try:
            execute(notebook, values, output, stream=stream)
        except RunFailed as error:
            return notebook, time.monotonic() - began, error
        return notebook, time.monotonic() - began, None

    import_papermill()  # once, before threads ask for it
    _stopping.clear()
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, *each) for each in runs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            _stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            from .kernels import Server

            Server.stop_all()
            raise
