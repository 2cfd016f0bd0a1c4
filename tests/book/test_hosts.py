"""A sweep through a scheduler and workers that are processes of their own, found by an address:
on one host, and with the workers on another, which network name spaces make."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import soon, table

pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes as on POSIX systems")
# where the run was: the addresses of its host, and its folder
WHERE = """\
from pathlib import Path
addresses = Path("/proc/net/fib_trie").read_text()
chapter.claim("one", predicted=1.0, measured=float("{address}" in addresses), tolerance=0.0)
assert not Path("out").exists(), "the sweep's folder is seen from here"
"""
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def hosts(request):
    """Commands that begin a command on the first and on the second host, and their addresses."""
    if request.param == "one host":
        yield ([], "127.0.0.1"), ([], "127.0.0.1")
        return
    if not shutil.which("ip"):
        pytest.skip("there is no command ip")
    first, second = (f"qh{os.getpid()}{end}" for end in "ab")
    addresses = "10.215.77.1", "10.215.77.2"

    def ip(*words: str) -> int:
        return subprocess.run(["ip", *words], **QUIET).returncode

    try:
        if ip("netns", "add", first) or ip("netns", "add", second):
            pytest.skip("network name spaces cannot be made here")
        if ip(
            "link", "add", first, "netns", first, "type", "veth", "peer", second, "netns", second
        ):
            pytest.skip("name spaces cannot be connected here")
        for name, address in zip((first, second), addresses, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", name, "up")
        enter = (["ip", "netns", "exec", name] for name in (first, second))
        yield tuple(zip(enter, addresses, strict=True))
    finally:
        ip("netns", "del", first)
        ip("netns", "del", second)


@pytest.mark.parametrize("hosts", ["one host", "two hosts"], indirect=True)
def test_a_sweep_on_workers_at_an_address(hosts, write_chapter, workplace, tmp_path):
    (here, address), (there, other) = hosts
    write_chapter(WHERE.format(address=other))
    far = tmp_path / "far"
    far.mkdir()
    dask, told = [sys.executable, "-m", "dask"], tmp_path / "scheduler.json"
    options = ["--scheduler-file", str(told), "--no-dashboard", "--host"]
    with contextlib.ExitStack() as stack:

        def start(*command: str) -> None:
            process = stack.enter_context(subprocess.Popen(command, cwd=far, **QUIET))
            stack.callback(process.kill)

        start(*here, *dask, "scheduler", "--port", "0", *options, address)
        assert soon(lambda: told.exists() and told.stat().st_size)
        start(*there, *dask, "worker", "--nworkers", "2", "--nthreads", "1", *options, other)
        place = json.loads(told.read_text())["address"]
        assert address in place
        command = [sys.executable, "-m", "qhlib.book.cli", "sweep", "tiny_chapter", "--scheduler"]
        options = [place, "--grid", "seed=0:6:1", "--no-report", "-o", "out"]
        done = subprocess.run([*here, *command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["verdict"] for row in table()] == ["reproduced"] * 6
    assert len(list(Path("out/runs").glob("*.ipynb"))) == 6
