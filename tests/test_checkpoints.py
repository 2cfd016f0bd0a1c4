"""Checkpoints: what comes back, when they are written, and one clear error for every fault."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qhlib import checkpoints
from qhlib.checkpoints import Checkpoint, CheckpointError

SETTINGS = {"lr": 0.05, "scales": (0.1, 1, 5), "dataset": "digits"}


@pytest.fixture
def point(tmp_path):
    return Checkpoint(tmp_path / "new" / "folder", "run", SETTINGS)


def state():
    return {"epoch": 7, "W": torch.arange(6.0).reshape(2, 3), "rows": [(0.0, [1.5, 2.5])], "done": True}


def test_a_state_comes_back_whole(point):
    assert point.load() is None
    assert point.save(state(), now=True)
    back = Checkpoint(point.path.parent, "run", {**SETTINGS, "scales": [0.1, 1, 5]}).load()
    assert torch.equal(back.pop("W"), state()["W"])
    assert back == {"epoch": 7, "rows": [(0.0, [1.5, 2.5])], "done": True}


@pytest.mark.parametrize("change", [{"lr": 0.06}, {"scales": (0.1, 1)}, {"more": 1}])
def test_other_settings_find_nothing_and_keep_what_is_there(point, change):
    point.save(state(), now=True)
    other = Checkpoint(point.path.parent, "run", SETTINGS | change)
    assert other.load() is None
    other.save({"epoch": 1}, now=True)
    assert point.load()["epoch"] == 7


def test_without_a_folder_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    point = Checkpoint("", "run", SETTINGS)
    assert point.path is None and point.load() is None and not point.save(state(), now=True)
    assert not list(tmp_path.iterdir())


def test_writes_are_at_most_every_so_often(point, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    point = Checkpoint(point.path.parent, "run", SETTINGS, every=10)
    written = []
    for clock[0] in (101.0, 110.0, 119.0, 120.0):
        written.append(point.save(state()))
    assert written == [False, True, False, True]
    assert point.save(state(), now=True)


def damage(content, how):
    if how == "cut off":
        return content[: len(content) // 2]
    if how == "empty":
        return b""
    if how == "foreign":
        return b"PK\x03\x04 somebody else's file"
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cut off", "cut off"),
        ("changed", "was changed"),
        ("empty", "not a checkpoint"),
        ("foreign", "not a checkpoint"),
    ],
)
def test_a_damaged_file_is_one_clear_error_and_stays(point, how, words):
    point.save(state(), now=True)
    broken = damage(point.path.read_bytes(), how)
    point.path.write_bytes(broken)
    with pytest.raises(CheckpointError, match=words) as error:
        point.load()
    assert isinstance(error.value, ValueError)
    assert str(point.path) in str(error.value) and "checkpoint_folder" in str(error.value)
    assert point.path.read_bytes() == broken


def test_a_file_of_other_settings_under_this_name_is_refused(point):
    other = Checkpoint(point.path.parent, "run", {"lr": 1})
    other.save(state(), now=True)
    os.replace(other.path, point.path)
    with pytest.raises(CheckpointError, match=r'other settings, {"lr": 1}'):
        point.load()


def test_a_pickle_that_runs_code_is_not_run(point, tmp_path):
    # a correct checksum is no proof of good intent
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    point.save({"x": Evil()}, now=True)
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        point.load()
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be written"):
        Checkpoint(tmp_path / "file", "run", SETTINGS).save(state(), now=True)


def test_a_failed_write_leaves_the_last_state_and_no_rubbish(point, monkeypatch):
    point.save(state(), now=True)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        point.save({"epoch": 8}, now=True)
    assert [file.name for file in point.path.parent.iterdir()] == [point.path.name]
    assert point.load()["epoch"] == 7


def test_a_killed_writer_leaves_a_whole_state(tmp_path):
    code = (
        "import os, sys, torch\n"
        "from qhlib.checkpoints import Checkpoint\n"
        "point = Checkpoint(sys.argv[1], 'run', {})\n"
        "point.save({'epoch': 1}, now=True)\n"
        "os.fsync = lambda fd: os._exit(9)\n"  # dies when the new content is only half safe
        "point.save({'epoch': 2}, now=True)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    assert Checkpoint(tmp_path, "run", {}).load() == {"epoch": 1}


def test_the_layout_is_as_documented(point):
    point.save(state(), now=True)
    magic, digest, rest = point.path.read_bytes().split(b"\n", 2)
    assert magic == b"qhlib checkpoint 1"
    assert digest.decode() == hashlib.sha256(rest).hexdigest()


def test_the_state_lands_where_it_is_asked_for(point):
    point.save(state(), now=True)
    assert point.load("meta")["W"].device.type == "meta"
