"""The command ``qhlib``: list and describe the chapters, run them, read their claims.

Conventions: results go to standard output, messages and progress to standard error. Exit status: 0
done; 1 the notebook failed, or ``--check`` found a fault; 2 bad input, with one message and
nothing written; 130 interrupted. What a command does not need is not imported, so that ``list``
and ``describe`` answer at once.
"""

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence

from .errors import BookError, ParameterError, RunFailed
from .notebook import chapter_paths, find_chapter, read_notebook


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (default: the process's) and return its exit
    status.

    >>> main(["describe", "no_such_chapter_at_all"])
    2
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, "reconfigure"
        ):  # a console with an old code page has no ✓; a mark in its place is no fault
            stream.reconfigure(errors="replace")
    arguments = parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except RunFailed as error:
        return _complain(error, 1)
    except BookError as error:
        return _complain(error, 2)
    except KeyboardInterrupt as error:
        return _complain(str(error) or "interrupted", 130)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the reader, such as head, is gone
        return 0


def parser() -> argparse.ArgumentParser:
    """The command line.

    >>> parser().parse_args(["run", "a_chapter", "-p", "seed=7"]).parameter
    ['seed=7']
    """
    top = argparse.ArgumentParser(
        prog="qhlib", description="Run the chapters of the book and read their claims."
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text)
        sub.set_defaults(command=function)
        return sub

    sub = command("list", list_chapters, "list the chapters")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = command("describe", describe, "show a chapter's parameters, presets and claims")
    sub.add_argument("name", metavar="NAME", help="a chapter, or the path of a notebook")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = command("run", run_chapter, "run a chapter, with other parameters if you like")
    sub.add_argument("name", metavar="NAME", help="a chapter, or the path of a notebook")
    text = "set a parameter; lists as JSON, -p radii='[0.5, 0.9]'; may be repeated"
    sub.add_argument(
        "-p", dest="parameter", metavar="KEY=VALUE", action="append", default=[], help=text
    )
    sub.add_argument(
        "--preset", default="book", metavar="NAME", help="smoke, book (the default) or paper"
    )
    text = "notebook to write (default: NAME-PRESET.ipynb)"
    sub.add_argument("-o", dest="output", metavar="FILE", help=text)
    sub.add_argument(
        "--html", action="store_true", help="write a page for the browser beside the notebook"
    )
    sub.add_argument("--force", action="store_true", help="overwrite what exists")

    sub = command("claims", claims, "show the claims in executed notebooks")
    sub.add_argument("files", metavar="FILE", nargs="+", help="an executed notebook")
    sub.add_argument("--json", action="store_true", help="print JSON, a row for each claim")
    text = "exit 1 when a claim deviates without being declared to, or a run did not finish"
    sub.add_argument("--check", action="store_true", help=text)
    return top


def list_chapters(arguments: argparse.Namespace) -> int:
    """``qhlib list``: names and titles of the chapters."""
    found = {name: read_notebook(path) for name, path in chapter_paths().items()}
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
    declaration, declared = notebook.declaration, notebook.claims
    rows = [spec.row() for spec in declaration.specs]
    presets = {"book": {}, **(declaration.presets or {})}
    words = [claim.words(notebook.prefix) for claim in declared.values()]
    if arguments.json:
        data = {
            "name": notebook.name,
            "title": notebook.title,
            "parameters": rows,
            "presets": presets,
        }
        _json(
            {
                **data,
                "relations": [" ".join(each) for each in declaration.relations],
                "claims": words,
            }
        )
        return 0
    print(f"{notebook.name}: {notebook.title}\n\nParameters (-p name=value):")
    for row in rows:
        allowed = f" in {row['range']}" if row["range"] else ""
        print(f"  {row['name']}: {row['type']}{allowed}, default {json.dumps(row['default'])}")
        print(f"      {row['help']}")
    for relation in declaration.relations:
        print(f"  and together: {' '.join(relation)}")
    print("\nPresets (--preset name):")
    for name, values in presets.items():
        changed = ", ".join(f"{key}={json.dumps(value)}" for key, value in values.items())
        print(f"  {name}: {changed or 'the default values'}")
    if "paper" not in presets:
        print("  paper: the same as book")
    if words:
        print("\nClaims:")
    for row in words:
        print(f"  {row['id']}")
        print(textwrap.indent(textwrap.fill(row["statement"], 94), "      "))
    return 0


def run_chapter(arguments: argparse.Namespace) -> int:
    """``qhlib run``: validate, execute, and name what was written."""
    notebook = read_notebook(find_chapter(arguments.name))
    parameters = assignments(arguments.parameter, notebook.declaration.specs)
    from .running import execute_plan, plan

    options = {key: getattr(arguments, key) for key in ("preset", "output", "html", "force")}
    for written in execute_plan(plan(notebook, parameters, **options)):
        print(written)
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


def claims(arguments: argparse.Namespace) -> int:
    """``qhlib claims``: the claims of executed notebooks, a line each, or as JSON; ``--check``
    judges them."""
    from .claims import fails, line
    from .records import read_record

    records = [(file, read_record(file)) for file in arguments.files]
    rows = [{**row, "file": file} for file, record in records for row in record.claims]
    if arguments.json:
        _json(rows)
    else:
        wide = min(os.get_terminal_size().columns, 100) if sys.stdout.isatty() else 100
        for row in rows:
            print(line(row))
            words = f"{row['statement']} ({row['basis']}: {row['source']})"
            print(textwrap.fill(words, wide, initial_indent="    ", subsequent_indent="    "))
    faults = 0
    for file, record in records:
        if record.stopped:
            faults += 1
            print(f"{file}: the run is not complete: {record.stopped}", file=sys.stderr)
        for row in filter(fails, record.claims):
            faults += 1
            print(f"{file}: {row['id']} deviates", file=sys.stderr)
    return 1 if arguments.check and faults else 0


def _json(data: object) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def _complain(message: object, status: int) -> int:
    print(f"qhlib: {message}", file=sys.stderr)
    return status


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser, namespace, values, option_string=None):
        from qhlib import __version__

        print(f"qhlib {__version__}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
