"""Kernels forked from a warm process: the second notebook starts in a fraction of a second.

A kernel that imports torch, SciPy, matplotlib and seaborn takes seconds to start. Here one
process, the *server*, imports them once, and every kernel is a fork of it. Jupyter has a place for
other ways to start kernels, the kernel provisioner (entry point group
``jupyter_client.kernel_provisioners``), so papermill and nbclient stay as they are.

Conventions
-----------
* The server has one thread, so a fork is safe, and nothing of one run can reach the next. It reads
  requests, a JSON object a line, from its standard input and answers each with the number of a
  process. When its input ends, which it does however its parent ends, it kills its kernels and
  goes.
* Where there is no fork (Windows), where the server does not start, or with
  ``QHLIB_KERNELS=ordinary``, kernels start in the ordinary way, with the same results.
* A kernel runs in the interpreter that runs this package, whatever kernelspecs are installed; with
  one thread unless ``OMP_NUM_THREADS`` says otherwise; with figures inline whatever ``MPLBACKEND``
  says.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from queue import Empty

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

WARM = (
    "ipykernel.kernelapp ipykernel.debugger IPython.core.logger sqlite3 qhlib.book.chapter "
    "matplotlib.pyplot scipy.integrate scipy.optimize seaborn torch "
    "qhlib.flow qhlib.limits qhlib.plots qhlib.train"
).split()
"""Modules that the server imports. They start no thread and draw no random number."""
SWITCH = "QHLIB_KERNELS"
# What a process reads from these while it imports cannot be changed in a fork of it.
_FIXED = tuple("ATEN BLIS CUDA GOTO KMP LD_ MKL MPL NUMEXPR OMP OPENBLAS PYTHON QT".split())
# pandas imports pyarrow where that is installed, whose memory allocator starts a thread of its own
_SERVERS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
_SERVERS["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a note about debugging, which nobody does here
# This package first: a folder called qhlib where the kernel runs must not take its place.
_START = "import sys; sys.path.remove(''); from qhlib.book.kernels import serve; serve()"
_ORDINARY = (
    "import sys; sys.path.remove(''); import qhlib.book; "
    "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
)


def environment(env: dict) -> dict:
    """The variables of a kernel: `env` with one thread, unless it says otherwise, and figures
    inline.

    >>> environment({"MPLBACKEND": "Agg"})
    {'MPLBACKEND': 'module://matplotlib_inline.backend_inline', 'OMP_NUM_THREADS': '1'}
    """
    threads = env.get("OMP_NUM_THREADS", "1")
    inline = "module://matplotlib_inline.backend_inline"
    return {**env, "MPLBACKEND": inline, "OMP_NUM_THREADS": threads}


class Provisioner(LocalProvisioner):
    """Launches a kernel as a fork of the warm server, or in the ordinary way where that cannot
    be."""

    async def pre_launch(self, **kwargs):
        """Jupyter's preparations, with the book's environment."""
        env = environment({**os.environ, **kwargs.pop("env", {})})
        return await super().pre_launch(env=env, **kwargs)

    async def launch_kernel(self, cmd, **kwargs):
        """Start the kernel whose ordinary command line is `cmd`."""
        server = Server.of(kwargs["env"])
        folder = str(kwargs.get("cwd") or Path.cwd())
        request = {"arguments": cmd[cmd.index("-f") :], "env": kwargs["env"], "folder": folder}
        with contextlib.suppress(
            OSError, ValueError, AttributeError
        ):  # no server, or it has ended
            self.process = Forked(await asyncio.to_thread(server.fork, request))
            # pgid stays None: the process object itself signals the kernel's group
            self.pid, self.cwd = self.process.pid, folder
            return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)


class OwnInterpreter(KernelSpecManager):
    """Answers every name with a kernel of the running interpreter: an installed kernelspec may be
    stale."""

    def get_kernel_spec(self, kernel_name):
        """The kernelspec, whatever the name."""
        argv = [sys.executable, "-c", _ORDINARY, "-f", "{connection_file}"]
        spec = KernelSpec(argv=argv, display_name="Python 3", language="python")
        spec.metadata = {"kernel_provisioner": {"provisioner_name": "qhlib-forked"}}
        return spec


class Client(AsyncKernelClient):
    """A client that is ready when the kernel is: Jupyter's own then waits 0.2 s for silence."""

    async def wait_for_ready(self, timeout: float = 60):
        """Return when the kernel has said on the outputs' channel that it is idle: none is lost.

        Raises RuntimeError when it dies before, or does not say so in `timeout` seconds.
        """
        until = time.monotonic() + timeout
        while time.monotonic() < until and await self._async_is_alive():
            asked = self.kernel_info()
            with contextlib.suppress(Empty):
                while True:
                    told = await self.iopub_channel.get_msg(timeout=0.5)
                    if told["msg_type"] == "iopub_welcome":  # what was said before is lost
                        asked = self.kernel_info()
                    if told["parent_header"].get("msg_id") == asked:
                        if told["content"].get("execution_state") == "idle":
                            return
        raise RuntimeError("the kernel died, or did not answer, while it started")


