"""The command ``qhlib``: list and describe the chapters, run them, read their claims.

Conventions: results go to standard output, messages and progress to standard error. Exit status: 0 done; 1
the notebook failed, or ``--check`` found a fault; 2 bad input, with one message and nothing written; 130
interrupted. What a command does not need is not imported, so that ``list`` and ``describe`` answer at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from .errors import BookError, RunFailed
from .notebooks import chapter_paths, find_chapter, read_notebook, title


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments `argv` (default: the process's) and return its exit status.

    >>> main(["describe", "no_such_chapter_at_all"])
    2
    """
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader, such as head, is gone
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

    sub = commands.add_parser("list", help="list the chapters")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.set_defaults(command=list_chapters)

    sub = commands.add_parser("describe", help="show a chapter's parameters and presets")
    sub.add_argument("name", metavar="NAME", help="a chapter, or the path of a notebook")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.set_defaults(command=describe)

    sub = commands.add_parser("run", help="run a chapter, with other parameters if you like")
    sub.add_argument("name", metavar="NAME", help="a chapter, or the path of a notebook")
    sub.add_argument(
        "-p",
        dest="parameter",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="set a parameter; lists as JSON, -p radii='[0.5, 0.9]'; may be repeated",
    )
    sub.add_argument("--preset", default="book", metavar="NAME", help="smoke, book (the default) or paper")
    sub.add_argument(
        "-o", dest="output", metavar="FILE", help="notebook to write (default: NAME-PRESET.ipynb)"
    )
    sub.add_argument("--html", action="store_true", help="write a page for the browser beside the notebook")
    sub.add_argument("--force", action="store_true", help="overwrite what exists")
    sub.set_defaults(command=run_chapter)

    sub = commands.add_parser("claims", help="show the claims in executed notebooks")
    sub.add_argument("files", metavar="FILE", nargs="+", help="an executed notebook")
    sub.add_argument("--json", action="store_true", help="print JSON, a row for each claim")
    sub.add_argument(
        "--check",
        action="store_true",
        help="exit 1 when a claim deviates without being declared to, or a run did not finish",
    )
    sub.set_defaults(command=claims)
    return top


def list_chapters(arguments: argparse.Namespace) -> int:
    """``qhlib list``: names and titles of the chapters."""
    rows = [
        {"name": name, "title": title(read_notebook(path)), "path": str(path)}
        for name, path in chapter_paths().items()
    ]
    if arguments.json:
        _json(rows)
        return 0
    if not rows:
        print("no chapters found", file=sys.stderr)
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        print(f"{row['name']:{width}}  {row['title']}".rstrip())
    return 0


def describe(arguments: argparse.Namespace) -> int:
    """``qhlib describe``: parameters with type, default, range and meaning, and the presets."""
    from .parameters import BOOK, PAPER, read_declaration

    path = find_chapter(arguments.name)
    notebook = read_notebook(path)
    declaration = read_declaration(path.stem, notebook)
    rows = [spec.row() for spec in declaration.specs]
    presets = {BOOK: {}, **declaration.presets}
    if arguments.json:
        data = {"name": path.stem, "title": title(notebook), "parameters": rows, "presets": presets}
        data["relations"] = [" ".join(relation) for relation in declaration.relations]
        _json(data)
        return 0
    print(f"{path.stem}: {title(notebook)}\n\nParameters (-p name=value):")
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
    if PAPER not in presets:
        print(f"  {PAPER}: the same as {BOOK}")
    return 0


def run_chapter(arguments: argparse.Namespace) -> int:
    """``qhlib run``: validate, execute, and name what was written."""
    path = find_chapter(arguments.name)
    parameters = assignments(arguments.parameter, path)
    from .running import execute_plan, plan

    checked = plan(
        path,
        parameters,
        preset=arguments.preset,
        output=arguments.output,
        html=arguments.html,
        force=arguments.force,
    )
    for written in execute_plan(checked):
        print(written)
    return 0


def assignments(texts: Sequence[str], path: str | os.PathLike) -> dict:
    """Values of the ``-p`` options, read by the types that the notebook at `path` declares.

    Raises :class:`ParameterError` when an option is no assignment or a parameter is set twice.
    """
    from .errors import ParameterError
    from .parameters import parse_assignment, read_declaration

    path = find_chapter(path)
    specs = read_declaration(path.stem, read_notebook(path)).specs
    values: dict = {}
    for text in texts:
        name, value = parse_assignment(text, specs)
        if name in values:
            raise ParameterError(f"-p {text}: the parameter {name} is set twice")
        values[name] = value
    return values


def claims(arguments: argparse.Namespace) -> int:
    """``qhlib claims``: the claims of executed notebooks as a table or as JSON; ``--check`` judges them."""
    from .records import LEADING, read_record, row_fails

    records = [(file, read_record(file)) for file in arguments.files]
    rows = [row for _, record in records for row in record.claims]
    if arguments.json:
        # Saved notebooks have their keys sorted by name; a reader wants the claim before its details.
        _json([{**{key: row[key] for key in LEADING}, **row} for row in rows])
    else:
        _table(rows)
    faults = 0
    for file, record in records:
        if record.stopped:
            faults += 1
            print(f"{file}: the run is not complete: {record.stopped}", file=sys.stderr)
        for row in record.claims:
            if row_fails(row):
                faults += 1
                print(f"{file}: {row['id']} deviates", file=sys.stderr)
    return 1 if arguments.check and faults else 0


def _table(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .tables import measurement, prediction, tolerance, verdict_text

    # A file or a pipe has no width; 160 columns keep each claim on a few lines.
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(*("claim", "statement", "source", "basis", "predicted", "measured", "tolerance", "verdict"))
    for row in rows:
        cells = (row["id"], row["statement"], row["source"], row["basis"])
        numbers = (prediction(row), measurement(row), tolerance(row), verdict_text(row))
        table.add_row(*(Text(cell) for cell in (*cells, *numbers)))
    console.print(table)


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
