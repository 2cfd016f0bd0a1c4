"""Where numbers come from: versions, machine, time and parameters, as data.

Conventions: nothing here names a user, a host or a path, so that a page can be published as it is.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = "qhlib torch numpy scipy cvxpy clarabel scikit-learn matplotlib seaborn".split()


def versions() -> dict[str, str]:
    """Versions of Python and of those of `PACKAGES` that are installed.

    >>> "python" in versions() and "numpy" in versions()
    True
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Model name of the processor, as far as the system tells it.

    >>> len(processor()) > 0
    True
    """
    told = Path("/proc/cpuinfo")  # on Linux
    lines = told.read_text("utf8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine() or "unknown"])[0]


def commit(folder: Path | None = None) -> str:
    """Commit of the checkout that the package was imported from, with a ``+`` where its files
    differ from it; empty for an installed package.

    `folder` is another checkout.
    """
    root = folder or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    ask = ["git", "--no-optional-locks", "-C", str(root)]

    def answer(*words: str) -> str:
        try:
            done = subprocess.run([*ask, *words], capture_output=True, text=True)
        except OSError:  # no git
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    told = answer("rev-parse", "HEAD")
    changed = told and answer("status", "--porcelain", "--", "qhlib", "notebooks")
    return told + "+" * bool(changed)


def lock(installed: Mapping[str, str], file: Path | None = None) -> dict:
    """Fingerprint of the lock (the first 16 digits of its SHA-256), and which of the `installed`
    versions differ from it; empty where there is no lock.

    >>> lock({"numpy": "0"}, Path("no/such/file"))
    {}
    """
    package = Path(__file__).resolve().parents[1]
    inside = package / "_book" if (package / "_book").is_dir() else package.parent
    path = file or inside / "constraints.txt"
    if not path.is_file():
        return {}
    content = path.read_bytes()
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", content.decode(), re.MULTILINE))
    differ = {k: v for k, v in installed.items() if pins.get(k, v) != v.partition("+")[0]}
    return {"fingerprint": hashlib.sha256(content).hexdigest()[:16], "differ": differ}


def cores() -> int:
    """Processors that this process may use.

    >>> cores() >= 1
    True
    """
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def threads() -> int:
    """How many threads a computation uses here: torch's word, or else that of the environment.

    >>> threads() >= 1
    True
    """
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else os.cpu_count() or 1


def provenance(chapter: str, parameters: Mapping, seconds: float) -> dict:
    """All of it as data that JSON can hold; `seconds` is the time the notebook took.

    >>> provenance("a_chapter", {"seed": 0}, 1.234)["seconds"]
    1.23
    """
    installed = versions()
    return {
        "finished": True,
        "chapter": chapter,
        "seconds": round(seconds, 2),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": installed,
        "commit": commit(),
        "lock": lock(installed),
        "threads": threads(),
        "machine": {
            "processor": processor(),
            "cores": cores(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "parameters": dict(parameters),
    }
