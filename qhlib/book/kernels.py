"""Kernels forked from a warm process: the second notebook starts in a fraction of a second.

A kernel that imports torch, SciPy, matplotlib and seaborn takes seconds to start. Here one process, the *server*, imports
them once, and every kernel is a fork of it. Jupyter has a place for other ways to start kernels, the kernel
provisioner (entry point group ``jupyter_client.kernel_provisioners``), so papermill and nbclient stay as they are.

Conventions
-----------
* The server has one thread, so a fork is safe, and nothing of one run can reach the next. It reads requests, a JSON object
  a line, from its standard input and answers each on a line of its standard output. When its input ends, which it
  does however its parent ends, it kills its kernels and goes.
* Where there is no fork (Windows), where the server does not start, or with ``QHLIB_KERNELS=ordinary``, kernels start in
  the ordinary way, with the same results.
* A kernel runs in the interpreter that runs this package, whatever kernelspecs are installed; with one thread unless
  ``OMP_NUM_THREADS`` says otherwise, and with figures inline whatever ``MPLBACKEND`` says.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import default

WARM = (
    *("ipykernel.kernelapp", "matplotlib.pyplot", "numpy", "scipy.integrate"),
    *("scipy.optimize", "seaborn", "torch"),
)
"""Modules that the server imports: what most notebooks do. They start no thread and draw no random number."""
SWITCH = "QHLIB_KERNELS"
# What a process reads from these before or while it imports cannot be changed in a fork of it.
_FIXED = ("ATEN", "BLIS", "CUDA", "GOTO", "KMP", "LD_", "MKL", "MPL", "NUMEXPR", "OMP", "OPENBLAS", "PYTHON")
_START = "import sys; sys.path.remove(''); from qhlib.book.kernels import serve; serve()"


class Provisioner(LocalProvisioner):
    """Launches a kernel as a fork of the warm server, or in the ordinary way where that cannot be."""

    async def pre_launch(self, **kwargs):
        """Jupyter's preparations, with the book's environment."""
        env = {**os.environ, **kwargs.pop("env", {})}
        env.setdefault("OMP_NUM_THREADS", "1")
        env["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
        return await super().pre_launch(env=env, **kwargs)

    async def launch_kernel(self, cmd, **kwargs):
        """Start the kernel whose ordinary command line is `cmd`."""
        server = Server.of(kwargs["env"])
        if server is not None:
            request = {"arguments": cmd[cmd.index("-f") :], "environment": kwargs["env"]}
            request["folder"] = str(kwargs.get("cwd") or Path.cwd())
            with contextlib.suppress(OSError, ValueError):
                self.process = Forked(server, await asyncio.to_thread(server.ask, request))
                # pgid stays None: the process object itself signals the kernel's group
                self.pid, self.cwd = self.process.pid, request["folder"]
                return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)


class Manager(AsyncKernelManager):
    """A kernel manager that knows one kernel: this interpreter's, started by :class:`Provisioner`."""

    @default("kernel_spec_manager")
    def _own_interpreter(self):
        return OwnInterpreter(parent=self)


class OwnInterpreter(KernelSpecManager):
    """Answers every name with a kernel of the running interpreter: an installed kernelspec may be stale."""

    def get_kernel_spec(self, kernel_name):
        """The kernelspec, whatever the name."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = KernelSpec(argv=argv, display_name="Python 3", language="python")
        spec.metadata = {"kernel_provisioner": {"provisioner_name": "qhlib-forked"}}
        return spec


class Forked:
    """A forked kernel, with those methods of :class:`subprocess.Popen` that a provisioner uses."""

    stdin = stdout = stderr = None

    def __init__(self, server: "Server", answer: dict):
        self.server, self.pid, self.returncode = server, answer["pid"], None

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        if self.returncode is None:
            try:
                self.returncode = self.server.ask({"poll": self.pid})["status"]
            except (OSError, ValueError):
                self.returncode = -signal.SIGKILL  # the server is gone, and its kernels with it
        return self.returncode

    def wait(self, timeout=None) -> int | None:
        """Exit status of a kernel that has ended: a provisioner polls before it waits."""
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Signal the kernel and what it started."""
        with contextlib.suppress(OSError, ValueError):
            self.server.ask({"signal": int(number), "to": self.pid})

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The warm process, as its parent sees it; one for each set of variables that a fork cannot change."""

    _known: dict[tuple, "Server | None"] = {}
    _lock = threading.Lock()

    @classmethod
    def of(cls, env: dict) -> "Server | None":
        """The running server for kernels with the environment `env`, started if need be; None if there is none."""
        if not hasattr(os, "fork") or env.get(SWITCH) == "ordinary":
            return None
        key = tuple(sorted((name, value) for name, value in env.items() if name.startswith(_FIXED)))
        with cls._lock:
            server = cls._known[key] if key in cls._known else cls(env)
            if server is not None and server.process.poll() is not None:
                server = None  # it could not start or was killed: from now on the ordinary way
            cls._known[key] = server
            return server

    @classmethod
    def warm_up(cls) -> None:
        """Start the server that the next kernel will need, and do not wait for it."""
        cls.of(
            {
                **os.environ,
                "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
                "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            }
        )

    @classmethod
    def stop_all(cls) -> None:
        """End all servers and, with them, all their kernels."""
        with cls._lock:
            for server in filter(None, cls._known.values()):
                with contextlib.suppress(OSError):
                    server.process.stdin.close()
                server.process.wait()
            cls._known.clear()

    def __init__(self, env: dict):
        # its own session: an interrupt at the terminal is for the parent, which then interrupts the kernels
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
        self._asking = threading.Lock()

    def ask(self, request: dict) -> dict:
        """Send one request and read its answer; OSError or ValueError when the server is gone."""
        with self._asking:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())


def serve() -> None:
    """The server: import what is warm, then fork a kernel for each request until the input ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)  # what a kernel prints outside of its cells must not be taken for an answer
    import gc
    from importlib import import_module

    for name in WARM:
        with contextlib.suppress(ImportError):
            import_module(name)
    if os.path.isdir("/proc/self/task") and len(os.listdir("/proc/self/task")) > 1:
        return  # a fork of several threads is not safe: kernels start in the ordinary way
    gc.collect()
    gc.freeze()
    alive: set[int] = set()
    for line in requests:
        request = json.loads(line)
        if "arguments" in request:
            answer = {"pid": _fork(request)}
            alive.add(answer["pid"])
        elif "poll" in request:
            answer = {"status": _status(request["poll"], alive)}
        else:
            if request["to"] in alive:
                with contextlib.suppress(OSError):
                    os.killpg(request["to"], request["signal"])
            answer = {}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    for pid in alive:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def _status(pid: int, alive: set[int]) -> int | None:
    """Exit status of a kernel, which is then forgotten; None while it runs."""
    if pid not in alive:
        return 0
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return None
    alive.discard(pid)
    return os.waitstatus_to_exitcode(status)


def _fork(request: dict) -> int:
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
        os.close(ready)
        os.close(done)
        os.closerange(3, 64)  # the server's own pipes
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        from ipykernel.kernelapp import IPKernelApp

        # the parent handle makes the kernel end when the server is gone, and spares a note about Ctrl-C
        arguments = [*request["arguments"], f"--IPKernelApp.parent_handle={server}"]
        IPKernelApp.launch_instance(arguments)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
