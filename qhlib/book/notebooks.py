"""Find the chapters and read their notebooks.

Conventions
-----------
* A chapter is named by its file without ``.ipynb``.
* Chapters are looked for, first come first served, in the directories of the environment variable
  ``QHLIB_NOTEBOOKS`` (separated as in ``PATH``), in the installed package, and in the ``notebooks/``
  directory of the repository the package was imported from.
* Notebooks are read as plain JSON: nbformat takes longer to import than all of this takes to run.
"""

import json
import os
from pathlib import Path

from .errors import ChapterError, nearest

ENVIRONMENT = "QHLIB_NOTEBOOKS"


def chapter_directories() -> list[Path]:
    """The existing directories that are searched for chapters, in order.

    >>> all(directory.is_dir() for directory in chapter_directories())
    True
    """
    package = Path(__file__).resolve().parents[1]
    named = [Path(entry) for entry in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if entry]
    return [path for path in (*named, package / "_notebooks", package.parent / "notebooks") if path.is_dir()]


def chapter_paths() -> dict[str, Path]:
    """Every chapter found: its name and its notebook, sorted by name; an earlier directory hides a later one.

    >>> isinstance(chapter_paths(), dict)
    True
    """
    found: dict[str, Path] = {}
    for directory in chapter_directories():
        for path in sorted(directory.glob("*.ipynb")):
            found.setdefault(path.stem, path.resolve())
    return dict(sorted(found.items()))


def find_chapter(name: str | os.PathLike) -> Path:
    """The notebook of a chapter, given by its name (with or without ``.ipynb``) or by a path to a notebook.

    Raises :class:`ChapterError` with the nearest name when there is no such chapter.

    >>> find_chapter("no/such/file.ipynb")
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: no notebook at no/such/file.ipynb
    """
    text = os.fspath(name)
    chapters = chapter_paths()
    stem = text.removesuffix(".ipynb")
    if stem in chapters:
        return chapters[stem]
    path = Path(text)
    if path.is_file():
        return path.resolve()
    if text.endswith(".ipynb") and path.with_suffix("").name != stem:
        raise ChapterError(f"no notebook at {text}")
    hint = nearest(stem, chapters) or f"; the chapters are: {', '.join(chapters) or 'none'}"
    raise ChapterError(f"there is no chapter {stem!r}{hint}")


def read_notebook(path: str | os.PathLike) -> dict:
    """The notebook (format 4) at `path` as a dictionary; each cell's source and stream is one string.

    Raises :class:`ChapterError` when the file cannot be read or is not such a notebook.

    >>> read_notebook("no/such/file.ipynb")
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: cannot read no/such/file.ipynb: No such file or directory
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ChapterError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ChapterError(f"{path} is not a notebook: it holds no valid JSON") from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ChapterError(f"{path} is not a notebook of format 4: it has no list of cells")
    for cell in cells:
        cell["source"] = joined(cell.get("source", ""))
        cell.setdefault("metadata", {})
    content.setdefault("metadata", {})
    return content


def joined(text: str | list[str]) -> str:
    """Text of a notebook field, which may be stored as one string or as a list of lines.

    >>> joined(["a\\n", "b"])
    'a\\nb'
    """
    return text if isinstance(text, str) else "".join(text)


def tagged_source(notebook: dict, tag: str) -> str | None:
    """Source of the first cell that carries `tag`; None when there is none.

    >>> tagged_source({"cells": [{"source": "seed = 0", "metadata": {"tags": ["parameters"]}}]}, "parameters")
    'seed = 0'
    """
    for cell in notebook["cells"]:
        if tag in cell["metadata"].get("tags", []):
            return cell["source"]
    return None


def title(notebook: dict) -> str:
    """Text of the first top-level heading; empty when there is none.

    >>> title({"cells": [{"cell_type": "markdown", "source": "# Margins\\n\\ntext"}]})
    'Margins'
    """
    for cell in notebook["cells"]:
        if cell.get("cell_type") == "markdown":
            for line in cell["source"].splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    return ""


def claim_prefix(name: str, notebook: dict) -> str:
    """First part of the chapter's claim ids: metadata ``qhlib.prefix``, else the name before its first ``_``.

    >>> claim_prefix("asymmetric_margin", {"metadata": {}})
    'asymmetric'
    >>> claim_prefix("asymmetric_margin", {"metadata": {"qhlib": {"prefix": "asym"}}})
    'asym'
    """
    return notebook["metadata"].get("qhlib", {}).get("prefix") or name.split("_")[0]
