"""The stamp on a run is true: compared with what other ways of asking say."""

import hashlib
import io
import os
import shutil
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version

import pytest

from qhlib import __version__
from qhlib.book.provenance import commit, lock
from qhlib.book.records import read_record
from qhlib.book.running import run

from .conftest import CLAIM, GLUE, ROOT

TELL = (
    "import torch\nfor key, value in dict(pid=seed, threads=torch.get_num_threads()).items():\n"
    "    chapter.glue(key, value)"
)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_stamp_is_true(threads, write_chapter, workplace, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    write_chapter(TELL, GLUE, CLAIM)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    path = run("tiny_chapter", {"seed": 7, "rate": 2}, output="a.ipynb", stream=io.StringIO())
    told = read_record(path).finished
    assert told["threads"] == int(threads)
    assert before <= datetime.fromisoformat(told["date"]) <= datetime.now(timezone.utc)
    assert told["versions"]["qhlib"] == __version__ and told["versions"]["torch"] == version(
        "torch"
    )
    assert told["parameters"]["seed"] == 7 and told["parameters"]["device"] == "cpu"
    assert told["parameters"]["rate"] == 2.0
    content = (ROOT / "constraints.txt").read_bytes()
    assert told["lock"]["fingerprint"] == hashlib.sha256(content).hexdigest()[:16]
    assert told["machine"]["cores"] == len(os.sched_getaffinity(0))
    ask = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(ask, capture_output=True, text=True).stdout.strip()
    assert told["commit"].rstrip("+") == head


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_a_commit_is_told_with_what_differs_from_it(tmp_path):
    assert commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "qhlib").mkdir()
    (tmp_path / "qhlib" / "a.py").write_text("1")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    clean = commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "notes.txt").write_text("no code")
    assert commit(tmp_path) == clean
    (tmp_path / "qhlib" / "b.py").write_text("2")
    assert commit(tmp_path) == clean + "+"


def test_versions_that_are_not_the_locks_are_told(tmp_path):
    (tmp_path / "constraints.txt").write_text("# pins\nnumpy==1.0\ntorch==2.0\n")
    found = lock(
        {"numpy": "2.0", "torch": "2.0+cpu", "python": "3.11"}, tmp_path / "constraints.txt"
    )
    assert found["differ"] == {"numpy": "2.0"}