class Manager(AsyncKernelManager):
    """A kernel manager that knows one kernel: this interpreter's, started by
    :class:`Provisioner`.

    After `limit` seconds, where that is not None, the kernel is killed and `expired` set.
    """

    limit: float | None = None
    expired = threading.Event()

    def _kernel_spec_manager_default(self):
        return OwnInterpreter(parent=self)

    def client(self, **options):
        """A :class:`Client`, whatever nbclient has asked for."""
        self.client_factory = Client
        return super().client(**options)

    async def _async_start_kernel(self, **options):
        """Start the kernel, and the clock of its run."""
        await super()._async_start_kernel(**options)
        self.clock = threading.Timer(self.limit or 0, self._expire)
        self.clock.daemon = True
        if self.limit is not None:
            self.clock.start()

    start_kernel = _async_start_kernel

    def _expire(self):
        process = getattr(self.provisioner, "process", None)
        if process:
            self.expired.set()
            process.send_signal(signal.SIGKILL)

    async def _async_cleanup_resources(self, restart=False):
        self.clock.cancel()
        await super()._async_cleanup_resources(restart)

    async def _async_finish_shutdown(self, waittime=None, pollinterval=0.01, restart=False):
        await super()._async_finish_shutdown(waittime, pollinterval, restart)


class Forked:
    """A forked kernel, with those methods of :class:`subprocess.Popen` that a provisioner uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid = pid

    def poll(self) -> int | None:
        """None while it runs; how it ended, only the server could know."""
        try:
            os.kill(self.pid, 0)
        except OSError:
            return 1
        return None

    wait = poll  # a provisioner polls until a kernel has ended before it waits

    def send_signal(self, number: int) -> None:
        """Signal the kernel and what it started."""
        with contextlib.suppress(OSError):
            os.killpg(self.pid, number)


class Server:
    """The warm process, as its parent sees it; one for each set of variables a fork cannot
    change."""

    _known: dict[tuple, "Server"] = {}
    _lock = threading.Lock()

    @classmethod
    def of(cls, env: dict) -> "Server | None":
        """The server for kernels with the environment `env`, started if need be; None for the
        ordinary way.

        One that has ended is not started again: from then on asking it fails, and kernels start
        ordinarily.
        """
        if not hasattr(os, "fork") or env.get(SWITCH) == "ordinary":
            return None
        key = tuple(sorted(item for item in env.items() if item[0].startswith(_FIXED)))
        with cls._lock:
            if key not in cls._known:
                cls._known[key] = cls(env)
            return cls._known[key]

    @classmethod
    def stop_all(cls) -> None:
        """End all servers and, with them, all their kernels."""
        with cls._lock:
            for server in cls._known.values():
                with contextlib.suppress(OSError):
                    server.process.stdin.close()
                server.process.wait()
            cls._known.clear()

    def __init__(self, env: dict):
        # its own session: an interrupt at the terminal is for the parent, which then interrupts
        # the kernels
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
        env = {**env, **_SERVERS}
        self.process = subprocess.Popen([sys.executable, "-c", _START], env=env, **pipes)
        self._asking = threading.Lock()

    def fork(self, request: dict) -> int:
        """Ask for a kernel, and return its process id; OSError or ValueError when the server is
        gone."""
        with self._asking:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            return int(self.process.stdout.readline())


def serve() -> None:
    """The server: import what is warm, then fork a kernel for each request until the input
    ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)  # what a kernel prints outside of its cells must not be taken for an answer
    for name in WARM:
        with contextlib.suppress(ImportError):
            import_module(name)
    tasks = Path("/proc/self/task")
    if tasks.is_dir() and len(list(tasks.iterdir())) > 1:
        return  # a fork of several threads is not safe: kernels start in the ordinary way
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a kernel that has ended leaves nothing behind
    kernels = []
    for line in requests:
        kernels.append(_fork(**json.loads(line)))
        answers.write(b"%d\n" % kernels[-1])
        answers.flush()
    for pid in kernels:
        with contextlib.suppress(
            OSError
        ):  # no child any more: another process may have its number
            os.waitpid(pid, os.WNOHANG)
            os.killpg(pid, signal.SIGKILL)


def _fork(arguments: list[str], env: dict, folder: str) -> int:
    """Fork a kernel and return its process id."""
    server = os.getpid()
    ready, done = os.pipe()
    pid = os.fork()
    if pid:
        os.close(done)
        os.read(ready, 1)  # until the child has its own session, and signals reach its group
        os.close(ready)
        return pid
    status = 1
    try:
        os.setsid()
        os.closerange(3, 64)  # the server's own pipes
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(folder)
        # the parent handle makes the kernel end when the server is gone, and spares a note about
        # Ctrl-C
        arguments = [*arguments, f"--IPKernelApp.parent_handle={server}"]
        import_module("ipykernel.kernelapp").IPKernelApp.launch_instance(arguments)
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
