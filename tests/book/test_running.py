"""Runs with a kernel: the end is believed only when it was reached, and what ran is kept."""

import functools
import io
import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from qhlib.book.cli import main
from qhlib.book.errors import RunFailed
from qhlib.book.notebook import Notebook, read_notebook
from qhlib.book.records import read_record, record_of, stopped_at
from qhlib.book.running import run

DEVIATES = (
    'chapter.claim("one", predicted=1.0, measured=rate, tolerance=0.6, '
    'outside="rate too large" if rate > 100 else "")\n'
    'print("made the claim")'
)


def test_a_run_with_other_parameters_from_another_directory(tiny, workplace, capsys):
    arguments = ["run", "tiny_chapter", "-p", "rate=2", "--preset", "smoke", "--html"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    path, page = workplace / "tiny_chapter-smoke.ipynb", workplace / "tiny_chapter-smoke.html"
    assert out.split() == [str(path), str(page)]
    assert "tiny_chapter: A tiny chapter (cell" in err

    record = read_record(path)
    assert (
        record.stopped == ""
        and record.chapter == "tiny_chapter"
        and record.at_book_parameters is False
    )
    assert (
        record.finished["parameters"]["effort"] == "smoke"
        and record.finished["parameters"]["rate"] == 2.0
    )
    assert record.finished["seconds"] > 0 and "numpy" in record.finished["versions"]
    assert [row["measured"] for row in record.claims] == [1.0 + 2e-9]
    saved = nbformat.read(path, as_version=4)
    nbformat.validate(saved)
    assert saved.metadata.kernelspec.name == "python3"
    assert saved.metadata.papermill.parameters["rate"] == 2.0

    assert main(["claims", str(path), "--json", "--check"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    leading = [
        "id",
        "statement",
        "source",
        "basis",
        "predicted",
        "measured",
        "tolerance",
        "verdict",
    ]
    assert list(row)[: len(leading)] == leading and row["verdict"] == "reproduced"
    assert main(["claims", str(path), str(path)]) == 0
    assert (
        capsys.readouterr().out.count("✓ reproduced tiny/one: predicted 1, measured 1, tol") == 2
    )
    assert page.is_file() and (workplace / "tiny_chapter-smoke_files" / "_static").is_dir()


def test_a_failing_cell_keeps_the_partial_notebook(write_chapter, workplace, capsys):
    write_chapter("done = 1", DEVIATES, "# why\nstate = 1 / 0\n", "never = 1")
    assert main(["run", "tiny_chapter", "-o", "out.ipynb", "--html"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("qhlib: ") == 1
    assert "cell [6], `state = 1 / 0`, failed: ZeroDivisionError: division by zero" in err
    assert f"as far as it ran is {workplace / 'out.ipynb'}" in err
    assert sorted(path.name for path in workplace.iterdir()) == ["out.ipynb"]
    # the claim that was made before the failure can be read, and the check notices the failure
    assert main(["claims", "out.ipynb"]) == 0
    out, err = capsys.readouterr()
    assert "tiny/one" in out and "the run is not complete: cell [6]" in err
    assert main(["claims", "out.ipynb", "--check"]) == 1
    # a second run does not overwrite it, and with --force it does
    assert main(["run", "tiny_chapter", "-o", "out.ipynb"]) == 2


def test_a_figure_that_is_not_shown_is_no_whole_run(tiny):
    """A described picture may vanish without an error: another backend, a forgotten show."""
    book = read_notebook(tiny)
    cell = book.content["cells"][-2]
    told = {"outputs": [], "execution_count": 1}
    cells = [{**c, **told} if c["cell_type"] == "code" else c for c in book.content["cells"]]
    cells[-2] = {**cell, **told, "metadata": {"mystnb": {"image": {"alt": "a line"}}}}
    assert "showed no picture" in stopped_at(Notebook(tiny, {**book.content, "cells": cells}))
    picture = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "aGk="}}
    cells[-2] = {**cells[-2], "outputs": [picture]}
    assert "showed no picture" not in stopped_at(Notebook(tiny, {**book.content, "cells": cells}))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("import sys\nsys.exit(0)", "cell [4], `import sys`, left the notebook with sys.exit"),
        ("import os\nos._exit(0)", "cell [4], `import os`, stopped: DeadKernelError"),
        ("import time\ntime.sleep(60)", "cell [4], `import time`, stopped: CellTimeoutError"),
    ],
    ids=["sys.exit", "kernel death", "time limit"],
)
def test_ends_that_papermill_calls_success_are_noticed(cell, words, write_chapter, workplace):
    write_chapter(cell, "never = 1")
    stream = io.StringIO()
    with pytest.raises(RunFailed) as caught:
        run("tiny_chapter", output="out.ipynb", timeout=3, stream=stream)
    assert words in str(caught.value)
    assert "starting the kernel" in stream.getvalue()
    saved = nbformat.read("out.ipynb", as_version=4)
    read = read_notebook("out.ipynb")
    assert stopped_at(read) and record_of(read).finished is None
    never = next(cell for cell in saved.cells if cell.source == "never = 1")
    assert never.metadata.papermill.status == "not run"


LONG = """\
import time
for epoch in (1, 2):
    chapter.progress(f"epoch {epoch} of 2")
    time.sleep(0.6)
"""


def test_a_long_cell_says_how_far_it_is(write_chapter, workplace, monkeypatch):
    monkeypatch.setattr("qhlib.book.progress.HEARTBEAT", 0.1)
    write_chapter(LONG, DEVIATES)
    stream = io.StringIO()
    path = run("tiny_chapter", output="out.ipynb", stream=stream)
    said = stream.getvalue()
    assert said.index("epoch 1 of 2") < said.index("epoch 2 of 2")
    assert "vnd.qhlib.status" not in json.dumps(
        [cell.get("outputs") for cell in nbformat.read(path, 4).cells]
    )


def test_deviations_fail_the_check_and_outside_does_not(write_chapter, workplace, capsys):
    write_chapter(DEVIATES)
    assert (
        run("tiny_chapter", {"rate": 0.1}, output="a.ipynb", stream=io.StringIO()).name
        == "a.ipynb"
    )
    assert main(["claims", "a.ipynb"]) == 0
    assert main(["claims", "a.ipynb", "--check"]) == 1
    assert "tiny/one deviates" in capsys.readouterr().err
    run("tiny_chapter", {"rate": 200.0}, output="a.ipynb", force=True, stream=io.StringIO())
    assert main(["claims", "a.ipynb", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["outside"] == "rate too large"


def test_plain_papermill_is_stopped_by_the_chapter_itself(tiny, workplace):
    command = [sys.executable, "-m", "papermill", str(tiny), "out.ipynb", "--no-progress-bar"]
    wrong = ["-p", "n_sed", "3", "-p", "noisy", "false", "-y", "rate: 1e-3"]
    done = subprocess.run([*command, *wrong], capture_output=True, text=True)
    assert done.returncode == 1
    for words in (
        "3 parameters of tiny_chapter cannot be used:",
        "n_sed: there is no such parameter; did you mean n_seeds?",
        "noisy: false is not true or false",
        "rate: '1e-3' is not a float in (0, inf)",
    ):
        assert words in done.stderr
    saved = nbformat.read("out.ipynb", as_version=4)
    (error,) = [
        o for cell in saved.cells for o in cell.get("outputs", []) if o.output_type == "error"
    ]
    assert len(error.traceback) == 1 and "Traceback" not in error.traceback[0]


def test_papermills_own_paths_are_no_parameters(tiny, workplace):
    command = [sys.executable, "-m", "papermill", str(tiny), "out.ipynb", "--inject-paths"]
    done = subprocess.run([*command, "-p", "seed", "3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_record("out.ipynb").finished["parameters"]["seed"] == 3


def test_an_earlier_run_is_run_again_with_its_parameters(tiny, workplace, monkeypatch):
    from qhlib.book import running

    (workplace / "co:lon").mkdir()
    run("tiny_chapter", {"seed": 7, "rate": 2}, output="co:lon/a.ipynb", stream=io.StringIO())
    told = io.StringIO()
    path = run("co:lon/a.ipynb", {"rate": 3}, preset="smoke", output="b.ipynb", stream=told)
    assert "a is a run of tiny_chapter: its parameters are kept, but for" in told.getvalue()
    found = read_record(path).finished["parameters"]
    assert (found["seed"], found["rate"], found["effort"]) == (7, 3.0, "smoke")
    assert running.plan("tiny_chapter").values["seed"] == 0


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX systems")
def test_an_interrupted_run_keeps_what_it_wrote(write_chapter, workplace):
    write_chapter("import time, pathlib\npathlib.Path('started').touch()\ntime.sleep(60)")
    command = [sys.executable, "-m", "qhlib.book.cli", "run", "tiny_chapter", "-o", "out.ipynb"]
    # a shell that starts the tests in the background leaves interrupts ignored, and children
    # inherit that
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
    deadline = time.monotonic() + 60
    while (
        not (workplace / "started").exists()
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert (
        f"tiny_chapter was interrupted; the notebook as far as it ran is {workplace / 'out.ipynb'}"
        in err
    )
    assert "Traceback" not in err
    assert stopped_at(read_notebook("out.ipynb"))


def test_paths_with_braces_and_default_names(tiny, workplace, monkeypatch):
    from qhlib.book import running

    written = []
    monkeypatch.setattr(running, "execute", lambda *given: written.append(given[2].name))
    (workplace / "{odd} place").mkdir()
    monkeypatch.chdir(workplace / "{odd} place")
    for _ in range(3):
        run("tiny_chapter", preset="smoke", stream=io.StringIO())
    assert written == [f"tiny_chapter-smoke{suffix}.ipynb" for suffix in ("", "-2", "-3")]
