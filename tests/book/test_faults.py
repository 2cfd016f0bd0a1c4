"""Sweeps that meet a fault: nothing finished is lost or counted twice, and each failure is named
with its reason and the command that runs it alone."""

import errno
import functools
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qhlib.book.notebook import write_whole
from qhlib.book.sweep import runs as machinery

from .conftest import CLAIM, GLUE, soon, table

pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX systems")
# A cell does something bad while a file is there, which only the test can see. `trace` counts the
# runs that were begun.
CELL = """\
import os, signal, time
from pathlib import Path
place = Path({place!r})
(place / f"begun-{{seed}}-{{time.time_ns()}}").touch()
if seed in {seeds} and (place / "bad").exists():
    {bad}
"""
RAISES = 'raise ValueError("no luck\\nin two lines")'
DIES = "os.kill(os.getpid(), signal.SIGKILL)"
LEAVES = "raise SystemExit(0)"
HANGS = "time.sleep(600)"
WORKER = "int(Path(f'/proc/{os.getppid()}/stat').read_text().rpartition(')')[2].split()[1])"
ONCE = f"(place / 'bad').unlink(); os.kill({WORKER}, signal.SIGKILL); time.sleep(600)"
ALWAYS = f"os.kill({WORKER}, signal.SIGKILL); time.sleep(600)"
SEEDS = ("--grid", "seed=0:4:1")


@pytest.fixture
def chapter(write_chapter, workplace):
    """The tiny chapter with something bad in the runs with some seeds."""

    def write(bad: str, seeds=(1,)) -> None:
        (workplace / "bad").touch()
        cell = CELL.format(place=str(workplace), seeds=tuple(seeds), bad=bad)
        write_chapter(cell, GLUE, CLAIM)

    return write


def begun(workplace, seed: int) -> int:
    return len(list(workplace.glob(f"begun-{seed}-*")))


def statuses() -> list[str]:
    return [row["status"] for row in table()]


