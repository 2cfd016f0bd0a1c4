"""How many seeds turn a claim: every notebook of one result, executed on many seeds that nobody
looked at.

    python benchmarks/seeds.py [NOTEBOOK ...] [--effort smoke] [--seeds 300] [--jobs 2]
    python benchmarks/seeds.py --write

Each seed is one execution of the notebook's code in a forked process, without its pictures. A row
for each is kept in ``_build/seeds/NOTEBOOK-EFFORT.jsonl``: a run that was stopped goes on where it
was. ``--write`` adds the rows to the table on the status page: for each notebook and effort how
many seeds, how many of them turned some claim to ``deviates`` or did not end, and which claims
those were. Both hold for the code whose digest stands beside them, the notebook's and that of the
numerical modules it imports: other code starts anew, the same code is tried on further seeds.
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
PAGE = ROOT / "status.md"
MARKS = "<!-- seeds -->", "<!-- end of seeds -->"
EFFORTS = "smoke", "book"


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


def code_of(name: str) -> str:
    """A digest of the notebook's code that claims need and of the numerical modules of qhlib that
    it imports: an exercise or a picture turns no claim."""
    from marginbook.fingerprint import dependencies, digest

    from qhlib.book import read_notebook
    from qhlib.book.course import needed

    cells = read_notebook(ROOT / "notebooks" / f"{name}.ipynb").cells
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    keep = needed(code, {"chapter.claim"}, "chapter.claim(")
    code = [source for source, kept in zip(code, keep, strict=True) if kept]
    paths = dependencies("\n".join(code))
    apart = ("book", "plots")  # machinery and the look of pictures
    paths = [path for path in paths if path.parent.name != apart[0] and path.stem != apart[1]]
    files = [(path.name, path.read_bytes()) for path in paths]
    return digest([("cell", source.encode()) for source in code] + files)[:8]


def kept(name: str, effort: str) -> tuple[Path, list[dict]]:
    """The file of rows, and those rows of it that the present code made."""
    path, now = KEPT / f"{name}-{effort}.jsonl", code_of(name)
    lines = path.read_text("utf8").splitlines() if path.exists() else [""]
    if lines[0] == now:
        return path, [json.loads(line) for line in lines[1:] if line.endswith("}")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{now}\n", "utf8")
    return path, []


def told() -> dict[tuple[str, str], tuple[str, int, int, Counter]]:
    """What the page tells: code, seeds, how many turned, and which claims, by notebook and
    effort."""
    found = {}
    for line in PAGE.read_text("utf8").splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[1] in EFFORTS:
            which = re.findall(r"([\w-]+) \((\d+)\)", cells[5])
            which = Counter({claim: int(count) for claim, count in which})
            found[cells[0], cells[1]] = cells[2], int(cells[3]), int(cells[4]), which
    return found


def sweep(name: str, effort: str, seeds: int, jobs: int) -> None:
    """Execute what is missing of the first `seeds` seeds."""
    path, rows = kept(name, effort)
    code, done, *_ = told().get((name, effort), ("", 0))
    tried = {row["seed"] for row in rows}
    begin = done if code == code_of(name) else 0
    missing = [FIRST + i for i in range(begin, seeds) if FIRST + i not in tried]
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


def write() -> None:
    """Add all kept rows to the table on the page, and forget them."""
    known, lines = (
        told(),
        ["| notebook | effort | code | seeds | turned | which |", "|---" * 6 + "|"],
    )
    used = []
    for name in names():
        for effort in EFFORTS:
            path, rows = kept(name, effort)
            code, seeds, turned, which = known.get((name, effort), ("", 0, 0, Counter()))
            if code != code_of(name):
                seeds, turned, which = 0, 0, Counter()
            bad = [row for row in rows if row.get("fault") or row["wrong"]]
            which = which + Counter(w for row in bad for w in row.get("wrong") or ["stopped"])
            seeds, turned = seeds + len(rows), turned + len(bad)
            said = ", ".join(f"{claim} ({count})" for claim, count in which.most_common()) or "–"
            if seeds:
                cells = f"`{name}` | {effort} | {code_of(name)} | {seeds} | {turned} | {said}"
                lines.append(f"| {cells} |")
            used.append(path)
    before, rest = PAGE.read_text("utf8").split(MARKS[0])
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{rest.split(MARKS[1])[1]}", "utf8")
    for path in used:
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="all of one result if none")
    parser.add_argument("--effort", choices=EFFORTS, default="smoke")
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--write", action="store_true", help="add the rows to the page instead")
    arguments = parser.parse_args()
    if arguments.write:
        write()
        return
    for name in arguments.names or names():
        sweep(name, arguments.effort, arguments.seeds, arguments.jobs)


if __name__ == "__main__":
    main()
