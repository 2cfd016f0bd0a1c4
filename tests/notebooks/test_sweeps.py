"""A sweep as it is really used: a companion over seed and one parameter, killed twice and resumed.

QHLIB_SWEEP=200 makes it 200 runs (minutes) instead of 12.
"""

import os
import signal
import subprocess
import sys

import pytest

from qhlib.book.cli import main
from qhlib.book.running import run
from qhlib.book.sweep import tables
from tests.book.conftest import opened, soon
from tests.book.test_faults import session

pytest.importorskip("distributed")
NAME, RUNS = "lexicographic_stationary", int(os.environ.get("QHLIB_SWEEP", "12"))
PULLS = [2.0, 2.5, 3.0, 4.0]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of the sweep after its last command, and what stood in it at each kill."""
    place = tmp_path_factory.mktemp("real")
    grids = ["--grid", f"seed=0:{RUNS // 4}:1", "--grid", f"pull={','.join(map(str, PULLS))}"]
    command = [sys.executable, "-m", "qhlib.book.cli", "sweep", NAME, "--preset", "smoke", *grids]
    command += ["-o", str(place / "out")]
    runs, seen = place / "out" / "runs", []
    for share in (1, 2):
        process = subprocess.Popen(
            [*command, *["--resume"] * (share - 1)], start_new_session=True, cwd=place
        )
        ended = soon(lambda n=share: len(list(runs.glob("*.ipynb"))) >= n * RUNS // 3, 3600)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert ended and soon(lambda p=process: not session(p.pid), 60)
        seen.append({path.name: path.stat().st_mtime_ns for path in runs.glob("*.ipynb")})
    assert subprocess.run([*command, "--resume"], cwd=place).returncode == 0
    return place / "out", seen


def test_nothing_is_lost_or_run_twice(swept):
    folder, seen = swept
    now = {path.name: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    assert RUNS // 3 <= len(seen[0]) <= len(seen[1]) < len(now) == RUNS
    assert all(now[name] == age for each in seen for name, age in each.items())


def test_the_table_is_complete(swept):
    table = tables.read(swept[0])
    runs = table.drop_duplicates("run")
    assert sorted(zip(runs.seed, runs.pull, strict=True)) == [
        (seed, pull) for seed in range(RUNS // 4) for pull in PULLS
    ]
    assert set(table.status) == {"finished"} and set(table.effort) == {"smoke"}
    counts = table.groupby("run").claim.nunique()
    assert counts.min() == counts.max() == 7
    alarms = table[table.claim == "stationary/alarm"]
    assert (abs(alarms.measured / alarms.pull - 1) < 0.1).all()


@pytest.mark.browser
def test_the_report_is_looked_at(swept):
    with opened(swept[0] / "report.html") as tab:
        words = tab.locator("main").inner_text()
        assert f"{RUNS} runs of {NAME}, {RUNS} of them finished, over pull, seed" in words
        assert tab.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0
        tab.locator("figure.scrubber input").press("Home")
        assert tab.locator("figure.scrubber output").inner_text() == "2.0"


def test_two_threads_give_the_same_numbers(tmp_path, monkeypatch, capsys):
    """To 1e-9, the command's own limit; one thread again gives them to the bit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run(NAME, preset="smoke", output="a.ipynb")
    assert main(["verify", "a.ipynb"]) == 0
    assert "the same to the bit" in capsys.readouterr().out
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert main(["verify", "a.ipynb"]) == 0