def resumed(sweep, workplace, *options, others_end=False) -> None:
    """With the fault gone, `--resume` runs what is missing alone, and the table is whole.

    `others_end` says that runs of the sweep before may still be ending on shared workers.
    """
    before = {path: path.stat().st_mtime_ns for path in Path("out/runs").glob("*.ipynb")}
    counts = [begun(workplace, seed) for seed in range(4)]
    done = {
        json.loads(path.read_text())["metadata"]["papermill"]["parameters"]["seed"]
        for path in before
    }
    (workplace / "bad").unlink(missing_ok=True)
    assert sweep(*(options or SEEDS), "--resume") == 0
    assert [row["seed"] for row in table()] == [0, 1, 2, 3] and set(statuses()) == {"finished"}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for seed in range(4):
        again = begun(workplace, seed) - counts[seed]
        assert again == (seed not in done) or others_end and seed not in done
    assert not list(Path("out/failed").iterdir())
    assert sorted(p.name for p in Path("out").iterdir()) == [
        ".lock",
        "failed",
        "runs",
        "table.csv",
        "table.parquet",
    ]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (RAISES, "`import os, signal, time`, failed: ValueError: no luck"),
        (DIES, "`import os, signal, time`, stopped: DeadKernelError"),
        (LEAVES, "left the notebook with sys.exit"),
        (HANGS, "stopped: TimeoutError: it was killed at its limit of 20 s"),
    ],
    ids=["raises", "killed", "sys.exit", "hangs"],
)
def test_a_run_that_fails_is_named_and_the_others_are_finished(
    bad, words, chapter, sweep, workplace, capsys
):
    chapter(bad)
    # long enough for the other runs on a busy machine, and for one that hangs alone
    limit = ("--limit", "20") if bad == HANGS else ()
    assert sweep(*SEEDS, "--preset", "smoke", *limit) == 1
    err = capsys.readouterr().err
    assert "3 finished, 1 failed; the same command with --resume" in err and words in err
    assert err.count("qhlib: ") == 1 and "Traceback" not in err
    assert statuses() == ["finished", "failed", "finished", "finished"]
    (row,) = (row for row in table() if row["status"] == "failed")
    assert words in row["reason"] and row["seed"] == 1 and row["measured"] is None
    assert sorted(path.stem for path in Path("out/failed").iterdir()) == [row["run"]]
    # the command that was named runs the same set, and fails in the same way
    (command,) = (line.strip() for line in err.splitlines() if line.startswith("    qhlib run "))
    assert "-p seed=1" in command and "-p effort=smoke" in command
    if bad == RAISES:
        done = subprocess.run(
            [sys.executable, "-m", "qhlib.book.cli", *shlex.split(command)[1:]],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1 and "ValueError: no luck" in done.stderr
    resumed(sweep, workplace, *SEEDS, "--preset", "smoke")


def test_a_killed_worker_costs_nothing(chapter, sweep, workplace, capsys):
    chapter(ONCE)
    assert sweep(*SEEDS, "--workers", "2") == 0
    assert statuses() == ["finished"] * 4 and begun(workplace, 1) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_that_always_ends_its_worker_is_a_failure(chapter, sweep, workplace, capsys):
    dask = pytest.importorskip("dask")
    chapter(ALWAYS)
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        assert sweep(*SEEDS, "--workers", "2") == 1
    err = capsys.readouterr().err
    assert "KilledWorker: Attempted to run task" in err, err
    assert "-p seed=1" in err
    assert sorted(statuses()) == ["failed"] + ["finished"] * 3
    resumed(sweep, workplace)


def test_a_full_disk_stops_the_sweep_and_keeps_the_rest(
    chapter, sweep, workplace, capsys, monkeypatch
):
    chapter("pass")
    kept = []

    def full(path, text):
        if len(kept) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        kept.append(path)
        write_whole(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(machinery, "write_whole", full)
        assert sweep(*SEEDS) == 1
    err = capsys.readouterr().err
    assert "out cannot be written: No space left on device" in err and "Traceback" not in err
    assert sorted(statuses()) == ["finished", "finished", "missing", "missing"]
    resumed(sweep, workplace, others_end=True)


def test_a_disk_that_is_really_full(chapter, cluster, workplace):
    """A file system of 200 kB, filled up to the last 30: in a name space of its own, where that
    can be made."""
    chapter("pass")
    (workplace / "out").mkdir()
    inside = (
        "mount -t tmpfs -o size=200k none out && head -c 170k /dev/zero > out/ballast && "
        '"$@"; status=$?; rm out/ballast; ls out/runs/*.ipynb | wc -l; exit $status'
    )
    options = [*SEEDS, "--scheduler", cluster.scheduler_address, "--no-report", "-o", "out"]
    command = [sys.executable, "-m", "qhlib.book.cli", "sweep", "tiny_chapter", *options]
    alone = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if subprocess.run([*alone, "mount -t tmpfs none out"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run([*alone, inside, "sh", *command], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device" in done.stderr
    assert 0 < int(done.stdout.split()[-1]) < 4


@pytest.mark.parametrize("folder", ["file/out", "/proc/out", "a" * 300])
def test_a_folder_that_cannot_be_written_is_refused(folder, tiny, workplace, capsys):
    from qhlib.book.cli import main

    (workplace / "file").touch()
    assert main(["sweep", "tiny_chapter", "--grid", "seed=1", "-o", folder]) == 2
    err = capsys.readouterr().err
    assert "cannot be written" in err and err.count("qhlib: ") == 1 and "Traceback" not in err


def test_the_chapters_folder_is_refused(tiny, capsys):
    from qhlib.book.cli import main

    assert main(["sweep", "tiny_chapter", "--grid", "seed=1", "-o", str(tiny.parent / "a")]) == 2
    assert "holds the book's chapters" in capsys.readouterr().err


def test_two_sweeps_do_not_share_a_folder(tiny, workplace, capsys):
    from qhlib.book.cli import main
    from qhlib.book.notebook import read_notebook

    with machinery.opened(read_notebook(tiny), [{}], Path("out"), resume=False):
        for more in ([], ["--resume"]):
            assert main(["sweep", "tiny_chapter", "--grid", "seed=1", "-o", "out", *more]) == 2
            assert "another sweep is at work in" in capsys.readouterr().err


def test_what_is_half_written_is_written_anew(chapter, sweep, workplace, capsys):
    chapter("pass")
    assert sweep(*SEEDS) == 0
    whole = {kind: (workplace / f"out/table.{kind}").read_bytes() for kind in ("parquet", "csv")}
    first, second, third, _ = (row["run"] for row in table())
    text = Path(f"out/runs/{first}.ipynb").read_text()
    Path(f"out/runs/{first}.ipynb").write_text(text[: len(text) // 2])
    Path(f"out/runs/{second}.ipynb").write_text("")
    Path(f"out/runs/.{third}.123-4.tmp").write_text(text[: len(text) // 3])
    for kind, content in whole.items():
        (workplace / f"out/table.{kind}").write_bytes(content[: len(content) // 2])
    assert sweep(*SEEDS, "--resume") == 0
    assert "4 runs, 2 of them finished already" in capsys.readouterr().err
    assert len(table()) == 4 and set(statuses()) == {"finished"}
    assert not list(Path("out/runs").glob(".*"))


def started(*options) -> subprocess.Popen:
    """The command in a session of its own, as a terminal has one, with interrupts as usual."""
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-m", "qhlib.book.cli", "sweep", "tiny_chapter", *options]
    return subprocess.Popen(
        [*command, "--workers", "2", "--no-report", "-o", "out"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listening,
    )


def session(leader: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_an_ended_sweep_goes_on_where_it_was(number, chapter, sweep, workplace):
    chapter(HANGS, seeds=(2, 3))
    process = started(*SEEDS)
    runs = workplace / "out" / "runs"
    there = soon(lambda: len(list(runs.glob("*.ipynb"))) == 2 and begun(workplace, 3))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to all of them
    else:
        process.kill()
    err = process.communicate(timeout=60)[1]
    assert "Traceback" not in err, err
    assert there and soon(lambda: not session(process.pid), 30), "processes were left behind"
    if number == signal.SIGINT:
        assert process.returncode == 130 and err.endswith("qhlib: interrupted\n"), err
        assert "2 finished, 0 failed, 2 not begun" in err
        assert statuses() == ["finished", "finished", "missing", "missing"]
    resumed(sweep, workplace)


def test_a_scheduler_that_goes_away(chapter, sweep, workplace, capsys):
    chapter(HANGS, seeds=(2, 3))
    place = workplace / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    at = ["--scheduler-file", str(place), "--no-dashboard", "--host", "127.0.0.1"]
    scheduler = subprocess.Popen([*dask, "scheduler", "--port", "0", *at], **quiet)
    assert soon(place.exists)
    worker = subprocess.Popen(
        [*dask, "worker", *at, "--nworkers", "2", "--nthreads", "1", "--death-timeout", "5"],
        **quiet,
    )
    address = json.loads(place.read_text())["address"]
    kill = functools.partial(os.kill, scheduler.pid, signal.SIGKILL)
    try:
        import threading

        def watch():
            soon(lambda: len(list((workplace / "out").glob("runs/*.ipynb"))) == 2)
            kill()

        threading.Thread(target=watch, daemon=True).start()
        assert sweep(*SEEDS, "--scheduler", address) == 1
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    err = capsys.readouterr().err
    assert "qhlib: the scheduler went away" in err and "Traceback" not in err
    assert statuses() == ["finished", "finished", "missing", "missing"]
    resumed(sweep, workplace)


def test_a_scheduler_that_is_not_there(tiny, sweep, workplace, capsys, monkeypatch):
    monkeypatch.setattr("qhlib.book.sweep.cluster.PATIENCE", 1.0)
    assert sweep("--grid", "seed=1", "--scheduler", "tcp://127.0.0.1:9") == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert sweep("--grid", "seed=1", "--scheduler", "nonsense://x", "--resume") == 2
