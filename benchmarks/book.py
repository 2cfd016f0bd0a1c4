"""What a reader of the book waits for, and what he has to hold: times and sizes of builds, runs
and pages.

Run by `make bench` after `bench.py`, on an idle machine: a build uses all cores. Each row is
measured from outside, on a copy of the checkout's tracked files in a temporary folder. Prints a
table and writes JSON (--json).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PART_ONE = (
    "asymmetric_margin quasi_homogeneity rising_margin margin_cascade neural_collapse".split()
)
COUNT = "[document.documentElement.scrollHeight, document.querySelectorAll('*').length]"


def timed(command: list[str], folder: Path) -> float:
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def copy_of_the_checkout(folder: Path) -> Path:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def builds(folder: Path) -> dict[str, float]:
    """Cold and warm builds; the seconds of each notebook are the kernel's own."""
    make = ["make", "--no-print-directory", "pages", f"VENV={sys.prefix}"]
    rows = {"cold build: execute and write the whole book (s)": timed(make, folder)}
    rows["make book, nothing changed (s)"] = timed(make, folder)
    page = folder / "notebooks" / "asymmetric_margin.ipynb"
    page.write_text(
        page.read_text("utf8").replace("## Take-aways", "## What to take away"), "utf8"
    )
    rows["make book after an edit of prose (s)"] = timed(make, folder)
    for name in PART_ONE:
        (run,) = (folder / "_build" / "executed" / name).glob("*.ipynb")
        cells = json.loads(run.read_text("utf8"))["cells"]
        data = [o.get("data", {}) for cell in cells for o in cell.get("outputs", ())]
        (ran,) = [d[key] for d in data for key in d if key.endswith("finished+json")]
        rows[f"{name}, book, beside another notebook (s)"] = ran["seconds"]
    return rows


def kernels(folder: Path) -> dict[str, float]:
    """Seconds from asking for a kernel until it answers, the first and the second, and the
    ordinary way."""
    code = """
import os, time
from nbformat.v4 import new_notebook
from nbclient import NotebookClient
from qhlib.book.kernels import Manager
for switch in ("", "ordinary"):
    os.environ["QHLIB_KERNELS"] = switch
    for _ in range(2):
        began = time.perf_counter()
        client = NotebookClient(new_notebook(), kernel_manager_class=Manager)
        with client.setup_kernel():
            print(time.perf_counter() - began)
"""
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    first, second, _, ordinary = map(float, done.stdout.split())
    return {
        "start of the first kernel, with the server (s)": first,
        "start of a second kernel (s)": second,
        "start of an ordinary kernel, nothing imported (s)": ordinary,
    }


def smoke(folder: Path) -> dict[str, float]:
    """`qhlib run --preset smoke`: the whole command, and the notebook without the start of the
    kernel."""
    rows = {}
    for name in PART_ONE:
        out = folder / f"{name}.ipynb"
        command = [
            sys.executable,
            "-m",
            "qhlib.book.cli",
            "run",
            name,
            "--preset",
            "smoke",
            "-o",
            str(out),
        ]
        rows[f"{name}, smoke, the whole command (s)"] = timed(command, folder)
        cells = json.loads(out.read_text("utf8"))["cells"]
        spent = [cell["metadata"]["papermill"]["duration"] or 0 for cell in cells]
        rows[f"{name}, smoke, its cells (s)"] = sum(spent)
    return rows


def pages(folder: Path) -> dict[str, float]:
    """Height, elements, and seconds from opening a page to typeset mathematics, in headless
    Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        return {}
    from playwright.sync_api import sync_playwright

    rows = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        for width in (1280, 375):
            for name in (*(f"notebooks/{n}" for n in PART_ONE), "scorecard"):
                page = browser.new_page(viewport={"width": width, "height": 900})
                began = time.perf_counter()
                page.goto((folder / "_build" / "html" / f"{name}.html").as_uri())
                page.evaluate("async () => { await window.MathJax?.startup?.promise }")
                seconds = time.perf_counter() - began
                height, elements = page.evaluate(COUNT)
                title = f"{name.split('/')[-1]} at {width} px"
                rows[f"{title}: height (px)"] = height
                rows[f"{title}: elements"] = elements
                rows[f"{title}: load to typeset mathematics (s)"] = seconds
                page.close()
        browser.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON")
    arguments = parser.parse_args()
    rows: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = copy_of_the_checkout(Path(folder))
        for part in (kernels, smoke, builds, pages):
            found = part(place)
            for name, value in found.items():
                print(
                    f"{value:12,.2f}  {name}" if value % 1 else f"{value:12,.0f}  {name}",
                    flush=True,
                )
            rows |= found
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1), "utf8")


if __name__ == "__main__":
    main()
