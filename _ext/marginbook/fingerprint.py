"""Fingerprints of what a build depends on. Standard library only: the Makefile calls this before
anything else.

A notebook's numbers depend on its code, on the modules of qhlib that it imports (and those that
they import), on the lock and on the installed versions, and on nothing else: an edit of its prose
or of another module executes nothing.

Conventions: a fingerprint is the first 16 hex digits of a SHA-256 over (name, bytes) of the inputs
in sorted order.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from functools import cache
from importlib import metadata, util
from pathlib import Path

LOCK = ("constraints.txt", "pyproject.toml")
# Everything a page is made of. Tests and benchmarks are not: editing them leaves the book as it
# is.
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
NOT_SOURCES = {"__pycache__", ".ipynb_checkpoints"}
# `from qhlib.book import open_chapter` loads this module by its name, which no import statement
# shows.
KERNEL_SIDE = "qhlib.book.chapter"


def files_under(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = (p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")
    return sorted(p for p in found if not NOT_SOURCES.intersection(p.relative_to(path).parts))


def core_versions(root: Path) -> list[str]:
    """Installed versions of Python and of what pyproject.toml names: a library upgrade shows
    here."""
    pyproject = root / "pyproject.toml"
    text = pyproject.read_text("utf8") if pyproject.exists() else ""
    versions = ["python " + ".".join(map(str, sys.version_info[:2]))]
    for name in sorted(
        set(re.findall(r'^\s*"([A-Za-z0-9._-]+?)(?:\[.*?\])?[<>=~!]', text, re.MULTILINE))
    ):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return versions


def digest(parts: list[tuple[str, bytes]]) -> str:
    sha = hashlib.sha256()
    for name, content in parts:
        sha.update(f"{name}\0{len(content)}\0".encode() + content)
    return sha.hexdigest()[:16]


@cache
def package() -> Path:
    """The folder of the qhlib that a kernel imports."""
    return Path(util.find_spec("qhlib").submodule_search_locations[0]).resolve()


def module_file(name: str) -> Path | None:
    """File of a dotted name inside qhlib; None for what is no module of it."""
    path = package().parent / Path(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@cache  # the notebooks share most modules
def imported(source: str, inside: str = "") -> frozenset[str]:
    """Dotted names inside qhlib that `source` imports, wherever it does; `inside` is its own
    package."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = inside.split(".")
            base = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name.split(".")[0] == "qhlib")


def dependencies(source: str) -> list[Path]:
    """The files of qhlib that a notebook's code needs, directly or through others."""
    waiting, seen = {*imported(source)}, {}
    if any(name.startswith("qhlib.book") for name in waiting):
        waiting.add(KERNEL_SIDE)
    while waiting:
        name = waiting.pop()
        path = module_file(name)
        if path and path not in seen.values():
            seen[name] = path
            inside = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting |= imported(path.read_text("utf8"), inside) | {
                name.rpartition(".")[0] or "qhlib"
            }
    return sorted(set(seen.values()))


def notebook_fingerprint(root: Path, notebook) -> str:
    """Names an execution of `notebook`, a qhlib.book.notebook.Notebook, with the book's
    parameters."""
    code = [cell for cell in notebook.cells if cell.get("cell_type") == "code"]
    parts = [("cell", cell["source"].encode()) for cell in code]
    plain = re.sub(
        r"^\s*[%!].*$", "", "\n".join(cell["source"] for cell in code), flags=re.MULTILINE
    )
    try:
        parts += [(path.name, path.read_bytes()) for path in dependencies(plain)]
    except SyntaxError:
        pass  # the kernel will say what is wrong with it
    parts += [(name, (root / name).read_bytes()) for name in LOCK if (root / name).exists()]
    return digest([*parts, ("versions", "\n".join(core_versions(root)).encode())])


def book_fingerprint(root: Path) -> str:
    """Names a finished book: `make book` has nothing to do while this stays the same."""
    paths = [
        f
        for pattern in BOOK_INPUTS
        for place in sorted(root.glob(pattern))
        for f in files_under(place)
    ]
    parts = [(path.relative_to(root).as_posix(), path.read_bytes()) for path in paths]
    return digest([*parts, ("versions", "\n".join(core_versions(root)).encode())])


if __name__ == "__main__":
    print(book_fingerprint(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
