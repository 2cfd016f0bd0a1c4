"""Run notebooks with papermill: everything is checked first, then a copy is executed.

Conventions
-----------
* No kernel starts before the notebook, its parameters and the output's place are good.
* A notebook is read once; papermill is given what was read.
* The output is saved every few seconds, each time as a whole file; it stays where a run fails or
  is interrupted.
* Whether a run reached its end is read from the notebook's sentinel, never from papermill's
  status.
"""

import ast
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from .chapter import INJECTED, check_resources
from .declaration import BOOK, validate
from .errors import BookError, ChapterError, RunFailed
from .notebook import Notebook, chapter_directories, find_chapter, read_notebook
from .patches import import_papermill
from .progress import Progress
from .records import stopped_at


@dataclass(frozen=True)
class Plan:
    """A checked run: notebook, all values, output, and whether another free name will do."""

    notebook: Notebook
    values: dict
    output: Path
    numbered: bool
    html: bool
    force: bool
    note: str


def plan(
    name: str | os.PathLike | Notebook,
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
    earlier = injected(notebook)
    given = {**earlier, **declaration.preset(preset), **(parameters or {})}
    values = validate(declaration, given)
    _ = notebook.claims  # words and numbers must fit before anything runs
    path = Path(os.path.abspath(output or f"{notebook.name}-{preset}.ipynb"))
    folders = {path.parent.resolve(), *path.parent.resolve().parents}
    files = [path, path.with_suffix(".html")] if html else [path]
    # os.path says no to a name that is too long, where pathlib raises
    taken = [file for file in files if os.path.exists(file) and output and not force]
    locked = not all(os.access(f, os.W_OK) for f in (path.parent, *files) if os.path.exists(f))
    faults = {
        f"{path} does not end in .ipynb": path.suffix != ".ipynb",
        f"{path.parent} holds the book's chapters": folders & set(chapter_directories()),
        f"{path} is the notebook that is to be run": path.resolve() == notebook.path.resolve(),
        f"{path} cannot be written": locked or not path.parent.is_dir(),
        f"{(taken or [path])[0]} exists (--force overwrites it)": taken,
    }
    for fault in (fault for fault, found in faults.items() if found):
        raise BookError(f"{fault}; choose another output with -o")
    if html:
        from .pages import check_builder

        check_builder()
    note = ""
    if earlier:
        note = f"{notebook.name} is a run of {notebook.chapter}: its parameters are kept, but for "
        note += "those given now"
    check_resources(values)  # the last check, for it may download
    return Plan(notebook, values, path, output is None, html, force, note)


def injected(notebook: Notebook) -> dict:
    """The parameters that papermill has written into an earlier run; empty for another notebook.

    >>> injected(Notebook(Path("a.ipynb"), {"cells": []}))
    {}
    """
    try:
        cell = ast.parse(notebook.tagged("injected-parameters") or "")
        pairs = [(each.targets[0].id, ast.literal_eval(each.value)) for each in cell.body]
    except (SyntaxError, ValueError, AttributeError):
        raise ChapterError(f"{notebook.name}: its injected parameters cannot be read") from None
    return {name: value for name, value in pairs if name not in INJECTED}


def run(
    name: str | os.PathLike,
    parameters: Mapping | None = None,
    stream=None,
    timeout=None,
    **options,
) -> Path:
    """Run chapter `name` (or a notebook at a path) and return the executed notebook's path.

    `parameters` win over the option ``preset``, which wins over the default values; ``output``
    names a notebook that does not exist yet, unless ``force``; ``html`` writes a page that needs
    no network beside it; `timeout` limits each cell to so many seconds; progress goes to `stream`,
    or standard error.

    Raises :class:`BookError` before anything starts when an argument is wrong, :class:`RunFailed`
    when the notebook does not run to its last cell; the partial notebook is kept and the message
    says where it stopped.

    >>> run("no_such_chapter_at_all")
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: ...
    """
    return execute_plan(plan(name, parameters, **options), timeout, stream)[0]


def execute_plan(planned: Plan, timeout: int | None = None, stream=None) -> list[Path]:
    """Carry out a checked plan; returns the files that were written, and raises as :func:`run`."""
    notebook, stream = planned.notebook, stream or sys.stderr
    stream.write(planned.note + "\n" * bool(planned.note))
    warm()  # before anything is written: what is needed may not be installed
    output = reserve(planned)
    page = output.with_suffix(".html")
    if planned.html:
        page.unlink(missing_ok=True)  # a page of an earlier run must not stand beside a failed one
    execute(notebook, planned.values, output, timeout, stream)
    if not planned.html:
        return [output]
    from .pages import write_page

    print(f"{notebook.name}: writing the page", file=stream)
    try:
        write_page(read_notebook(output), notebook.name, page)
    except Exception as error:  # whatever it is, the executed notebook is complete, worth naming
        fault = f"no page could be written: {type(error).__name__}: {error}"
        raise RunFailed(f"{output} is complete, but {fault}") from error
    return [output, page]


def reserve(planned: Plan) -> Path:
    """Create the output, so that no other run takes its name; a default name is numbered if need
    be.

    Raises :class:`BookError` when it cannot be created, or exists by now.
    """
    stem, mode = planned.output.with_suffix(""), "w" if planned.force else "x"
    for number in count(1):
        path = Path(f"{stem}{f'-{number}' if number > 1 else ''}.ipynb")
        if planned.numbered and planned.html and path.with_suffix(".html").exists():
            continue
        try:
            path.open(mode).close()
            return path
        except FileExistsError:
            if not planned.numbered:
                raise BookError(f"{path} exists; overwrite it with --force") from None
        except OSError as error:
            raise BookError(f"{path} cannot be written: {error.strerror}") from None


def warm():
    """Papermill; the kernels' server is started first, for its imports go on side by side."""
    from .kernels import Server, environment

    Server.of(environment(dict(os.environ)))
    return import_papermill()


def execute(
    notebook: Notebook,
    values: Mapping,
    output: Path,
    timeout: int | None = None,
    stream=None,
    limit: float | None = None,
) -> None:
    """Execute a checked notebook with papermill into `output`, saved as it runs.

    `timeout` is for each cell; `limit` for the whole run, whose kernel is then killed: seconds.

    Raises :class:`RunFailed` when the run does not reach its end; ``KeyboardInterrupt`` gets a
    message.
    """
    papermill = warm()
    import nbformat

    from .engine import ENGINE

    kept = f"the notebook as far as it ran is {output}"
    reason = ""
    try:
        with Progress(notebook.name, stream) as progress:
            papermill.execute_notebook(
                nbformat.from_dict(deepcopy(notebook.content)),  # papermill changes what it gets
                None,
                dict(values),
                engine_name=ENGINE,
                kernel_name="python3",
                execution_timeout=timeout,
                limit=limit,
                output=output,
                progress=progress,
                source=notebook.path.name,
                # The kernel's own log warns of local sockets and complains of being interrupted; a
                # reader can act on neither, and what a cell prints or raises does not pass through
                # it.
                # Nor does a run belong into the reader's history of commands, a file of one lock.
                extra_arguments=["--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:"],
            )
    except papermill.exceptions.PapermillExecutionError:
        pass  # the failed cell is in the output
    except KeyboardInterrupt:
        # the task that was left behind is collected later, and asyncio would print its traceback
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise KeyboardInterrupt(f"{notebook.name} was interrupted; {kept}") from None
    except Exception as error:
        # A dead kernel, a time limit, a full disk: papermill and its client share no base class
        # for these.
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    stopped = stopped_at(read_notebook(output), reason)
    if stopped:
        told = f"{notebook.name} did not run to its last cell: {stopped}\n{kept}"
        raise RunFailed(told, stopped)


def execute_many(
    runs: Iterable[tuple[Notebook, Mapping, Path]], jobs: int = 2, stream=None
) -> Iterator[tuple[Notebook, float, RunFailed | None]]:
    """Execute notebooks, `jobs` at a time; yields each as it ends, with its seconds and why it
    failed.

    Papermill waits while kernels compute, so threads are enough. One that fails does not stop the
    others; an interrupt ends them all.
    """
    import_papermill()  # once, before threads ask for it
    from .engine import STOP
    from .kernels import Server

    def one(notebook, values, output):
        began, failed = time.monotonic(), None
        try:
            execute(notebook, values, output, stream=stream)
        except RunFailed as error:
            failed = error
        return notebook, time.monotonic() - began, failed

    STOP.clear()
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, *each) for each in runs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            STOP.set()
            pool.shutdown(wait=False, cancel_futures=True)
            Server.stop_all()
            raise
