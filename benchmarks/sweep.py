"""What a sweep costs beside the notebook's own computation.

Run by `make bench` after `book.py`, on an idle machine. A run's overhead is its seconds on the
clock less those that the notebook itself reports, which begin after its imports. Prints a table
and writes JSON (--json).
"""

import argparse
import io
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from qhlib.book import sets, sweep, tables
from qhlib.book.cluster import connected, run_one
from qhlib.book.notebook import find_chapter, read_notebook
from qhlib.book.patches import import_papermill
from qhlib.book.records import read_record
from qhlib.book.running import execute

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
            given = (TEXT, BOOK.path.name, "out", values(seed), None, "1")
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
    """Tasks a second that do nothing, ten thousand of them, through a scheduler of this machine."""
    with connected(None, 2) as client:
        client.gather(client.map(int, range(100), pure=False))
        many = timed(lambda: client.gather(client.map(int, range(10_000), pure=False)))
    return {"no-op tasks a second, of 10,000": 10_000 / many}


def growth(folder: Path, runs: int) -> dict:
    """What a finished run costs when a sweep is resumed, and in the tables, with many of them."""
    ready = [values(seed) for seed in range(runs)]
    with sweep.opened(BOOK, ready[:1], folder / "many", resume=False) as made:
        with connected(None, 1) as client:
            sweep.run_all(made, client, stream=io.StringIO())
        first = made.path(next(iter(made.runs)))
    for each in ready[1:]:
        shutil.copy(first, first.with_name(f"{sets.name_of(BOOK, each)}.ipynb"))
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
        "a run's notebook, kB": first.stat().st_size / 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the numbers here")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    arguments = parser.parse_args()
    turns, runs, many = (2, 6, 50) if arguments.quick else (9, 40, 2000)
    rows: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for part in (
            lambda: overheads(place, turns),
            throughput,
            lambda: growth(place, many),
            lambda: speedup(place, runs),
        ):
            for name, value in (found := part()).items():
                print(f"{value:12,.2f}  {name}", flush=True)
            rows |= found
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1), "utf8")


if __name__ == "__main__":
    main()
