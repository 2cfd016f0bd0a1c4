"""Many sets of parameters: a grid's product or a table of them, all checked before anything runs.

Conventions
-----------
* ``key=v1,v2,...`` names values; ``key=start:stop:step``, for a number, those of Python's
  ``range``, without the stop, in exact decimals: ``0.1:0.4:0.1`` are 0.1, 0.2, 0.3.
* The last key of a grid changes fastest. A table has a row for each set: CSV with the names in its
  first line, where an empty cell is the default, or a YAML (JSON) list of mappings.
* Texts are read by the declared types, as ``-p`` reads them; they are data, never code.
"""

import csv
import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from ..declaration import Declaration, check, parse_assignment
from ..errors import ParameterError
from ..notebook import Notebook

MOST = 1_000_000
"""Sets in one sweep: a grid that is larger is a slip of the keyboard."""


def span(text: str, specs: tuple) -> tuple[str, list]:
    """One ``--grid``: the key and its values.

    Raises :class:`ParameterError` when it is none, and when its range is empty or has no end.

    >>> from qhlib.book.declaration import parse_cell
    >>> specs = parse_cell("a", "rate: float = 1.0  # r (0, 9)\\nks: list[int] = [1]  # k [0, 9]")
    >>> span("rate=0.1:0.4:0.1", specs), span("ks=[1],[1,2]", specs)
    (('rate', [0.1, 0.2, 0.3]), ('ks', [[1], [1, 2]]))
    """
    key, equals, values = (part.strip() for part in text.partition("="))
    if not (key and equals and values):
        raise ParameterError(f"--grid {text}: write it as key=v1,v2,... or key=start:stop:step")
    kind = next((spec.type for spec in specs if spec.name == key), "str")
    parts = values.split(":")
    if kind in ("int", "float") and len(parts) == 3:
        try:
            start, stop, step = map(Decimal, parts)
            length = math.ceil((stop - start) / step)
        except (InvalidOperation, ArithmeticError, ValueError):
            length = 0
        if not 0 < length <= MOST:
            raise ParameterError(f"--grid {text}: there are no values, or more than {MOST:,}")
        found = (start + k * step for k in range(length))
        whole = all(part == part.to_integral_value() for part in (start, step))
        return key, [int(each) if kind == "int" and whole else float(each) for each in found]
    words = re.split(r",(?![^\[]*\])", values)  # the commas of a list are its own
    return key, [parse_assignment(f"{key}={word}", specs)[1] for word in words]


def grid(texts: Sequence[str], specs: tuple) -> list[dict]:
    """The product of several ``--grid``.

    Raises :class:`ParameterError` when a key is given twice, or the product is too large.

    >>> grid(["a=1,2", "b=3"], ())
    [{'a': '1', 'b': '3'}, {'a': '2', 'b': '3'}]
    """
    spans: dict[str, list] = {}
    for text in texts:
        key, values = span(text, specs)
        if key in spans:
            raise ParameterError(f"--grid {text}: the parameter {key} is given twice")
        spans[key] = values
    size = math.prod(map(len, spans.values()))
    if size > MOST:
        raise ParameterError(f"the grid has {size:,} sets, more than {MOST:,}")
    return [dict(zip(spans, each, strict=True)) for each in itertools.product(*spans.values())]


def table(file: str, specs: tuple) -> list[dict]:
    """The sets in a file of CSV, YAML or JSON.

    Raises :class:`ParameterError` when it cannot be read, or is no table of sets.
    """
    import yaml

    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            kind = Path(file).suffix.lower()
            read = {".csv": lambda s: list(csv.DictReader(s, strict=True)), ".json": json.load}
            found = read.get(kind, yaml.safe_load)(stream)
    except (OSError, ValueError, csv.Error, yaml.YAMLError) as error:
        raise ParameterError(f"--table {file}: {' '.join(str(error).split())}") from None
    if not isinstance(found, list) or not found or not all(isinstance(r, dict) for r in found):
        raise ParameterError(f"--table {file}: write a row for each set, at least one")
    plain = kind == ".csv"
    ragged = [n for n, row in enumerate(found, 1) if None in row or plain and None in row.values()]
    if ragged:
        raise ParameterError(f"--table {file}: {rows(ragged)}: not as many cells as names")

    def typed(key, value):
        return parse_assignment(f"{key}={value}", specs)[1] if isinstance(value, str) else value

    return [{k: typed(k, v) for k, v in row.items() if not (plain and v == "")} for row in found]


def checked(declaration: Declaration, given: Sequence[Mapping]) -> list[dict]:
    """Every set with all its values.

    Raises :class:`ParameterError` that names every wrong row, each fault once: also a set that is
    there already, which would be counted twice.

    >>> checked(Declaration("a", ()), [{}, {"x": 1}, {}, {"x": 2}])
    Traceback (most recent call last):
    qhlib.book.errors.ParameterError: 3 of 4 sets of parameters of a cannot be used:
      rows 2, 4: x: there is no such parameter
      row 3: the same set as row 1
    `qhlib describe a` lists every parameter with its type and range.
    """
    sets, seen, faults = [], {}, {}
    for number, values in enumerate(given, 1):
        full, found = check(declaration, values)
        first = seen.setdefault(json.dumps(full), number)
        if not found and first < number:
            found = [f"the same set as row {first}"]
        for fault in found:
            faults.setdefault(fault, []).append(number)
        sets.append(full)
    if faults:
        where, wrong = declaration.chapter, {n for numbers in faults.values() for n in numbers}
        lines = "\n  ".join(f"{rows(numbers)}: {fault}" for fault, numbers in faults.items())
        raise ParameterError(
            f"{len(wrong)} of {len(sets)} sets of parameters of {where} cannot be used:\n  {lines}"
            f"\n`qhlib describe {where}` lists every parameter with its type and range."
        )
    return sets


def rows(numbers: Sequence[int]) -> str:
    """Numbers of rows, in words.

    >>> rows([1, 2, 3, 7])
    'rows 1-3, 7'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    told = ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in parts)
    return f"row{'s' * (len(numbers) > 1)} {told}"


def name_of(notebook: Notebook, values: Mapping) -> str:
    """Name of the run of `notebook` with `values`: the first 16 hex digits of the SHA-256 of its
    code and of them. Runs of another version of the notebook have other names.

    >>> len(name_of(Notebook(Path("a.ipynb"), {"cells": []}), {"seed": 1}))
    16
    """
    code = [cell["source"] for cell in notebook.cells if cell.get("cell_type") == "code"]
    told = json.dumps([code, sorted(values.items())])
    return hashlib.sha256(told.encode()).hexdigest()[:16]
