"""Small chapters, written where only the test sees them."""

import contextlib
import os
import time
from pathlib import Path

import nbformat
import pytest

from qhlib.book.cli import main
from tests.conftest import find_chromium

ROOT = Path(__file__).resolve().parents[2]

PARAMETERS = """\
seed: int = 0            # first random seed [0, 2147483647]
n_seeds: int = 4         # runs stacked side by side [1, 64]
device: str = "cpu"      # torch device {cpu, cuda}
rate: float = 0.5        # learning rate (0, inf)
noisy: bool = False      # whether noise is added
radii: list[float] = [0.55, 0.7, 0.9]  # ball radii as a share of the distance (0, 1)
effort: str = "book"     # how much is computed {smoke, book, paper}
"""
TEXT = """\
# A tiny chapter

The value is {glue:text}`value:.3f`, as {cite:t}`kunin2023asymmetric` say in {eq}`eq-one`.

$$
x < 1
$$ (eq-one)

````{prf:theorem} Main
:label: thm-one

Let $x > 0$.
````
"""
WORDS = """\
::::{claim} The value is $x < 1$, {eq}`eq-one`.
:name: one
:source: Theorem 1
:tolerance: rounding
:basis: stated
::::
"""
OPEN = 'from qhlib.book import open_chapter\nchapter = open_chapter("tiny_chapter", globals())'
CLAIM = 'chapter.claim("one", predicted=1.0, measured=1.0 + 1e-9 * rate, tolerance=1e-6);'
GLUE = 'chapter.glue("value", 0.63012)'


def notebook(*cells: str, parameters: str = PARAMETERS, text: str = TEXT):
    """A notebook with `cells` between the opening of the chapter and its end, and the words of its
    claim."""
    v4 = nbformat.v4
    words = [v4.new_markdown_cell(WORDS)] if 'claim("one"' in "".join(cells) else []
    return v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
        cells=[
            v4.new_markdown_cell(text),
            v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            v4.new_code_cell(OPEN),
            *words,
            *(v4.new_code_cell(cell) for cell in cells),
            v4.new_code_cell("chapter.finish()"),
        ],
    )


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current directory, and a directory of chapters that the lookup sees first."""
    chapters, work = tmp_path / "chapters", tmp_path / "work"
    chapters.mkdir()
    work.mkdir()
    monkeypatch.setenv("QHLIB_NOTEBOOKS", str(chapters))
    # The kernel finds the package under test even where it is not installed.
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def write_chapter(workplace):
    """Write a small chapter for the lookup: ``write_chapter(*cells, name=...,
    parameters=...)``."""

    def write(*cells: str, name: str = "tiny_chapter", **parts) -> Path:
        path = workplace.parent / "chapters" / f"{name}.ipynb"
        nbformat.write(notebook(*cells, **parts), path)
        return path

    return write


@pytest.fixture
def tiny(write_chapter):
    """The chapter ``tiny_chapter`` with one claim that is reproduced."""
    return write_chapter(GLUE, CLAIM)


@pytest.fixture(scope="module")
def cluster():
    """Workers that stay warm from test to test, as on a cluster, found by their address."""
    pytest.importorskip("distributed")
    from qhlib.book.sweep.cluster import local_cluster

    with local_cluster(2) as made:
        yield made


@pytest.fixture
def sweep(cluster):
    """``qhlib sweep tiny_chapter`` into the folder "out", on the shared workers unless other ones
    are asked for; returns the exit status."""

    def call(*options, name="tiny_chapter") -> int:
        where = ()
        if not {"--workers", "--scheduler"} & set(options):
            where = ("--scheduler", cluster.scheduler_address)
        return main(["sweep", name, *options, *where, "--no-report", "-o", "out"])

    return call


def table() -> list[dict]:
    """The rows of the sweep in "out"."""
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table("out/table.parquet").to_pylist()


@contextlib.contextmanager
def opened(page: Path, width: int = 1280):
    """``with opened(page) as tab``: the page in a browser of its own, which ends with the block,
    for its event loop is in the way of kernels; it may ask for nothing elsewhere and not complain.
    """
    sync_api, heard = pytest.importorskip("playwright.sync_api"), []
    path = find_chromium()
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.set_default_timeout(120_000)
        tab.on("request", lambda request: heard.append(request.url))
        tab.on("console", lambda m: m.type in ("error", "warning") and heard.append(m.text))
        tab.goto(page.as_uri())
        yield tab
        browser.close()
    assert not [each for each in heard if not each.startswith(("file:", "data:", "blob:"))]


def soon(what, seconds: float = 120) -> bool:
    """Whether `what` comes true in that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.1)
    return False
