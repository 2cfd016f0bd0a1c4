"""What an executed notebook tells: its claims, words and numbers, and whether it ran to its end.

Conventions: numbers travel in the notebook's outputs under MIME types of this package, words in
its text. Papermill's own status is not read: it calls every cell completed after a kernel death, a
time limit or ``sys.exit(0)``. A run is finished when the sentinel of ``Chapter.finish`` is there,
every code cell was executed and none of them failed.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ChapterError
from .notebook import Notebook, read_notebook

CLAIM_MIME = "application/vnd.qhlib.claim+json"
FINISHED_MIME = "application/vnd.qhlib.finished+json"
STATUS_MIME = "application/vnd.qhlib.status+json"
GLUE_MIME = "application/papermill.record/"  # prefix under which myst-nb looks for glued values
# the fields of a claim that are read first
LEADING = ("id", "statement", "source", "basis", "predicted", "measured", "tolerance", "verdict")


@dataclass(frozen=True)
class Record:
    """A notebook's run: its name, the rows of its claims, the provenance (None if absent), and why
    it stopped.

    `stopped` is empty for a run that reached its end.
    """

    chapter: str
    claims: list[dict]
    finished: dict | None
    stopped: str
    at_book_parameters: bool


def outputs(notebook: Notebook, mime: str) -> Iterator[object]:
    """Every output of type `mime`, in the notebook's order."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if mime in output.get("data", {}):
                yield output["data"][mime]


def stopped_at(notebook: Notebook, reason: str = "") -> str:
    """A sentence on where the run stopped; empty when it ran to its last cell.

    `reason` is what ended the run, where no cell says it: a dead kernel, a time limit, a full
    disk.

    >>> from pathlib import Path
    >>> stopped_at(Notebook(Path("a.ipynb"), {"cells": []}))
    'it never called chapter.finish()'
    """
    code = [c for c in notebook.cells if c.get("cell_type") == "code" and c["source"].strip()]
    if reason:
        begun = [c for c in code if c["metadata"].get("papermill", {}).get("status") != "not run"]
        if not begun:
            return f"no kernel started: {reason}"
        # a kernel that dies at once takes the cell's number with it
        return f"{place(begun[-1], len(begun))} stopped: {reason}"
    for cell in code:
        if "raises-exception" in cell["metadata"].get("tags", []):
            continue  # its failure belongs to the page
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                if output.get("ename") == "SystemExit":
                    return f"{place(cell)} left the notebook with sys.exit"
                return f"{place(cell)} failed: {last_line(output)}"
        if cell.get("execution_count") is None:
            return f"{place(cell)} was not run"
        shown = [data for output in cell.get("outputs", []) for data in output.get("data", ())]
        promised = {"image", "figure"} & {*cell["metadata"].get("mystnb", ())}
        if promised and not {"image/png", "image/svg+xml", "text/html"} & {*shown}:
            return f"{place(cell)} showed no picture, though its metadata describe one"
    finished = any(True for _ in outputs(notebook, FINISHED_MIME))
    return "" if finished else "it never called chapter.finish()"


def place(cell: dict, number: int | str = " ") -> str:
    """A cell in words: its execution number, or else `number`, and its first line of code.

    >>> place({"source": "# why\\nx = 1", "execution_count": 3})
    'cell [3], `x = 1`,'
    """
    lines = [line.strip() for line in cell["source"].splitlines()]
    code = next((line for line in lines if line and not line.startswith(("#", "%"))), lines[0])
    short = code if len(code) <= 70 else code[:69] + "…"
    return f"cell [{cell.get('execution_count') or number}], `{short}`,"


def last_line(output: dict) -> str:
    """Type and message of an error output, in full for this package's errors, else their first
    line.

    >>> last_line({"ename": "ValueError", "evalue": "no\\nreally"})
    'ValueError: no'
    """
    name, text = output.get("ename", ""), output.get("evalue", "")
    if name not in ("ParameterError", "ChapterError", "BookError"):
        text = text.strip().split("\n")[0]
    return f"{name}: {text}" if text else name


def read_record(path: str | os.PathLike) -> Record:
    """The record in the executed notebook at `path`.

    Raises :class:`ChapterError` when the file is no notebook, holds no claims, or claims words
    without numbers.

    >>> read_record("no/such/file.ipynb")
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: cannot read no/such/file.ipynb: No such file or directory
    """
    notebook = read_notebook(path)
    record = record_of(notebook)
    if not record.claims:
        hint = "" if notebook.executed else " (it has not been executed)"
        raise ChapterError(f"{path} holds no claims{hint}")
    return record


def record_of(notebook: Notebook) -> Record:
    """The record in a notebook that is already read; its list of claims may be empty.

    >>> from pathlib import Path
    >>> record_of(Notebook(Path("a.ipynb"), {"cells": [], "metadata": {}})).claims
    []
    """
    rows = {}
    for row in outputs(notebook, CLAIM_MIME):
        row = {**notebook.claims[row["name"]].words(notebook.prefix), **row}
        rows[row["name"]] = {key: row[key] for key in (*LEADING, *row)}
    told = next(outputs(notebook, FINISHED_MIME), None)
    at_book = bool(told) and told["parameters"] == notebook.declaration.defaults
    return Record(notebook.chapter, list(rows.values()), told, stopped_at(notebook), at_book)
