"""Run notebooks again and compare with stored numbers: those of the book, or of an earlier run.

Conventions
-----------
* An executed notebook is compared with itself: its own code, its own parameters. A chapter is
  compared with its execution for the book in this checkout, or with the ``scorecard.json`` that
  the book's pages offer, which holds claims alone.
* A difference is relative to the larger of the two numbers. A claim whose verdict changed, or that
  is not there any more, differs infinitely.
* Numbers of the text (``chapter.glue``) are told, and decide nothing: seconds are among them.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BookError, RunFailed
from .notebook import Notebook, chapter_paths, find_chapter, read_notebook
from .pages import home
from .provenance import cores
from .records import GLUE_MIME, record_of
from .running import execute_many
from .sweep.cluster import threads


@dataclass(frozen=True)
class Stored:
    """What is to come out again: the notebook to run, its parameters, claims by name, and numbers
    of the text by name."""

    notebook: Notebook
    values: dict
    claims: dict[str, dict]
    numbers: dict[str, str]


def stored(name: str, against: str | None = None) -> Stored:
    """The numbers stored for a chapter or in an executed notebook.

    Raises :class:`BookError` when there are none.

    >>> stored("foundations", "no/such/scorecard.json")
    Traceback (most recent call last):
    qhlib.book.errors.BookError: cannot read no/such/scorecard.json: No such file or directory
    """
    notebook = read_notebook(find_chapter(name))
    if against is not None:
        try:
            rows = json.loads(Path(against).read_text("utf8"))["claims"]
        except OSError as error:
            raise BookError(f"cannot read {against}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise BookError(f"{against} is not the scorecard.json of a book") from None
        claims = {row["name"]: row for row in rows if row["chapter"] == notebook.name}
        if not claims:
            raise BookError(f"{against} holds no claims of {notebook.name}")
        return Stored(notebook, {}, claims, {})
    ran = notebook if notebook.executed else of_the_book(notebook.name)
    if ran is None:
        told = f"no numbers of {notebook.name} are stored here: build the book (make book), "
        raise BookError(told + "or name the scorecard.json of one with --against")
    record = record_of(ran)
    if record.stopped:
        raise BookError(f"{ran.path} holds no complete run: {record.stopped}")
    claims = {row["name"]: row for row in record.claims}
    return Stored(notebook, record.finished["parameters"], claims, numbers(ran))


def of_the_book(name: str) -> Notebook | None:
    """The newest execution of a chapter for the book in this checkout; None if there is none."""
    kept = (home() / "_build" / "executed" / name).glob("*.ipynb")
    newest = max(kept, key=lambda path: path.stat().st_mtime, default=None)
    return read_notebook(newest) if newest else None


def numbers(notebook: Notebook) -> dict[str, str]:
    """The text of everything that was glued."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            text = output.get("data", {}).get(GLUE_MIME + "text/plain")
            if name and text is not None:
                found[name] = text if isinstance(text, str) else "".join(text)
    return found


def difference(before: float, after: float) -> float:
    """How far two numbers are apart, relative to the larger one.

    >>> difference(2.0, 1.0), difference(math.nan, math.nan), difference(1.0, math.inf)
    (0.5, 0.0, inf)
    """
    if before == after or before != before and after != after:
        return 0.0
    if not (math.isfinite(before) and math.isfinite(after)):
        return math.inf
    return abs(before - after) / max(abs(before), abs(after))


def differences(old: Stored, new: Notebook) -> Iterator[tuple[str, float]]:
    """Each claim that came out otherwise, as a line, and by how much."""
    found = {row["name"]: row for row in record_of(new).claims}
    for name in old.claims.keys() | found.keys():
        one, other = old.claims.get(name), found.get(name)
        if one is None or other is None:
            yield f"{name}: the claim is {'new' if one is None else 'gone'}", math.inf
            continue
        for key in ("predicted", "measured"):
            before, after = float(one[key]), float(other[key])
            if gap := difference(before, after):
                yield f"{name}: {key} {before!r} stored, {after!r} now, differs by {gap:.1e}", gap
        if one["verdict"] != other["verdict"]:
            yield f"{name}: {one['verdict']} stored, {other['verdict']} now", math.inf


def verify(
    names: Sequence[str], against: str | None, tolerance: float, stream
) -> Iterator[tuple[str, float]]:
    """Run everything again, as many at a time as there are processors; for each notebook what is
    to be told of it, and the largest difference of its claims.

    Raises :class:`BookError` before anything runs when numbers are missing.
    """
    all_stored = [stored(name, against) for name in names or chapter_paths()]
    with tempfile.TemporaryDirectory(prefix="qhlib-verify-") as folder:
        paths = {id(s.notebook): Path(folder) / f"{k}.ipynb" for k, s in enumerate(all_stored)}
        old = {id(s.notebook): s for s in all_stored}
        runs = [(s.notebook, s.values, paths[id(s.notebook)]) for s in all_stored]
        jobs = max(1, cores() // threads())
        for notebook, _, failed in execute_many(runs, jobs, stream):
            if isinstance(failed, RunFailed):
                yield f"{notebook.name}: {failed.stopped}", math.inf
                continue
            before, now = old[id(notebook)], read_notebook(paths[id(notebook)])
            found = sorted(differences(before, now), key=lambda each: -each[1])
            texts, worst = numbers(now), max((gap for _, gap in found), default=0.0)
            other = [key for key, text in before.numbers.items() if texts.get(key) != text]
            count = f"{len(before.claims)} claims"
            if not found:
                told = f"✓ {notebook.name}: {count}, the same to the bit"
            else:
                mark = "✓" if worst <= tolerance else "✗"
                told = f"{mark} {notebook.name}: {count}, differing by {worst:.1e} at most"
                told += "".join(f"\n    {line}" for line, _ in found)
            if other:
                told += f"\n    numbers of the text that differ: {', '.join(other)}"
            yield told, worst
