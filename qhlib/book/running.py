"""Run a chapter with other parameters: everything is checked first, then papermill executes a copy.

Conventions
-----------
* Nothing is written and no kernel starts before the chapter, its parameters and the output's place are good.
* The output is written cell by cell; it stays where a run fails or is interrupted.
* Whether a run reached its end is read from the notebook's sentinel, never from papermill's status.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .chapter import check_device, check_images
from .errors import BookError, RunFailed
from .notebooks import ENVIRONMENT, chapter_directories, find_chapter, read_notebook
from .parameters import BOOK, PAPER, read_declaration
from .records import last_line, place, stopped_at
from .validation import check_declaration, validate


@dataclass(frozen=True)
class Plan:
    """A checked run: chapter, notebook, all values, and the files it will write."""

    chapter: str
    source: Path
    values: dict
    output: Path
    html: Path | None
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
    source = find_chapter(name)
    notebook = read_notebook(source)
    declaration = read_declaration(source.stem, notebook)
    check_declaration(declaration)
    values = validate(declaration, {**declaration.preset(preset), **(parameters or {})})
    check_device(values)
    notes = ()
    if preset == PAPER and PAPER not in declaration.presets:
        notes = (f"{source.stem} has no separate preset paper; using book, its default values",)
    if html:
        from .export import check_export

        check_export()
    target = output_path(source, preset, output, html, force)
    check_images(values)  # the last check, for it may download
    return Plan(source.stem, source, values, target, target.with_suffix(".html") if html else None, notes)


def output_path(source: Path, preset: str, output: str | os.PathLike | None, html: bool, force: bool) -> Path:
    """Where a run is written: `output`, or ``NAME-PRESET.ipynb`` in the current directory with a free number.

    Raises :class:`BookError` when the place cannot be written, exists (unless `force`), or holds chapters.
    """

    def taken(path: Path) -> bool:
        return path.exists() or (html and path.with_suffix(".html").exists())

    if output is None:
        path = Path.cwd() / f"{source.stem}-{preset}.ipynb"
        number = 2
        while taken(path):
            path = Path.cwd() / f"{source.stem}-{preset}-{number}.ipynb"
            number += 1
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
    if taken(path) and not force:
        existing = path if path.exists() else path.with_suffix(".html")
        raise BookError(f"{existing} exists; choose another name with -o, or overwrite it with --force")
    files = [path, path.with_suffix(".html")] if html else [path]
    if not os.access(folder, os.W_OK) or any(
        file.exists() and not os.access(file, os.W_OK) for file in files
    ):
        raise BookError(f"{path} cannot be written; choose another place with -o")
    return path


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
    try:
        planned.output.touch()
    except OSError as error:
        raise BookError(f"{planned.output} cannot be written: {error.strerror}") from None
    execute(planned, timeout, stream)
    if not planned.html:
        return [planned.output]
    from .export import export_html

    print(f"{planned.chapter}: writing the page", file=stream)
    try:
        return [planned.output, export_html(planned.output, planned.html)]
    except Exception as error:  # whatever it is, the executed notebook is complete and worth naming
        raise RunFailed(
            f"{planned.output} is complete, but no page could be written: {type(error).__name__}: {error}"
        ) from error


def execute(planned: Plan, timeout: int | None = None, stream=None) -> None:
    """Execute a checked plan with papermill.

    Raises :class:`RunFailed` when the run does not reach its end; ``KeyboardInterrupt`` gets a message.
    """
    with without_grammars():
        import papermill
        from papermill.exceptions import PapermillExecutionError

    from .engine import ENGINE, running_cell

    def braces(path: Path) -> str:
        return str(path).replace("{", "{{").replace("}", "}}")  # papermill formats paths with the parameters

    if planned.html:
        planned.html.unlink(missing_ok=True)  # a page of an earlier run must not stand beside a failed one
    running_cell.clear()
    kept = f"the notebook as far as it ran is {planned.output}"
    reason = ""
    try:
        with chapter_visible(planned.source):
            papermill.execute_notebook(
                braces(planned.source),
                braces(planned.output),
                planned.values,
                engine_name=ENGINE,
                kernel_name="python3",
                progress_bar=False,
                execution_timeout=timeout,
                # The kernel's own log warns of local sockets and complains of being interrupted; a reader can
                # act on neither, and what a cell prints or raises does not pass through it.
                extra_arguments=["--log-level=CRITICAL"],
                progress_name=planned.chapter,
                progress_stream=stream or sys.stderr,
            )
    except PapermillExecutionError as error:
        cell = {"source": error.source, "execution_count": error.exec_count}
        reason = f"{place(cell)} failed: {last_line({'ename': error.ename, 'evalue': error.evalue})}"
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{planned.chapter} was interrupted; {kept}") from None
    except Exception as error:
        # A dead kernel, a time limit, a full disk: papermill and its client share no base class for these.
        text = str(error).strip().split("\n")[0]
        where = f"{place(running_cell)} stopped: " if running_cell else "the kernel did not start: "
        reason = f"{where}{type(error).__name__}: {text}"
    reason = reason or stopped_at(read_notebook(planned.output))
    if reason:
        raise RunFailed(f"{planned.chapter} did not run to its last cell: {reason}\n{kept}")


@contextmanager
def chapter_visible(source: Path):
    """Let the kernel, which inherits the environment, find the very notebook that is being run."""
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = os.pathsep.join([str(source.parent), *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ[ENVIRONMENT]
        else:
            os.environ[ENVIRONMENT] = before


@contextmanager
def without_grammars():
    """Keep jsonschema, which papermill imports, from building a grammar of international addresses.

    It takes a second, two thirds of papermill's import, and checks a format that no notebook's schema uses.
    jsonschema does without the package where it is not installed, and that is what it is told here.
    """
    name = "rfc3987_syntax"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None
    try:
        yield
    finally:
        del sys.modules[name]
