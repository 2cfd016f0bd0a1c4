"""The table of a sweep, made anew from its notebooks, and the slider that a page shows of one.

Conventions
-----------
* ``table.parquet`` and ``table.csv`` hold the same: a row for each claim of each run; a run
  without claims has one row, where what belongs to claims is empty. Values survive to the bit: NaN
  and infinities are numbers, and only what does not exist is empty.
* Parameters are columns under their own names; one that is called as another column is has a ``_``
  behind it. A list is its JSON text.
* A file is renamed into its place when it is whole.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..declaration import Declaration
from ..errors import BookError
from ..notebook import read_notebook
from ..records import record_of
from .runs import Sweep

RUN = {"run": str, "status": str, "reason": str}
CLAIM = {
    "claim": str,
    "verdict": str,
    "predicted": float,
    "measured": float,
    "relation": str,
    "tolerance": float,
    "relative": bool,
    "deviation": float,
    "outside": str,
    "expected_deviation": str,
}
ORIGIN = {
    "seconds": float,
    "whole_seconds": float,
    "date": str,
    "qhlib": str,
    "commit": str,
    "lock": str,
    "python": str,
    "torch": str,
    "numpy": str,
    "processor": str,
    "used_threads": int,
}
BLOCK = 2000
"""Rows in one write."""


def parameter_columns(declaration: Declaration) -> dict[str, str]:
    """The column of each parameter.

    >>> from qhlib.book.declaration import Parameter
    >>> specs = (Parameter("seed", "int", 0, ""), Parameter("claim", "str", "", ""))
    >>> parameter_columns(Declaration("a", specs))
    {'seed': 'seed', 'claim': 'claim_'}
    """
    taken = {**RUN, **CLAIM, **ORIGIN}
    return {s.name: s.name + "_" * (s.name in taken) for s in declaration.specs}


def rows_of(sweep: Sweep, name: str) -> Iterator[dict]:
    """The rows of one run; a run that was never begun has one as well."""
    columns, values = parameter_columns(sweep.notebook.declaration), sweep.runs[name]
    row: dict = {"run": name, "status": "missing", "reason": ""}
    for key, value in values.items():
        row[columns[key]] = json.dumps(value) if isinstance(value, list) else value
    path = sweep.path(name)
    if path is None:
        yield row
        return
    found = read_notebook(path)
    record = record_of(found)
    row["status"] = "finished" if name in sweep.finished else "failed"
    row["reason"] = sweep.failed.get(name, "")
    told = record.finished or {}
    versions = told.get("versions", {})
    row |= {key: told.get(key) for key in ("seconds", "date", "commit")}
    row |= {key: versions.get(key) for key in ("qhlib", "python", "torch", "numpy")}
    row["whole_seconds"] = found.content["metadata"].get("papermill", {}).get("duration")
    row["lock"] = told.get("lock", {}).get("fingerprint")
    row["processor"] = told.get("machine", {}).get("processor")
    row["used_threads"] = told.get("threads")
    for claim in record.claims:
        numbers = {k: float(claim[k]) for k in ("predicted", "measured", "tolerance")}
        told = {k: claim[k] for k in ("verdict", "relation", "relative", "outside")}
        told["expected_deviation"] = claim["expected_deviation"]
        yield {**row, "claim": claim["id"], **told, **numbers, "deviation": float(claim["gap"])}
    if not record.claims:
        yield row


def write(sweep: Sweep) -> list[Path]:
    """Write both tables; returns where they are.

    Raises OSError when they cannot be written: what was there before stays.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    declared = {"int": int, "float": float, "bool": bool}
    columns = parameter_columns(sweep.notebook.declaration)
    own = {columns[s.name]: declared.get(s.type, str) for s in sweep.notebook.declaration.specs}
    kinds_of = {**RUN, **own, **CLAIM, **ORIGIN}
    schema = pa.schema([(column, kinds[kind]) for column, kind in kinds_of.items()])
    files = [sweep.root / f"table.{kind}" for kind in ("parquet", "csv")]
    drafts = [path.with_name(f".{path.name}.tmp") for path in files]
    try:
        with (
            parquet.ParquetWriter(drafts[0], schema) as first,
            csv.CSVWriter(drafts[1], schema) as second,
        ):
            block: list[dict] = []
            for name in (*sweep.runs, None):
                block += rows_of(sweep, name) if name else []
                if block and (name is None or len(block) >= BLOCK):
                    made = pa.Table.from_pylist(block, schema)
                    first.write_table(made)
                    second.write_table(made)
                    block = []
        for draft, path in zip(drafts, files, strict=True):
            os.replace(draft, path)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
    return files


def read(folder: str | os.PathLike):
    """The table of the sweep in a folder, or in a file of Parquet or CSV, as a pandas data frame.

    Raises :class:`BookError` when there is none.
    """
    import pandas as pd

    path = Path(folder) / "table.parquet" if Path(folder).is_dir() else Path(folder)
    if not path.is_file():
        raise BookError(f"there is no table at {path}: make one with `qhlib sweep`")
    if path.suffix == ".csv":
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    return pd.read_parquet(path)


def swept(table, names: Mapping | list[str]) -> list[str]:
    """Those of the columns `names` that take more than one value, the seed last, and before it
    those with more values first."""
    counts = {name: table[name].nunique(dropna=False) for name in names}
    found = [name for name in names if counts[name] > 1]
    return sorted(found, key=lambda name: (name == "seed", -counts[name]))
