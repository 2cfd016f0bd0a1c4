"""A run that hangs is ended by its own clock, wherever it hangs."""

import io

import pytest

from qhlib.book.errors import RunFailed
from qhlib.book.notebook import read_notebook
from qhlib.book.running import execute

from .conftest import CLAIM, GLUE

SLEEP = "import time\nfor _ in range(60):\n    time.sleep(1)"
DEAF = "import signal, os\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.kill(os.getpid(), 19)"


@pytest.mark.parametrize("way", ["forked", "ordinary"])
@pytest.mark.parametrize("cell", [SLEEP, DEAF], ids=["sleeps", "is stopped"])
def test_a_run_that_takes_too_long_is_killed(way, cell, write_chapter, workplace, monkeypatch):
    monkeypatch.setenv("QHLIB_KERNELS", way)
    book = read_notebook(write_chapter(cell, "never = 1"))
    with pytest.raises(RunFailed, match="it was killed at its limit of 1 s"):
        execute(book, {}, workplace / "out.ipynb", stream=io.StringIO(), limit=1)


def test_a_run_within_its_limit_is_left_alone(write_chapter, workplace):
    book = read_notebook(write_chapter(GLUE, CLAIM))
    execute(book, {}, workplace / "out.ipynb", stream=io.StringIO(), limit=100)
