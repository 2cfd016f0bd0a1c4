"""What a sweep costs beside the notebook's own computation.

Run by `make bench` after `book.py`, on an idle machine. A run's overhead is its seconds on the
clock less those that the notebook itself reports, which begin after its imports. Prints a table,
writes JSON (--json) and the table of the book's page on sweeps (--page).
"""

import argparse
import io
import json
import os
import re
import statistics
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from qhlib.book.notebook import find_chapter, read_notebook
from qhlib.book.patches import import_papermill
from qhlib.book.provenance import cores, processor
from qhlib.book.records import read_record
from qhlib.book.running import execute
from qhlib.book.sweep import runs as sweep
from qhlib.book.sweep import sets, tables
from qhlib.book.sweep.cluster import connected, fixed, run_one

NAME = "lexicographic_stationary"
VALUES = {"effort": "smoke"}


def values(seed: int) -> dict:
    """All values of one run."""
    return sets.checked(BOOK.declaration, [{**VALUES, "seed": seed}])[0]


BOOK = read_notebook(find_chapter(NAME))
TEXT = json.dumps(BOOK.content)


def timed(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def own(path: Path) -> float:
    """Seconds that the notebook reports."""
    return read_record(path).finished["seconds"]


def overheads(folder: Path, turns: int) -> dict:
    """Median seconds of a run beside its computation, for three ways that take turns."""
    papermill = import_papermill()
    out = folder / "out.ipynb"

    def plain(seed):
        quiet = {"progress_bar": False, "kernel_name": "python3"}
        papermill.execute_notebook(str(BOOK.path), str(out), values(seed), **quiet)

    def forked(seed):
        execute(BOOK, values(seed), out, stream=io.StringIO())

    found: dict[str, list[float]] = {"plain papermill": [], "qhlib run": [], "a sweep's run": []}
    with connected(None, 1) as client:

        def swept(seed):
            given = (TEXT, BOOK.path.name, "out", values(seed), None, fixed())
            text, stopped = client.submit(run_one, *given, pure=False).result()
            assert not stopped, stopped
            out.write_text(text)

        for turn in range(turns + 1):
            for each, work in zip(found.values(), (plain, forked, swept), strict=True):
                seconds = timed(lambda work=work, turn=turn: work(turn)) - own(out)
                if turn:  # the first of each starts what stays warm
                    each.append(seconds)
    return {
        f"{name}: seconds beside its computation": statistics.median(each)
        for name, each in found.items()
    }


def speedup(folder: Path, runs: int) -> dict:
    """Seconds of a sweep with one and with two workers that are warm, and their ratio."""
    found = []
    for workers in (1, 2):
        with connected(None, workers) as client:
            for number, size in enumerate((2 * workers, runs)):
                ready = [values(seed) for seed in range(size)]
                place = folder / f"{workers}-{number}"
                with sweep.opened(BOOK, ready, place, resume=False) as made:
                    seconds = timed(lambda: sweep.run_all(made, client, stream=io.StringIO()))
                    assert not made.missing
        found.append(seconds)
    names = [f"{runs} runs, {count}" for count in ("one worker", "two workers")]
    return {**dict(zip(names, found, strict=True)), "two workers over one": found[0] / found[1]}


def throughput() -> dict:
    """Tasks a second that do nothing, ten thousand of them, through a local scheduler."""
    with connected(None, 2) as client:
        client.gather(client.map(int, range(100), pure=False))
        many = timed(lambda: client.gather(client.map(int, range(10_000), pure=False)))
    return {"no-op tasks a second, of 10,000": 10_000 / many}


def loop(folder: Path, runs: int) -> dict:
    """Runs a second that cost nothing, through all that a sweep does for each: handed out,
    fetched, kept as a notebook of 100 kB, counted."""
    ready, text = (
        [values(seed) for seed in range(runs)],
        json.dumps({"cells": [], "x": "x" * 100_000}),
    )
    real, sweep.run_one = sweep.run_one, lambda *given: (text, "")
    try:
        with connected(None, 2) as client, sweep.opened(BOOK, ready, folder / "no", False) as made:
            seconds = timed(lambda: sweep.run_all(made, client, stream=io.StringIO()))
    finally:
        sweep.run_one = real
    return {"runs a second that cost nothing": runs / seconds}


def growth(folder: Path, runs: int) -> dict:
    """What a finished run costs when a sweep is resumed, and in the tables, with many of them."""
    ready = [values(seed) for seed in range(runs)]
    with sweep.opened(BOOK, ready[:1], folder / "many", resume=False) as made:
        with connected(None, 1) as client:
            sweep.run_all(made, client, stream=io.StringIO())
        first = made.path(next(iter(made.runs)))
    text = first.read_text("utf8")
    for k, each in enumerate(ready[1:], 1):  # numbers of their own, or the table packs too well
        own = re.sub(
            r'("measured": |"gap": )(-?[\d.e-]+)',
            lambda m, k=k: f"{m[1]}{float(m[2]) * (1 + k)!r}",
            text,
        )
        first.with_name(f"{sets.name_of(BOOK, each)}.ipynb").write_text(own, "utf8")
    began = time.perf_counter()
    with sweep.opened(BOOK, ready, folder / "many", resume=True) as made:
        looked = time.perf_counter() - began
        written = timed(lambda: tables.write(made))
    size = {
        kind: (folder / "many" / f"table.{kind}").stat().st_size for kind in ("parquet", "csv")
    }
    return {
        "looking at a finished run, ms": looked / runs * 1e3,
        "a run into both tables, ms": written / runs * 1e3,
        "a run in Parquet, bytes": size["parquet"] / runs,
        "a run in CSV, bytes": size["csv"] / runs,
        "notebook of a run, kB": first.stat().st_size / 1e3,
    }


def page(rows: dict, load: float) -> str:
    """The numbers as a table of the page, and what follows from them for 100,000 runs."""
    many = 100_000
    told = [f"| {name} | {value:.3g} |" for name, value in rows.items()]
    beside = rows["a sweep's run: seconds beside its computation"] * many / 3600
    tables_ = (rows["looking at a finished run, ms"] + rows["a run into both tables, ms"]) * many
    scheduler = many / rows["runs a second that cost nothing"]
    told += [
        f"| **100,000 runs**: beside their computation, hours of one worker | {beside:.3g} |",
        f"| handing out and keeping them, minutes | {scheduler / 60:.3g} |",
        f"| looking at all of them and writing the tables, minutes | {tables_ / 60_000:.3g} |",
        f"| the table in Parquet, MB | {rows['a run in Parquet, bytes'] * many / 1e6:.3g} |",
        f"| the table in CSV, MB | {rows['a run in CSV, bytes'] * many / 1e6:.3g} |",
        f"| the notebooks, GB | {rows['notebook of a run, kB'] * many / 1e6:.3g} |",
    ]
    day = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    where = f"{processor()}, {cores()} processors, load {load:.1f} before, {day}"
    return "\n".join([f"| `{NAME}` at smoke; {where} | value |", "|---|---|", *told])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the numbers here")
    parser.add_argument("--page", help="write a table between the marks of this page")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    arguments = parser.parse_args()
    turns, runs, many = (2, 6, 50) if arguments.quick else (9, 24, 2000)
    rows: dict[str, float] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for part in (
            lambda: overheads(place, turns),
            throughput,
            lambda: loop(place, many // 2),
            lambda: growth(place, many),
            lambda: speedup(place, runs),
        ):
            for name, value in (found := part()).items():
                print(f"{value:12,.2f}  {name}", flush=True)
            rows |= found
    if arguments.page:
        path, mark = Path(arguments.page), "<!-- sweep -->"
        before, _, after = path.read_text("utf8").split(mark)
        path.write_text(f"{before}{mark}\n{page(rows, load)}\n{mark}{after}", "utf8")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1), "utf8")


if __name__ == "__main__":
    main()
