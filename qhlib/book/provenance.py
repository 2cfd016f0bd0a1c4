"""Where numbers come from: versions, machine, time and parameters, as data.

Conventions: nothing here names a user, a host or a path, so that a page can be published as it is.
"""

import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "qhlib torch numpy scipy cvxpy clarabel scikit-learn matplotlib seaborn".split()
)


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
            if package == "qhlib":  # imported from a checkout that is not installed
                from qhlib import __version__

                found[package] = __version__
    return found


def machine() -> dict[str, str | int]:
    """Processor, the cores this process may use, and the operating system.

    >>> sorted(machine())
    ['cores', 'processor', 'system']
    """
    limited = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if limited else os.cpu_count() or 1
    system = f"{platform.system()} {platform.release()}"
    return {"processor": processor(), "cores": cores, "system": system}


def processor() -> str:
    """Model name of the processor, as far as the system tells it.

    >>> len(processor()) > 0
    True
    """
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not a Linux system
    return platform.processor() or platform.machine() or "unknown"


def provenance(chapter: str, parameters: Mapping, seconds: float) -> dict:
    """All of it as data that JSON can hold; `seconds` is the time the notebook took.

    >>> provenance("a_chapter", {"seed": 0}, 1.234)["seconds"]
    1.23
    """
    return {
        "finished": True,
        "chapter": chapter,
        "seconds": round(seconds, 2),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "parameters": dict(parameters),
    }
