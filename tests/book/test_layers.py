"""The layers keep their order: numerics stand alone, and the command starts without loading
them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "qhlib"
NUMERICS = sorted(PACKAGE.glob("*.py"))
MACHINERY = sorted((PACKAGE / "book").glob("*.py"))
BOOK_ONLY = {"papermill", "nbformat", "nbconvert", "sphinx", "myst_nb", "jupyter", "yaml"}


def imported(path):
    """Dotted names of what a module imports; relative names are made absolute."""
    package = ".".join(path.relative_to(PACKAGE.parent).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level])
                if node.level
                else ""
            )
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", NUMERICS, ids=[path.stem for path in NUMERICS])
def test_numerics_never_import_the_book(path):
    names = set(imported(path))
    assert not {name for name in names if name.startswith("qhlib.book")}
    assert not {name.split(".")[0] for name in names} & BOOK_ONLY


@pytest.mark.parametrize("path", MACHINERY, ids=[path.stem for path in MACHINERY])
def test_machinery_modules_are_short_and_say_their_conventions(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(source))


def test_listing_and_describing_load_nothing_heavy(write_chapter):
    write_chapter()
    code = (
        "import sys; from qhlib.book.cli import main;"
        "main(['list']); main(['describe', 'tiny_chapter', '--json']);"
        "heavy = ('torch', 'numpy', 'papermill', 'nbformat', 'jupyter_client');"
        "print([n for n in heavy if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
