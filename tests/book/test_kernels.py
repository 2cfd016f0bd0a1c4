"""Kernels: forked ones do what ordinary ones do, and none outlives who started it."""

import io
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from qhlib.book import kernels
from qhlib.book.errors import RunFailed
from qhlib.book.records import read_record
from qhlib.book.running import execute_many, run

from .conftest import CLAIM, GLUE, soon

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
DRAW = (
    'import matplotlib.pyplot as plt\nplt.plot([1, 2]);\nprint("pid", __import__("os").getppid())'
)


@pytest.fixture(autouse=True)
def no_server_is_left():
    yield
    kernels.Server.stop_all()


def parent(path) -> int:
    """The process that started the kernel, and that the picture is there."""
    outputs = [o for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", [])]
    assert [o for o in outputs if "image/png" in o.get("data", {})], "the figure is missing"
    return int(next(o.text.split()[1] for o in outputs if o.get("text", "").startswith("pid")))


@forks
def test_kernels_are_forks_of_one_server(write_chapter, workplace, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # a caller's setting must not lose the figures
    write_chapter(DRAW, GLUE, CLAIM)
    first, second = (
        parent(run("tiny_chapter", output=f"{k}.ipynb", stream=io.StringIO())) for k in "ab"
    )
    (server,) = kernels.Server._known.values()
    assert first == second == server.process.pid


def test_the_ordinary_way_gives_the_same(write_chapter, workplace, monkeypatch):
    write_chapter(DRAW, GLUE, CLAIM)
    one = run("tiny_chapter", output="a.ipynb", stream=io.StringIO())
    monkeypatch.setenv(kernels.SWITCH, "ordinary")
    other = run("tiny_chapter", output="b.ipynb", stream=io.StringIO())
    assert parent(other) == os.getpid()
    assert read_record(one).claims == read_record(other).claims


@pytest.mark.parametrize("way", ["forked", "ordinary"])
def test_a_folder_of_the_packages_name_does_not_take_its_place(
    way, write_chapter, workplace, monkeypatch
):
    monkeypatch.setenv(kernels.SWITCH, way)
    (workplace / "qhlib").mkdir()
    (workplace / "qhlib" / "__init__.py").write_text("raise RuntimeError('another package')")
    (workplace / "mine.py").write_text("VALUE = 3")
    write_chapter("import mine", GLUE, CLAIM)  # a module of the reader's own is found
    run("tiny_chapter", output="a.ipynb", stream=io.StringIO())


@pytest.mark.parametrize("way", ["forked", "ordinary"])
def test_a_readers_matplotlibrc_changes_no_figure(way, write_chapter, workplace, monkeypatch):
    monkeypatch.setenv(kernels.SWITCH, way)
    (workplace / "matplotlibrc").write_text("text.usetex: True\nbackend: Agg\n")
    style = "from qhlib import plots\nplots.use_style()\n"
    write_chapter(style + DRAW, GLUE, CLAIM)
    parent(run("tiny_chapter", output="a.ipynb", stream=io.StringIO()))


@forks
def test_where_the_server_does_not_start_kernels_start_ordinarily(
    write_chapter, workplace, monkeypatch
):
    monkeypatch.setattr(kernels, "_START", "raise SystemExit(1)")
    write_chapter(DRAW, CLAIM)
    assert parent(run("tiny_chapter", output="a.ipynb", stream=io.StringIO())) == os.getpid()


@forks
def test_no_kernel_outlives_who_started_it(write_chapter, workplace):
    """Killed without a chance to clean up, the parent leaves nothing behind."""
    write_chapter(
        "import os, time, pathlib\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)"
    )
    code = "from qhlib.book import run; run('tiny_chapter', output='out.ipynb')"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    told = Path("pid")
    assert soon(lambda: told.exists() and told.read_text(), 120)
    process.kill()
    process.wait()
    pid = int(told.read_text())
    assert soon(lambda: not _runs(pid), 30), "the kernel still runs"


def _runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.is_dir() and Path("/proc/self").exists():
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def test_several_run_at_once_and_a_failing_one_stops_no_other(write_chapter, workplace):
    from qhlib.book.notebook import read_notebook

    good = read_notebook(write_chapter(GLUE, CLAIM, name="good"))
    bad = read_notebook(write_chapter("1 / 0", name="bad"))
    stream = io.StringIO()
    runs = [(book, {}, workplace / f"{book.name}.ipynb") for book in (bad, good)]
    ended = {book.name: error for book, _, error in execute_many(runs, 2, stream)}
    assert ended["good"] is None and isinstance(ended["bad"], RunFailed)
    assert "ZeroDivisionError" in str(ended["bad"])
    assert read_record(workplace / "good.ipynb").stopped == ""
    assert (
        "good: starting the kernel" in stream.getvalue() and "bad: starting" in stream.getvalue()
    )


def test_the_grammar_of_addresses_is_still_worth_skipping():
    """When this fails, patches.import_papermill can go: jsonschema no longer builds the grammar on
    import."""
    code = "import sys, papermill; print('rfc3987_syntax' in sys.modules);"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
