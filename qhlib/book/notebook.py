"""Find notebooks, read them once, and know what they declare without executing them.

Conventions
-----------
* A chapter is named by its file without ``.ipynb``. Something that exists as a path is that path;
  a name is looked for in the directories of the environment variable ``QHLIB_NOTEBOOKS``
  (separated as in ``PATH``), in the installed package, and in the ``notebooks/`` of the checkout
  that the package was imported from, first come first served.
* Notebooks are read as plain JSON: nbformat takes longer to import than all of this takes to run.
* Places in messages count all cells from 1, as a reader scrolling through them does.
"""

import json
import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import ChapterError, nearest

ENVIRONMENT = "QHLIB_NOTEBOOKS"


@dataclass(frozen=True)
class Notebook:
    """A notebook that was read: its path and its content, whose cells have their source as one
    string."""

    path: Path
    content: dict

    @property
    def name(self) -> str:
        """The file's name without ``.ipynb``."""
        return self.path.stem

    @property
    def cells(self) -> list[dict]:
        """All cells, in order."""
        return self.content["cells"]

    @cached_property
    def title(self) -> str:
        """Text of the first top-level heading; empty when there is none.

        >>> cell = {"cell_type": "markdown", "source": "# Margins"}
        >>> Notebook(Path("a.ipynb"), {"cells": [cell]}).title
        'Margins'
        """
        texts = (cell["source"] for cell in self.cells if cell.get("cell_type") == "markdown")
        lines = (line for text in texts for line in text.splitlines())
        return next((line[2:].strip() for line in lines if line.startswith("# ")), "")

    @property
    def chapter(self) -> str:
        """Name of the notebook that this is a run of, as papermill noted it; else its own name."""
        told = self.content["metadata"].get("papermill", {}).get("input_path")
        return Path(told).stem if isinstance(told, str) and told else self.name

    @property
    def prefix(self) -> str:
        """First part of the claims' ids: metadata ``qhlib.prefix``, else the chapter before its
        first ``_``.

        >>> Notebook(Path("asymmetric_margin.ipynb"), {"metadata": {}}).prefix
        'asymmetric'
        """
        return (
            self.content["metadata"].get("qhlib", {}).get("prefix") or self.chapter.split("_")[0]
        )

    def tagged(self, tag: str) -> str | None:
        """Source of the first cell that carries `tag`; None when there is none."""
        found = (cell["source"] for cell in self.cells if tag in cell["metadata"].get("tags", []))
        return next(found, None)

    @cached_property
    def declaration(self):
        """Its parameters and presets, a :class:`~qhlib.book.declaration.Declaration`; ChapterError
        when badly declared."""
        from .declaration import read_declaration

        return read_declaration(self.name, self.tagged("parameters"))

    @cached_property
    def claims(self) -> dict:
        """Its declared claims by name, checked against the measurements in its code; ChapterError
        when they do not fit."""
        from .claims import declared_claims

        return declared_claims(self)

    @property
    def executed(self) -> bool:
        """Whether some cell was executed."""
        return any(cell.get("execution_count") for cell in self.cells)


def chapter_directories() -> list[Path]:
    """The existing directories that are searched for chapters, in order.

    >>> all(directory.is_dir() for directory in chapter_directories())
    True
    """
    package = Path(__file__).resolve().parents[1]
    named = [Path(entry) for entry in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if entry]
    # beside an installed package lies what others installed: a folder of notebooks is not ours
    inside = package / "_book" if (package / "_book").is_dir() else package.parent
    ours = [inside / "notebooks"] if (inside / "_toc.yml").is_file() else []
    return [path for path in (*named, *ours) if path.is_dir()]


def chapter_paths() -> dict[str, Path]:
    """Every chapter found: its name and its notebook, sorted by name; an earlier directory hides a
    later one.

    >>> isinstance(chapter_paths(), dict)
    True
    """
    found: dict[str, Path] = {}
    for directory in chapter_directories():
        for path in directory.glob("*.ipynb"):
            found.setdefault(path.stem, path.resolve())
    return dict(sorted(found.items()))


def find_chapter(name: str | os.PathLike) -> Path:
    """The notebook at a path, or else the chapter of that name (with or without ``.ipynb``).

    Raises :class:`ChapterError` with the nearest name when there is none.

    >>> find_chapter("no/such/file.ipynb")
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: no notebook at no/such/file.ipynb
    """
    text = os.fspath(name)
    path = Path(text)
    if os.path.isfile(text):  # no error for a name that is too long for a file
        return path.resolve()
    chapters = chapter_paths()
    stem = text.removesuffix(".ipynb")
    if stem in chapters:
        return chapters[stem]
    if text.endswith(".ipynb") and path.with_suffix("").name != stem:
        raise ChapterError(f"no notebook at {text}")
    hint = nearest(stem, chapters) or f"; the chapters are: {', '.join(chapters) or 'none'}"
    raise ChapterError(f"there is no chapter {stem!r}{hint}")


def read_notebook(path: str | os.PathLike, text: str | None = None) -> Notebook:
    """The notebook (format 4) at `path`, or the one that its `text` holds.

    Raises :class:`ChapterError` when the file cannot be read or is not such a notebook.

    >>> read_notebook("no/such/file.ipynb")
    Traceback (most recent call last):
    qhlib.book.errors.ChapterError: cannot read no/such/file.ipynb: No such file or directory
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8") if text is None else text)
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
    return Notebook(Path(path), content)


def joined(text: str | list[str]) -> str:
    """Text of a notebook field, which may be stored as one string or as a list of lines.

    >>> joined(["a\\n", "b"])
    'a\\nb'
    """
    return text if isinstance(text, str) else "".join(text)


def write_whole(path: str | os.PathLike, text: str) -> None:
    """Write a text so that `path` is never seen half-written: under another name first, then
    renamed.

    Raises :class:`OSError` when it cannot; nothing is left then, and what was there before stays.
    """
    path = Path(path)
    draft = path.with_name(f".{path.stem[:100]}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8", newline="")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
