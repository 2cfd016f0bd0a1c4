"""The command ``qhlib``: list and describe the chapters, run them, read their claims.

Conventions: results go to standard output, messages and progress to standard error. Exit status: 0
done; 1 the notebook, or one of a sweep's runs, did not reach its end, ``--check`` found a fault or
``verify`` a difference; 2 bad input, with one message and nothing written; 3 a fault of this
program, with its traceback; 130 interrupted. What a command does not need is not imported, so that
``list`` and ``describe`` answer at once.
"""

import argparse
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Sequence

from qhlib import __version__

from .errors import BookError, ParameterError, RunFailed
from .notebook import chapter_paths, find_chapter, read_notebook


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (default: the process's) and return its exit
    status.

    >>> main(["describe", "no_such_chapter_at_all"])
    2
    """
    for stream in (sys.stdout, sys.stderr):
        # a console with an old code page has no ✓: a mark in its place is no fault
        getattr(stream, "reconfigure", lambda errors: None)(errors="replace")
    arguments = parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except (BookError, KeyboardInterrupt) as error:
        print(f"qhlib: {str(error) or 'interrupted'}", file=sys.stderr)
        stopped = 130 if isinstance(error, KeyboardInterrupt) else 2
        return 1 if isinstance(error, RunFailed) else stopped
    except ModuleNotFoundError as error:
        extra = "book,sweep" if error.name in ("distributed", "filelock", "pyarrow") else "book"
        extra = "book,course" if error.name == "nbgrader" else extra
        what = f"{error.name} is not installed, and this command needs it"
        print(f"qhlib: {what}: pip install 'qhlib[{extra}]'", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # no verdict, and no fault of the reader's
        traceback.print_exc()
        print(f"qhlib: {error!r} is a fault of qhlib {__version__}: report it", file=sys.stderr)
        return 3


def parser() -> argparse.ArgumentParser:
    """The command line.

    >>> parser().parse_args(["run", "a_chapter", "-p", "seed=7"]).parameter
    ['seed=7']
    """
    text = "Run the chapters of the book and read their claims."
    top = argparse.ArgumentParser(prog="qhlib", description=text)
    top.add_argument("--version", action="version", version=f"qhlib {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, text: str, *flags: tuple[str, str]):
        sub = commands.add_parser(name, help=text)
        sub.set_defaults(command=function)
        for flag, meaning in flags:
            sub.add_argument(flag, action="store_true", help=meaning)
        return sub.add_argument

    json_flag = ("--json", "print JSON")
    command("list", list_chapters, "list the chapters", json_flag)
    named = {"metavar": "NAME", "help": "a chapter, or the path of a notebook"}
    command("describe", describe, "show parameters, presets and claims", json_flag)(
        "name", **named
    )
    page = ("--html", "write a page for the browser beside the notebook")
    force = ("--force", "overwrite what exists")
    add = command(
        "run", run_chapter, "run a chapter, with other parameters if you like", page, force
    )
    add("name", **named)
    text = "a file of parameters, YAML or JSON; -p wins over it"
    add("-f", dest="file", metavar="FILE", help=text)
    text = "set a parameter, a list as -p radii=[0.5,0.9]; may be repeated"
    add("-p", dest="parameter", metavar="KEY=VALUE", action="append", default=[], help=text)
    add("--preset", default="book", metavar="NAME", help="smoke, book (the default) or paper")
    add("-o", dest="output", metavar="FILE", help="notebook to write (default: NAME-PRESET.ipynb)")
    resume = ("--resume", "go on in a folder: only what is missing there or failed is run")
    bare = ("--no-report", "write the table, and no page of figures")
    add = command(
        "sweep", sweep_chapter, "run a chapter for many sets of parameters", resume, bare
    )
    add("name", **named)
    text = (
        "values of a parameter, K=V1,V2,... or K=START:STOP:STEP (without STOP); may be repeated"
    )
    add("--grid", metavar="K=...", action="append", default=[], help=text)
    add("--table", metavar="FILE", help="a table of sets instead, CSV or YAML, a row for each set")
    text = "a parameter that is the same in all runs; may be repeated"
    add("-p", dest="parameter", metavar="KEY=VALUE", action="append", default=[], help=text)
    add("--preset", default="book", metavar="NAME", help="smoke, book (the default) or paper")
    text = "how many runs at a time on this machine (default: one a processor)"
    add("--workers", type=int, metavar="N", help=text)
    add("--scheduler", metavar="ADDRESS", help="a running Dask scheduler, tcp://host:port")
    text = "end a run that takes longer than this"
    add("--limit", type=float, metavar="SECONDS", help=text)
    add("-o", dest="output", metavar="DIR", required=True, help="the sweep's folder")
    add = command("course", make_course, "write the exercises as a course for nbgrader")
    add("names", metavar="NAME", nargs="*", help="a chapter (default: all that have exercises)")
    add("-o", dest="output", metavar="DIR", default="course", help="new folder (default: course)")
    add = command("verify", verify_chapters, "run again, and compare with stored numbers")
    text = "a chapter or an executed notebook (default: all chapters)"
    add("names", metavar="NAME", nargs="*", help=text)
    add("--against", metavar="FILE", help="the scorecard.json of a book, instead of this one's")
    text = "a relative difference that is none (default: 1e-9)"
    add("--tolerance", type=float, default=1e-9, metavar="T", help=text)
    add = command("new", new_notebook, "write a new notebook with its test, ready to fill")
    add("name", metavar="NAME", help="small letters, digits and underscores")
    add("--title", default="", metavar="TEXT", help="its heading (default: the name)")
    add("--after", metavar="NAME", help="the notebook behind which it stands in the book")
    text = "exit 1 when a claim deviates without being declared to, or a run did not finish"
    add = command(
        "claims", claims, "show claims of executed notebooks", json_flag, ("--check", text)
    )
    add("files", metavar="FILE", nargs="+", help="an executed notebook")
    return top


def list_chapters(arguments: argparse.Namespace) -> int:
    """``qhlib list``: names and titles of the chapters."""
    found = {}
    for name, path in chapter_paths().items():
        try:
            found[name] = read_notebook(path)
        except BookError as error:
            print(f"qhlib: {error}", file=sys.stderr)
    if arguments.json:
        _json(
            [{"name": n, "title": book.title, "path": str(book.path)} for n, book in found.items()]
        )
        return 0
    if not found:
        print("no chapters found", file=sys.stderr)
    width = max(map(len, found), default=0)
    for name, notebook in found.items():
        print(f"{name:{width}}  {notebook.title}".rstrip())
    return 0


def describe(arguments: argparse.Namespace) -> int:
    """``qhlib describe``: parameters with type, default, range and meaning; presets; what is
    claimed."""
    notebook = read_notebook(find_chapter(arguments.name))
    declaration = notebook.declaration
    told = {
        "name": notebook.name,
        "title": notebook.title,
        "parameters": [spec.row() for spec in declaration.specs],
        "relations": [" ".join(each) for each in declaration.relations],
        "presets": declaration.presets,
        "claims": [claim.words(notebook.prefix) for claim in notebook.claims.values()],
    }
    if arguments.json:
        _json(told)
        return 0
    print(f"{notebook.name}: {notebook.title}\n\nParameters (-p name=value):")
    for row in told["parameters"]:
        allowed = f" in {row['range']}" if row["range"] else ""
        print(f"  {row['name']}: {row['type']}{allowed}, default {json.dumps(row['default'])}")
        print(f"      {row['help']}")
    for relation in told["relations"]:
        print(f"  and together: {relation}")
    print("\nPresets (--preset name):")
    for name, values in told["presets"].items():
        changed = ", ".join(f"{key}={json.dumps(value)}" for key, value in values.items())
        print(f"  {name}: {changed or 'the default values'}")
    print("\nClaims:" * bool(told["claims"]))
    for row in told["claims"]:
        print(f"  {row['id']}\n" + textwrap.indent(textwrap.fill(row["statement"], 94), "      "))
    return 0


def run_chapter(arguments: argparse.Namespace) -> int:
    """``qhlib run``: validate, execute, and name what was written."""
    notebook = read_notebook(find_chapter(arguments.name))
    parameters = assignments(arguments.parameter, notebook.declaration.specs)
    if arguments.file:
        parameters = {**from_file(arguments.file, notebook.declaration.specs), **parameters}
    from .running import execute_plan, plan

    options = {key: getattr(arguments, key) for key in ("preset", "output", "html", "force")}
    for written in execute_plan(plan(notebook, parameters, **options)):
        print(written)
    return 0


def sweep_chapter(arguments: argparse.Namespace) -> int:
    """``qhlib sweep``: check all sets, run them, and name the tables and the report."""
    from .chapter import check_resources
    from .running import injected
    from .sweep import runs, sets

    notebook = read_notebook(find_chapter(arguments.name))
    declaration = notebook.declaration
    fixed = assignments(arguments.parameter, declaration.specs)
    if bool(arguments.grid) == bool(arguments.table):
        raise ParameterError("say what is to be swept: --grid, once or more, or --table")
    for word in ("workers", "limit"):
        if (value := getattr(arguments, word)) is not None and not value > 0:
            raise ParameterError(f"--{word} {value:g}: it must be above 0")
    if arguments.table:
        given = sets.table(arguments.table, declaration.specs)
    else:
        given = sets.grid(arguments.grid, declaration.specs)
    if twice := fixed.keys() & {key for values in given for key in values}:
        raise ParameterError(f"-p {min(twice)}=...: the parameter {min(twice)} is swept as well")
    base = {**injected(notebook), **declaration.preset(arguments.preset), **fixed}
    ready = sets.checked(declaration, [{**base, **values} for values in given])
    _ = notebook.claims  # words and numbers must fit before anything runs
    if not arguments.scheduler:  # or else it is the workers that need them
        needs = ("device", "dataset", "data_folder")
        for values in {json.dumps({k: v for k, v in s.items() if k in needs}) for s in ready}:
            check_resources(json.loads(values))
    options = {key: getattr(arguments, key) for key in ("scheduler", "workers", "limit")}
    if not arguments.no_report:
        from .pages import check_builder

        check_builder()
        options["report"] = True
    with runs.opened(notebook, ready, arguments.output, arguments.resume) as opened:
        runs.carry_out(opened, **options, stream=sys.stderr)
    return 0


def assignments(texts: Sequence[str], specs: tuple) -> dict:
    """Values of the ``-p`` options, read by the declared types.

    Raises :class:`ParameterError` when an option is no assignment or a parameter is set twice.

    >>> assignments(["seed=7"], ())
    {'seed': '7'}
    """
    from .declaration import parse_assignment

    values: dict = {}
    for text in texts:
        name, value = parse_assignment(text, specs)
        if name in values:
            raise ParameterError(f"-p {text}: the parameter {name} is set twice")
        values[name] = value
    return values


def from_file(file: str, specs: tuple) -> dict:
    """The parameters in a file of YAML, of which JSON is a part.

    YAML takes ``1e-3`` for a text: texts are read by the declared types, as ``-p`` reads them.
    Raises :class:`ParameterError` when the file cannot be read or holds no names with values.
    """
    import yaml

    from .declaration import parse_assignment

    try:
        with open(file, encoding="utf-8-sig") as stream:
            values = yaml.safe_load(stream)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParameterError(f"-f {file}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ParameterError(f"-f {file}: write one parameter a line, as name: value")
    read = {k: parse_assignment(f"{k}={v}", specs)[1] for k, v in values.items() if type(v) is str}
    return {**values, **read}


def verify_chapters(arguments: argparse.Namespace) -> int:
    """``qhlib verify``: what differs from the stored numbers, and by how much; status 1 when that
    is more than the tolerance."""
    from .verify import verify

    worst = 0.0
    for told, gap in verify(arguments.names, arguments.against, arguments.tolerance, sys.stderr):
        print(told, flush=True)
        worst = max(worst, gap)
    return int(worst > arguments.tolerance)


def make_course(arguments: argparse.Namespace) -> int:
    """``qhlib course``: name what was written."""
    from .course import write_course

    for path in write_course(arguments.names, arguments.output):
        print(path)
    return 0


def new_notebook(arguments: argparse.Namespace) -> int:
    """``qhlib new``: name what was written."""
    from .scaffold import new

    for path in new(arguments.name, arguments.title, arguments.after):
        print(path)
    return 0


def claims(arguments: argparse.Namespace) -> int:
    """``qhlib claims``: the claims of executed notebooks, a line each, or as JSON; ``--check``
    judges them."""
    from .claims import fails, line
    from .records import read_record

    records, faults, unread = [], 0, 0
    for file in arguments.files:
        try:
            records.append((file, read_record(file)))
        except BookError as error:
            unread = 2
            print(f"qhlib: {error}", file=sys.stderr)
    rows = [{**row, "file": file} for file, record in records for row in record.claims]
    if arguments.json:
        _json(rows)
    else:
        wide = min(os.get_terminal_size().columns, 100) if sys.stdout.isatty() else 100
        for row in rows:
            print(line(row))
            words = f"{row['statement']} ({row['basis']}: {row['source']})"
            print(textwrap.fill(words, wide, initial_indent="    ", subsequent_indent="    "))
    for file, record in records:
        if record.stopped:
            faults += 1
            print(f"{file}: the run is not complete: {record.stopped}", file=sys.stderr)
        for row in filter(fails, record.claims):
            faults += 1
            print(f"{file}: {row['id']} deviates", file=sys.stderr)
    return unread or int(arguments.check and faults > 0)


def _json(data: object) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
