"""Where numbers come from: versions, machine, time and parameters, as data.

Conventions: nothing here names a user, a host or a path, so that a page can be published as it is.
"""

import os
import platform
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
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "parameters": dict(parameters),
    }
