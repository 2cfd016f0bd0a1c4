"""How many seeds turn a claim: every notebook of one result, executed on many seeds that nobody
looked at.

    python benchmarks/seeds.py [NOTEBOOK ...] [--effort smoke] [--seeds 300] [--jobs 2]
    python benchmarks/seeds.py --write status.md

Each seed is one execution of the notebook's code in a forked process, without its pictures. Rows
are kept in ``_build/seeds/NOTEBOOK-EFFORT.jsonl``, one for each seed, under a fingerprint of the
code they come from: a run that was stopped goes on where it was, and an edit starts it anew. The
table has, for each notebook and effort, the number of seeds, how many of them turned some claim to
``deviates`` or did not end, and which claims those were. ``--write`` puts the table of all kept
rows between the two marks in a page.
"""

import argparse
import json
import os
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "_ext")]
os.environ.setdefault("OMP_NUM_THREADS", "1")
KEPT = ROOT / "_build" / "seeds"
FIRST = 1_000_000  # far from the seeds that people type and that were tried while writing
MARKS = "<!-- seeds -->", "<!-- end of seeds -->"


def names() -> list[str]:
    """The notebooks that declare an effort, in the book's order."""
    from qhlib.book import read_notebook

    order = re.findall(r"file: *notebooks/(\S+)", (ROOT / "_toc.yml").read_text("utf8"))
    paths = {name: ROOT / "notebooks" / f"{name}.ipynb" for name in order}
    return [
        name
        for name, path in paths.items()
        if "effort" in read_notebook(path).declaration.defaults
    ]


def attempt(name: str, effort: str, seed: int) -> dict:
    """One seed: the claims that deviate without being declared to, those outside, and the fault if
    any."""
    from matplotlib.figure import Figure

    from tests.notebooks.play import play

    Figure.savefig = lambda *args, **options: None
    try:
        claims = play(name, effort=effort, seed=seed).values()
    except Exception as error:
        return {"seed": seed, "fault": f"{type(error).__name__}: {error}"[:300]}
    wrong = [c.name for c in claims if c.verdict == "deviates" and not c.expected_deviation]
    return {"seed": seed, "wrong": wrong, "outside": [c.name for c in claims if c.outside]}


def kept(name: str, effort: str) -> tuple[Path, list[dict]]:
    """The file of rows, and those rows of it that the present code made."""
    from marginbook.fingerprint import notebook_fingerprint

    from qhlib.book import read_notebook

    path = KEPT / f"{name}-{effort}.jsonl"
    now = notebook_fingerprint(ROOT, read_notebook(ROOT / "notebooks" / f"{name}.ipynb"))
    lines = path.read_text("utf8").splitlines() if path.exists() else [""]
    if lines[0] == now:
        return path, [json.loads(line) for line in lines[1:] if line.endswith("}")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{now}\n", "utf8")
    return path, []


def sweep(name: str, effort: str, seeds: int, jobs: int) -> None:
    """Execute what is missing of the first `seeds` seeds."""
    path, rows = kept(name, effort)
    missing = sorted({FIRST + i for i in range(seeds)} - {row["seed"] for row in rows})
    import matplotlib.pyplot  # noqa: F401 - forked processes find it loaded
    import scipy.optimize  # noqa: F401
    import torch

    torch.set_num_threads(1)
    with ProcessPoolExecutor(jobs, get_context("fork"), max_tasks_per_child=None) as pool:
        waiting = [pool.submit(attempt, name, effort, seed) for seed in missing]
        with path.open("a", encoding="utf8") as file:
            for number, future in enumerate(as_completed(waiting), 1):
                row = future.result()
                file.write(json.dumps(row) + "\n")
                file.flush()
                bad = row.get("fault") or row["wrong"]
                if bad or number % 20 == 0:
                    left = f"{name}, {effort}: {number} of {len(missing)}"
                    print(left, f"seed {row['seed']}: {bad}" * bool(bad), flush=True)


def table() -> str:
    """All kept rows as a Markdown table."""
    lines = ["| notebook | effort | seeds | turned | which |", "|---|---|---|---|---|"]
    for name in names():
        for effort in ("smoke", "book"):
            rows = kept(name, effort)[1]
            bad = [row for row in rows if row.get("fault") or row["wrong"]]
            which = Counter(word for row in bad for word in row.get("wrong") or ["stopped"])
            told = ", ".join(f"{word} ({count})" for word, count in which.most_common()) or "–"
            if rows:
                lines.append(f"| `{name}` | {effort} | {len(rows)} | {len(bad)} | {told} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="all of one result if none")
    parser.add_argument("--effort", choices=("smoke", "book"), default="smoke")
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--write", metavar="PAGE", help="put the table into this page instead")
    arguments = parser.parse_args()
    if arguments.write:
        page = Path(arguments.write)
        before, rest = page.read_text("utf8").split(MARKS[0])
        text = f"{before}{MARKS[0]}\n{table()}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"
        page.write_text(text, "utf8")
        return
    for name in arguments.names or names():
        sweep(name, arguments.effort, arguments.seeds, arguments.jobs)
    print(table())


if __name__ == "__main__":
    main()
