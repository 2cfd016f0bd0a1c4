"""What an executed notebook tells: its claims, and whether it ran to its end.

Conventions: data travel in the notebook's outputs under three MIME types of this package. Papermill's own
status is not read: it calls every cell completed after a kernel death, a time limit or ``sys.exit(0)``. A run
is finished when the sentinel of ``Chapter.finish`` is there, every code cell was executed and none of them
failed.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ChapterError
from .notebooks import read_notebook

CLAIM_MIME = "application/vnd.qhlib.claim+json"
CLAIMS_MIME = "application/vnd.qhlib.claims+json"
FINISHED_MIME = "application/vnd.qhlib.finished+json"
STATUS_MIME = "application/vnd.qhlib.status+json"
GLUE_MIME = "application/papermill.record/"  # prefix under which myst-nb looks for glued values
# the fields of a claim that are read first
LEADING = ("id", "statement", "source", "basis", "predicted", "measured", "tolerance", "verdict")


@dataclass(frozen=True)
class Record:
    """A chapter's run: its name, the rows of its claims, the provenance (None if absent), and why it stopped.

    `stopped` is empty for a run that reached its end.
    """

    chapter: str
    claims: list[dict]
    finished: dict | None
    stopped: str
    at_book_parameters: bool | None


def outputs(notebook: dict, mime: str) -> Iterator[object]:
    """Every output of type `mime`, in the notebook's order.

    >>> cell = {"outputs": [{"data": {"a/b": 1}}, {"output_type": "stream"}]}
    >>> list(outputs({"cells": [cell]}, "a/b"))
    [1]
    """
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if mime in output.get("data", {}):
                yield output["data"][mime]


def stopped_at(notebook: dict) -> str:
    """A sentence on where the run stopped; empty when it ran to its last cell.

    >>> stopped_at({"cells": []})
    'it never called chapter.finish()'
    """
    for cell in notebook["cells"]:
        if cell.get("cell_type") != "code" or not cell["source"].strip():
            continue
        if "raises-exception" in cell["metadata"].get("tags", []):
            continue  # its failure belongs to the page
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                if output.get("ename") == "SystemExit":
                    return f"{place(cell)} left the notebook with sys.exit"
                return f"{place(cell)} failed: {last_line(output)}"
        if cell.get("execution_count") is None:
            return f"{place(cell)} was not run"
    if not any(True for _ in outputs(notebook, FINISHED_MIME)):
        return "it never called chapter.finish()"
    return ""


def place(cell: dict) -> str:
    """A cell in words: its execution number and its first line of code.

    >>> place({"source": "# why\\nx = 1", "execution_count": 3})
    'cell [3], `x = 1`,'
    """
    lines = [line.strip() for line in cell["source"].splitlines()]
    code = next((line for line in lines if line and not line.startswith(("#", "%"))), lines[0])
    short = code if len(code) <= 70 else code[:69] + "…"
    count = cell.get("execution_count")
    return f"cell [{count or ' '}], `{short}`,"


def last_line(output: dict) -> str:
    """Type and message of an error output, in full for this package's errors, else their first line.

    >>> last_line({"ename": "ValueError", "evalue": "no\\nreally"})
    'ValueError: no'
    """
    name, text = output.get("ename", ""), output.get("evalue", "")
    if name not in ("ParameterError", "ChapterError", "BookError"):
        text = text.strip().split("\n")[0]
    return f"{name}: {text}" if text else name


def read_record(path: str | os.PathLike) -> Record:
    """The record in the executed notebook at `path`.

    The claims are those of the last table, or of the cards when the run stopped before its table.
    Raises :class:`ChapterError` when the file is no notebook or holds no claims.

    >>> read_record("no/such/file.ipynb")
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: cannot read no/such/file.ipynb: No such file or directory
    """
    notebook = read_notebook(path)
    record = record_of(notebook)
    if not record.claims:
        hint = " (it has not been executed)" if not _executed(notebook) else ""
        raise ChapterError(f"{path} holds no claims{hint}")
    return record


def record_of(notebook: dict) -> Record:
    """The record in a notebook that is already read; its list of claims may be empty.

    >>> record_of({"cells": []}).claims
    []
    """
    tables = list(outputs(notebook, CLAIMS_MIME))
    cards = list(outputs(notebook, CLAIM_MIME))
    finished = next(iter(outputs(notebook, FINISHED_MIME)), None)
    last = tables[-1] if tables else {}
    source = last or finished or {}
    rows = last.get("claims", cards)
    chapter = source.get("chapter", "")
    return Record(chapter, rows, finished, stopped_at(notebook), source.get("at_book_parameters"))


def row_fails(row: dict) -> bool:
    """Whether a stored row deviates without having been declared to.

    >>> row_fails({"verdict": "deviates", "expected_deviation": ""})
    True
    """
    return row.get("verdict") == "deviates" and not row.get("expected_deviation")


def _executed(notebook: dict) -> bool:
    return any(cell.get("execution_count") for cell in notebook["cells"])
