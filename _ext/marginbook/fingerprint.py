"""Fingerprints of what a build depends on. Standard library only: the Makefile calls this before anything
else.

jupyter-cache knows a notebook by its code cells alone. An edit in qhlib or an upgraded library would leave
the old numbers on the page, so the cache's folder is named after everything else that numbers depend on.

Conventions: a fingerprint is the first 16 hex digits of a SHA-256 over (relative path, bytes) of the files
in sorted order and over the versions of the installed distributions that the package names as its
dependencies.
"""

from __future__ import annotations

import hashlib
import re
import sys
from importlib import metadata, util
from pathlib import Path

LOCK = ("constraints.txt", "pyproject.toml")
# Everything a page is made of. Tests and benchmarks are not: editing them leaves the book as it is.
BOOK_INPUTS = (
    "_config.yml",
    "_toc.yml",
    "references.bib",
    *LOCK,
    "*.md",
    "_ext",
    "_static",
    "notebooks",
    "qhlib",
)
NOT_SOURCES = {"__pycache__", ".ipynb_checkpoints", ".jupyter_cache"}


def files_under(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = (p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")
    return sorted(p for p in found if not NOT_SOURCES.intersection(p.relative_to(path).parts))


def core_versions(root: Path) -> list[str]:
    """Installed versions of Python and of what pyproject.toml names: a library upgrade shows here."""
    pyproject = root / "pyproject.toml"
    text = pyproject.read_text("utf8") if pyproject.exists() else ""
    versions = ["python " + ".".join(map(str, sys.version_info[:2]))]
    for name in sorted(set(re.findall(r'^\s*"([A-Za-z0-9._-]+?)(?:\[.*?\])?[<>=~!]', text, re.MULTILINE))):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return versions


def digest(root: Path, paths: list[Path], extra: list[str]) -> str:
    sha = hashlib.sha256()
    for path in paths:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        content = path.read_bytes()
        sha.update(f"{name}\0{len(content)}\0".encode() + content)
    sha.update("\n".join(extra).encode())
    return sha.hexdigest()[:16]


def execution_fingerprint(root: Path) -> str:
    """Names the execution cache: the sources of qhlib, the lock and the installed versions."""
    folders = [root / "qhlib"]
    spec = util.find_spec("qhlib")
    for place in (spec.submodule_search_locations or []) if spec else []:
        # A copy installed elsewhere is what the kernel would import.
        if Path(place).resolve() != folders[0].resolve():
            folders.append(Path(place))
    paths = [f for folder in folders if folder.is_dir() for f in files_under(folder)]
    paths += [root / name for name in LOCK if (root / name).exists()]
    return digest(root, paths, core_versions(root))


def book_fingerprint(root: Path) -> str:
    """Names a finished book: `make book` has nothing to do while this stays the same."""
    paths = [f for pattern in BOOK_INPUTS for place in sorted(root.glob(pattern)) for f in files_under(place)]
    return digest(root, paths, core_versions(root))


if __name__ == "__main__":
    print(book_fingerprint(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
