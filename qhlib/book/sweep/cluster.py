"""Workers for a sweep: on this machine, or those of a Dask scheduler at an address.

Conventions: a worker does one run at a time in a thread of its own; it needs this package in the
same version and no shared folder, for it is given the notebook and returns it executed. Whatever
ends this process ends the workers that it started, and with them their kernels.
"""

import contextlib
import io
import logging
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from qhlib import __version__

from ..errors import BookError, RunFailed
from ..notebook import read_notebook
from ..provenance import cores

FIXED = "OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS PYTHONHASHSEED".split()
PATIENCE = 30.0
"""Seconds until a scheduler that does not answer is none."""


def threads() -> int:
    """Threads of a kernel.

    >>> threads() >= 1
    True
    """
    told = os.environ.get("OMP_NUM_THREADS", "1")
    return int(told) if told.isdigit() and int(told) else 1


@contextlib.contextmanager
def same_environment() -> Iterator[None]:
    """Leaves this process's variables as they were: Dask sets some for the workers it starts."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def fixed() -> dict[str, str | None]:
    """The variables that decide on a kernel's threads and hashes; None for one that is not set."""
    return {name: os.environ.get(name) for name in FIXED}


@contextlib.contextmanager
def local_cluster(workers: int | None = None) -> Iterator:
    """A Dask cluster on this machine, with a worker for each processor unless `workers` says
    otherwise; all its processes end with it, and with this process, however that ends."""
    from distributed import LocalCluster

    # Ctrl-C reaches every process of a terminal: it is for the one that the reader started
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    with tempfile.TemporaryDirectory(prefix="qhlib-dask-") as folder, same_environment():
        with same_environment():
            cluster = LocalCluster(
                n_workers=workers or max(1, cores() // threads()),
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                memory_limit=0,  # a run's memory is its kernel's, not the worker's
                local_directory=folder,
                silence_logs=50,
                preload=[deaf],
            )
        try:
            yield cluster
        except BaseException:
            for nanny in cluster.workers.values():  # or it would wait for the runs to end
                nanny.auto_restart = False
                if nanny.pid:
                    os.kill(nanny.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            raise
        finally:
            with contextlib.suppress(TimeoutError):
                cluster.close(timeout=10)


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int | None) -> Iterator:
    """A client of the scheduler at an address, or of a cluster on this machine.

    Raises :class:`BookError` when no scheduler answers, or a worker lacks this package.
    """
    import dask
    from distributed import Client

    # the sweep says itself what happened; what an ended worker held is computed anew
    quiet = {"logging": {"distributed": "critical", "asyncio": "critical"}}
    for name in quiet["logging"]:  # it has read its settings here, and its threads go on
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(quiet), contextlib.ExitStack() as stack:
        place = scheduler or stack.enter_context(local_cluster(workers))
        try:
            client = Client(place, set_as_default=False, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise BookError(f"no Dask scheduler answers at {scheduler}: {error}") from None
        stack.push(lambda *_: _close(client))
        try:
            client.wait_for_workers(1, timeout=60)
            found = client.run(_version)
        except TimeoutError:
            raise BookError(f"the scheduler at {scheduler} has no worker") from None
        except ModuleNotFoundError as error:
            raise BookError(f"a worker of {scheduler} lacks {error.name}: install it") from None
        if other := {place: v for place, v in found.items() if v != __version__}:
            raise BookError(f"here is qhlib {__version__}, but workers have others: {other}")
        yield client


def _close(client) -> None:
    with contextlib.suppress(TimeoutError, OSError):  # its scheduler may be gone
        client.close(timeout=2)


def _version() -> str:
    from .. import running  # noqa: F401  what a run needs must be there

    return __version__


def run_one(text: str, chapter: str, name: str, values: Mapping, limit, variables: Mapping):
    """On a worker: the notebook in `text`, whose file is called `chapter`, executed, and why it
    did not reach its end; empty when it did."""
    from ..running import execute

    for key, value in variables.items():  # of the process that was started by the reader
        os.environ.pop(key, None)
        os.environ.update({key: value} if value is not None else {})
    stopped = ""
    with tempfile.TemporaryDirectory(prefix="qhlib-sweep-") as folder:
        output = Path(folder) / f"{name}.ipynb"
        try:
            book = read_notebook(chapter, text)
            execute(book, values, output, stream=io.StringIO(), limit=limit)
        except RunFailed as error:
            stopped = error.stopped
        except (BookError, OSError) as error:  # nothing could be written
            stopped = f"{type(error).__name__}: {error}"
        return output.read_text("utf8") if output.exists() else "", stopped
